//! The client's part for tool servers and agents' tools.

use bytes::Bytes;
use domain::{AgentName, ServerName, TeamName};
use http::Method;

use super::{Client, Result, json};
use crate::{AgentTools, ApplyRequest, RunningServer, ServerDetails, ServerPut, ServerView};

impl Client {
    /// Every tool server.
    ///
    /// # Errors
    /// [`crate::ClientError`], like all that follow.
    pub async fn servers(&self) -> Result<Vec<ServerView>> {
        self.get("servers").await
    }

    /// All that is known of a tool server. Asks it, for this team.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn server(&self, name: &ServerName, team: &TeamName) -> Result<ServerDetails> {
        self.get(&format!("servers/{name}?team={team}")).await
    }

    /// What is said of a server's tools: a table, as TOML.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn server_table(&self, name: &ServerName) -> Result<String> {
        self.get(&format!("servers/{name}/table")).await
    }

    /// Says what a server's tools do: a table, as TOML.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn put_server_table(&self, name: &ServerName, table: &str) -> Result<()> {
        self.send(Method::PUT, &format!("servers/{name}/table"), json(&table)?).await
    }

    /// The cells of tool servers.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn server_cells(&self) -> Result<Vec<RunningServer>> {
        self.get("cells").await
    }

    /// Adds a tool server, or changes one. What isn't said anew of its teams and limits stays, and its table while it is the
    /// same program's.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn put_server(&self, server: &ServerView) -> Result<ServerPut> {
        self.send(Method::PUT, &format!("servers/{}", server.name), json(server)?).await
    }

    /// Removes a tool server.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn remove_server(&self, name: &ServerName) -> Result<()> {
        self.send(Method::DELETE, &format!("servers/{name}"), Bytes::new()).await
    }

    /// What an agent's files ask for. Asks its tool servers.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn agent_tools(&self, agent: &AgentName) -> Result<AgentTools> {
        self.get(&format!("agents/{agent}/tools")).await
    }

    /// Applies an agent's files, and approves tools for it.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn apply_agent(&self, agent: &AgentName, request: &ApplyRequest) -> Result<()> {
        self.send(Method::POST, &format!("agents/{agent}/apply"), json(request)?).await
    }
}
