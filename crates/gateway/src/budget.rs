//! A session's tokens: the worst that a call can cost is set aside before it starts, and what it did cost is counted
//! when it ends. So the limit is never passed, whatever calls run at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The tokens of one session.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    reserved: u64,
}

/// There are not enough tokens left for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the session's limit of {limit} tokens would be passed: {used} are used, {reserved} are set aside for calls that \
     run, and this call could take {needed}; raise `tokens` under `[limits]` in agent.toml, or send less"
)]
pub struct Exhausted {
    /// Tokens that the session may use.
    pub limit: u64,
    /// Tokens used.
    pub used: u64,
    /// Tokens set aside for calls that run.
    pub reserved: u64,
    /// Tokens that the call could take at worst.
    pub needed: u64,
}

impl Budget {
    /// So many tokens, all of them left.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default() })
    }

    /// Tokens that the session may use.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Tokens used by calls that have ended.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state().used
    }

    /// Sets tokens aside for a call.
    pub(crate) fn reserve(self: &Arc<Self>, needed: u64) -> Result<Reservation, Exhausted> {
        let mut state = self.state();
        let taken = state.used.saturating_add(state.reserved);
        if taken.saturating_add(needed) > self.limit {
            let Self { limit, .. } = **self;
            return Err(Exhausted { limit, used: state.used, reserved: state.reserved, needed });
        }
        state.reserved = state.reserved.saturating_add(needed);
        Ok(Reservation { budget: Arc::clone(self), reserved: needed, cost: needed })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tokens set aside for one call. Dropped without a word, all of them count as used.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    reserved: u64,
    cost: u64,
}

impl Reservation {
    /// Gives the tokens back and counts what the call did cost.
    pub(crate) fn settle(mut self, cost: u64) {
        self.cost = cost;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.reserved = state.reserved.saturating_sub(self.reserved);
        state.used = state.used.saturating_add(self.cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_run_at_once_share_one_limit() {
        let budget = Budget::new(100);
        let first = budget.reserve(60).unwrap();
        let refused = budget.reserve(41).unwrap_err();
        assert_eq!(refused, Exhausted { limit: 100, used: 0, reserved: 60, needed: 41 });
        first.settle(10);
        assert_eq!(budget.used(), 10);
        let second = budget.reserve(90).unwrap();
        assert!(budget.reserve(1).is_err());
        drop(second);
        assert_eq!(budget.used(), 100, "what was not settled counts whole");
    }

    #[test]
    fn no_number_overflows_the_limit() {
        let budget = Budget::new(u64::MAX);
        drop(budget.reserve(u64::MAX).unwrap());
        assert_eq!(budget.used(), u64::MAX);
        let budget = Budget::new(10);
        assert!(budget.reserve(u64::MAX).is_err());
    }
}
