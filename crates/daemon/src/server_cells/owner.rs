//! The task that owns the cell of one local tool server, from its image to its end. The cell is asked for nothing but the
//! program's standard streams: it has no models and no tools, and no way out but what its entry lets through.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{RunningServer, ServerCell, ServerState};
use domain::{CellId, Limits};
use store::Randomness as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wire::frame::CHUNK;
use wire::guest::{ContainerSpec, FromGuest};
use wire::host::DoorReport;
use wire::process::{Exit, FromProcess, ToProcess};

use super::log::Log;
use super::way_out::WayOut;
use super::{Key, Place};
use crate::harness;
use crate::journal::now;
use crate::keeping::System;
use crate::session::{
    DiskOf, Heard, Host, Image, Link, LiveCell, Process, StartFailure, Started, Tell, Wanted, container_spec,
};

/// How long the program may take to end once its input has ended.
const GRACE: Duration = Duration::from_millis(1000);
const GUEST_GRACE: Duration = Duration::from_millis(500);
const CELL_GRACE: Duration = Duration::from_millis(500);
/// Pieces of input that wait for the program.
const INPUTS: usize = 4;
const SIGTERM: u8 = 15;

/// The owner. Nothing of the cell outlives [`Owner::run`] but its disk.
pub(super) struct Owner {
    pub(super) host: Arc<dyn Host>,
    pub(super) key: Key,
    pub(super) cell: ServerCell,
    /// How its requests leave, if any may.
    pub(super) way_out: Option<WayOut>,
    pub(super) allow_emulation: bool,
    pub(super) log: PathBuf,
    pub(super) place: Arc<Place>,
    /// The room that it takes.
    pub(super) _room: OwnedSemaphorePermit,
    /// Cancelled when nobody wants it any more.
    pub(super) stop: CancellationToken,
}

/// How a cell ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nobody wanted it any more.
    LetGo {
        /// How long it was up.
        after: Duration,
    },
    /// A rule of this host forbids it.
    Refused,
    /// By itself.
    Died {
        /// How long it was up.
        after: Duration,
    },
}

/// What can be told of a program's end.
enum End {
    LetGo,
    Died(String),
}

impl Owner {
    /// Lives the cell's whole life, `stream` being the gateway's.
    pub(super) async fn run(
        mut self,
        stream: DuplexStream,
        ready: oneshot::Sender<Result<(), StartFailure>>,
    ) -> Ended {
        let (team, server) = &self.key.clone();
        let ended = match self.up().await {
            Err(None) => Ended::LetGo { after: Duration::ZERO },
            Err(Some(failure)) => {
                let ended = match &failure {
                    StartFailure::Refused { .. } => Ended::Refused,
                    StartFailure::Failed(_) => Ended::Died { after: Duration::ZERO },
                };
                // Whoever waited may have gone.
                drop(ready.send(Err(failure)));
                ended
            }
            Ok(up) => {
                tracing::info!(%team, %server, "a tool server's cell is up");
                let since = Instant::now();
                let end =
                    if ready.send(Ok(())).is_ok() { self.serve(up, stream).await } else { up.down().await };
                let after = since.elapsed();
                match end {
                    End::LetGo => Ended::LetGo { after },
                    End::Died(why) => {
                        tracing::warn!(%team, %server, why, "a tool server died");
                        Ended::Died { after }
                    }
                }
            }
        };
        if let Some(way_out) = self.way_out.take() {
            way_out.end().await;
        }
        self.place.show(None);
        tracing::info!(%team, %server, ?ended, "a tool server's cell is gone");
        ended
    }

    /// Starts everything; `None` where it was stopped meanwhile.
    async fn up(&self) -> Result<Up, Option<StartFailure>> {
        let failed = |why: String| Some(StartFailure::Failed(why));
        let mut log = Log::open(self.log.clone()).await.map_err(|e| failed(format!("its log: {e}")))?;
        let id = new_id().map_err(|e| failed(e.to_string()))?;
        self.show(id, ServerState::Starting, None);
        let begun = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(None),
            begun = self.begin(id) => begun,
        };
        let (image, Started { isolation, link, mut cell }) = match begun {
            Ok(begun) => begun,
            Err(failure) => {
                let (StartFailure::Failed(why) | StartFailure::Refused { why, .. }) = &failure;
                log.note(&format!("it can't be started: {why}")).await;
                return Err(Some(failure));
            }
        };
        let egress = self.way_out.as_ref().map(WayOut::proxy);
        let secrets = self.way_out.as_ref().map(|way_out| way_out.secrets.as_slice());
        let spec = ContainerSpec { egress, ..container_spec(&self.limits(), false) };
        let program = async {
            let link = Link::open(link, self.key.1.to_string(), spec).await?;
            let (input, inputs) = mpsc::channel(INPUTS);
            let spec = harness::server(self.cell.command.clone(), &image.env, secrets);
            let process = Process::start(&link.opener, spec, inputs).await?;
            Ok::<_, String>((link, process, input))
        };
        let started = tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(None),
            why = cell.ended() => Err(failed(why)),
            started = program => started.map_err(failed),
        };
        match started {
            Ok((link, process, input)) => {
                cell.born().await;
                self.show(id, ServerState::Running, Some(isolation));
                Ok(Up { cell, link, process, input, log })
            }
            Err(failure) => {
                cell.stop(CELL_GRACE).await;
                Err(failure)
            }
        }
    }

    async fn begin(&self, id: CellId) -> Result<(Image, Started), StartFailure> {
        let tell: Tell = Arc::new(|message| tracing::info!(message, "for a tool server's cell"));
        let found = self.host.image(self.cell.image.clone(), Arc::clone(&tell)).await;
        let image = found.map_err(|problem| StartFailure::Failed(problem.message))?;
        let (team, server) = self.key.clone();
        let wanted = Wanted {
            id,
            image: image.clone(),
            disk: DiskOf::Server(team, server),
            limits: self.limits(),
            cold: false,
            allow_emulation: self.allow_emulation,
        };
        Ok((image, self.host.start(wanted, tell).await?))
    }

    fn limits(&self) -> Limits {
        let limits = &self.cell.limits;
        let (memory, cpus, disk, pids) = (limits.memory, limits.cpus, limits.disk, limits.pids);
        Limits { memory, cpus, disk, pids, ..Limits::default() }
    }

    fn show(&self, id: CellId, state: ServerState, isolation: Option<domain::Isolation>) {
        let (team, server) = self.key.clone();
        self.place.show(Some(RunningServer { server, team, id, state, isolation, since: now() }));
    }

    /// Carries bytes both ways until one side has enough.
    async fn serve(&mut self, mut up: Up, stream: DuplexStream) -> End {
        let (from, to) = tokio::io::split(stream);
        let Up { cell, link, process, input, log } = &mut up;
        let end = tokio::select! {
            biased;
            () = self.stop.cancelled() => End::LetGo,
            why = cell.ended() => End::Died(why),
            why = watch(link, self.way_out.as_mut()) => End::Died(why),
            () = feed(from, input) => End::LetGo,
            why = drain(process, to, log) => End::Died(why),
        };
        if let End::Died(why) = &end {
            log.note(&format!("it ended: {why}")).await;
        }
        up.down().await;
        end
    }
}

/// A cell whose program runs.
struct Up {
    cell: Box<dyn LiveCell>,
    link: Link,
    process: Process,
    input: mpsc::Sender<ToProcess>,
    log: Log,
}

impl Up {
    /// Ends program, guest and cell, in this order.
    async fn down(self) -> End {
        let Self { cell, link, mut process, input, mut log } = self;
        // A program that does not read is signalled all the same.
        drop(input.try_send(ToProcess::StdinEnd));
        process.signal(SIGTERM);
        let over = async {
            loop {
                match process.next().await {
                    Some(FromProcess::Stderr(bytes)) => log.take(&bytes).await,
                    Some(FromProcess::Started | FromProcess::Stdout(_)) => {}
                    Some(FromProcess::Exited(_) | FromProcess::Failed { .. }) | None => return,
                }
            }
        };
        if tokio::time::timeout(GRACE, over).await.is_err() {
            tracing::debug!("a tool server that does not end is ended with its cell");
        }
        link.shut_down(GUEST_GRACE).await;
        cell.stop(CELL_GRACE).await;
        End::LetGo
    }
}

/// What the gateway says, to the program; ends when the gateway has hung up.
async fn feed(mut from: ReadHalf<DuplexStream>, input: &mpsc::Sender<ToProcess>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return };
        if input.send(ToProcess::Stdin(bytes.to_vec())).await.is_err() {
            // The program is gone, which is heard elsewhere.
            std::future::pending::<Infallible>().await;
        }
    }
}

/// What the program says, to the gateway and to the log; why it ended.
async fn drain(process: &mut Process, mut to: WriteHalf<DuplexStream>, log: &mut Log) -> String {
    loop {
        match process.next().await {
            Some(FromProcess::Started) => {}
            Some(FromProcess::Stdout(bytes)) => {
                if to.write_all(&bytes).await.is_err() {
                    // The gateway has hung up, which is heard elsewhere.
                    std::future::pending::<Infallible>().await;
                }
            }
            Some(FromProcess::Stderr(bytes)) => log.take(&bytes).await,
            Some(FromProcess::Exited(Exit::Code(code))) => return format!("exit code {code}"),
            Some(FromProcess::Exited(Exit::Signal(signal))) => return format!("signal {signal}"),
            Some(FromProcess::Failed { why }) => return format!("the program can't be run: {why}"),
            None => return "its stream ended early".to_owned(),
        }
    }
}

/// Hears the door until the cell's end. It may ask for nothing but to send requests, if some may leave.
async fn watch(link: &mut Link, mut way_out: Option<&mut WayOut>) -> String {
    loop {
        match (link.heard().await, way_out.as_mut()) {
            (Heard::Asks(stream), Some(way_out)) => way_out.serve(stream),
            (Heard::Asks(stream), None) => {
                tracing::debug!("a tool server's cell asks for something, which it may not");
                drop(stream);
            }
            (Heard::Report(Ok(DoorReport::CutOff { why })), _) => {
                return format!("the door cut the guest off: {why}");
            }
            (Heard::Report(Ok(DoorReport::Guest(FromGuest::Down))), _) => {
                return "the guest went down".to_owned();
            }
            (Heard::Report(Ok(DoorReport::Guest(FromGuest::LimitHit { limit }))), _) => {
                tracing::warn!(?limit, "a tool server met a limit");
            }
            (Heard::Report(Ok(DoorReport::Born { .. } | DoorReport::Guest(_))), _) => {}
            (Heard::Report(Err(why)), _) => return why,
        }
    }
}

fn new_id() -> std::io::Result<CellId> {
    let mut random = [0; 16];
    System.fill(&mut random)?;
    Ok(CellId::from_parts(now(), u128::from_le_bytes(random)))
}
