//! Attacks on files and devices that are not the agent's: of the host, the guest, the kernel, and other cells.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use demo::report::Layer;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::probe::{Attempts, CONTAINER, EVERYWHERE, KILLED, Probe, Verdict, io, is_stop, short};

/// A path that exists on the host only, by which a test shows what a breach looks like.
pub(crate) const HOST_FILE: &str = "LAZARET_HOSTILE_HOST_FILE";

pub(crate) const PROBES: &[Probe] = &[
    Probe {
        id: "host-files",
        title: "files of the host",
        attempt: "opens a file that lies on the host, directly and through /proc/1/root",
        layer: Layer::Vm,
        places: EVERYWHERE,
        deaths: KILLED,
        seconds: 20,
        run: host_files,
    },
    Probe {
        id: "init-root",
        title: "root of PID 1",
        attempt: "reads through /proc/1/root and /proc/1/cwd what PID 1 sees",
        layer: Layer::Container,
        places: CONTAINER,
        deaths: KILLED,
        seconds: 20,
        run: init_root,
    },
    Probe {
        id: "raw-disks",
        title: "raw disks",
        attempt: "reads the first block of every disk, by its device or by a device it makes",
        layer: Layer::Container,
        places: CONTAINER,
        deaths: KILLED,
        seconds: 30,
        run: raw_disks,
    },
    Probe {
        id: "physical-memory",
        title: "physical memory",
        attempt: "opens /dev/mem, /dev/kmem, /dev/port and /proc/kcore, or makes such devices",
        layer: Layer::Container,
        places: CONTAINER,
        deaths: KILLED,
        seconds: 30,
        run: physical_memory,
    },
    Probe {
        id: "kernel-facts",
        title: "secrets of the kernel",
        attempt: "reads kernel addresses, firmware, key lists, timers and debug files",
        layer: Layer::Container,
        places: CONTAINER,
        deaths: KILLED,
        seconds: 20,
        run: kernel_facts,
    },
    Probe {
        id: "kernel-settings",
        title: "settings of the kernel",
        attempt: "opens core_pattern, sysrq-trigger, modprobe and other settings for writing",
        layer: Layer::Container,
        places: CONTAINER,
        deaths: KILLED,
        seconds: 20,
        run: kernel_settings,
    },
    Probe {
        id: "control-groups",
        title: "control groups",
        attempt: "opens release_agent, limits and process lists for writing, makes a group",
        layer: Layer::Container,
        places: CONTAINER,
        deaths: KILLED,
        seconds: 20,
        run: control_groups,
    },
    Probe {
        id: "guest-program",
        title: "the guest's own program",
        attempt: "writes, renames and replaces /.lazaret/guest, also through /proc/PID/exe while it runs",
        layer: Layer::Container,
        places: CONTAINER,
        deaths: KILLED,
        seconds: 30,
        run: guest_program,
    },
    Probe {
        id: "file-handles",
        title: "files by handle",
        attempt: "opens inode 2 of each file system by its handle, around every path",
        layer: Layer::Container,
        places: CONTAINER,
        deaths: KILLED,
        seconds: 20,
        run: file_handles,
    },
    Probe {
        id: "descriptors",
        title: "leaked descriptors",
        attempt: "looks for open descriptors besides 0, 1 and 2, and takes those of PID 1",
        layer: Layer::Container,
        places: CONTAINER,
        deaths: KILLED,
        seconds: 20,
        run: descriptors,
    },
];

fn host_files() -> Verdict {
    let Some(file) = std::env::var_os(HOST_FILE).map(PathBuf::from).filter(|p| p.is_absolute()) else {
        return Verdict::not_applicable(format!("`{HOST_FILE}` names no file of the host"));
    };
    let below = file.strip_prefix("/").unwrap_or(&file).to_owned();
    let mut attempts = Attempts::default();
    for root in ["/", "/proc/1/root", "/proc/self/root/../../..", "/host", "/mnt", "/media"] {
        attempts.take_any(root, File::open(Path::new(root).join(&below)));
    }
    attempts.verdict("nothing was tried")
}

fn init_root() -> Verdict {
    let mut attempts = Attempts::default();
    for path in ["root/etc/shadow", "root/lazaret-guest", "root/modules", "cwd/etc/passwd", "root"] {
        let path = Path::new("/proc/1").join(path);
        let result = if path.ends_with("modules") || path.ends_with("root") {
            fs::read_dir(&path).map(drop)
        } else {
            File::open(&path).map(drop)
        };
        attempts.take(path.display().to_string(), result);
    }
    attempts.verdict("nothing was tried")
}

fn raw_disks() -> Verdict {
    let mut attempts = Attempts::default();
    let mut numbers: Vec<(u64, u64)> = Vec::new();
    for device in fs::read_dir("/sys/class/block").into_iter().flatten().flatten() {
        let name = device.file_name().to_string_lossy().into_owned();
        attempts.take(format!("/dev/{name}"), first_block(&Path::new("/dev").join(&name)));
        numbers.extend(read_numbers(&device.path().join("dev")));
    }
    // Also those that are not listed: the first disks of virtio, SCSI, loop and NBD.
    numbers.extend([252, 253, 254, 8, 7, 43].into_iter().flat_map(|major| [(major, 0), (major, 16)]));
    for (major, minor) in numbers.into_iter().take(64) {
        attempts
            .take(format!("mknod {major}:{minor}"), made_device(SFlag::S_IFBLK, major, minor, first_block));
    }
    attempts.verdict("no disk is to be seen")
}

fn read_numbers(file: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(file).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn first_block(path: &Path) -> io::Result<()> {
    File::open(path)?.read_exact(&mut [0; 512])
}

/// Makes a device in a folder of its own, tries to use it, and removes it.
pub(crate) fn made_device(
    kind: SFlag,
    major: u64,
    minor: u64,
    use_it: fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let path = std::env::temp_dir().join(format!("probe-device-{major}-{minor}-{}", std::process::id()));
    io(mknod(&path, kind, Mode::S_IRUSR | Mode::S_IWUSR, makedev(major, minor)))?;
    let used = use_it(&path);
    fs::remove_file(&path)?;
    used
}

fn open(path: &Path) -> io::Result<()> {
    File::open(path).map(drop)
}

fn physical_memory() -> Verdict {
    let mut attempts = Attempts::default();
    for path in ["/dev/mem", "/dev/kmem", "/dev/port", "/proc/kcore"] {
        // A mask lets itself be opened, and is empty.
        match File::open(path).and_then(|mut file| file.read(&mut [0; 16])) {
            Ok(0) => attempts.stopped(path, "empty"),
            read => attempts.take(path, read),
        }
    }
    for (name, minor) in [("mem", 1), ("kmem", 2), ("port", 4)] {
        attempts.take(format!("mknod {name}"), made_device(SFlag::S_IFCHR, 1, minor, open));
    }
    attempts.verdict("nothing was tried")
}

fn kernel_facts() -> Verdict {
    let mut attempts = Attempts::default();
    match fs::read_to_string("/proc/kallsyms") {
        Ok(text) if text.lines().take(200).any(|l| !l.starts_with("0000000000000000 ")) => {
            attempts.worked("/proc/kallsyms", "it shows addresses");
        }
        Ok(_zeros) => attempts.stopped("/proc/kallsyms", "all addresses are zero"),
        Err(e) => attempts.stopped("/proc/kallsyms", short(&e)),
    }
    for path in ["/proc/keys", "/proc/timer_list", "/proc/latency_stats", "/dev/kmsg"] {
        match fs::metadata(path).and_then(|_| File::open(path)).and_then(|mut f| f.read(&mut [0; 64])) {
            Ok(0) => attempts.stopped(path, "empty"),
            Ok(_some) => attempts.worked(path, "it can be read"),
            Err(e) => attempts.stopped(path, short(&e)),
        }
    }
    for path in ["/sys/firmware", "/sys/kernel/debug", "/sys/kernel/tracing", "/proc/acpi", "/proc/scsi"] {
        match fs::read_dir(path).map(Iterator::count) {
            Ok(0) => attempts.stopped(path, "empty"),
            Ok(entries) => attempts.worked(path, format!("{entries} entries")),
            Err(e) => attempts.stopped(path, short(&e)),
        }
    }
    attempts.verdict("nothing was tried")
}

fn for_writing(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(path).map(drop)
}

fn kernel_settings() -> Verdict {
    let mut attempts = Attempts::default();
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/randomize_va_space",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/power/state",
    ] {
        attempts.take(path, for_writing(Path::new(path)));
    }
    attempts.verdict("nothing was tried")
}

fn control_groups() -> Verdict {
    let mut attempts = Attempts::default();
    let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
    let mut seen = 0;
    while let Some(folder) = todo.pop() {
        let made = folder.join("lazaret-probe");
        let result = fs::create_dir(&made).and_then(|()| fs::remove_dir(&made));
        attempts.take(format!("mkdir in {}", folder.display()), result);
        for name in [
            "release_agent",
            "cgroup.procs",
            "cgroup.subtree_control",
            "memory.max",
            "pids.max",
            "notify_on_release",
        ] {
            let file = folder.join(name);
            if file.exists() {
                attempts.take(file.display().to_string(), for_writing(&file));
            }
        }
        seen += 1;
        if seen < 20 {
            let below = fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.path());
            todo.extend(below.filter(|p| p.is_dir() && !p.is_symlink()));
        }
    }
    attempts.verdict("no control group is to be seen")
}

fn guest_program() -> Verdict {
    let program = Path::new("/.lazaret/guest");
    if !program.exists() {
        return Verdict::not_applicable("there is no /.lazaret/guest here");
    }
    let mut attempts = Attempts::default();
    attempts.take("write", for_writing(program));
    attempts.take("rename", fs::rename(program, "/.lazaret/other"));
    attempts.take("remove", fs::remove_file(program));
    attempts.take("add beside", File::create("/.lazaret/new"));
    // Within one mount: across two, the kernel says so before it looks at permissions.
    attempts.take("replace the folder", fs::rename("/.lazaret", "/lazaret-moved"));
    let running = std::process::Command::new(program)
        .args(["builtin", "wait for my input"])
        .env_clear()
        .envs([
            ("LAZARET_MODEL", "a/b"),
            ("LAZARET_MODEL_API", "chat"),
            ("LAZARET_MODEL_URL", "http://127.0.0.1:1"),
        ])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn();
    match running {
        Ok(mut child) => {
            let exe = PathBuf::from(format!("/proc/{}/exe", child.id()));
            // Until the child has become the guest's program, the link leads to this one, which is the agent's own.
            let mut looks = 0;
            while looks < 2000 && fs::read_link(&exe).is_ok_and(|at| at != program) {
                looks += 1;
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            match fs::read_link(&exe) {
                Ok(at) if at == program => attempts.take("write through /proc/PID/exe", for_writing(&exe)),
                Ok(at) => attempts.stopped("write through /proc/PID/exe", format!("it is {}", at.display())),
                Err(e) => attempts.stopped("write through /proc/PID/exe", short(&e)),
            }
            if let Err(e) = child.kill().and_then(|()| child.wait().map(drop)) {
                attempts.stopped("end it", short(&e));
            }
        }
        Err(e) => attempts.stopped("start it", short(&e)),
    }
    attempts.take("write PID 1's program", for_writing(Path::new("/proc/1/exe")));
    attempts.verdict("nothing was tried")
}

fn file_handles() -> Verdict {
    let mut attempts = Attempts::default();
    for path in ["/", "/workspace", "/home", "/proc", "/tmp"] {
        let Ok(folder) = File::open(path) else { continue };
        match folder.as_fd().try_clone_to_owned().and_then(|on| sys::raw::open_by_handle(&on)) {
            Err(e) if is_stop(&e) => attempts.stopped(path, short(&e)),
            // A stale handle was looked up: the right one would have opened.
            other => attempts.take(path, other),
        }
    }
    attempts.verdict("nothing was tried")
}

fn descriptors() -> Verdict {
    let mut attempts = Attempts::default();
    match fs::read_dir("/proc/self/fd") {
        Ok(entries) => {
            let open: Vec<String> = entries
                .flatten()
                .filter_map(|e| {
                    let number: i32 = e.file_name().to_str()?.parse().ok()?;
                    let to = fs::read_link(e.path()).ok()?;
                    // The listing itself is one.
                    (number > 2 && !to.to_string_lossy().contains("/fd"))
                        .then(|| format!("{number} is {}", to.display()))
                })
                .collect();
            if open.is_empty() {
                attempts.stopped("own", "only 0, 1 and 2 are open");
            } else {
                attempts.worked("own", open.join(", "));
            }
        }
        Err(e) => attempts.stopped("own", short(&e)),
    }
    for number in [0, 3, 4, 5, 6, 7, 8] {
        attempts.take(format!("{number} of PID 1"), sys::raw::steal_descriptor(1, number));
    }
    attempts.verdict("nothing was tried")
}
