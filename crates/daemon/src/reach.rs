//! The way from the gateway to each tool server: over HTTP, into a cell, or to a mailbox.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::ServerView;
use dial::Dialer;
use domain::{Destination, SecretName, ServerName, Target, TeamName, ToolRef};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use gateway::tools::upstream::{Upstream, UpstreamLimits};
use gateway::tools::{Connector, IDLE};
use gateway::{Credential, VaultKey};
use oauth::Lender;
use wire::tools::{ToolFailure, ToolFailureKind};

use crate::mailbox;
use crate::server_cells::ServerCells;
use crate::servers::{KnownServers, Way};

/// The tool servers of this installation.
pub(crate) struct ToolServers {
    /// As the file has them.
    pub(crate) known: KnownServers,
    /// The cells of those that run here.
    pub(crate) cells: ServerCells,
    /// The secrets that some want to see.
    pub(crate) lender: Arc<Lender>,
    /// The way to those that are elsewhere.
    pub(crate) dialer: Dialer,
}

impl ToolServers {
    async fn reach(&self, team: &TeamName, server: &ServerName) -> Result<Upstream, ToolFailure> {
        match self.known.way(team, server)? {
            Way::Http(address, secret) => {
                let credential = secret.map_or(Credential::None, |secret| self.shown(secret));
                Upstream::over_http(&self.dialer, &address, credential, UpstreamLimits::default()).await
            }
            Way::Mailbox(mailbox) => mailbox::serve(&mailbox, Arc::clone(&self.lender), self.dialer.clone()),
            Way::Cell(cell) => {
                let upstream = self.cells.connect(team, server, &cell).await?;
                // While it started, its entry may have been changed, and its ways out were not there to be closed.
                match self.known.way(team, server)? {
                    Way::Cell(now) if now == cell => Ok(upstream),
                    Way::Cell(_) | Way::Http(..) | Way::Mailbox(_) => {
                        let why = format!("the entry of tool server {server} was changed while it started");
                        Err(ToolFailure::new(ToolFailureKind::Upstream, why).hint("try again"))
                    }
                }
            }
        }
    }
}

impl ToolServers {
    /// Why a server can't be asked, whatever was heard of it before: the secret that it wants to see is not there, or may not
    /// go to it.
    pub(crate) fn lacks(&self, server: &ServerView) -> Option<String> {
        let shown = match (&server.mailbox, server.secret.as_ref().zip(server.url.as_ref())) {
            (Some(mailbox), _) => mailbox::shown(mailbox),
            (None, shown) => shown.into_iter().map(|(secret, url)| (secret.clone(), url.clone())).collect(),
        };
        shown.iter().find_map(|(secret, url)| self.lent(secret, url)?.err())
    }

    /// Whether the vault lends a secret for this address, or why it doesn't; none if it is no address.
    fn lent(&self, secret: &SecretName, url: &str) -> Option<Result<(), String>> {
        let to: Destination = url.parse().ok()?;
        let (scheme, host, port) = (to.scheme(), to.host(), to.port());
        let method = if scheme.is_http() { "POST" } else { "" };
        let target = Target { scheme, host, port, method, path: to.path() };
        Some(self.lender.vault().lend(secret, &target).map(drop).map_err(|error| error.to_string()))
    }

    fn shown(&self, secret: SecretName) -> Credential {
        Credential::Vault(VaultKey {
            lender: Arc::clone(&self.lender),
            key: Some(secret),
            teams: BTreeMap::new(),
        })
    }
}

impl Connector for ToolServers {
    fn connect<'s>(
        &'s self,
        team: &'s TeamName,
        server: &'s ServerName,
    ) -> BoxFuture<'s, Result<Upstream, ToolFailure>> {
        self.reach(team, server).boxed()
    }

    fn shows(&self, tool: &ToolRef) -> Vec<(SecretName, String)> {
        let Some(server) = self.known.one(&tool.server) else { return Vec::new() };
        match (server.mailbox, server.secret.zip(server.url)) {
            (Some(mailbox), _) => mailbox::shows(&mailbox, &tool.tool),
            (None, shown) => shown.into_iter().collect(),
        }
    }

    fn greets_with(&self, server: &ServerName) -> Option<(SecretName, String)> {
        let server = self.known.one(server)?;
        let (secret, url) = server.secret.zip(server.url).filter(|_| server.mailbox.is_none())?;
        matches!(self.lent(&secret, &url), Some(Ok(()))).then_some((secret, url))
    }

    fn idle(&self, server: &ServerName) -> Duration {
        self.known.idle(server).unwrap_or(IDLE)
    }
}
