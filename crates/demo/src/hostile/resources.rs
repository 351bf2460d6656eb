//! Attacks that use everything up. Each is bounded, so that it ends on a machine without limits as well.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use demo::report::Layer;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use sys::raw::sleeping_child;

use crate::probe::{KILLED, Place, Probe, Verdict, short};

/// Where a machine without limits is recognised.
const MOST_PROCESSES: usize = 2000;
const MOST_MEMORY: usize = 1 << 30;
const MOST_DISK: u64 = 1 << 30;
const MOST_SHARED: u64 = 1 << 30;
const MOST_FILES: usize = 16_384;

const fn probe(id: &'static str, title: &'static str, attempt: &'static str, run: fn() -> Verdict) -> Probe {
    let places: &[Place] = &[Place::Container, Place::FromContainer];
    Probe { id, title, attempt, layer: Layer::Container, places, deaths: KILLED, seconds: 240, run }
}

pub(crate) const PROBES: &[Probe] = &[
    probe("fork-bomb", "fork bomb", "makes processes until it can't, then ends them", fork_bomb),
    probe("file-descriptors", "open files", "opens files until it can't", open_files),
    probe("memory-fill", "memory fill", "takes and touches memory until it can't", memory_fill),
    probe("disk-fill", "disk fill", "writes to the disk until it can't", || fill_file("/var/tmp", MOST_DISK)),
    probe("shared-memory-fill", "shared memory fill", "writes to /dev/shm until it can't", || {
        fill_file("/dev/shm", MOST_SHARED)
    }),
];

fn fork_bomb() -> Verdict {
    let mut children = Vec::new();
    let stopped = loop {
        if children.len() >= MOST_PROCESSES {
            break None;
        }
        match sleeping_child() {
            Ok(pid) => children.push(Pid::from_raw(pid)),
            Err(e) => break Some(e),
        }
    };
    let made = children.len();
    for child in children {
        if let Err(e) = kill(child, Signal::SIGKILL).and_then(|()| waitpid(child, None)) {
            return Verdict::failed(format!("process {child} can't be ended: {e}"));
        }
    }
    match stopped {
        Some(e) => Verdict::blocked(format!("{} after {made} processes", short(&e))),
        None => Verdict::breached(format!("{made} processes, and more would be made")),
    }
}

fn open_files() -> Verdict {
    let mut files = Vec::new();
    while files.len() < MOST_FILES {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(e) => return Verdict::blocked(format!("{} after {} open files", short(&e), files.len())),
        }
    }
    Verdict::breached(format!("{} open files, and more would open", files.len()))
}

fn memory_fill() -> Verdict {
    use std::os::unix::process::ExitStatusExt as _;
    let child = Command::new("/proc/self/exe")
        .args(["--fill-memory", &MOST_MEMORY.to_string()])
        .stdin(Stdio::null())
        .output();
    let output = match child {
        Ok(output) => output,
        Err(e) => return Verdict::blocked(format!("no process to fill memory with: {}", short(&e))),
    };
    let last = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or("0 MiB").to_owned();
    match output.status.signal() {
        None if output.status.success() => Verdict::breached(format!("{last} taken, and more would be")),
        None => Verdict::blocked(format!("no more memory after {last}")),
        Some(signal) => Verdict::blocked(format!("killed by signal {signal} after {last}")),
    }
}

/// In a process of its own: takes so many bytes and touches them, saying how far it came.
pub(crate) fn fill(bytes: &str) -> ExitCode {
    const STEP: usize = 16 << 20;
    let Ok(bytes) = bytes.parse::<usize>() else { return ExitCode::from(2) };
    let mut taken: Vec<Vec<u8>> = Vec::new();
    while taken.len() * STEP < bytes {
        let mut part: Vec<u8> = Vec::new();
        if part.try_reserve_exact(STEP).is_err() {
            return ExitCode::FAILURE;
        }
        part.resize(STEP, u8::try_from(taken.len() % 255).unwrap_or(0) + 1);
        taken.push(part);
        if writeln!(std::io::stdout(), "{} MiB", (taken.len() * STEP) >> 20).is_err() {
            return ExitCode::FAILURE;
        }
    }
    drop(std::hint::black_box(taken));
    ExitCode::SUCCESS
}

fn fill_file(folder: &str, most: u64) -> Verdict {
    let path = Path::new(folder).join(format!("probe-fill-{}", std::process::id()));
    let mut file = match File::create(&path) {
        Ok(file) => file,
        Err(e) => return Verdict::blocked(format!("{folder} can't be written: {}", short(&e))),
    };
    // Without a name it goes when this process goes, even when the kernel kills it for memory.
    if let Err(e) = fs::remove_file(&path) {
        return Verdict::failed(format!("{} can't be removed: {e}", path.display()));
    }
    let chunk = vec![0xa5; 1 << 20];
    let mut written = 0_u64;
    let stopped = loop {
        if written >= most {
            break None;
        }
        if let Err(e) = file.write_all(&chunk) {
            break Some(e);
        }
        written += chunk.len() as u64;
    };
    let stopped = stopped.or_else(|| file.sync_all().err());
    match stopped {
        Some(e) => Verdict::blocked(format!("{} after {} MiB", short(&e), written >> 20)),
        None => Verdict::breached(format!("{} MiB written, and more would be", written >> 20)),
    }
}
