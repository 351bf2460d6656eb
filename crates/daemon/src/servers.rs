//! `servers.toml`: the tool servers of this installation, written by `lazaret server`, and the way to each.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use api::{Problem, ProblemKind, ServerView};
use domain::{ServerName, TeamName};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use gateway::tools::upstream::{Upstream, UpstreamLimits};
use gateway::tools::{Connector, Servers};
use gateway::{BaseUrl, Credential};
use policy::Table;
use serde::{Deserialize, Serialize};
use wire::tools::{ToolFailure, ToolFailureKind};

use crate::error::DaemonError;

/// Most bytes in the file.
const MAX_BYTES: u64 = 256 * 1024;
/// Most servers.
const MAX_SERVERS: usize = 256;
/// The name of the gateway's own tools.
const RESERVED: &str = "lazaret";

/// One server's entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    teams: BTreeSet<TeamName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_env: Option<String>,
}

/// The servers that are known, as the file has them.
#[derive(Debug)]
pub(crate) struct KnownServers {
    path: PathBuf,
    entries: RwLock<BTreeMap<ServerName, Entry>>,
}

impl KnownServers {
    /// Reads `servers.toml` in the configuration folder; without one, there are none.
    pub(crate) fn read(folder: &Path) -> Result<Self, DaemonError> {
        let path = folder.join("servers.toml");
        let text = match std::fs::metadata(&path) {
            Ok(meta) if meta.len() > MAX_BYTES => {
                let message = format!("the file has {} bytes, {MAX_BYTES} are allowed", meta.len());
                return Err(DaemonError::Config { path, message });
            }
            Ok(_) => std::fs::read_to_string(&path).map_err(DaemonError::file(&path))?,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(source) => return Err(DaemonError::File { path, source }),
        };
        let entries: BTreeMap<ServerName, Entry> = toml::from_str(&text).map_err(|error| {
            DaemonError::Config { path: path.clone(), message: error.to_string().trim_end().to_owned() }
        })?;
        let known = Self { path, entries: RwLock::new(entries) };
        for (name, entry) in known.all() {
            known.check(&name, &entry).map_err(|problem| DaemonError::Config {
                path: known.path.clone(),
                message: problem.message,
            })?;
        }
        Ok(known)
    }

    fn all(&self) -> BTreeMap<ServerName, Entry> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every server.
    pub(crate) fn list(&self) -> Vec<ServerView> {
        let view = |(name, entry): (ServerName, Entry)| ServerView {
            name,
            url: entry.url,
            table: entry.table,
            teams: entry.teams,
            token_env: entry.token_env,
        };
        self.all().into_iter().map(view).collect()
    }

    /// Adds a server or changes one.
    pub(crate) fn put(&self, view: ServerView) -> Result<(), Problem> {
        let entry = Entry { url: view.url, table: view.table, teams: view.teams, token_env: view.token_env };
        self.check(&view.name, &entry)?;
        let mut entries = self.all();
        entries.insert(view.name, entry);
        if entries.len() > MAX_SERVERS {
            return Err(Problem::new(ProblemKind::Busy, format!("there are {MAX_SERVERS} servers already")));
        }
        self.write(entries)
    }

    /// Removes a server; true if there was one.
    pub(crate) fn remove(&self, name: &ServerName) -> Result<bool, Problem> {
        let mut entries = self.all();
        let was_there = entries.remove(name).is_some();
        if was_there {
            self.write(entries)?;
        }
        Ok(was_there)
    }

    fn write(&self, entries: BTreeMap<ServerName, Entry>) -> Result<(), Problem> {
        let failed = |e: std::io::Error| {
            Problem::new(ProblemKind::Internal, format!("`{}`: {e}", self.path.display()))
        };
        let text =
            toml::to_string(&entries).map_err(|e| Problem::new(ProblemKind::Internal, e.to_string()))?;
        let new = self.path.with_extension("toml.new");
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut options = std::fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&new, &self.path).map_err(failed)?;
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = entries;
        Ok(())
    }

    fn check(&self, name: &ServerName, entry: &Entry) -> Result<(), Problem> {
        let invalid =
            |message: String| Problem::new(ProblemKind::Invalid, format!("server {name}: {message}"));
        if name.as_str() == RESERVED {
            return Err(invalid("this name is the gateway's own".to_owned()));
        }
        BaseUrl::parse(&entry.url, false).map_err(|e| invalid(e.to_string()))?;
        self.table(entry).map_err(invalid).map(drop)
    }

    /// What is said of a server's tools.
    fn table(&self, entry: &Entry) -> Result<Table, String> {
        let Some(name) = &entry.table else { return Ok(Table::default()) };
        if let Some(text) = Table::shipped(name) {
            return Table::parse(text).map_err(|e| format!("table {name}: {e}"));
        }
        let path = self.path.parent().unwrap_or(Path::new("/")).join(name);
        let length = std::fs::metadata(&path).map_err(|e| format!("`{}`: {e}", path.display()))?.len();
        if length > Table::MAX_BYTES as u64 {
            return Err(format!("`{}` has {length} bytes, {} are allowed", path.display(), Table::MAX_BYTES));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| format!("`{}`: {e}", path.display()))?;
        Table::parse(&text).map_err(|e| format!("`{}`: {e}", path.display()))
    }

    /// Has the gateway take the tables as they are now.
    pub(crate) fn classify(&self, servers: &Servers) {
        let mut tables = BTreeMap::new();
        for (name, entry) in self.all() {
            match self.table(&entry) {
                Ok(table) => drop(tables.insert(name, Arc::new(table))),
                // Its tools are then unclassified: the worst is assumed of them.
                Err(why) => tracing::warn!(server = %name, why, "a table can't be read"),
            }
        }
        servers.classify(tables);
    }

    async fn reach(&self, team: &TeamName, server: &ServerName) -> Result<Upstream, ToolFailure> {
        let entry = self.all().remove(server);
        let Some(entry) = entry.filter(|entry| entry.teams.is_empty() || entry.teams.contains(team)) else {
            let why = format!("there is no tool server {server} for team {team}");
            return Err(ToolFailure::new(ToolFailureKind::NotFound, why)
                .hint("an owner adds one: `lazaret server add`"));
        };
        let internal = |e: &dyn std::fmt::Display| ToolFailure::new(ToolFailureKind::Internal, e.to_string());
        let address = BaseUrl::parse(&entry.url, false).map_err(|e| internal(&e))?;
        let credential = match &entry.token_env {
            None => Credential::None,
            Some(variable) => match std::env::var(variable) {
                Ok(token) if !token.trim().is_empty() => Credential::Bearer(token.trim().to_owned().into()),
                Ok(_) | Err(_) => {
                    return Err(internal(&format!(
                        "`{variable}` is not set for the daemon: server {server} wants it"
                    )));
                }
            },
        };
        Upstream::over_http(&address, credential, UpstreamLimits::default()).await
    }
}

impl Connector for KnownServers {
    fn connect<'s>(
        &'s self,
        team: &'s TeamName,
        server: &'s ServerName,
    ) -> BoxFuture<'s, Result<Upstream, ToolFailure>> {
        self.reach(team, server).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(name: &str, url: &str, table: Option<&str>) -> ServerView {
        ServerView {
            name: name.parse().unwrap(),
            url: url.to_owned(),
            table: table.map(str::to_owned),
            teams: BTreeSet::new(),
            token_env: None,
        }
    }

    #[test]
    fn servers_are_kept_in_the_file_and_mistakes_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownServers::read(folder.path()).unwrap();
        known.put(view("mail", "http://127.0.0.1:9/mcp", Some("mail"))).unwrap();
        for bad in [
            view("lazaret", "http://127.0.0.1:9/mcp", None),
            view("x", "ftp://127.0.0.1", None),
            view("x", "http://elsewhere.example/mcp", None),
            view("x", "https://user:pass@elsewhere.example/mcp", None),
            view("x", "http://127.0.0.1:9/mcp", Some("nosuch.toml")),
        ] {
            assert!(known.put(bad).is_err());
        }
        let again = KnownServers::read(folder.path()).unwrap();
        assert_eq!(again.list(), [view("mail", "http://127.0.0.1:9/mcp", Some("mail"))]);
        assert!(again.remove(&"mail".parse().unwrap()).unwrap());
        assert!(KnownServers::read(folder.path()).unwrap().list().is_empty());
    }
}
