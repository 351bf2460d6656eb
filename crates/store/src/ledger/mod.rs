//! The ledger: what happened, in order, append-only. Whoever changes it is found out; what is sealed can be erased.

pub(crate) mod chain;
mod event;
mod group;
mod pages;
mod seal;
mod verify;

use domain::{Digest, PersonName};
use rusqlite::Connection;

pub use chain::{Fault, Head, Tampered};
pub use event::{About, Act, ByRight, Event, Outcome, Reserved, Scope, Verdict};
pub(crate) use group::{Group, Job, LINGER, Written, number};
pub use pages::{Entry, Filter, MAX_PAGE, Sealed};
pub use seal::Private;
pub use verify::{Verified, VerifyError};

use crate::backend::{Backend, Transaction};
use crate::error::damaged;
use crate::statement::{Answers, Row, Statement};
use crate::{Store, StoreError};
use chain::{Found, Link};

/// Most bytes in an entry's open part.
pub const MAX_BODY: usize = 64 << 10;
/// Most bytes in an entry's sealed part, before sealing.
pub const MAX_SEALED: usize = 4 << 20;

/// A transaction that has the ledger's lock, and so is the only one that changes anything.
pub(crate) struct Change<'s> {
    pub(crate) store: &'s Store,
    transaction: Transaction<'s>,
    /// What is written before anything is asked, or at the end.
    later: Vec<Statement>,
    /// The time of what it records.
    pub(crate) now: u64,
    seq: u64,
    hash: Digest,
    recorded: bool,
}

impl<'s> Change<'s> {
    pub(crate) async fn begin(store: &'s Store, now: u64) -> Result<Self, StoreError> {
        Ok(Self::begin_with(store, now, Vec::new()).await?.0)
    }

    /// The same, and what these statements find at its beginning.
    pub(crate) async fn begin_with(
        store: &'s Store,
        now: u64,
        first: Vec<Statement>,
    ) -> Result<(Self, Answers), StoreError> {
        Self::begun(store, now, store.backend.begin(locking(first)).await?)
    }

    /// The same on the thread that has the connection of SQLite, or wherever there is none.
    pub(crate) async fn begin_here(
        store: &'s Store,
        here: Option<&'s mut Connection>,
        first: Vec<Statement>,
    ) -> Result<(Self, Answers), StoreError> {
        let begun = match here {
            Some(connection) => Transaction::begin_here(connection, locking(first)).await?,
            None => store.backend.begin(locking(first)).await?,
        };
        Self::begun(store, 0, begun)
    }

    fn begun(
        store: &'s Store,
        now: u64,
        (transaction, mut answers): (Transaction<'s>, Answers),
    ) -> Result<(Self, Answers), StoreError> {
        let head = answers.next().unwrap_or_default();
        let row = head.first().ok_or_else(headless)?;
        let seq = natural(row, "seq")?;
        let hash = row.text("hash")?.parse().map_err(damaged("the ledger's head"))?;
        Ok((Self { store, transaction, later: Vec::new(), now, seq, hash, recorded: false }, answers))
    }

    /// Has a statement run before anything else is asked, or at the end. What it does is not looked at.
    pub(crate) fn later(&mut self, statement: Statement) {
        self.later.push(statement);
    }

    /// Runs what was left for later, then these; says what each of these found.
    pub(crate) async fn ask(&mut self, batch: Vec<Statement>) -> Result<Answers, StoreError> {
        let mut all = std::mem::take(&mut self.later);
        let before = all.len();
        all.extend(batch);
        let mut answers = self.transaction.run(all).await?;
        answers.by_ref().take(before).for_each(drop);
        Ok(answers)
    }

    /// What a statement finds, with everything written that was left for later.
    pub(crate) async fn find(&mut self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        Ok(self.ask(vec![statement]).await?.next().unwrap_or_default().rows)
    }

    /// The first row that it finds.
    pub(crate) async fn find_one(&mut self, statement: Statement) -> Result<Option<Row>, StoreError> {
        Ok(self.find(statement).await?.into_iter().next())
    }

    /// How many rows a statement changed.
    pub(crate) async fn changed(&mut self, statement: Statement) -> Result<u64, StoreError> {
        Ok(self.ask(vec![statement]).await?.next().unwrap_or_default().changed)
    }

    /// The number that the next entry gets.
    fn next(&self) -> u64 {
        self.seq.saturating_add(1)
    }

    /// Appends an entry, and says its number.
    pub(crate) fn record(
        &mut self,
        about: &About,
        event: &Event,
        private: Option<&Private>,
    ) -> Result<u64, StoreError> {
        let (kind, body) = written(event)?;
        let seq = self.next();
        let sealed = private.map(|private| self.seal(seq, private)).transpose()?;
        let link = Link {
            seq,
            at: self.now,
            kind,
            agent: about.agent.as_ref().map(ToString::to_string),
            team: about.team.as_ref().map(ToString::to_string),
            session: about.session.as_ref().map(ToString::to_string),
            body,
            sealed,
            prev: self.hash,
        };
        self.hash = link.hash();
        self.seq = seq;
        self.recorded = true;
        let signature = chain::sign(&self.store.keys, seq, &self.hash);
        self.later(insert(link, &self.hash, signature));
        Ok(seq)
    }

    fn seal(&mut self, seq: u64, private: &Private) -> Result<Vec<u8>, StoreError> {
        check_sealed(private)?;
        let mut secret = [0; 32];
        self.store.random.fill(&mut secret).map_err(StoreError::Random)?;
        let sealed = seal::seal(&self.store.keys, &secret, seq, private.reveal())
            .map_err(|why| StoreError::Damaged { what: "an entry's key", why: why.to_string() })?;
        let keep = Statement::new("INSERT INTO record_keys (seq, secret) VALUES ($1, $2)");
        self.later(keep.number(signed(seq)).bytes(secret.to_vec()));
        Ok(sealed)
    }

    /// Marks where it stands, so that what follows can be undone by itself.
    async fn mark(&mut self) -> Result<(u64, Digest, bool), StoreError> {
        self.ask(vec![Statement::new("SAVEPOINT one")]).await?;
        Ok((self.seq, self.hash, self.recorded))
    }

    /// Keeps what was done since the mark.
    fn release(&mut self) {
        self.later(Statement::new(RELEASE));
    }

    /// Undoes what was done since the mark.
    async fn back_to(&mut self, (seq, hash, recorded): (u64, Digest, bool)) -> Result<(), StoreError> {
        self.later.clear();
        (self.seq, self.hash, self.recorded) = (seq, hash, recorded);
        self.ask(vec![Statement::new("ROLLBACK TO SAVEPOINT one"), Statement::new(RELEASE)]).await?;
        Ok(())
    }

    /// Makes all of it true, or none.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        if self.recorded {
            let head = Statement::new("UPDATE ledger_head SET seq = $1, hash = $2 WHERE one = 1");
            let head = head.number(signed(self.seq)).text(self.hash.to_string());
            self.later(head);
        }
        self.transaction.commit(self.later).await?;
        self.store.tell();
        Ok(())
    }
}

/// Takes the lock first.
fn locking(first: Vec<Statement>) -> Vec<Statement> {
    let lock = Statement::new("UPDATE ledger_head SET seq = seq WHERE one = 1 RETURNING seq, hash");
    std::iter::once(lock).chain(first).collect()
}

fn headless() -> StoreError {
    StoreError::Damaged { what: "the ledger's head", why: "it is gone".to_owned() }
}

const RELEASE: &str = "RELEASE SAVEPOINT one";

fn written(event: &Event) -> Result<(String, String), StoreError> {
    let value = serde_json::to_value(event).map_err(damaged("an event"))?;
    let kind = value.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned();
    let body = value.to_string();
    if body.len() > MAX_BODY {
        return Err(StoreError::TooLarge { what: "a ledger entry", found: body.len(), max: MAX_BODY });
    }
    Ok((kind, body))
}

fn check_sealed(private: &Private) -> Result<(), StoreError> {
    let found = private.reveal().len();
    if found > MAX_SEALED {
        return Err(StoreError::TooLarge {
            what: "the sealed part of a ledger entry",
            found,
            max: MAX_SEALED,
        });
    }
    Ok(())
}

/// Refuses what an entry can't hold, before it waits with others.
fn check_sizes(event: &Event, private: Option<&Private>) -> Result<(), StoreError> {
    written(event)?;
    private.map_or(Ok(()), check_sealed)
}

fn insert(link: Link, hash: &Digest, signature: Vec<u8>) -> Statement {
    Statement::new(
        "INSERT INTO ledger (seq, at, kind, agent, team, session, body, sealed, prev, hash, signature) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .number(signed(link.seq))
    .number(signed(link.at))
    .text(link.kind)
    .text(link.agent)
    .text(link.team)
    .text(link.session)
    .text(link.body)
    .bytes(link.sealed)
    .text(link.prev.to_string())
    .text(hash.to_string())
    .bytes(signature)
}

/// As SQL has whole numbers; a time or count beyond 2^63 can't come up, and would be stored as the largest.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A column that holds no negative number.
pub(crate) fn natural(row: &Row, column: &'static str) -> Result<u64, StoreError> {
    u64::try_from(row.number(column)?).map_err(damaged(column))
}

/// The newest entry, as it claims to be.
pub(crate) async fn newest(backend: &Backend) -> Result<Option<Head>, StoreError> {
    let newest = "SELECT seq, hash, signature FROM ledger ORDER BY seq DESC LIMIT 1";
    let Some(row) = backend.find_one(Statement::new(newest)).await? else { return Ok(None) };
    Ok(Some(Head {
        seq: natural(&row, "seq")?,
        hash: row.text("hash")?.parse().map_err(damaged("a hash"))?,
        signature: chain::hex(row.bytes("signature")?),
    }))
}

/// Whom an entry is about.
pub(crate) fn about(row: &Row) -> Result<About, StoreError> {
    let what = "whom a ledger entry is about";
    let text = |column: &'static str| row.optional_text(column);
    Ok(About {
        agent: text("agent")?.map(str::parse).transpose().map_err(damaged(what))?,
        team: text("team")?.map(str::parse).transpose().map_err(damaged(what))?,
        session: text("session")?.map(str::parse).transpose().map_err(damaged(what))?,
    })
}

impl Store {
    /// Records several events in one transaction.
    ///
    /// # Errors
    /// None of them was recorded.
    pub async fn record_all(&self, events: &[(About, Event)], now: u64) -> Result<(), StoreError> {
        let mut change = Change::begin(self, now).await?;
        for (about, event) in events {
            change.record(about, event, None)?;
        }
        change.commit().await
    }

    /// The newest entry, signed. Keep it outside of the database, to verify against.
    ///
    /// # Errors
    /// The database fails.
    pub async fn head(&self) -> Result<Option<Head>, StoreError> {
        newest(&self.backend).await
    }

    /// Makes an entry's sealed part unreadable for good: its key is deleted. The chain still verifies, and tells who did it. One
    /// that is erased already is forgotten where it was not.
    ///
    /// # Errors
    /// There is nothing sealed in it; or it is erased, but not forgotten yet: see [`StoreError::StillInLog`].
    pub async fn erase(&self, seq: u64, by: &PersonName, why: &str, now: u64) -> Result<(), StoreError> {
        let mut change = Change::begin(self, now).await?;
        let delete = Statement::new("DELETE FROM record_keys WHERE seq = $1").number(signed(seq));
        let erased_now = change.changed(delete).await? > 0;
        if erased_now {
            let event = Event::Erased { seq, by: by.clone(), why: why.to_owned() };
            change.record(&About::default(), &event, None)?;
            change.commit().await?;
        } else {
            drop(change);
        }
        // Also where nothing is found to be erased: whoever asks again hears of no key that is still there.
        let forgotten = self.backend.forget_deleted().await?;
        if !erased_now && !self.was_erased(seq).await? {
            return Err(StoreError::Unknown { what: "sealed ledger entry", name: seq.to_string() });
        }
        if forgotten { Ok(()) } else { Err(StoreError::StillInLog(seq)) }
    }

    /// Whether somebody erased the entry. One that nobody did has lost its key otherwise, if it had one.
    async fn was_erased(&self, seq: u64) -> Result<bool, StoreError> {
        let erased = Filter { kind: Some("erased".to_owned()), ..Filter::default() };
        // It is told after the entry itself, on whichever page.
        let mut after = seq;
        loop {
            let page = self.entries_after(after, u32::MAX, &erased).await?;
            let Some(last) = page.last() else { return Ok(false) };
            after = last.seq;
            let is_it = |entry: &Entry| matches!(entry.event, Event::Erased { seq: of, .. } if of == seq);
            if page.iter().any(is_it) {
                return Ok(true);
            }
        }
    }
}

pub(crate) fn is_ours(public_key: &[u8], head: &Head) -> bool {
    let bytes: Option<Vec<u8>> = head
        .signature
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    bytes.is_some_and(|signature| chain::is_signed(public_key, head.seq, &head.hash, &signature))
}

/// A row of the ledger, whatever it may hold by now.
fn found(row: &Row) -> Found {
    let text = |column| Some(row.text(column).ok()?.to_owned());
    let digest = |column| row.text(column).ok()?.parse::<Digest>().ok();
    let optional = |column| Some(row.optional_text(column).ok()?.map(str::to_owned));
    let number = |column| natural(row, column).ok();
    let link = || {
        Some(Link {
            seq: number("seq")?,
            at: number("at")?,
            kind: text("kind")?,
            agent: optional("agent")?,
            team: optional("team")?,
            session: optional("session")?,
            body: text("body")?,
            sealed: row.optional_bytes("sealed").ok()?.map(<[u8]>::to_vec),
            prev: digest("prev")?,
        })
    };
    Found {
        link: link(),
        hash: digest("hash"),
        signature: row.bytes("signature").unwrap_or_default().to_vec(),
    }
}
