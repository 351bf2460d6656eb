//! I-JSON (RFC 7493), strictly: no key twice, no integer that a double can't hold, bounded depth and size. Keeps the
//! order of keys, since models see it in tool schemas. Whatever JSON comes from a guest or a tool server is read here
//! first.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// How much one text of JSON may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most bytes of the text.
    pub bytes: usize,
    /// Deepest nesting of lists and objects.
    pub depth: usize,
    /// Most values, which bounds the memory that parsing takes.
    pub values: usize,
}

/// The largest integer that a double holds exactly, with all smaller ones: 2^53.
const MAX_EXACT: u64 = 1 << 53;

/// One JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without fraction and exponent, from -2^53 to 2^53.
    Integer(i64),
    /// Any other number; finite.
    Float(f64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object: its keys in the order of the text, none twice.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads exactly one value from the whole text.
    ///
    /// # Errors
    /// What is wrong and where, for people.
    pub fn parse(text: &str, bounds: Bounds) -> Result<Self, String> {
        if text.len() > bounds.bytes {
            return Err(format!("it has {} bytes where at most {} are allowed", text.len(), bounds.bytes));
        }
        let values = Cell::new(0);
        let mut reader = serde_json::Deserializer::from_str(text);
        let seed = Strict { depth: 0, values: &values, bounds };
        let value = seed.deserialize(&mut reader).map_err(|e| e.to_string())?;
        reader.end().map_err(|e| e.to_string())?;
        Ok(value)
    }

    /// The value of a key, when this is an object that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Self::Object(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            Self::Null
            | Self::Bool(_)
            | Self::Integer(_)
            | Self::Float(_)
            | Self::Text(_)
            | Self::List(_) => None,
        }
    }

    /// Sets a key of an object, in its place if it is there already. Does nothing to other values.
    pub fn set(&mut self, key: &str, value: Json) {
        if let Self::Object(entries) = self {
            match entries.iter_mut().find(|(name, _)| name == key) {
                Some((_, old)) => *old = value,
                None => entries.push((key.to_owned(), value)),
            }
        }
    }

    /// Takes a key out of an object.
    pub fn remove(&mut self, key: &str) {
        if let Self::Object(entries) = self {
            entries.retain(|(known, _)| known != key);
        }
    }

    /// What people call this kind of value.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// The text of the value, without spaces.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_unit(),
            Self::Bool(value) => to.serialize_bool(*value),
            Self::Integer(value) => to.serialize_i64(*value),
            Self::Float(value) => to.serialize_f64(*value),
            Self::Text(value) => to.serialize_str(value),
            Self::List(values) => to.collect_seq(values),
            Self::Object(entries) => {
                let mut map = to.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

/// Reads one value at a depth, counting all values of the body.
struct Strict<'a> {
    depth: usize,
    values: &'a Cell<usize>,
    bounds: Bounds,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(&self) -> Result<Strict<'_>, E> {
        let Self { depth, values, bounds } = *self;
        if depth >= bounds.depth {
            return Err(E::custom(format!("nested deeper than {} levels", bounds.depth)));
        }
        Ok(Strict { depth: depth + 1, values, bounds })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Json;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Json, D::Error> {
        let values = self.values.get() + 1;
        if values > self.bounds.values {
            return Err(D::Error::custom(format!("more than {} values", self.bounds.values)));
        }
        self.values.set(values);
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Json, E> {
        if value.unsigned_abs() > MAX_EXACT {
            return Err(E::custom(format!("the number {value} can't be held by a double")));
        }
        Ok(Json::Integer(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Json, E> {
        let inexact = || E::custom(format!("the number {value} can't be held by a double"));
        self.visit_i64(i64::try_from(value).map_err(|_| inexact())?)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = from.next_element_seed(self.deeper()?)? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut seen = std::collections::HashSet::new();
        let mut entries = Vec::new();
        while let Some(key) = from.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!(
                    "the key {} is there twice",
                    crate::model::shown(&key)
                )));
            }
            entries.push((key, from.next_value_seed(self.deeper()?)?));
        }
        Ok(Json::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 4 << 20, depth: 64, values: 500_000 };

    fn text_of(text: &str) -> Result<String, String> {
        Json::parse(text, BOUNDS).map(|value| value.to_string())
    }

    #[test]
    fn what_is_read_is_written_in_the_same_order() {
        let text = r#"{"b":[1,-2,0.5,true,null,"ü"],"a":{"z":{},"y":[]},"1":9007199254740992}"#;
        assert_eq!(text_of(text).unwrap(), text);
    }

    #[test]
    fn what_is_not_strict_i_json_is_refused() {
        let deep = format!("{}1{}", "[".repeat(BOUNDS.depth + 1), "]".repeat(BOUNDS.depth + 1));
        let many = format!("[{}0]", "0,".repeat(BOUNDS.values));
        for (bad, why) in [
            (r#"{"a":1,"a":2}"#, "twice"),
            (r#"{"a":1,"\u0061":2}"#, "twice"),
            (r#"{"x":[{"k":1,"k":1}]}"#, "twice"),
            ("9007199254740993", "double"),
            ("-9007199254740993", "double"),
            ("18446744073709551615", "double"),
            ("1e400", "out of range"),
            ("NaN", "expected"),
            ("{} {}", "trailing"),
            ("{", "EOF"),
            ("", "EOF"),
            (r#"{"a":1,}"#, "trailing comma"),
            (r#""\ud800""#, "hex escape"),
            ("'a'", "expected"),
            (&deep, "deeper"),
            (&many, "values"),
        ] {
            let refusal = text_of(bad).unwrap_err();
            assert!(refusal.contains(why), "{}: {refusal}", &bad[..bad.len().min(40)]);
        }
        assert!(text_of(&format!("\"{}\"", "a".repeat(BOUNDS.bytes))).is_err());
    }

    #[test]
    fn depth_and_size_up_to_the_limits_are_read() {
        assert!(text_of(&format!("{}1{}", "[".repeat(BOUNDS.depth), "]".repeat(BOUNDS.depth))).is_ok());
        assert!(text_of(&format!("[{}0]", "0,".repeat(BOUNDS.values - 2))).is_ok());
    }
}
