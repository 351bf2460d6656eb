//! The way from the gateway to each tool server: over HTTP, into a cell, or to a mailbox.

use std::sync::Arc;
use std::time::Duration;

use dial::Dialer;
use domain::{SecretName, ServerName, TeamName, ToolRef};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use gateway::tools::upstream::{Upstream, UpstreamLimits};
use gateway::tools::{Connector, IDLE};
use vault::Vault;
use wire::tools::ToolFailure;

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
    pub(crate) vault: Arc<Vault>,
    /// The way to those that are elsewhere.
    pub(crate) dialer: Dialer,
}

impl ToolServers {
    async fn reach(&self, team: &TeamName, server: &ServerName) -> Result<Upstream, ToolFailure> {
        match self.known.way(team, server)? {
            Way::Http(address, credential) => {
                Upstream::over_http(&self.dialer, &address, credential, UpstreamLimits::default()).await
            }
            Way::Mailbox(mailbox) => {
                Ok(mailbox::serve(mailbox, Arc::clone(&self.vault), self.dialer.clone()))
            }
            Way::Cell(cell) => self.cells.connect(team, server, &cell).await,
        }
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
        let mailbox = self.known.one(&tool.server).and_then(|server| server.mailbox);
        mailbox.map_or_else(Vec::new, |mailbox| mailbox::shows(&mailbox, &tool.tool))
    }

    fn idle(&self, server: &ServerName) -> Duration {
        self.known.idle(server).unwrap_or(IDLE)
    }
}
