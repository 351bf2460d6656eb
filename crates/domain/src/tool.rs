//! Tools: how they are named, and how patterns name several of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{NameError, ServerName};

/// Why a text names no tool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolNameError {
    /// Empty, or longer than the protocol recommends.
    #[error("a tool's name has 1 to {max} characters, this one has {found}", max = ToolName::MAX)]
    Length {
        /// Characters found.
        found: usize,
    },
    /// A character that could be mistaken for another, or that harnesses can't pass on.
    #[error("`{}` can't be in a tool's name: use A to Z, a to z, 0 to 9, `_` and `-`", .found.escape_default())]
    BadCharacter {
        /// The first offending character.
        found: char,
    },
    /// A full name without its two parts.
    #[error("`{0}` is not a tool's full name: write SERVER__TOOL, such as mail__read")]
    NotFull(String),
    /// The server's part.
    #[error("the server's name: {0}")]
    Server(#[from] NameError),
}

/// A tool's name as its server gives it: 1 to 64 of `A-Z a-z 0-9 _ -`. MCP allows a few more; model providers don't,
/// and look-alike letters are refused with them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ToolName(String);

impl ToolName {
    /// Most characters.
    pub const MAX: usize = 64;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ToolName {
    type Error = ToolNameError;
    fn try_from(text: String) -> Result<Self, ToolNameError> {
        let found = text.chars().count();
        if found == 0 || found > Self::MAX {
            return Err(ToolNameError::Length { found });
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "_-".contains(*c))) {
            Some(found) => Err(ToolNameError::BadCharacter { found }),
            None => Ok(Self(text)),
        }
    }
}

impl FromStr for ToolName {
    type Err = ToolNameError;
    fn from_str(text: &str) -> Result<Self, ToolNameError> {
        Self::try_from(text.to_owned())
    }
}

impl From<ToolName> for String {
    fn from(name: ToolName) -> Self {
        name.0
    }
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tool of a server. Its full name, as agents see it, is `SERVER__TOOL`: a server's name has no underscore, so no
/// two tools share a full name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ToolRef {
    /// The server.
    pub server: ServerName,
    /// The tool.
    pub tool: ToolName,
}

impl FromStr for ToolRef {
    type Err = ToolNameError;
    fn from_str(text: &str) -> Result<Self, ToolNameError> {
        let not_full = || ToolNameError::NotFull(text.chars().take(80).collect());
        let (server, tool) = text.split_once("__").ok_or_else(not_full)?;
        Ok(Self { server: server.parse()?, tool: tool.parse()? })
    }
}

impl TryFrom<String> for ToolRef {
    type Error = ToolNameError;
    fn try_from(text: String) -> Result<Self, ToolNameError> {
        text.parse()
    }
}

impl From<ToolRef> for String {
    fn from(tool: ToolRef) -> Self {
        tool.to_string()
    }
}

impl fmt::Display for ToolRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}__{}", self.server, self.tool)
    }
}

/// Names tools of one server: a tool's name in which each `*` stands for any number of characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ToolPattern(String);

impl ToolPattern {
    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names this tool.
    #[must_use]
    pub fn names(&self, tool: &ToolName) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| tool.as_str().strip_prefix(first)) else {
            return false;
        };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            let Some((_, after)) = rest.split_once(part) else { return false };
            rest = after;
        }
        true
    }
}

impl TryFrom<String> for ToolPattern {
    type Error = ToolNameError;
    fn try_from(text: String) -> Result<Self, ToolNameError> {
        let found = text.chars().count();
        if found == 0 || found > ToolName::MAX {
            return Err(ToolNameError::Length { found });
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "_-*".contains(*c))) {
            Some(found) => Err(ToolNameError::BadCharacter { found }),
            None => Ok(Self(text)),
        }
    }
}

impl FromStr for ToolPattern {
    type Err = ToolNameError;
    fn from_str(text: &str) -> Result<Self, ToolNameError> {
        Self::try_from(text.to_owned())
    }
}

impl From<ToolPattern> for String {
    fn from(pattern: ToolPattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for ToolPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_name_has_one_reading() {
        let tool: ToolRef = "mail__read__all".parse().unwrap();
        assert_eq!((tool.server.as_str(), tool.tool.as_str()), ("mail", "read__all"));
        assert_eq!(tool.to_string(), "mail__read__all");
        for bad in
            ["mail", "mail_read", "__x", "mail__", "Mail__x", "mail__r\u{0435}ad", "mail__a.b", "m__a b"]
        {
            assert!(bad.parse::<ToolRef>().is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_name_what_they_say() {
        for (pattern, tool, named) in [
            ("read_*", "read_mail", true),
            ("read_*", "read_", true),
            ("read_*", "xread_mail", false),
            ("read", "read", true),
            ("read", "reader", false),
            ("*", "anything", true),
            ("*_mail", "read_mail", true),
            ("*_mail", "read_mail_", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("a*b*b", "ab", false),
        ] {
            let pattern: ToolPattern = pattern.parse().unwrap();
            assert_eq!(pattern.names(&tool.parse().unwrap()), named, "{pattern} {tool}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_without_star_names_only_itself(a in "[a-z_]{1,8}", b in "[a-z_]{1,8}") {
            let pattern: ToolPattern = a.parse().unwrap();
            prop_assert_eq!(pattern.names(&b.parse().unwrap()), a == b);
        }
    }
}
