//! Verifying: the whole chain is followed, page by page, away from the threads that others wait for.

use std::collections::BTreeSet;

use serde::Serialize;

use super::chain::{Fault, Follower, Head, Link, Tampered};
use super::{Event, chain, found, headless, is_ours, natural, seal, signed};
use crate::keys::Keys;
use crate::statement::{Row, Statement};
use crate::{Store, StoreError};

/// A ledger that is as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// How many entries it has.
    pub entries: u64,
    /// How many of them were erased.
    pub erased: u64,
    /// Its newest entry: keep it elsewhere, to verify against. None if it is empty.
    pub head: Option<Head>,
}

/// What verifying found.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Somebody changed the ledger.
    #[error(transparent)]
    Tampered(#[from] Tampered),
    /// It couldn't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How far it has come.
struct Verification {
    keys: Keys,
    follower: Follower,
    /// Sealed parts that can't be opened, of which nobody has said so far that they were erased.
    lost: BTreeSet<u64>,
    erased: u64,
    /// The number of the last entry that it has seen.
    bound: i64,
}

impl Store {
    /// Follows the whole chain: each hash, each signature, each sealed part; and that nothing is missing that this
    /// database, or the head last seen, says was written. What is written meanwhile is verified too.
    ///
    /// # Errors
    /// The first entry that is not as it was written.
    pub async fn verify(&self, seen: Option<&Head>) -> Result<Verified, VerifyError> {
        let public = self.keys.public();
        if let Some(head) = seen.filter(|head| !is_ours(public, head)) {
            return Err(Tampered { seq: head.seq, fault: Fault::ForeignHead }.into());
        }
        let head = "SELECT seq, (SELECT COUNT(*) FROM ledger) AS there FROM ledger_head";
        let head = self.backend.find_one(Statement::new(head)).await?.ok_or_else(headless)?;
        let (last, there) = (natural(&head, "seq")?, natural(&head, "there")?);
        let mut verification = Verification {
            keys: self.keys.clone(),
            follower: Follower::new(public.to_vec(), last, there, seen.cloned()),
            lost: BTreeSet::new(),
            erased: 0,
            bound: i64::MIN,
        };
        loop {
            let rows = self.rows_after(verification.bound).await?;
            if rows.is_empty() {
                return Ok(verification.end()?);
            }
            let followed = tokio::task::spawn_blocking(move || verification.follow(&rows));
            verification = followed.await.map_err(|_| StoreError::Closed)??;
        }
    }
}

impl Verification {
    fn follow(mut self, rows: &[Row]) -> Result<Self, Tampered> {
        for row in rows {
            let found = found(row);
            self.follower.follow(&found)?;
            let Some(link) = found.link else { continue };
            self.bound = signed(link.seq);
            if !self.opens(row, &link) {
                self.lost.insert(link.seq);
            }
            if let Ok(Event::Erased { seq, .. }) = serde_json::from_str(&link.body)
                && self.lost.remove(&seq)
            {
                self.erased = self.erased.saturating_add(1);
            }
        }
        Ok(self)
    }

    /// Whether there is nothing sealed, or it can be opened.
    fn opens(&self, row: &Row, link: &Link) -> bool {
        let Some(sealed) = &link.sealed else { return true };
        let secret = row.bytes("secret");
        secret.is_ok_and(|secret| seal::open(&self.keys, secret, link.seq, sealed).is_some())
    }

    fn end(self) -> Result<Verified, Tampered> {
        let Self { follower, lost, erased, .. } = self;
        follower.end()?;
        if let Some(seq) = lost.first() {
            return Err(Tampered { seq: *seq, fault: Fault::KeyLost });
        }
        let head = Head { seq: follower.at, hash: follower.hash, signature: chain::hex(&follower.signature) };
        Ok(Verified { entries: follower.at, erased, head: (follower.at > 0).then_some(head) })
    }
}
