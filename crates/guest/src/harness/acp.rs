//! The client of an agent that speaks the Agent Client Protocol (version 1) on its standard streams.
//!
//! The protocol ends here, in the container: the agent is offered no file and no terminal, since it has the container's
//! own, and what it asks permission for is allowed once, since it can do it anyway. What it may do is decided outside.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    CancelNotification, ContentBlock, Implementation, InitializeRequest, McpServer, McpServerHttp,
    NewSessionRequest, PermissionOptionKind, PromptRequest, RequestPermissionOutcome,
    RequestPermissionRequest, RequestPermissionResponse, SelectedPermissionOutcome, SessionId,
    SessionNotification, SessionUpdate, SetSessionModeRequest, StopReason, TextContent, ToolCallStatus,
};
use agent_client_protocol::{Agent, Client, ConnectTo, Lines};
use futures::{SinkExt, StreamExt as _};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};

use super::{End, answer, interrupted, one_line, piped_input, progress};

/// Most bytes of one message of the agent.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// How long the agent may take to get ready.
const START: Duration = Duration::from_secs(180);
/// How long the agent may take to stop when it is told to.
const STOP: Duration = Duration::from_secs(3);

/// Runs the client with what follows `acp` on the command line: `PROMPT -- CMD…`, or `-- CMD…` with the prompt piped
/// in. `LAZARET_ACP_MODE` names a mode of the agent to choose first, `LAZARET_TOOLS_URL` the MCP endpoint of the host's
/// tools.
pub(super) async fn run(args: &[String]) -> End {
    let (prompt, command) = match read_arguments(args) {
        Ok(read) => read,
        Err(why) => {
            progress(&format!("error: {why}"));
            return End::Usage;
        }
    };
    let (mut program, stdin, stdout) = match start(&command) {
        Ok(started) => started,
        Err(e) => {
            progress(&format!("error: can't start `{}`: {e}", one_line(&command.join(" "))));
            return End::Failed;
        }
    };
    let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/workspace"));
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let settings = Settings { mode: set("LAZARET_ACP_MODE"), tools: set("LAZARET_TOOLS_URL") };
    let end = match converse(lines(stdin, stdout), &folder, settings, prompt).await {
        Ok(end) => end,
        Err(why) => {
            let state =
                program.0.try_wait().ok().flatten().map(|s| format!(" (it ended: {s})")).unwrap_or_default();
            progress(&format!("error: the agent failed{state}: {why}"));
            End::Failed
        }
    };
    drop(program);
    end
}

/// What the environment says about the session.
#[derive(Debug, Default)]
struct Settings {
    /// A mode of the agent to choose first.
    mode: Option<String>,
    /// Where the host's tools are, if it offers any.
    tools: Option<String>,
}

fn read_arguments(args: &[String]) -> Result<(String, Vec<String>), String> {
    let (prompt, command) = match args {
        [dashes, command @ ..] if dashes == "--" => (String::new(), command),
        [prompt, dashes, command @ ..] if dashes == "--" => (prompt.clone(), command),
        _other => return Err("usage: acp PROMPT -- COMMAND…".to_owned()),
    };
    if command.is_empty() {
        return Err("no command after `--`: name the agent's program".to_owned());
    }
    let input = piped_input().map_err(|e| format!("can't read the input: {e}"))?.unwrap_or_default();
    let prompt = prompt + &input;
    if prompt.trim().is_empty() {
        return Err("there is no prompt: say what to do".to_owned());
    }
    Ok((prompt, command.to_vec()))
}

/// The agent's program and its process group, which is killed when this is dropped.
struct Program(Child, Option<Pid>);

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(group) = self.1 {
            match killpg(group, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(e) => progress(&format!("can't end the agent's program: {e}")),
            }
        }
    }
}

fn start(command: &[String]) -> std::io::Result<(Program, ChildStdin, ChildStdout)> {
    let missing = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let (name, rest) = command.split_first().ok_or_else(missing)?;
    let mut child = Command::new(name)
        .args(rest)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let program = Program(child, group);
    Ok((program, stdin.ok_or_else(missing)?, stdout.ok_or_else(missing)?))
}

/// The agent's standard streams as lines of bounded length.
fn lines(stdin: ChildStdin, stdout: ChildStdout) -> impl ConnectTo<Client> {
    let codec = || LinesCodec::new_with_max_length(MAX_MESSAGE);
    let incoming = FramedRead::new(stdout, codec()).map(|line| line.map_err(std::io::Error::other));
    let outgoing = SinkExt::<String>::sink_map_err(FramedWrite::new(stdin, codec()), std::io::Error::other);
    Lines::new(outgoing, incoming)
}

async fn converse(
    agent: impl ConnectTo<Client>,
    folder: &Path,
    settings: Settings,
    prompt: String,
) -> Result<End, String> {
    let screen = Arc::new(Mutex::new(Screen::default()));
    let shown = Arc::clone(&screen);
    let end = Client
        .v1()
        .name("lazaret")
        .on_receive_notification(
            async move |update: SessionNotification, _connection| {
                shown.lock().unwrap_or_else(PoisonError::into_inner).show(update.update);
                Ok(())
            },
            agent_client_protocol::on_receive_notification!(),
        )
        .on_receive_request(
            async move |request: RequestPermissionRequest, responder, _connection| {
                responder.respond(RequestPermissionResponse::new(allow_once(&request)))
            },
            agent_client_protocol::on_receive_request!(),
        )
        .connect_with(agent, |connection: ConnectionTo<Agent>| async move {
            let ready = tokio::select! {
                ready = timeout(START, open_session(&connection, folder, settings)) => ready,
                () = interrupted() => return Ok(End::Interrupted),
            };
            let Ok(session) = ready else {
                progress(&format!("error: the agent was not ready after {} s", START.as_secs()));
                return Ok(End::Failed);
            };
            let stop = ask(&connection, session?, prompt).await?;
            Ok(stop.map_or(End::Interrupted, end_of))
        })
        .await
        .map_err(|e| e.to_string())?;
    screen.lock().unwrap_or_else(PoisonError::into_inner).end_line();
    Ok(end)
}

async fn open_session(
    connection: &ConnectionTo<Agent>,
    folder: &Path,
    Settings { mode, tools }: Settings,
) -> agent_client_protocol::Result<SessionId> {
    let about = Implementation::new("lazaret", env!("CARGO_PKG_VERSION"));
    let hello = InitializeRequest::new(ProtocolVersion::V1).client_info(about);
    let agent = connection.send_request(hello).block_task().await?;
    let mut servers = Vec::new();
    if let Some(url) = tools {
        if agent.agent_capabilities.mcp_capabilities.http {
            servers.push(McpServer::Http(McpServerHttp::new("lazaret", url)));
        } else {
            progress("the agent takes no tools over HTTP: it goes without the host's");
        }
    }
    let new = NewSessionRequest::new(folder).mcp_servers(servers);
    let session = connection.send_request(new).block_task().await?.session_id;
    if let Some(mode) = mode {
        connection.send_request(SetSessionModeRequest::new(session.clone(), mode)).block_task().await?;
    }
    Ok(session)
}

/// Sends the prompt and waits for the turn's end. An interrupt cancels it; a second one, or an agent that doesn't
/// stop, ends the wait: then there is no stop reason.
async fn ask(
    connection: &ConnectionTo<Agent>,
    session: SessionId,
    prompt: String,
) -> agent_client_protocol::Result<Option<StopReason>> {
    let content = vec![ContentBlock::Text(TextContent::new(prompt))];
    let turn = connection.send_request(PromptRequest::new(session.clone(), content)).block_task();
    tokio::pin!(turn);
    tokio::select! {
        done = &mut turn => return Ok(Some(done?.stop_reason)),
        () = interrupted() => progress("interrupted: telling the agent to stop"),
    }
    connection.send_notification(CancelNotification::new(session))?;
    tokio::select! {
        done = timeout(STOP, &mut turn) => match done {
            Ok(done) => Ok(Some(done?.stop_reason)),
            Err(_elapsed) => Ok(None),
        },
        () = interrupted() => Ok(None),
    }
}

fn end_of(stop: StopReason) -> End {
    match stop {
        StopReason::EndTurn => End::Done,
        StopReason::MaxTokens => {
            progress("stopped: the agent reached its limit of tokens");
            End::Tokens
        }
        StopReason::MaxTurnRequests => {
            progress("stopped: the agent reached its limit of requests");
            End::Turns
        }
        StopReason::Refusal => {
            progress("stopped: the agent refused to go on");
            End::Refused
        }
        StopReason::Cancelled => End::Interrupted,
        other => {
            progress(&format!("stopped: {other:?}"));
            End::Failed
        }
    }
}

/// The answer to a request for permission: the narrowest that allows, found by its kind, never by its name or place.
fn allow_once(request: &RequestPermissionRequest) -> RequestPermissionOutcome {
    let of = |kind| request.options.iter().find(|option| option.kind == kind);
    match of(PermissionOptionKind::AllowOnce).or_else(|| of(PermissionOptionKind::AllowAlways)) {
        Some(option) => {
            RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(option.option_id.clone()))
        }
        None => RequestPermissionOutcome::Cancelled,
    }
}

/// What the person sees: the agent's words on standard output, its doings on standard error.
#[derive(Default)]
struct Screen {
    in_line: bool,
}

impl Screen {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the protocol grows; what is new is not shown")]
    fn show(&mut self, update: SessionUpdate) {
        match update {
            SessionUpdate::AgentMessageChunk(chunk) => {
                if let ContentBlock::Text(text) = chunk.content {
                    self.say(&text.text);
                }
            }
            SessionUpdate::ToolCall(call) => {
                self.end_line();
                progress(&format!("tool: {}", one_line(&call.title)));
            }
            SessionUpdate::ToolCallUpdate(update) if update.fields.status == Some(ToolCallStatus::Failed) => {
                self.end_line();
                let title = update.fields.title.map(|title| format!(": {}", one_line(&title)));
                progress(&format!("tool failed{}", title.unwrap_or_default()));
            }
            SessionUpdate::Plan(plan) => {
                self.end_line();
                for entry in plan.entries.iter().take(50) {
                    progress(&format!("plan: {} ({:?})", one_line(&entry.content), entry.status));
                }
            }
            _not_for_people => {}
        }
    }

    fn say(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.in_line = !text.ends_with('\n');
        if let Err(e) = answer(text) {
            progress(&format!("can't write the answer: {e}"));
        }
    }

    fn end_line(&mut self) {
        if self.in_line {
            self.say("\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_client_protocol::v1::schema::{PermissionOption, ToolCallUpdate, ToolCallUpdateFields};

    /// An agent of few lines: it answers the requests in order, asks one permission, and shows what it was offered.
    const AGENT: &str = r#"
import json, sys
def send(**m): print(json.dumps({"jsonrpc": "2.0", **m}), flush=True)
def receive(): return json.loads(sys.stdin.readline())
hello = receive()
offered = hello["params"].get("clientCapabilities", {})
send(id=hello["id"], result={"protocolVersion": 1, "agentCapabilities": CAPABILITIES, "authMethods": []})
new = receive()
send(id=new["id"], result={"sessionId": "s1"})
prompt = receive()
send(method="session/update", params={"sessionId": "s1", "update": {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "hello"}}})
send(method="session/update", params={"sessionId": "s1", "update": {"sessionUpdate": "tool_call", "toolCallId": "t", "title": "write a file"}})
send(id=99, method="session/request_permission", params={"sessionId": "s1", "toolCall": {"toolCallId": "t"}, "options": [
  {"optionId": "always", "name": "Always", "kind": "allow_always"}, {"optionId": "once", "name": "Once", "kind": "allow_once"}]})
chosen = receive()["result"]["outcome"]
fs = offered.get("fs", {})
clean = not fs.get("readTextFile") and not fs.get("writeTextFile") and not offered.get("terminal") and new["params"]["mcpServers"] == SERVERS
right = chosen.get("optionId") == "once" and new["params"]["cwd"] == "/" and prompt["params"]["prompt"][0]["text"] == "do it"
send(id=prompt["id"], result={"stopReason": STOP if clean and right else "refusal"})
sys.stdin.readline()
"#;

    async fn with_agent(stop: &str) -> Result<End, String> {
        with_tools(stop, "{}", "[]", None).await
    }

    /// An agent of these capabilities, which expects these servers when there are tools at this address.
    async fn with_tools(
        stop: &str,
        capabilities: &str,
        servers: &str,
        tools: Option<&str>,
    ) -> Result<End, String> {
        let script = AGENT.replace("STOP", &format!("{stop:?}"));
        let script = script.replace("CAPABILITIES", capabilities).replace("SERVERS", servers);
        let (_program, stdin, stdout) = start(&["python3".into(), "-c".into(), script]).expect("python3");
        let settings = Settings { mode: None, tools: tools.map(str::to_owned) };
        converse(lines(stdin, stdout), Path::new("/"), settings, "do it".to_owned()).await
    }

    #[tokio::test]
    async fn an_agent_that_can_gets_the_hosts_tools() {
        let http = r#"{"mcpCapabilities": {"http": True}}"#;
        let url = "http://127.0.0.1:8182/mcp";
        let servers = format!(r#"[{{"type": "http", "name": "lazaret", "url": "{url}", "headers": []}}]"#);
        assert_eq!(with_tools("end_turn", http, &servers, Some(url)).await, Ok(End::Done));
        assert_eq!(with_tools("end_turn", "{}", "[]", Some(url)).await, Ok(End::Done), "it can't");
        assert_eq!(with_tools("end_turn", http, "[]", None).await, Ok(End::Done), "there are none");
    }

    #[tokio::test]
    async fn an_agent_is_offered_nothing_of_the_host_and_allowed_once() {
        assert_eq!(with_agent("end_turn").await, Ok(End::Done));
    }

    #[tokio::test]
    async fn stop_reasons_become_ends() {
        for (stop, end) in [
            ("max_tokens", End::Tokens),
            ("max_turn_requests", End::Turns),
            ("refusal", End::Refused),
            ("cancelled", End::Interrupted),
        ] {
            assert_eq!(with_agent(stop).await, Ok(end), "{stop}");
        }
    }

    #[tokio::test]
    async fn an_agent_that_ends_or_talks_nonsense_is_a_failure() {
        for script in ["exit 0", "echo nonsense; exit 1", "head -c 20000000 /dev/zero"] {
            let (_program, stdin, stdout) =
                start(&["sh".into(), "-c".into(), script.to_owned()]).expect("sh");
            let end =
                converse(lines(stdin, stdout), Path::new("/"), Settings::default(), "do it".to_owned()).await;
            assert!(end.is_err(), "{script}: {end:?}");
        }
    }

    #[test]
    fn a_permission_without_an_option_that_allows_is_cancelled() {
        let call = ToolCallUpdate::new("t", ToolCallUpdateFields::new());
        let reject = PermissionOption::new("no", "allow", PermissionOptionKind::RejectOnce);
        let request = RequestPermissionRequest::new("s", call, vec![reject]);
        assert_eq!(allow_once(&request), RequestPermissionOutcome::Cancelled);
    }

    #[test]
    fn arguments_are_a_prompt_and_a_command() {
        let args = |list: &[&str]| read_arguments(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        let (prompt, command) = args(&["-- do", "--", "agent", "--", "x"]).expect("good");
        assert!(prompt.starts_with("-- do"));
        assert_eq!(command, ["agent", "--", "x"]);
        for bad in [&["do it"][..], &["do", "it", "--", "x"], &["do", "--"], &[]] {
            assert!(args(bad).is_err(), "{bad:?}");
        }
    }
}
