//! The table of `agent.toml` that says which secrets the host may add to the agent's requests, and where: `[secrets]`. It
//! only narrows: the secret's own bindings must allow the place too.

use serde::{Deserialize, Serialize};
use toml::de::DeValue;

use super::{Check, Item, short};
use crate::{Destination, PlaceholderVariable, SecretName, Target};

/// One line of a `[secrets]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    /// Which secret.
    pub secret: SecretName,
    /// Where it may go for this agent.
    pub to: Vec<Destination>,
    /// The variable in which programs look for it: they find the placeholder there, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variable: Option<PlaceholderVariable>,
    /// Its line in the agent file, counted from 1.
    pub line: usize,
}

impl SecretUse {
    /// Whether the agent's request may carry the secret, as far as the agent's file says.
    #[must_use]
    pub fn covers(&self, target: &Target<'_>) -> bool {
        self.to.iter().any(|to| to.covers(target))
    }
}

fn shares_variable(used: &SecretUse, others: &[SecretUse]) -> bool {
    used.variable.is_some() && others.iter().any(|other| other.variable == used.variable)
}

const MAX_SECRETS: usize = 64;
const MAX_PLACES: usize = 32;

impl Check<'_> {
    pub(super) fn secrets(&mut self, item: Item<'_, '_>) -> Option<Vec<SecretUse>> {
        let table =
            self.table(item, "secrets", "write [secrets] and lines such as github = [\"https://…\"]")?;
        if table.len() > MAX_SECRETS {
            let message = format!("`secrets` names {} secrets, {MAX_SECRETS} are allowed", table.len());
            self.problem(&item.span(), message, None);
            return None;
        }
        let mut uses = Vec::new();
        let mut sound = true;
        for (key, item) in table.iter() {
            match key.get_ref().parse::<SecretName>() {
                Ok(secret) => match self.secret(item, secret, self.line(key.span().start)) {
                    Some(used) if shares_variable(&used, &uses) => {
                        sound = false;
                        self.problem(&item.span(), "two secrets name one variable".to_owned(), None);
                    }
                    Some(used) => uses.push(used),
                    None => sound = false,
                },
                Err(error) => {
                    sound = false;
                    let message = format!("`{}` is no secret's name: {error}", short(key.get_ref()));
                    self.problem(&key.span(), message, None);
                }
            }
        }
        uses.sort_by_key(|used| used.line);
        sound.then_some(uses)
    }

    /// A list of places, or a table of them and of a variable.
    fn secret(&mut self, item: Item<'_, '_>, secret: SecretName, line: usize) -> Option<SecretUse> {
        let DeValue::Table(table) = item.get_ref() else {
            let to = self.places(item, secret.as_str())?;
            return Some(SecretUse { secret, to, variable: None, line });
        };
        self.keys(table, &["to", "variable"], &[], "a secret");
        let Some(to) = table.get("to") else {
            let hint = format!("say where it may go: {secret} = {{ to = [\"https://api.example.com\"] }}");
            self.problem(&item.span(), format!("`{secret}` names no place"), Some(hint));
            return None;
        };
        let to = self.places(to, "to")?;
        let variable = match table.get("variable") {
            Some(item) => {
                let text = self.string(item, "variable")?;
                match PlaceholderVariable::try_from(text) {
                    Ok(variable) => Some(variable),
                    Err(error) => {
                        self.problem(&item.span(), error.to_string(), None);
                        return None;
                    }
                }
            }
            None => None,
        };
        Some(SecretUse { secret, to, variable, line })
    }

    fn places(&mut self, item: Item<'_, '_>, key: &str) -> Option<Vec<Destination>> {
        let mut places = Vec::new();
        let mut sound = true;
        for (text, at) in self.strings(item, key, MAX_PLACES)? {
            match text.parse::<Destination>() {
                Ok(place) if places.contains(&place) => {
                    self.problem(&at, format!("`{place}` is named twice"), None);
                }
                Ok(place) => places.push(place),
                Err(error) => {
                    sound = false;
                    self.problem(&at, error.to_string(), None);
                }
            }
        }
        if places.is_empty() && sound {
            let message = format!("`{key}` names no place");
            let hint = format!("say where it may go: {key} = [\"https://api.example.com\"]");
            self.problem(&item.span(), message, Some(hint));
        }
        sound.then_some(places)
    }
}
