//! How far a request is on its way.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::changes::Abreast;

/// The way of one request.
pub(super) struct Sending {
    state: Mutex<State>,
    /// Holds its body.
    pub(super) abreast: Abreast,
}

#[derive(Debug)]
struct State {
    /// How often its head went out.
    heads: u64,
    /// Of its body.
    bytes: u64,
    /// Whether nothing more comes.
    over: bool,
    /// When the last of it came.
    moved: Instant,
    /// Whether it was counted for good.
    ended: bool,
}

impl Sending {
    pub(super) fn new(abreast: Abreast) -> Self {
        let state = State { heads: 0, bytes: 0, over: false, moved: Instant::now(), ended: false };
        Self { state: Mutex::new(state), abreast }
    }

    /// Its head goes out.
    pub(super) fn head(&self) {
        self.change(|state| state.heads = state.heads.saturating_add(1));
    }

    /// It didn't: nobody was reached.
    pub(super) fn no_head(&self) {
        self.change(|state| state.heads = state.heads.saturating_sub(1));
    }

    /// Counts bytes, and says how many there were; none once the request has ended: then no more may leave.
    pub(super) fn more(&self, bytes: u64) -> Option<u64> {
        self.change(|state| {
            if state.ended {
                return None;
            }
            state.bytes = state.bytes.saturating_add(bytes);
            Some(state.bytes)
        })
    }

    /// Ends it, and says how many heads and bytes of its body went out.
    pub(super) fn end(&self) -> (u64, u64) {
        self.change(|state| {
            state.ended = true;
            (state.heads, state.bytes)
        })
    }

    /// Nothing more comes.
    pub(super) fn over(&self) {
        self.change(|state| state.over = true);
    }

    pub(super) fn is_over(&self) -> bool {
        self.look(|state| state.over)
    }

    /// Waits until nothing has moved for so long: since the body's last piece, or its end.
    pub(super) async fn rests(&self, time: Duration) {
        loop {
            let moved = self.look(|state| state.moved);
            tokio::time::sleep_until(moved + time).await;
            if self.look(|state| state.moved) == moved {
                return;
            }
        }
    }

    fn change<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.moved = Instant::now();
        with(&mut state)
    }

    fn look<T>(&self, at: impl FnOnce(&State) -> T) -> T {
        at(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_moves_is_waited_for_and_its_end_begins_the_wait_for_an_answer() {
        let (sending, time) = (Sending::new(Abreast::of_nothing()), Duration::from_secs(300));
        let start = Instant::now();
        let body = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(200)).await;
                sending.more(1);
            }
            sending.over();
        };
        tokio::join!(body, sending.rests(time));
        assert_eq!(start.elapsed().as_secs(), 2300);
        assert!(sending.is_over());
        assert_eq!((sending.end(), sending.more(1), sending.end()), ((0, 10), None, (0, 10)));
    }
}
