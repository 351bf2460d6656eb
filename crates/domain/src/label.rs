//! Labels: what a session has been exposed to. They only ever rise (more confidential, less trusted) by joining.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::TeamName;

/// How confidential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidentiality {
    /// Anybody may know it.
    #[default]
    Public,
    /// The organisation's, of no great harm.
    Internal,
    /// Harmful outside: mail, customers, source code.
    Confidential,
    /// Harmful even inside: credentials, salaries.
    Secret,
}

/// Whose words, from the most to the least trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Integrity {
    /// The person's who uses the agent.
    #[default]
    Person,
    /// The organisation's own records.
    Organisation,
    /// Somebody's whom the organisation knows, such as a supplier's API.
    ThirdParty,
    /// Anybody's: web pages, mail, whatever a stranger can write into.
    Web,
}

/// The text names no such level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no level: they are {known}")]
pub struct LevelError {
    found: String,
    known: &'static str,
}

macro_rules! level {
    ($name:ident, $known:literal, $($level:ident = $text:literal),+) => {
        impl $name {
            /// Its name in tables and policies.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$level => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = LevelError;
            fn from_str(text: &str) -> Result<Self, LevelError> {
                match text {
                    $($text => Ok(Self::$level),)+
                    _ => Err(LevelError { found: text.chars().take(40).collect(), known: $known }),
                }
            }
        }
    };
}

level!(
    Confidentiality,
    "public, internal, confidential and secret",
    Public = "public",
    Internal = "internal",
    Confidential = "confidential",
    Secret = "secret"
);
level!(
    Integrity,
    "person, organisation, third-party and web",
    Person = "person",
    Organisation = "organisation",
    ThirdParty = "third-party",
    Web = "web"
);

/// The labels of a session, or of whatever keeps bytes. The least are a new session's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// The most confidential that it holds.
    #[serde(default)]
    pub confidentiality: Confidentiality,
    /// The teams whose data it holds.
    #[serde(default)]
    pub compartments: BTreeSet<TeamName>,
    /// The least trusted that it holds.
    #[serde(default)]
    pub integrity: Integrity,
}

impl Labels {
    /// The labels of what holds both.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Self {
            confidentiality: self.confidentiality.max(other.confidentiality),
            compartments: self.compartments.union(&other.compartments).cloned().collect(),
            integrity: self.integrity.max(other.integrity),
        }
    }

    /// Whether nothing here is above the ceiling: joining it to the ceiling would change nothing.
    #[must_use]
    pub fn within(&self, ceiling: &Self) -> bool {
        self.confidentiality <= ceiling.confidentiality
            && self.integrity <= ceiling.integrity
            && self.compartments.is_subset(&ceiling.compartments)
    }

    /// Whether a stranger's text may be among it.
    #[must_use]
    pub fn met_strangers(&self) -> bool {
        self.integrity >= Integrity::ThirdParty
    }

    /// Whether it holds what must not leave.
    #[must_use]
    pub fn holds_confidential(&self) -> bool {
        self.confidentiality >= Confidentiality::Confidential
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.confidentiality, self.integrity)?;
        for team in &self.compartments {
            write!(f, ", team {team}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn labels() -> impl Strategy<Value = Labels> {
        (0_u8..4, 0_u8..4, prop::collection::btree_set("[a-c]", 0..3)).prop_map(|(c, i, teams)| Labels {
            confidentiality: [
                Confidentiality::Public,
                Confidentiality::Internal,
                Confidentiality::Confidential,
                Confidentiality::Secret,
            ][usize::from(c)],
            compartments: teams.iter().map(|team| team.parse().unwrap()).collect(),
            integrity: [Integrity::Person, Integrity::Organisation, Integrity::ThirdParty, Integrity::Web]
                [usize::from(i)],
        })
    }

    proptest! {
        #[test]
        fn joining_only_raises_and_knows_no_order(a in labels(), b in labels(), c in labels()) {
            prop_assert!(a.within(&a.join(&b)) && b.within(&a.join(&b)));
            prop_assert_eq!(a.join(&b), b.join(&a));
            prop_assert_eq!(a.join(&b).join(&c), a.join(&b.join(&c)));
            prop_assert_eq!(a.join(&a), a.clone());
            prop_assert_eq!(a.within(&b), a.join(&b) == b);
            prop_assert_eq!(a.join(&Labels::default()), a);
        }
    }
}
