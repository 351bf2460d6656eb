//! Ranges: the numbers that a plan leaves open in the arguments of a call.

use std::collections::BTreeMap;

use domain::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use crate::canonical::{Arguments, ArgumentsError, digest_of, text};

/// From which number to which, both included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The least.
    pub from: f64,
    /// The most.
    pub to: f64,
}

/// The numbers that are left open in the arguments of a call, by their places: names and positions in lists, counted
/// from 0, joined by `/`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(try_from = "BTreeMap<String, Range>")]
pub struct Ranges(BTreeMap<String, Range>);

/// Why ranges can't be, or are not for these arguments.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RangesError {
    /// Nobody looks through more.
    #[error("a call has {0} ranges; {max} are allowed", max = Ranges::MAX)]
    TooMany(usize),
    /// No number lies in it, or no end is given.
    #[error("the range of `{0}` goes from {1} to {2}; the first must not be above the second")]
    Empty(String, f64, f64),
    /// There is nothing there to be left open.
    #[error("there is no number at `{0}` in the arguments")]
    NoNumber(String),
    /// It is left open, but not so far.
    #[error("{1} at `{0}` is not from {2} to {3}")]
    Outside(String, f64, f64, f64),
    /// A person saw what one value refers to, not what all do.
    #[error("`{0}` refers to content that people must see, so it can't be left open")]
    Refers(String),
    /// An end can't be passed on as it is.
    #[error(transparent)]
    Arguments(#[from] ArgumentsError),
}

impl TryFrom<BTreeMap<String, Range>> for Ranges {
    type Error = RangesError;

    fn try_from(ranges: BTreeMap<String, Range>) -> Result<Self, RangesError> {
        if ranges.len() > Self::MAX {
            return Err(RangesError::TooMany(ranges.len()));
        }
        let sound = |range: &Range| range.from.is_finite() && range.to.is_finite() && range.from <= range.to;
        match ranges.iter().find(|(_, range)| !sound(range)) {
            Some((place, range)) => Err(RangesError::Empty(place.clone(), range.from, range.to)),
            None => Ok(Self(ranges)),
        }
    }
}

impl Ranges {
    /// Most ranges of one call.
    pub const MAX: usize = 8;

    /// Whether nothing is left open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each place with its range.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Range)> {
        self.0.iter().map(|(place, range)| (place.as_str(), *range))
    }

    /// The arguments with each open number at its least, and at its most.
    ///
    /// # Errors
    /// The arguments have no number there, or one outside of its range.
    pub fn ends(&self, arguments: &Arguments) -> Result<[Arguments; 2], RangesError> {
        let at_end = |end: fn(Range) -> f64| {
            let put = |range: Range| Number::from_f64(end(range)).map_or(Value::Null, Value::Number);
            Ok::<_, RangesError>(Arguments::new(&Value::Object(self.replaced(arguments, put)?))?)
        };
        Ok([at_end(|range| range.from)?, at_end(|range| range.to)?])
    }

    /// The digest of the arguments, but for the open numbers, and of how far these are open.
    ///
    /// # Errors
    /// The arguments have no number there, or one outside of its range.
    pub(crate) fn digest(&self, arguments: &Arguments) -> Result<Digest, RangesError> {
        let fixed = Value::Object(self.replaced(arguments, |_| Value::Null)?);
        let ranges = serde_json::to_value(&self.0).map_err(|e| ArgumentsError::NoForm(e.to_string()))?;
        Ok(digest_of(&[text(&fixed)?.as_bytes(), text(&ranges)?.as_bytes()]))
    }

    fn replaced(
        &self,
        arguments: &Arguments,
        with: impl Fn(Range) -> Value,
    ) -> Result<Map<String, Value>, RangesError> {
        let mut replaced = arguments.value().clone();
        for (place, range) in self.iter() {
            let none = || RangesError::NoNumber(place.to_owned());
            let value = at(&mut replaced, place).ok_or_else(none)?;
            let number = value.as_f64().ok_or_else(none)?;
            if !(range.from..=range.to).contains(&number) {
                return Err(RangesError::Outside(place.to_owned(), number, range.from, range.to));
            }
            *value = with(range);
        }
        Ok(replaced)
    }
}

/// The place as tables have it: `*` for each element of a list.
pub(crate) fn in_lists(place: &str) -> String {
    let part = |part: &str| if part.parse::<usize>().is_ok() { "*" } else { part }.to_owned();
    place.split('/').map(part).collect::<Vec<_>>().join("/")
}

fn at<'v>(arguments: &'v mut Map<String, Value>, place: &str) -> Option<&'v mut Value> {
    let mut parts = place.split('/');
    let first = arguments.get_mut(parts.next()?)?;
    parts.try_fold(first, |value, part| match value {
        Value::Object(entries) => entries.get_mut(part),
        Value::Array(items) => items.get_mut(part.parse::<usize>().ok()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}
