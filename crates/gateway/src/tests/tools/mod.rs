//! Tools between doors and tool servers: servers that do as they should, over HTTP and over a byte stream, and servers
//! that don't.

mod acting;
mod changed;
mod connections;
mod everything;
mod gate;
mod hostile_http;
mod hostile_process;
mod plans;
mod readings;
mod secrets;
mod upstream;
mod whole;

use std::time::Duration;

use domain::ToolName;
use tokio_util::sync::CancellationToken;
use wire::tools::{Content, ToolResult};

use crate::tools::ProgressSink;
use crate::tools::upstream::{CallFailed, Upstream, UpstreamLimits};

/// For servers that are waited for in vain.
const IMPATIENT: UpstreamLimits = UpstreamLimits {
    start: Duration::from_millis(1500),
    look_up: Duration::from_millis(1500),
    call: Duration::from_millis(1500),
};

/// Calls a tool and waits for its result.
async fn call(upstream: &Upstream, tool: &str, arguments: &str) -> Result<ToolResult, CallFailed> {
    let tool: ToolName = tool.parse().unwrap();
    upstream.call(&tool, arguments, ProgressSink::NONE, &CancellationToken::new()).await
}

/// The text of a result that has one.
fn text(result: &ToolResult) -> &str {
    match result.content.as_slice() {
        [Content::Text(text)] => text,
        other => panic!("{other:?}"),
    }
}
