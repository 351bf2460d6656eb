//! Origins: where a value in a call's arguments came from.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a value came from, from the best to the worst. The gateway knows it by what it has seen itself; of a value
/// with several origins the best counts, and a value that was seen nowhere is a stranger's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The person typed it.
    Person,
    /// A source that the person named, such as the file or the mail that the prompt is about.
    Named(String),
    /// The organisation's own records, such as its address book: which tool told it.
    Organisation(String),
    /// A stranger's text: which tool told it.
    Stranger(String),
    /// Nobody is known to have said it: the agent may have made it up, or been told it where the gateway can't see.
    Unknown,
}

impl Origin {
    /// Whether a sensitive argument may have it without a question.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        match self {
            Self::Person | Self::Named(_) | Self::Organisation(_) => true,
            Self::Stranger(_) | Self::Unknown => false,
        }
    }

    /// Its kind, as policies name it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Named(_) => "named",
            Self::Organisation(_) => "organisation",
            Self::Stranger(_) => "stranger",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person => f.write_str("the person's own words"),
            Self::Named(source) => write!(f, "{source}, which the person named"),
            Self::Organisation(source) => write!(f, "the organisation's records ({source})"),
            Self::Stranger(source) => write!(f, "a stranger's text ({source})"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}
