//! Whose words a session follows: who wrote its prompt, and whoever has told it something since. Where policy says so, none of
//! them answers what it asks.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::PersonName;

/// A session's authors. Clones are of the same session.
#[derive(Debug, Clone, Default)]
pub struct Authors(Arc<Mutex<BTreeSet<PersonName>>>);

impl Authors {
    /// Of a prompt that this person wrote; none: nobody did.
    #[must_use]
    pub fn new(by: Option<PersonName>) -> Self {
        Self(Arc::new(Mutex::new(by.into_iter().collect())))
    }

    /// Everybody.
    #[must_use]
    pub fn all(&self) -> BTreeSet<PersonName> {
        self.locked().clone()
    }

    /// One more, for what is asked from now on.
    pub fn join(&self, person: PersonName) {
        self.locked().insert(person);
    }

    fn locked(&self) -> MutexGuard<'_, BTreeSet<PersonName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
