//! A host of cells: opens its folders, removes what a crash left, and starts cells.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use domain::{CellId, Isolation, Limits};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use tokio::sync::OnceCell;

use crate::cell::{Cell, DoorProgram, Ready, StartFrom};
use crate::disk::DiskError;
use crate::jail::cgroup::CgroupHost;
use crate::jail::files::of_program;
use crate::jail::guarded::Jails;
use crate::jail::launch::JailError;
use crate::kernel::{Kernel, KernelError, Kernels, initramfs};
use crate::report::KvmVerdict;
use crate::store::{self, HostDirs};
use crate::template::{self, Template, TemplateError, TemplateSpec};
use crate::vmm::qemu::{Qemu, QemuVmm};
use crate::vmm::{BootFiles, Vmm};
use crate::wall::Wall;

/// Where a host's things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// Its folders.
    pub dirs: HostDirs,
    /// The static `lazaret-guest`.
    pub guest: PathBuf,
    /// The executable that has the hidden commands `jail` and `door`.
    pub launcher: PathBuf,
    /// Another kernel than the distribution's: a file with everything built in, or a folder with `boot/vmlinuz-*` and
    /// `lib/modules/*`.
    pub kernel: Option<PathBuf>,
}

/// A cell to be started.
#[derive(Debug, Clone)]
pub struct CellSpec {
    /// Its id, never used before.
    pub id: CellId,
    /// The image: a squashfs file.
    pub image: PathBuf,
    /// The agent's disk; made when it is missing.
    pub disk: PathBuf,
    /// What it may use up.
    pub limits: Limits,
    /// How it starts.
    pub start: StartMode,
    /// Whether it may be emulated.
    pub emulation: EmulationRule,
}

/// How a cell starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StartMode {
    /// As a copy of a template, which is made when it is missing: fast. Clones share the kernel's layout.
    Clone,
    /// By booting: shares nothing with other cells.
    Cold,
}

/// Whether a cell may be emulated where the host has no working KVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EmulationRule {
    /// It may not.
    Refuse,
    /// A person said that it may.
    Allow,
}

/// Why a host can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Another daemon uses the same runtime folder.
    #[error("another daemon uses `{0}`: end it first, or set another `XDG_RUNTIME_DIR`")]
    InUse(PathBuf),
    /// What a crash left is still running.
    #[error("`{0}` is still in use by a process of an earlier daemon, which does not end")]
    Stale(PathBuf),
    /// A folder can't be used.
    #[error("the cells' folders can't be used: {0}")]
    Io(#[from] io::Error),
}

/// Why a cell could not start. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Only emulation is to be had, and it was not allowed.
    #[error(
        "this host has no working KVM ({why}), and emulation is not a security boundary; \
         run `lazaret doctor` for what to do, or say `--allow-emulation`"
    )]
    EmulationRefused {
        /// What is wrong with KVM, for people.
        why: String,
    },
    /// No monitor.
    #[error("no machine can be made: {0}")]
    Vmm(String),
    /// No kernel or boot image.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// No jail.
    #[error(transparent)]
    Jail(#[from] JailError),
    /// No template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A limit that no machine can have.
    #[error("a cell can't have {0}")]
    Limits(String),
    /// Something else of the system failed.
    #[error("the cell could not be started: {0}")]
    Io(#[from] io::Error),
}

/// A host of cells. One per daemon.
#[derive(Debug)]
pub struct CellHost {
    pub(crate) config: HostConfig,
    pub(crate) jails: Jails,
    pub(crate) kernels: Kernels,
    /// Held as long as this lives: no other daemon takes this one's cells for leftovers.
    _lock: OwnedFd,
    ground: OnceCell<Ground>,
    templates: Mutex<HashMap<String, Arc<OnceCell<Arc<Template>>>>>,
    pub(crate) kvm: OnceCell<KvmVerdict>,
}

/// What all cells of a host stand on; found out once.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) qemu: Qemu,
    pub(crate) kernel: Kernel,
    pub(crate) files: BootFiles,
    pub(crate) door: DoorProgram,
    pub(crate) tsc_khz: Option<u64>,
}

/// How long processes of a dead daemon may take to end.
const STALE_WITHIN: Duration = Duration::from_secs(20);
/// A measurement of this length is good to about 0.01 %.
const TSC_SPAN: Duration = Duration::from_millis(50);

impl CellHost {
    /// Opens the folders, and removes what an earlier daemon left: processes, mount points, cgroups, unfinished files.
    /// Disks are kept. Blocks for as long as stale processes take to end.
    ///
    /// # Errors
    /// When another daemon uses the runtime folder, or the folders can't be used.
    pub fn open(config: HostConfig) -> Result<Self, HostError> {
        for folder in [&config.dirs.data, &config.dirs.cache, &config.dirs.runtime] {
            store::private_folder(folder)?;
        }
        let host_lock = lock_host(&config.dirs.runtime)?;
        let folder = config.dirs.runtime.join("jails");
        store::private_folder(&folder)?;
        let prefix =
            store::digest([folder.as_os_str().as_encoded_bytes()]).chars().take(12).collect::<String>();
        let cgroups = CgroupHost::detect();
        let mut removed = remove_stale_jails(&folder)?;
        removed += cgroups.remove_stale(&prefix)?;
        removed += store::remove_unfinished(&template::templates(&config.dirs.cache))?;
        let kernels = Kernels::open(&config.dirs.data)?;
        if removed > 0 {
            tracing::info!("removed {removed} leftovers of an earlier daemon");
        }
        let jails = Jails { launcher: config.launcher.clone(), folder, prefix, cgroups };
        Ok(Self {
            config,
            jails,
            kernels,
            _lock: host_lock,
            ground: OnceCell::new(),
            templates: Mutex::default(),
            kvm: OnceCell::new(),
        })
    }

    /// Starts a cell: its door and its machine run when this returns; the guest is born when the door says so.
    ///
    /// # Errors
    /// As [`StartError`] says; nothing is left then but the disk.
    pub async fn start(&self, spec: CellSpec) -> Result<Cell, StartError> {
        check_limits(&spec.limits)?;
        let ground = self.ground(&|_| {}).await?;
        let vmm = self.vmm(ground, spec.emulation).await?;
        let template_spec = self.template_spec(ground, &spec.limits);
        let origin = match spec.start {
            StartMode::Cold => StartFrom::Boot(ground.files.clone()),
            StartMode::Clone => StartFrom::Template(self.template(&vmm, &template_spec).await?),
        };
        let opening = spec.clone();
        let ready = blocking(move || Ready::open(&opening)).await??;
        let doored = ready.door(&self.jails, &ground.door).await?;
        let launched = doored.machine(&self.jails, &vmm, origin, &spec).await?;
        let gaps = [(Wall::OwnUid, self.own_uid()), (Wall::Cgroup, self.cgroup())]
            .into_iter()
            .filter_map(|(wall, seen)| Some(format!("{}: {}", wall.name(), seen.err()?)))
            .collect();
        Ok(launched.own(gaps))
    }

    /// Makes ready what the first cell needs: fetches the kernel, builds the boot image, finds QEMU. Idempotent.
    ///
    /// # Errors
    /// When there is no kernel, boot image or QEMU.
    pub async fn prepare(&self, progress: &(dyn Fn(&str) + Sync)) -> Result<(), StartError> {
        self.ground(progress).await.map(|_| ())
    }

    pub(crate) async fn ground(&self, progress: &(dyn Fn(&str) + Sync)) -> Result<&Ground, StartError> {
        self.ground.get_or_try_init(|| async { self.find_ground(progress).await }).await
    }

    async fn find_ground(&self, progress: &(dyn Fn(&str) + Sync)) -> Result<Ground, StartError> {
        let (kernels, config) = (self.kernels.clone(), self.config.clone());
        let (say, mut said) = tokio::sync::mpsc::unbounded_channel::<String>();
        let work = blocking(move || {
            // When nobody listens any more, the work goes on all the same.
            let progress = move |text: &str| drop(say.send(text.to_owned()));
            let kernel = match &config.kernel {
                Some(path) => kernels.import(path)?,
                None => match kernels.current()? {
                    Some(kernel) => kernel,
                    None => kernels.fetch(&progress)?,
                },
            };
            let initramfs = initramfs::build(&config.dirs.data, &kernel, &config.guest)?;
            let files = BootFiles { kernel: kernel.image(), initramfs };
            let qemu = Qemu::find().map_err(|e| StartError::Vmm(e.to_string()))?;
            let door = DoorProgram { files: of_program(&config.launcher, &[])?, args: vec!["door".into()] };
            let tsc_khz = sys::tsc::measure_khz(TSC_SPAN);
            Ok::<_, StartError>(Ground { qemu, kernel, files, door, tsc_khz })
        });
        let listen = async {
            while let Some(text) = said.recv().await {
                progress(&text);
            }
        };
        let (ground, ()) = tokio::join!(work, listen);
        ground?
    }

    /// The monitor of this host: on KVM where it works, else emulated if that is allowed.
    async fn vmm(&self, ground: &Ground, emulation: EmulationRule) -> Result<QemuVmm, StartError> {
        let verdict = self.kvm(ground).await;
        let isolation = match (verdict, emulation) {
            (KvmVerdict::Works { .. }, _) => Isolation::Hardware,
            (_, EmulationRule::Allow) => Isolation::Emulated,
            (verdict, EmulationRule::Refuse) => {
                return Err(StartError::EmulationRefused { why: verdict.to_string() });
            }
        };
        Ok(ground.vmm(isolation))
    }

    pub(crate) fn template_spec(&self, ground: &Ground, limits: &Limits) -> TemplateSpec {
        TemplateSpec {
            files: ground.files.clone(),
            memory_mib: limits.memory.as_mib(),
            cpus: limits.cpus,
            tsc_khz: ground.tsc_khz,
        }
    }

    /// The template of this kind: from memory, from the cache, or made now. Many who ask at once wait for one making.
    async fn template(&self, vmm: &dyn Vmm, spec: &TemplateSpec) -> Result<Arc<Template>, StartError> {
        let key = spec.key(vmm);
        let slot = {
            let mut templates = self.templates.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            Arc::clone(templates.entry(key.clone()).or_default())
        };
        let cache = self.config.dirs.cache.clone();
        let template = slot
            .get_or_try_init(|| async {
                let (load_spec, load_cache, load_key) = (spec.clone(), cache.clone(), key.clone());
                if let Some(template) =
                    blocking(move || Template::load(&load_cache, &load_key, &load_spec)).await?
                {
                    return Ok(Arc::new(template));
                }
                let name = format!("template-{}", key.chars().take(16).collect::<String>());
                let template = Template::build(&self.jails, vmm, spec, &name, &cache).await?;
                Ok::<_, StartError>(Arc::new(template))
            })
            .await?;
        Ok(Arc::clone(template))
    }
}

impl Ground {
    pub(crate) fn vmm(&self, isolation: Isolation) -> QemuVmm {
        QemuVmm { qemu: self.qemu.clone(), isolation, tsc_khz: self.tsc_khz }
    }
}

/// Least memory in which the kernel boots with room for an agent, MiB; and most of what a cell may have.
const MEMORY_MIB: std::ops::RangeInclusive<u64> = 96..=65_536;
const CPUS: std::ops::RangeInclusive<u8> = 1..=16;
const DISK_MIB: std::ops::RangeInclusive<u64> = 16..=1_048_576;

fn check_limits(limits: &Limits) -> Result<(), StartError> {
    if !MEMORY_MIB.contains(&limits.memory.as_mib()) {
        let (least, most) = (MEMORY_MIB.start(), MEMORY_MIB.end());
        return Err(StartError::Limits(format!(
            "{} of memory: {least}MiB to {most}MiB are possible",
            limits.memory
        )));
    }
    if !CPUS.contains(&limits.cpus) {
        return Err(StartError::Limits(format!(
            "{} processors: 1 to {} are possible",
            limits.cpus,
            CPUS.end()
        )));
    }
    if !DISK_MIB.contains(&limits.disk.as_mib()) {
        let (least, most) = (DISK_MIB.start(), DISK_MIB.end());
        return Err(StartError::Limits(format!(
            "a disk of {}: {least}MiB to {most}MiB are possible",
            limits.disk
        )));
    }
    Ok(())
}

/// Work that blocks, away from the tasks that must not.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

fn lock_host(runtime: &Path) -> Result<OwnedFd, HostError> {
    let path = runtime.join("cells.lock");
    let file = rustix::fs::open(
        &path,
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    )
    .map_err(io::Error::from)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(HostError::InUse(runtime.to_path_buf())),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

/// Each mount point is locked by its supervisor, which has seen that the daemon is gone, and cleans up. Waits for that;
/// removes what has no supervisor any more.
fn remove_stale_jails(folder: &Path) -> Result<usize, HostError> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let start = Instant::now();
        loop {
            let mount_point = match rustix::fs::open(
                &path,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            ) {
                Err(rustix::io::Errno::NOENT) => break,
                opened => opened.map_err(io::Error::from)?,
            };
            match flock(&mount_point, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    match fs::remove_dir(&path) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        result => result?,
                    }
                    removed += 1;
                    break;
                }
                Err(rustix::io::Errno::WOULDBLOCK) if start.elapsed() < STALE_WITHIN => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(HostError::Stale(path)),
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ByteSize;

    fn config(folder: &Path) -> HostConfig {
        let dirs =
            HostDirs { data: folder.join("data"), cache: folder.join("cache"), runtime: folder.join("run") };
        HostConfig { dirs, guest: "/none".into(), launcher: "/none".into(), kernel: None }
    }

    #[test]
    fn leftovers_are_removed_and_a_second_daemon_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let stale = folder.path().join("run/jails/01-vmm");
        let unfinished = folder.path().join("cache/templates/.new-x");
        let kept = folder.path().join("data/agents/a/disk");
        for path in [&stale, &unfinished, &kept] {
            fs::create_dir_all(path).unwrap();
        }
        let host = CellHost::open(config(folder.path())).unwrap();
        assert!(!stale.exists() && !unfinished.exists() && kept.exists());
        assert!(matches!(CellHost::open(config(folder.path())), Err(HostError::InUse(_))));
        drop(host);
        CellHost::open(config(folder.path())).unwrap();
    }

    #[test]
    fn impossible_limits_are_refused_by_name() {
        let with = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            check_limits(&limits).unwrap_err().to_string()
        };
        assert!(check_limits(&Limits::default()).is_ok());
        assert!(with(|l| l.memory = ByteSize::mib(8)).contains("memory"));
        assert!(with(|l| l.cpus = 0).contains("processors"));
        assert!(with(|l| l.cpus = 17).contains("processors"));
        assert!(with(|l| l.disk = ByteSize::mib(1)).contains("disk"));
    }
}
