//! How often something happened within this hour of the clock.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

const HOUR: u64 = 3_600_000;

/// Counts it by key, up to a bound that each of them has.
#[derive(Debug)]
pub(super) struct Hourly<K> {
    most: u32,
    counted: Mutex<Counted<K>>,
}

#[derive(Debug)]
struct Counted<K> {
    /// Hours since 1970.
    hour: u64,
    times: HashMap<K, u32>,
}

impl<K: Eq + Hash> Hourly<K> {
    pub(super) fn new(most: u32) -> Self {
        Self { most, counted: Mutex::new(Counted { hour: 0, times: HashMap::new() }) }
    }

    /// Counts one; false if there were as many as there may be.
    pub(super) fn admit(&self, key: K, now: u64) -> bool {
        let mut counted = self.counted(now);
        let times = counted.times.entry(key).or_default();
        *times = times.saturating_add(1);
        *times <= self.most
    }

    /// Whether there were as many as there may be.
    pub(super) fn is_full(&self, key: &K, now: u64) -> bool {
        self.counted(now).times.get(key).is_some_and(|times| *times >= self.most)
    }

    /// Begins anew with these.
    pub(super) fn forget(&self, gone: impl Fn(&K) -> bool) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.times.retain(|key, _| !gone(key));
    }

    fn counted(&self, now: u64) -> MutexGuard<'_, Counted<K>> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.hour != now / HOUR {
            *counted = Counted { hour: now / HOUR, times: HashMap::new() };
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_has_so_many_of_each() {
        let hourly = Hourly::new(100);
        let admitted = |now: u64| (0..1_000).filter(|_| hourly.admit("crm", now)).count();
        assert_eq!((admitted(HOUR), admitted(2 * HOUR - 1)), (100, 0));
        assert!(hourly.is_full(&"crm", 2 * HOUR - 1) && !hourly.is_full(&"wiki", HOUR));
        assert_eq!(admitted(2 * HOUR), 100);
        hourly.forget(|key| *key == "crm");
        assert_eq!(admitted(2 * HOUR), 100);
    }
}
