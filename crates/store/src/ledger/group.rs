//! What comes at the same time is written together: the disk is waited for once, not once for each.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::CommitId;
use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as Turns, oneshot};

use super::{Change, check_sizes};
use crate::backend::Backend;
use crate::commits::asks_before_outcome;
use crate::sqlite::Turn;
use crate::statement::{Answers, Statement};
use crate::{About, Commit, CommitError, Event, Outcome, Private, Reserved, Store, StoreError};

/// Most of them in one transaction.
const MOST: usize = 128;
/// How long an outcome that nobody waits for may wait for something else to be written with: the next commit of the same program
/// comes soon, and an act whose outcome is lost is known to have none.
pub(crate) const LINGER: Duration = Duration::from_millis(2);

/// Something to be written.
pub(crate) enum Job {
    /// An entry of the ledger.
    Record(About, Event, Option<Private>),
    /// Committing to an act.
    Commit(Box<Commit>),
    /// What came of an act.
    Outcome { id: CommitId, outcome: Outcome, spent: Vec<Reserved>, answer: Option<Private> },
}

pub(crate) type Written = Result<u64, CommitError>;

/// A job, and who waits for its entry's number.
struct Waiting {
    job: Job,
    at: u64,
    done: oneshot::Sender<Written>,
}

/// Where jobs wait. Whose turn it is writes all that are there, in their order.
#[derive(Default)]
pub(crate) struct Group {
    waiting: Mutex<Vec<Waiting>>,
    /// Of PostgreSQL; SQLite has turns of its own.
    turns: Turns<()>,
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
        let job = Job::Record(about.clone(), event.clone(), private.cloned());
        number(&mut self.written(job, now)).await.map_err(CommitError::into_store)
    }

    /// Has a job written after all that were there before it, by a task that nobody can cancel: whoever gives up takes
    /// nobody else's entry with them.
    pub(crate) fn written(&self, job: Job, at: u64) -> oneshot::Receiver<Written> {
        self.written_after(job, at, Duration::ZERO)
    }

    /// The same, but that it may wait so long for others to be written with.
    pub(crate) fn written_after(&self, job: Job, at: u64, wait: Duration) -> oneshot::Receiver<Written> {
        let (done, written) = oneshot::channel();
        self.group.push(Waiting { job, at, done });
        // Where nothing runs any more, nothing is written, and nobody waits.
        let Ok(runtime) = Handle::try_current() else { return written };
        let turn = match &self.backend {
            Backend::Sqlite(file) if wait.is_zero() => file.turn_now(),
            Backend::Sqlite(_) | Backend::Postgres(_) => None,
        };
        let store = self.clone();
        match turn {
            Some(turn) => store.write_there(turn, runtime),
            None => drop(runtime.spawn(store.write_later(wait))),
        }
        written
    }

    /// Writes all that wait, when they have waited and it is their turn.
    async fn write_later(self, wait: Duration) {
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        match &self.backend {
            Backend::Sqlite(_) if self.group.is_empty() => {}
            Backend::Sqlite(file) => match file.turn().await {
                // Who had the turn before has written them too.
                Ok(_) if self.group.is_empty() => {}
                Ok(turn) => self.write_there(turn, Handle::current()),
                Err(error) => self.tell_written(self.group.take(), Err(error)),
            },
            Backend::Postgres(_) => {
                let _turn = self.group.turns.lock().await;
                self.write_waiting(None).await;
            }
        }
    }

    /// Has all that wait written by the thread that has the connection: it goes there once.
    fn write_there(&self, turn: Turn, runtime: Handle) {
        let store = self.clone();
        turn.give(move |connection| runtime.block_on(store.write_waiting(Some(connection))));
    }

    async fn write_waiting(&self, mut here: Option<&mut Connection>) {
        let group = self.group.take();
        if group.is_empty() {
            return;
        }
        let written = match self.write_all(&group, here.as_deref_mut(), false).await {
            Ok(written) => written,
            // One of them can't be: the others can.
            Err(_) => {
                self.write_all(&group, here, true).await.unwrap_or_else(|error| Err(error.into_store()))
            }
        };
        self.tell_written(group, written);
    }

    /// Tells each what came of it.
    fn tell_written(&self, group: Vec<Waiting>, written: Result<Vec<Written>, StoreError>) {
        let (written, failed) = match written {
            Ok(written) => (written, String::new()),
            Err(error) => (Vec::new(), error.to_string()),
        };
        let mut written = written.into_iter();
        for waiting in group {
            let result = written.next().unwrap_or_else(|| Err(StoreError::Group(failed.clone()).into()));
            if let (Err(Ok(_)), Job::Commit(commit)) = (waiting.done.send(result), &waiting.job) {
                self.nobody_acts(commit, waiting.at);
            }
        }
    }

    /// Concludes an act that is committed to, when whoever wanted to act is gone.
    pub(crate) fn nobody_acts(&self, commit: &Commit, at: u64) {
        let outcome = Outcome::NotDone { why: "whoever wanted it had gone".to_owned() };
        let spent =
            commit.spend.iter().map(|spend| Reserved { amount: 0, ..spend.reserve.clone() }).collect();
        drop(self.written(Job::Outcome { id: commit.id, outcome, spent, answer: None }, at));
    }

    /// Writes them in one transaction, and says each one's number, or why it could not be made true: then nothing is to be
    /// tried again, since the server may have done it. Unless care is taken, they are asked for together, and the first that
    /// can't be written ends it.
    async fn write_all(
        &self,
        group: &[Waiting],
        here: Option<&mut Connection>,
        with_care: bool,
    ) -> Result<Result<Vec<Written>, StoreError>, CommitError> {
        let together = group.iter().filter(|_| !with_care);
        let asks = together.flat_map(|waiting| waiting.job.asks()).collect();
        let (mut change, mut found) = Change::begin_here(self, here, asks).await?;
        let mut written = Vec::with_capacity(group.len());
        for Waiting { job, at, .. } in group {
            change.now = *at;
            written.push(if with_care {
                change.try_write(job).await?
            } else {
                Ok(change.write(job, &mut found).await?)
            });
        }
        Ok(change.commit().await.map(|()| written))
    }
}

impl Job {
    /// What is asked before it is written.
    fn asks(&self) -> Vec<Statement> {
        match self {
            Self::Record(..) => Vec::new(),
            Self::Commit(commit) => commit.asks(),
            Self::Outcome { id, .. } => asks_before_outcome(*id),
        }
    }
}

/// The number of what is being written.
pub(crate) async fn number(written: &mut oneshot::Receiver<Written>) -> Written {
    let ends = |_| Err(StoreError::Group("the program ends".to_owned()).into());
    written.await.unwrap_or_else(ends)
}

impl Change<'_> {
    /// Writes a job, of which it was asked already.
    async fn write(&mut self, job: &Job, found: &mut Answers) -> Written {
        match job {
            Job::Record(about, event, private) => Ok(self.record(about, event, private.as_ref())?),
            Job::Commit(commit) => self.commit_to(commit, found).await,
            Job::Outcome { id, outcome, spent, answer } => {
                Ok(self.conclude(*id, outcome, spent, answer.as_ref(), found)?)
            }
        }
    }

    /// The same, to its end, and by itself.
    async fn write_alone(&mut self, job: &Job) -> Written {
        let mut found = self.ask(job.asks()).await?;
        let number = self.write(job, &mut found).await?;
        self.ask(Vec::new()).await?;
        Ok(number)
    }

    /// The same, but what can't be written leaves no trace; that a commit was refused is recorded.
    ///
    /// # Errors
    /// The transaction can't go on.
    async fn try_write(&mut self, job: &Job) -> Result<Written, StoreError> {
        let before = self.mark().await?;
        let written = self.write_alone(job).await;
        let Err(error) = &written else {
            self.release();
            return Ok(written);
        };
        self.back_to(before).await?;
        match (job, error) {
            (_, CommitError::Store(_)) | (Job::Record(..) | Job::Outcome { .. }, _) => {}
            (Job::Commit(commit), refused) => {
                let (act, by_right, why) = (commit.act.clone(), commit.by_right, refused.to_string());
                self.record(&commit.about, &Event::CommitRefused { act, by_right, why }, None)?;
            }
        }
        Ok(written)
    }
}

impl Group {
    fn is_empty(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn push(&self, waiting: Waiting) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(waiting);
    }

    /// The oldest, in their order; nobody is committed to for who has gone.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|one| !(matches!(one.job, Job::Commit(_)) && one.done.is_closed()));
        let count = waiting.len().min(MOST);
        waiting.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::{Empty, about, act};

    #[tokio::test]
    async fn what_waits_for_its_turn_is_written_however_long_others_have_it() {
        let lab = Empty::sqlite().await.open().await;
        let Backend::Sqlite(file) = &lab.store.backend else { panic!("another engine") };
        let turn = file.turn().await.unwrap();
        tokio::time::pause();
        let (store, event) = (lab.store.clone(), Event::Refused { act: act(), why: "no".to_owned() });
        let recorded = tokio::spawn(async move { store.record(&about(1), &event, None, 5).await });
        tokio::time::sleep(Duration::from_secs(600)).await;
        drop(turn);
        assert_eq!(recorded.await.unwrap().unwrap(), 1);
    }
}
