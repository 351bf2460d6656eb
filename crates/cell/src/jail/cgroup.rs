//! Limits per jail as cgroups: version 2 where it is delegated to us, version 1 for root on older hosts.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::wall::Wall;

/// What a jail may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Bytes of memory, page cache included.
    pub(crate) memory: u64,
    /// Processes and threads.
    pub(crate) pids: u32,
    /// Thousandths of a processor.
    pub(crate) cpu_millis: u32,
}

/// The folders of one jail in the cgroup file systems, and what is written to them. The supervisor makes and removes
/// them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CgroupPlan {
    folders: Vec<CgroupFolder>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CgroupFolder {
    path: PathBuf,
    /// File name and content, in order.
    settings: Vec<(String, String)>,
}

/// Where this host lets us make cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CgroupHost {
    /// Version 2: a folder whose children have the memory, pids and perhaps cpu controllers.
    Unified {
        /// The folder.
        base: PathBuf,
        /// Whether its children have the cpu controller.
        cpu: bool,
    },
    /// Version 1: one folder per controller found (memory, pids, cpu).
    Legacy {
        /// Controller and folder.
        bases: Vec<(&'static str, PathBuf)>,
    },
    /// None.
    Unavailable {
        /// Why, for people.
        why: String,
        /// What they can do.
        advice: &'static str,
    },
}

const MOUNT: &str = "/sys/fs/cgroup";
/// What gives an ordinary user cgroups on a host of version 1.
const SWITCH: &str =
    "boot the host with cgroup version 2 (`systemd.unified_cgroup_hierarchy=1` on its kernel's command line)";

fn undelegated(why: String) -> CgroupHost {
    CgroupHost::Unavailable { why, advice: Wall::Cgroup.advice() }
}

impl CgroupHost {
    /// Looks, and prepares the folder for ours. Moves this process to a child of its own cgroup where version 2 needs
    /// that.
    pub(crate) fn detect() -> Self {
        let own = match std::fs::read_to_string("/proc/self/cgroup") {
            Ok(own) => own,
            Err(error) => return undelegated(format!("`/proc/self/cgroup` can't be read: {error}")),
        };
        let root = rustix::process::geteuid().is_root();
        if Path::new(MOUNT).join("cgroup.controllers").exists() {
            return match unified(&own, root) {
                Ok(host) => host,
                Err(why) => undelegated(why),
            };
        }
        if !root {
            let why = "this host has cgroup version 1, which only root may use".into();
            return Self::Unavailable { why, advice: SWITCH };
        }
        let bases: Vec<_> =
            ["memory", "pids", "cpu"].into_iter().filter_map(|c| Some((c, legacy(&own, c)?))).collect();
        if bases.iter().any(|(c, _)| *c == "memory") {
            Self::Legacy { bases }
        } else {
            let why = "no memory controller is mounted under `/sys/fs/cgroup`".into();
            Self::Unavailable { why, advice: SWITCH }
        }
    }

    /// The cgroup of one jail; `None` where the host gives none.
    pub(crate) fn plan(&self, name: &str, budget: Budget) -> Option<CgroupPlan> {
        let setting = |file: &str, value: String| (file.to_owned(), value);
        let quota = u64::from(budget.cpu_millis) * 100;
        let folders = match self {
            Self::Unified { base, cpu } => {
                let mut settings = vec![
                    setting("memory.max", budget.memory.to_string()),
                    setting("memory.swap.max", "0".into()),
                    setting("memory.oom.group", "1".into()),
                    setting("pids.max", budget.pids.to_string()),
                ];
                if *cpu {
                    settings.push(setting("cpu.max", format!("{quota} 100000")));
                }
                vec![CgroupFolder { path: base.join(name), settings }]
            }
            Self::Legacy { bases } => bases
                .iter()
                .map(|(controller, base)| CgroupFolder {
                    path: base.join(name),
                    settings: match *controller {
                        "memory" => vec![setting("memory.limit_in_bytes", budget.memory.to_string())],
                        "pids" => vec![setting("pids.max", budget.pids.to_string())],
                        _cpu => vec![
                            setting("cpu.cfs_period_us", "100000".into()),
                            setting("cpu.cfs_quota_us", quota.to_string()),
                        ],
                    },
                })
                .collect(),
            Self::Unavailable { .. } => return None,
        };
        Some(CgroupPlan { folders })
    }

    /// Removes what jails of this prefix have left, where no process is in it.
    pub(crate) fn remove_stale(&self, prefix: &str) -> io::Result<usize> {
        let bases: Vec<&Path> = match self {
            Self::Unified { base, .. } => vec![base],
            Self::Legacy { bases } => bases.iter().map(|(_, base)| base.as_path()).collect(),
            Self::Unavailable { .. } => Vec::new(),
        };
        let mut removed = 0;
        for base in bases {
            for entry in std::fs::read_dir(base)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(prefix) && entry.file_type()?.is_dir() {
                    remove(&entry.path())?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

impl CgroupPlan {
    /// Makes the folders and sets the limits.
    pub(crate) fn make(&self) -> io::Result<()> {
        for folder in &self.folders {
            std::fs::create_dir(&folder.path).map_err(|e| named(&e, &folder.path))?;
            for (file, value) in &folder.settings {
                match std::fs::write(folder.path.join(file), value) {
                    // A host without swap accounting has no swap file, and none is needed.
                    Err(error)
                        if error.kind() == io::ErrorKind::NotFound
                            && (file == "memory.swap.max" || file == "memory.oom.group") => {}
                    result => result.map_err(|e| named(&e, &folder.path.join(file)))?,
                }
            }
        }
        Ok(())
    }

    /// Puts a process in.
    pub(crate) fn join(&self, pid: i32) -> io::Result<()> {
        for folder in &self.folders {
            let file = folder.path.join("cgroup.procs");
            std::fs::write(&file, pid.to_string()).map_err(|e| named(&e, &file))?;
        }
        Ok(())
    }

    /// Removes the folders, whose processes have been killed.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.folders.iter().filter(|folder| folder.path.exists()).try_for_each(|folder| remove(&folder.path))
    }
}

/// The kernel needs a moment between the end of the last process and an empty cgroup.
const EMPTY_WITHIN: Duration = Duration::from_secs(2);

fn remove(folder: &Path) -> io::Result<()> {
    let start = Instant::now();
    loop {
        match std::fs::remove_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && start.elapsed() < EMPTY_WITHIN => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result.map_err(|e| named(&e, folder)),
        }
    }
}

fn named(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
}

/// The folder of version 2: below the root as root, below our own cgroup otherwise.
fn unified(own: &str, root: bool) -> Result<CgroupHost, String> {
    let relative = own
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .ok_or_else(|| "`/proc/self/cgroup` names no version 2 cgroup".to_owned())?;
    let parent = if root { PathBuf::from(MOUNT) } else { Path::new(MOUNT).join(relative) };
    let enable = |folder: &Path| -> io::Result<bool> {
        std::fs::write(folder.join("cgroup.subtree_control"), "+memory +pids")?;
        Ok(std::fs::write(folder.join("cgroup.subtree_control"), "+cpu").is_ok())
    };
    let not = |error: io::Error| format!("the cgroup `{}` is not delegated to us: {error}", parent.display());
    match enable(&parent) {
        Ok(_) => {}
        // Processes may only be in leaves: when nobody but us is in ours, we move to one.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy && !root => {
            let leaf = parent.join("lazaret-daemon");
            let here = std::fs::read_to_string(parent.join("cgroup.procs")).map_err(not)?;
            let me = std::process::id().to_string();
            if here.lines().any(|pid| pid != me) {
                return Err(not(io::Error::other("other processes are in it, too")));
            }
            std::fs::create_dir_all(&leaf).map_err(not)?;
            std::fs::write(leaf.join("cgroup.procs"), me).map_err(not)?;
            enable(&parent).map_err(not)?;
        }
        Err(error) => return Err(not(error)),
    }
    let base = parent.join("lazaret");
    std::fs::create_dir_all(&base).map_err(not)?;
    let cpu = enable(&base).map_err(not)?;
    Ok(CgroupHost::Unified { base, cpu })
}

/// The folder of one controller of version 1.
fn legacy(own: &str, controller: &str) -> Option<PathBuf> {
    let relative = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let controllers = fields.nth(1)?;
        controllers.split(',').any(|c| c == controller).then(|| fields.next())?
    })?;
    let base = Path::new(MOUNT).join(controller).join(relative.trim_start_matches('/')).join("lazaret");
    std::fs::create_dir_all(&base).ok()?;
    Some(base)
}
