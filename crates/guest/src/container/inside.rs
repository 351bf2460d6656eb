//! The container's protections, each checked from inside by what it does, not by what was asked for.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};
use sys::attempt::Attempt;

use super::plan::{AGENT, DEVICES, MASKED, NOBODY, READ_ONLY};
use super::prepare::PROBE;
use super::status::Status;
use crate::fault::{During, Fault};

/// What was verified: the name of each protection with what was seen.
pub(crate) type Verified = Vec<(String, String)>;

/// Looks at one protection and says what it saw.
type Check = fn() -> Result<String, Fault>;

/// Checks all of them.
///
/// # Errors
/// Names the first that is missing.
pub(crate) fn verify() -> Result<Verified, Fault> {
    let checks: [(&str, Check); 10] = [
        ("user", user),
        ("capabilities", capabilities),
        ("no_new_privs", no_new_privs),
        ("seccomp", seccomp),
        ("landlock", landlock),
        ("pid namespace", process_one),
        ("mounts", mounts),
        ("kernel files", kernel_files),
        ("devices", devices),
        ("network", network),
    ];
    checks
        .into_iter()
        .map(|(name, check)| {
            let seen = check()
                .map_err(|fault| Fault::new(format!("the protection `{name}` is missing: {fault}")))?;
            Ok((name.to_owned(), seen))
        })
        .collect()
}

fn own_status() -> Result<Status, Fault> {
    fs::read_to_string("/proc/self/status")
        .during("reading /proc/self/status")
        .map(|text| Status::parse(&text))
}

fn user() -> Result<String, Fault> {
    own_status()?.runs_as(AGENT)?;
    let map = fs::read_to_string("/proc/self/uid_map").during("reading /proc/self/uid_map")?;
    let mapped: Vec<Vec<&str>> = map.lines().map(|line| line.split_whitespace().collect()).collect();
    let (nobody, agent) = (NOBODY.to_string(), AGENT.to_string());
    if mapped != [["0", &nobody, "1"], [&agent, &agent, "1"]] {
        return Err(Fault::new(format!("unexpected user ids are mapped: {mapped:?}")));
    }
    Ok(format!("uid and gid {AGENT}, root is nobody"))
}

fn capabilities() -> Result<String, Fault> {
    own_status()?.has_no_capabilities().map(|()| "all five sets are empty".to_owned())
}

fn no_new_privs() -> Result<String, Fault> {
    own_status()?.field("NoNewPrivs", "1").map(|()| "set".to_owned())
}

/// Tries what must be denied and holds the answer against the filter's own.
fn seccomp() -> Result<String, Fault> {
    own_status()?.field("Seccomp", "2")?;
    for attempt in Attempt::ALL {
        let wanted = match attempt {
            Attempt::CloneNamespace
            | Attempt::Clone3
            | Attempt::IoUring
            | Attempt::PacketSocket
            | Attempt::RawSocket
            | Attempt::VmSocket
            | Attempt::CryptoSocket => Errno::ENOSYS,
            Attempt::UserNamespace
            | Attempt::Mount
            | Attempt::Bpf
            | Attempt::Keyring
            | Attempt::UserFaults
            | Attempt::Trace
            | Attempt::Perf => Errno::EPERM,
        };
        match attempt.perform() {
            Err(error) if error.raw_os_error() == Some(wanted as i32) => {}
            Err(error) => return Err(Fault::new(format!("`{attempt}` met `{error}`, not the filter"))),
            Ok(()) => return Err(Fault::new(format!("`{attempt}` works"))),
        }
    }
    Ok(format!("filter on, {} forbidden calls denied", Attempt::ALL.len()))
}

/// The folder is the agent's own, so nothing but Landlock can keep it from being written.
fn landlock() -> Result<String, Fault> {
    let owner = fs::metadata(PROBE).during("looking at Landlock's probe")?.uid();
    if owner != AGENT {
        return Err(Fault::new(format!("its probe belongs to user {owner}")));
    }
    match fs::write(Path::new(PROBE).join("written"), []) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Ok("a folder of the agent's own can't be written".to_owned())
        }
        Err(error) => Err(Fault::new(format!("its probe met `{error}`"))),
        Ok(()) => Err(Fault::new("its probe could be written")),
    }
}

fn process_one() -> Result<String, Fault> {
    match std::process::id() {
        1 => Ok("this is process 1".to_owned()),
        id => Err(Fault::new(format!("this is process {id}"))),
    }
}

/// Every mount forbids set-user-id, and only single devices may be devices.
fn mounts() -> Result<String, Fault> {
    let table = fs::read_to_string("/proc/self/mountinfo").during("reading /proc/self/mountinfo")?;
    let mut count = 0_usize;
    for line in table.lines() {
        let mut fields = line.split(' ').skip(4);
        let (at, options) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let has = |option: &str| options.split(',').any(|found| found == option);
        // What hides a file is `/dev/null`, what hides a folder is empty and read-only.
        if MASKED.contains(&at) {
            continue;
        }
        // Device nodes can be made only by the guest's root, which mounts nothing here but single ones.
        let dev = at == "/dev" || at.starts_with("/dev/");
        if !has("nosuid") || !(has("nodev") || dev) {
            return Err(Fault::new(format!("`{at}` is mounted with `{options}`")));
        }
        count += 1;
    }
    if table.lines().any(|line| line.contains("/newroot") || line.contains("/disk ")) {
        return Err(Fault::new("mounts of the guest are visible"));
    }
    Ok(format!("{count} mounts, all nosuid"))
}

fn kernel_files() -> Result<String, Fault> {
    for path in READ_ONLY {
        let flags = statvfs(*path).during(format_args!("looking at `{path}`"))?.flags();
        if !flags.contains(FsFlags::ST_RDONLY) {
            return Err(Fault::new(format!("`{path}` is not read-only")));
        }
    }
    let mut hidden = 0_usize;
    for path in MASKED {
        let Ok(found) = fs::metadata(path) else { continue };
        let empty = if found.is_dir() {
            fs::read_dir(path).during(format_args!("listing `{path}`"))?.next().is_none()
        } else {
            found.file_type().is_char_device() && found.rdev() == nix::sys::stat::makedev(1, 3)
        };
        if !empty {
            return Err(Fault::new(format!("`{path}` is not hidden")));
        }
        hidden += 1;
    }
    Ok(format!("{hidden} hidden, {} read-only", READ_ONLY.len()))
}

/// `/dev` holds exactly what was asked for, so there is no other device, the channel's above all.
fn devices() -> Result<String, Fault> {
    const BESIDES: [&str; 8] = ["fd", "kcore", "ptmx", "pts", "shm", "stderr", "stdin", "stdout"];
    let mut found = 0_usize;
    for entry in fs::read_dir("/dev").during("listing /dev")? {
        let name = entry.during("listing /dev")?.file_name();
        let name = name.to_string_lossy();
        if DEVICES.contains(&&*name) {
            found += 1;
        } else if !BESIDES.contains(&&*name) {
            return Err(Fault::new(format!("there is a device `{name}`")));
        }
    }
    if found == DEVICES.len() {
        Ok(DEVICES.join(" "))
    } else {
        Err(Fault::new(format!("{found} of {} devices are there", DEVICES.len())))
    }
}

fn network() -> Result<String, Fault> {
    let table = fs::read_to_string("/proc/self/net/dev").during("reading /proc/self/net/dev")?;
    let interfaces: Vec<&str> =
        table.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
    if interfaces == ["lo"] {
        Ok("only loopback".to_owned())
    } else {
        Err(Fault::new(format!("there are interfaces {interfaces:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of these every unconfined process is known to lack.
    #[test]
    fn a_process_that_is_not_confined_is_found_out() {
        for check in [user, capabilities, landlock, process_one, devices] as [Check; 5] {
            assert!(check().is_err());
        }
        let missing = verify().unwrap_err().to_string();
        assert!(missing.starts_with("the protection `user` is missing"), "{missing}");
    }
}
