//! The language in which the lists of fields are written, and the walk that rebuilds a value by them: what no list
//! names is refused, so a rebuilt value holds nothing else.

use super::{Refusal, shown};
use crate::json::Json;

/// What a value must be.
pub(super) enum Shape {
    /// A text of at most so many bytes.
    Text(usize),
    /// One of these words.
    Word(&'static [&'static str]),
    /// `true` or `false`.
    Bool,
    /// A whole number from the first to the second.
    Integer(i64, i64),
    /// Any number.
    Number,
    /// `false`; `true` is refused: what it would do.
    Never(&'static str),
    /// Any JSON at all: schemas and arguments of the agent's own tools.
    Any,
    /// A `data:` URL: content that is in the request already. Any other URL would be fetched by the provider.
    DataUrl,
    /// A list of at most so many.
    List(&'static Shape, usize),
    /// An object of any keys, at most so many, whose values have one shape.
    Map(&'static Shape, usize),
    /// An object with these fields.
    Object(&'static [Field]),
    /// An object whose fields depend on the word under its tag.
    Tagged(&'static Tagged),
    /// The first of these that is for the value's kind (text, list, object …).
    Either(&'static [Shape]),
}

/// Objects that a word tells apart.
pub(super) struct Tagged {
    /// The key that holds the word.
    pub(super) tag: &'static str,
    /// The word that holds when the key is missing; otherwise the key is required.
    pub(super) absent: Option<&'static str>,
    /// Each word, and the fields that it brings besides the tag.
    pub(super) cases: &'static [(&'static str, Case)],
}

/// What a word under a tag means.
pub(super) enum Case {
    /// An object with these fields besides the tag.
    Fields(&'static [Field]),
    /// Known, and not passed on: what it would do.
    Refused(&'static str),
}

/// One field of an object.
pub(super) struct Field {
    name: &'static str,
    rule: Rule,
}

enum Rule {
    Optional(&'static Shape),
    Required(&'static Shape),
    LeftOut,
    Always(bool),
    Refused(&'static str),
}

/// A field that may be there. `null` counts as absent, as it does for every provider.
pub(super) const fn optional(name: &'static str, shape: &'static Shape) -> Field {
    Field { name, rule: Rule::Optional(shape) }
}

/// A field that must be there.
pub(super) const fn required(name: &'static str, shape: &'static Shape) -> Field {
    Field { name, rule: Rule::Required(shape) }
}

/// A field that harnesses send and no provider needs: it is accepted and not passed on.
pub(super) const fn left_out(name: &'static str) -> Field {
    Field { name, rule: Rule::LeftOut }
}

/// A field that always has this value, whatever was sent.
pub(super) const fn always(name: &'static str, value: bool) -> Field {
    Field { name, rule: Rule::Always(value) }
}

/// A field that is known and refused: what it would do.
pub(super) const fn refused(name: &'static str, would: &'static str) -> Field {
    Field { name, rule: Rule::Refused(would) }
}

impl Shape {
    /// Rebuilds `value` by this shape; `path` is where it stands, for refusals.
    pub(super) fn rebuild(&self, value: Json, path: &Path<'_>) -> Result<Json, Refusal> {
        match (self, value) {
            (Self::Any, value) => Ok(value),
            (Self::Text(max), Json::Text(text)) if text.len() <= *max => Ok(Json::Text(text)),
            (Self::Text(max), Json::Text(text)) => {
                Err(path.malformed(format!("has {} bytes where at most {max} are allowed", text.len())))
            }
            (Self::Word(words), Json::Text(text)) if words.contains(&text.as_str()) => Ok(Json::Text(text)),
            (Self::Word(_), Json::Text(text)) => {
                Err(path.not_granted(format!("the value {} is not on the list", shown(&text))))
            }
            (Self::Bool, value @ Json::Bool(_)) => Ok(value),
            (Self::Integer(least, most), Json::Integer(n)) if (*least..=*most).contains(&n) => {
                Ok(Json::Integer(n))
            }
            (Self::Integer(least, most), Json::Integer(n)) => {
                Err(path.malformed(format!("is {n} where {least} to {most} is allowed")))
            }
            (Self::Never(_), value @ Json::Bool(false)) => Ok(value),
            (Self::Never(would), Json::Bool(true)) => Err(path.not_granted((*would).to_owned())),
            (Self::Number, value @ (Json::Integer(_) | Json::Float(_))) => Ok(value),
            (Self::DataUrl, Json::Text(url)) => inline(url, path),
            (Self::List(of, max), Json::List(values)) => list(of, *max, values, path),
            (Self::Map(of, max), Json::Object(entries)) => map(of, *max, entries, path),
            (Self::Object(fields), Json::Object(entries)) => object(None, fields, entries, path),
            (Self::Tagged(tagged), Json::Object(entries)) => tagged.rebuild(entries, path),
            (Self::Either(shapes), value) => match shapes.iter().find(|shape| shape.is_for(&value)) {
                Some(shape) => shape.rebuild(value, path),
                None => Err(path.malformed(format!("can't be {}", value.kind()))),
            },
            (_, value) => Err(path.malformed(format!("can't be {}", value.kind()))),
        }
    }

    fn is_for(&self, value: &Json) -> bool {
        match self {
            Self::Text(_) | Self::Word(_) | Self::DataUrl => matches!(value, Json::Text(_)),
            Self::Bool | Self::Never(_) => matches!(value, Json::Bool(_)),
            Self::Integer(..) => matches!(value, Json::Integer(_)),
            Self::Number => matches!(value, Json::Integer(_) | Json::Float(_)),
            Self::List(..) => matches!(value, Json::List(_)),
            Self::Map(..) | Self::Object(_) | Self::Tagged(_) => matches!(value, Json::Object(_)),
            Self::Any => true,
            Self::Either(shapes) => shapes.iter().any(|shape| shape.is_for(value)),
        }
    }
}

fn inline(url: String, path: &Path<'_>) -> Result<Json, Refusal> {
    if url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
        return Ok(Json::Text(url));
    }
    Err(path
        .not_granted("would make the provider fetch a URL; send the content itself as a `data:` URL".into()))
}

fn list(of: &Shape, max: usize, values: Vec<Json>, path: &Path<'_>) -> Result<Json, Refusal> {
    if values.len() > max {
        return Err(path.malformed(format!("has {} entries where at most {max} are allowed", values.len())));
    }
    let rebuilt = values.into_iter().enumerate().map(|(at, value)| of.rebuild(value, &path.at(at)));
    rebuilt.collect::<Result<_, _>>().map(Json::List)
}

fn map(of: &Shape, max: usize, entries: Vec<(String, Json)>, path: &Path<'_>) -> Result<Json, Refusal> {
    if entries.len() > max {
        return Err(path.malformed(format!("has {} entries where at most {max} are allowed", entries.len())));
    }
    let rebuilt = entries.into_iter().map(|(key, value)| {
        let value = of.rebuild(value, &path.key(&key))?;
        Ok((key, value))
    });
    rebuilt.collect::<Result<_, _>>().map(Json::Object)
}

impl Tagged {
    fn rebuild(&self, entries: Vec<(String, Json)>, path: &Path<'_>) -> Result<Json, Refusal> {
        let found = entries.iter().find(|(key, _)| key == self.tag).map(|(_, value)| value);
        let word = match (found, self.absent) {
            (Some(Json::Text(word)), _) => word.as_str(),
            (None | Some(Json::Null), Some(word)) => word,
            (Some(value), _) => {
                return Err(path.key(self.tag).malformed(format!("can't be {}", value.kind())));
            }
            (None, None) => return Err(path.malformed(format!("has no `{}`", self.tag))),
        };
        match self.cases.iter().find(|(name, _)| *name == word) {
            Some((_, Case::Fields(fields))) => object(Some(self.tag), fields, entries, path),
            Some((_, Case::Refused(would))) => {
                Err(path.key(self.tag).not_granted(format!("{} {would}", shown(word))))
            }
            None => {
                Err(path.key(self.tag).not_granted(format!("the value {} is not on the list", shown(word))))
            }
        }
    }
}

fn object(
    tag: Option<&str>,
    fields: &[Field],
    entries: Vec<(String, Json)>,
    path: &Path<'_>,
) -> Result<Json, Refusal> {
    let mut rebuilt = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        if tag == Some(key.as_str()) {
            if !matches!(value, Json::Null) {
                rebuilt.push((key, value));
            }
            continue;
        }
        let here = path.key(&key);
        let Some(field) = fields.iter().find(|field| field.name == key) else {
            return Err(here.not_granted("is not on the list of fields that are passed on".to_owned()));
        };
        match (&field.rule, value) {
            (Rule::Always(value), _) => rebuilt.push((key, Json::Bool(*value))),
            (Rule::LeftOut, _) | (_, Json::Null) => {}
            (Rule::Refused(would), _) => return Err(here.not_granted((*would).to_owned())),
            (Rule::Optional(shape) | Rule::Required(shape), value) => {
                let value = shape.rebuild(value, &here)?;
                rebuilt.push((key, value));
            }
        }
    }
    for field in fields {
        let there = rebuilt.iter().any(|(key, _)| key == field.name);
        match &field.rule {
            Rule::Always(value) if !there => rebuilt.push((field.name.to_owned(), Json::Bool(*value))),
            Rule::Required(_) if !there => {
                return Err(path.malformed(format!("has no `{}`", field.name)));
            }
            Rule::Always(_) | Rule::Required(_) | Rule::Optional(_) | Rule::LeftOut | Rule::Refused(_) => {}
        }
    }
    Ok(Json::Object(rebuilt))
}

/// Where a value stands in the body. Built on the stack; written only for a refusal.
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Root,
    Key(&'a str),
    At(usize),
}

impl Path<'static> {
    /// The body itself.
    pub(super) const ROOT: Self = Self { parent: None, step: Step::Root };
}

impl<'a> Path<'a> {
    fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    fn at(&'a self, at: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::At(at) }
    }

    fn malformed(&self, why: String) -> Refusal {
        Refusal::Malformed { path: self.to_string(), why }
    }

    fn not_granted(&self, why: String) -> Refusal {
        Refusal::NotGranted { path: self.to_string(), why }
    }
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => f.write_str("$"),
            Step::Key(key)
                if key.len() <= 64 && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') =>
            {
                write!(f, ".{key}")
            }
            Step::Key(key) => write!(f, "[{}]", shown(key).trim_matches('`')),
            Step::At(at) => write!(f, "[{at}]"),
        }
    }
}
