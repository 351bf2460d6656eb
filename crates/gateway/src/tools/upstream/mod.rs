//! A tool server, as a client of it: an MCP server over HTTP, or over a byte stream to a process in a cell; or one that is
//! built in.
//!
//! Whatever a server sends is bounded and read strictly. The first rule that it breaks ends the connection, and every
//! call on it fails with that reason: whoever wants more connects anew. Nothing is ever sent twice.

mod http;
mod lines;
mod listener;
mod mail;
mod peer;
mod read;
mod strict;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dial::Dialer;
use domain::ToolName;
use rmcp::RoleClient;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientRequest, ErrorCode, GetPromptRequest,
    GetPromptRequestParams, ListPromptsRequest, ListResourceTemplatesRequest, ListResourcesRequest,
    ListToolsRequest, PaginatedRequestParams, ProtocolVersion, ReadResourceRequest,
    ReadResourceRequestParams, ServerCapabilities, ServerResult,
};
use rmcp::service::{
    ClientLifecycleMode, PeerRequestOptions, RunningService, ServiceError, serve_client_with_lifecycle,
};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::common::client_side_sse::NeverRetry;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wire::tools::{
    Contents, Hints, MAX_ITEMS, Prompt, PromptText, Resource, ResourceTemplate, Tool, ToolFailure,
    ToolFailureKind, ToolResult,
};

use super::ProgressSink;
use super::servers::called_off;
use crate::credential::Credential;
use crate::provider::BaseUrl;
use crate::upstream::{Patience, client};

pub use self::mail::{MailKey, MailServer};
pub use self::peer::Upstream;

use self::http::Post;
use lines::Lines;
use listener::Listener;
use strict::{Faults, failed};

/// Most pages of a list that are asked for.
const MAX_PAGES: usize = 50;
/// How long a server may take to hear that a call was cancelled.
const CANCEL: Duration = Duration::from_secs(5);

/// How long a tool server may take.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamLimits {
    /// To answer the greeting.
    pub start: Duration,
    /// To answer anything but a call.
    pub look_up: Duration,
    /// To answer a call, progress or not.
    pub call: Duration,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(60),
            look_up: Duration::from_secs(60),
            call: Duration::from_secs(15 * 60),
        }
    }
}

/// A tool as its server describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolDescription {
    /// Its name.
    pub name: ToolName,
    /// What people call it.
    pub title: Option<String>,
    /// What the model is told about it.
    pub description: Option<String>,
    /// The JSON Schema of its arguments: one I-JSON object as text.
    pub input_schema: String,
    /// The JSON Schema of its structured result: one I-JSON object as text.
    pub output_schema: Option<String>,
    /// What the server says of its effects. Nobody has checked it.
    pub hints: Hints,
}

impl ToolDescription {
    /// The tool as an agent sees it, under this name.
    #[must_use]
    pub fn shown_as(self, name: String) -> Tool {
        let Self { name: _, title, description, input_schema, output_schema, hints } = self;
        Tool { name, title, description, input_schema, output_schema, hints }
    }
}

/// A tool that can't be offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// Its name as far as it can be shown.
    pub name: String,
    /// Why, for people.
    pub why: String,
}

/// What a server offers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolList {
    /// In the server's order; no name twice.
    pub tools: Vec<ToolDescription>,
    /// What it offers beside that nobody can use.
    pub withheld: Vec<Withheld>,
}

/// A call that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFailed {
    /// Why.
    pub failure: ToolFailure,
    /// What the server may have done.
    pub acted: Acted,
}

/// What a server may have done of a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Acted {
    /// Nothing: the call never reached it.
    No,
    /// It answered that it failed.
    Failed,
    /// Nobody knows: it may have acted, wholly or in part.
    Unknown,
}

/// A connection to an MCP server. Dropping it closes the connection.
struct Client {
    running: RunningService<RoleClient, Listener>,
    listener: Listener,
    changes: watch::Receiver<u64>,
    faults: Faults,
    limits: UpstreamLimits,
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's results grow; what was not asked for is refused"
)]
impl Client {
    /// Connects to a server over HTTP, at exactly this address.
    ///
    /// # Errors
    /// When it can't be reached, refuses the credential, or does not speak the protocol.
    async fn over_http(
        dialer: &Dialer,
        address: &BaseUrl,
        credential: Credential,
        limits: UpstreamLimits,
    ) -> Result<Self, ToolFailure> {
        let dialer = dialer.configured(address.url());
        let client = client(&dialer, &Patience::default()).map_err(|error| {
            ToolFailure::new(ToolFailureKind::Internal, format!("the HTTP client can't be made: {error}"))
        })?;
        let faults = Faults::default();
        let url = address.url().clone();
        let post = Post { client, url, credential, patience: limits.call, faults: faults.clone() };
        let mut config = StreamableHttpClientTransportConfig::with_uri(address.as_str());
        config.retry_config = Arc::new(NeverRetry::default());
        config.reinit_on_expired_session = false;
        Self::start(StreamableHttpClientTransport::with_client(post, config), faults, limits).await
    }

    /// Connects to a server over a byte stream, such as the standard streams of a process in a cell.
    ///
    /// # Errors
    /// When it does not speak the protocol.
    async fn over_stream<S>(stream: S, limits: UpstreamLimits) -> Result<Self, ToolFailure>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let faults = Faults::default();
        Self::start(Lines::new(stream, faults.clone()), faults, limits).await
    }

    async fn start<T, E, A>(transport: T, faults: Faults, limits: UpstreamLimits) -> Result<Self, ToolFailure>
    where
        T: rmcp::transport::IntoTransport<RoleClient, E, A>,
        E: std::error::Error + Send + Sync + 'static,
    {
        let (listener, changes) = Listener::new();
        let mode = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(ProtocolVersion::V_2025_11_25),
        };
        let started = serve_client_with_lifecycle(listener.clone(), transport, mode);
        let running = tokio::select! {
            started = tokio::time::timeout(limits.start, started) => started
                .map_err(|_elapsed| {
                    failed(format_args!("it did not answer the greeting within {} s", limits.start.as_secs_f32()))
                })?
                .map_err(|error| {
                    let why = format!("it can't be greeted: {}", read::shown(&error.to_string()));
                    faults.first().unwrap_or_else(|| failed(why))
                })?,
            fault = faults.broken() => return Err(fault),
        };
        Ok(Self { running, listener, changes, faults, limits })
    }

    /// Counts what the server says of changes of its lists. Servers may change them and say nothing.
    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Why the connection has ended, once it has.
    fn broken(&self) -> Option<ToolFailure> {
        self.faults.first().or_else(|| self.running.is_closed().then(|| failed("it ended")))
    }

    /// Whether the server has resources, and whether it has prompts.
    fn readable(&self) -> (bool, bool) {
        let told = self.running.peer_info();
        let capabilities = told.as_ref().map(|told| &told.capabilities);
        let has = |which: fn(&ServerCapabilities) -> bool| capabilities.is_some_and(which);
        (has(|can| can.resources.is_some()), has(|can| can.prompts.is_some()))
    }

    /// The tools that the server offers now.
    ///
    /// # Errors
    /// When it fails, or offers more than can be taken.
    async fn list(&self) -> Result<ToolList, ToolFailure> {
        let tools = self
            .pages(
                |page| ClientRequest::ListToolsRequest(ListToolsRequest::with_param(page)),
                |reply| match reply {
                    ServerResult::ListToolsResult(page) => Some((page.tools, page.next_cursor)),
                    _ => None,
                },
            )
            .await?;
        let mut times: HashMap<String, usize> = HashMap::new();
        for tool in &tools {
            *times.entry(tool.name.to_string()).or_default() += 1;
        }
        let mut list = ToolList::default();
        for tool in tools {
            let once = times.get(tool.name.as_ref()) == Some(&1);
            match read::tool(tool) {
                Ok(tool) if once => list.tools.push(tool),
                Ok(tool) => {
                    let why = "the server has several tools of this name".to_owned();
                    list.withheld.push(Withheld { name: tool.name.to_string(), why });
                }
                Err(withheld) => list.withheld.push(withheld),
            }
        }
        Ok(list)
    }

    /// Calls a tool, once. `arguments` is one I-JSON object as text; these bytes are what the server gets, but for the
    /// order of keys and white space.
    ///
    /// # Errors
    /// When it fails, is refused, or is cancelled; then the server is told.
    async fn call(
        &self,
        tool: &ToolName,
        arguments: &str,
        progress: ProgressSink,
        cancelled: &CancellationToken,
    ) -> Result<ToolResult, CallFailed> {
        let not_sent = |failure| CallFailed { failure, acted: Acted::No };
        let unknown = |failure| CallFailed { failure, acted: Acted::Unknown };
        let arguments = serde_json::from_str(arguments).map_err(|error| {
            not_sent(ToolFailure::new(
                ToolFailureKind::Invalid,
                format!("the arguments are no object: {error}"),
            ))
        })?;
        if let Some(fault) = self.broken() {
            return Err(not_sent(fault));
        }
        let params = CallToolRequestParams::new(tool.to_string()).with_arguments(arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        match self.ask(request, self.limits.call, progress, cancelled).await? {
            ServerResult::CallToolResult(result) => {
                let result = read::result(result).map_err(unknown)?;
                match result.check() {
                    Ok(()) => Ok(result),
                    Err(why) => Err(unknown(ToolFailure::new(ToolFailureKind::TooLarge, why.to_string()))),
                }
            }
            // A server that has nothing to say.
            ServerResult::EmptyResult(_) => Ok(ToolResult::default()),
            ServerResult::InputRequiredResult(_) => {
                let why = "the tool asks the person for input, which it was not granted";
                Err(unknown(ToolFailure::new(ToolFailureKind::Refused, why)))
            }
            _ => Err(unknown(failed("it answered a call with something else"))),
        }
    }

    /// The resources that the server offers now.
    ///
    /// # Errors
    /// When it fails, or offers more than can be taken.
    async fn resources(&self) -> Result<Vec<Resource>, ToolFailure> {
        let resources = self
            .pages(
                |page| ClientRequest::ListResourcesRequest(ListResourcesRequest::with_param(page)),
                |reply| match reply {
                    ServerResult::ListResourcesResult(page) => Some((page.resources, page.next_cursor)),
                    _ => None,
                },
            )
            .await?;
        Ok(resources.into_iter().map(read::resource).collect())
    }

    /// The families of resources that the server offers now.
    ///
    /// # Errors
    /// When it fails, or offers more than can be taken.
    async fn templates(&self) -> Result<Vec<ResourceTemplate>, ToolFailure> {
        let templates = self
            .pages(
                |page| {
                    ClientRequest::ListResourceTemplatesRequest(ListResourceTemplatesRequest::with_param(
                        page,
                    ))
                },
                |reply| match reply {
                    ServerResult::ListResourceTemplatesResult(page) => {
                        Some((page.resource_templates, page.next_cursor))
                    }
                    _ => None,
                },
            )
            .await?;
        Ok(templates.into_iter().map(read::template).collect())
    }

    /// What is in a resource.
    ///
    /// # Errors
    /// When there is none, the server fails, or it is cancelled; then the server is told.
    async fn read(&self, uri: &str, cancelled: &CancellationToken) -> Result<Vec<Contents>, ToolFailure> {
        let request =
            ClientRequest::ReadResourceRequest(ReadResourceRequest::new(ReadResourceRequestParams::new(uri)));
        match self.look_up_until(request, cancelled).await? {
            ServerResult::ReadResourceResult(result) => {
                result.contents.into_iter().map(read::contents).collect()
            }
            _ => Err(failed("it answered another question")),
        }
    }

    /// The prompts that the server offers now.
    ///
    /// # Errors
    /// When it fails, or offers more than can be taken.
    async fn prompts(&self) -> Result<Vec<Prompt>, ToolFailure> {
        let prompts = self
            .pages(
                |page| ClientRequest::ListPromptsRequest(ListPromptsRequest::with_param(page)),
                |reply| match reply {
                    ServerResult::ListPromptsResult(page) => Some((page.prompts, page.next_cursor)),
                    _ => None,
                },
            )
            .await?;
        Ok(prompts.into_iter().map(read::prompt).collect())
    }

    /// A prompt, filled in.
    ///
    /// # Errors
    /// When there is none, the server fails, or it is cancelled; then the server is told.
    async fn prompt(
        &self,
        name: &str,
        arguments: Vec<(String, String)>,
        cancelled: &CancellationToken,
    ) -> Result<PromptText, ToolFailure> {
        let arguments = arguments.into_iter().map(|(name, value)| (name, value.into())).collect();
        let params = GetPromptRequestParams::new(name).with_arguments(arguments);
        let request = ClientRequest::GetPromptRequest(GetPromptRequest::new(params));
        match self.look_up_until(request, cancelled).await? {
            ServerResult::GetPromptResult(result) => read::prompt_text(result),
            _ => Err(failed("it answered another question")),
        }
    }

    /// Closes the connection in order.
    async fn close(self) {
        if let Err(error) = self.running.cancel().await {
            tracing::debug!(%error, "a connection to a tool server did not close in order");
        }
    }

    /// Every page of a list.
    async fn pages<T>(
        &self,
        request: impl Fn(PaginatedRequestParams) -> ClientRequest,
        page: impl Fn(ServerResult) -> Option<(Vec<T>, Option<String>)>,
    ) -> Result<Vec<T>, ToolFailure> {
        let mut all = Vec::new();
        let mut cursor = None;
        for _page in 0..MAX_PAGES {
            let params = PaginatedRequestParams::default().with_cursor(cursor);
            let reply = match self.look_up(request(params)).await {
                // Older servers without such a list don't know the question.
                Err(failure) if failure.kind == ToolFailureKind::NotFound => return Ok(all),
                other => other?,
            };
            let (items, next) = page(reply).ok_or_else(|| failed("it answered another question"))?;
            all.extend(items);
            if all.len() > MAX_ITEMS {
                let why = format!("the tool server lists more than {MAX_ITEMS} entries");
                return Err(ToolFailure::new(ToolFailureKind::TooLarge, why));
            }
            cursor = next;
            if cursor.is_none() {
                return Ok(all);
            }
        }
        Err(ToolFailure::new(ToolFailureKind::TooLarge, "the tool server's list has no end"))
    }

    async fn look_up(&self, request: ClientRequest) -> Result<ServerResult, ToolFailure> {
        self.look_up_until(request, &CancellationToken::new()).await
    }

    async fn look_up_until(
        &self,
        request: ClientRequest,
        cancelled: &CancellationToken,
    ) -> Result<ServerResult, ToolFailure> {
        self.ask(request, self.limits.look_up, ProgressSink::NONE, cancelled)
            .await
            .map_err(|failed| failed.failure)
    }

    /// Sends one request and waits for its answer.
    async fn ask(
        &self,
        request: ClientRequest,
        within: Duration,
        progress: ProgressSink,
        cancelled: &CancellationToken,
    ) -> Result<ServerResult, CallFailed> {
        let unknown = |failure| CallFailed { failure, acted: Acted::Unknown };
        let late = || failed(format_args!("it did not answer within {} s", within.as_secs_f32()));
        let deadline = tokio::time::Instant::now() + within;
        let sent = self.running.peer().send_request_with_option(request, PeerRequestOptions::no_options());
        let mut handle = tokio::select! {
            sent = tokio::time::timeout_at(deadline, sent) => {
                sent.map_err(|_elapsed| unknown(late()))?.map_err(|error| self.failure(error))?
            }
            fault = self.faults.broken() => return Err(unknown(fault)),
            () = cancelled.cancelled() => return Err(unknown(called_off())),
        };
        let listening =
            progress.is_wanted().then(|| self.listener.listen(handle.progress_token.clone(), progress));
        let why = tokio::select! {
            // An answer that has come counts, whatever has come with it.
            biased;
            answer = &mut handle.rx => {
                return answer.unwrap_or(Err(ServiceError::TransportClosed)).map_err(|error| self.failure(error));
            }
            fault = self.faults.broken() => return Err(unknown(fault)),
            () = cancelled.cancelled() => called_off(),
            () = tokio::time::sleep_until(deadline) => late(),
        };
        // Nothing more of it is heard, and nobody waits until the server has heard that.
        drop(listening);
        tokio::spawn(async move {
            let told = tokio::time::timeout(CANCEL, handle.cancel(Some("cancelled".to_owned()))).await;
            if !matches!(told, Ok(Ok(()))) {
                tracing::debug!("a tool server could not be told that a request was cancelled");
            }
        });
        Err(unknown(why))
    }

    /// What the library's error means here.
    fn failure(&self, error: ServiceError) -> CallFailed {
        let unknown = |failure| CallFailed { failure, acted: Acted::Unknown };
        match error {
            ServiceError::McpError(error) => {
                let kind = match error.code {
                    ErrorCode::METHOD_NOT_FOUND | ErrorCode::RESOURCE_NOT_FOUND => ToolFailureKind::NotFound,
                    ErrorCode::INVALID_PARAMS => ToolFailureKind::Invalid,
                    _other => ToolFailureKind::Upstream,
                };
                let why = format!("the tool server said: {}", error.message);
                let failure = ToolFailure::new(kind, why).bounded();
                CallFailed { failure, acted: Acted::Failed }
            }
            other => unknown(self.broken().unwrap_or_else(|| failed(other))),
        }
    }
}
