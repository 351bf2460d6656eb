//! Calls that a difference is about, collected: each is told once, in a stable order, and of too many the rest is counted.

use std::collections::HashSet;

/// Most of one kind that are told. Whoever reads more than this reads the files.
const MAX_TOLD: usize = 300;

/// Calls that became possible, or impossible, as people are told of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calls {
    /// In a stable order, each once.
    pub told: Vec<String>,
    /// How many more there are.
    pub more: usize,
}

impl Calls {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }
}

/// What is collected.
#[derive(Debug, Default)]
pub(super) struct Collected {
    calls: Calls,
    seen: HashSet<String>,
}

impl Collected {
    /// Takes one that is told by itself.
    pub(super) fn add(&mut self, told: String) {
        self.add_once(told.clone(), || told);
    }

    /// Takes one, unless another of the same key was taken.
    pub(super) fn add_once(&mut self, key: String, told: impl FnOnce() -> String) {
        if !self.seen.insert(key) {
            return;
        }
        if self.calls.told.len() < MAX_TOLD {
            self.calls.told.push(told());
        } else {
            self.calls.more = self.calls.more.saturating_add(1);
        }
    }

    pub(super) fn calls(self) -> Calls {
        self.calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_to_tell_is_counted_and_nothing_is_told_twice() {
        let mut collected = Collected::default();
        for round in 0..2 {
            for at in 0..MAX_TOLD + 7 {
                collected.add_once(at.to_string(), || format!("{at} in round {round}"));
            }
        }
        let calls = collected.calls();
        assert_eq!((calls.told.len(), calls.more), (MAX_TOLD, 7));
        assert_eq!(calls.told.first().map(String::as_str), Some("0 in round 0"));
        assert_eq!(calls.told.last(), Some(&format!("{} in round 0", MAX_TOLD - 1)));
    }
}
