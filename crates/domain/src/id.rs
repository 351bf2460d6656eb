//! Ids that the daemon hands out. Time and randomness are the caller's, so tests are exact.

use std::fmt;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// The text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: an id has 26 letters and digits, such as 01arz3ndektsv4rrffq69g5fav")]
pub struct IdError(String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Ulid);

        impl $name {
            /// An id of the given time (milliseconds since 1970) and 80 random bits (the rest is ignored).
            #[must_use]
            pub fn from_parts(unix_millis: u64, random: u128) -> Self {
                Self(Ulid::from_parts(unix_millis, random))
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Ulid::from_string(&text.to_ascii_uppercase())
                    .map(Self)
                    .map_err(|_| IdError(text.chars().take(40).collect()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0.to_string().to_ascii_lowercase())
            }
        }
    };
}

id! {
    /// One conversation of an agent. A ULID in lower case: sorts by time.
    SessionId
}

id! {
    /// One cell: the micro VM and container that a session runs in. A ULID in lower case.
    CellId
}

id! {
    /// One question to people, and their answer. A ULID in lower case: sorts by time.
    ApprovalId
}

id! {
    /// One act, from the moment it is committed to. A ULID in lower case: sorts by time.
    CommitId
}

id! {
    /// One right that an approval left behind: for a session, or for a call of a plan. A ULID in lower case.
    GrantId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_sorts_by_time() {
        let early = SessionId::from_parts(1, u128::MAX >> 48);
        let late = SessionId::from_parts(2, 0);
        assert!(early < late);
        assert_eq!(early.to_string().parse(), Ok(early));
        assert!("../../etc/passwd".parse::<SessionId>().is_err());
        assert!("".parse::<SessionId>().is_err());
    }
}
