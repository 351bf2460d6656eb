//! What may end a right while it is used: labels that rise, and policies that change. Whoever acts by one looks from before
//! its decision on, and decides anew on each change.

use std::sync::Arc;

use domain::Labels;
use store::StoreError;
use tokio::sync::watch;

use crate::egress::Gone;
use crate::tools::SessionGate;

impl SessionGate {
    /// What changes from now on.
    pub(crate) fn changes(&self) -> Changes {
        let (rises, mut policies) = (self.rises.subscribe(), self.policy.clone());
        // The gate itself never says that it has seen one.
        policies.mark_unchanged();
        let decided = watch::Sender::new(*rises.borrow());
        Changes { rises, policies, undecided: false, decided }
    }

    /// The session meets what an answer brings. That does not end the request it answers, if the whole of it was sent before;
    /// what else rose meanwhile still counts.
    pub(crate) async fn brought(
        &self,
        changes: &mut Changes,
        labels: &Labels,
        sent: bool,
    ) -> Result<(), StoreError> {
        let mut state = self.state.lock().await;
        let others = changes.has_any();
        self.raise(&mut state, labels).await?;
        // A policy that is narrowed meanwhile is another matter.
        let raised = changes.has_risen();
        changes.undecided = others || (raised && !sent);
        Ok(())
    }
}

/// What may end a right.
pub(crate) struct Changes {
    rises: watch::Receiver<u64>,
    policies: watch::Receiver<Arc<policy::AgentPolicy>>,
    /// Whether one was seen on which nothing is decided yet.
    undecided: bool,
    /// The last rise after which it was decided that the request goes on.
    decided: watch::Sender<u64>,
}

/// Holds the body of a request while something rose on which nothing is decided yet: what the session learned may be in it.
pub(crate) struct Abreast {
    rises: watch::Receiver<u64>,
    decided: watch::Receiver<u64>,
}

impl Abreast {
    #[cfg(test)]
    pub(crate) fn of_nothing() -> Self {
        let (rises, decided) = (watch::channel(0).1, watch::channel(0).1);
        Self { rises, decided }
    }

    /// Waits until it is decided that the request goes on after all that rose.
    ///
    /// # Errors
    /// Nobody decides any more: the request is at its end.
    pub(crate) async fn come(&self) -> Result<(), Gone> {
        if *self.decided.borrow() == *self.rises.borrow() {
            return Ok(());
        }
        let (rises, mut decided) = (self.rises.clone(), self.decided.clone());
        while *decided.borrow_and_update() != *rises.borrow() {
            decided.changed().await.map_err(|_| Gone)?;
        }
        Ok(())
    }
}

impl Changes {
    /// Whether there is one on which nothing is decided yet.
    pub(crate) fn has_any(&mut self) -> bool {
        let changed = |seen: Result<bool, _>| seen.unwrap_or(true);
        self.undecided |= changed(self.rises.has_changed()) || changed(self.policies.has_changed());
        if self.undecided {
            self.rises.mark_unchanged();
            self.policies.mark_unchanged();
        }
        self.undecided
    }

    /// Whether labels rose since it was last looked; that is all that is forgotten.
    fn has_risen(&mut self) -> bool {
        let risen = self.rises.has_changed().unwrap_or(true);
        self.rises.mark_unchanged();
        risen
    }

    /// It was decided, after this rise, that the request goes on.
    pub(crate) fn decided(&mut self, rise: u64) {
        self.undecided = false;
        self.decided.send_replace(rise);
    }

    /// What holds the body of the request.
    pub(crate) fn abreast(&self) -> Abreast {
        Abreast { rises: self.rises.clone(), decided: self.decided.subscribe() }
    }

    /// Waits for one on which nothing is decided yet.
    pub(crate) async fn next(&mut self) {
        while !self.undecided {
            let changed = tokio::select! {
                changed = self.rises.changed() => changed,
                changed = self.policies.changed() => changed,
            };
            if changed.is_err() {
                // Nothing can change any more.
                std::future::pending::<()>().await;
            }
            self.undecided = true;
        }
    }
}
