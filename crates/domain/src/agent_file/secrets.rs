//! The table of `agent.toml` that says which secrets the host may add to the agent's requests, and where: `[secrets]`. It
//! only narrows: the secret's own bindings must allow the place too.

use serde::{Deserialize, Serialize};

use super::{Check, Item, short};
use crate::{Destination, SecretName, Target};

/// One line of a `[secrets]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    /// Which secret.
    pub secret: SecretName,
    /// Where it may go for this agent.
    pub to: Vec<Destination>,
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
                Ok(secret) => match self.places(item, secret.as_str()) {
                    Some(to) => uses.push(SecretUse { secret, to, line: self.line(key.span().start) }),
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
