//! One live cell: its machine and its door, each in a jail, and the one task that owns both.
//!
//! Start-up is a staircase: [`Ready`] (files opened) → [`Doored`] (the door runs) → [`Launched`] (the machine runs) →
//! [`Cell`]. Each step owns all of the steps before; dropping one at any height ends and removes everything.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use domain::{CellEvent, CellId, CellState, Isolation};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

use crate::disk;
use crate::host::{CellSpec, StartError};
use crate::jail::cgroup::Budget;
use crate::jail::files::ProgramFiles;
use crate::jail::guarded::{Guarded, Inmate, Jails, log_pipe};
use crate::jail::spec::{Filter, JailEnd, ProcessLimits};
use crate::template::{Template, TemplateError, socket_pair, wake};
use crate::vmm::qemu::RESIDENT_OVERHEAD;
use crate::vmm::{BootFiles, Disks, Machine, MonitorProgram, Origin, Vmm};

/// Why a cell is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CellEnd {
    /// It was asked to stop and did so in order.
    Stopped,
    /// It was asked to stop and was ended at the end of its grace period.
    Killed,
    /// Its machine ended: the guest powered off, or the monitor failed.
    MachineEnded {
        /// How, with the monitor's last words, for people.
        how: String,
        /// Whether the monitor ended as after an orderly power-off.
        in_order: bool,
    },
    /// Its door process ended; without a door the machine was ended too.
    DoorEnded {
        /// How, with its last words, for people.
        how: String,
    },
}

impl fmt::Display for CellEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Killed => f.write_str("ended at once"),
            Self::MachineEnded { how, .. } | Self::DoorEnded { how } => f.write_str(how),
        }
    }
}

/// A cell that runs. Dropping it ends it at once.
#[derive(Debug)]
pub struct Cell {
    id: CellId,
    isolation: Isolation,
    missing: Vec<String>,
    link: Option<UnixStream>,
    inbox: mpsc::Sender<Request>,
    life: watch::Receiver<Life>,
}

/// What can be asked of the task that owns a cell.
#[derive(Debug)]
enum Request {
    /// The guest was born.
    Born,
    /// The guest is shutting down; end it when the grace period is over.
    Stop { grace: Duration, done: oneshot::Sender<()> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Life {
    state: CellState,
    end: Option<CellEnd>,
}

impl Cell {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> CellId {
        self.id
    }

    /// What stands between it and the host, as started.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Walls that this host could not give, for people.
    #[must_use]
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// The daemon's end of the door's socket pair. `Some` once.
    pub fn take_link(&mut self) -> Option<UnixStream> {
        self.link.take()
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> CellState {
        self.life.borrow().state
    }

    /// Tells the cell that its door has reported the guest's birth.
    pub async fn born(&self) {
        if self.inbox.send(Request::Born).await.is_err() {
            tracing::debug!("cell {} ended at its birth", self.id);
        }
    }

    /// Waits until nothing of the cell is left but its disk; why it ended.
    pub async fn ended(&self) -> CellEnd {
        let mut life = self.life.clone();
        match life.wait_for(|life| life.end.is_some()).await {
            Ok(life) => life.end.clone().unwrap_or(CellEnd::Killed),
            Err(_) => CellEnd::Killed,
        }
    }

    /// Gives the guest, which has been asked to shut down over the door, so long to power off; then ends the machine.
    /// Returns when nothing is left.
    pub async fn stop(&self, grace: Duration) -> CellEnd {
        let (done, told) = oneshot::channel();
        // A cell that is gone already answers neither; its end is known.
        if self.inbox.send(Request::Stop { grace, done }).await.is_ok() && told.await.is_err() {
            tracing::debug!("cell {} ended before it was told to", self.id);
        }
        self.ended().await
    }
}

/// The program of a cell's door, with the files it needs.
#[derive(Debug, Clone)]
pub(crate) struct DoorProgram {
    pub(crate) files: ProgramFiles,
    pub(crate) args: Vec<String>,
}

/// First step: the files are open, the disk is locked.
pub(crate) struct Ready {
    id: CellId,
    disks: Disks,
    disk_bytes: u64,
}

/// Second step: the door waits for its machine.
pub(crate) struct Doored {
    ready: Ready,
    door: Guarded,
    channel: OwnedFd,
    link: UnixStream,
}

/// Third step: the machine runs.
pub(crate) struct Launched {
    id: CellId,
    door: Guarded,
    machine: Guarded,
    link: UnixStream,
    isolation: Isolation,
}

impl Ready {
    pub(crate) fn open(spec: &CellSpec) -> Result<Self, StartError> {
        disk::make_if_missing(&spec.disk, spec.limits.disk)?;
        let disks = Disks { image: disk::open_image(&spec.image)?, disk: disk::open_disk(&spec.disk)? };
        Ok(Self { id: spec.id, disks, disk_bytes: spec.limits.disk.as_u64() })
    }

    pub(crate) async fn door(self, jails: &Jails, program: &DoorProgram) -> Result<Doored, StartError> {
        let (channel, door_channel) = std::os::unix::net::UnixStream::pair()?;
        let (link, door_link) = socket_pair()?;
        let (log, log_end) = log_pipe()?;
        let inmate = Inmate {
            name: format!("{}-door", self.id),
            program: program.files.program.clone(),
            args: program.args.clone(),
            env: vec![("LD_LIBRARY_PATH".into(), program.files.library_path.clone())],
            files: program.files.files.clone(),
            descriptors: vec![(log_end, 2), (door_channel.into(), 3), (door_link, 4)],
            own_descriptors: false,
            filter: Filter::Door,
            limits: ProcessLimits {
                address_space: DOOR_ADDRESS_SPACE,
                data: DOOR_MEMORY,
                file_size: 0,
                descriptors: 512,
            },
            budget: Budget { memory: DOOR_MEMORY, pids: 32, cpu_millis: 1_000 },
        };
        let door = jails.start(inmate, log).await?;
        Ok(Doored { ready: self, door, channel: channel.into(), link })
    }
}

/// Where a cell's machine comes from.
pub(crate) enum StartFrom {
    /// A boot of its own.
    Boot(BootFiles),
    /// A copy of this.
    Template(Arc<Template>),
}

/// The door's memory: what it may use, and its address space (which counts stacks and unused reserves).
const DOOR_MEMORY: u64 = 256 << 20;
const DOOR_ADDRESS_SPACE: u64 = 2 << 30;

impl Doored {
    pub(crate) async fn machine(
        self,
        jails: &Jails,
        vmm: &dyn Vmm,
        origin: StartFrom,
        spec: &CellSpec,
    ) -> Result<Launched, StartError> {
        let (log, log_end) = log_pipe()?;
        let memory_mib = spec.limits.memory.as_mib();
        let (origin, control) = match origin {
            StartFrom::Boot(files) => (Origin::Boot(files), None),
            StartFrom::Template(template) => {
                let (ours, control) = socket_pair()?;
                let origin = Origin::Clone { memory: template.memory()?, state: template.state()?, control };
                (origin, Some(ours))
            }
        };
        let machine = Machine {
            memory_mib,
            cpus: spec.limits.cpus,
            origin,
            channel: self.channel,
            disks: Some(self.ready.disks),
            log: log_end,
        };
        let name = format!("{}-vmm", self.ready.id);
        let program = vmm.program(machine)?;
        let inmate = inmate(name, program, memory_mib, spec.limits.cpus, self.ready.disk_bytes);
        let mut machine = jails.start(inmate, log).await?;
        if let Some(control) = control
            && let Err(error) = wake(control).await
        {
            let (end, log) = match tokio::time::timeout(DOOR_GRACE, machine.ended()).await {
                Ok(end) => (end?, machine.cleaned().await?),
                Err(_) => machine.kill().await?,
            };
            let end = end_text("the machine's monitor", &end);
            return Err(TemplateError::Boot(format!("{error}; {end} {log}")).into());
        }
        let isolation = vmm.isolation();
        Ok(Launched { id: self.ready.id, door: self.door, machine, link: self.link, isolation })
    }
}

/// A monitor as an inmate: what it may use beyond its machine is little.
pub(crate) fn inmate(name: String, program: MonitorProgram, memory_mib: u64, cpus: u8, disk: u64) -> Inmate {
    Inmate {
        name,
        program: program.program,
        args: program.args,
        env: program.env,
        files: program.files,
        descriptors: program.descriptors,
        own_descriptors: true,
        filter: program.filter,
        limits: ProcessLimits {
            address_space: program.address_space,
            data: program.address_space,
            file_size: disk.max(SMALLEST_FILE_LIMIT).max(memory_mib << 20),
            descriptors: 256,
        },
        budget: Budget {
            memory: (memory_mib << 20).saturating_add(RESIDENT_OVERHEAD),
            pids: 64 + u32::from(cpus),
            cpu_millis: (u32::from(cpus) + 1) * 1_000,
        },
    }
}

const SMALLEST_FILE_LIMIT: u64 = 64 << 20;

impl Launched {
    /// Hands everything to the one task that owns the cell from here on.
    /// `missing` is what was known to be missing before; what the jails said is added.
    pub(crate) fn own(self, mut missing: Vec<String>) -> Cell {
        missing.extend(self.machine.missing().iter().chain(self.door.missing()).cloned());
        missing.sort();
        missing.dedup();
        let (inbox, requests) = mpsc::channel(4);
        let (life, seen) = watch::channel(Life { state: CellState::Booting, end: None });
        let driver = Driver { id: self.id, door: self.door, machine: self.machine, requests, life };
        tokio::spawn(driver.run());
        Cell { id: self.id, isolation: self.isolation, missing, link: Some(self.link), inbox, life: seen }
    }
}

/// The task that owns a cell.
struct Driver {
    id: CellId,
    door: Guarded,
    machine: Guarded,
    requests: mpsc::Receiver<Request>,
    life: watch::Sender<Life>,
}

/// What the driver saw first.
enum Seen {
    Machine(std::io::Result<JailEnd>),
    Door(std::io::Result<JailEnd>),
    Request(Option<Request>),
    GraceOver,
}

/// How long the door may take to tell the daemon what it saw after its machine is gone.
const DOOR_GRACE: Duration = Duration::from_secs(2);

impl Driver {
    async fn run(mut self) {
        let mut deadline: Option<tokio::time::Instant> = None;
        let seen = loop {
            let grace = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let seen = tokio::select! {
                end = self.machine.ended() => Seen::Machine(end),
                end = self.door.ended() => Seen::Door(end),
                request = self.requests.recv() => Seen::Request(request),
                () = grace => Seen::GraceOver,
            };
            match seen {
                Seen::Request(Some(Request::Born)) => self.event(CellEvent::Born),
                Seen::Request(Some(Request::Stop { grace, done })) => {
                    self.event(CellEvent::Stop);
                    // A second, shorter grace period counts.
                    let asked = tokio::time::Instant::now() + grace;
                    deadline = Some(deadline.map_or(asked, |at| at.min(asked)));
                    if done.send(()).is_err() {
                        tracing::debug!("cell {}: whoever asked it to stop has gone", self.id);
                    }
                }
                seen @ (Seen::Machine(_) | Seen::Door(_) | Seen::Request(None) | Seen::GraceOver) => {
                    break seen;
                }
            }
        };
        self.finish(seen, deadline.is_some()).await;
    }

    async fn finish(self, seen: Seen, stopping: bool) {
        let id = self.id;
        let end = match seen {
            Seen::Machine(end) => {
                let how = end_text("the machine's monitor", &logged(id, end));
                let words = cleaned(id, self.machine).await;
                close_door(id, self.door).await;
                let in_order = words.is_empty() && how.ends_with("in order");
                if stopping && in_order {
                    CellEnd::Stopped
                } else {
                    CellEnd::MachineEnded { how: format!("{how} {words}").trim().to_owned(), in_order }
                }
            }
            Seen::Door(end) => {
                let how = end_text("the door process", &logged(id, end));
                killed(id, self.machine).await;
                let words = cleaned(id, self.door).await;
                CellEnd::DoorEnded { how: format!("{how} {words}").trim().to_owned() }
            }
            Seen::Request(_) | Seen::GraceOver => {
                killed(id, self.machine).await;
                close_door(id, self.door).await;
                CellEnd::Killed
            }
        };
        tracing::info!("cell {id} is gone: {end}");
        self.life.send_modify(|life| {
            life.state = life.state.on(CellEvent::Gone).unwrap_or(CellState::Gone);
            life.end = Some(end);
        });
    }

    fn event(&self, event: CellEvent) {
        self.life.send_modify(|life| match life.state.on(event) {
            Ok(next) => life.state = next,
            Err(error) => tracing::debug!("cell {}: {error}", self.id),
        });
    }
}

/// The door ends by itself when its machine is gone, after its last report to the daemon.
async fn close_door(id: CellId, mut door: Guarded) {
    if let Ok(end) = tokio::time::timeout(DOOR_GRACE, door.ended()).await {
        logged(id, end);
        cleaned(id, door).await;
    } else {
        killed(id, door).await;
    }
}

async fn killed(id: CellId, program: Guarded) {
    if let Err(error) = program.kill().await {
        tracing::warn!("cell {id}: {error}");
    }
}

async fn cleaned(id: CellId, program: Guarded) -> String {
    program.cleaned().await.unwrap_or_else(|error| {
        tracing::warn!("cell {id}: {error}");
        String::new()
    })
}

fn logged(id: CellId, end: std::io::Result<JailEnd>) -> JailEnd {
    end.unwrap_or_else(|error| {
        tracing::warn!("cell {id}: {error}");
        JailEnd::default()
    })
}

/// How a jailed program ended, for people.
pub(crate) fn end_text(who: &str, end: &JailEnd) -> String {
    match (end.code, end.signal) {
        (Some(0), _) => format!("{who} ended in order"),
        (Some(code), _) => format!("{who} ended with exit code {code}"),
        (None, Some(signal)) if signal == nix::libc::SIGSYS => {
            format!("{who} was killed for a forbidden system call")
        }
        (None, Some(signal)) => format!("{who} was ended by signal {signal}"),
        (None, None) => format!("{who} ended together with its jail"),
    }
}
