//! What is kept about things that keep bytes, and about tools: labels that only rise, and pins.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use domain::{AgentName, Digest, Labels, PersonName, Role, ServerName, SessionId, TeamName, ToolRef};
use serde::{Deserialize, Serialize};

use crate::approvals::json;
use crate::error::damaged;
use crate::ledger::{Change, natural, signed};
use crate::statement::{Row, Statement};
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
        let row = self.backend.look(labels_of(keeper)).await?;
        row.map_or_else(|| Ok(Labels::default()), |row| labels(&row))
    }

    /// Everything that has labels, by name.
    ///
    /// # Errors
    /// The store failed.
    pub async fn all_labels(&self) -> Result<BTreeMap<Keeper, Labels>, StoreError> {
        let rows = self.backend.find(Statement::new("SELECT keeper, labels FROM kept_labels")).await?;
        let read = |row| Ok((Row::text(row, "keeper")?.parse().map_err(damaged("labels"))?, labels(row)?));
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
        change.keep(keeper, &raised)?;
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
        change.keep(keeper, labels)?;
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
        let known = Statement::new("SELECT tool FROM definitions WHERE tool = $1 AND digest = $2")
            .text(tool.to_string())
            .text(definition.digest.to_string());
        if self.backend.find_one(known).await?.is_some() {
            return Ok(false);
        }
        let mut change = Change::begin(self, definition.seen_at).await?;
        let add = Statement::new(
            "INSERT INTO definitions (tool, digest, definition, seen_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT DO NOTHING",
        )
        .text(tool.to_string())
        .text(definition.digest.to_string())
        .text(definition.text.clone())
        .number(signed(definition.seen_at));
        if change.changed(add).await? == 0 {
            return Ok(false);
        }
        let remove = Statement::new(
            "DELETE FROM definitions WHERE tool = $1 AND digest NOT IN (SELECT digest FROM pins WHERE tool = $1) \
             AND digest NOT IN (SELECT digest FROM definitions WHERE tool = $1 ORDER BY seen_at DESC, digest LIMIT $2)",
        )
        .text(tool.to_string())
        .number(MAX_DEFINITIONS);
        change.later(remove);
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
        let rows = self.backend.find(Statement::new(query).text(tool.to_string())).await?;
        let read = |row: &Row| {
            Ok(Definition {
                digest: row.text("digest")?.parse().map_err(damaged("a definition"))?,
                text: row.text("definition")?.to_owned(),
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
            let keep = Statement::new(
                "INSERT INTO pins (agent, tool, digest, approved_by, at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (agent, tool) DO UPDATE SET digest = excluded.digest, \
                 approved_by = excluded.approved_by, at = excluded.at",
            )
            .text(agent.to_string())
            .text(tool.to_string())
            .text(digest.to_string())
            .text(by.to_string())
            .number(signed(now));
            change.later(keep);
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
        let delete = Statement::new(query).text(agent.to_string()).text(tool.to_string());
        let was_pinned = change.changed(delete).await? > 0;
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
        let query = Statement::new("SELECT * FROM pins WHERE agent = $1").text(agent.to_string());
        let rows = self.backend.find(query).await?;
        let what = "a pin";
        let read = |row: &Row| {
            let text = |column: &'static str| row.text(column);
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
        let row = self.find_one(labels_of(keeper)).await?;
        row.map_or_else(|| Ok(Labels::default()), |row| labels(&row))
    }

    fn keep(&mut self, keeper: &Keeper, labels: &Labels) -> Result<(), StoreError> {
        let keep = Statement::new(
            "INSERT INTO kept_labels (keeper, labels) VALUES ($1, $2) \
             ON CONFLICT (keeper) DO UPDATE SET labels = excluded.labels",
        );
        self.later(keep.text(keeper.to_string()).text(json(labels)?));
        Ok(())
    }
}

fn labels_of(keeper: &Keeper) -> Statement {
    Statement::new("SELECT labels FROM kept_labels WHERE keeper = $1").text(keeper.to_string())
}

fn labels(row: &Row) -> Result<Labels, StoreError> {
    serde_json::from_str(row.text("labels")?).map_err(damaged("labels"))
}
