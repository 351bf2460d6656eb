//! The inside of a jail: process 1 of its namespaces takes everything from itself, step by step, then becomes the
//! program.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::sys::resource::{Resource, setrlimit};
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::identity::{INSIDE_ID, Identity};
use super::spec::{InsideReport, JailSpec};
use super::{root, syscalls};
use crate::wall::Wall;

/// What the inside has from before the fork.
pub(super) struct Handed {
    /// The program's descriptors, in the order of the spec.
    pub(super) descriptors: Vec<OwnedFd>,
    /// Gives one byte when the supervisor has done its part.
    pub(super) go: OwnedFd,
    /// Where to say how it went.
    pub(super) report: OwnedFd,
    /// User and group id outside.
    pub(super) ids: (u32, u32),
}

/// Sets the jail up and becomes the program. Returns only when that failed; the reason has been sent by then.
pub(super) fn become_program(spec: &JailSpec, handed: Handed) {
    let mut report = fs::File::from(handed.report);
    let prepared =
        numbered(spec, handed.descriptors).and_then(|fds| Ok((fds, set_up(spec, handed.go, handed.ids)?)));
    let why = match prepared {
        Ok((fds, missing)) => match finish(spec, fds, report, missing) {
            Ok(never) => match never {},
            Err((error, back)) => {
                report = back;
                error
            }
        },
        Err(error) => error,
    };
    say(&mut report, &InsideReport::Failed { why });
}

/// Everything that still needs rights. Returns the walls that are missing.
fn set_up(spec: &JailSpec, go: OwnedFd, ids: (u32, u32)) -> Result<Vec<String>, String> {
    let step = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    wait_for_go(go).map_err(step("the supervisor is gone"))?;
    // Where unprivileged user namespaces are restricted, they can be made, but nothing can be done in them.
    let namespaced = |what: &'static str| {
        move |error: io::Error| match spec.identity {
            Identity::Alone { .. } => format!("{what}: {error}"),
            Identity::Subordinate { .. } | Identity::Own => {
                format!("{what}: {error}; {}", Wall::Namespaces.advice())
            }
        }
    };
    if spec.identity == Identity::Own {
        map_own_id(ids.0, ids.1).map_err(namespaced("the user namespace could not be set up"))?;
    }
    nix::unistd::setsid().map_err(io::Error::from).map_err(step("no session of its own"))?;
    nix::unistd::sethostname("cell").map_err(io::Error::from).map_err(step("no host name"))?;
    let proc_self = rustix::fs::open("/proc/self", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(io::Error::from)
        .map_err(step("no `/proc/self`"))?;
    root::enter(spec).map_err(namespaced("the jail's root could not be made"))?;
    limit(spec).map_err(step("the limits could not be set"))?;
    take_ids(spec.identity).map_err(step("the ids could not be taken"))?;
    let mut missing = Vec::new();
    if let Err(error) = inner_user_namespace(&proc_self) {
        degrade(Wall::InnerUserNamespace, &error, spec.identity, &mut missing)?;
    }
    drop_capabilities().map_err(step("the capabilities could not be dropped"))?;
    rustix::thread::set_no_new_privs(true).map_err(|e| format!("no_new_privs could not be set: {e}"))?;
    if let Some(why) = restrict_by_landlock(spec) {
        missing.push(format!("{}: {why}", Wall::Landlock.name()));
    }
    Ok(missing)
}

/// The last steps, after which nothing of ours is left. Gives the report's pipe back on failure.
fn finish(
    spec: &JailSpec,
    fds: Vec<(OwnedFd, i32)>,
    report: fs::File,
    missing: Vec<String>,
) -> Result<std::convert::Infallible, (String, fs::File)> {
    let prepared = (|| {
        let (program, args, env) = command(spec)?;
        let filters = syscalls::compile(spec.filter).map_err(|e| format!("the system call filter: {e}"))?;
        // A change of ids clears it, so it comes after them.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|e| format!("no parent-death signal: {e}"))?;
        Ok((program, args, env, filters))
    })();
    let (program, args, env, filters) = match prepared {
        Ok(prepared) => prepared,
        Err(why) => return Err((why, report)),
    };
    let report = match report.try_clone().and_then(|copy| sys::descriptors::arrange(fds, copy.into())) {
        Ok(kept) => fs::File::from(kept),
        Err(error) => return Err((format!("the descriptors could not be arranged: {error}"), report)),
    };
    let mut report = report;
    say(&mut report, &InsideReport::Ready { missing });
    for filter in &filters {
        if let Err(error) = seccompiler::apply_filter(filter) {
            return Err((format!("the system call filter could not be set: {error}"), report));
        }
    }
    match nix::unistd::execve(&program, &args, &env) {
        Ok(never) => Ok(never),
        Err(error) => Err((format!("`{}` could not be started: {error}", spec.program), report)),
    }
}

fn say(report: &mut fs::File, what: &InsideReport) {
    if let Ok(mut line) = serde_json::to_vec(what) {
        line.push(b'\n');
        // When the supervisor is gone there is nobody to tell, and this process is killed.
        drop(report.write_all(&line));
    }
}

fn degrade(
    wall: Wall,
    error: &io::Error,
    identity: Identity,
    missing: &mut Vec<String>,
) -> Result<(), String> {
    let why = format!("{}: {error}", wall.name());
    // Without root's ids, the outer user namespace is the program's own too: one of its own inside is not optional.
    if matches!(identity, Identity::Alone { .. }) {
        missing.push(why);
        Ok(())
    } else {
        Err(why)
    }
}

/// The supervisor writes one byte once cgroup and ids are in place.
fn wait_for_go(go: OwnedFd) -> io::Result<()> {
    io::Read::read_exact(&mut fs::File::from(go), &mut [0_u8])
}

/// Inside a fresh user namespace this process has no ids, so they come from before the fork.
fn map_own_id(uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

fn limit(spec: &JailSpec) -> io::Result<()> {
    for (resource, value) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_AS, spec.limits.address_space),
        (Resource::RLIMIT_DATA, spec.limits.data),
        (Resource::RLIMIT_FSIZE, spec.limits.file_size),
        (Resource::RLIMIT_NOFILE, spec.limits.descriptors),
        (Resource::RLIMIT_MSGQUEUE, 0),
    ] {
        setrlimit(resource, value, value)?;
    }
    Ok(())
}

/// Becomes the jail's own user. Supplementary groups go where that is possible: a user's own stay, since the kernel
/// lets nobody drop groups (which may be there to deny) without privileges.
fn take_ids(identity: Identity) -> io::Result<()> {
    let id = match identity {
        Identity::Alone { id } => id,
        Identity::Subordinate { .. } => INSIDE_ID,
        Identity::Own => return Ok(()),
    };
    nix::unistd::setgroups(&[])?;
    let (uid, gid) = (nix::unistd::Uid::from_raw(id), nix::unistd::Gid::from_raw(id));
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    // The change of ids made this process undumpable, and with that its files in /proc root's.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    Ok(())
}

/// One more user namespace, where only the program's own id exists: the program owns neither mounts nor network.
fn inner_user_namespace(proc_self: &OwnedFd) -> io::Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)?;
    for (file, content) in [
        ("uid_map", format!("{uid} {uid} 1")),
        ("setgroups", "deny".to_owned()),
        ("gid_map", format!("{gid} {gid} 1")),
    ] {
        let file = rustix::fs::openat(proc_self, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        fs::File::from(file).write_all(content.as_bytes())?;
    }
    Ok(())
}

fn drop_capabilities() -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    for capability in CapabilitySet::all().iter() {
        match rustix::thread::capability_is_in_bounding_set(capability) {
            Ok(true) => match rustix::thread::remove_capability_from_bounding_set(capability) {
                // Without a user namespace of its own, a program that is not root has no right to drop from the
                // bounding set; nothing can raise its capabilities from there, for want of privileged programs.
                Err(rustix::io::Errno::PERM) => {}
                result => result?,
            },
            Ok(false) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    )?;
    Ok(())
}

/// Landlock as far as this kernel has it; says what is missing.
fn restrict_by_landlock(spec: &JailSpec) -> Option<String> {
    let restrict = || -> Result<RulesetStatus, landlock::RulesetError> {
        let abi = ABI::V6;
        let read = AccessFs::from_read(abi);
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::from_all(abi))?
            .scope(Scope::from_all(abi))?
            .create()?;
        for (path, access) in std::iter::once((Path::new("/"), read))
            .chain(root::devices(spec).into_iter().map(|path| (path, device_access())))
        {
            let Ok(path) = PathFd::new(path) else { continue };
            rules = rules.add_rule(PathBeneath::new(path, access))?;
        }
        Ok(rules.restrict_self()?.ruleset)
    };
    match restrict() {
        Ok(RulesetStatus::FullyEnforced) => None,
        Ok(RulesetStatus::PartiallyEnforced) => Some("this kernel has only an older version of it".into()),
        Ok(RulesetStatus::NotEnforced) => Some("this kernel doesn't have it".into()),
        Err(error) => Some(error.to_string()),
    }
}

fn device_access() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev
}

type Command = (CString, Vec<CString>, Vec<CString>);

fn command(spec: &JailSpec) -> Result<Command, String> {
    let c = |text: String| CString::new(text).map_err(|_| "an argument contains a zero byte".to_owned());
    let program = c(spec.program.clone())?;
    let args = std::iter::once(&spec.program).chain(&spec.args).cloned().map(c).collect::<Result<_, _>>()?;
    let env = spec.env.iter().map(|(name, value)| c(format!("{name}={value}"))).collect::<Result<_, _>>()?;
    Ok((program, args, env))
}

fn numbered(spec: &JailSpec, descriptors: Vec<OwnedFd>) -> Result<Vec<(OwnedFd, i32)>, String> {
    let mut fds: Vec<_> = descriptors.into_iter().zip(spec.descriptors.iter().copied()).collect();
    let named: Vec<_> = spec.descriptors.clone();
    for number in (0..=2).filter(|number| !named.contains(number)) {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| format!("`/dev/null` can't be opened: {e}"))?;
        fds.push((null, number));
    }
    Ok(fds)
}
