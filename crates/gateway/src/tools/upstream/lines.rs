//! MCP over a byte stream, such as the standard streams of a server in a cell: one message a line.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{
    ClientJsonRpcMessage, InitializeResult, ProtocolVersion, RequestId, ServerJsonRpcMessage, ServerResult,
};
use rmcp::transport::Transport;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::sync::Mutex;

use super::strict::{self, Faults, MESSAGE, failed};

/// How long a server may leave a message untaken.
const STALL: Duration = Duration::from_secs(60);
/// Lines that are no messages, such as a greeting, that a server may write.
const OTHER_LINES: u32 = 1000;

/// The lines of one server.
pub(super) struct Lines<S> {
    read: BufReader<ReadHalf<S>>,
    write: Arc<Mutex<WriteHalf<S>>>,
    /// What has arrived of a line: reading it may be given up and begun again.
    line: Vec<u8>,
    other_lines: u32,
    probe: Probe,
    faults: Faults,
}

/// The question whether a server knows the newest revision. The library does not wait for its answer for longer than 10 s, and
/// then greets as older revisions do. An answer that comes later it takes for a mistake; and a server that knows the newest
/// revision may refuse the older greeting by then. So a late yes is passed on as the answer to that greeting, and the
/// server's own is not: a server that is slow to start would never be spoken to.
#[derive(Default)]
struct Probe {
    asked: Option<RequestId>,
    given_up: Option<RequestId>,
    /// The older greeting, as long as it is unanswered.
    greeting: Option<RequestId>,
    /// The older greeting, once a late yes was its answer.
    settled: Option<RequestId>,
}

impl Probe {
    fn sends(&mut self, message: &ClientJsonRpcMessage) {
        let ClientJsonRpcMessage::Request(request) = message else { return };
        let method = request.request.method();
        if method == "server/discover" {
            self.asked = Some(request.id.clone());
        } else if method == "initialize" {
            self.given_up = self.asked.take();
            self.greeting = Some(request.id.clone());
        }
    }

    /// What the library is to hear of a message; `None` where nobody waits for it any more.
    fn hears(&mut self, message: ServerJsonRpcMessage) -> Option<ServerJsonRpcMessage> {
        let id = match &message {
            ServerJsonRpcMessage::Response(response) => Some(&response.id),
            ServerJsonRpcMessage::Error(error) => error.id.as_ref(),
            ServerJsonRpcMessage::Request(_) | ServerJsonRpcMessage::Notification(_) => None,
        };
        if id.is_none() {
            return Some(message);
        }
        if id == self.settled.as_ref() {
            self.settled = None;
            return None;
        }
        if id == self.given_up.as_ref() {
            self.given_up = None;
            let yes = late_yes(message)?;
            self.settled = self.greeting.take();
            return self.settled.clone().map(|id| ServerJsonRpcMessage::response(yes, id));
        }
        for waiting in [&mut self.asked, &mut self.greeting] {
            if id == waiting.as_ref() {
                *waiting = None;
            }
        }
        Some(message)
    }
}

/// That a server knows the newest revision, as the answer to an older greeting: it names the revision, and from there on each
/// request says by itself what it has to.
fn late_yes(message: ServerJsonRpcMessage) -> Option<ServerResult> {
    let ServerJsonRpcMessage::Response(response) = message else { return None };
    let ServerResult::DiscoverResult(found) = response.result else { return None };
    if !found.supported_versions.contains(&ProtocolVersion::V_2026_07_28) {
        return None;
    }
    let mut greeted = InitializeResult::new(found.capabilities);
    greeted.protocol_version = ProtocolVersion::V_2026_07_28;
    greeted.instructions = found.instructions;
    Some(ServerResult::InitializeResult(greeted))
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Lines<S> {
    pub(super) fn new(stream: S, faults: Faults) -> Self {
        let (read, write) = tokio::io::split(stream);
        let (read, write) = (BufReader::new(read), Arc::new(Mutex::new(write)));
        Self { read, write, line: Vec::new(), other_lines: 0, probe: Probe::default(), faults }
    }

    /// Completes the line that is being read. Safe to cancel.
    async fn complete_line(&mut self) -> Result<(), wire::tools::ToolFailure> {
        loop {
            let ended = || failed("it ended");
            let bytes = self.read.fill_buf().await.map_err(|_| ended())?;
            if bytes.is_empty() {
                return Err(ended());
            }
            let (taken, whole) = match bytes.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end + 1, true),
                None => (bytes.len(), false),
            };
            self.line.extend(bytes.iter().take(taken));
            self.read.consume(taken);
            if self.line.len() > MESSAGE.bytes {
                return Err(strict::too_large());
            }
            if whole {
                return Ok(());
            }
        }
    }

    async fn next(&mut self) -> Result<ServerJsonRpcMessage, wire::tools::ToolFailure> {
        loop {
            self.complete_line().await?;
            let line = std::mem::take(&mut self.line);
            let line = line.trim_ascii();
            if line.first() == Some(&b'{') {
                let text =
                    std::str::from_utf8(line).map_err(|_| failed("it sent a line that is not UTF-8"))?;
                let message = strict::read(text)?.message;
                match self.probe.hears(message) {
                    Some(message) => return Ok(message),
                    None => continue,
                }
            }
            self.other_lines += u32::from(!line.is_empty());
            if self.other_lines > OTHER_LINES {
                return Err(failed("it writes lines that are no messages"));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Transport<RoleClient> for Lines<S> {
    type Error = io::Error;

    fn name() -> Cow<'static, str> {
        "lines".into()
    }

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        self.probe.sends(&message);
        let (write, faults) = (Arc::clone(&self.write), self.faults.clone());
        async move {
            let mut line = serde_json::to_vec(&message).map_err(io::Error::other)?;
            line.push(b'\n');
            let sent = async {
                let mut write = write.lock().await;
                write.write_all(&line).await?;
                write.flush().await
            };
            match tokio::time::timeout(STALL, sent).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => {
                    faults.note(failed("it takes no messages any more"));
                    Err(error)
                }
                Err(_elapsed) => {
                    faults.note(failed(format_args!("it took no message for {} s", STALL.as_secs())));
                    Err(io::ErrorKind::TimedOut.into())
                }
            }
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        match self.next().await {
            Ok(message) => Some(message),
            Err(fault) => {
                self.faults.note(fault);
                None
            }
        }
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        self.write.lock().await.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn message<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[tokio::test]
    async fn a_server_that_is_slow_to_start_may_answer_the_probe_late_and_once() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let mut lines = Lines::new(near, Faults::default());
        let params = json!({
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"},
        });
        let greetings = [(0, "server/discover", json!({})), (1, "initialize", params)].map(
            |(id, method, params)| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}),
        );
        for asked in &greetings {
            lines.send(message(asked.clone())).await.unwrap();
        }
        let late =
            json!({"jsonrpc": "2.0", "id": 0, "error": {"code": -32601, "message": "Method not found"}});
        let answer = json!({"jsonrpc": "2.0", "id": 1, "result": {}});
        for line in [&late, &answer, &late] {
            far.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        }
        assert!(matches!(lines.receive().await, Some(ServerJsonRpcMessage::Response(_))));
        assert!(matches!(lines.receive().await, Some(ServerJsonRpcMessage::Error(_))));

        // A late yes is the answer to the older greeting, whatever the server itself says to that.
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let mut lines = Lines::new(near, Faults::default());
        for asked in &greetings {
            lines.send(message(asked.clone())).await.unwrap();
        }
        let yes = json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
                         "ttlMs": 0, "cacheScope": "private"});
        let yes = json!({"jsonrpc": "2.0", "id": 0, "result": yes});
        let refused =
            json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32022, "message": "not any more"}});
        let next = json!({"jsonrpc": "2.0", "id": 2, "result": {}});
        for line in [&yes, &refused, &next] {
            far.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        }
        let Some(ServerJsonRpcMessage::Response(greeted)) = lines.receive().await else {
            panic!("no answer")
        };
        let ServerResult::InitializeResult(result) = &greeted.result else { panic!("{greeted:?}") };
        assert_eq!(
            (&greeted.id, &result.protocol_version),
            (&RequestId::Number(1), &ProtocolVersion::V_2026_07_28)
        );
        assert!(result.capabilities.tools.is_some());
        let Some(ServerJsonRpcMessage::Response(answer)) = lines.receive().await else { panic!("no answer") };
        assert_eq!(answer.id, RequestId::Number(2), "its refusal is passed over");

        // A probe that was answered in time was not given up.
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let mut lines = Lines::new(near, Faults::default());
        let asked = json!({"jsonrpc": "2.0", "id": 0, "method": "server/discover", "params": {}});
        lines.send(message(asked)).await.unwrap();
        far.write_all(format!("{late}\n").as_bytes()).await.unwrap();
        assert!(matches!(lines.receive().await, Some(ServerJsonRpcMessage::Error(_))));
        assert!(lines.probe.asked.is_none());
    }
}
