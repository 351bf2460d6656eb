//! The real host: images from the store, cells from the crate `cell`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use api::{
    Check, CheckStatus, DoctorReport, Folders, ImageRequest, ImageView, PackageView, Problem, ProblemKind,
};
use cell::image::{ImageError, ImageStore, Progress};
use cell::{
    BootVerdict, Cell, CellHost, CellSpec, EmulationRule, HostConfig, HostDirs, HostReport, KvmVerdict, Rule,
    StartError, StartMode,
};
use dial::Dialer;
use domain::ImageName;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::config::Config;
use crate::error::DaemonError;
use crate::folders::{emptied, private};
use crate::session::{DiskOf, Host, Image, LiveCell, StartFailure, Started, Tell, Wanted};

/// The name of the guest's program, which lies beside `lazaret`.
const GUEST: &str = "lazaret-guest";

/// Images and cells of this host.
pub(crate) struct Cells {
    host: CellHost,
    images: ImageStore,
    agents: PathBuf,
    servers: PathBuf,
    scratch: PathBuf,
    /// One build of an image at a time: whoever comes second finds it made.
    building: tokio::sync::Mutex<()>,
}

impl Cells {
    /// Opens them. Clears up what a daemon that died left behind.
    pub(crate) fn open(folders: &Folders, config: &Config, dialer: Dialer) -> Result<Self, DaemonError> {
        let failed = |e: &dyn std::error::Error| DaemonError::Cells(e.to_string());
        let launcher = std::env::current_exe().map_err(|e| failed(&e))?;
        let guest = launcher.with_file_name(GUEST);
        if !guest.is_file() {
            return Err(DaemonError::Cells(format!(
                "`{}` is missing: `./x build` makes it",
                guest.display()
            )));
        }
        let host = CellHost::open(HostConfig {
            dirs: HostDirs {
                data: folders.data.clone(),
                cache: folders.cache.clone(),
                runtime: folders.runtime.join("cells"),
            },
            guest,
            launcher,
            kernel: config.kernel.clone(),
        })
        .map_err(|e| failed(&e))?;
        let images = ImageStore::open(&folders.data, dialer).map_err(|e| failed(&e))?;
        let agents = folders.data.join("agents");
        private(&agents)?;
        let servers = folders.data.join("servers");
        private(&servers)?;
        let scratch = folders.data.join("scratch");
        emptied(&scratch)?;
        Ok(Self { host, images, agents, servers, scratch, building: tokio::sync::Mutex::new(()) })
    }

    /// The image of this name; one of Lazaret's own is built when it is missing.
    async fn find(&self, name: ImageName, tell: Tell) -> Result<cell::image::Image, ImageError> {
        let _building = self.building.lock().await;
        match self.images.resolve(&name) {
            Err(ImageError::Missing { .. }) if name.is_reserved() => {
                tell(format!("the image `{name}` is missing: building it, once"));
                self.images.build(&name, &progress(tell)).await
            }
            found => found,
        }
    }

    async fn begin(&self, wanted: Wanted, tell: Tell) -> Result<Started, StartFailure> {
        let disk = self.disk(&wanted)?;
        self.host.prepare(&|text: &str| tell(text.to_owned())).await.map_err(start_failure)?;
        let spec = CellSpec {
            id: wanted.id,
            image: wanted.image.path,
            disk: disk.path().to_owned(),
            limits: wanted.limits,
            start: if wanted.cold { StartMode::Cold } else { StartMode::Clone },
            emulation: if wanted.allow_emulation { EmulationRule::Allow } else { EmulationRule::Refuse },
        };
        let mut cell = self.host.start(spec).await.map_err(start_failure)?;
        for missing in cell.missing() {
            tell(format!("without {missing}"));
        }
        let link = cell.take_link().ok_or_else(|| StartFailure::Failed("the cell has no link".to_owned()))?;
        Ok(Started { isolation: cell.isolation(), link, cell: Box::new(Running { cell, _disk: disk }) })
    }

    fn disk(&self, wanted: &Wanted) -> Result<Disk, StartFailure> {
        let folder = match &wanted.disk {
            DiskOf::Nobody => return Ok(Disk::Scratch(self.scratch.join(format!("{}.ext4", wanted.id)))),
            DiskOf::Agent(agent) => self.agents.join(agent.as_str()),
            DiskOf::Server(team, server) => self.servers.join(team.as_str()).join(server.as_str()),
        };
        private(&folder).map_err(|e| StartFailure::Failed(e.to_string()))?;
        Ok(Disk::Lasting(folder.join("disk.ext4")))
    }
}

/// A cell's disk.
enum Disk {
    Lasting(PathBuf),
    /// Goes away with its cell.
    Scratch(PathBuf),
}

impl Disk {
    fn path(&self) -> &Path {
        match self {
            Self::Lasting(path) | Self::Scratch(path) => path,
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Self::Scratch(path) = self
            && let Err(error) = std::fs::remove_file(&*path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a cell's disk was not removed; the next start does");
        }
    }
}

struct Running {
    cell: Cell,
    _disk: Disk,
}

impl LiveCell for Running {
    fn born(&self) -> BoxFuture<'_, ()> {
        self.cell.born().boxed()
    }

    fn ended(&mut self) -> BoxFuture<'_, String> {
        async { self.cell.ended().await.to_string() }.boxed()
    }

    fn stop(self: Box<Self>, grace: Duration) -> BoxFuture<'static, ()> {
        async move {
            let end = self.cell.stop(grace).await;
            tracing::info!(cell = %self.cell.id(), %end, "cell gone");
        }
        .boxed()
    }
}

impl Host for Cells {
    fn image(&self, name: ImageName, tell: Tell) -> BoxFuture<'_, Result<Image, Problem>> {
        async move {
            let image = self.find(name, tell).await.map_err(problem)?;
            Ok(Image { path: image.path, env: image.config.env.into() })
        }
        .boxed()
    }

    fn start(&self, wanted: Wanted, tell: Tell) -> BoxFuture<'_, Result<Started, StartFailure>> {
        self.begin(wanted, tell).boxed()
    }

    fn examine(&self, tell: Tell) -> BoxFuture<'_, Result<DoctorReport, Problem>> {
        async move { Ok(report(self.host.examine(&|text: &str| tell(text.to_owned())).await)) }.boxed()
    }

    fn images(&self) -> BoxFuture<'_, Result<Vec<ImageView>, Problem>> {
        async { Ok(self.images.list().map_err(problem)?.into_iter().map(view).collect()) }.boxed()
    }

    fn add_image(&self, request: ImageRequest, tell: Tell) -> BoxFuture<'_, Result<ImageView, Problem>> {
        async move {
            let _building = self.building.lock().await;
            let progress = progress(tell);
            let image = match request {
                ImageRequest::Pull { reference } => self.images.pull(&reference, &progress).await,
                ImageRequest::Import { path, name } => {
                    self.images.import(Path::new(&path), name.as_ref(), &progress).await
                }
                ImageRequest::Build { name } => self.images.build(&name, &progress).await,
            };
            Ok(view(image.map_err(problem)?))
        }
        .boxed()
    }

    fn remove_image(&self, name: ImageName) -> BoxFuture<'_, Result<(), Problem>> {
        async move {
            let _building = self.building.lock().await;
            self.images.remove(&name).map(|_| ()).map_err(problem)
        }
        .boxed()
    }
}

fn progress(tell: Tell) -> Progress {
    Progress::new(move |step| tell(step.to_string()))
}

fn view(image: cell::image::Image) -> ImageView {
    let package = |package: cell::image::ImagePackage| PackageView {
        place: package.place,
        name: package.name,
        version: package.version,
        integrity: package.integrity,
    };
    ImageView {
        name: image.name,
        digest: image.digest.to_string(),
        size: image.size,
        packages: image.packages.into_iter().map(package).collect(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function from error to error")]
fn problem(error: ImageError) -> Problem {
    if let ImageError::Missing { hint, .. } = &error {
        return Problem::new(ProblemKind::NotFound, error.to_string()).hint(format!("`{hint}` gets it"));
    }
    Problem::new(ProblemKind::Internal, error.to_string())
}

fn start_failure(error: StartError) -> StartFailure {
    let StartError::EmulationRefused { why } = error else {
        return StartFailure::Failed(error.to_string());
    };
    StartFailure::Refused {
        why: format!("this host has no working KVM ({why}), and emulation is no security boundary"),
        hint: "`lazaret doctor` says what to do about KVM; `--allow-emulation` runs it all the same"
            .to_owned(),
    }
}

fn report(report: HostReport) -> DoctorReport {
    let good = |good: bool| if good { CheckStatus::Good } else { CheckStatus::Bad };
    let mut checks = vec![
        found("qemu", report.qemu, "install it: `./x setup`"),
        found("kernel", report.kernel, "it is fetched from the distribution: see what is wrong below"),
        Check {
            name: "kvm".to_owned(),
            status: if matches!(report.kvm, KvmVerdict::Works { .. }) {
                CheckStatus::Good
            } else {
                CheckStatus::Degraded
            },
            seen: report.kvm.to_string(),
            advice: advice(&report.kvm.advice()),
        },
        match report.emulation {
            BootVerdict::Works { boot_ms } => Check {
                name: "emulation".to_owned(),
                status: CheckStatus::Good,
                seen: format!("a stock kernel booted in {boot_ms} ms; no security boundary"),
                advice: None,
            },
            BootVerdict::Fails { why } => {
                Check { name: "emulation".to_owned(), status: CheckStatus::Bad, seen: why, advice: None }
            }
        },
    ];
    for wall in report.walls {
        let status = match (&wall.seen, wall.rule) {
            (Ok(_), _) => CheckStatus::Good,
            (Err(_), Rule::Degrade) => CheckStatus::Degraded,
            (Err(_), Rule::Refuse) => good(false),
        };
        let (Ok(seen) | Err(seen)) = wall.seen;
        checks.push(Check { name: wall.wall.name().to_owned(), status, seen, advice: advice(&wall.advice) });
    }
    if let Some(trouble) = report.trouble {
        checks.push(Check { name: "trouble".to_owned(), status: good(false), seen: trouble, advice: None });
    }
    DoctorReport { isolation: report.isolation, checks }
}

fn found(name: &str, what: Option<String>, missing: &str) -> Check {
    let status = if what.is_some() { CheckStatus::Good } else { CheckStatus::Bad };
    let advice = what.is_none().then(|| missing.to_owned());
    Check { name: name.to_owned(), status, seen: what.unwrap_or_else(|| "missing".to_owned()), advice }
}

fn advice(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
