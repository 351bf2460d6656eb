//! Names that people choose: of agents, teams, tool servers, people, groups, secrets and images.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name can't be empty")]
    Empty,
    /// The text is longer than a name may be.
    #[error("a name has at most {max} characters, this one has {found}")]
    TooLong {
        /// Most characters allowed.
        max: usize,
        /// Characters found.
        found: usize,
    },
    /// A character that names don't have.
    #[error("`{found}` can't be in a name: use a to z, 0 to 9 and `-`, starting with a letter")]
    BadCharacter {
        /// The first offending character.
        found: char,
    },
    /// A character that image references don't have.
    #[error("`{found}` can't be in an image's name: write one such as base or registry.example/repo:tag")]
    BadImageCharacter {
        /// The first offending character.
        found: char,
    },
}

/// Most characters in a name: what a DNS label and a Unix host name allow (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 63;

fn check_label(text: &str) -> Result<(), NameError> {
    let found = text.chars().count();
    if found == 0 {
        return Err(NameError::Empty);
    }
    if found > MAX_NAME {
        return Err(NameError::TooLong { max: MAX_NAME, found });
    }
    for (at, c) in text.chars().enumerate() {
        let ok = c.is_ascii_lowercase() || (at > 0 && (c.is_ascii_digit() || c == '-'));
        if !ok {
            return Err(NameError::BadCharacter { found: c });
        }
    }
    Ok(())
}

macro_rules! label_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                check_label(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                check_label(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

label_name! {
    /// The name of an agent: `a-z`, `0-9` and `-`, at most 63 characters, starting with a letter.
    AgentName
}

label_name! {
    /// The name of a team, under the same rule as an agent's name.
    TeamName
}

label_name! {
    /// The name of a tool server, under the same rule as an agent's name.
    ServerName
}

label_name! {
    /// The name of a person of this installation, under the same rule as an agent's name.
    PersonName
}

label_name! {
    /// The name of a group of people, under the same rule as an agent's name.
    GroupName
}

label_name! {
    /// The name of a secret, under the same rule as an agent's name.
    SecretName
}

/// Which image a cell runs: a name that is reserved and built here (`base`, `claude-code`, `codex`, `npm:NAME@VERSION`,
/// `pypi:NAME==VERSION`), or an OCI reference (`registry.example/repo:tag`, `…@sha256:…`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName(String);

impl ImageName {
    /// Most bytes in an image's name.
    pub const MAX: usize = 512;

    /// The images that Lazaret builds itself.
    pub const RESERVED: [&'static str; 3] = ["base", "claude-code", "codex"];

    /// How the name of an npm package's image begins: `npm:NAME@VERSION`.
    pub const NPM: &'static str = "npm:";

    /// How the name of a PyPI package's image begins: `pypi:NAME==VERSION`.
    pub const PYPI: &'static str = "pypi:";

    /// The image an agent runs when its file names none.
    #[must_use]
    pub fn base() -> Self {
        Self("base".to_owned())
    }

    /// The image of the harness `claude-code`.
    #[must_use]
    pub fn claude_code() -> Self {
        Self("claude-code".to_owned())
    }

    /// The image of the harness `codex`.
    #[must_use]
    pub fn codex() -> Self {
        Self("codex".to_owned())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is one that Lazaret builds: one of [`Self::RESERVED`], or a package.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        Self::RESERVED.contains(&self.0.as_str())
            || [Self::NPM, Self::PYPI].iter().any(|kind| self.0.starts_with(kind))
    }
}

impl std::str::FromStr for ImageName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for ImageName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > Self::MAX {
            return Err(NameError::TooLong { max: Self::MAX, found: text.len() });
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "-._/:@+=".contains(*c))) {
            Some(found) => Err(NameError::BadImageCharacter { found }),
            None => Ok(Self(text)),
        }
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> String {
        name.0
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_could_be_paths_or_options_are_refused() {
        for bad in ["", "..", "a/b", "-a", "1a", "A", "a b", "a\n", "é", "a.b", &"a".repeat(64)] {
            assert!(bad.parse::<AgentName>().is_err(), "{bad:?}");
        }
        for good in ["a", "mail-clerk", "x9", &"a".repeat(63)] {
            assert!(good.parse::<AgentName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn names_of_packages_are_reserved() {
        for name in ["base", "npm:@acme/tool@1.0.0", "pypi:mcp-server-time==2026.10.19", "pypi:anything"] {
            assert!(name.parse::<ImageName>().unwrap().is_reserved(), "{name}");
        }
        for name in ["pypi/tool:1", "registry.example/npm:1", "bases"] {
            assert!(!name.parse::<ImageName>().unwrap().is_reserved(), "{name}");
        }
        assert!("pypi:x[extra]==1".parse::<ImageName>().is_err());
    }

    proptest! {
        #[test]
        fn a_name_reads_back_as_it_was_written(text in "\\PC{0,80}") {
            if let Ok(name) = text.parse::<AgentName>() {
                prop_assert_eq!(name.as_str(), text.as_str());
                prop_assert!(!text.contains(['/', '.', '\0', ' ']));
            }
        }
    }
}
