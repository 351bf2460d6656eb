//! How often a session asks to leave, and how much is written of what it may not: a loop fills no ledger.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::EgressTarget;

const MINUTE: Duration = Duration::from_secs(60);
/// Entries of one kind of refusal, and kinds, of one session.
const MAX_LIKE: u32 = 4;
const MAX_KINDS: usize = 256;

/// What a session has asked.
#[derive(Debug)]
pub(super) struct Frequency(Mutex<Counted>);

#[derive(Debug)]
struct Counted {
    since: Instant,
    requests: u32,
    refused: HashMap<String, u32>,
}

impl Frequency {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Counted { since: now, requests: 0, refused: HashMap::new() }))
    }

    /// Counts a request; false if there were as many in this minute as there may be.
    pub(super) fn admit(&self, per_minute: u32, now: Instant) -> bool {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(counted.since) >= MINUTE {
            (counted.since, counted.requests) = (now, 0);
        }
        counted.requests = counted.requests.saturating_add(1);
        counted.requests <= per_minute
    }

    /// Whether a refusal is written down: the first few of its like, which is its method, host and first folder.
    pub(super) fn is_news(&self, target: &EgressTarget) -> bool {
        let folder = target.path.split('/').nth(1).unwrap_or_default();
        let mut like = format!("{} {}/{folder}", target.method, target.site());
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.refused.len() >= MAX_KINDS && !counted.refused.contains_key(&like) {
            like = String::new();
        }
        let times = counted.refused.entry(like).or_default();
        *times = times.saturating_add(1);
        *times <= MAX_LIKE
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

    #[test]
    fn refusals_of_one_kind_are_written_a_few_times() {
        let frequency = Frequency::new(Instant::now());
        let news = |path: &str| frequency.is_news(&format!("GET https://a.example/{path}").parse().unwrap());
        assert_eq!((0..100).filter(|n| news(&format!("x/{n}"))).count(), 4);
        let kinds = (0..10_000).filter(|n| news(&n.to_string())).count();
        assert!(kinds <= 260, "{kinds}");
    }
}
