//! What is kept about things that keep bytes, and about tools: labels that only rise, and pins.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use domain::{AgentName, Digest, Labels, PersonName, Role, ServerName, SessionId, TeamName, ToolRef};
use serde::{Deserialize, Serialize};
use sqlx::Row;

use crate::approvals::json;
use crate::error::damaged;
use crate::ledger::{Change, natural, signed};
use crate::{About, Event, Store, StoreError};

/// What has labels: whoever writes to it gives it theirs, whoever reads from it joins them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Keeper {
    /// A session.
    Session(SessionId),
    /// An agent's disk: workspace, history, whatever its sessions leave behind. `disk:AGENT`
    Disk(AgentName),
    /// A tool server's own store, such as notes or contacts, as one team fills it. `server:TEAM/NAME`
    Server(TeamName, ServerName),
}

/// The text names nothing that has labels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names nothing that has labels: write session:ID, disk:AGENT or server:TEAM/NAME")]
pub struct KeeperError(String);

impl fmt::Display for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(session) => write!(f, "session:{session}"),
            Self::Disk(agent) => write!(f, "disk:{agent}"),
            Self::Server(team, server) => write!(f, "server:{team}/{server}"),
        }
    }
}

impl FromStr for Keeper {
    type Err = KeeperError;
    fn from_str(text: &str) -> Result<Self, KeeperError> {
        let parsed = match text.split_once(':') {
            Some(("session", id)) => id.parse().ok().map(Self::Session),
            Some(("disk", agent)) => agent.parse().ok().map(Self::Disk),
            Some(("server", rest)) => rest
                .split_once('/')
                .and_then(|(team, server)| Some(Self::Server(team.parse().ok()?, server.parse().ok()?))),
            Some(_) | None => None,
        };
        parsed.ok_or_else(|| KeeperError(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for Keeper {
    type Error = KeeperError;
    fn try_from(text: String) -> Result<Self, KeeperError> {
        text.parse()
    }
}

impl From<Keeper> for String {
    fn from(keeper: Keeper) -> Self {
        keeper.to_string()
    }
}

/// Labels stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// Only an owner lowers labels.
    #[error("{0} may not lower labels: an owner can")]
    NotOwner(PersonName),
    /// That would raise something.
    #[error("it has the labels {from}, and {labels} is not lower")]
    NotLower {
        /// Those that it has.
        from: Labels,
        /// Those that were to be.
        labels: Labels,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A tool as a person approved it for an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Of name, description, input schema and effects.
    pub digest: Digest,
    /// Who approved it.
    pub by: PersonName,
    /// When, in milliseconds since 1970.
    pub at: u64,
}

/// A tool's definition as its server offered it at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// What a pin would hold.
    pub digest: Digest,
    /// The text that was hashed, for showing the difference.
    pub text: String,
    /// When it was first seen, in milliseconds since 1970.
    pub seen_at: u64,
}

/// Most definitions kept of one tool, the newest and those that are pinned.
pub const MAX_DEFINITIONS: i64 = 16;
/// Most bytes in a definition.
pub const MAX_DEFINITION: usize = 256 << 10;

impl Store {
    /// The labels of a thing; the least if it has none yet.
    ///
    /// # Errors
    /// The store failed.
    pub async fn labels(&self, keeper: &Keeper) -> Result<Labels, StoreError> {
        let query = sqlx::query("SELECT labels FROM kept_labels WHERE keeper = $1").bind(keeper.to_string());
        let row = query.fetch_optional(self.backend.reader()).await?;
        let Some(row) = row else { return Ok(Labels::default()) };
        serde_json::from_str(&row.try_get::<String, _>("labels")?).map_err(damaged("labels"))
    }

    /// Everything that has labels, by name.
    ///
    /// # Errors
    /// The store failed.
    pub async fn all_labels(&self) -> Result<BTreeMap<Keeper, Labels>, StoreError> {
        let rows =
            sqlx::query("SELECT keeper, labels FROM kept_labels").fetch_all(self.backend.reader()).await?;
        let read = |row: &sqlx::any::AnyRow| {
            let keeper: String = row.try_get("keeper")?;
            let keeper = keeper
                .parse()
                .map_err(|e: KeeperError| StoreError::Damaged { what: "labels", why: e.to_string() })?;
            let labels = serde_json::from_str(&row.try_get::<String, _>("labels")?);
            Ok((keeper, labels.map_err(damaged("labels"))?))
        };
        rows.iter().map(read).collect()
    }

    /// Joins labels to those of a thing, and says what it has now. Only a rise is written.
    ///
    /// # Errors
    /// The store failed: whatever would have carried the labels must not pass.
    pub async fn raise(
        &self,
        keeper: &Keeper,
        labels: &Labels,
        about: &About,
        now: u64,
    ) -> Result<Labels, StoreError> {
        let before = self.labels(keeper).await?;
        if labels.within(&before) {
            return Ok(before);
        }
        let mut change = Change::begin(self, now).await?;
        let raised = change.kept(keeper).await?.join(labels);
        change.keep(keeper, &raised).await?;
        change.record(
            about,
            &Event::LabelsRaised { keeper: keeper.clone(), labels: raised.clone() },
            None,
        )?;
        change.commit().await?;
        Ok(raised)
    }

    /// A person lowers the labels of a thing.
    ///
    /// # Errors
    /// They are no owner, or the labels are not lower than those that it has.
    pub async fn lower(
        &self,
        keeper: &Keeper,
        labels: &Labels,
        by: &PersonName,
        why: &str,
        now: u64,
    ) -> Result<(), LowerError> {
        let mut change = Change::begin(self, now).await?;
        if change.role(by).await? != Some(Role::Owner) {
            return Err(LowerError::NotOwner(by.clone()));
        }
        let from = change.kept(keeper).await?;
        if !labels.within(&from) {
            return Err(LowerError::NotLower { from, labels: labels.clone() });
        }
        change.keep(keeper, labels).await?;
        let (keeper, labels, by, why) = (keeper.clone(), labels.clone(), by.clone(), why.to_owned());
        let event = Event::LabelsLowered { keeper, from, labels, by, why };
        change.record(&About::default(), &event, None)?;
        Ok(change.commit().await?)
    }

    /// Remembers a definition that a server offers for a tool. Says whether it is new.
    ///
    /// # Errors
    /// It is too large, or the store failed: the tool must stay withheld.
    pub async fn see(&self, tool: &ToolRef, definition: &Definition) -> Result<bool, StoreError> {
        let found = definition.text.len();
        if found > MAX_DEFINITION {
            return Err(StoreError::TooLarge { what: "a tool's definition", found, max: MAX_DEFINITION });
        }
        let known = sqlx::query("SELECT tool FROM definitions WHERE tool = $1 AND digest = $2")
            .bind(tool.to_string())
            .bind(definition.digest.to_string());
        if known.fetch_optional(self.backend.reader()).await?.is_some() {
            return Ok(false);
        }
        let mut change = Change::begin(self, definition.seen_at).await?;
        let added = sqlx::query(
            "INSERT INTO definitions (tool, digest, definition, seen_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT DO NOTHING",
        )
        .bind(tool.to_string())
        .bind(definition.digest.to_string())
        .bind(&definition.text)
        .bind(signed(definition.seen_at))
        .execute(change.connection().await?)
        .await?;
        if added.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(
            "DELETE FROM definitions WHERE tool = $1 AND digest NOT IN (SELECT digest FROM pins WHERE tool = $1) \
             AND digest NOT IN (SELECT digest FROM definitions WHERE tool = $1 ORDER BY seen_at DESC, digest LIMIT $2)",
        )
        .bind(tool.to_string())
        .bind(MAX_DEFINITIONS)
        .execute(change.connection().await?)
        .await?;
        let event = Event::ToolSeen { tool: tool.clone(), digest: definition.digest };
        change.record(&About::default(), &event, None)?;
        change.commit().await?;
        Ok(true)
    }

    /// The definitions seen of a tool, newest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn definitions(&self, tool: &ToolRef) -> Result<Vec<Definition>, StoreError> {
        let query = "SELECT * FROM definitions WHERE tool = $1 ORDER BY seen_at DESC, digest";
        let rows = sqlx::query(query).bind(tool.to_string()).fetch_all(self.backend.reader()).await?;
        let read = |row| {
            Ok(Definition {
                digest: Row::try_get::<String, _>(row, "digest")?.parse().map_err(damaged("a definition"))?,
                text: Row::try_get(row, "definition")?,
                seen_at: natural(row, "seen_at")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// A person approves definitions of tools for an agent; each replaces the one before.
    ///
    /// # Errors
    /// The store failed; none is approved.
    pub async fn pin(
        &self,
        agent: &AgentName,
        tools: &BTreeMap<ToolRef, Digest>,
        by: &PersonName,
        now: u64,
    ) -> Result<(), StoreError> {
        let about = About { agent: Some(agent.clone()), ..About::default() };
        let mut change = Change::begin(self, now).await?;
        for (tool, digest) in tools {
            sqlx::query(
                "INSERT INTO pins (agent, tool, digest, approved_by, at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (agent, tool) DO UPDATE SET digest = excluded.digest, \
                 approved_by = excluded.approved_by, at = excluded.at",
            )
            .bind(agent.as_str())
            .bind(tool.to_string())
            .bind(digest.to_string())
            .bind(by.as_str())
            .bind(signed(now))
            .execute(change.connection().await?)
            .await?;
            let event = Event::ToolPinned { tool: tool.clone(), digest: *digest, by: by.clone() };
            change.record(&about, &event, None)?;
        }
        change.commit().await
    }

    /// Takes a tool's approval for an agent back.
    ///
    /// # Errors
    /// The store failed.
    pub async fn unpin(
        &self,
        agent: &AgentName,
        tool: &ToolRef,
        by: &PersonName,
        now: u64,
    ) -> Result<bool, StoreError> {
        let about = About { agent: Some(agent.clone()), ..About::default() };
        let mut change = Change::begin(self, now).await?;
        let query = "DELETE FROM pins WHERE agent = $1 AND tool = $2";
        let deleted = sqlx::query(query)
            .bind(agent.as_str())
            .bind(tool.to_string())
            .execute(change.connection().await?)
            .await?;
        let was_pinned = deleted.rows_affected() > 0;
        if was_pinned {
            let event = Event::ToolUnpinned { tool: tool.clone(), by: by.clone() };
            change.record(&about, &event, None)?;
        }
        change.commit().await?;
        Ok(was_pinned)
    }

    /// What is approved for an agent.
    ///
    /// # Errors
    /// The store failed.
    pub async fn pins(&self, agent: &AgentName) -> Result<BTreeMap<ToolRef, Pin>, StoreError> {
        let query = sqlx::query("SELECT * FROM pins WHERE agent = $1").bind(agent.as_str());
        let rows = query.fetch_all(self.backend.reader()).await?;
        let what = "a pin";
        let read = |row| {
            let text = |column: &'static str| Row::try_get::<String, _>(row, column);
            let pin = Pin {
                digest: text("digest")?.parse().map_err(damaged(what))?,
                by: text("approved_by")?.parse().map_err(damaged(what))?,
                at: natural(row, "at")?,
            };
            Ok((text("tool")?.parse().map_err(damaged(what))?, pin))
        };
        rows.iter().map(read).collect()
    }
}

impl Change<'_> {
    async fn kept(&mut self, keeper: &Keeper) -> Result<Labels, StoreError> {
        let query = sqlx::query("SELECT labels FROM kept_labels WHERE keeper = $1").bind(keeper.to_string());
        let Some(row) = query.fetch_optional(self.connection().await?).await? else {
            return Ok(Labels::default());
        };
        serde_json::from_str(&row.try_get::<String, _>("labels")?).map_err(damaged("labels"))
    }

    async fn keep(&mut self, keeper: &Keeper, labels: &Labels) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO kept_labels (keeper, labels) VALUES ($1, $2) \
             ON CONFLICT (keeper) DO UPDATE SET labels = excluded.labels",
        )
        .bind(keeper.to_string())
        .bind(json(labels)?)
        .execute(self.connection().await?)
        .await?;
        Ok(())
    }
}
