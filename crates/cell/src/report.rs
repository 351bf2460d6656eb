//! What a host can give to cells, as it was seen and not as it claims: the content of `lazaret doctor`.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use domain::{Isolation, Limits};
use nix::unistd::{Gid, Group};
use serde::{Deserialize, Serialize};

use crate::host::{CellHost, Ground, StartError};
use crate::jail::cgroup::CgroupHost;
use crate::jail::identity::Identity;
use crate::store;
use crate::template::{TemplateError, boot_once};
use crate::vmm::qemu::Qemu;
use crate::wall::{Rule, Wall};

/// What `doctor` saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// The isolation that cells get here; `None` when no cell can start.
    pub isolation: Option<Isolation>,
    /// KVM, after booting a machine on it.
    pub kvm: KvmVerdict,
    /// Emulation, after booting a machine on it.
    pub emulation: BootVerdict,
    /// QEMU's version; `None` when it isn't there.
    pub qemu: Option<String>,
    /// The kernel that cells boot; `None` when there is none.
    pub kernel: Option<String>,
    /// Each wall of the jail.
    pub walls: Vec<WallReport>,
    /// What kept the examination from going further, for people.
    pub trouble: Option<String>,
}

impl HostReport {
    /// Whether cells can start: hardware isolation, or emulation where a person allows it, and every required wall.
    #[must_use]
    pub fn can_start(&self) -> bool {
        self.isolation.is_some()
            && self.walls.iter().all(|wall| wall.seen.is_ok() || wall.rule == Rule::Degrade)
    }
}

/// One wall, as seen in a jail that was really built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallReport {
    /// Which.
    pub wall: Wall,
    /// What a missing one means.
    pub rule: Rule,
    /// `Ok` with a detail, or what is missing.
    pub seen: Result<String, String>,
    /// What to do; empty when nothing needs doing.
    pub advice: String,
}

/// KVM on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum KvmVerdict {
    /// A stock kernel booted on it.
    Works {
        /// Milliseconds to the guest's first answer.
        boot_ms: u64,
    },
    /// There is no /dev/kvm.
    Absent,
    /// This user may not open it.
    NoAccess {
        /// Why.
        why: String,
        /// The group that may open it, where there is one to join.
        group: Option<String>,
    },
    /// It opens, but no stock kernel boots on it.
    Broken {
        /// What was seen.
        why: String,
    },
    /// It could not be tried.
    Unknown {
        /// Why.
        why: String,
    },
}

impl KvmVerdict {
    /// What a person can do about it; empty when nothing needs doing.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::Works { .. } => String::new(),
            Self::Absent => "enable virtualisation in the firmware, or nested virtualisation for this virtual \
                             machine, and load `kvm_intel` or `kvm_amd`"
                .to_owned(),
            Self::NoAccess { group: Some(group), .. } => format!(
                "join the group of `/dev/kvm`: `sudo usermod -aG {group} $USER`, then log in again"
            ),
            Self::NoAccess { group: None, .. } => "only root may open it: let a group have it \
                                                   (`sudo chgrp kvm /dev/kvm && sudo chmod 660 /dev/kvm`, lasting \
                                                   by a udev rule), and join that group"
                .to_owned(),
            Self::Broken { .. } => {
                "this cloud's nested virtualisation is not good enough for a stock kernel: use another machine \
                 type, bare metal, or emulation (`--allow-emulation`), which is not a security boundary"
                    .to_owned()
            }
            Self::Unknown { .. } => LOOK_FIRST.to_owned(),
        }
    }
}

/// What to do about a thing that could not be looked at, because another was in the way.
const LOOK_FIRST: &str = "see what is wrong first, then run `lazaret doctor` again";

impl fmt::Display for KvmVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works { boot_ms } => write!(f, "KVM works: a stock kernel booted in {boot_ms} ms"),
            Self::Absent => f.write_str("there is no `/dev/kvm`"),
            Self::NoAccess { why, .. } => write!(f, "`/dev/kvm` can't be opened: {why}"),
            Self::Broken { why } => write!(f, "`/dev/kvm` opens, but no stock kernel boots on it: {why}"),
            Self::Unknown { why } => write!(f, "KVM could not be tried: {why}"),
        }
    }
}

/// A boot that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum BootVerdict {
    /// The guest answered.
    Works {
        /// Milliseconds to its first answer.
        boot_ms: u64,
    },
    /// It did not.
    Fails {
        /// What was seen.
        why: String,
    },
}

/// A verdict that stays true until the host boots again or something it rests on changes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    boot_id: String,
    qemu: String,
    kernel: String,
    kvm: KvmVerdict,
}

/// How long a stock kernel may take on KVM. Where it works it takes a second; where it crawls it never ends.
const KVM_WITHIN: Duration = Duration::from_secs(20);
/// The same under emulation, on a machine that is busy with others.
const EMULATION_WITHIN: Duration = Duration::from_secs(180);

impl CellHost {
    /// Examines the host by doing: builds jails, boots a stock kernel on KVM and under emulation. Takes seconds to
    /// minutes; `progress` hears what is being done. The verdict on KVM is remembered until the host boots again.
    pub async fn examine(&self, progress: &(dyn Fn(&str) + Sync)) -> HostReport {
        let ground = match self.ground(progress).await {
            Ok(ground) => ground,
            Err(error) => return self.nothing(&error),
        };
        progress("booting a kernel on KVM");
        let kvm = self.try_kvm(ground).await;
        self.remember(ground, &kvm);
        progress("booting a kernel under emulation");
        let (emulation, missing) = self.try_emulation(ground).await;
        let isolation = match (&kvm, &emulation) {
            (KvmVerdict::Works { .. }, _) => Some(Isolation::Hardware),
            (_, BootVerdict::Works { .. }) => Some(Isolation::Emulated),
            (_, BootVerdict::Fails { .. }) => None,
        };
        let trouble = match &emulation {
            BootVerdict::Works { .. } => None,
            BootVerdict::Fails { why } => Some(why.clone()),
        };
        HostReport {
            isolation,
            walls: self.walls(&missing, trouble.as_deref()),
            kvm,
            emulation,
            qemu: Some(ground.qemu.version().to_owned()),
            kernel: Some(ground.kernel.source().to_owned()),
            trouble,
        }
    }

    /// Whether KVM works, from memory if it was tried since the host booted.
    pub(crate) async fn kvm(&self, ground: &Ground) -> KvmVerdict {
        let verdict = self.kvm.get_or_init(|| async {
            if let Some(verdict) = self.recall(ground) {
                return verdict;
            }
            let verdict = self.try_kvm(ground).await;
            self.remember(ground, &verdict);
            verdict
        });
        verdict.await.clone()
    }

    fn nothing(&self, error: &StartError) -> HostReport {
        let why = error.to_string();
        HostReport {
            isolation: None,
            kvm: access().unwrap_or_else(|| KvmVerdict::Unknown { why: why.clone() }),
            emulation: BootVerdict::Fails { why: why.clone() },
            qemu: Qemu::find().ok().map(|qemu| qemu.version().to_owned()),
            kernel: None,
            walls: self.walls(&[], Some(&why)),
            trouble: Some(why),
        }
    }

    async fn try_kvm(&self, ground: &Ground) -> KvmVerdict {
        if let Some(verdict) = access() {
            return verdict;
        }
        let spec = self.template_spec(ground, &Limits::default());
        let vmm = ground.vmm(Isolation::Hardware);
        match boot_once(&self.jails, &vmm, &spec, "doctor-kvm", KVM_WITHIN).await {
            Ok((took, _)) => KvmVerdict::Works { boot_ms: millis(took) },
            Err(TemplateError::Boot(why)) => KvmVerdict::Broken { why },
            Err(error) => KvmVerdict::Unknown { why: error.to_string() },
        }
    }

    async fn try_emulation(&self, ground: &Ground) -> (BootVerdict, Vec<String>) {
        let spec = self.template_spec(ground, &Limits::default());
        let vmm = ground.vmm(Isolation::Emulated);
        match boot_once(&self.jails, &vmm, &spec, "doctor-emulation", EMULATION_WITHIN).await {
            Ok((took, missing)) => (BootVerdict::Works { boot_ms: millis(took) }, missing),
            Err(error) => (BootVerdict::Fails { why: error.to_string() }, Vec::new()),
        }
    }

    /// `missing` is what the jail of the emulated boot said; `trouble` why there was none.
    fn walls(&self, missing: &[String], trouble: Option<&str>) -> Vec<WallReport> {
        Wall::ALL
            .into_iter()
            .map(|wall| {
                let said = missing.iter().find_map(|line| line.strip_prefix(wall.name())?.strip_prefix(": "));
                let (seen, advice) = match (wall, said, trouble) {
                    (_, Some(why), _) => (Err(why.to_owned()), wall.advice()),
                    (Wall::OwnUid, ..) => (self.own_uid(), wall.advice()),
                    (Wall::Cgroup, ..) => (self.cgroup(), self.cgroup_advice()),
                    (_, None, None) => (Ok("seen in a jail".to_owned()), ""),
                    (_, None, Some(_)) => (Err("not seen: no machine ran in a jail".to_owned()), LOOK_FIRST),
                };
                let advice = if seen.is_ok() { String::new() } else { advice.to_owned() };
                WallReport { wall, rule: wall.rule(), seen, advice }
            })
            .collect()
    }

    /// Whose rights jails run with; `Err` when the user's own.
    pub(crate) fn own_uid(&self) -> Result<String, String> {
        match Identity::choose(0) {
            Identity::Alone { .. } => Ok("an unused id for each jail".into()),
            Identity::Subordinate { .. } => Ok("a subordinate id for each jail".into()),
            Identity::Own => Err("jails run with your own user id".into()),
        }
    }

    /// What cgroups limit; `Err` when nothing.
    pub(crate) fn cgroup(&self) -> Result<String, String> {
        match &self.jails.cgroups {
            CgroupHost::Unified { base, cpu } => {
                let cpu = if *cpu { "memory, processes and processors" } else { "memory and processes" };
                Ok(format!("version 2 at `{}`: {cpu}", base.display()))
            }
            CgroupHost::Legacy { bases } => {
                let names: Vec<_> = bases.iter().map(|(name, _)| *name).collect();
                Ok(format!("version 1: {}", names.join(", ")))
            }
            CgroupHost::Unavailable { why, .. } => Err(why.clone()),
        }
    }

    fn cgroup_advice(&self) -> &'static str {
        match &self.jails.cgroups {
            CgroupHost::Unified { .. } | CgroupHost::Legacy { .. } => "",
            CgroupHost::Unavailable { advice, .. } => advice,
        }
    }

    fn recall(&self, ground: &Ground) -> Option<KvmVerdict> {
        let path = self.config.dirs.data.join("kvm.json");
        let text = store::read_bounded(&path, 64 * 1024).ok()?;
        let remembered: Remembered = serde_json::from_slice(&text).ok()?;
        let same = remembered.boot_id == boot_id().ok()?
            && remembered.qemu == ground.qemu.version()
            && remembered.kernel == ground.kernel.digest();
        // Rights change without a boot, so they are looked at each time.
        let lasting = match remembered.kvm {
            KvmVerdict::Works { .. } | KvmVerdict::Broken { .. } => access().is_none(),
            KvmVerdict::Absent | KvmVerdict::NoAccess { .. } | KvmVerdict::Unknown { .. } => false,
        };
        (same && lasting).then_some(remembered.kvm)
    }

    fn remember(&self, ground: &Ground, kvm: &KvmVerdict) {
        let keep = || -> io::Result<()> {
            let remembered = Remembered {
                boot_id: boot_id()?,
                qemu: ground.qemu.version().to_owned(),
                kernel: ground.kernel.digest(),
                kvm: kvm.clone(),
            };
            store::write_whole(
                &self.config.dirs.data.join("kvm.json"),
                0o600,
                &serde_json::to_vec(&remembered)?,
            )
        };
        if let Err(error) = keep() {
            tracing::warn!("the verdict on KVM can't be remembered: {error}");
        }
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// What keeps this user from KVM before anything is tried; `None` if it opens.
fn access() -> Option<KvmVerdict> {
    let path = Path::new("/dev/kvm");
    match fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(KvmVerdict::Absent),
        // The device file is there, but no driver behind it.
        Err(error) if error.raw_os_error() == Some(nix::libc::ENXIO) => Some(KvmVerdict::Absent),
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Some(KvmVerdict::Absent),
        Err(error) => Some(KvmVerdict::NoAccess { why: error.to_string(), group: joinable(path) }),
    }
}

/// The group, other than root's, whose members may open the device.
fn joinable(device: &Path) -> Option<String> {
    let about = fs::metadata(device).ok()?;
    if about.gid() == 0 || about.mode() & 0o060 != 0o060 {
        return None;
    }
    let name = Group::from_gid(Gid::from_raw(about.gid())).ok().flatten().map(|group| group.name);
    Some(name.unwrap_or_else(|| about.gid().to_string()))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn nobody_is_told_to_join_a_group_that_does_not_help() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let own = file.as_file().metadata().unwrap().gid();
        for mode in [0o600, 0o640, 0o606] {
            file.as_file().set_permissions(fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(joinable(file.path()), None, "{mode:o}");
        }
        file.as_file().set_permissions(fs::Permissions::from_mode(0o660)).unwrap();
        assert_eq!(joinable(file.path()).is_some(), own != 0, "root's group is nobody's to join");
        let alone = KvmVerdict::NoAccess { why: String::new(), group: None };
        assert!(!alone.advice().contains("usermod"), "{}", alone.advice());
    }
}
