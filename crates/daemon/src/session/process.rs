//! One process in a cell: what goes to it and what comes from it, each in a task of its own, so that neither holds the
//! other up.

use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use wire::frame::{self, SMALL};
use wire::host::DaemonOpens;
use wire::mux::{Opener, Stream};
use wire::process::{FromProcess, ProcessSpec, ToProcess};

use super::link::open;

/// A process. Dropping it closes its stream, which ends it.
#[derive(Debug)]
pub(crate) struct Process {
    urgent: mpsc::Sender<ToProcess>,
    from: mpsc::Receiver<FromProcess>,
    _tasks: JoinSet<()>,
}

impl Process {
    /// Starts a process, fed from `input`.
    ///
    /// # Errors
    /// What failed, for people.
    pub(crate) async fn start(
        opener: &Opener,
        spec: ProcessSpec,
        input: mpsc::Receiver<ToProcess>,
    ) -> Result<Self, String> {
        let (read, write) = tokio::io::split(open(opener, &DaemonOpens::Process(spec)).await?);
        let (urgent, urgents) = mpsc::channel(4);
        let (sender, from) = mpsc::channel(8);
        let mut tasks = JoinSet::new();
        tasks.spawn(feed(write, urgents, input));
        tasks.spawn(watch(read, sender));
        Ok(Self { urgent, from, _tasks: tasks })
    }

    /// What comes next from it; `None` when its stream ended without saying how. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Option<FromProcess> {
        self.from.recv().await
    }

    /// Sends it a signal, before whatever input waits.
    pub(crate) fn signal(&self, signal: u8) {
        if self.urgent.try_send(ToProcess::Signal(signal)).is_err() {
            tracing::debug!(signal, "a process that doesn't take signals will be ended with its cell");
        }
    }
}

async fn feed(
    mut to: WriteHalf<Stream>,
    mut urgent: mpsc::Receiver<ToProcess>,
    mut input: mpsc::Receiver<ToProcess>,
) {
    loop {
        let next = tokio::select! {
            biased;
            Some(message) = urgent.recv() => message,
            Some(message) = input.recv() => message,
            else => return,
        };
        if let Err(error) = frame::write(&mut to, &next, SMALL).await {
            tracing::debug!(%error, "input for a process that has ended");
            return;
        }
    }
}

async fn watch(mut read: ReadHalf<Stream>, to: mpsc::Sender<FromProcess>) {
    loop {
        let message = match frame::read::<FromProcess, _>(&mut read, SMALL).await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(error) => FromProcess::Failed { why: error.to_string() },
        };
        let last = matches!(message, FromProcess::Exited(_) | FromProcess::Failed { .. });
        if to.send(message).await.is_err() || last {
            return;
        }
    }
}
