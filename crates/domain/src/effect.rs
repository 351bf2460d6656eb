//! Effects: what kind of thing a tool does. A tool has a set of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One kind of effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// It reads.
    Read,
    /// It changes what can be changed back.
    Write,
    /// It changes what can't be changed back.
    Irreversible,
    /// Something leaves the organisation, a query too.
    Communicate,
    /// It makes something run.
    Execute,
    /// It hands work to another agent.
    Delegate,
}

impl Effect {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Write, Self::Irreversible, Self::Communicate, Self::Execute, Self::Delegate];

    /// Its name in tables and policies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Irreversible => "irreversible",
            Self::Communicate => "communicate",
            Self::Execute => "execute",
            Self::Delegate => "delegate",
        }
    }

    fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no effect: they are read, write, irreversible, communicate, execute and delegate")]
pub struct EffectError(String);

impl FromStr for Effect {
    type Err = EffectError;
    fn from_str(text: &str) -> Result<Self, EffectError> {
        let known = Self::ALL.into_iter().find(|effect| effect.as_str() == text);
        known.ok_or_else(|| EffectError(text.chars().take(40).collect()))
    }
}

/// A set of effects, never empty: a tool of which nothing is known is irreversible and communicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<Effect>", into = "Vec<Effect>")]
pub struct Effects(u8);

impl Effects {
    /// What is assumed of a tool that nobody has classified.
    pub const UNKNOWN: Self = Self(0b1100);

    /// The set of these; none if there are none.
    #[must_use]
    pub fn of(effects: &[Effect]) -> Option<Self> {
        match effects.iter().fold(0, |bits, effect| bits | effect.bit()) {
            0 => None,
            bits => Some(Self(bits)),
        }
    }

    /// Whether it has this effect.
    #[must_use]
    pub fn has(self, effect: Effect) -> bool {
        self.0 & effect.bit() != 0
    }

    /// Whether it does nothing but read.
    #[must_use]
    pub fn only_reads(self) -> bool {
        self.0 == Effect::Read.bit()
    }

    /// Whether all that it does can be undone, and nothing leaves or runs.
    #[must_use]
    pub fn can_be_undone(self) -> bool {
        self.0 & !(Effect::Read.bit() | Effect::Write.bit()) == 0
    }

    /// The effects of both: what a server says of itself may only make a tool stricter.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Its members, in the order of [`Effect::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Effect> {
        Effect::ALL.into_iter().filter(move |effect| self.has(*effect))
    }
}

impl fmt::Display for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Effect::as_str).collect();
        f.write_str(&names.join(" + "))
    }
}

/// A set of effects can't be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tool has at least one effect: one that only reads has `read`")]
pub struct NoEffect;

impl TryFrom<Vec<Effect>> for Effects {
    type Error = NoEffect;
    fn try_from(effects: Vec<Effect>) -> Result<Self, NoEffect> {
        Self::of(&effects).ok_or(NoEffect)
    }
}

impl From<Effects> for Vec<Effect> {
    fn from(effects: Effects) -> Self {
        effects.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_know_their_members() {
        assert!(Effects::of(&[]).is_none());
        let set = Effects::of(&[Effect::Communicate, Effect::Read]).unwrap();
        assert_eq!(set.to_string(), "read + communicate");
        assert!(!set.only_reads() && !set.can_be_undone());
        assert_eq!(Effects::UNKNOWN.to_string(), "irreversible + communicate");
        assert!(Effects::of(&[Effect::Read, Effect::Write]).unwrap().can_be_undone());
        assert!("Read".parse::<Effect>().is_err());
        for effect in Effect::ALL {
            assert_eq!(effect.as_str().parse(), Ok(effect));
        }
    }
}
