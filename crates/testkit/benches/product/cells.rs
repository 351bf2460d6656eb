//! Cells as a daemon has them, for benchmarks: started, born, their containers up, spoken to over their doors.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cell::{Cell, CellHost, CellSpec, EmulationRule, HostConfig, HostDirs, StartMode};
use domain::{ByteSize, CellId, Isolation, Limits};
use wire::frame::{self, SMALL};
use wire::guest::{ContainerSpec, FromGuest};
use wire::host::{DaemonOpens, DoorReport};
use wire::mux::{Incoming, MuxLimits, Opener, Side, Stream, mux};
use wire::process::{Exit, FromProcess, Place, ProcessSpec, ToProcess};

use crate::Result;

/// Memory of a benchmark's machines, MiB: the product's and the bare ones.
pub const MEMORY_MIB: u64 = 256;

/// This program in the cells' image.
pub const CLIENT: &str = "/usr/bin/client";

/// Where a cell reaches its model endpoint.
pub const ENDPOINT: &str = "127.0.0.1:8181";

/// How long a cell may take to be ready on a busy host without KVM.
const READY_WITHIN: Duration = Duration::from_secs(240);

/// What benchmarks stand on: folders that are kept from run to run, scratch that is not, and a host of cells once one is
/// needed.
pub struct Ground {
    kept: PathBuf,
    scratch: tempfile::TempDir,
    host: Option<CellHost>,
    image: PathBuf,
    isolation: Option<Isolation>,
}

impl Ground {
    /// Makes the folders.
    pub fn open() -> Result<Self> {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cells");
        fs::create_dir_all(&kept)?;
        let scratch = tempfile::Builder::new().prefix("lazaret-bench-").tempdir()?;
        let image = scratch.path().join("image.squashfs");
        Ok(Self { kept, scratch, host: None, image, isolation: None })
    }

    /// What the cells so far ran on, for people.
    pub fn machine(&self) -> Option<String> {
        self.isolation.map(|isolation| match isolation {
            Isolation::Hardware => "on KVM, the bare ones too".to_owned(),
            Isolation::Emulated => "emulated, the bare ones too: there is no working KVM here".to_owned(),
        })
    }

    /// Folder of this run.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The folder that the cells' kernel is in, with `vmlinuz` and `base/*.ko`. Only after [`Ground::ready`].
    pub fn kernel(&self) -> Result<PathBuf> {
        let kernels = self.kept.join("data/kernels");
        Ok(kernels.join(fs::read_to_string(kernels.join("current"))?.trim()))
    }

    /// Makes ready what cells need (kernel, boot image, template, image), none of which is measured. Returns what stands
    /// between a cell and this host.
    pub async fn ready(&mut self) -> Result<Isolation> {
        if let Some(isolation) = self.isolation {
            return Ok(isolation);
        }
        eprintln!("bench: making ready what all cells share");
        let lazaret = beside("lazaret")?;
        let dirs = HostDirs {
            data: self.kept.join("data"),
            cache: self.kept.join("cache"),
            runtime: self.scratch.path().join("run"),
        };
        let config = HostConfig { dirs, guest: beside("lazaret-guest")?, launcher: lazaret, kernel: None };
        let host = CellHost::open(config)?;
        host.prepare(&|text| eprintln!("bench: {text}")).await?;
        make_image(self.scratch.path(), &self.image)?;
        self.host = Some(host);
        let first = self.cell(StartMode::Clone).await?;
        let isolation = first.cell.isolation();
        first.stop().await;
        self.isolation = Some(isolation);
        Ok(isolation)
    }

    /// Starts a cell and waits until a harness could start in its container.
    pub async fn cell(&self, start: StartMode) -> Result<ReadyCell> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let millis = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        let spec = CellSpec {
            id: CellId::from_parts(millis, u128::from(number) << 32 | u128::from(std::process::id())),
            image: self.image.clone(),
            disk: self.scratch.path().join(format!("disk-{number}.ext4")),
            limits: Limits {
                memory: ByteSize::mib(MEMORY_MIB),
                disk: ByteSize::mib(64),
                ..Limits::default()
            },
            start,
            emulation: EmulationRule::Allow,
        };
        let began = Instant::now();
        let mut cell = self.host.as_ref().ok_or("no host of cells was opened")?.start(spec).await?;
        let link = cell.take_link().ok_or("a cell without a link")?;
        let (opener, asked, driver) = mux(link, Side::Host, MuxLimits::default());
        tokio::spawn(driver.run());
        let mut control = opener.open().await?;
        let container = ContainerSpec {
            memory: 128 << 20,
            cpu_millis: 1_000,
            pids: 32,
            model_port: 8181,
            tools_port: 8182,
            egress: None,
            allow_guest_root: false,
        };
        let head = DaemonOpens::Control { host_name: format!("cell-{number}"), container };
        frame::write(&mut control, &head, SMALL).await?;
        let started = began.elapsed();
        let born = tokio::time::timeout(READY_WITHIN, stands(&mut control)).await??;
        let took = began.elapsed();
        eprintln!("bench: {start:?}: started {started:.2?}, born {:.2?}, ready {took:.2?}", born - began);
        cell.born().await;
        Ok(ReadyCell { cell, took, opener, asked: Some(asked), _control: control })
    }
}

/// Waits until the container stands.
async fn stands(control: &mut Stream) -> Result<Instant> {
    let mut born = Instant::now();
    loop {
        match frame::read::<DoorReport, _>(control, SMALL).await? {
            Some(DoorReport::Guest(FromGuest::Configured(_))) => return Ok(born),
            Some(DoorReport::Born { .. }) => born = Instant::now(),
            other => return Err(format!("a cell did not get ready: {other:?}").into()),
        }
    }
}

/// A cell whose container stands.
pub struct ReadyCell {
    cell: Cell,
    /// From the request to start it until now.
    pub took: Duration,
    opener: Opener,
    asked: Option<Incoming>,
    _control: Stream,
}

impl ReadyCell {
    /// What its door asks the daemon. Once.
    pub fn asked(&mut self) -> Result<Incoming> {
        self.asked.take().ok_or_else(|| "somebody else answers this cell's door".into())
    }

    /// Starts this program in the container.
    pub async fn client(&self, args: &[&str]) -> Result<Client> {
        let mut stream = self.opener.open().await?;
        let argv = [CLIENT, "inside"].iter().chain(args).map(|word| (*word).to_owned()).collect();
        let env = vec![("PATH".to_owned(), "/usr/bin".to_owned())];
        let spec = ProcessSpec { argv, env, cwd: "/".to_owned(), tty: None, place: Place::Container };
        frame::write(&mut stream, &DaemonOpens::Process(spec), SMALL).await?;
        frame::write(&mut stream, &ToProcess::StdinEnd, SMALL).await?;
        Ok(Client(stream))
    }

    /// Ends it at once.
    pub async fn stop(self) {
        self.cell.stop(Duration::ZERO).await;
    }
}

/// This program in a container.
pub struct Client(Stream);

impl Client {
    /// What it prints next; `None` when it has ended as it should.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            match frame::read(&mut self.0, SMALL).await? {
                Some(FromProcess::Started) => {}
                Some(FromProcess::Stdout(bytes)) => return Ok(Some(bytes)),
                Some(FromProcess::Exited(Exit::Code(0))) => return Ok(None),
                Some(FromProcess::Stderr(text)) => {
                    return Err(format!("in the cell: {}", String::from_utf8_lossy(&text)).into());
                }
                other => return Err(format!("in the cell: {other:?}").into()),
            }
        }
    }

    /// All that it prints.
    pub async fn printed(mut self) -> Result<String> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            all.extend(bytes);
        }
        Ok(String::from_utf8(all)?)
    }
}

/// A program that `./x` puts into the folder above this one's.
fn beside(name: &str) -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let path = exe.parent().and_then(Path::parent).unwrap_or(Path::new("/")).join(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("`{}` is not built: use `./x bench`", path.display()).into())
    }
}

/// An image with this program, and what it needs of this host.
fn make_image(scratch: &Path, image: &Path) -> Result<()> {
    let tree = scratch.join("tree");
    for folder in ["etc", "home/agent", "workspace", "tmp", "proc", "sys", "dev", "run", "usr/bin"] {
        fs::create_dir_all(tree.join(folder))?;
    }
    let client = tree.join(CLIENT.trim_start_matches('/'));
    let exe = std::env::current_exe()?;
    fs::copy(&exe, &client)?;
    fs::set_permissions(&client, fs::Permissions::from_mode(0o755))?;
    let listed = Command::new("/lib64/ld-linux-x86-64.so.2").arg("--list").arg(&exe).output()?;
    for path in String::from_utf8(listed.stdout)?.split_whitespace().filter(|word| word.starts_with('/')) {
        let target = tree.join(path.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap_or(&tree))?;
        fs::copy(path, target)?;
    }
    let made = Command::new("mksquashfs").arg(&tree).arg(image).args(["-quiet", "-no-progress"]).output()?;
    if made.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&made.stderr).into()) }
}
