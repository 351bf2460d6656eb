//! Secrets, as the API shows and takes them. Their bytes only ever go in.

use std::fmt;

use domain::{SecretBinding, SecretName};
use secrecy::zeroize::Zeroizing;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// The bytes of a secret on their way to the vault. They can't be printed, and are wiped when they are let go.
pub struct SecretText(pub Zeroizing<String>);

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = SecretText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the text of a secret")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretText, E> {
                Ok(SecretText(Zeroizing::new(text.to_owned())))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<SecretText, E> {
                Ok(SecretText(Zeroizing::new(text)))
            }
        }
        deserializer.deserialize_string(Text)
    }
}

/// A secret to store.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSecret {
    /// Its bytes.
    pub value: SecretText,
    /// Where it may go, and how.
    pub bindings: Vec<SecretBinding>,
}

/// New bytes for a secret; where it may go stays.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// The bytes.
    pub value: SecretText,
}

/// What may be told of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretView {
    /// Its name.
    pub name: SecretName,
    /// Where it may go, and how.
    pub bindings: Vec<SecretBinding>,
    /// When it was set, in milliseconds since 1970.
    pub set: u64,
    /// When its bytes were last changed.
    pub rotated: u64,
}
