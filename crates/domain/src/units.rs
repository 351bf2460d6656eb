//! Quantities with their units in the type: sizes in bytes, spans of time, money.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// No number at the start.
    #[error("`{0}` doesn't start with a whole number")]
    NoNumber(String),
    /// A unit that isn't one of those allowed.
    #[error("`{found}` is not a unit here: use {allowed}")]
    BadUnit {
        /// The unit found.
        found: String,
        /// The units allowed, for people.
        allowed: &'static str,
    },
    /// The number is too large to hold.
    #[error("`{0}` is too large")]
    TooLarge(String),
}

/// A number of bytes, written `512MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(u64);

impl ByteSize {
    /// So many bytes.
    #[must_use]
    pub const fn bytes(n: u64) -> Self {
        Self(n)
    }

    /// So many times 1024 × 1024 bytes; the largest size where that overflows.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 20))
    }

    /// The size in bytes.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The size in whole MiB, rounded up.
    #[must_use]
    pub const fn as_mib(self) -> u64 {
        self.0.div_ceil(1 << 20)
    }
}

const BYTE_UNITS: &[(&str, u64)] =
    &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

impl std::str::FromStr for ByteSize {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split_number(text)?;
        let (_, factor) = BYTE_UNITS.iter().find(|(name, _)| *name == unit).ok_or(UnitError::BadUnit {
            found: unit.chars().take(20).collect(),
            allowed: "B, KiB, MiB, GiB or TiB",
        })?;
        number
            .checked_mul(*factor)
            .map(Self)
            .ok_or_else(|| UnitError::TooLarge(text.chars().take(40).collect()))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = BYTE_UNITS
            .iter()
            .rev()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor))
            .unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

/// A span of time, written `90s`, `15m`, `4h` or `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(Duration);

impl Span {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// The span as the standard library's type.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        self.0
    }
}

/// Millionths of a US dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UsdMicros(u64);

impl UsdMicros {
    /// So many millionths.
    #[must_use]
    pub const fn micros(n: u64) -> Self {
        Self(n)
    }

    /// So many dollars, as people write them; a part of a millionth counts as one. None for what is no amount, or is
    /// more than a million dollars.
    #[must_use]
    pub fn dollars(dollars: f64) -> Option<Self> {
        if !(0.0..=1_000_000.0).contains(&dollars) {
            return None;
        }
        // Nine digits decide: 0.1 is one tenth, though no double is.
        let digits = format!("{:.9}", dollars);
        let (whole, part) = digits.split_once('.')?;
        let (micros, rest) = part.split_at_checked(6)?;
        let up = u64::from(rest.bytes().any(|digit| digit != b'0'));
        let whole: u64 = whole.parse().ok()?;
        let micros: u64 = micros.parse().ok()?;
        Some(Self(whole.checked_mul(1_000_000)?.checked_add(micros)?.checked_add(up)?))
    }

    /// The millionths.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for UsdMicros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1_000_000, self.0 % 1_000_000);
        if part == 0 {
            return write!(f, "${whole}");
        }
        let part = format!("{part:06}");
        write!(f, "${whole}.{}", part.trim_end_matches('0'))
    }
}

const SPAN_UNITS: &[(&str, u64)] = &[("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];

impl std::str::FromStr for Span {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split_number(text)?;
        let (_, factor) = SPAN_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or(UnitError::BadUnit { found: unit.chars().take(20).collect(), allowed: "s, m, h or d" })?;
        number
            .checked_mul(*factor)
            .map(Self::seconds)
            .ok_or_else(|| UnitError::TooLarge(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (unit, factor) = SPAN_UNITS
            .iter()
            .rev()
            .find(|(_, factor)| seconds >= *factor && seconds.is_multiple_of(*factor))
            .unwrap_or(&("s", 1));
        write!(f, "{}{unit}", seconds / factor)
    }
}

fn split_number(text: &str) -> Result<(u64, &str), UnitError> {
    let short = || text.chars().take(40).collect::<String>();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(UnitError::NoNumber(short()));
    }
    let number = number.parse().map_err(|_| UnitError::TooLarge(short()))?;
    Ok((number, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wrong_units_are_refused() {
        for bad in ["512", "512MB", "512mib", "-1MiB", "", "MiB", "1.5GiB", "99999999999TiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
        for bad in ["4", "4hours", "4w", "", "h"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
        assert_eq!("512MiB".parse(), Ok(ByteSize::mib(512)));
        assert_eq!("4h".parse(), Ok(Span::seconds(14_400)));
    }

    proptest! {
        #[test]
        fn sizes_and_spans_read_back(n in any::<u64>(), s in 0..=u64::MAX / 86_400) {
            prop_assert_eq!(ByteSize::bytes(n).to_string().parse(), Ok(ByteSize::bytes(n)));
            prop_assert_eq!(Span::seconds(s).to_string().parse(), Ok(Span::seconds(s)));
        }
    }
}
