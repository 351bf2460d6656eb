//! The link to a cell's door process: a mux over the socket pair, its control stream, and what the door asks for.

use std::time::Duration;

use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use wire::frame::{self, SMALL};
use wire::guest::{ContainerSpec, FromGuest, ToGuest};
use wire::host::{DaemonOpens, DoorReport};
use wire::mux::{Incoming, MuxLimits, Opener, Side, Stream, mux};

/// How long a guest may take from its birth to a container that stands. Emulated and under load it takes a while.
const STANDS_WITHIN: Duration = Duration::from_secs(240);
/// How long the guest may take to unmount, over its own grace.
const DOWN_WITHIN: Duration = Duration::from_millis(1500);

/// The link. Dropping it ends its tasks and closes the socket.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) opener: Opener,
    incoming: Incoming,
    control: WriteHalf<Stream>,
    reports: mpsc::Receiver<DoorReport>,
    tasks: JoinSet<()>,
}

impl Link {
    /// Takes up the link, gives the guest its birth, and waits until its container stands.
    ///
    /// # Errors
    /// What failed, for people.
    pub(crate) async fn open(
        stream: UnixStream,
        host_name: String,
        container: ContainerSpec,
    ) -> Result<Self, String> {
        let (opener, incoming, driver) = mux(stream, Side::Host, MuxLimits::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            if let Err(error) = driver.run().await {
                tracing::warn!(%error, "the link to a door broke");
            }
        });
        let head = DaemonOpens::Control { host_name, container };
        let (from, control) = tokio::io::split(open(&opener, &head).await?);
        let (report, reports) = mpsc::channel(16);
        tasks.spawn(read_reports(from, report));
        let mut link = Self { opener, incoming, control, reports, tasks };
        match tokio::time::timeout(STANDS_WITHIN, link.stands()).await {
            Ok(stands) => stands.map(|()| link),
            Err(_) => Err(format!("the guest was not ready within {} s", STANDS_WITHIN.as_secs())),
        }
    }

    async fn stands(&mut self) -> Result<(), String> {
        loop {
            match self.report().await? {
                DoorReport::Born { boot_id } => tracing::debug!(boot_id, "born"),
                DoorReport::Guest(FromGuest::Configured(protections)) => {
                    tracing::info!(verified = protections.verified.len(), "the container stands");
                    return Ok(());
                }
                DoorReport::Guest(FromGuest::Refused { why }) => {
                    return Err(format!("the guest refused its container: {why}"));
                }
                DoorReport::CutOff { why } => return Err(cut_off(&why)),
                DoorReport::Guest(FromGuest::Health { .. } | FromGuest::LimitHit { .. }) => {}
                DoorReport::Guest(FromGuest::Down) => return Err("the guest went down".to_owned()),
            }
        }
    }

    /// What the door says next, or asks for. Safe to cancel.
    pub(crate) async fn heard(&mut self) -> Heard {
        tokio::select! {
            biased;
            report = self.reports.recv() => Heard::Report(report.ok_or_else(gone)),
            Some(stream) = self.incoming.next() => Heard::Asks(stream),
        }
    }

    /// The next report of the door. Safe to cancel.
    ///
    /// # Errors
    /// When the door is gone.
    pub(super) async fn report(&mut self) -> Result<DoorReport, String> {
        self.reports.recv().await.ok_or_else(gone)
    }

    /// Asks the guest how it is. What it reports before its answer happened before.
    ///
    /// # Errors
    /// When the door is gone.
    pub(super) async fn ask_health(&mut self) -> Result<(), String> {
        frame::write(&mut self.control, &ToGuest::Health, SMALL).await.map_err(|e| e.to_string())
    }

    /// Asks the guest to end every process, unmount and power off, and waits for it.
    pub(crate) async fn shut_down(mut self, grace: Duration) {
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        let down = async {
            frame::write(&mut self.control, &ToGuest::Shutdown { grace_ms }, SMALL)
                .await
                .map_err(|e| e.to_string())?;
            loop {
                if let DoorReport::Guest(FromGuest::Down) | DoorReport::CutOff { .. } = self.report().await? {
                    return Ok::<(), String>(());
                }
            }
        };
        match tokio::time::timeout(grace.saturating_add(DOWN_WITHIN), down).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::debug!(why, "the guest ended before it said so"),
            Err(_) => tracing::warn!("the guest did not go down in time; its disk is as after a power cut"),
        }
        self.tasks.shutdown().await;
    }
}

/// What comes from a door.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A report, or that there will be no more.
    Report(Result<DoorReport, String>),
    /// A stream on which it asks for something.
    Asks(Stream),
}

fn gone() -> String {
    "the door process ended".to_owned()
}

/// Opens a stream and sends its head.
///
/// # Errors
/// What failed, for people.
pub(super) async fn open(opener: &Opener, head: &DaemonOpens) -> Result<Stream, String> {
    let mut stream = opener.open().await.map_err(|e| format!("the door can't be reached: {e}"))?;
    frame::write(&mut stream, head, SMALL).await.map_err(|e| format!("the door can't be told: {e}"))?;
    Ok(stream)
}

pub(super) fn cut_off(why: &str) -> String {
    format!("the door cut the guest off: {why}")
}

async fn read_reports(mut from: ReadHalf<Stream>, to: mpsc::Sender<DoorReport>) {
    loop {
        let report = match frame::read::<DoorReport, _>(&mut from, SMALL).await {
            Ok(Some(report)) => report,
            Ok(None) => return,
            Err(error) => DoorReport::CutOff { why: error.to_string() },
        };
        let last = matches!(report, DoorReport::CutOff { .. });
        if to.send(report).await.is_err() || last {
            return;
        }
    }
}
