//! How often a team's connections to a tool server are made that show a secret: each is on the ledger, so they are bounded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use domain::{ServerName, TeamName};

/// Most of one team to one server within an hour: one that is well and used now and then is greeted four times.
const AN_HOUR: u32 = 100;
const HOUR: u64 = 3_600_000;

/// Those of this hour.
#[derive(Debug, Default)]
pub(super) struct Greetings(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    /// Hours since 1970.
    hour: u64,
    times: HashMap<(TeamName, ServerName), u32>,
}

impl Greetings {
    /// Counts one; false if there were as many in this hour as there may be.
    pub(super) fn admit(&self, team: &TeamName, server: &ServerName, now: u64) -> bool {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.hour != now / HOUR {
            *counted = Counted { hour: now / HOUR, times: HashMap::new() };
        }
        let times = counted.times.entry((team.clone(), server.clone())).or_default();
        *times = times.saturating_add(1);
        *times <= AN_HOUR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_has_so_many_of_each_team_and_server() {
        let greetings = Greetings::default();
        let (team, server) = ("sales".parse().unwrap(), "crm".parse().unwrap());
        let admitted = |now: u64| (0..1_000).filter(|_| greetings.admit(&team, &server, now)).count();
        assert_eq!((admitted(HOUR), admitted(2 * HOUR - 1), admitted(2 * HOUR)), (100, 0, 100));
        assert!(greetings.admit(&"support".parse().unwrap(), &server, 2 * HOUR));
    }
}
