//! What the container is: ids, paths, mounts. `enter` makes it so, `inside` and `outside` check it.

use nix::mount::MsFlags;

/// The user and group of every process of the cell, inside the container and outside.
pub(crate) const AGENT: u32 = 1000;

/// What the container's own root is outside: an id that owns nothing anywhere.
pub(crate) const NOBODY: u32 = 0x7fff_0000;

/// Lines of the container's user and group maps: inside, outside, count.
pub(crate) fn ids() -> String {
    format!("0 {NOBODY} 1\n{AGENT} {AGENT} 1\n")
}

/// The container's cgroup, below the root of the hierarchy.
pub(crate) const CGROUP: &str = "/agent";

/// Where programs are looked for, unless a process has a path of its own.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where this program is seen in the container.
pub(crate) const PROGRAM: &str = "/.lazaret/guest";

/// Folders where processes may make files, besides the file permissions of the image: all on the agent's disk but
/// `/tmp` and `/dev/shm`, which are memory and end with the cell.
pub(crate) const WRITABLE: [&str; 5] = ["/home/agent", "/workspace", "/tmp", "/var/tmp", "/dev/shm"];

/// Files of the kernel that are hidden behind `/dev/null` or an empty folder.
pub(crate) const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/bus",
    "/proc/config.gz",
    "/proc/driver",
    "/proc/fs",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/irq",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/modules",
    "/proc/pagetypeinfo",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/sysvipc",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/tty",
    "/proc/vmallocinfo",
];

/// Paths that are read-only, whatever their permissions say.
pub(crate) const READ_ONLY: &[&str] = &["/proc/sys", "/proc/sysrq-trigger", "/sys"];

/// Devices of the container; `/dev` holds these, the folders `pts` and `shm`, and links.
pub(crate) const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

/// One mount of the container, besides its root.
pub(crate) struct Mount {
    /// Where, in the container.
    pub(crate) at: &'static str,
    /// The kind of file system; without one, what lies at `source` in the guest is shown.
    pub(crate) kind: Option<&'static str>,
    /// What the guest calls it.
    pub(crate) source: &'static str,
    /// What it may not do.
    pub(crate) flags: MsFlags,
    /// Options of its kind.
    pub(crate) options: String,
}

/// The mounts in their order, for a container of so much memory.
pub(crate) fn mounts(memory: u64) -> Vec<Mount> {
    const PROCESSORS: &str = "/sys/devices/system/cpu";
    let hard = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let data = hard | MsFlags::MS_NOEXEC;
    // Device nodes, of which the guest's root makes none here but single ones.
    let devices = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let scratch = format!("mode=1777,size={}", memory / 4);
    let own = |at, kind: &'static str, flags, options: &str| Mount {
        at,
        kind: Some(kind),
        source: kind,
        flags,
        options: options.to_owned(),
    };
    let shown = |at, source, flags| Mount { at, kind: None, source, flags, options: String::new() };
    vec![
        own("/proc", "proc", data, ""),
        own("/dev", "tmpfs", devices, "mode=755,size=64k"),
        own("/dev/pts", "devpts", devices, "newinstance,ptmxmode=0666,mode=0620"),
        own("/dev/shm", "tmpfs", data, &scratch),
        // Of sysfs only what runtimes read to size themselves.
        own("/sys", "tmpfs", data, "mode=755,size=64k"),
        shown(PROCESSORS, PROCESSORS, data | MsFlags::MS_RDONLY),
        own("/sys/fs/cgroup", "cgroup2", data | MsFlags::MS_RDONLY, ""),
        own("/tmp", "tmpfs", hard, &scratch),
        shown(PROGRAM, crate::PROGRAM, hard | MsFlags::MS_RDONLY),
    ]
}

/// Links in `/dev`: name, then target.
pub(crate) const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("ptmx", "pts/ptmx"),
    ("stderr", "/proc/self/fd/2"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mount_forbids_setuid_and_only_dev_may_hold_devices() {
        for mount in mounts(256 << 20) {
            assert!(mount.flags.contains(MsFlags::MS_NOSUID), "{}", mount.at);
            let devices = mount.at == "/dev" || mount.at == "/dev/pts";
            assert!(mount.flags.contains(MsFlags::MS_NODEV) || devices, "{}", mount.at);
        }
    }

    #[test]
    fn what_shows_something_of_the_guest_is_read_only() {
        let shown: Vec<_> = mounts(0).into_iter().filter(|mount| mount.kind.is_none()).collect();
        assert_eq!(shown.len(), 2);
        assert!(shown.iter().all(|mount| mount.flags.contains(MsFlags::MS_RDONLY)));
    }

    #[test]
    fn scratch_is_a_quarter_of_the_memory() {
        let mounts = mounts(256 << 20);
        let tmp = mounts.iter().find(|mount| mount.at == "/tmp").unwrap();
        assert_eq!(tmp.options, "mode=1777,size=67108864");
    }
}
