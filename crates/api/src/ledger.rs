//! The ledger, as the API shows it.

use domain::{AgentName, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most entries in one answer. It has fewer where they are large, but one at least.
pub const MAX_ENTRIES: u32 = 1000;

/// Most bytes of an answer with entries: the largest has 4 MiB sealed, and of some bytes JSON makes six.
pub const MAX_LEDGER: usize = 32 << 20;

/// Which entries are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerQuery {
    /// How many, the newest; or from the start if `after` is given.
    pub count: u32,
    /// Only those after this number.
    #[serde(default)]
    pub after: Option<u64>,
    /// Or only those before this number, the newest of them.
    #[serde(default)]
    pub before: Option<u64>,
    /// Of this agent only.
    #[serde(default)]
    pub agent: Option<AgentName>,
    /// Of this session only.
    #[serde(default)]
    pub session: Option<SessionId>,
    /// Of this kind only, such as `asked`.
    #[serde(default)]
    pub kind: Option<String>,
}

/// One entry, as the ledger spells it: `seq`, `at`, `about`, `event`, its sealed part where that can be opened, `hash`
/// and `signature`.
pub type LedgerEntry = Value;

/// A person wants what is sealed in an entry made unreadable for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EraseRequest {
    /// The entry's number.
    pub seq: u64,
    /// Why, for the ledger: at most [`crate::MAX_WHY`] bytes.
    pub why: String,
}

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerVerdict {
    /// How many entries there are.
    pub entries: u64,
    /// How many of them were erased in part.
    pub erased: u64,
    /// The newest entry, to verify against later; none of an empty ledger.
    pub head: Option<Value>,
    /// The first entry that is not as it was written, and how; none of a sound ledger.
    pub fault: Option<String>,
    /// The public key that signs, as hex digits.
    pub key: String,
}
