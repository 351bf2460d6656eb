//! A live session or process at this terminal: its output shown, its input sent, Ctrl-C understood.

use std::future::pending;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use api::{
    Attachment, Client, ClientError, Data, Event, EventStream, Input, InputSink, OutputStream, ProblemKind,
    Stamped, StopRequest,
};
use domain::{EndReason, SessionId};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::{Failure, note};
use crate::terminal::{RawTerminal, Safe, size};

/// How to show and feed it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    /// Every event as a line of JSON.
    pub(crate) json: bool,
    /// It has this terminal.
    pub(crate) tty: bool,
    /// Standard input is sent.
    pub(crate) stdin: bool,
}

/// What Ctrl-C means.
#[derive(Debug)]
pub(crate) enum Interrupt {
    /// The end of the session.
    Session(Client, SessionId),
    /// A signal to the process.
    Process,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) reason: EndReason,
    pub(crate) exit_code: u8,
}

/// How long an orderly stop may take before the client ends without waiting for it.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Ctrl-]: twice, it ends a session that has the terminal.
const ESCAPE: u8 = 0x1d;
const SIGINT: u8 = 2;
const BROKEN_PIPE: u8 = 141; // 128 + SIGPIPE, as other filters end

/// Shows and feeds it until it ends.
pub(crate) async fn live(attachment: Attachment, how: How, interrupt: Interrupt) -> Result<End, Failure> {
    let raw = if how.tty {
        Some(RawTerminal::enter().map_err(|e| {
            Failure::new(format!("a terminal can't be lent: {e}")).hint("leave out -t where there is none")
        })?)
    } else {
        None
    };
    let (escaped, escape) = mpsc::channel(1);
    let (signals, to_process) = mpsc::channel(4);
    let Attachment { input, mut events } = attachment;
    let end = tokio::select! {
        end = show(&mut events, how) => end,
        error = feed(input, how, to_process, escaped) => Err(error),
        end = interrupted(interrupt, signals, escape) => end,
    };
    drop(raw);
    end
}

/// Shows events until the last.
async fn show(events: &mut EventStream, how: How) -> Result<End, Failure> {
    let mut screen = Screen::new(how.tty);
    while let Some(stamped) = events.next().await? {
        if let Some(end) = screen.show(stamped, how.json).await? {
            return Ok(end);
        }
    }
    Err(Failure::new("the daemon ended the connection before the session's end")
        .hint("`lazaret ps -a` says what became of it"))
}

/// Where events are shown: standard output and error, each made safe if it is a terminal.
pub(crate) struct Screen {
    out: Shown<tokio::io::Stdout>,
    err: Shown<tokio::io::Stderr>,
}

struct Shown<W> {
    to: W,
    safe: Option<Safe>,
}

impl<W: AsyncWrite + Unpin> Shown<W> {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.safe {
            Some(safe) => self.to.write_all(&safe.filter(bytes)).await?,
            None => self.to.write_all(bytes).await?,
        }
        self.to.flush().await
    }
}

impl Screen {
    /// `lent`: the terminal is the agent's own.
    pub(crate) fn new(lent: bool) -> Self {
        let text = |terminal: bool| terminal.then(Safe::text);
        Self {
            out: Shown {
                to: tokio::io::stdout(),
                safe: if lent { Some(Safe::screen()) } else { text(io::stdout().is_terminal()) },
            },
            err: Shown { to: tokio::io::stderr(), safe: text(io::stderr().is_terminal()) },
        }
    }

    /// Shows one event; the last one gives the end.
    pub(crate) async fn show(&mut self, stamped: Stamped, json: bool) -> Result<Option<End>, Failure> {
        if json {
            let mut line = serde_json::to_vec(&stamped).map_err(|e| Failure::new(e.to_string()))?;
            line.push(b'\n');
            // JSON escapes C0 controls by itself, but not C1 and direction characters.
            if let Err(error) = self.out.write(&line).await {
                return broken(&error).map(Some);
            }
        }
        match stamped.event {
            Event::Output { .. } | Event::Progress { .. } | Event::Limit { .. } | Event::Started { .. }
                if json => {}
            Event::Output { stream, data: Data(bytes) } => {
                let written = match stream {
                    OutputStream::Stdout => self.out.write(&bytes).await,
                    OutputStream::Stderr => self.err.write(&bytes).await,
                };
                if let Err(error) = written {
                    return broken(&error).map(Some);
                }
            }
            Event::Progress { message } => note(message),
            Event::Limit { what } => note(format!("limit: {what}")),
            Event::Started { isolation } => note(format!("running; isolation: {isolation}")),
            Event::Ended { reason, exit_code } => return Ok(Some(End { reason, exit_code })),
        }
        Ok(None)
    }
}

/// Whoever read our output has gone: not a failure, but the end.
fn broken(error: &io::Error) -> Result<End, Failure> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Ok(End { reason: EndReason::Stopped, exit_code: BROKEN_PIPE });
    }
    Err(Failure::new(format!("the output can't be written: {error}")))
}

/// Sends input; never ends by itself but with a failure.
async fn feed(
    mut sink: InputSink,
    how: How,
    mut to_process: mpsc::Receiver<Input>,
    escaped: mpsc::Sender<()>,
) -> Failure {
    let mut stdin = tokio::io::stdin();
    let mut open = how.stdin || how.tty;
    let mut resized = match signal(SignalKind::window_change()) {
        Ok(resized) => resized,
        Err(error) => return error.into(),
    };
    let mut buffer = vec![0_u8; api::MAX_CHUNK];
    let mut escapes = 0_u8;
    loop {
        let input = tokio::select! {
            read = stdin.read(&mut buffer), if open => match read {
                Ok(0) => {
                    open = false;
                    Input::StdinEnd
                }
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    escapes = if bytes == [ESCAPE] { escapes.saturating_add(1) } else { 0 };
                    if how.tty && (escapes >= 2 || bytes == [ESCAPE, ESCAPE]) && escaped.try_send(()).is_err() {
                        continue; // told already
                    }
                    Input::Stdin { data: Data(bytes.to_vec()) }
                }
                Err(error) => return Failure::new(format!("standard input can't be read: {error}")),
            },
            Some(()) = resized.recv(), if how.tty => Input::Resize { size: size() },
            Some(input) = to_process.recv() => input,
        };
        if sink.send(&input).await.is_err() {
            // The end of the events tells why.
            return pending().await;
        }
    }
}

/// Waits for somebody to end it: once in order, twice at once.
async fn interrupted(
    interrupt: Interrupt,
    to_process: mpsc::Sender<Input>,
    mut escape: mpsc::Receiver<()>,
) -> Result<End, Failure> {
    let mut signals = Signals::new()?;
    let stopped = End { reason: EndReason::Stopped, exit_code: 130 };
    signals.next(&mut escape).await;
    match interrupt {
        Interrupt::Process => {
            if to_process.send(Input::Signal { signal: SIGINT }).await.is_err() {
                return Ok(stopped);
            }
            signals.next(&mut escape).await;
        }
        Interrupt::Session(client, id) => {
            note("stopping; once more ends it at once");
            // An answer means that it has ended, and how is still being shown.
            tokio::select! {
                answer = stop(&client, id, false) => {
                    answer?;
                    return pending().await;
                }
                () = signals.next(&mut escape) => {}
                () = tokio::time::sleep(STOP_WITHIN) => {}
            }
            stop(&client, id, true).await?;
        }
    }
    Ok(stopped)
}

/// Ends once the session has ended, even by itself meanwhile.
async fn stop(client: &Client, id: SessionId, now: bool) -> Result<(), Failure> {
    match client.stop(id, StopRequest { now }).await {
        Err(ClientError::Problem(problem)) if problem.kind == ProblemKind::Conflict => Ok(()),
        answer => Ok(answer?),
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self, escape: &mut mpsc::Receiver<()>) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
            Some(()) = escape.recv() => {}
        }
    }
}
