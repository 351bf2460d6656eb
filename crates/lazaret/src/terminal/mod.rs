//! The person's terminal: what may reach it, how it is lent to an agent, and how it is always given back.

mod raw;
mod safe;

use std::io::IsTerminal as _;

pub(crate) use raw::{RawTerminal, size};
pub(crate) use safe::{Safe, escape};

/// Whether to use colour on standard error: only on a terminal, and never against <https://no-color.org>.
pub(crate) fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
