//! The tables of `agent.toml` that say what an agent may do and who is asked: `[tools.SERVER]` and `[approvals]`. Each
//! rule keeps its line, so that a reason can name it.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Check, Item, article, short};
use crate::{GroupName, ServerName, Span, ToolPattern};

/// What a rule answers. Of several rules that name a tool, the strictest counts; a tool that none names is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Allowed, where the built-in rules don't ask.
    Allow,
    /// Allowed when a person says so.
    Ask,
    /// Denied.
    Deny,
}

impl Answer {
    /// All of them, from the mildest to the strictest.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Ask, Self::Deny];

    /// Its key in an agent file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One pattern of a `[tools.SERVER]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRule {
    /// What it answers.
    pub answer: Answer,
    /// The tools it is about.
    pub pattern: ToolPattern,
    /// Its line in the agent file, counted from 1.
    pub line: usize,
}

/// One `[tools.SERVER]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRules {
    /// The tool server.
    pub server: ServerName,
    /// Its rules, in the order of the file.
    pub rules: Vec<ToolRule>,
    /// Who is asked about this server's tools: the table's own `approvals` over the file's.
    pub approvals: ApprovalRule,
    /// The table's line, counted from 1.
    pub line: usize,
}

/// Who is asked: the `[approvals]` table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRule {
    /// The group whose members answer; none: the owners of this installation.
    pub from: Option<GroupName>,
    /// How many of them must say yes, 1 to 16.
    pub need: u8,
    /// For how long a question, and then its unused right, is good.
    pub within: Span,
    /// Whether the person whose prompt the session follows may not answer.
    pub exclude_author: bool,
}

impl ApprovalRule {
    /// Whether it asks the same people, as many of them, as strictly as the other at least.
    #[must_use]
    pub fn asks_as_much_as(&self, other: &Self) -> bool {
        self.from == other.from
            && self.need >= other.need
            && self.within <= other.within
            && (self.exclude_author || !other.exclude_author)
    }
}

impl Default for ApprovalRule {
    fn default() -> Self {
        Self { from: None, need: 1, within: Span::seconds(4 * 3600), exclude_author: false }
    }
}

impl fmt::Display for ApprovalRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of ", self.need)?;
        match &self.from {
            Some(group) => write!(f, "{group}")?,
            None => f.write_str("the owners")?,
        }
        write!(f, " within {}", self.within)?;
        if self.exclude_author { f.write_str(", not the author of the prompt") } else { Ok(()) }
    }
}

const SERVER_KEYS: &[&str] = &["allow", "ask", "deny", "approvals"];
const APPROVAL_KEYS: &[&str] = &["from", "need", "within", "exclude_author"];
const MAX_SERVERS: usize = 64;
const MAX_PATTERNS: usize = 256;
const NEED: RangeInclusive<u64> = 1..=16;
const WITHIN: RangeInclusive<Span> = Span::seconds(60)..=Span::seconds(30 * 86_400);

impl Check<'_> {
    pub(super) fn servers(
        &mut self,
        item: Item<'_, '_>,
        approvals: &ApprovalRule,
    ) -> Option<Vec<ServerRules>> {
        let table = self.table(item, "tools", "write [tools.SERVER] and its keys below it")?;
        if table.len() > MAX_SERVERS {
            let message = format!("`tools` names {} servers, {MAX_SERVERS} are allowed", table.len());
            self.problem(&item.span(), message, None);
            return None;
        }
        let mut servers = Vec::new();
        let mut sound = true;
        for (key, item) in table.iter() {
            match self.server(key, item, approvals) {
                Some(server) => servers.push(server),
                None => sound = false,
            }
        }
        servers.sort_by_key(|server| server.line);
        sound.then_some(servers)
    }

    fn server(
        &mut self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        item: Item<'_, '_>,
        approvals: &ApprovalRule,
    ) -> Option<ServerRules> {
        let name = key.get_ref();
        let server = match name.parse::<ServerName>() {
            Ok(server) => server,
            Err(error) => {
                let message = format!("`{}` is no tool server's name: {error}", short(name));
                self.problem(&key.span(), message, None);
                return None;
            }
        };
        let hint = format!("write [tools.{server}] and allow, ask or deny below it");
        let table = self.table(item, &format!("tools.{server}"), &hint)?;
        self.keys(table, SERVER_KEYS, &[], &format!("[tools.{server}]"));
        let mut rules = Vec::new();
        for answer in Answer::ALL {
            if let Some(item) = table.get(answer.as_str()) {
                self.patterns(item, answer, &mut rules)?;
            }
        }
        rules.sort_by_key(|rule| rule.line);
        let approvals = match table.get("approvals") {
            Some(item) => self.approvals(item, approvals)?,
            None => approvals.clone(),
        };
        Some(ServerRules { server, rules, approvals, line: self.line(key.span().start) })
    }

    fn patterns(&mut self, item: Item<'_, '_>, answer: Answer, rules: &mut Vec<ToolRule>) -> Option<()> {
        let mut sound = true;
        for (text, at) in self.strings(item, answer.as_str(), MAX_PATTERNS)? {
            match text.parse::<ToolPattern>() {
                Ok(pattern) if rules.iter().any(|rule| rule.answer == answer && rule.pattern == pattern) => {
                    self.problem(&at, format!("`{pattern}` is named twice"), None);
                }
                Ok(pattern) => rules.push(ToolRule { answer, pattern, line: self.line(at.start) }),
                Err(error) => {
                    sound = false;
                    self.problem(&at, error.to_string(), None);
                }
            }
        }
        sound.then_some(())
    }

    /// The rule as an `[approvals]` table says it; what it leaves out is as in `otherwise`.
    pub(super) fn approvals(&mut self, item: Item<'_, '_>, otherwise: &ApprovalRule) -> Option<ApprovalRule> {
        let table = self.table(item, "approvals", "write [approvals] and its keys below it")?;
        self.keys(table, APPROVAL_KEYS, &[], "[approvals]");
        let mut rule = otherwise.clone();
        if let Some(item) = table.get("from") {
            rule.from = Some(self.parsed(item, "from")?);
        }
        if let Some(item) = table.get("need") {
            rule.need = u8::try_from(self.number(item, "need", &NEED)?).ok()?;
        }
        if let Some(item) = table.get("within") {
            rule.within = self.quantity(item, "within", &WITHIN)?;
        }
        if let Some(item) = table.get("exclude_author") {
            let DeValue::Boolean(exclude) = item.get_ref() else {
                let found = article(item.get_ref().type_str());
                let message = format!("`exclude_author` is true or false, not {found}");
                self.problem(&item.span(), message, Some("write exclude_author = true".to_owned()));
                return None;
            };
            rule.exclude_author = *exclude;
        }
        Some(rule)
    }

    pub(super) fn table<'a, 'i>(
        &mut self,
        item: Item<'a, 'i>,
        key: &str,
        hint: &str,
    ) -> Option<&'a DeTable<'i>> {
        if let DeValue::Table(table) = item.get_ref() {
            return Some(table);
        }
        let message = format!("`{key}` is a table, not {}", article(item.get_ref().type_str()));
        self.problem(&item.span(), message, Some(hint.to_owned()));
        None
    }

    pub(super) fn line(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or(self.text);
        before.matches('\n').count().saturating_add(1)
    }
}
