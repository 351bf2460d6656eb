//! Live sessions and programs over a WebSocket: events out, input in.

use std::sync::Arc;

use api::{
    Data, Event, ExecRequest, Input, MAX_CHUNK, MAX_MESSAGE, MAX_PROMPT, OutputStream, Problem, ProblemKind,
    Stamped,
};
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use domain::EndReason;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::sync::mpsc;
use wire::process::{Exit, FromProcess, Place, ToProcess, TtySize};

use super::caller::{Caller, LOST, Standing};
use super::{Answer, Shared, id};
use crate::harness;
use crate::journal::{Journals, now};
use crate::session::{Live, Process, Session};

/// A reason in a close frame has at most 123 bytes (RFC 6455, section 5.5).
const MAX_REASON: usize = 120;
/// The close code for "against the rules of this endpoint" (RFC 6455, section 7.4.1).
const POLICY: u16 = 1008;

type Out = SplitSink<WebSocket, Message>;
type In = SplitStream<WebSocket>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Owner {
    #[serde(default)]
    owner: bool,
}

/// A session's events from the start, and its input.
pub(super) async fn attach(
    State(sessions): Shared,
    Caller(by): Caller,
    standing: Standing,
    Path(session): Path<String>,
    Query(Owner { owner }): Query<Owner>,
    upgrade: WebSocketUpgrade,
) -> Answer<Response> {
    let session = id(&session)?;
    let live = sessions.live_one(session);
    let journals = sessions.journals(session)?;
    Ok(bounded(upgrade).on_upgrade(move |socket| async move {
        let (mut out, input) = socket.split();
        let outcome = match &live {
            Some(live) => {
                let guard = owner.then(|| StopOnDrop(Arc::clone(live)));
                let told = async { sessions.steered(live, &by.name).await.map_err(|e| e.to_string()) };
                let outcome = tokio::select! {
                    shown = show(&mut out, &journals) => shown,
                    fed = feed(input, live.input(), told) => fed,
                    () = standing.lost() => Err(LOST.to_owned()),
                };
                drop(guard);
                outcome
            }
            None => tokio::select! {
                shown = show(&mut out, &journals) => shown,
                () = standing.lost() => Err(LOST.to_owned()),
            },
        };
        close(out, outcome).await;
    }))
}

/// A program beside the harness: its first message says which.
pub(super) async fn exec(
    State(sessions): Shared,
    Caller(by): Caller,
    standing: Standing,
    Path(session): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Answer<Response> {
    let session = sessions.running(id(&session)?)?;
    let live = session.live().ok_or_else(|| {
        Problem::new(ProblemKind::Conflict, "the session's harness doesn't run yet, or not any more")
    })?;
    Ok(bounded(upgrade).on_upgrade(move |socket| async move {
        let (mut out, input) = socket.split();
        let written = async |program: &[String]| {
            sessions.ran(&session, &by.name, program).await.map_err(|e| e.to_string())
        };
        let outcome = tokio::select! {
            ran = run(&mut out, input, live, written) => ran,
            // The process's stream closes, which ends it.
            () = standing.lost() => Err(LOST.to_owned()),
        };
        close(out, outcome).await;
    }))
}

fn bounded(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE)
}

/// The owner of a session has gone: so has its reason to be.
struct StopOnDrop(Arc<Session>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop(false);
    }
}

async fn close(mut out: Out, outcome: Result<(), String>) {
    let frame = outcome.err().map(|why| {
        tracing::debug!(why, "an attachment ended");
        let reason: String = why.chars().take(MAX_REASON / 4).collect();
        CloseFrame { code: POLICY, reason: reason.into() }
    });
    if let Err(error) = out.send(Message::Close(frame)).await {
        tracing::debug!(%error, "the client had gone");
    }
}

async fn show(out: &mut Out, journals: &Journals) -> Result<(), String> {
    let mut lines = journals.read().await.map_err(|e| e.to_string())?;
    while let Some(line) = lines.next(true).await.map_err(|e| e.to_string())? {
        let text = String::from_utf8(line).map_err(|e| e.to_string())?;
        out.send(Message::text(text)).await.map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Passes input on until the client has gone. Before the first that says something, it is written down whose it is.
async fn feed(
    mut from: In,
    to: mpsc::Sender<ToProcess>,
    told: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    let mut told = Some(std::pin::pin!(told));
    while let Some(input) = next::<Input>(&mut from).await? {
        if matches!(input, Input::Stdin { .. })
            && let Some(told) = told.take()
        {
            told.await?;
        }
        if to.send(translate(input)?).await.is_err() {
            // The process has ended; its events say how.
            std::future::pending::<()>().await;
        }
    }
    Ok(())
}

async fn next<T: serde::de::DeserializeOwned>(from: &mut In) -> Result<Option<T>, String> {
    loop {
        match from.next().await {
            Some(Ok(Message::Text(text))) => {
                return serde_json::from_str(&text).map(Some).map_err(|e| e.to_string());
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(_))) => return Err("a binary message".to_owned()),
            Some(Ok(Message::Close(_))) | None => return Ok(None),
            Some(Err(error)) => return Err(error.to_string()),
        }
    }
}

fn translate(input: Input) -> Result<ToProcess, String> {
    Ok(match input {
        Input::Stdin { data: Data(bytes) } if bytes.len() > MAX_CHUNK => {
            return Err(format!("more than {MAX_CHUNK} bytes of input at once"));
        }
        Input::Stdin { data: Data(bytes) } => ToProcess::Stdin(bytes),
        Input::StdinEnd => ToProcess::StdinEnd,
        Input::Signal { signal } => ToProcess::Signal(signal),
        Input::Resize { size } => ToProcess::Resize(TtySize { rows: size.rows, columns: size.columns }),
    })
}

async fn run(
    out: &mut Out,
    mut input: In,
    live: Live,
    written: impl AsyncFnOnce(&[String]) -> Result<(), String>,
) -> Result<(), String> {
    let Some(request) = next::<ExecRequest>(&mut input).await? else { return Ok(()) };
    let length: usize = request.argv.iter().map(String::len).sum();
    if request.argv.is_empty() || length > MAX_PROMPT || request.argv.iter().any(|arg| arg.contains('\0')) {
        return Err("the command is empty, too long or has a zero byte".to_owned());
    }
    if request.guest_root && !live.guest_root {
        return Err("the session was not started for tests of single layers".to_owned());
    }
    let _room =
        Arc::clone(&live.execs).try_acquire_owned().map_err(|_| "too many programs already".to_owned())?;
    let place = if request.guest_root { Place::GuestRoot } else { Place::Container };
    let tty = request.terminal.map(|size| TtySize { rows: size.rows, columns: size.columns });
    written(&request.argv).await?;
    let spec = harness::exec(request.argv, &live.image_env, tty, place);
    let (to, fed) = mpsc::channel(4);
    let mut process = Process::start(&live.opener, spec, fed).await?;
    tokio::select! {
        shown = watch(out, &mut process) => shown,
        // Gone: the process's stream closes, which ends it.
        fed = feed(input, to, std::future::ready(Ok(()))) => fed,
    }
}

async fn watch(out: &mut Out, process: &mut Process) -> Result<(), String> {
    loop {
        let event = match process.next().await {
            Some(FromProcess::Started) => continue,
            Some(FromProcess::Stdout(bytes)) => {
                Event::Output { stream: OutputStream::Stdout, data: Data(bytes) }
            }
            Some(FromProcess::Stderr(bytes)) => {
                Event::Output { stream: OutputStream::Stderr, data: Data(bytes) }
            }
            Some(FromProcess::Exited(Exit::Code(code))) => ended(EndReason::Finished { code }),
            Some(FromProcess::Exited(Exit::Signal(signal))) => ended(EndReason::Signalled { signal }),
            Some(FromProcess::Failed { why }) => ended(EndReason::CellFailed { why }),
            None => ended(EndReason::CellFailed { why: "the session ended".to_owned() }),
        };
        let last = matches!(event, Event::Ended { .. });
        let text = serde_json::to_string(&Stamped { at: now(), event }).map_err(|e| e.to_string())?;
        out.send(Message::text(text)).await.map_err(|e| e.to_string())?;
        if last {
            return Ok(());
        }
    }
}

fn ended(reason: EndReason) -> Event {
    let exit_code = reason.exit_code().0;
    Event::Ended { reason, exit_code }
}
