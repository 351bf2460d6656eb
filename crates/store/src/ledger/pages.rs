//! Reading the ledger in pages, each of so many entries and so many bytes: an agent decides how large its entries are.

use serde::Serialize;

use domain::{AgentName, Digest, SessionId};

use super::{About, Event, Private, about, chain, found, natural, seal, signed};
use crate::error::damaged;
use crate::statement::{Row, Statement};
use crate::{Store, StoreError};

/// Bytes of entries that end a page; a page has one entry at least, however large it is.
pub const MAX_PAGE: usize = 2 << 20;
/// Most entries that are read at a time to verify them.
const PAGE: i64 = 256;

/// An entry as it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its number; the first is 1.
    pub seq: u64,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Whom it is about.
    pub about: About,
    /// What happened.
    pub event: Event,
    /// The sealed part.
    #[serde(flatten)]
    pub sealed: Sealed,
    /// Its hash, which covers all before it.
    pub hash: Digest,
    /// The ledger's Ed25519 signature of number and hash, as hex digits.
    pub signature: String,
}

/// An entry's sealed part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "sealed", content = "private")]
pub enum Sealed {
    /// It has none.
    None,
    /// Opened.
    Open(Private),
    /// It was erased, or its key is lost.
    Gone,
}

/// Which entries.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this agent only.
    pub agent: Option<AgentName>,
    /// Of this session only.
    pub session: Option<SessionId>,
    /// Of this kind only, as [`Event`] spells it in JSON.
    pub kind: Option<String>,
}

/// Which way a page goes from where it begins.
#[derive(Clone, Copy)]
enum Way {
    /// To newer entries.
    On,
    /// To older ones.
    Back,
}

impl Store {
    /// One entry.
    ///
    /// # Errors
    /// There is none of this number, or it can't be read.
    pub async fn entry(&self, seq: u64) -> Result<Entry, StoreError> {
        let after = seq.checked_sub(1);
        let page = match after {
            Some(after) => self.entries_after(after, 1, &Filter::default()).await?,
            None => Vec::new(),
        };
        let found = page.into_iter().find(|entry| entry.seq == seq);
        found.ok_or_else(|| StoreError::Unknown { what: "ledger entry", name: seq.to_string() })
    }

    /// The newest entries that pass the filter, oldest first: so many, or as many as a page holds.
    ///
    /// # Errors
    /// An entry can't be read.
    pub async fn tail(&self, count: u32, filter: &Filter) -> Result<Vec<Entry>, StoreError> {
        self.entries_before(u64::MAX, count, filter).await
    }

    /// The newest entries before this one that pass the filter, oldest first: so many, or as many as a page holds. From
    /// the end on, page by page, it is the whole ledger.
    ///
    /// # Errors
    /// An entry can't be read.
    pub async fn entries_before(
        &self,
        seq: u64,
        count: u32,
        filter: &Filter,
    ) -> Result<Vec<Entry>, StoreError> {
        let Some(bound) = seq.checked_sub(1) else { return Ok(Vec::new()) };
        let mut entries = self.page(signed(bound), i64::from(count), filter, Way::Back).await?;
        entries.reverse();
        Ok(entries)
    }

    /// The entries after this one that pass the filter, oldest first: so many, or as many as a page holds. From 0 on, page
    /// by page, it is the whole ledger.
    ///
    /// # Errors
    /// An entry can't be read.
    pub async fn entries_after(
        &self,
        seq: u64,
        count: u32,
        filter: &Filter,
    ) -> Result<Vec<Entry>, StoreError> {
        self.page(signed(seq), i64::from(count), filter, Way::On).await
    }

    async fn page(
        &self,
        bound: i64,
        count: i64,
        filter: &Filter,
        way: Way,
    ) -> Result<Vec<Entry>, StoreError> {
        let rows = self.rows(bound, count, filter, way).await?;
        rows.iter().map(|row| self.read(row)).collect()
    }

    /// The rows after this one, whatever they may hold by now, as many as a page holds.
    pub(super) async fn rows_after(&self, bound: i64) -> Result<Vec<Row>, StoreError> {
        self.rows(bound, PAGE, &Filter::default(), Way::On).await
    }

    /// Looks first how large they are: what doesn't fit is never read.
    async fn rows(&self, bound: i64, count: i64, filter: &Filter, way: Way) -> Result<Vec<Row>, StoreError> {
        let (sizes, rows) = match way {
            Way::On => (
                concat!(
                    "SELECT seq, OCTET_LENGTH(body) + COALESCE(OCTET_LENGTH(sealed), 0) AS size FROM ledger ",
                    "WHERE seq > $1 AND ($2 IS NULL OR agent = $2) AND ($3 IS NULL OR session = $3) ",
                    "AND ($4 IS NULL OR kind = $4) ORDER BY seq ASC LIMIT $5"
                ),
                concat!(
                    "SELECT l.*, k.secret FROM ledger l LEFT JOIN record_keys k ON k.seq = l.seq WHERE l.seq > $1 ",
                    "AND ($2 IS NULL OR agent = $2) AND ($3 IS NULL OR session = $3) AND ($4 IS NULL OR kind = $4) ",
                    "ORDER BY l.seq ASC LIMIT $5"
                ),
            ),
            Way::Back => (
                concat!(
                    "SELECT seq, OCTET_LENGTH(body) + COALESCE(OCTET_LENGTH(sealed), 0) AS size FROM ledger ",
                    "WHERE seq <= $1 AND ($2 IS NULL OR agent = $2) AND ($3 IS NULL OR session = $3) ",
                    "AND ($4 IS NULL OR kind = $4) ORDER BY seq DESC LIMIT $5"
                ),
                concat!(
                    "SELECT l.*, k.secret FROM ledger l LEFT JOIN record_keys k ON k.seq = l.seq WHERE l.seq <= $1 ",
                    "AND ($2 IS NULL OR agent = $2) AND ($3 IS NULL OR session = $3) AND ($4 IS NULL OR kind = $4) ",
                    "ORDER BY l.seq DESC LIMIT $5"
                ),
            ),
        };
        let query = |text, bound: i64, count: i64| {
            Statement::new(text)
                .number(bound)
                .text(filter.agent.as_ref().map(ToString::to_string))
                .text(filter.session.as_ref().map(ToString::to_string))
                .text(filter.kind.clone())
                .number(count)
        };
        if count <= 1 {
            return self.backend.find(query(rows, bound, count)).await;
        }
        let sizes = self.backend.find(query(sizes, bound, count)).await?;
        let Some(first) = sizes.first() else { return Ok(Vec::new()) };
        // Entries that have come since are of another page.
        let bound = match way {
            Way::On => bound,
            Way::Back => first.number("seq")?,
        };
        self.backend.find(query(rows, bound, that_fit(&sizes)?)).await
    }

    fn read(&self, row: &Row) -> Result<Entry, StoreError> {
        let found = found(row);
        let what = "a ledger entry";
        let gone = || StoreError::Damaged { what, why: "a column holds something else".to_owned() };
        let link = found.link.ok_or_else(gone)?;
        let secret = row.optional_bytes("secret")?;
        let sealed = match (&link.sealed, secret) {
            (None, _) => Sealed::None,
            (Some(_), None) => Sealed::Gone,
            (Some(sealed), Some(secret)) => {
                seal::open(&self.keys, secret, link.seq, sealed).map_or(Sealed::Gone, Sealed::Open)
            }
        };
        Ok(Entry {
            seq: link.seq,
            at: link.at,
            about: about(row)?,
            event: serde_json::from_str(&link.body).map_err(damaged(what))?,
            sealed,
            hash: found.hash.ok_or_else(gone)?,
            signature: chain::hex(&found.signature),
        })
    }
}

/// How many of the entries, of which these are the sizes, a page holds.
fn that_fit(sizes: &[Row]) -> Result<i64, StoreError> {
    let (mut fit, mut bytes) = (0_i64, 0_u64);
    for row in sizes {
        bytes = bytes.saturating_add(natural(row, "size")?);
        if fit > 0 && bytes > MAX_PAGE as u64 {
            break;
        }
        fit = fit.saturating_add(1);
    }
    Ok(fit)
}
