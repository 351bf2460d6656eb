//! The one form of a call's arguments: canonical JSON (RFC 8785), which is what is decided, shown, recorded and executed.

use std::fmt::Write as _;

use domain::Digest;
use serde_json::{Map, Number, Value};
use sha2::{Digest as _, Sha256};

/// The arguments of one call, in their one form.
///
/// The reader of the bytes that came from the guest must refuse what a JSON value no longer shows: a key that occurs
/// twice, and a number in decimals that no double holds. All else is checked here.
#[derive(Debug, Clone, PartialEq)]
pub struct Arguments {
    value: Map<String, Value>,
    text: String,
    digest: Digest,
}

/// Why a value can't be a call's arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentsError {
    /// Arguments are an object.
    #[error("the arguments are {0}; they must be an object")]
    NotAnObject(&'static str),
    /// Too deeply nested.
    #[error("the arguments are nested more than {} deep", Arguments::MAX_DEPTH)]
    TooDeep,
    /// Too many values.
    #[error("the arguments hold more than {} values", Arguments::MAX_VALUES)]
    TooMany,
    /// Too long in their canonical form.
    #[error("the arguments have {0} bytes; {max} are allowed", max = Arguments::MAX_BYTES)]
    TooLong(usize),
    /// A number that a double doesn't hold exactly (RFC 7493, section 2.2).
    #[error("the number {0} can't be passed on exactly; write it as a text")]
    Inexact(String),
    /// The value has no canonical form.
    #[error("the arguments have no canonical form: {0}")]
    NoForm(String),
}

impl Arguments {
    /// Deepest nesting of lists and objects, the object itself included.
    pub const MAX_DEPTH: usize = 32;
    /// Most values, counted with keys.
    pub const MAX_VALUES: usize = 10_000;
    /// Most bytes of the canonical form.
    pub const MAX_BYTES: usize = 1 << 20;

    /// The one form of these arguments.
    ///
    /// # Errors
    /// Why they have none.
    pub fn new(value: &Value) -> Result<Self, ArgumentsError> {
        if !value.is_object() {
            return Err(ArgumentsError::NotAnObject(kind(value)));
        }
        check(value, 1, &mut 0)?;
        let text = text(value)?;
        if text.len() > Self::MAX_BYTES {
            return Err(ArgumentsError::TooLong(text.len()));
        }
        // What is decided on is read back from what will be executed.
        let value = serde_json::from_str(&text).map_err(|e| ArgumentsError::NoForm(e.to_string()))?;
        let digest = digest_of(&[text.as_bytes()]);
        Ok(Self { value, text, digest })
    }

    /// Their canonical form: what is executed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The digest of the canonical form.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The arguments as a value, read back from the canonical form.
    #[must_use]
    pub fn value(&self) -> &Map<String, Value> {
        &self.value
    }
}

/// The canonical text of any JSON value.
pub(crate) fn text(value: &Value) -> Result<String, ArgumentsError> {
    serde_json_canonicalizer::to_string(value).map_err(|e| ArgumentsError::NoForm(e.to_string()))
}

/// SHA-256 over parts, each with its length before it, so that no two lists of parts share a digest.
pub(crate) fn digest_of(parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Digest::from_bytes(hash.finalize().into())
}

/// What people call this kind of value.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A text as it may be shown: what can't be seen, or changes the direction of reading, is written out.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || c == '\t' || !(c.is_control() || crate::origins::is_invisible(c)) {
            shown.push(c);
        } else if write!(shown, "\\u{{{:x}}}", u32::from(c)).is_err() {
            return shown;
        }
    }
    shown
}

fn check(value: &Value, depth: usize, values: &mut usize) -> Result<(), ArgumentsError> {
    if depth > Arguments::MAX_DEPTH {
        return Err(ArgumentsError::TooDeep);
    }
    *values = values.saturating_add(1);
    if *values > Arguments::MAX_VALUES {
        return Err(ArgumentsError::TooMany);
    }
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
        Value::Number(number) if exact(number) => Ok(()),
        Value::Number(number) => Err(ArgumentsError::Inexact(number.to_string())),
        Value::Array(items) => items.iter().try_for_each(|item| check(item, depth.saturating_add(1), values)),
        Value::Object(entries) => {
            entries.values().try_for_each(|item| check(item, depth.saturating_add(1), values))
        }
    }
}

/// Whether a double holds the number, and its canonical form reads back as the same number.
fn exact(number: &Number) -> bool {
    const MOST: u64 = (1 << 53) - 1;
    match (number.as_u64(), number.as_i64(), number.as_f64()) {
        (Some(n), _, _) => n <= MOST,
        (None, Some(n), _) => n.unsigned_abs() <= MOST,
        (None, None, Some(n)) => n.is_finite() && (n.fract() != 0.0 || n.abs() <= MOST as f64),
        (None, None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_have_one_form() {
        let one = Arguments::new(&json!({"b": 10.0, "a": [1, "x"], "c": -0.0})).unwrap();
        let other = Arguments::new(&json!({"a": [1.0, "x"], "c": 0, "b": 10})).unwrap();
        assert_eq!(one, other);
        assert_eq!(one.text(), r#"{"a":[1,"x"],"b":10,"c":0}"#);
    }

    #[test]
    fn what_has_no_exact_form_is_refused() {
        let nested = (0..Arguments::MAX_DEPTH).fold(json!(1), |inner, _| json!([inner]));
        for (value, error) in [
            (json!([]), ArgumentsError::NotAnObject("a list")),
            (json!({"a": 9_007_199_254_740_993_u64}), ArgumentsError::Inexact("9007199254740993".to_owned())),
            (
                json!({"a": -9_007_199_254_740_993_i64}),
                ArgumentsError::Inexact("-9007199254740993".to_owned()),
            ),
            (json!({"a": nested}), ArgumentsError::TooDeep),
            (json!({"a": vec![0; Arguments::MAX_VALUES]}), ArgumentsError::TooMany),
            (
                json!({"a": "x".repeat(Arguments::MAX_BYTES)}),
                ArgumentsError::TooLong(Arguments::MAX_BYTES + 8),
            ),
        ] {
            assert_eq!(Arguments::new(&value), Err(error));
        }
        assert!(matches!(Arguments::new(&json!({"a": 1e300})), Err(ArgumentsError::Inexact(_))));
    }

    #[test]
    fn what_cant_be_seen_is_shown_written_out() {
        assert_eq!(shown("a\u{202e}b\u{200b}c\u{7}\n"), "a\\u{202e}b\\u{200b}c\\u{7}\n");
    }

    proptest! {
        #[test]
        fn the_form_reads_back_as_itself(a in any::<i32>(), b in "\\PC{0,12}", c in any::<f32>()) {
            let value = json!({"a": a, "b": b, "c": f64::from(c)});
            if let Ok(one) = Arguments::new(&value) {
                let again = Arguments::new(&Value::Object(one.value().clone())).unwrap();
                prop_assert_eq!(one, again);
            }
        }
    }
}
