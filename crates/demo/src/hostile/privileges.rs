//! Attacks that want more rights: other users, capabilities, namespaces, mounts, other processes.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use demo::report::Layer;
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, chown, chroot, setgid, setgroups, sethostname, setuid};
use sys::raw::{self, Call};

use crate::probe::{Attempts, CONTAINER, KILLED, Probe, Verdict, calls, io, short};

const fn probe(id: &'static str, title: &'static str, attempt: &'static str, run: fn() -> Verdict) -> Probe {
    Probe { id, title, attempt, layer: Layer::Container, places: CONTAINER, deaths: KILLED, seconds: 30, run }
}

pub(crate) const PROBES: &[Probe] = &[
    probe(
        "protections",
        "protections off",
        "looks in /proc/self/status for a missing protection",
        protections,
    ),
    probe("become-root", "becoming root", "setuid, setgid and setgroups to 0", become_root),
    probe(
        "setuid-programs",
        "setuid programs",
        "starts the image's setuid programs and looks who they run as",
        setuid_programs,
    ),
    probe("raise-capabilities", "raising capabilities", "capset with CAP_SYS_ADMIN", || {
        calls(&[("capset", Call::RaiseCapabilities)])
    }),
    probe("change-root", "chroot, pivot_root", "changes the root folder", change_root),
    probe("give-files-away", "files of root", "makes a file of root's and sets its setuid bit", give_away),
    probe("host-name", "host name", "sethostname to what it is", host_name),
    probe(
        "user-namespace",
        "user namespaces",
        "unshare, clone and clone3 into a new user namespace",
        user_namespace,
    ),
    probe(
        "other-namespaces",
        "other namespaces",
        "unshare into each other kind of namespace",
        other_namespaces,
    ),
    probe(
        "join-namespaces",
        "joining namespaces",
        "setns into the namespaces of PID 1 and its own",
        join_namespaces,
    ),
    probe("mounts", "mounts", "mounts proc, sysfs, tmpfs, cgroup2 and every disk's file system", mounts),
    probe("new-mount-calls", "the new mount calls", "fsopen, open_tree, move_mount, mount_setattr", || {
        calls(&[
            ("fsopen", Call::FsOpen),
            ("open_tree", Call::OpenTree),
            ("move_mount", Call::MoveMount),
            ("mount_setattr", Call::MountSetAttr),
        ])
    }),
    probe("unmask", "masks", "unmounts what covers parts of /proc and /sys", unmask),
    probe(
        "trace-init",
        "tracing PID 1",
        "ptrace, process_vm_readv, /proc/1/mem, kcmp and process_madvise of PID 1",
        trace_init,
    ),
    probe("kill-init", "ending PID 1", "sends SIGKILL to PID 1", kill_init),
    probe("priority", "priority", "takes the highest priority, and real time", || {
        calls(&[("setpriority", Call::Priority), ("sched_setscheduler", Call::RealTime)])
    }),
];

fn protections() -> Verdict {
    let mut attempts = Attempts::default();
    let status = match fs::read_to_string("/proc/self/status") {
        Ok(status) => status,
        Err(e) => return Verdict::failed(format!("/proc/self/status: {}", short(&e))),
    };
    for (field, wanted) in [
        ("CapEff", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        let found =
            status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':')).unwrap_or("").trim();
        if found == wanted {
            attempts.stopped(field, format!("is {found}"));
        } else {
            attempts.worked(field, format!("is {found}, not {wanted}"));
        }
    }
    attempts.verdict("nothing was tried")
}

fn become_root() -> Verdict {
    let mut attempts = Attempts::default();
    attempts.take("setgroups", io(setgroups(&[Gid::from_raw(0)])));
    attempts.take("setgid", io(setgid(Gid::from_raw(0))));
    attempts.take("setuid", io(setuid(Uid::from_raw(0))));
    attempts.verdict("nothing was tried")
}

fn setuid_programs() -> Verdict {
    if Uid::effective().is_root() {
        return Verdict::not_applicable("this is root already");
    }
    let mut attempts = Attempts::default();
    for folder in ["/bin", "/usr/bin", "/sbin", "/usr/sbin", "/usr/lib/openssh", "/usr/libexec"] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = fs::metadata(entry.path()) else { continue };
            if metadata.is_file() && metadata.mode() & 0o4000 != 0 && metadata.uid() == 0 {
                let name = entry.path().display().to_string();
                match effective_user_of(&entry.path()) {
                    Ok(0) => attempts.worked(name, "it runs as root"),
                    Ok(user) => attempts.stopped(name, format!("runs as user {user}")),
                    Err(e) => attempts.stopped(name, short(&e)),
                }
            }
        }
    }
    attempts.verdict("the image has no setuid program of root")
}

/// Starts the program, waiting for input that doesn't come, and sees as whom it runs.
fn effective_user_of(program: &Path) -> std::io::Result<u32> {
    use std::process::{Command, Stdio};
    let mut child =
        Command::new(program).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    // The exec is done when spawn returns, and a process that has ended keeps its owner until it is waited for.
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
    child.kill()?;
    child.wait()?;
    let status = status?;
    let line = status.lines().find_map(|l| l.strip_prefix("Uid:")).unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|id| id.parse().ok())
        .ok_or(std::io::ErrorKind::InvalidData.into())
}

fn change_root() -> Verdict {
    let mut attempts = Attempts::default();
    attempts.take("pivot_root", raw::call(Call::PivotRoot));
    attempts.take("chroot", io(chroot("/tmp")));
    attempts.verdict("nothing was tried")
}

fn give_away() -> Verdict {
    use std::os::unix::fs::PermissionsExt as _;
    let path = std::env::temp_dir().join(format!("probe-owner-{}", std::process::id()));
    if let Err(e) = File::create(&path) {
        return Verdict::failed(format!("{}: {e}", path.display()));
    }
    let mut attempts = Attempts::default();
    let given = io(chown(&path, Some(Uid::from_raw(0)), Some(Gid::from_raw(0))));
    if Uid::effective().is_root() {
        attempts.take("chown to another", io(chown(&path, Some(Uid::from_raw(12_345)), None)));
    } else {
        attempts.take("chown to root", given);
    }
    let device = fs::metadata(&path).map(|m| (m.uid(), m.mode()));
    if fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).is_ok()
        && matches!(device, Ok((0, _)))
        && !Uid::effective().is_root()
    {
        attempts.worked("setuid bit", "on a file of root's");
    }
    if let Err(e) = fs::remove_file(&path) {
        attempts.stopped("remove", short(&e));
    }
    attempts.verdict("nothing was tried")
}

fn host_name() -> Verdict {
    let mut attempts = Attempts::default();
    let name = io(nix::unistd::gethostname()).unwrap_or_default();
    attempts.take("sethostname", io(sethostname(name)));
    attempts.verdict("nothing was tried")
}

fn user_namespace() -> Verdict {
    let mut attempts = Attempts::default();
    attempts.take("clone3", raw::call(Call::Clone3UserNamespace));
    attempts.take("clone", raw::call(Call::CloneUserNamespace));
    attempts.take("unshare", io(unshare(CloneFlags::CLONE_NEWUSER)));
    attempts.verdict("nothing was tried")
}

fn other_namespaces() -> Verdict {
    let mut attempts = Attempts::default();
    let time = CloneFlags::from_bits_retain(0x80);
    for (name, flag) in [
        ("mount", CloneFlags::CLONE_NEWNS),
        ("net", CloneFlags::CLONE_NEWNET),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("time", time),
    ] {
        attempts.take(name, io(unshare(flag)));
    }
    attempts.verdict("nothing was tried")
}

fn join_namespaces() -> Verdict {
    let mut attempts = Attempts::default();
    for process in ["1", "self"] {
        for kind in ["net", "mnt", "uts", "ipc", "pid", "cgroup"] {
            let joined = File::open(format!("/proc/{process}/ns/{kind}"))
                .and_then(|file| io(setns(file, CloneFlags::empty())));
            attempts.take(format!("{kind} of {process}"), joined);
        }
    }
    attempts.verdict("nothing was tried")
}

fn mounts() -> Verdict {
    let mut attempts = Attempts::default();
    let folder = std::env::temp_dir().join(format!("probe-mount-{}", std::process::id()));
    if let Err(e) = fs::create_dir(&folder) {
        return Verdict::failed(format!("{}: {e}", folder.display()));
    }
    let Ok(at) = CString::new(folder.as_os_str().as_encoded_bytes()) else {
        return Verdict::failed("the folder's name can't be used");
    };
    let disks = fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let disks = disks.map(|d| format!("/dev/{}", d.file_name().to_string_lossy())).take(16);
    let mut tries: Vec<(String, String)> =
        ["tmpfs", "proc", "sysfs", "cgroup2", "devtmpfs", "debugfs", "9p", "virtiofs"]
            .map(|kind| (kind.to_owned(), "none".to_owned()))
            .to_vec();
    tries.extend(disks.flat_map(|disk| ["ext4", "squashfs"].map(|kind| (kind.to_owned(), disk.clone()))));
    for (kind, source) in tries {
        let (Ok(kind_text), Ok(source_text)) = (CString::new(kind.as_str()), CString::new(source.as_str()))
        else {
            continue;
        };
        match raw::mount(&kind_text, &source_text, &at) {
            Ok(()) => {
                attempts.worked(format!("{kind} of {source}"), "it is mounted");
                if let Err(e) = umount2(&folder, MntFlags::MNT_DETACH) {
                    return Verdict::breached(format!("{kind} of {source} is mounted and stays: {e}"));
                }
            }
            // Where mounting is allowed at all, a disk of another kind is no stop: only EPERM is.
            Err(e) => attempts.stopped(format!("{kind} of {source}"), short(&e)),
        }
    }
    if let Err(e) = fs::remove_dir(&folder) {
        attempts.stopped("remove the folder", short(&e));
    }
    attempts.verdict("nothing was tried")
}

fn unmask() -> Verdict {
    let mut attempts = Attempts::default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let masks = points.filter(|p| {
        (p.starts_with("/proc") || p.starts_with("/sys"))
            && !["/proc", "/sys", "/sys/fs/cgroup"].iter().any(|m| p == Path::new(m))
    });
    for mask in masks.take(40) {
        attempts.take(mask.display().to_string(), io(umount2(&mask, MntFlags::MNT_DETACH)));
    }
    attempts.verdict("nothing is masked, so there is nothing to unmask")
}

fn trace_init() -> Verdict {
    let mut attempts = Attempts::default();
    attempts.take("ptrace", raw::trace(1));
    let mut byte = [0_u8];
    let read = nix::sys::uio::process_vm_readv(
        Pid::from_raw(1),
        &mut [std::io::IoSliceMut::new(&mut byte)],
        &[nix::sys::uio::RemoteIoVec { base: 0x1000, len: 1 }],
    );
    attempts.take("process_vm_readv", io(read));
    attempts.take("/proc/1/mem", File::open("/proc/1/mem"));
    attempts.take("kcmp", raw::call(Call::CompareInit));
    attempts.take("process_madvise", raw::call(Call::AdviseInit));
    attempts.verdict("nothing was tried")
}

fn kill_init() -> Verdict {
    let mut attempts = Attempts::default();
    match kill(Pid::from_raw(1), Signal::SIGKILL) {
        Err(e) => attempts.stopped("SIGKILL", format!("{e:?}")),
        Ok(()) if kill(Pid::from_raw(1), None) == Err(nix::errno::Errno::ESRCH) => {
            attempts.worked("SIGKILL", "PID 1 is gone");
        }
        Ok(()) => attempts.stopped("SIGKILL", "ignored: PID 1 goes on"),
    }
    attempts.verdict("nothing was tried")
}
