//! Secrets, as the API shows and takes them. Their bytes only ever go in.

use std::fmt;

use domain::{SecretBinding, SecretName, Subscription};
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
    /// The log-in that it comes of, if it comes of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginView>,
}

/// What may be told of a log-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginView {
    /// Who gave the token.
    pub issuer: String,
    /// To which client.
    pub client: String,
    /// What it allows, as far as is known.
    pub scopes: Vec<String>,
    /// Until when it is good, in milliseconds since 1970, as far as is known.
    pub expires: Option<u64>,
    /// Whether it is renewed by itself.
    pub renews: bool,
}

/// What became of the log-in that a removed or replaced secret came of, at who gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Revocation {
    /// Nothing: it came of none, or what takes its place may be of the same.
    None,
    /// Its tokens are worth nothing any more.
    Done {
        /// Who gave it.
        issuer: String,
        /// Other secrets that come of log-ins of the same client there. Some servers forget all that they gave to a client
        /// when they are told to forget one of it.
        beside: Vec<SecretName>,
    },
    /// Its tokens may be good for who has a copy.
    Failed {
        /// Who gave it.
        issuer: String,
        /// What went wrong.
        why: String,
    },
}

/// A log-in that gives a secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// Where it begins.
    pub at: LoginAt,
    /// How.
    pub way: LoginWay,
    /// The client's name there; none: it is registered, where that is offered.
    pub client: Option<String>,
    /// The client's secret there.
    pub client_secret: Option<SecretText>,
    /// What the token shall allow; empty: what the server asks for.
    pub scopes: Vec<String>,
    /// Where the token may go, and how.
    pub bindings: Vec<SecretBinding>,
    /// Hosts that may take part beside where it begins: the person was told of them, and said yes.
    #[serde(default)]
    pub trust: Vec<String>,
}

/// How a log-in ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginEnd {
    /// The token is stored.
    Stored {
        /// What became of the log-in that was there before.
        before: Revocation,
    },
    /// It has not begun: others than the person named would take part, and a person must say yes to each.
    Asks {
        /// Where it would begin.
        began: String,
        /// Who would take part.
        parties: Vec<LoginParty>,
    },
    /// It has not begun: it takes a refresh token that the person has.
    WantsToken,
}

/// A host that would take part in a log-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginParty {
    /// Scheme, host and port.
    pub origin: String,
    /// What it would do.
    pub does: String,
}

/// What a person pastes to end a log-in.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasteRequest {
    /// The code that a page showed, or the address that the browser was sent to.
    pub text: SecretText,
}

/// Where a log-in begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginAt {
    /// At a tool server, which says who gives tokens for it.
    Server(String),
    /// At an authorization server.
    Issuer(String),
    /// At a token endpoint, for who has a refresh token already.
    Token(String),
    /// At the vendor of a subscription, who is asked as its own programs ask, and to whom alone the token goes.
    Subscription(Subscription),
    /// Where the secret's log-in began before: all but the way is as it was.
    Again,
}

/// How a log-in goes.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginWay {
    /// In a browser on this machine.
    Browser,
    /// In a browser on any machine; what it ends with comes as a [`PasteRequest`].
    Paste,
    /// In a browser on any machine, with a code to type there.
    Device,
    /// It was done elsewhere, and gave this refresh token.
    Had(SecretText),
}
