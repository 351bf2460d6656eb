//! The lives of a cell and of a session, as pure functions from state and event to state.

use serde::{Deserialize, Serialize};

/// The event can't happen in this state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {noun} that is {state} can't {event}")]
pub struct IllegalTransition {
    noun: &'static str,
    state: String,
    event: String,
}

/// ```text
/// preparing ──launched──▶ booting ──born──▶ ready ──stop──▶ stopping
///     │                      │                │                │
///     └───────────────────── failed / gone ───┴────────────────┴──▶ gone
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellState {
    /// Disks, sockets and the jail are being made.
    Preparing,
    /// The VMM runs; the guest has not answered yet.
    Booting,
    /// The guest answered and its container stands.
    Ready,
    /// An orderly shutdown was asked for.
    Stopping,
    /// Nothing of it is left but its disk.
    Gone,
}

/// What can happen to a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CellEvent {
    /// The VMM was started.
    Launched,
    /// The guest reported ready.
    Born,
    /// Somebody asked it to stop.
    Stop,
    /// Its processes are gone and everything was cleaned up.
    Gone,
}

impl CellState {
    /// The state after an event.
    ///
    /// # Errors
    /// When the event can't happen in this state.
    pub fn on(self, event: CellEvent) -> Result<Self, IllegalTransition> {
        use CellEvent as E;
        use CellState as S;
        match (self, event) {
            (S::Preparing, E::Launched) => Ok(S::Booting),
            (S::Booting, E::Born) => Ok(S::Ready),
            (S::Booting | S::Ready | S::Stopping, E::Stop) => Ok(S::Stopping),
            (S::Preparing | S::Booting | S::Ready | S::Stopping, E::Gone) => Ok(S::Gone),
            (S::Gone, _)
            | (S::Preparing, E::Born | E::Stop)
            | (S::Booting | S::Ready | S::Stopping, E::Launched)
            | (S::Ready | S::Stopping, E::Born) => Err(illegal("cell", self, event)),
        }
    }
}

/// ```text
/// queued ──cell started──▶ running ──ended──▶ ended
///    └────────────────────── ended ───────────▲
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// Waits for its agent's turn, its image or its cell.
    Queued,
    /// The harness runs.
    Running,
    /// It is over; the reason is kept with the session.
    Ended,
}

/// What can happen to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionEvent {
    /// The harness was started in its cell.
    Started,
    /// The harness ended, or never got to run.
    Ended,
}

impl SessionState {
    /// The state after an event.
    ///
    /// # Errors
    /// When the event can't happen in this state.
    pub fn on(self, event: SessionEvent) -> Result<Self, IllegalTransition> {
        match (self, event) {
            (Self::Queued, SessionEvent::Started) => Ok(Self::Running),
            (Self::Queued | Self::Running, SessionEvent::Ended) => Ok(Self::Ended),
            (Self::Running | Self::Ended, SessionEvent::Started) | (Self::Ended, SessionEvent::Ended) => {
                Err(illegal("session", self, event))
            }
        }
    }
}

fn illegal(
    noun: &'static str,
    state: impl std::fmt::Debug,
    event: impl std::fmt::Debug,
) -> IllegalTransition {
    let lower = |x: &dyn std::fmt::Debug| format!("{x:?}").to_ascii_lowercase();
    IllegalTransition { noun, state: lower(&state), event: lower(&event) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cell_event() -> impl Strategy<Value = CellEvent> {
        prop_oneof![
            Just(CellEvent::Launched),
            Just(CellEvent::Born),
            Just(CellEvent::Stop),
            Just(CellEvent::Gone)
        ]
    }

    proptest! {
        #[test]
        fn a_gone_cell_stays_gone_and_only_a_born_one_was_ready(events in prop::collection::vec(cell_event(), 0..20)) {
            let mut state = CellState::Preparing;
            let mut born = false;
            for event in events {
                if let Ok(next) = state.on(event) {
                    born |= event == CellEvent::Born;
                    prop_assert_ne!(state, CellState::Gone);
                    prop_assert!(next != CellState::Ready || born);
                    state = next;
                }
            }
        }
    }

    #[test]
    fn every_transition_of_a_session() {
        use SessionEvent::{Ended, Started};
        assert_eq!(SessionState::Queued.on(Started), Ok(SessionState::Running));
        assert_eq!(SessionState::Queued.on(Ended), Ok(SessionState::Ended));
        assert_eq!(SessionState::Running.on(Ended), Ok(SessionState::Ended));
        assert!(SessionState::Running.on(Started).is_err());
        assert!(SessionState::Ended.on(Ended).is_err());
        assert!(SessionState::Ended.on(Started).is_err());
    }
}
