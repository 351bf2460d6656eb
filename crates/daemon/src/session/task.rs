//! The task that owns one session, from its agent's turn to its last event.
//!
//! ```text
//! turn ▶ image ▶ cell ▶ container ▶ workspace in ▶ harness ▶ workspace out ▶ guest down ▶ cell gone ▶ ended
//! ```
//! Every step gives way to a stop, and from the cell's start on to the wall clock.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use api::{Data, Event, NewSession, OutputStream, SessionView};
use domain::{AgentFile, CellId, EndReason, Limits, PersonName, SessionEvent};
use gateway::tools::Authors;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::Instant;
use wire::guest::{ContainerSpec, EgressProxy, FromGuest, GuestLimit};
use wire::host::DoorReport;
use wire::process::{Exit, FromProcess, ToProcess, TtySize};

use super::handle::{Live, Stops};
use super::host::{DiskOf, Image, LiveCell, StartFailure, Started, Tell, Wanted};
use super::link::{Heard, Link, cut_off};
use super::models::{Models, Told};
use super::process::Process;
use super::tools::Tools;
use super::{Sessions, workspace};
use crate::applied::Files;
use crate::harness::{self, EGRESS_PORT, MODEL_PORT, TOOLS_PORT, Task};
use crate::journal::{self, Journal};

/// How long the client may take to send the workspace.
const WORKSPACE_WITHIN: Duration = Duration::from_secs(120);
/// How long a harness may take to end after SIGTERM. With the guest's and the cell's own, within 5 s.
const HARNESS_GRACE: Duration = Duration::from_millis(2000);
const GUEST_GRACE: Duration = Duration::from_millis(500);
const CELL_GRACE: Duration = Duration::from_millis(500);
/// How long reading the workspace may take after the harness has ended.
const GET_WITHIN: Duration = Duration::from_secs(120);
/// How long the guest's last words may take.
const REPORT_WITHIN: Duration = Duration::from_millis(1000);
/// A disk with less free space is full, as the guest counts it.
const FULL_DISK: u64 = 1 << 20;
const SIGTERM: u8 = 15;
const SIGKILL: u8 = 9;

/// The owner. Nothing of the session outlives [`Owner::run`].
pub(super) struct Owner {
    pub(super) sessions: Arc<Sessions>,
    pub(super) agent: AgentFile,
    /// What else its folder holds.
    pub(super) files: Files,
    /// Whose prompt it follows, and whose words.
    pub(super) by: Option<PersonName>,
    pub(super) authors: Authors,
    /// Whether the agent is one of the host's own, with a disk that lasts.
    pub(super) named: bool,
    pub(super) request: NewSession,
    pub(super) journal: Journal,
    pub(super) view: watch::Sender<SessionView>,
    pub(super) inputs: mpsc::Receiver<ToProcess>,
    pub(super) live: watch::Sender<Option<Live>>,
    pub(super) stops: Stops,
}

/// What ends a step before it is done.
type Cut<T> = Result<T, EndReason>;

impl Owner {
    /// Lives the session's whole life.
    pub(super) async fn run(mut self, put: oneshot::Receiver<Vec<u8>>) {
        let id = self.view.borrow().id;
        tracing::info!(%id, agent = %self.agent.name, "session queued");
        let reason = match self.life(put).await {
            Ok(reason) | Err(reason) => reason,
        };
        tracing::info!(%id, %reason, "session ended");
        self.record(store::Event::SessionEnded { reason: reason.clone() }).await;
        let exit_code = reason.exit_code().0;
        self.advance(SessionEvent::Ended, |view| view.ended = Some(reason.clone()));
        self.tell(Event::Ended { reason, exit_code }).await;
        self.sessions.forget(id);
    }

    async fn life(&mut self, put: oneshot::Receiver<Vec<u8>>) -> Cut<EndReason> {
        let _turn = self.turn().await?;
        let tools = self.tools().await?;
        let image = self.image().await?;
        let deadline = Instant::now() + self.agent.limits.wall_clock.as_duration();
        let Started { isolation, link, mut cell } = self.cell(image.clone(), deadline).await?;
        self.view.send_modify(|view| view.isolation = Some(isolation));
        let outcome = async {
            let link = self.container(link, cell.as_mut(), deadline).await?;
            self.put_workspace(&link, put, cell.as_mut(), deadline).await?;
            self.live.send_replace(Some(Live::new(
                link.opener.clone(),
                Arc::clone(&image.env),
                self.request.options.guest_root,
            )));
            self.record(store::Event::SessionStarted {
                harness: self.agent.harness.to_string(),
                image: self.agent.image.to_string(),
                isolation,
                by: self.by.clone(),
            })
            .await;
            self.tell(Event::Started { isolation }).await;
            self.advance(SessionEvent::Started, |_| {});
            Ok((self.harness(link, &image, cell.as_mut(), deadline, tools).await, ()))
        }
        .await;
        self.live.send_replace(None);
        let reason = match outcome {
            Ok(((reason, link), ())) => self.wind_up(reason, link).await,
            Err(reason) => reason,
        };
        cell.stop(if self.stops.now.is_cancelled() { Duration::ZERO } else { CELL_GRACE }).await;
        Ok(reason)
    }

    /// Who it is, on the ledger.
    pub(super) fn about(&self) -> store::About {
        store::About {
            agent: Some(self.agent.name.clone()),
            team: Some(self.agent.team.clone()),
            session: Some(self.view.borrow().id),
        }
    }

    /// Puts an event of the session's life on the ledger.
    pub(super) async fn record(&self, event: store::Event) {
        let now = crate::journal::now();
        if let Err(error) = self.sessions.store().record(&self.about(), &event, None, now).await {
            tracing::error!(%error, "a session's event can't be recorded");
        }
    }

    /// Waits for the agent's turn. An agent without a lasting disk needs none.
    async fn turn(&mut self) -> Cut<Option<OwnedSemaphorePermit>> {
        if !self.named {
            return Ok(None);
        }
        let turn = self.sessions.turn(&self.agent.name);
        if let Ok(turn) = Arc::clone(&turn).try_acquire_owned() {
            return Ok(Some(turn));
        }
        self.progress(format!("waiting for another session of `{}` to end", self.agent.name)).await;
        let stops = self.stops.clone();
        let turn = or_stopped(&stops, turn.acquire_owned()).await?;
        turn.map(Some).map_err(|e| EndReason::CellFailed { why: e.to_string() })
    }

    async fn image(&mut self) -> Cut<Image> {
        let sessions = Arc::clone(&self.sessions);
        let (tell, told) = teller();
        let work = sessions.host.image(self.agent.image.clone(), tell);
        self.with_progress(work, told, None).await?.map_err(|problem| match problem.hint {
            Some(hint) => EndReason::Refused { why: problem.message, hint },
            None => EndReason::CellFailed { why: problem.message },
        })
    }

    async fn cell(&mut self, image: Image, deadline: Instant) -> Cut<Started> {
        let sessions = Arc::clone(&self.sessions);
        let id = self.view.borrow().id;
        let wanted = Wanted {
            // One cell per session: the same id, in another type.
            id: id.to_string().parse::<CellId>().map_err(|e| EndReason::CellFailed { why: e.to_string() })?,
            image,
            disk: if self.named { DiskOf::Agent(self.agent.name.clone()) } else { DiskOf::Nobody },
            limits: self.agent.limits.clone(),
            cold: self.request.options.cold,
            allow_emulation: self.request.options.allow_emulation || sessions.config.allow_emulation,
        };
        self.progress("starting the cell".to_owned()).await;
        let (tell, told) = teller();
        match self.with_progress(sessions.host.start(wanted, tell), told, Some(deadline)).await? {
            Ok(started) => Ok(started),
            Err(StartFailure::Refused { why, hint }) => Err(EndReason::Refused { why, hint }),
            Err(StartFailure::Failed(why)) => Err(EndReason::CellFailed { why }),
        }
    }

    async fn container(
        &mut self,
        link: tokio::net::UnixStream,
        cell: &mut dyn LiveCell,
        deadline: Instant,
    ) -> Cut<Link> {
        let authority = self.sessions.behind.authority.pem().to_owned();
        let spec = ContainerSpec {
            egress: Some(EgressProxy { port: EGRESS_PORT, authority }),
            ..container_spec(&self.agent.limits, self.request.options.guest_root)
        };
        let opened = Link::open(link, self.agent.name.to_string(), spec);
        let link =
            self.in_cell(opened, cell, deadline).await?.map_err(|why| EndReason::CellFailed { why })?;
        cell.born().await;
        Ok(link)
    }

    async fn put_workspace(
        &mut self,
        link: &Link,
        put: oneshot::Receiver<Vec<u8>>,
        cell: &mut dyn LiveCell,
        deadline: Instant,
    ) -> Cut<()> {
        if !self.request.workspace {
            return Ok(());
        }
        let opener = link.opener.clone();
        let work = async {
            let archive = match tokio::time::timeout(WORKSPACE_WITHIN, put).await {
                Ok(Ok(archive)) => archive,
                Ok(Err(_)) | Err(_) => return Err("no workspace was sent".to_owned()),
            };
            workspace::put(&opener, &archive).await
        };
        self.in_cell(work, cell, deadline).await?.map_err(|why| EndReason::CellFailed { why })
    }

    /// Runs the harness to its end, and gives the link back where there is still a guest to speak to.
    async fn harness(
        &mut self,
        link: Link,
        image: &Image,
        cell: &mut dyn LiveCell,
        deadline: Instant,
        tools: Tools,
    ) -> (EndReason, Option<Link>) {
        let mut process = match self.start_harness(&link, image, tools.any).await {
            Ok(process) => process,
            Err(why) => return (EndReason::CellFailed { why }, Some(link)),
        };
        let mut models = Models::new(&self.sessions.behind, &self.agent, tools);
        let ended = self.drive(&mut process, link, cell, deadline, &mut models).await;
        models.end().await;
        ended
    }

    /// Takes what the harness says and its door asks for, until it ends or is ended.
    async fn drive(
        &mut self,
        process: &mut Process,
        mut link: Link,
        cell: &mut dyn LiveCell,
        deadline: Instant,
        models: &mut Models,
    ) -> (EndReason, Option<Link>) {
        let stops = self.stops.clone();
        let mut watch = Watch::new(self.agent.limits.output.as_u64());
        loop {
            tokio::select! {
                biased;
                () = stops.now.cancelled() => return (EndReason::Stopped, None),
                () = stops.asked.cancelled(), if watch.cause.is_none() => watch.end(EndReason::Stopped, process),
                () = tokio::time::sleep_until(deadline), if watch.cause.is_none() => watch.end(self.late(), process),
                () = watch.grace_over(), if watch.cause.is_some() => {
                    return (watch.cause.unwrap_or(EndReason::Stopped), Some(link));
                }
                why = cell.ended() => return (EndReason::CellFailed { why }, None),
                heard = link.heard() => match heard {
                    Heard::Asks(stream) => models.serve(stream),
                    Heard::Report(report) => if let Some(why) = self.report(report, &mut watch).await {
                        return (EndReason::CellFailed { why }, None);
                    },
                },
                told = models.told() => match told {
                    Told::Nothing => {}
                    Told::Note(message) => self.progress(message).await,
                    Told::Limit(what) if watch.cause.is_none() => watch.end(EndReason::Limit { what }, process),
                    Told::Limit(_) => {}
                },
                message = process.next() => {
                    if let Some(reason) = self.message(message, &mut watch, process).await {
                        return match self.last_words(reason, &mut watch, &mut link).await {
                            Ok(reason) => (reason, Some(link)),
                            Err(reason) => (reason, None),
                        };
                    }
                }
            }
        }
    }

    /// Takes a report of the door; the one that is the cell's end gives why.
    async fn report(&mut self, report: Result<DoorReport, String>, watch: &mut Watch) -> Option<String> {
        match report {
            Ok(DoorReport::Guest(FromGuest::LimitHit { limit })) => {
                self.limit_hit(watch, limit).await;
                None
            }
            Ok(DoorReport::CutOff { why }) => Some(cut_off(&why)),
            Ok(DoorReport::Guest(FromGuest::Down)) => Some("the guest went down".to_owned()),
            Ok(DoorReport::Born { .. }) => None,
            Ok(DoorReport::Guest(
                FromGuest::Configured(_) | FromGuest::Health { .. } | FromGuest::Refused { .. },
            )) => None,
            Err(why) => Some(why),
        }
    }

    /// What the guest has still to say when the harness has ended: limits that were met just before, on a stream that
    /// may lag or is looked at now and then only. A harness that was killed for its memory ended at a limit. One whose
    /// guest is gone ended for the reason that the door gives for it.
    async fn last_words(
        &mut self,
        reason: EndReason,
        watch: &mut Watch,
        link: &mut Link,
    ) -> Result<EndReason, EndReason> {
        let killed = reason == (EndReason::Signalled { signal: SIGKILL }) && !watch.memory_hit;
        let words = async {
            if let Err(why) = link.ask_health().await {
                tracing::debug!(why, "the guest can't be asked any more");
            }
            loop {
                match link.report().await? {
                    DoorReport::Guest(FromGuest::LimitHit { limit }) => {
                        self.limit_hit(watch, limit).await;
                        if killed && watch.memory_hit {
                            return Ok(());
                        }
                    }
                    DoorReport::Guest(FromGuest::Health { disk_free, .. }) if disk_free < FULL_DISK => {
                        self.limit_hit(watch, GuestLimit::Disk).await;
                        if !killed {
                            return Ok(());
                        }
                    }
                    // The kernel tells of a kill for memory a little after the kill.
                    DoorReport::Guest(FromGuest::Health { .. }) if !killed => return Ok(()),
                    DoorReport::Guest(FromGuest::Health { .. }) => {}
                    DoorReport::CutOff { why } => return Err(cut_off(&why)),
                    DoorReport::Born { .. }
                    | DoorReport::Guest(
                        FromGuest::Configured(_) | FromGuest::Refused { .. } | FromGuest::Down,
                    ) => {}
                }
            }
        };
        match tokio::time::timeout(REPORT_WITHIN, words).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err(EndReason::CellFailed { why }),
            Err(_) => tracing::debug!("the guest's last words did not come in time"),
        }
        if reason == (EndReason::Signalled { signal: SIGKILL }) && watch.memory_hit {
            return Ok(EndReason::Limit { what: format!("memory of {}", self.agent.limits.memory) });
        }
        Ok(reason)
    }

    async fn start_harness(&mut self, link: &Link, image: &Image, tools: bool) -> Result<Process, String> {
        let tty = self.request.terminal.map(|size| TtySize { rows: size.rows, columns: size.columns });
        let config = &self.sessions.config;
        let model = self.agent.models.first();
        let model = model.and_then(|model| config.api(model.provider()).map(|api| (model, api.as_str())));
        let spec = harness::process(&Task {
            agent: &self.agent,
            model,
            prompt: self.request.prompt.as_deref(),
            image_env: &image.env,
            tty,
            tools,
        });
        let (_, closed) = mpsc::channel(1);
        let inputs = std::mem::replace(&mut self.inputs, closed);
        Process::start(&link.opener, spec, inputs).await
    }

    /// Takes what came from the harness; its end gives the reason.
    async fn message(
        &mut self,
        message: Option<FromProcess>,
        watch: &mut Watch,
        process: &Process,
    ) -> Option<EndReason> {
        let (stream, bytes) = match message {
            Some(FromProcess::Started) => return None,
            Some(FromProcess::Stdout(bytes)) => (OutputStream::Stdout, bytes),
            Some(FromProcess::Stderr(bytes)) => (OutputStream::Stderr, bytes),
            Some(FromProcess::Exited(exit)) => return Some(watch.reason(exit)),
            Some(FromProcess::Failed { why }) => {
                return Some(EndReason::CellFailed { why: format!("the harness can't be run: {why}") });
            }
            None => {
                return Some(EndReason::CellFailed { why: "the harness's stream ended early".to_owned() });
            }
        };
        let (bytes, over) = watch.within(bytes);
        if !bytes.is_empty() {
            self.tell(Event::Output { stream, data: Data(bytes) }).await;
        }
        if let (Some(how), None) = (over, &watch.cause) {
            let what = format!("output of {}{how}", self.agent.limits.output);
            watch.end(EndReason::Limit { what }, process);
        }
        None
    }

    async fn limit_hit(&mut self, watch: &mut Watch, limit: GuestLimit) {
        let limits = &self.agent.limits;
        let what = match limit {
            GuestLimit::Memory => {
                watch.memory_hit = true;
                format!("memory of {}: a process was killed", limits.memory)
            }
            GuestLimit::Pids => format!("{} processes: one more could not be started", limits.pids),
            GuestLimit::Disk if watch.disk_told => return,
            GuestLimit::Disk => {
                watch.disk_told = true;
                format!("disk of {}: it is full", limits.disk)
            }
        };
        self.tell(Event::Limit { what }).await;
    }

    /// What is left to do while there is a guest: the workspace, the disk.
    async fn wind_up(&mut self, reason: EndReason, link: Option<Link>) -> EndReason {
        let Some(link) = link else { return reason };
        let reason = if self.request.workspace { self.keep_workspace(reason, &link).await } else { reason };
        let stops = self.stops.clone();
        tokio::select! {
            () = stops.now.cancelled() => {}
            () = link.shut_down(GUEST_GRACE) => {}
        }
        reason
    }

    async fn keep_workspace(&mut self, reason: EndReason, link: &Link) -> EndReason {
        let id = self.view.borrow().id;
        let path = self.sessions.shelf.workspace(id);
        let stops = self.stops.clone();
        let kept = async {
            let archive = match tokio::time::timeout(GET_WITHIN, workspace::get(&link.opener)).await {
                Ok(archive) => archive?,
                Err(_) => {
                    return Err(format!("the workspace did not come within {} s", GET_WITHIN.as_secs()));
                }
            };
            tokio::fs::write(&path, archive).await.map_err(|e| format!("`{}`: {e}", path.display()))
        };
        tokio::select! {
            () = stops.now.cancelled() => reason,
            kept = kept => match kept {
                Ok(()) => reason,
                Err(why) => EndReason::CellFailed { why },
            },
        }
    }

    /// Runs a step of the cell, unless a stop, the wall clock or the cell's own end comes first.
    async fn in_cell<T>(
        &mut self,
        work: impl Future<Output = T>,
        cell: &mut dyn LiveCell,
        deadline: Instant,
    ) -> Cut<T> {
        tokio::select! {
            biased;
            () = self.stops.asked.cancelled() => Err(EndReason::Stopped),
            () = tokio::time::sleep_until(deadline) => Err(self.late()),
            why = cell.ended() => Err(EndReason::CellFailed { why }),
            done = work => Ok(done),
        }
    }

    /// Runs a step before there is a cell, and tells its progress.
    async fn with_progress<T>(
        &mut self,
        work: impl Future<Output = T>,
        mut told: mpsc::Receiver<String>,
        deadline: Option<Instant>,
    ) -> Cut<T> {
        let stops = self.stops.clone();
        let far = Instant::now() + Duration::from_secs(86_400);
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                () = stops.asked.cancelled() => return Err(EndReason::Stopped),
                () = tokio::time::sleep_until(deadline.unwrap_or(far)) => return Err(self.late()),
                Some(message) = told.recv() => self.progress(message).await,
                done = &mut work => return Ok(done),
            }
        }
    }

    fn late(&self) -> EndReason {
        EndReason::Limit { what: format!("wall clock of {}", self.agent.limits.wall_clock) }
    }

    async fn progress(&mut self, message: String) {
        self.tell(Event::Progress { message }).await;
    }

    /// Records an event. A journal that can't be written stops the session: nothing happens unseen.
    async fn tell(&mut self, event: Event) {
        if let Err(error) = self.journal.push(event).await {
            tracing::error!(%error, "a session's events can't be recorded: it is stopped");
            self.stops.asked.cancel();
        }
    }

    fn advance(&mut self, event: SessionEvent, also: impl FnOnce(&mut SessionView)) {
        self.view.send_modify(|view| {
            match view.state.on(event) {
                Ok(state) => view.state = state,
                Err(error) => tracing::error!(%error, "a session's life went astray"),
            }
            also(view);
        });
        let view = self.view.borrow().clone();
        if let Err(error) = self.sessions.shelf.write(&view) {
            tracing::error!(%error, "a session's record can't be written");
        }
    }
}

async fn or_stopped<T>(stops: &Stops, work: impl Future<Output = T>) -> Cut<T> {
    tokio::select! {
        biased;
        () = stops.asked.cancelled() => Err(EndReason::Stopped),
        done = work => Ok(done),
    }
}

/// A teller that never waits: progress that nobody has read yet is replaced by silence.
fn teller() -> (Tell, mpsc::Receiver<String>) {
    let (sender, told) = mpsc::channel(16);
    let tell: Tell = Arc::new(move |message| {
        // Full: the person sees the next one.
        drop(sender.try_send(message));
    });
    (tell, told)
}

/// A container within these limits, without a way out.
pub(crate) fn container_spec(limits: &Limits, allow_guest_root: bool) -> ContainerSpec {
    ContainerSpec {
        memory: container_memory(limits.memory.as_u64()),
        cpu_millis: u32::from(limits.cpus).saturating_mul(1000),
        pids: limits.pids,
        model_port: MODEL_PORT,
        tools_port: TOOLS_PORT,
        egress: None,
        allow_guest_root,
    }
}

/// What a machine's kernel leaves of its memory to the container. Too much, and the machine runs short before the
/// container meets its limit: then nothing is killed, and everything crawls.
fn container_memory(machine: u64) -> u64 {
    const KERNEL: u64 = 112 << 20;
    machine.saturating_sub(KERNEL).saturating_sub(machine / 16).max(machine / 2)
}

/// What is watched while a harness runs: why it is being ended, and how much it has printed.
struct Watch {
    cause: Option<EndReason>,
    grace: Option<Instant>,
    /// Bytes that it may still print, and that these may still take in the journal.
    room: u64,
    journal: u64,
    memory_hit: bool,
    disk_told: bool,
}

impl Watch {
    fn new(room: u64) -> Self {
        let journal = journal::room(room);
        Self { cause: None, grace: None, room, journal, memory_hit: false, disk_told: false }
    }

    /// Asks the harness to end, for this reason.
    fn end(&mut self, cause: EndReason, process: &Process) {
        self.cause = Some(cause);
        self.grace = Some(Instant::now() + HARNESS_GRACE);
        process.signal(SIGTERM);
    }

    async fn grace_over(&self) {
        match self.grace {
            Some(grace) => tokio::time::sleep_until(grace).await,
            None => std::future::pending().await,
        }
    }

    /// As much of the output as the limit still allows, and how there was more, if there was.
    fn within(&mut self, mut bytes: Vec<u8>) -> (Vec<u8>, Option<&'static str>) {
        let room = usize::try_from(self.room).unwrap_or(usize::MAX);
        let over = (bytes.len() > room).then_some("");
        bytes.truncate(room);
        self.room = self.room.saturating_sub(bytes.len() as u64);
        let Some(left) = self.journal.checked_sub(journal::taken(&bytes)) else {
            self.room = 0;
            return (
                Vec::new(),
                Some(": in pieces so small, or of such characters, that they take twice that"),
            );
        };
        self.journal = left;
        (bytes, over)
    }

    fn reason(&mut self, exit: Exit) -> EndReason {
        match (self.cause.take(), exit) {
            (Some(cause), _) => cause,
            (None, Exit::Signal(signal)) => EndReason::Signalled { signal },
            (None, Exit::Code(code)) => EndReason::Finished { code },
        }
    }
}
