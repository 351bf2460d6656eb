//! The reviewed tables of tool servers: what each tool does, which of its arguments say where things go, which carry free
//! text, and whose text its results are. They come from people, never from the server.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use domain::{Confidentiality, Effect, Effects, Integrity, Labels, ToolName};
use serde::{Deserialize, Serialize};

/// What kind of value a sensitive argument is, which says how two of them are compared, and who may have said it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Kind {
    /// Who gets something: an address, a name, a channel.
    Recipient,
    /// Whose account.
    Account,
    /// A machine on a network.
    Host,
    /// A web address.
    Url,
    /// A file or folder.
    Path,
    /// The id of a thing that exists already, and the type of thing: `item:mail`. Event 24 is not file 24.
    Item(String),
    /// How much.
    Amount,
    /// A branch, tag or commit.
    Branch,
    /// A date, a time, or both.
    Time,
    /// One of few words, such as a permission.
    Choice,
    /// A password, a token.
    Credential,
}

/// The text names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no kind: they are recipient, account, host, url, path, item:TYPE, amount, branch, time, choice and credential"
)]
pub struct KindError(String);

impl Kind {
    const PLAIN: [(Self, &'static str); 10] = [
        (Self::Recipient, "recipient"),
        (Self::Account, "account"),
        (Self::Host, "host"),
        (Self::Url, "url"),
        (Self::Path, "path"),
        (Self::Amount, "amount"),
        (Self::Branch, "branch"),
        (Self::Time, "time"),
        (Self::Choice, "choice"),
        (Self::Credential, "credential"),
    ];

    /// Whether the organisation's own records may say it. They may say who gets something; what is sent, changed or
    /// destroyed is chosen by a person, for a malicious agent could pick any of the organisation's own.
    #[must_use]
    pub fn organisation_may_say(&self) -> bool {
        match self {
            Self::Recipient | Self::Account | Self::Host => true,
            Self::Url
            | Self::Path
            | Self::Item(_)
            | Self::Amount
            | Self::Branch
            | Self::Time
            | Self::Choice
            | Self::Credential => false,
        }
    }
}

impl TryFrom<String> for Kind {
    type Error = KindError;
    fn try_from(text: String) -> Result<Self, KindError> {
        if let Some((kind, _)) = Self::PLAIN.into_iter().find(|(_, name)| *name == text) {
            return Ok(kind);
        }
        match text.strip_prefix("item:") {
            Some(of) if (1..=32).contains(&of.len()) && of.bytes().all(|b| b.is_ascii_lowercase()) => {
                Ok(Self::Item(of.to_owned()))
            }
            Some(_) | None => Err(KindError(text.chars().take(40).collect())),
        }
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        kind.to_string()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Item(of) = self {
            return write!(f, "item:{of}");
        }
        let name = Self::PLAIN.into_iter().find(|(kind, _)| kind == self).map(|(_, name)| name);
        f.write_str(name.unwrap_or_default())
    }
}

/// Whose text a part of a result is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The person's who uses the agent.
    Person,
    /// The organisation's own records, which no stranger can write into.
    Organisation,
    /// Anybody's.
    Stranger,
}

/// Places in a JSON value: names joined by `/`, with `*` for each element of a list. A place covers all below it; the
/// empty one covers all. Of several places that cover a value, the longest counts.
pub type Place = String;

/// What an argument refers to: the tool that shows it, and the argument of that tool that takes the same value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// A tool of the same server, which only reads.
    pub tool: ToolName,
    /// Its argument.
    pub argument: String,
}

/// What a person has said of one tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What it does.
    pub effects: Effects,
    /// The arguments that say where something goes or what is chosen.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sensitive: BTreeMap<Place, Kind>,
    /// The arguments that carry free text. What is in neither list counts as free text, too.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub content: BTreeSet<Place>,
    /// Whose text its results are; where nothing is said, a stranger's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub results: BTreeMap<Place, Source>,
    /// The records in its results that a person can name, and the fields of a record that are its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named_by: BTreeMap<Place, Vec<String>>,
    /// Which values of a record that the person named may then serve as an argument, and of which kind. These places
    /// cover nothing below them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gives: BTreeMap<Place, Kind>,
    /// The arguments that refer to something whose content goes out or is changed with the call: a draft, a file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refers: BTreeMap<Place, Reference>,
    /// Whether what it writes has no effect until a later call sends it, which then shows it: drafts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub staged: bool,
    /// Words of which the person must have used one for a call to count as asked for: "delete", "remove". Empty: any.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub verbs: BTreeSet<String>,
    /// How confidential its results are; none: as the server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidentiality: Option<Confidentiality>,
}

impl Row {
    /// What is assumed of a tool that nobody has classified: the worst.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            effects: Effects::UNKNOWN,
            sensitive: [(Place::new(), Kind::Item("unknown".to_owned()))].into(),
            content: BTreeSet::new(),
            results: BTreeMap::new(),
            named_by: BTreeMap::new(),
            gives: BTreeMap::new(),
            refers: BTreeMap::new(),
            staged: false,
            verbs: BTreeSet::new(),
            confidentiality: None,
        }
    }

    /// The row, with what the server says of the tool taken as far as it makes the row stricter.
    #[must_use]
    pub fn hinted(mut self, hints: Hints) -> Self {
        if let Some(more) = Effects::of(&hints.stricter()) {
            self.effects = self.effects.and(more);
            self.staged = self.staged && self.effects.can_be_undone();
        }
        self
    }

    /// The kind of the argument at this place; none if it is free text.
    #[must_use]
    pub fn kind(&self, place: &[&str]) -> Option<Kind> {
        covering(place).find_map(|place| {
            let sensitive = self.sensitive.get(&place).map(|kind| Some(kind.clone()));
            sensitive.or_else(|| self.content.contains(&place).then_some(None))
        })?
    }

    /// Whether the argument at this place refers to something whose content goes out or is changed.
    #[must_use]
    pub fn refers(&self, place: &[&str]) -> bool {
        covering(place).any(|place| self.refers.contains_key(&place))
    }

    /// Whether a key of an object at this place is one that the table names, and so not a text of the agent's.
    #[must_use]
    pub fn knows_key(&self, place: &[&str]) -> bool {
        let place = place.join("/");
        let names = |known: &Place| {
            known.strip_prefix(place.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.sensitive.keys().chain(&self.content).chain(self.refers.keys()).any(names)
    }

    /// As what kind of argument the value at exactly this place of a named record may serve.
    #[must_use]
    pub fn gives(&self, place: &[&str]) -> Option<&Kind> {
        self.gives.get(&place.join("/"))
    }

    /// Whose text the result's value at this place is.
    #[must_use]
    pub fn source(&self, place: &[&str]) -> Source {
        covering(place).find_map(|place| self.results.get(&place).copied()).unwrap_or(Source::Stranger)
    }

    /// The labels of its results, where its server's are this confidential.
    #[must_use]
    pub fn labels(&self, server: Confidentiality) -> Labels {
        let root = self.source(&[]);
        let worst = self.results.values().copied().fold(root, Source::max);
        let integrity = match worst {
            Source::Person => Integrity::Person,
            Source::Organisation => Integrity::Organisation,
            Source::Stranger => Integrity::Web,
        };
        let confidentiality = self.confidentiality.unwrap_or(server);
        Labels { confidentiality, integrity, ..Labels::default() }
    }
}

/// The places that cover this one, from the longest.
fn covering(place: &[&str]) -> impl Iterator<Item = Place> {
    (0..=place.len()).rev().map(|length| place.get(..length).unwrap_or_default().join("/"))
}

/// What a server says of its tool (MCP's annotations). Never believed where it makes the tool look milder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hints {
    /// `readOnlyHint`.
    pub read_only_hint: Option<bool>,
    /// `destructiveHint`.
    pub destructive_hint: Option<bool>,
    /// `openWorldHint`.
    pub open_world_hint: Option<bool>,
}

impl Hints {
    fn stricter(self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.read_only_hint == Some(false) {
            effects.push(Effect::Write);
        }
        if self.destructive_hint == Some(true) {
            effects.push(Effect::Irreversible);
        }
        if self.open_world_hint == Some(true) {
            effects.push(Effect::Communicate);
        }
        effects
    }

    /// What the server suggests, for the person who classifies the tool.
    #[must_use]
    pub fn suggested(self) -> Effects {
        let mut effects = self.stricter();
        if self.read_only_hint == Some(true) {
            effects.push(Effect::Read);
        }
        Effects::of(&effects).unwrap_or(Effects::UNKNOWN)
    }
}

/// The reviewed table of one server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// What is said of the server as a whole.
    #[serde(default)]
    pub server: About,
    /// Its tools.
    #[serde(default)]
    pub tools: BTreeMap<ToolName, Row>,
}

/// What a table says of its server as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct About {
    /// The package or product that the table was written for.
    pub product: String,
    /// How confidential results are where a tool's row doesn't say.
    pub confidentiality: Confidentiality,
}

impl Default for About {
    fn default() -> Self {
        Self { product: String::new(), confidentiality: Confidentiality::Confidential }
    }
}

/// What is wrong with a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It is too long.
    #[error("the table has {0} bytes; {max} are allowed", max = Table::MAX_BYTES)]
    TooLong(usize),
    /// It is no table of this form.
    #[error("line {line}: {message}")]
    Form {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A row says what it can't mean.
    #[error("tool `{tool}`: {message}")]
    Row {
        /// The tool.
        tool: ToolName,
        /// What is wrong.
        message: String,
    },
}

impl Table {
    /// Most bytes of a table.
    pub const MAX_BYTES: usize = 256 * 1024;

    /// Reads a table.
    ///
    /// # Errors
    /// What is wrong with it. A word that isn't known is an error, for it would silently guard nothing.
    pub fn parse(text: &str) -> Result<Self, TableError> {
        if text.len() > Self::MAX_BYTES {
            return Err(TableError::TooLong(text.len()));
        }
        let table: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = text.get(..at).unwrap_or(text).matches('\n').count().saturating_add(1);
            TableError::Form { line, message: error.message().replace('\n', ", ") }
        })?;
        table.tools.iter().try_for_each(|(tool, row)| {
            table.check(row).map_err(|message| TableError::Row { tool: tool.clone(), message })
        })?;
        Ok(table)
    }

    /// The table of a server that has a way out of its own: what its tools are told may leave by it, and what they tell may be
    /// anybody's words.
    #[must_use]
    pub fn reaching_out(mut self) -> Self {
        for row in self.tools.values_mut() {
            row.effects =
                Effects::of(&[Effect::Communicate]).map_or(row.effects, |more| row.effects.and(more));
            row.staged = false;
            row.results.clear();
        }
        self
    }

    /// The reviewed table that ships for a product, by its short name: `filesystem`, `everything`, `github`, `hubspot`, `mail`.
    #[must_use]
    pub fn shipped(name: &str) -> Option<&'static str> {
        SHIPPED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }

    fn check(&self, row: &Row) -> Result<(), String> {
        if let Some(place) = row.content.iter().find(|place| row.sensitive.contains_key(*place)) {
            return Err(format!("`{place}` is both sensitive and content; choose one"));
        }
        if row.staged && !(row.effects.has(Effect::Write) && row.effects.can_be_undone()) {
            return Err(
                "only a tool that writes, and does nothing that can't be undone, is `staged`".to_owned()
            );
        }
        for (place, fields) in &row.named_by {
            if fields.is_empty() {
                return Err(format!("`named_by`: `{place}` has no field"));
            }
        }
        for (place, kind) in &row.gives {
            let place_parts: Vec<&str> = place.split('/').filter(|part| !part.is_empty()).collect();
            if !covering(&place_parts).any(|above| row.named_by.contains_key(&above)) {
                return Err(format!("`gives`: `{place}` = `{kind}` is in no record of `named_by`"));
            }
        }
        for (place, reference) in &row.refers {
            if self.tools.get(&reference.tool).is_none_or(|shows| !shows.effects.only_reads()) {
                return Err(format!(
                    "`refers`: `{place}`: `{}` is no tool here that only reads",
                    reference.tool
                ));
            }
        }
        let places = row
            .sensitive
            .keys()
            .chain(&row.content)
            .chain(row.results.keys())
            .chain(row.named_by.keys())
            .chain(row.gives.keys())
            .chain(row.refers.keys());
        for place in places {
            if !place.is_empty() && place.split('/').any(str::is_empty) {
                return Err(format!("`{place}` is no place: write names joined by `/`"));
            }
        }
        Ok(())
    }
}

/// The tables that ship.
pub const SHIPPED: &[(&str, &str)] = &[
    ("everything", include_str!("../tables/everything.toml")),
    ("filesystem", include_str!("../tables/filesystem.toml")),
    ("github", include_str!("../tables/github.toml")),
    ("hubspot", include_str!("../tables/hubspot.toml")),
    ("mail", include_str!("../tables/mail.toml")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_tables_read() {
        for (name, text) in SHIPPED {
            let table = Table::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!table.tools.is_empty() && !table.server.product.is_empty());
        }
    }

    #[test]
    fn a_word_that_is_not_known_is_an_error_with_its_line() {
        for (text, error) in [
            ("[tools.a]\neffects = [\"reed\"]", "line 2: unknown variant `reed`"),
            ("[tools.a]\neffects = []", "line 2: a tool has at least one effect"),
            ("[tools.a]\neffects = [\"read\"]\nsensitve = {}", "line 3: unknown field `sensitve`"),
            ("[tools.a]\n\nsensitive = {}", "line 1: missing field `effects`"),
            ("[tools.\"a b\"]\neffects = [\"read\"]", "line 1: ` ` can't be in a tool's name"),
            (
                "[tools.a]\neffects = [\"read\"]\ncontent = [\"x\"]\nsensitive = { x = \"path\" }",
                "tool `a`: `x` is both",
            ),
            ("[tools.a]\neffects = [\"read\"]\nsensitive = { x = \"phone\" }", "line 3: `phone` is no kind"),
            ("[tools.a]\neffects = [\"irreversible\"]\nstaged = true", "tool `a`: only a tool that writes"),
            ("[tools.a]\neffects = [\"read\"]\ncontent = [\"x//y\"]", "tool `a`: `x//y` is no place"),
        ] {
            let found = Table::parse(text).unwrap_err().to_string();
            assert!(found.starts_with(error), "{found}\n{error}");
        }
    }

    #[test]
    fn the_longest_place_counts_and_what_nobody_named_is_free_text() {
        let row: Row = toml::from_str(
            "effects = [\"irreversible\"]\nsensitive = { to = \"recipient\", \"files/*/id\" = \"path\" }\ncontent = [\"files\"]\nresults = { \"\" = \"organisation\", \"a/*/text\" = \"stranger\" }",
        )
        .unwrap();
        assert_eq!(row.kind(&["to", "*"]), Some(Kind::Recipient));
        assert_eq!(row.kind(&["files", "*", "id"]), Some(Kind::Path));
        assert_eq!((row.kind(&["files", "*", "name"]), row.kind(&["new"])), (None, None));
        assert!(row.knows_key(&["files"]) && row.knows_key(&["files", "*", "id"]) && !row.knows_key(&["fi"]));
        assert_eq!(row.source(&["a", "*", "text", "x"]), Source::Stranger);
        assert_eq!(row.source(&["a", "*"]), Source::Organisation);
        assert_eq!(row.labels(Confidentiality::Internal).integrity, Integrity::Web);
    }

    #[test]
    fn hints_only_make_stricter() {
        let row = Row { effects: Effects::of(&[Effect::Read]).unwrap(), ..Row::unknown() };
        let mild = Hints { read_only_hint: Some(true), destructive_hint: Some(false), open_world_hint: None };
        assert_eq!(row.clone().hinted(mild).effects, row.effects);
        assert_eq!(Row::unknown().hinted(mild).effects, Effects::UNKNOWN);
        let strict =
            Hints { read_only_hint: Some(false), destructive_hint: Some(true), open_world_hint: Some(true) };
        let all =
            Effects::of(&[Effect::Read, Effect::Write, Effect::Irreversible, Effect::Communicate]).unwrap();
        assert_eq!(row.hinted(strict).effects, all);
        assert_eq!(Hints::default().suggested(), Effects::UNKNOWN);
    }
}
