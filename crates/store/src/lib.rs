//! Everything that is kept, on SQLite or PostgreSQL, and the ledger that tells what happened. The only SQL.
//!
//! [`Store::open`] takes a [`Place`], a key file and a source of random bytes. Time is an argument everywhere: `now`, in
//! milliseconds since 1970; so are ids. Each method is one transaction. Whatever changes something takes the ledger's
//! lock first, so that changes happen one after another, on both engines, and appends its entry in the same transaction.
//!
//! | for | methods |
//! |---|---|
//! | the ledger | [`record`](Store::record), [`record_all`](Store::record_all), [`tail`](Store::tail), [`entry`](Store::entry), [`entries_after`](Store::entries_after), [`entries_before`](Store::entries_before), [`head`](Store::head), [`verify`](Store::verify), [`erase`](Store::erase) |
//! | questions | [`ask`](Store::ask), [`answer`](Store::answer), [`cancel`](Store::cancel), [`pending`](Store::pending), [`approval`](Store::approval), [`wait`](Store::wait), [`changed`](Store::changed), [`expire`](Store::expire) |
//! | rights that stay | [`grant`](Store::grant), [`find_grant`](Store::find_grant), [`end_grants`](Store::end_grants) |
//! | acts | [`commit`](Store::commit), [`outcome`](Store::outcome), [`outcome_soon`](Store::outcome_soon), [`unfinished`](Store::unfinished), [`used`](Store::used) |
//! | labels | [`labels`](Store::labels), [`all_labels`](Store::all_labels), [`raise`](Store::raise), [`lower`](Store::lower) |
//! | tools | [`see`](Store::see), [`definitions`](Store::definitions), [`pin`](Store::pin), [`unpin`](Store::unpin), [`pins`](Store::pins) |
//! | people | [`install_owner`](Store::install_owner), [`put_person`](Store::put_person), [`remove_person`](Store::remove_person), [`people`](Store::people), [`person_of_uid`](Store::person_of_uid), [`set_in_group`](Store::set_in_group), [`group`](Store::group), [`groups`](Store::groups), [`set_in_team`](Store::set_in_team), [`team`](Store::team) |

#[cfg(test)]
extern crate self as store;

mod approvals;
mod backend;
mod commits;
mod crash;
mod error;
mod kept;
mod keys;
mod ledger;
mod migrations;
mod people;
mod postgres;
mod sqlite;
mod statement;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "each test program uses a part of it")]
mod support;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

pub use approvals::{
    Answer, Approval, ApprovalError, Asking, MAX_OPEN, MAX_SHOWN, NewGrant, POLL, Question, Shown, Uses,
};
pub use backend::Place;
pub use commits::{Commit, CommitError, Spend, Unfinished};
pub use error::{DatabaseError, StoreError};
pub use kept::{Definition, Keeper, KeeperError, LowerError, MAX_DEFINITION, MAX_DEFINITIONS, Pin};
pub use keys::Randomness;
pub use ledger::{
    About, Act, ByRight, Entry, Event, Fault, Filter, Head, MAX_BODY, MAX_PAGE, MAX_SEALED, Outcome, Private,
    Reserved, Scope, Sealed, Tampered, Verdict, Verified, VerifyError,
};
pub use people::{PeopleError, Person};

/// The store of one installation. Cheap to clone; all clones share its connections.
#[derive(Clone)]
pub struct Store {
    backend: backend::Backend,
    keys: keys::Keys,
    random: Arc<dyn Randomness>,
    /// Counts changes made here.
    changes: watch::Sender<u64>,
    /// Entries that wait to be written.
    group: Arc<ledger::Group>,
}

impl Store {
    /// Opens the database, or makes it, and brings its schema to this program's. The key file is made if it is missing;
    /// without it, nothing sealed can be read and the ledger can't be continued: it wants a copy elsewhere.
    ///
    /// # Errors
    /// It is open to others, of a newer program, written with other keys, or can't be used at all.
    pub async fn open(
        place: &Place,
        key_file: &Path,
        random: Arc<dyn Randomness>,
    ) -> Result<Self, StoreError> {
        let backend = backend::Backend::open(place).await?;
        migrations::migrate(&backend).await?;
        let head = ledger::newest(&backend).await?;
        let keys = keys::Keys::open(key_file, head.is_none().then_some(random.as_ref()))?;
        if head.is_some_and(|head| !ledger::is_ours(keys.public(), &head)) {
            return Err(StoreError::OtherKeys);
        }
        Ok(Self { backend, keys, random, changes: watch::Sender::new(0), group: Arc::default() })
    }

    /// The ledger's public Ed25519 key, as hex digits: whoever has it can check exported entries and heads.
    #[must_use]
    pub fn public_key(&self) -> String {
        ledger::chain::hex(self.keys.public())
    }

    /// Lets go of the database. Clones of this store can't be used any more.
    pub async fn close(&self) {
        self.backend.close().await;
    }

    /// Tells whoever waits that something changed.
    fn tell(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
