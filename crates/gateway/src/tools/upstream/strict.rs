//! Messages of a tool server, read strictly before the MCP library sees them; and the first rule that a server breaks,
//! which ends its connection.

use std::sync::{Arc, OnceLock};

use rmcp::model::ServerJsonRpcMessage;
use tokio_util::sync::CancellationToken;
use wire::json::{Bounds, Json};
use wire::tools::{MAX_CONTENT, ToolFailure, ToolFailureKind};

/// One message: content at its largest, as base64, and what is around it.
pub(super) const MESSAGE: Bounds =
    Bounds { bytes: MAX_CONTENT / 3 * 4 + (1 << 20), depth: 80, values: 300_000 };

/// A message, and whether it answers a request.
pub(super) struct Read {
    pub(super) message: ServerJsonRpcMessage,
    /// The id, as JSON, of the request that it answers.
    pub(super) answers: Option<String>,
}

/// Reads one message.
pub(super) fn read(text: &str) -> Result<Read, ToolFailure> {
    if text.len() > MESSAGE.bytes {
        return Err(too_large());
    }
    let json = Json::parse(text, MESSAGE)
        .map_err(|why| failed(format!("it sent a message that can't be read: {why}")))?;
    let answers = match (json.get("id"), json.get("method")) {
        (Some(id), None) => Some(id.to_string()),
        (Some(_) | None, Some(_) | None) => None,
    };
    drop(json);
    let message = serde_json::from_str(text)
        .map_err(|error| failed(format!("it sent a message that is not MCP: {error}")))?;
    Ok(Read { message, answers })
}

pub(super) fn too_large() -> ToolFailure {
    let why = format!("the tool server sent a message of more than {} MiB", MESSAGE.bytes >> 20);
    ToolFailure::new(ToolFailureKind::TooLarge, why)
}

/// The server is at fault: what it did.
pub(super) fn failed(what: impl std::fmt::Display) -> ToolFailure {
    ToolFailure::new(ToolFailureKind::Upstream, format!("the tool server failed: {what}"))
}

/// The first fault of a connection. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    first: OnceLock<ToolFailure>,
    broken: CancellationToken,
}

impl Faults {
    /// Notes a fault; later ones are not told.
    pub(super) fn note(&self, fault: ToolFailure) {
        // Another was first.
        drop(self.0.first.set(fault));
        self.0.broken.cancel();
    }

    pub(super) fn first(&self) -> Option<ToolFailure> {
        self.0.first.get().cloned()
    }

    /// Returns the first fault once there is one.
    pub(super) async fn broken(&self) -> ToolFailure {
        self.0.broken.cancelled().await;
        self.first().unwrap_or_else(|| failed("it broke off"))
    }
}
