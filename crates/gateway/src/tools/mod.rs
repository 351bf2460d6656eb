//! Tools: what a door asks about them is answered by a [`ToolGate`], and tool servers are reached as [`upstream::Upstream`]s.
//!
//! ```text
//! door ── DoorOpens::Tools ──▶ serve ▶ ToolGate (who decides) ▶ Upstream ── MCP ──▶ tool server
//! ```
//! [`serve()`] reads nothing but bounded, checked questions and sends nothing but bounded, checked answers; what may
//! happen is the gate's to say.

mod acting;
pub(crate) mod asking;
mod authors;
mod gate;
mod hourly;
mod plan;
mod readings;
mod serve;
mod servers;
mod turns;
pub mod upstream;

use domain::ToolRef;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wire::tools::{
    Contents, Progress, Prompt, PromptText, Resource, ResourceTemplate, Tool, ToolFailure, ToolFailureKind,
    ToolResult,
};

pub use authors::Authors;
pub(crate) use gate::{NEXT_DAY, ledger_full};
pub use gate::{Session, SessionGate, ToolEvent, unvouched};
pub use serve::serve;
pub use servers::{Candidate, Catalogue, Connector, IDLE, Listing, Servers};
pub(crate) use turns::{Before, Turn};

/// One call, as a program in a cell makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Which tool.
    pub tool: ToolRef,
    /// One I-JSON object as text, within [`wire::tools::ARGUMENTS`].
    pub arguments: String,
}

/// What comes with a call.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// Where to tell how it goes on.
    pub progress: ProgressSink,
    /// Is cancelled when nobody waits for the answer any more. The gate's future is still run to its end, so that what
    /// was begun can be concluded: it should end soon.
    pub cancelled: CancellationToken,
}

impl CallContext {
    /// Of a call that the gateway makes for people: nobody hears how it goes on.
    #[must_use]
    pub fn unheard() -> Self {
        Self { progress: ProgressSink::NONE, cancelled: CancellationToken::new() }
    }
}

/// Takes progress for whoever asked for it. It never waits: what can't be passed on at once is dropped.
#[derive(Debug, Clone)]
pub struct ProgressSink(Option<mpsc::Sender<Progress>>);

impl ProgressSink {
    /// Nobody asked.
    pub const NONE: Self = Self(None);

    /// A sink, and where its progress comes out.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Progress>) {
        let (sender, receiver) = mpsc::channel(16);
        (Self(Some(sender)), receiver)
    }

    /// Whether anybody asked.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Passes progress on.
    pub fn tell(&self, progress: Progress) {
        if let Some(sender) = &self.0 {
            // Full or closed: the next one tells more.
            drop(sender.try_send(progress));
        }
    }
}

/// Who decides about the tools of one session, and acts. Every answer is checked once more before it goes out.
pub trait ToolGate: Send + Sync {
    /// The tools that this agent may see, under their full names.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Tool>, ToolFailure>>;

    /// Decides about a call and makes it.
    fn call(&self, call: ToolCall, context: CallContext) -> BoxFuture<'_, Result<ToolResult, ToolFailure>>;

    /// The resources that this agent may see.
    fn resources(&self) -> BoxFuture<'_, Result<Vec<Resource>, ToolFailure>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// The families of resources that this agent may see.
    fn templates(&self) -> BoxFuture<'_, Result<Vec<ResourceTemplate>, ToolFailure>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// What is in a resource.
    fn read(&self, uri: String) -> BoxFuture<'_, Result<Vec<Contents>, ToolFailure>> {
        let _uri = uri;
        Box::pin(async { Err(not_found("resource")) })
    }

    /// The prompts that this agent may see.
    fn prompts(&self) -> BoxFuture<'_, Result<Vec<Prompt>, ToolFailure>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// A prompt, filled in.
    fn prompt(
        &self,
        name: String,
        arguments: Vec<(String, String)>,
    ) -> BoxFuture<'_, Result<PromptText, ToolFailure>> {
        let _asked = (name, arguments);
        Box::pin(async { Err(not_found("prompt")) })
    }
}

fn not_found(what: &str) -> ToolFailure {
    ToolFailure::new(ToolFailureKind::NotFound, format!("there is no such {what} for this agent"))
}
