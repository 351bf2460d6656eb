//! How soon a tool server that failed is started again: at once the first time, then after ever longer waits.

use std::time::{Duration, Instant};

/// Whoever lived so long was well: what ended it counts as the first failure.
const STEADY: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(300);

/// How a server did lately.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    failures: u32,
    last: Option<Instant>,
}

impl Restarts {
    /// It ended by itself, or never got to run.
    pub(super) fn failed(&mut self, now: Instant, lived: Duration) {
        self.failures = if lived >= STEADY { 1 } else { self.failures.saturating_add(1) };
        self.last = Some(now);
    }

    /// It ended because nobody wanted it any more.
    pub(super) fn steady(&mut self) {
        *self = Self::default();
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// How long it is not to be started yet.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let Some(last) = self.last else { return Duration::ZERO };
        let pause = match self.failures {
            0 | 1 => Duration::ZERO,
            many => Duration::from_secs(1 << many.saturating_sub(2).min(16)).min(LONGEST),
        };
        pause.saturating_sub(now.saturating_duration_since(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_while_it_fails_and_end_when_it_is_well() {
        let start = Instant::now();
        let mut restarts = Restarts::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            restarts.failed(start, Duration::from_secs(1));
            waits.push(restarts.wait(start).as_secs());
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(restarts.wait(start + Duration::from_secs(299)), Duration::from_secs(1));
        assert_eq!(restarts.wait(start + Duration::from_secs(400)), Duration::ZERO);
        restarts.failed(start, STEADY);
        assert_eq!((restarts.failures(), restarts.wait(start)), (1, Duration::ZERO));
        restarts.failed(start, Duration::ZERO);
        assert_eq!(restarts.wait(start), Duration::from_secs(1));
        restarts.steady();
        assert_eq!((restarts.failures(), restarts.wait(start)), (0, Duration::ZERO));
    }
}
