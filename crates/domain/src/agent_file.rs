//! `agent.toml`: what was typed, checked into types. Unknown keys, wrong units and tables without effect are errors.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::{AgentName, ByteSize, Egress, ImageName, Limits, ModelName, Span, TeamName, UsdMicros};

mod egress;
mod rules;
mod secrets;
mod terms;

pub use rules::{Answer, ApprovalRule, ServerRules, ToolRule};
pub use secrets::SecretUse;
pub use terms::{Mark, Term};

/// The program in the cell that drives the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Harness {
    /// Lazaret's own loop, in the guest.
    Builtin,
    /// Claude Code, from the image `claude-code`.
    ClaudeCode,
    /// Codex, from the image `codex`.
    Codex,
    /// Any agent that speaks the Agent Client Protocol on its standard streams.
    Acp(Vec<String>),
    /// Any program.
    Command(Vec<String>),
}

impl Harness {
    /// The image a cell runs when the agent's file names none.
    #[must_use]
    pub fn default_image(&self) -> ImageName {
        match self {
            Self::Builtin | Self::Acp(_) | Self::Command(_) => ImageName::base(),
            Self::ClaudeCode => ImageName::claude_code(),
            Self::Codex => ImageName::codex(),
        }
    }
}

impl Display for Harness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Builtin => f.write_str("builtin"),
            Self::ClaudeCode => f.write_str("claude-code"),
            Self::Codex => f.write_str("codex"),
            Self::Acp(argv) => write!(f, "acp {}", argv.join(" ")),
            Self::Command(argv) => write!(f, "command {}", argv.join(" ")),
        }
    }
}

/// An agent as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentFile {
    /// Its name.
    pub name: AgentName,
    /// Its team.
    pub team: TeamName,
    /// What drives the model.
    pub harness: Harness,
    /// The models its sessions may use; the first is the default. Empty: none at all.
    pub models: Vec<ModelName>,
    /// The image its cells run.
    pub image: ImageName,
    /// Standing instructions for the built-in harness; never a security control.
    pub instructions: String,
    /// What a session may use up.
    pub limits: Limits,
    /// What it may do with tool servers, in the order of the file; servers that are not named are denied.
    #[serde(default)]
    pub tools: Vec<ServerRules>,
    /// Which requests may leave; none: nothing does.
    #[serde(default)]
    pub egress: Option<Egress>,
    /// Who is asked, where a server's table doesn't say otherwise.
    #[serde(default)]
    pub approvals: ApprovalRule,
    /// The secrets that the host may add to its requests, in the order of the file; none by default.
    #[serde(default)]
    pub secrets: Vec<SecretUse>,
}

/// What is wrong with an agent file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct AgentFileError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong, for people.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

impl AgentFile {
    /// Most bytes in an agent file.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Whether it has neither tools nor a way out: then nobody need have applied it.
    #[must_use]
    pub fn is_given_nothing(&self) -> bool {
        self.tools.is_empty() && self.egress.is_none()
    }

    /// Reads the text of an `agent.toml`.
    ///
    /// # Errors
    /// The problem that comes first in the text.
    pub fn parse(text: &str) -> Result<Self, AgentFileError> {
        let mut check = Check { text, problems: Vec::new() };
        if text.len() > Self::MAX_BYTES {
            let message = format!("the file has {} bytes, {} are allowed", text.len(), Self::MAX_BYTES);
            return Err(check.error(&(0..0), message, None));
        }
        let document = DeTable::parse(text)
            .map_err(|e| check.error(&e.span().unwrap_or(0..0), e.message().replace('\n', ", "), None))?;
        let file = check.agent(document.get_ref());
        match check.problems.into_iter().min_by_key(|(at, _)| *at) {
            Some((_, problem)) => Err(problem),
            None => file.ok_or_else(|| AgentFileError {
                line: 1,
                column: 1,
                message: "the file describes no agent".to_owned(),
                hint: None,
            }),
        }
    }
}

const KEYS: &[&str] = &[
    "name",
    "team",
    "harness",
    "models",
    "image",
    "instructions",
    "limits",
    "tools",
    "approvals",
    "egress",
    "secrets",
];
const LIMIT_KEYS: &[&str] =
    &["memory", "cpus", "disk", "pids", "wall_clock", "output", "tokens", "tokens_per_day", "usd_per_day"];

/// Keys of the design that a later version will give an effect: refused, so that nobody relies on them.
const NO_EFFECT_YET: &[&str] = &["schedules", "skills", "memory", "shares"];

const MEMORY: RangeInclusive<ByteSize> = ByteSize::mib(128)..=ByteSize::mib(64 << 10);
const DISK: RangeInclusive<ByteSize> = ByteSize::mib(64)..=ByteSize::mib(1 << 20);
const OUTPUT: RangeInclusive<ByteSize> = ByteSize::bytes(1 << 10)..=ByteSize::mib(1 << 10);
const WALL_CLOCK: RangeInclusive<Span> = Span::seconds(1)..=Span::seconds(7 * 86_400);
const CPUS: RangeInclusive<u64> = 1..=16;
const PIDS: RangeInclusive<u64> = 16..=32_768;
const TOKENS: RangeInclusive<u64> = 0..=1_000_000_000;
const MAX_MODELS: usize = 16;
const MAX_ARGUMENTS: usize = 64;
const MAX_ARGUMENT_BYTES: usize = 4096;
const MAX_INSTRUCTIONS: usize = 32 * 1024;

/// A key with its place, and its value with its place.
type Item<'a, 'i> = &'a Spanned<DeValue<'i>>;

/// One walk through a file; problems are collected, so that the first in the text can be told.
struct Check<'t> {
    text: &'t str,
    problems: Vec<(usize, AgentFileError)>,
}

impl Check<'_> {
    fn agent(&mut self, table: &DeTable<'_>) -> Option<AgentFile> {
        self.keys(table, KEYS, NO_EFFECT_YET, "an agent file");
        let name = match table.get("name") {
            Some(item) => self.parsed(item, "name"),
            None => {
                let hint = Some("add a line such as: name = \"reviewer\"".to_owned());
                self.problem(&(0..0), "the agent has no `name`".to_owned(), hint);
                None
            }
        };
        let team = match table.get("team") {
            Some(item) => self.parsed(item, "team"),
            None => "default".parse().ok(),
        };
        let harness = table.get("harness").map_or(Some(Harness::Builtin), |item| self.harness(item));
        let models = table.get("models").map_or(Some(Vec::new()), |item| self.models(item));
        if let (Some(Harness::Builtin | Harness::ClaudeCode | Harness::Codex), Some([])) =
            (&harness, models.as_deref())
        {
            let at = table.get("models").or(table.get("harness")).map_or(0..0, Spanned::span);
            let hint = Some("add a line such as: models = [\"anthropic/claude-sonnet-4-5\"]".to_owned());
            self.problem(&at, "this harness drives a model, and `models` names none".to_owned(), hint);
        }
        let image = match table.get("image") {
            Some(item) => self.parsed(item, "image"),
            None => harness.as_ref().map(Harness::default_image),
        };
        let instructions =
            table.get("instructions").map_or(Some(String::new()), |item| self.instructions(item));
        let limits = table.get("limits").map_or(Some(Limits::default()), |item| self.limits(item));
        let approvals = match table.get("approvals") {
            Some(item) => self.approvals(item, &ApprovalRule::default()),
            None => Some(ApprovalRule::default()),
        };
        let rule = approvals.clone().unwrap_or_default();
        let tools = table.get("tools").map_or(Some(Vec::new()), |item| self.servers(item, &rule));
        let secrets = table.get("secrets").map_or(Some(Vec::new()), |item| self.secrets(item));
        let egress = match table.get("egress") {
            Some(item) => self.egress(item, &rule).map(Some),
            None => Some(None),
        };
        Some(AgentFile {
            name: name?,
            team: team?,
            harness: harness?,
            models: models?,
            image: image?,
            instructions: instructions?,
            limits: limits?,
            tools: tools?,
            egress: egress?,
            approvals: approvals?,
            secrets: secrets?,
        })
    }

    fn keys(&mut self, table: &DeTable<'_>, known: &[&str], later: &[&str], place: &str) {
        for key in table.keys() {
            let (name, at) = (key.get_ref().as_ref(), key.span());
            if later.contains(&name) {
                let message = format!("`{name}` has no effect yet in this version");
                self.problem(&at, message, Some("remove it: nothing would enforce what it says".to_owned()));
            } else if !known.contains(&name) {
                let hint = nearest(name, known)
                    .map(|near| format!("did you mean `{near}`?"))
                    .unwrap_or_else(|| format!("the keys are {}", known.join(", ")));
                self.problem(&at, format!("`{}` is not a key of {place}", short(name)), Some(hint));
            }
        }
    }

    fn harness(&mut self, item: Item<'_, '_>) -> Option<Harness> {
        match item.get_ref() {
            DeValue::String(name) => match name.as_ref() {
                "builtin" => Some(Harness::Builtin),
                "claude-code" => Some(Harness::ClaudeCode),
                "codex" => Some(Harness::Codex),
                other => {
                    let hint = nearest(other, &["builtin", "claude-code", "codex"])
                        .map_or_else(harness_hint, |near| format!("did you mean \"{near}\"?"));
                    let message = format!("`{}` is not a harness", short(other));
                    self.problem(&item.span(), message, Some(hint));
                    None
                }
            },
            DeValue::Table(table) => self.harness_table(item, table),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => {
                let message =
                    format!("`harness` is a string or a table, not {}", article(item.get_ref().type_str()));
                self.problem(&item.span(), message, Some(harness_hint()));
                None
            }
        }
    }

    fn harness_table(&mut self, item: Item<'_, '_>, table: &DeTable<'_>) -> Option<Harness> {
        self.keys(table, &["acp", "command"], &[], "a harness");
        match (table.get("acp"), table.get("command")) {
            (Some(argv), None) => self.argv(argv, "acp").map(Harness::Acp),
            (None, Some(argv)) => self.argv(argv, "command").map(Harness::Command),
            (None, None) if !table.is_empty() => None, // the unknown key was told
            (Some(_), Some(_)) | (None, None) => {
                let message = "a harness table has one key: `acp` or `command`".to_owned();
                self.problem(&item.span(), message, Some(harness_hint()));
                None
            }
        }
    }

    fn argv(&mut self, item: Item<'_, '_>, key: &str) -> Option<Vec<String>> {
        let texts = self.strings(item, key, MAX_ARGUMENTS)?;
        if texts.first().is_none_or(|(program, _)| program.is_empty()) {
            let message = format!("`{key}` needs a program");
            self.problem(&item.span(), message, Some(format!("write {key} = [\"program\", \"argument\"]")));
            return None;
        }
        for (text, at) in &texts {
            if text.len() > MAX_ARGUMENT_BYTES || text.contains('\0') {
                let message =
                    format!("an argument has at most {MAX_ARGUMENT_BYTES} bytes, none of them zero");
                self.problem(at, message, None);
            }
        }
        Some(texts.into_iter().map(|(text, _)| text).collect())
    }

    fn models(&mut self, item: Item<'_, '_>) -> Option<Vec<ModelName>> {
        let mut models = Vec::new();
        let mut sound = true;
        for (text, at) in self.strings(item, "models", MAX_MODELS)? {
            match text.parse::<ModelName>() {
                Ok(model) if models.contains(&model) => {
                    self.problem(&at, format!("`{model}` is named twice"), None);
                }
                Ok(model) => models.push(model),
                Err(error) => {
                    sound = false;
                    self.problem(&at, error.to_string(), None);
                }
            }
        }
        sound.then_some(models)
    }

    fn instructions(&mut self, item: Item<'_, '_>) -> Option<String> {
        let text = self.string(item, "instructions")?;
        if text.len() > MAX_INSTRUCTIONS || text.contains('\0') {
            let message = format!("`instructions` has at most {MAX_INSTRUCTIONS} bytes, none of them zero");
            self.problem(&item.span(), message, None);
        }
        Some(text)
    }

    fn limits(&mut self, item: Item<'_, '_>) -> Option<Limits> {
        let DeValue::Table(table) = item.get_ref() else {
            let message = format!("`limits` is a table, not {}", article(item.get_ref().type_str()));
            self.problem(&item.span(), message, Some("write [limits] and its keys below it".to_owned()));
            return None;
        };
        self.keys(table, LIMIT_KEYS, &[], "[limits]");
        let mut limits = Limits::default();
        if let Some(item) = table.get("memory") {
            limits.memory = self.quantity(item, "memory", &MEMORY)?;
        }
        if let Some(item) = table.get("disk") {
            limits.disk = self.quantity(item, "disk", &DISK)?;
        }
        if let Some(item) = table.get("output") {
            limits.output = self.quantity(item, "output", &OUTPUT)?;
        }
        if let Some(item) = table.get("wall_clock") {
            limits.wall_clock = self.quantity(item, "wall_clock", &WALL_CLOCK)?;
        }
        if let Some(item) = table.get("cpus") {
            limits.cpus = u8::try_from(self.number(item, "cpus", &CPUS)?).ok()?;
        }
        if let Some(item) = table.get("pids") {
            limits.pids = u32::try_from(self.number(item, "pids", &PIDS)?).ok()?;
        }
        if let Some(item) = table.get("tokens") {
            limits.tokens = self.number(item, "tokens", &TOKENS)?;
        }
        if let Some(item) = table.get("tokens_per_day") {
            limits.tokens_per_day = self.number(item, "tokens_per_day", &TOKENS)?;
        }
        if let Some(item) = table.get("usd_per_day") {
            limits.usd_per_day = Some(self.dollars(item, "usd_per_day")?);
        }
        Some(limits)
    }

    /// A quantity written with its unit, within its range.
    fn quantity<T>(&mut self, item: Item<'_, '_>, key: &str, range: &RangeInclusive<T>) -> Option<T>
    where
        T: FromStr<Err: Display> + PartialOrd + Display,
    {
        if let DeValue::Integer(number) = item.get_ref() {
            let hint = format!("write it with its unit, such as {key} = \"{}\"", range.start());
            self.problem(&item.span(), format!("`{key}` is {number} of what?"), Some(hint));
            return None;
        }
        let value = self.parsed(item, key)?;
        self.within(item, key, value, range)
    }

    fn number(&mut self, item: Item<'_, '_>, key: &str, range: &RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(number) = item.get_ref() else {
            let message = format!("`{key}` is a whole number, not {}", article(item.get_ref().type_str()));
            self.problem(&item.span(), message, Some(format!("write {key} = {}", range.start().max(&1))));
            return None;
        };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) => self.within(item, key, value, range),
            Err(_) => {
                let message = format!("`{key}` is from {} to {}, not {number}", range.start(), range.end());
                self.problem(&item.span(), message, None);
                None
            }
        }
    }

    /// An amount of US dollars: a number, whole or not.
    fn dollars(&mut self, item: Item<'_, '_>, key: &str) -> Option<UsdMicros> {
        let text = match item.get_ref() {
            DeValue::Integer(number) => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            other @ (DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_)) => {
                let message = format!("`{key}` is a number of US dollars, not {}", article(other.type_str()));
                self.problem(&item.span(), message, Some(format!("write {key} = 20")));
                return None;
            }
        };
        let amount = text.replace('_', "").parse().ok().and_then(UsdMicros::dollars);
        if amount.is_none() {
            let message = format!("`{key}` is from 0 to 1000000 US dollars, not {}", short(text));
            self.problem(&item.span(), message, None);
        }
        amount
    }

    fn within<T>(&mut self, item: Item<'_, '_>, key: &str, value: T, range: &RangeInclusive<T>) -> Option<T>
    where
        T: PartialOrd + Display,
    {
        if range.contains(&value) {
            return Some(value);
        }
        let message = format!("`{key}` is from {} to {}, not {value}", range.start(), range.end());
        self.problem(&item.span(), message, None);
        None
    }

    fn parsed<T: FromStr<Err: Display>>(&mut self, item: Item<'_, '_>, key: &str) -> Option<T> {
        match self.string(item, key)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(&item.span(), format!("`{key}`: {error}"), None);
                None
            }
        }
    }

    fn string(&mut self, item: Item<'_, '_>, key: &str) -> Option<String> {
        match item.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            other @ (DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_)) => {
                let message = format!("`{key}` is a string, not {}", article(other.type_str()));
                self.problem(&item.span(), message, Some(format!("write {key} = \"…\"")));
                None
            }
        }
    }

    fn strings(&mut self, item: Item<'_, '_>, key: &str, max: usize) -> Option<Vec<(String, Range<usize>)>> {
        let DeValue::Array(array) = item.get_ref() else {
            let message = format!("`{key}` is a list of strings, not {}", article(item.get_ref().type_str()));
            self.problem(&item.span(), message, Some(format!("write {key} = [\"…\"]")));
            return None;
        };
        if array.len() > max {
            let message = format!("`{key}` has {} entries, {max} are allowed", array.len());
            self.problem(&item.span(), message, None);
            return None;
        }
        array
            .iter()
            .map(|entry| self.string(entry, key).map(|text| (text, entry.span())))
            .collect::<Vec<_>>()
            .into_iter()
            .collect()
    }

    fn problem(&mut self, at: &Range<usize>, message: String, hint: Option<String>) {
        let error = self.error(at, message, hint);
        self.problems.push((at.start, error));
    }

    fn error(&self, at: &Range<usize>, message: String, hint: Option<String>) -> AgentFileError {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline.saturating_add(1));
        AgentFileError {
            line: before.matches('\n').count().saturating_add(1),
            column: before.get(line_start..).map_or(0, |line| line.chars().count()).saturating_add(1),
            message,
            hint,
        }
    }
}

fn harness_hint() -> String {
    "write \"builtin\", \"claude-code\", \"codex\", { acp = [\"program\"] } or { command = [\"program\"] }"
        .to_owned()
}

fn article(noun: &str) -> String {
    let an = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {noun}", if an { "an" } else { "a" })
}

fn short(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

/// The candidate that a typing error most likely meant: at most a third of its letters differ.
fn nearest<'c>(typed: &str, candidates: &[&'c str]) -> Option<&'c str> {
    candidates
        .iter()
        .map(|candidate| (distance(typed, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, over the first 40 characters.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().take(40).collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().take(40).enumerate() {
        let mut left = i.saturating_add(1);
        let mut next = vec![left];
        for (b, (diagonal, above)) in to.iter().zip(row.iter().zip(row.iter().skip(1))) {
            let replaced = diagonal.saturating_add(usize::from(a != *b));
            left = replaced.min(above.saturating_add(1)).min(left.saturating_add(1));
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
