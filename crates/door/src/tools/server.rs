//! The MCP server that the guest's programs see: it asks the daemon, and puts the answer into MCP's words.

use std::sync::Arc;

use http::request::Parts;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ErrorCode, GetPromptRequestParams,
    GetPromptResponse, Implementation, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use wire::frame;
use wire::host::DoorOpens;
use wire::mux::{Opener, Stream};
use wire::tools::{
    MAX_ASK, MAX_REPLY, Progress, ToolFailure, ToolFailureKind, ToolsAnswer, ToolsAsk, ToolsReply,
};

use super::calls::Call;
use super::convert;

/// Answers one request; cheap to clone.
#[derive(Clone)]
pub(super) struct ToolServer {
    daemon: Opener,
    /// Requests that wait for the daemon at once.
    room: Arc<Semaphore>,
}

type Context = RequestContext<RoleServer>;

impl ToolServer {
    pub(super) fn new(daemon: Opener, waiting: usize) -> Self {
        Self { daemon, room: Arc::new(Semaphore::new(waiting)) }
    }

    /// Asks the daemon. When the program goes away or cancels its request, the daemon's stream ends.
    async fn ask(&self, ask: ToolsAsk, context: &Context) -> Result<ToolsReply, ToolFailure> {
        let call = context.extensions.get::<Parts>().and_then(|head| head.extensions.get::<Call>());
        let cancelled = async {
            match call {
                Some(call) => call.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = self.answer(ask, context) => answer,
            () = context.ct.cancelled() => Err(internal("the request was cancelled")),
            () = cancelled => Err(internal("the request was cancelled")),
        }
    }

    async fn answer(&self, ask: ToolsAsk, context: &Context) -> Result<ToolsReply, ToolFailure> {
        ask.check().map_err(|why| ToolFailure::new(ToolFailureKind::Invalid, why.to_string()))?;
        let _room = self.room.acquire().await.map_err(|_closed| internal("the door is closing"))?;
        let mut daemon = self.open(ask).await.map_err(|why| internal(&why))?;
        loop {
            let answer = frame::read::<ToolsAnswer, _>(&mut daemon, MAX_REPLY).await;
            let answer = answer.map_err(|error| internal(&error.to_string()))?;
            let answer = answer.ok_or_else(|| internal("the daemon broke off"))?;
            answer.check().map_err(|why| internal(&why.to_string()))?;
            match answer {
                ToolsAnswer::Progress(progress) => tell(progress, context).await,
                ToolsAnswer::Reply(reply) => return Ok(reply),
                ToolsAnswer::Failed(failure) => return Err(failure),
            }
        }
    }

    async fn open(&self, ask: ToolsAsk) -> Result<Stream, String> {
        let ask = frame::encode(&DoorOpens::Tools(ask), MAX_ASK).map_err(|error| error.to_string())?;
        let unreachable = "the daemon can't be reached";
        let mut daemon = self.daemon.open().await.map_err(|error| format!("{unreachable}: {error}"))?;
        daemon.write_all(&ask).await.map_err(|error| format!("{unreachable}: {error}"))?;
        daemon.flush().await.map_err(|error| format!("{unreachable}: {error}"))?;
        Ok(daemon)
    }
}

fn internal(why: &str) -> ToolFailure {
    ToolFailure::new(ToolFailureKind::Internal, why)
}

/// The answer is of another kind than the question: the daemon is of another version.
fn another() -> ToolFailure {
    internal("the daemon answered another question")
}

/// Passes progress on to a program that asked for it.
async fn tell(progress: Progress, context: &Context) {
    let Some(token) = context.meta.get_progress_token() else { return };
    let mut told = ProgressNotificationParam::new(token, progress.done.get());
    told.total = progress.total.map(f64::from);
    told.message = progress.message;
    // A program that has gone is seen where its request is cancelled.
    drop(context.peer.notify_progress(told).await);
}

/// A failure as an error of the protocol.
fn error(failure: ToolFailure) -> ErrorData {
    let code = match failure.kind {
        ToolFailureKind::NotFound | ToolFailureKind::Invalid => ErrorCode::INVALID_PARAMS,
        ToolFailureKind::Refused
        | ToolFailureKind::Waiting
        | ToolFailureKind::Upstream
        | ToolFailureKind::TooLarge
        | ToolFailureKind::Internal => ErrorCode::INTERNAL_ERROR,
    };
    ErrorData::new(code, convert::told(failure), None)
}

impl ServerHandler for ToolServer {
    fn get_info(&self) -> ServerConfig {
        let capabilities =
            ServerCapabilities::builder().enable_tools().enable_resources().enable_prompts().build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("lazaret", env!("CARGO_PKG_VERSION")))
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: Context,
    ) -> Result<ListToolsResult, ErrorData> {
        let ToolsReply::Tools(tools) = self.ask(ToolsAsk::List, &context).await.map_err(error)? else {
            return Err(error(another()));
        };
        let tools: Result<_, _> = tools.into_iter().map(convert::tool).collect();
        Ok(ListToolsResult::with_all_items(tools.map_err(error)?))
    }

    /// A call that is refused or fails is a result that says so, since models are shown results and not errors of the
    /// protocol. Only a tool that is not there is an error.
    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: Context,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = serde_json::Value::Object(request.arguments.unwrap_or_default());
        let ask = ToolsAsk::Call {
            tool: request.name.into_owned(),
            arguments: arguments.to_string(),
            wants_progress: context.meta.get_progress_token().is_some(),
        };
        let result = match self.ask(ask, &context).await {
            Ok(ToolsReply::Result(result)) => convert::result(result).map_err(error)?,
            Ok(_) => return Err(error(another())),
            Err(failure) if failure.kind == ToolFailureKind::NotFound => return Err(error(failure)),
            Err(failure) => {
                CallToolResult::error(vec![rmcp::model::ContentBlock::text(convert::told(failure))])
            }
        };
        Ok(result.into())
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: Context,
    ) -> Result<ListResourcesResult, ErrorData> {
        let reply = self.ask(ToolsAsk::ListResources, &context).await.map_err(error)?;
        let ToolsReply::Resources(resources) = reply else { return Err(error(another())) };
        let resources = resources.into_iter().map(convert::resource).collect();
        Ok(ListResourcesResult::with_all_items(resources))
    }

    async fn list_resource_templates(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: Context,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let reply = self.ask(ToolsAsk::ListTemplates, &context).await.map_err(error)?;
        let ToolsReply::Templates(templates) = reply else { return Err(error(another())) };
        let templates = templates.into_iter().map(convert::template).collect();
        Ok(ListResourceTemplatesResult::with_all_items(templates))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: Context,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let reply = self.ask(ToolsAsk::ReadResource { uri: request.uri }, &context).await;
        match reply {
            Ok(ToolsReply::Contents(contents)) => {
                let contents = contents.into_iter().map(convert::contents).collect();
                Ok(ReadResourceResult::new(contents).into())
            }
            Ok(_) => Err(error(another())),
            Err(failure) if failure.kind == ToolFailureKind::NotFound => {
                Err(ErrorData::resource_not_found(convert::told(failure), None))
            }
            Err(failure) => Err(error(failure)),
        }
    }

    async fn list_prompts(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: Context,
    ) -> Result<ListPromptsResult, ErrorData> {
        let reply = self.ask(ToolsAsk::ListPrompts, &context).await.map_err(error)?;
        let ToolsReply::Prompts(prompts) = reply else { return Err(error(another())) };
        let prompts = prompts.into_iter().map(convert::prompt).collect();
        Ok(ListPromptsResult::with_all_items(prompts))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: Context,
    ) -> Result<GetPromptResponse, ErrorData> {
        let not_text = || ErrorData::invalid_params("the arguments of a prompt are texts", None);
        let arguments = request.arguments.unwrap_or_default().into_iter().map(|(name, value)| {
            let text = value.as_str().map(str::to_owned);
            text.map(|text| (name, text)).ok_or_else(not_text)
        });
        let ask = ToolsAsk::GetPrompt { name: request.name, arguments: arguments.collect::<Result<_, _>>()? };
        let reply = self.ask(ask, &context).await.map_err(error)?;
        let ToolsReply::Prompt(prompt) = reply else { return Err(error(another())) };
        Ok(convert::prompt_text(prompt).into())
    }
}
