//! Entries that come at the same time are written together: the disk is waited for once, not once for each.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Mutex as Turn, oneshot};

use super::{Change, check_sizes};
use crate::{About, Event, Private, Store, StoreError};

/// Most entries in one transaction.
const MOST: usize = 128;

/// An entry that waits, and who waits for its number.
struct Waiting {
    about: About,
    event: Event,
    private: Option<Private>,
    at: u64,
    done: oneshot::Sender<Result<u64, String>>,
}

/// Where entries wait. Whose turn it is writes all that are there.
#[derive(Default)]
pub(crate) struct Group {
    waiting: Mutex<Vec<Waiting>>,
    turn: Turn<()>,
}

impl Store {
    /// Records what happened, and says the entry's number.
    ///
    /// # Errors
    /// It couldn't be recorded: what was about to be done must not be done.
    pub async fn record(
        &self,
        about: &About,
        event: &Event,
        private: Option<&Private>,
        now: u64,
    ) -> Result<u64, StoreError> {
        check_sizes(event, private)?;
        loop {
            let (done, mut written) = oneshot::channel();
            let (about, event, private) = (about.clone(), event.clone(), private.cloned());
            self.group.push(Waiting { about, event, private, at: now, done });
            loop {
                let turn = self.group.turn.lock().await;
                match written.try_recv() {
                    Ok(result) => return result.map_err(StoreError::Group),
                    // It still waits, so it is among those that are written now, or soon.
                    Err(TryRecvError::Empty) => self.write_group().await,
                    // Who wrote it gave up in the middle, and with that all was undone.
                    Err(TryRecvError::Closed) => break,
                }
                drop(turn);
            }
        }
    }

    async fn write_group(&self) {
        let group = self.group.take();
        let written = self.write_all(&group).await;
        for (at, waiting) in group.into_iter().enumerate() {
            let result = match &written {
                Ok(first) => Ok(first.saturating_add(at as u64)),
                Err(error) => Err(error.to_string()),
            };
            // Whoever waited for it may have given up.
            drop(waiting.done.send(result));
        }
    }

    /// Writes them, and says the first one's number.
    async fn write_all(&self, group: &[Waiting]) -> Result<u64, StoreError> {
        let mut change = Change::begin(self, 0).await?;
        let first = change.next();
        for waiting in group {
            change.now = waiting.at;
            change.record(&waiting.about, &waiting.event, waiting.private.as_ref()).await?;
        }
        change.commit().await?;
        Ok(first)
    }
}

impl Group {
    fn push(&self, waiting: Waiting) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(waiting);
    }

    /// The oldest, in their order.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.len().min(MOST);
        waiting.drain(..count).collect()
    }
}
