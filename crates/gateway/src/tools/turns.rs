//! Turns: where a policy counts how often something was done, whoever decides about it commits to it, or lets it be, before
//! the next one decides. So what comes at once doesn't all find the same number.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};

use policy::Counts;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The turns of all gates, by what is counted.
#[derive(Debug, Default)]
pub(super) struct Turns(std::sync::Mutex<HashMap<String, Weak<Mutex<()>>>>);

/// Lasts from a decision to its commit. Whoever asks people in between, or waits for the agent, lets go of it first.
#[derive(Debug)]
#[must_use = "a turn that is let go of at once keeps nobody waiting"]
pub(crate) struct Turn {
    _held: Option<OwnedMutexGuard<()>>,
}

impl Turn {
    /// Of what nobody counts: everybody has one.
    pub(super) fn uncounted() -> Self {
        Self { _held: None }
    }
}

/// How often something was done before it was decided on. Whoever decides on it once more counts nothing that came after.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    session: u32,
    /// None where the policy of then counted no days.
    today: Option<u32>,
}

impl Before {
    /// As it is now; or as it was, where that is known.
    pub(crate) fn of(known: Option<Self>, session: u32, today: Option<u32>) -> Self {
        match known {
            None => Self { session, today },
            // Of today it is one itself.
            Some(known) => {
                Self { today: known.today.or(today.map(|today| today.saturating_sub(1))), ..known }
            }
        }
    }

    pub(crate) fn counts(self) -> Counts {
        Counts { session: self.session, today: self.today.unwrap_or_default() }
    }
}

impl Turns {
    /// Waits for the turn of what is counted under this name. Safe to cancel.
    pub(super) async fn wait(&self, name: String) -> Turn {
        let turn = self.of(name);
        Turn { _held: Some(turn.lock_owned().await) }
    }

    fn of(&self, name: String) -> Arc<Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // So there are never more than calls under way.
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(&name).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        turns.insert(name, Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_turn_is_had_at_a_time_and_none_is_kept() {
        let turns = Turns::default();
        let first = turns.wait("a".to_owned()).await;
        assert!(turns.wait("a".to_owned()).now_or_never().is_none());
        drop(turns.wait("b".to_owned()).now_or_never().unwrap());
        drop(first);
        drop(turns.wait("a".to_owned()).now_or_never().unwrap());
        drop(turns.wait("c".to_owned()).now_or_never().unwrap());
        assert_eq!(turns.0.lock().unwrap().len(), 1, "those that nobody has are forgotten");
    }
}
