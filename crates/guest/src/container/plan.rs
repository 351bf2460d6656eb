//! What the container is, as the document that an OCI runtime reads.

use serde_json::{Value, json};
use wire::guest::ContainerSpec;

use super::syscalls;

/// The user and group of every process of the cell, inside the container and outside.
pub(crate) const AGENT: u32 = 1000;

/// What the container's own root is outside: an id that owns nothing anywhere.
pub(crate) const NOBODY: u32 = 0x7fff_0000;

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

/// The document. `host_name` is the cell's.
pub(crate) fn document(spec: &ContainerSpec, host_name: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "hostname": host_name,
        "root": { "path": crate::disks::CELL, "readonly": false },
        "process": process(),
        "mounts": mounts(spec.memory),
        "linux": {
            "namespaces": namespaces(),
            "uidMappings": mappings(),
            "gidMappings": mappings(),
            "cgroupsPath": CGROUP,
            "resources": resources(spec),
            "rootfsPropagation": "private",
            "seccomp": syscalls::filter(),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    })
}

fn namespaces() -> Vec<Value> {
    let kinds = ["user", "pid", "mount", "network", "ipc", "uts", "cgroup"];
    kinds.into_iter().map(|kind| json!({ "type": kind })).collect()
}

fn process() -> Value {
    let none: [&str; 0] = [];
    json!({
        "terminal": false,
        "user": { "uid": AGENT, "gid": AGENT, "umask": 0o022 },
        "args": [PROGRAM, "container"],
        "env": [format!("PATH={PATH}"), "HOME=/home/agent"],
        "cwd": "/",
        "capabilities": {
            "bounding": none, "effective": none, "inheritable": none, "permitted": none, "ambient": none,
        },
        "noNewPrivileges": true,
    })
}

fn mappings() -> Value {
    json!([
        { "containerID": 0, "hostID": NOBODY, "size": 1 },
        { "containerID": AGENT, "hostID": AGENT, "size": 1 },
    ])
}

fn mounts(memory: u64) -> Value {
    let scratch = format!("size={}", memory / 4);
    let own = |at: &str, kind: &str, options: &[&str]| {
        let hard = ["nosuid", "noexec"].into_iter().chain(options.iter().copied()).collect::<Vec<_>>();
        json!({ "destination": at, "type": kind, "source": kind, "options": hard })
    };
    let program = ["bind", "ro", "nosuid", "nodev"];
    let processors = "/sys/devices/system/cpu";
    json!([
        own("/proc", "proc", &["nodev"]),
        own("/dev", "tmpfs", &["mode=755", "size=64k"]),
        own("/dev/pts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"]),
        own("/dev/shm", "tmpfs", &["nodev", "mode=1777", &scratch]),
        // Of sysfs only what runtimes read to size themselves.
        own("/sys", "tmpfs", &["nodev", "mode=755", "size=64k"]),
        json!({ "destination": processors, "type": "bind", "source": processors,
                "options": ["bind", "ro", "nosuid", "nodev", "noexec"] }),
        own("/sys/fs/cgroup", "cgroup", &["nodev", "ro"]),
        json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "nodev", "mode=1777", scratch] }),
        json!({ "destination": PROGRAM, "type": "bind", "source": crate::PROGRAM, "options": program }),
    ])
}

fn resources(spec: &ContainerSpec) -> Value {
    json!({
        "memory": { "limit": spec.memory },
        // libcontainer takes a `swap` that allows none for one that is not set.
        "unified": { "memory.swap.max": "0" },
        "cpu": { "quota": u64::from(spec.cpu_millis) * 100, "period": 100_000 },
        "pids": { "limit": spec.pids },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ContainerSpec {
        ContainerSpec {
            memory: 256 << 20,
            cpu_millis: 1500,
            pids: 64,
            model_port: 8181,
            tools_port: 8182,
            allow_guest_root: false,
        }
    }

    #[test]
    fn an_oci_runtime_reads_the_document() {
        let document = document(&spec(), "cell");
        let read: libcontainer::oci_spec::runtime::Spec = serde_json::from_value(document).unwrap();
        let process = read.process().as_ref().unwrap();
        assert_eq!(process.no_new_privileges(), Some(true));
        assert!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().is_empty());
        assert_eq!(read.linux().as_ref().unwrap().namespaces().as_ref().unwrap().len(), 7);
    }

    #[test]
    fn limits_are_passed_on_in_the_units_of_the_document() {
        let resources = resources(&spec());
        assert_eq!(resources["memory"], json!({ "limit": 268_435_456 }));
        assert_eq!(resources["cpu"], json!({ "quota": 150_000, "period": 100_000 }));
        assert_eq!(resources["pids"]["limit"], 64);
    }

    #[test]
    fn every_mount_forbids_setuid_and_only_dev_may_hold_devices() {
        let mounts = mounts(256 << 20);
        for mount in mounts.as_array().unwrap() {
            let options: Vec<_> =
                mount["options"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            let at = mount["destination"].as_str().unwrap();
            assert!(options.contains(&"nosuid"), "{at}");
            assert!(options.contains(&"nodev") || at == "/dev" || at == "/dev/pts", "{at}");
        }
    }
}
