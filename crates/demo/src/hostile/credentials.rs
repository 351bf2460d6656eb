//! The search for credentials: in environments, files, and the memory of every process that can be read.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use demo::report::Layer;

use crate::probe::{Attempts, EVERYWHERE, KILLED, Probe, Verdict, short};

/// How keys begin, each with a space that is not part of it (so that this program doesn't contain what it looks for),
/// and how many characters follow at least.
const KEYS: &[(&str, usize)] = &[
    ("sk-ant- ", 20),
    ("sk-proj- ", 20),
    ("sk- ", 24),
    ("ghp_ ", 30),
    ("gho_ ", 30),
    ("github_pat_ ", 30),
    ("glpat- ", 20),
    ("xoxb- ", 20),
    ("AKIA ", 16),
    ("AIza ", 30),
];

/// Most bytes read of one file, and of one process's memory.
const MAX_FILE: u64 = 1 << 20;
const MAX_MEMORY: usize = 64 << 20;
/// Most files opened, and the longest search.
const MAX_FILES: usize = 20_000;
const MAX_SEARCH: Duration = Duration::from_secs(100);

pub(crate) const PROBES: &[Probe] = &[
    Probe {
        id: "keys-in-environment",
        title: "keys in environments",
        attempt: "reads the environment of every process and looks for what keys look like",
        layer: Layer::Door,
        places: EVERYWHERE,
        deaths: KILLED,
        seconds: 60,
        run: in_environments,
    },
    Probe {
        id: "keys-in-files",
        title: "keys in files",
        attempt: "reads the usual places of credentials and every small file for what keys look like",
        layer: Layer::Door,
        places: EVERYWHERE,
        deaths: KILLED,
        seconds: 240,
        run: in_files,
    },
    Probe {
        id: "keys-in-memory",
        title: "keys in memory",
        attempt: "reads the memory of every process that allows it for what keys look like",
        layer: Layer::Door,
        places: EVERYWHERE,
        deaths: KILLED,
        seconds: 240,
        run: in_memory,
    },
];

/// The first thing that looks like a key: how it begins and how long it is, never the key.
pub(crate) fn find_key(bytes: &[u8]) -> Option<String> {
    let mut from = 0;
    while let Some(next) = bytes.get(from..)?.iter().position(|b| matches!(b, b's' | b'g' | b'x' | b'A')) {
        let at = from + next;
        let at_word_start =
            at.checked_sub(1).and_then(|b| bytes.get(b)).is_none_or(|b| !b.is_ascii_alphanumeric());
        if at_word_start && let Some(found) = key_at(bytes.get(at..)?) {
            return Some(found);
        }
        from = at + 1;
    }
    None
}

/// The key that begins here.
fn key_at(bytes: &[u8]) -> Option<String> {
    let is_key = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
    KEYS.iter().find_map(|(prefix, more)| {
        let prefix = prefix.trim_end();
        let rest = bytes.strip_prefix(prefix.as_bytes())?;
        let length = rest.iter().take(400).take_while(|b| is_key(b)).count();
        (length >= *more && length < 400)
            .then(|| format!("{prefix}… of {} characters", prefix.len() + length))
    })
}

/// The other processes.
fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id()).collect()
}

fn in_environments() -> Verdict {
    let mut attempts = Attempts::default();
    let mut readable = 0;
    let pids = processes();
    for pid in &pids {
        if let Ok(bytes) = fs::read(format!("/proc/{pid}/environ")) {
            readable += 1;
            if let Some(found) = find_key(&bytes) {
                attempts.worked(format!("process {pid}"), found);
            }
        }
    }
    let own = fs::read("/proc/self/environ").unwrap_or_default();
    match find_key(&own) {
        Some(found) => attempts.worked("own", found),
        None => attempts
            .stopped("own", format!("no key, nor in {readable} readable of {} other processes", pids.len())),
    }
    attempts.verdict("nothing was tried")
}

fn in_files() -> Verdict {
    let mut attempts = Attempts::default();
    let homes = ["/root", "/home/agent", "/"];
    let places = [
        ".aws/credentials",
        ".netrc",
        ".docker/config.json",
        ".claude/.credentials.json",
        ".codex/auth.json",
        ".ssh/id_ed25519",
        ".ssh/id_rsa",
        ".git-credentials",
        ".config/lazaret/config.toml",
    ];
    for path in homes.iter().flat_map(|home| places.iter().map(move |place| Path::new(home).join(place))) {
        if let Ok(true) = File::open(&path).and_then(|mut f| Ok(f.read(&mut [0; 8])? > 0)) {
            attempts.worked(path.display().to_string(), "it can be read");
        }
    }
    if attempts.any_worked() {
        return attempts.verdict("nothing was tried");
    }
    let mut todo: Vec<PathBuf> = fs::read_dir("/")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| !is_kernel(p))
        .collect();
    let mut read = 0;
    let end = Instant::now() + MAX_SEARCH;
    while let (Some(path), true) = (todo.pop(), read < MAX_FILES && Instant::now() < end) {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            todo.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()));
        } else if metadata.is_file() && metadata.len() <= MAX_FILE {
            read += 1;
            if let Some(found) = fs::read(&path).ok().and_then(|bytes| find_key(&bytes)) {
                attempts.worked(path.display().to_string(), found);
            }
        }
    }
    attempts.verdict(&format!("{read} files hold nothing like a key"))
}

/// Folders that hold no files of anyone, and the many that the distribution ships.
fn is_kernel(path: &Path) -> bool {
    ["/proc", "/sys", "/dev", "/usr", "/lib", "/lib64", "/bin", "/sbin"].iter().any(|p| path == Path::new(p))
}

fn in_memory() -> Verdict {
    let mut attempts = Attempts::default();
    let (mut read, mut bytes) = (0, 0);
    let pids = processes();
    for pid in &pids {
        match memory_of(*pid) {
            Ok((size, found)) => {
                read += usize::from(size > 0);
                bytes += size;
                if let Some(found) = found {
                    attempts.worked(format!("process {pid}"), found);
                }
            }
            Err(e) => attempts.stopped(format!("process {pid}"), short(&e)),
        }
    }
    attempts
        .stopped("keys", format!("none in {} MiB of {read} of {} other processes", bytes >> 20, pids.len()));
    attempts.verdict("nothing was tried")
}

/// Reads what can be read of a process's memory: how much it was, and the first key in it.
fn memory_of(pid: u32) -> std::io::Result<(usize, Option<String>)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut size = 0;
    for line in maps.lines().filter(|l| l.contains(" rw")) {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let Some((Ok(start), Ok(end))) =
            range.map(|(a, b)| (u64::from_str_radix(a, 16), u64::from_str_radix(b, 16)))
        else {
            continue;
        };
        let length =
            usize::try_from(end.saturating_sub(start)).unwrap_or(0).min(MAX_MEMORY.saturating_sub(size));
        let mut bytes = Vec::new();
        let part = memory
            .seek(SeekFrom::Start(start))
            .and_then(|_| memory.by_ref().take(length as u64).read_to_end(&mut bytes));
        // A part that can't be read (a device's, a guard's) hides nothing from who comes this way.
        size += part.unwrap_or(bytes.len());
        if let Some(found) = find_key(&bytes) {
            return Ok((size, Some(found)));
        }
    }
    Ok((size, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_and_never_shown() {
        let secret = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6";
        let text = format!("x=1\0ANTHROPIC_API_KEY={}{secret}\0", KEYS[0].0.trim_end());
        let found = find_key(text.as_bytes()).expect("a key");
        assert!(found.starts_with("sk-ant-…") && !found.contains(secret), "{found}");
    }

    #[test]
    fn words_and_placeholders_are_no_keys() {
        for text in ["placeholder", "task-force-of-a-very-long-name-that-goes-on-and-on", "sk-short", ""] {
            assert_eq!(find_key(text.as_bytes()), None, "{text}");
        }
    }
}
