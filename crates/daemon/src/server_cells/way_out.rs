//! The way out of a tool server's cell: what its entry in `servers.toml` lets through, by the way of an agent's requests. Nobody is
//! asked, for there is no session whose person could be; what it brings back is on the results of its tools.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use api::ServerCell;
use domain::{AgentFile, SecretName, ServerName, TeamName};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use gateway::egress::{Authority, Leaves, Outside, SessionEgress};
use gateway::tools::upstream::Upstream;
use gateway::tools::{Authors, Connector, Servers, Session, SessionGate};
use policy::{AgentPolicy, Seen, Sources};
use serde::Serialize;
use store::{About, Randomness as _, Store};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use wire::guest::EgressProxy;
use wire::host::DoorOpens;
use wire::mux::Stream;
use wire::tools::{ToolFailure, ToolFailureKind};

use crate::harness::EGRESS_PORT;
use crate::journal::now;
use crate::keeping::System;

/// Opens ways out.
pub(crate) struct Ways {
    outside: Outside,
    authority: Arc<Authority>,
    kept: Arc<Servers>,
    /// The policies of those that are open.
    open: Mutex<Vec<(ServerName, Weak<Policy>)>>,
}

/// What a way out is told its policy by.
type Policy = watch::Sender<Arc<AgentPolicy>>;

/// The way out of one cell.
pub(super) struct WayOut {
    egress: Arc<SessionEgress>,
    leaves: Arc<Leaves>,
    authority: String,
    /// What its requests may carry.
    pub(super) secrets: Vec<SecretName>,
    /// Its policy, which lasts as long as it.
    #[cfg_attr(not(test), expect(dead_code, reason = "it is held, so that the gate's policy lasts"))]
    policy: Arc<Policy>,
    requests: JoinSet<()>,
}

/// What the entry of a tool server in a cell lets through; none where nothing leaves its cells.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn rules(server: &ServerName, cell: &ServerCell) -> Result<Option<AgentFile>, String> {
    #[derive(Serialize)]
    struct Written<'a> {
        name: &'a ServerName,
        harness: BTreeMap<&'a str, [&'a str; 1]>,
        egress: WrittenEgress<'a>,
        secrets: &'a BTreeMap<SecretName, Vec<String>>,
    }
    #[derive(Serialize)]
    struct WrittenEgress<'a> {
        allow: &'a [String],
        requests_per_minute: u32,
        bytes_out_per_day: String,
    }
    if cell.egress.is_empty() {
        return if cell.secrets.is_empty() {
            Ok(None)
        } else {
            Err("`cell.secrets` go with requests, and `cell.egress` lets none through".to_owned())
        };
    }
    let written = Written {
        name: server,
        harness: [("command", ["none"])].into(),
        egress: WrittenEgress {
            allow: &cell.egress,
            requests_per_minute: cell.limits.requests_per_minute,
            bytes_out_per_day: cell.limits.bytes_out_per_day.to_string(),
        },
        secrets: &cell.secrets,
    };
    let text = toml::to_string(&written).map_err(|e| e.to_string())?;
    let mut file = AgentFile::parse(&text)
        .map_err(|e| format!("`cell.egress`, `cell.secrets`, `cell.limits`: {}", e.message))?;
    // The text above is no file of a person's.
    file.egress.iter_mut().flat_map(|egress| &mut egress.rules).for_each(|rule| rule.line = 0);
    Ok(Some(file))
}

impl Ways {
    /// By this way out, with certificates of this authority.
    pub(crate) fn new(outside: Outside, authority: Arc<Authority>, store: Store) -> Self {
        let kept = Servers::new(store, Arc::new(System), now, Arc::new(NoServers));
        Self { outside, authority, kept: Arc::new(kept), open: Mutex::default() }
    }

    /// Lets nothing more out of a server's cells: its entry was changed or removed. What is open ends.
    pub(super) fn close(&self, server: &ServerName) {
        for policy in
            self.open().iter().filter(|(name, _)| name == server).filter_map(|(_, open)| open.upgrade())
        {
            let why = format!("the entry of tool server {server} was changed or removed");
            policy.send_modify(|policy| *policy = Arc::new(AgentPolicy::clone(policy).closed(why)));
        }
    }

    fn open(&self) -> MutexGuard<'_, Vec<(ServerName, Weak<Policy>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way out of a team's cell of this server, if it has one.
    pub(super) async fn make(
        &self,
        team: &TeamName,
        server: &ServerName,
        cell: &ServerCell,
    ) -> Result<Option<WayOut>, String> {
        let Some(file) = rules(server, cell)? else { return Ok(None) };
        let place = format!("servers.toml, [{server}.cell]");
        let from =
            Sources { agent: &file, file: &place, own: None, organisation: &[], tools: &[], models: &[] };
        let policy = AgentPolicy::compile(&from).map_err(|e| e.to_string())?;
        let (told, policy) = watch::channel(Arc::new(policy));
        let about = About { agent: None, team: Some(team.clone()), session: None };
        let session =
            Session { about, by: Authors::default(), disk: None, tokens_per_day: 0, usd_per_day: None };
        let mut salt = [0; 32];
        System.fill(&mut salt).map_err(|e| e.to_string())?;
        // Refusals are on the ledger, and nobody sits before this session who could be told.
        let (events, _) = mpsc::channel(1);
        let gate = SessionGate::open(Arc::clone(&self.kept), session, policy, Seen::new(salt), events);
        let gate = Arc::new(gate.await.map_err(|e| e.to_string())?);
        let told = Arc::new(told);
        {
            let mut open = self.open();
            open.retain(|(_, policy)| policy.strong_count() > 0);
            open.push((server.clone(), Arc::downgrade(&told)));
        }
        Ok(Some(WayOut {
            egress: Arc::new(SessionEgress::of_server(server.clone(), gate, self.outside.clone())),
            leaves: Arc::new(Leaves::new(Arc::clone(&self.authority))),
            authority: self.authority.pem().to_owned(),
            secrets: cell.secrets.keys().cloned().collect(),
            policy: told,
            requests: JoinSet::new(),
        }))
    }
}

impl WayOut {
    /// Ends what it still carries, and has written that nobody knows what came of it.
    pub(super) async fn end(mut self) {
        self.requests.shutdown().await;
        if let Err(error) = self.egress.end().await {
            tracing::error!(%error, "the requests of a tool server's cell that were cut count as unknown at the next start only");
        }
    }

    /// What it goes by now.
    #[cfg(test)]
    pub(super) fn policy(&self) -> Arc<AgentPolicy> {
        Arc::clone(&self.policy.borrow())
    }

    /// What the cell is told of it.
    pub(super) fn proxy(&self) -> EgressProxy {
        EgressProxy { port: EGRESS_PORT, authority: self.authority.clone() }
    }

    /// Serves a stream of the door. The mux bounds how many there are.
    pub(super) fn serve(&mut self, mut stream: Stream) {
        while self.requests.try_join_next().is_some() {}
        let (egress, leaves) = (Arc::clone(&self.egress), Arc::clone(&self.leaves));
        self.requests.spawn(async move {
            let served = match DoorOpens::read(&mut stream).await {
                Ok(Some(DoorOpens::Egress(request))) => {
                    gateway::egress::serve(request, stream, egress.as_ref()).await
                }
                Ok(Some(DoorOpens::Leaf { host })) => leaves.serve(&host, stream).await,
                Ok(Some(DoorOpens::Model(_) | DoorOpens::Models | DoorOpens::Tools(_))) => {
                    tracing::debug!("a tool server's cell asks for a model or a tool, which it may not");
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::debug!(%error, "the door of a tool server's cell was not served");
            }
        });
    }
}

/// A tool server reaches no other.
struct NoServers;

impl Connector for NoServers {
    fn connect<'s>(
        &'s self,
        _team: &'s TeamName,
        server: &'s ServerName,
    ) -> BoxFuture<'s, Result<Upstream, ToolFailure>> {
        let why = format!("a tool server reaches no other, such as {server}");
        async { Err(ToolFailure::new(ToolFailureKind::NotFound, why)) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_what_leaves_a_tool_servers_cells_are_its_entrys() {
        let file = |limits: &str| {
            let text = format!(
                "image = \"base\"\ncommand = [\"mcp\"]\negress = [\"GET https://api.example/*\"]\n[limits]\n{limits}"
            );
            let cell: ServerCell = toml::from_str(&text).unwrap();
            rules(&"crm".parse().unwrap(), &cell).map(|file| {
                let egress = file.unwrap().egress.unwrap();
                (egress.requests_per_minute, egress.bytes_out_per_day)
            })
        };
        assert_eq!(file(""), Ok((600, domain::ByteSize::mib(64))));
        let set = file("requests_per_minute = 5\nbytes_out_per_day = \"2MiB\"\n");
        assert_eq!(set, Ok((5, domain::ByteSize::mib(2))));
        for bad in ["requests_per_minute = 0", "bytes_out_per_day = \"2TiB\""] {
            let told = file(bad).unwrap_err();
            assert!(told.contains("`cell.limits`") && told.contains("is from"), "{told}");
        }
    }
}
