//! Who is at the other end: an MCP server, or a server that is built in and answers here. To pins, tables, decisions and
//! the ledger they are the same.

use dial::Dialer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wire::tools::{
    Contents, Prompt, PromptText, Resource, ResourceTemplate, ToolFailure, ToolFailureKind, ToolResult,
};

use domain::ToolName;

use super::{CallFailed, Client, MailServer, ToolList, UpstreamLimits};
use crate::credential::Credential;
use crate::provider::BaseUrl;
use crate::tools::ProgressSink;

/// A connection to a tool server. Dropping it closes the connection.
pub struct Upstream(Peer);

enum Peer {
    Mcp(Box<Client>),
    Mail(Box<MailServer>),
}

impl Upstream {
    /// Connects to a server over HTTP, at exactly this address, if the dialer does.
    ///
    /// # Errors
    /// When it can't be reached, refuses the credential, or does not speak the protocol.
    pub async fn over_http(
        dialer: &Dialer,
        address: &BaseUrl,
        credential: Credential,
        limits: UpstreamLimits,
    ) -> Result<Self, ToolFailure> {
        Client::over_http(dialer, address, credential, limits).await.map(Self::mcp)
    }

    /// Connects to a server over a byte stream, such as the standard streams of a process in a cell.
    ///
    /// # Errors
    /// When it does not speak the protocol.
    pub async fn over_stream<S>(stream: S, limits: UpstreamLimits) -> Result<Self, ToolFailure>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        Client::over_stream(stream, limits).await.map(Self::mcp)
    }

    /// The built-in server for mail. It connects anew for each call.
    #[must_use]
    pub fn mail(server: MailServer) -> Self {
        Self(Peer::Mail(Box::new(server)))
    }

    fn mcp(client: Client) -> Self {
        Self(Peer::Mcp(Box::new(client)))
    }

    /// Counts what the server says of changes of its lists. Servers may change them and say nothing.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        match &self.0 {
            Peer::Mcp(client) => client.changes(),
            Peer::Mail(_) => watch::channel(0).1,
        }
    }

    /// Why the connection has ended, once it has.
    #[must_use]
    pub fn broken(&self) -> Option<ToolFailure> {
        match &self.0 {
            Peer::Mcp(client) => client.broken(),
            Peer::Mail(_) => None,
        }
    }

    /// Whether the server has resources, and whether it has prompts.
    #[must_use]
    pub fn readable(&self) -> (bool, bool) {
        match &self.0 {
            Peer::Mcp(client) => client.readable(),
            Peer::Mail(_) => (false, false),
        }
    }

    /// The tools that the server offers now.
    ///
    /// # Errors
    /// When it fails, or offers more than can be taken.
    pub async fn list(&self) -> Result<ToolList, ToolFailure> {
        match &self.0 {
            Peer::Mcp(client) => client.list().await,
            Peer::Mail(mail) => mail.list(),
        }
    }

    /// Calls a tool, once. `arguments` is one I-JSON object as text; these bytes are what the server gets, but for the
    /// order of keys and white space.
    ///
    /// # Errors
    /// When it fails, is refused, or is cancelled; then the server is told.
    pub async fn call(
        &self,
        tool: &ToolName,
        arguments: &str,
        progress: ProgressSink,
        cancelled: &CancellationToken,
    ) -> Result<ToolResult, CallFailed> {
        match &self.0 {
            Peer::Mcp(client) => client.call(tool, arguments, progress, cancelled).await,
            Peer::Mail(mail) => mail.call(tool, arguments, cancelled).await,
        }
    }

    /// The resources that the server offers now.
    ///
    /// # Errors
    /// When it fails, or offers more than can be taken.
    pub async fn resources(&self) -> Result<Vec<Resource>, ToolFailure> {
        match &self.0 {
            Peer::Mcp(client) => client.resources().await,
            Peer::Mail(_) => Ok(Vec::new()),
        }
    }

    /// The families of resources that the server offers now.
    ///
    /// # Errors
    /// When it fails, or offers more than can be taken.
    pub async fn templates(&self) -> Result<Vec<ResourceTemplate>, ToolFailure> {
        match &self.0 {
            Peer::Mcp(client) => client.templates().await,
            Peer::Mail(_) => Ok(Vec::new()),
        }
    }

    /// What is in a resource.
    ///
    /// # Errors
    /// When there is none, or the server fails.
    pub async fn read(&self, uri: &str, cancelled: &CancellationToken) -> Result<Vec<Contents>, ToolFailure> {
        match &self.0 {
            Peer::Mcp(client) => client.read(uri, cancelled).await,
            Peer::Mail(_) => Err(none("resources")),
        }
    }

    /// The prompts that the server offers now.
    ///
    /// # Errors
    /// When it fails, or offers more than can be taken.
    pub async fn prompts(&self) -> Result<Vec<Prompt>, ToolFailure> {
        match &self.0 {
            Peer::Mcp(client) => client.prompts().await,
            Peer::Mail(_) => Ok(Vec::new()),
        }
    }

    /// A prompt, filled in.
    ///
    /// # Errors
    /// When there is none, or the server fails.
    pub async fn prompt(
        &self,
        name: &str,
        arguments: Vec<(String, String)>,
        cancelled: &CancellationToken,
    ) -> Result<PromptText, ToolFailure> {
        match &self.0 {
            Peer::Mcp(client) => client.prompt(name, arguments, cancelled).await,
            Peer::Mail(_) => Err(none("prompts")),
        }
    }

    /// Closes the connection in order.
    pub async fn close(self) {
        if let Peer::Mcp(client) = self.0 {
            client.close().await;
        }
    }
}

fn none(what: &str) -> ToolFailure {
    ToolFailure::new(ToolFailureKind::NotFound, format!("this server has no {what}"))
}
