//! Jails that are really built, looked at from inside (the example `launcher` probes) and from outside (/proc).

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cgroup::{Budget, CgroupHost};
use super::files::of_program;
use super::guarded::{Guarded, Inmate, Jails, log_pipe};
use super::identity::Identity;
use super::spec::{Filter, JailEnd, ProcessLimits};

/// A host of jails in a folder of its own.
struct Host {
    _folder: tempfile::TempDir,
    jails: Jails,
}

fn host() -> Host {
    let folder = tempfile::tempdir().unwrap();
    let jails = Jails {
        launcher: launcher(),
        folder: folder.path().to_path_buf(),
        prefix: format!("test-{}", folder.path().file_name().unwrap().to_string_lossy()),
        cgroups: CgroupHost::detect(),
    };
    Host { _folder: folder, jails }
}

fn launcher() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let launcher = exe.parent().unwrap().parent().unwrap().join("examples/launcher");
    assert!(launcher.exists(), "`cargo build -p cell --examples` builds it");
    launcher
}

/// The probe's ends: its standard input (closing it lets `wait` go) and what it prints.
struct Probe {
    guarded: Guarded,
    input: OwnedFd,
    output: std::fs::File,
}

impl Host {
    async fn start(&self, what: &str, filter: Filter) -> Probe {
        let files = of_program(&self.jails.launcher, &[]).unwrap();
        let (log, log_end) = log_pipe().unwrap();
        let (stdin, input) = rustix::pipe::pipe().unwrap();
        let (output, stdout) = rustix::pipe::pipe().unwrap();
        let inmate = Inmate {
            name: format!("probe-{what}"),
            program: files.program,
            args: vec!["probe".into(), what.into(), self.jails.prefix.clone()],
            env: vec![("LD_LIBRARY_PATH".into(), files.library_path)],
            files: files.files,
            descriptors: vec![(stdin, 0), (stdout, 1), (log_end, 2)],
            own_descriptors: filter != Filter::Door,
            filter,
            limits: ProcessLimits {
                address_space: 1 << 30,
                data: 256 << 20,
                file_size: 1 << 20,
                descriptors: 64,
            },
            budget: Budget { memory: 64 << 20, pids: 8, cpu_millis: 1_000 },
        };
        let guarded = self.jails.start(inmate, log).await.unwrap();
        Probe { guarded, input, output: output.into() }
    }

    /// Runs a probe to its end: what it printed, and how it ended.
    async fn probe(&self, what: &str, filter: Filter) -> (String, JailEnd) {
        let Probe { mut guarded, input, mut output } = self.start(what, filter).await;
        drop(input);
        let end = guarded.ended().await.unwrap();
        guarded.cleaned().await.unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        (text, end)
    }
}

/// The process outside that has these words in its command line and is not a supervisor.
fn find(words: &[&str]) -> PathBuf {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let parts: Vec<_> = line.split('\0').skip(1).filter(|part| !part.is_empty()).collect();
        if parts == words {
            return entry.path();
        }
    }
    panic!("no process `{words:?}`")
}

fn field(process: &Path, name: &str) -> String {
    let status = std::fs::read_to_string(process.join("status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
    line.split_once(':').unwrap().1.trim().to_owned()
}

#[tokio::test]
async fn from_outside_a_jail_has_nothing_of_the_host() {
    let host = host();
    let mut probe = host.start("wait", Filter::Door).await;
    // It is up, and past the work of its loader.
    probe.output.read_exact(&mut [0]).unwrap();
    let process = find(&["probe", "wait", &host.jails.prefix]);
    assert_eq!(field(&process, "NoNewPrivs"), "1");
    assert_eq!(field(&process, "Seccomp"), "2");
    assert!(field(&process, "Seccomp_filters").parse::<u32>().unwrap() >= 2);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&field(&process, set), 16).unwrap(), 0, "{set}");
    }
    // Process 1 of its own namespace.
    assert!(field(&process, "NSpid").ends_with("\t1"));
    only_its_own(&process);
    if nix::unistd::geteuid().is_root() {
        let uids = field(&process, "Uid");
        let uid: u32 = uids.split_whitespace().next().unwrap().parse().unwrap();
        assert!(uid >= 0x7a00_0000, "{uids}");
        assert_eq!(field(&process, "Groups"), "");
    }
    assert_eq!(probe.guarded.kill().await.unwrap().0.signal, Some(9));
    assert!(!process.join("root").exists());
    assert_eq!(std::fs::read_dir(&host.jails.folder).unwrap().count(), 0, "a mount point was left");
}

/// What only the same user may see of a process.
fn only_its_own(process: &Path) {
    let limits = std::fs::read_to_string(process.join("limits")).unwrap();
    assert!(limits.lines().any(|l| l.starts_with("Max core file size") && l.contains(" 0 ")), "{limits}");
    let listing = std::fs::read_dir(process.join("fd"));
    if let Identity::Subordinate { .. } = Identity::choose(0) {
        // An id of its own: not even the user who started it may look further.
        assert_eq!(listing.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        return;
    }
    for namespace in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let link = |of: &Path| std::fs::read_link(of.join("ns").join(namespace)).unwrap();
        assert_ne!(link(process), link(Path::new("/proc/self")), "{namespace}");
    }
    let numbers: Vec<_> =
        listing.unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(numbers.len(), 3, "{numbers:?}");
    let environment = std::fs::read_to_string(process.join("environ")).unwrap();
    assert!(environment.starts_with("LD_LIBRARY_PATH=") && environment.matches('\0').count() == 1);
}

#[tokio::test]
async fn inside_there_are_the_programs_files_and_no_way_to_write() {
    let host = host();
    let (text, _) = host.probe("files", Filter::Vmm).await;
    let files = of_program(&host.jails.launcher, &[]).unwrap();
    let mut known: Vec<_> = files.files.iter().flat_map(|file| file.target.ancestors()).collect();
    known.extend(Path::new("/proc/self/fd").ancestors());
    let found: Vec<_> = text.trim_start_matches("ok ").lines().map(Path::new).collect();
    assert!(found.contains(&Path::new("/proc/self/fd")), "{text}");
    for path in found {
        let own = path.parent() == Some(Path::new("/proc/self/fd"));
        assert!(own || known.contains(&path), "`{}` is in the jail", path.display());
    }
    for what in ["read", "write", "process"] {
        let (text, _) = host.probe(what, Filter::Door).await;
        assert!(text.starts_with("failed"), "{what}: {text}");
    }
}

#[tokio::test]
async fn calls_that_are_not_listed_fail_and_deadly_ones_kill() {
    let host = host();
    for filter in [Filter::Door, Filter::Vmm] {
        assert_eq!(host.probe("thread", filter).await.0, "ok ran");
        let (text, _) = host.probe("signal", filter).await;
        assert!(text.starts_with("failed Function not implemented"), "{text}");
        for deadly in ["socket", "unshare", "mount", "setuid"] {
            let (text, end) = host.probe(deadly, filter).await;
            assert_eq!((text.as_str(), end.signal), ("", Some(nix::libc::SIGSYS)), "{deadly}");
        }
    }
    let (text, _) = host.probe("memfd", Filter::Door).await;
    assert!(text.starts_with("failed Function not implemented"), "{text}");
}

#[tokio::test]
async fn a_jail_whose_daemon_goes_away_is_gone_too() {
    let host = host();
    let mut probe = host.start("wait", Filter::Door).await;
    // It is up, and past the work of its loader.
    probe.output.read_exact(&mut [0]).unwrap();
    let process = find(&["probe", "wait", &host.jails.prefix]);
    // As the kernel does it for a daemon that is killed: the control socket closes.
    drop(probe.guarded);
    let gone = async {
        while process.exists() || std::fs::read_dir(&host.jails.folder).unwrap().count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("something is left");
    drop(probe.input);
}

#[tokio::test]
async fn a_jail_without_its_program_is_refused_by_name() {
    let host = host();
    let (log, log_end) = log_pipe().unwrap();
    let inmate = Inmate {
        name: "nothing".into(),
        program: "/nothing".into(),
        args: Vec::new(),
        env: Vec::new(),
        files: Vec::new(),
        descriptors: vec![(log_end, 2)],
        own_descriptors: false,
        filter: Filter::Door,
        limits: ProcessLimits { address_space: 1 << 30, data: 256 << 20, file_size: 0, descriptors: 64 },
        budget: Budget { memory: 64 << 20, pids: 8, cpu_millis: 1_000 },
    };
    let error = host.jails.start(inmate, log).await.unwrap_err().to_string();
    assert!(error.contains("`/nothing` could not be started"), "{error}");
    assert_eq!(std::fs::read_dir(&host.jails.folder).unwrap().count(), 0);
}
