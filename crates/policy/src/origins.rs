//! Origins: what a session's gateway has seen, and so where each value of a call came from.
//!
//! [`Seen`] keeps salted hashes only, of the values in results and of the person's words, and says of each argument
//! whether the person typed it, a record that the person named holds it, the organisation's records hold it, or a
//! stranger's text. Comparing is exact, in one form per [kind](Kind) of value. What the agent says first is never
//! bettered by a result that repeats it; only a person's words better it. When the memory is full, nothing more is
//! learned: what isn't known is a stranger's.
//!
//! What an agent can still do: choose between several values that the person typed (of two amounts, the other; of two
//! addresses, the other), choose which of the organisation's own addresses gets a text in the person's own words, say a
//! sentence of the prompt to somebody whom the person named, and use the spelling that an address allows (upper and
//! lower case) to tell its recipient something.

mod dates;
mod forms;
mod words;

use std::collections::HashMap;

use domain::{Origin, ToolRef};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub use forms::{Unclear, is_invisible};

use crate::Arguments;
use crate::table::{Kind, Row, Source};
use dates::{Date, Minutes, Moments};
use words::Words;

/// What a session's gateway has seen.
#[derive(Debug, Clone)]
pub struct Seen {
    hash: Hasher,
    entries: HashMap<[u8; 16], Entry>,
    words: Words,
    /// Names of tools and other sources, which are no secrets.
    sources: Vec<String>,
    /// Whether something could not be kept: then nothing new is trusted but the person's words.
    full: bool,
}

/// How much a source is trusted, from the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Person,
    Named,
    Organisation,
    Stranger,
    Unknown,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    rank: Rank,
    source: u16,
    /// The agent said it before anybody whom it could have it from.
    agents: bool,
}

/// What is known of one argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Its place in the arguments.
    pub place: String,
    /// Its value, as it may be shown.
    pub value: String,
    /// What it is.
    pub role: Role,
}

/// Where one is in the arguments.
#[derive(Default)]
struct Path<'v> {
    /// As tables name it: `*` for what is in a list.
    place: Vec<&'v str>,
    /// As people are told it: they see the list, and count.
    shown: Vec<String>,
}

impl<'v> Path<'v> {
    fn enter(&mut self, key: &'v str, number: Option<usize>) {
        self.place.push(key);
        self.shown.push(number.map_or_else(|| key.to_owned(), |number| number.to_string()));
    }

    fn leave(&mut self) {
        self.place.pop();
        self.shown.pop();
    }
}

/// What an argument is, and so what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It says where something goes or what is chosen: its origin counts.
    Sensitive(Kind, Origin),
    /// It is free text: whether it is the person's own words.
    Content(bool),
    /// It refers to something whose content goes out or is changed with the call.
    Refers,
}

/// A call's arguments, judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    /// Each value, in the order of the canonical form.
    pub arguments: Vec<Judged>,
    /// Whether the person used a word that asks for this tool, where its table lists such words.
    pub asked_for: bool,
    /// Whether the table lists such words, and the person used one: then a call needs no argument to be the person's.
    pub by_verb: bool,
}

/// A value that is refused, whatever its origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the argument `{place}` is refused: {why} (`{value}`)")]
pub struct Refused {
    /// Its place.
    pub place: String,
    /// The value, as it may be shown.
    pub value: String,
    /// Why.
    pub why: Unclear,
}

impl Seen {
    /// Most values that are kept.
    pub const MAX_VALUES: usize = 65_536;
    const MAX_SOURCES: usize = 4096;

    /// Nothing seen yet. The salt is random, of this session only.
    #[must_use]
    pub fn new(salt: [u8; 32]) -> Self {
        Self {
            hash: Hasher::new(salt),
            entries: HashMap::new(),
            words: Words::default(),
            sources: Vec::new(),
            full: false,
        }
    }

    /// Learns what the person typed; not what was piped in, nor a file's text.
    pub fn person(&mut self, text: &str) {
        let moments = self.words.add(text, &self.hash);
        let source = self.source("the person");
        for form in forms::addresses(text).chain(moment_forms(&moments)) {
            self.learn(&form, Rank::Person, source);
        }
        for amount in words::amounts(text) {
            self.learn(&format!("a:{amount}"), Rank::Person, source);
        }
    }

    /// Learns the text of a source that the person named, such as a file that the prompt is about.
    pub fn named(&mut self, name: &str, text: &str) {
        let source = self.source(name);
        for form in forms::addresses(text) {
            self.learn(&form, Rank::Named, source);
        }
    }

    /// Learns today's year, which dates without a year mean.
    pub fn year(&mut self, year: u16) {
        let source = self.source("the calendar");
        self.learn(&format!("y:{year}"), Rank::Person, source);
    }

    /// Learns a structured result. It must have been cleared to reach the session; its labels join before.
    pub fn result(&mut self, tool: &ToolRef, row: &Row, value: &Value) {
        let source = self.source(&tool.to_string());
        let mut place = Vec::new();
        self.walk(row, source, value, &mut place, false);
    }

    /// Learns a result that is text: as a structured one if it is JSON, else as one value and the addresses in it.
    pub fn result_text(&mut self, tool: &ToolRef, row: &Row, text: &str) {
        match serde_json::from_str::<Value>(text) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => self.result(tool, row, &value),
            Ok(_) | Err(_) => {
                let source = self.source(&tool.to_string());
                self.leaf(text, rank(row.source(&[])), source);
            }
        }
    }

    /// Where a value came from that an argument of this kind has.
    ///
    /// # Errors
    /// The value could be mistaken for another.
    pub fn origin_of(&self, value: &str, kind: &Kind) -> Result<Origin, Unclear> {
        forms::visible(value)?;
        let form = kind_form(value, kind)?;
        let persons = match kind {
            Kind::Recipient | Kind::Account if form.starts_with("e:") => false,
            Kind::Recipient | Kind::Account | Kind::Choice | Kind::Host => {
                self.words.name(value, false, &self.hash)
            }
            Kind::Path | Kind::Branch | Kind::Credential => self.words.name(value, true, &self.hash),
            Kind::Item(of) => self.words.item(value, of, &self.hash),
            Kind::Url | Kind::Amount | Kind::Time => false,
        };
        if persons {
            return Ok(Origin::Person);
        }
        let given = self.best(&[given_form(kind, &form)]);
        let found = match kind {
            Kind::Time => self.moment(value),
            Kind::Host => self.best(&[form.clone(), format!("n:{}", forms::folded(value))]),
            Kind::Recipient
            | Kind::Account
            | Kind::Url
            | Kind::Path
            | Kind::Item(_)
            | Kind::Amount
            | Kind::Branch
            | Kind::Choice
            | Kind::Credential => self.best(&[form]),
        };
        Ok(self.origin(found.min(given)))
    }

    /// Whether a free text is the person's own words.
    #[must_use]
    pub fn own_words(&self, text: &str) -> bool {
        self.words.own(text, &self.hash)
    }

    /// Judges the arguments of a call, and remembers them as the agent's: what the agent said first, no result betters.
    ///
    /// # Errors
    /// The first argument that is refused whatever its origin.
    pub fn judge(&mut self, row: &Row, arguments: &Arguments) -> Result<Origins, Refused> {
        let mut judged = Vec::new();
        let mut path = Path::default();
        for (key, value) in arguments.value() {
            path.enter(key, None);
            self.key(row, &path, &mut judged);
            self.arguments(row, value, &mut path, &mut judged)?;
            path.leave();
        }
        let by_verb = row.verbs.iter().any(|verb| self.words.said(verb, &self.hash));
        for (key, value) in arguments.value() {
            self.agents(&Value::String(key.clone()));
            self.agents(value);
        }
        Ok(Origins { arguments: judged, asked_for: by_verb || row.verbs.is_empty(), by_verb })
    }

    fn arguments<'v>(
        &self,
        row: &Row,
        value: &'v Value,
        path: &mut Path<'v>,
        judged: &mut Vec<Judged>,
    ) -> Result<(), Refused> {
        match value {
            Value::Null => Ok(()),
            Value::Array(items) => items.iter().enumerate().try_for_each(|(number, item)| {
                path.enter("*", Some(number));
                let result = self.arguments(row, item, path, judged);
                path.leave();
                result
            }),
            Value::Object(entries) => entries.iter().try_for_each(|(key, item)| {
                path.enter(key, None);
                self.key(row, path, judged);
                let result = self.arguments(row, item, path, judged);
                path.leave();
                result
            }),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.argument(row, path, &leaf_text(value), judged)
            }
        }
    }

    fn argument(
        &self,
        row: &Row,
        path: &Path<'_>,
        text: &str,
        judged: &mut Vec<Judged>,
    ) -> Result<(), Refused> {
        let one = |place, role| Judged { place, value: crate::canonical::shown(text), role };
        if row.refers(&path.place) {
            judged.push(one(path.place.join("/"), Role::Refers));
        }
        let role = match row.kind(&path.place) {
            None => Role::Content(self.own_words(text)),
            Some(kind) => {
                let origin = self.origin_of(text, &kind).map_err(|why| Refused {
                    place: path.shown.join("/"),
                    value: crate::canonical::shown(text).chars().take(200).collect(),
                    why,
                })?;
                Role::Sensitive(kind, origin)
            }
        };
        judged.push(one(path.shown.join("/"), role));
        Ok(())
    }

    /// A key that the table doesn't name is a text that the agent chose.
    fn key(&self, row: &Row, path: &Path<'_>, judged: &mut Vec<Judged>) {
        if let Some(key) = path.place.last().filter(|_| !row.knows_key(&path.place)) {
            let role = Role::Content(self.own_words(key));
            judged.push(Judged { place: path.shown.join("/"), value: crate::canonical::shown(key), role });
        }
    }

    fn walk<'v>(&mut self, row: &Row, source: u16, value: &'v Value, place: &mut Vec<&'v str>, named: bool) {
        if place.len() > Arguments::MAX_DEPTH {
            return;
        }
        let named = named || self.is_named(row, value, place);
        match value {
            Value::Null => (),
            Value::Array(items) => {
                for item in items {
                    place.push("*");
                    self.walk(row, source, item, place, named);
                    place.pop();
                }
            }
            Value::Object(entries) => {
                for (key, item) in entries {
                    place.push(key);
                    self.walk(row, source, item, place, named);
                    place.pop();
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                let text = leaf_text(value);
                let whose = row.source(place);
                self.leaf(&text, rank(whose), source);
                if let Some(kind) = row.gives(place).filter(|_| named && whose != Source::Stranger) {
                    self.give(&text, kind, source);
                }
            }
        }
    }

    /// Learns a field of a record that the person named, under the one kind that it may serve as.
    fn give(&mut self, text: &str, kind: &Kind, source: u16) {
        let Ok(form) = kind_form(text, kind) else { return };
        let known = self.entries.get(&self.hash.short("value", &form));
        if !known.is_some_and(|entry| entry.agents) {
            self.learn(&given_form(kind, &form), Rank::Named, source);
        }
    }

    /// Whether the record at this place is one that the person named.
    fn is_named(&self, row: &Row, value: &Value, place: &[&str]) -> bool {
        let Some(fields) = row.named_by.get(&place.join("/")) else { return false };
        fields.iter().filter_map(|field| value.get(field)).any(|field| match field {
            Value::String(name) => self.words.name(name, false, &self.hash),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
        })
    }

    fn leaf(&mut self, text: &str, rank: Rank, source: u16) {
        for form in result_forms(text) {
            self.learn(&form, rank, source);
        }
    }

    /// Learns that the agent said this; if nobody whom it could have it from did before, it stays the agent's.
    fn agents(&mut self, value: &Value) {
        match value {
            Value::Null => (),
            Value::Array(items) => items.iter().for_each(|item| self.agents(item)),
            Value::Object(entries) => {
                for (key, item) in entries {
                    self.agents(&Value::String(key.clone()));
                    self.agents(item);
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                for form in result_forms(&leaf_text(value)) {
                    let key = self.hash.short("value", &form);
                    let known = self.entries.get(&key);
                    if known.is_some_and(|entry| entry.rank < Rank::Stranger || entry.agents) {
                        continue;
                    }
                    let entry =
                        known.copied().unwrap_or(Entry { rank: Rank::Unknown, source: 0, agents: true });
                    self.keep(key, Entry { agents: true, ..entry });
                }
            }
        }
    }

    fn learn(&mut self, form: &str, rank: Rank, source: u16) {
        let key = self.hash.short("value", form);
        let entry = match self.entries.get(&key) {
            Some(known) if known.rank <= rank => return,
            Some(known) if known.agents && rank != Rank::Person => {
                Entry { rank: rank.max(Rank::Stranger), source, agents: true }
            }
            None if self.full && rank != Rank::Person => return,
            Some(_) | None => Entry { rank, source, agents: false },
        };
        self.keep(key, entry);
    }

    fn keep(&mut self, key: [u8; 16], entry: Entry) {
        if self.entries.len() < Self::MAX_VALUES || self.entries.contains_key(&key) {
            self.entries.insert(key, entry);
        } else {
            self.full = true;
        }
    }

    fn source(&mut self, name: &str) -> u16 {
        let at = self.sources.iter().position(|known| known == name).unwrap_or_else(|| {
            if self.sources.len() < Self::MAX_SOURCES {
                self.sources.push(name.to_owned());
            }
            self.sources.len().saturating_sub(1)
        });
        u16::try_from(at).unwrap_or_default()
    }

    fn best(&self, forms: &[String]) -> (Rank, u16) {
        let known = forms.iter().filter_map(|form| self.entries.get(&self.hash.short("value", form)));
        known.map(|entry| (entry.rank, entry.source)).min().unwrap_or((Rank::Unknown, 0))
    }

    fn moment(&self, value: &str) -> (Rank, u16) {
        let exact = self.best(&[format!("x:{value}")]);
        let Some((date, time)) = dates::moment(value) else { return exact };
        let worst = |a: (Rank, u16), b: (Rank, u16)| a.max(b);
        let best = |a: (Rank, u16), b: (Rank, u16)| a.min(b);
        let date = date.map(|date| {
            let bare = worst(self.best(&[bare_form(date)]), self.best(&[year_form(date)]));
            best(self.best(&[date_form(date)]), bare)
        });
        let time = time.map(|time| self.best(&[time_form(time)]));
        let both = match (date, time) {
            (Some(date), Some(time)) => worst(date, time),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => (Rank::Unknown, 0),
        };
        best(exact, both)
    }

    fn origin(&self, (rank, source): (Rank, u16)) -> Origin {
        let source = || self.sources.get(usize::from(source)).cloned().unwrap_or_default();
        match rank {
            Rank::Person => Origin::Person,
            Rank::Named => Origin::Named(source()),
            Rank::Organisation => Origin::Organisation(source()),
            Rank::Stranger => Origin::Stranger(source()),
            Rank::Unknown => Origin::Unknown,
        }
    }
}

fn rank(source: Source) -> Rank {
    match source {
        Source::Person => Rank::Named,
        Source::Organisation => Rank::Organisation,
        Source::Stranger => Rank::Stranger,
    }
}

/// The one form of a value of this kind.
fn kind_form(value: &str, kind: &Kind) -> Result<String, Unclear> {
    Ok(match kind {
        Kind::Recipient | Kind::Account if value.contains('@') && !value.starts_with('@') => {
            format!("e:{}", forms::email(value)?)
        }
        Kind::Recipient | Kind::Account | Kind::Choice => format!("n:{}", forms::folded(value)),
        Kind::Host => format!("h:{}", forms::host(value)?),
        Kind::Url => format!("u:{}", forms::url(value)?),
        Kind::Amount => {
            forms::amount(value).map_or_else(|| format!("x:{value}"), |amount| format!("a:{amount}"))
        }
        Kind::Path | Kind::Item(_) | Kind::Branch | Kind::Credential | Kind::Time => format!("x:{value}"),
    })
}

/// The form of a value that a named record gives for one kind of argument. No result and no argument has it otherwise.
fn given_form(kind: &Kind, form: &str) -> String {
    format!("k:{kind}:{form}")
}

fn leaf_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}

/// The forms under which a value of a result, or of the agent's, can be asked for.
fn result_forms(text: &str) -> Vec<String> {
    let mut known: Vec<String> = forms::addresses(text).collect();
    if text.len() > forms::MAX_VALUE {
        return known;
    }
    known.push(format!("x:{text}"));
    known.push(format!("n:{}", forms::folded(text)));
    known.extend(forms::amount(text).map(|amount| format!("a:{amount}")));
    if let Ok(host) = forms::host(text) {
        known.push(format!("h:{host}"));
    }
    if let Some((date, time)) = dates::moment(text) {
        known.extend(date.map(date_form));
        known.extend(date.map(year_form));
        known.extend(time.map(time_form));
    }
    known
}

/// The forms of what a person says of time. An end is the person's, too, who said when it begins and how long it lasts.
fn moment_forms(moments: &Moments) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for date in &moments.dates {
        known.push(if date.year.is_some() { date_form(*date) } else { bare_form(*date) });
        known.extend(date.year.map(|_| year_form(*date)));
    }
    known.extend(moments.years.iter().map(|year| format!("y:{year}")));
    for time in moments.times.iter().take(32) {
        known.push(time_form(*time));
        for span in moments.spans.iter().take(16) {
            known.push(time_form(time.saturating_add(*span)));
        }
    }
    known
}

fn date_form(date: Date) -> String {
    format!("d:{}-{}-{}", date.year.unwrap_or_default(), date.month, date.day)
}

fn bare_form(date: Date) -> String {
    format!("m:{}-{}", date.month, date.day)
}

fn year_form(date: Date) -> String {
    format!("y:{}", date.year.unwrap_or_default())
}

fn time_form(time: Minutes) -> String {
    format!("t:{time}")
}

/// Salted hashes, so that what was seen can't be read from memory or a dump of it.
#[derive(Debug, Clone)]
struct Hasher {
    salted: Sha256,
}

impl Hasher {
    fn new(salt: [u8; 32]) -> Self {
        Self { salted: Sha256::new_with_prefix(salt) }
    }

    fn short(&self, what: &str, text: &str) -> [u8; 16] {
        let mut hash = self.salted.clone();
        hash.update(what);
        hash.update([0]);
        hash.update(text);
        let whole: [u8; 32] = hash.finalize().into();
        let mut short = [0; 16];
        short.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        short
    }
}
