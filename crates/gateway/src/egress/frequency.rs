//! How often a session asks to leave, and which refusals are written.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::EgressTarget;

use crate::news::News;

const MINUTE: Duration = Duration::from_secs(60);
/// Entries of one kind of refusal.
const MAX_LIKE: u32 = 4;

/// What a session has asked.
#[derive(Debug)]
pub(super) struct Frequency {
    counted: Mutex<Counted>,
    refused: News,
}

#[derive(Debug)]
struct Counted {
    since: Instant,
    requests: u32,
}

impl Frequency {
    pub(super) fn new(now: Instant) -> Self {
        Self { counted: Mutex::new(Counted { since: now, requests: 0 }), refused: News::new(MAX_LIKE) }
    }

    /// Counts a request; false if there were as many in this minute as there may be.
    pub(super) fn admit(&self, per_minute: u32, now: Instant) -> bool {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(counted.since) >= MINUTE {
            (counted.since, counted.requests) = (now, 0);
        }
        counted.requests = counted.requests.saturating_add(1);
        counted.requests <= per_minute
    }

    /// Whether a refusal is written down: the first few of its like, which is its method, host and first folder.
    pub(super) fn is_news(&self, target: &EgressTarget) -> bool {
        let folder = target.path.split('/').nth(1).unwrap_or_default();
        self.refused.is(format!("{} {}/{folder}", target.method, target.site()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_so_many_requests() {
        let start = Instant::now();
        let frequency = Frequency::new(start);
        assert!(frequency.admit(2, start) && frequency.admit(2, start) && !frequency.admit(2, start));
        assert!(!frequency.admit(2, start + MINUTE / 2));
        assert!(frequency.admit(2, start + MINUTE));
    }
}
