//! What becomes the container's init: a child of PID 1 in namespaces of its own, which makes its root, gives up every
//! right, and executes this program anew.
//!
//! It has the memory and the descriptors of PID 1 until then, and meets nothing that an agent could have changed but
//! names in the tree of `prepare`, which are folders and files.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setgroups, sethostname, setresgid, setresuid, setsid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use sys::mounts::{MountRestriction, restrict};

use super::packets::{self, FromInit};
use super::{filter, plan};
use crate::disks::CELL;
use crate::fault::{During, Fault};

/// What the child gets from PID 1.
pub(crate) struct Inheritance<'a> {
    /// The init's end of the link.
    pub(crate) link: OwnedFd,
    /// Brings one byte once the ids are mapped.
    pub(crate) go: File,
    /// The cell's name.
    pub(crate) host_name: &'a str,
    /// The container's memory.
    pub(crate) memory: u64,
}

/// Becomes the init. Where that fails, says so over the link and ends.
pub(crate) fn run(inheritance: Inheritance<'_>) -> ! {
    let told = inheritance.link.try_clone();
    let Err(fault) = confine(inheritance);
    if let Ok(link) = told {
        let why = format!("the container could not be made: {fault}");
        // When PID 1 is gone, so is the machine.
        drop(packets::send(&link, &FromInit::Unprotected { why }, &[]));
    }
    std::process::exit(1)
}

fn confine(mut inheritance: Inheritance<'_>) -> Result<Infallible, Fault> {
    inheritance.go.read_exact(&mut [0]).during("waiting for ids")?;
    setsid().during("making a session")?;
    // Once more, now that this process is in its cgroup: that one is the root from here on.
    unshare(CloneFlags::CLONE_NEWCGROUP).during("making a cgroup namespace")?;
    let root = (Uid::from_raw(0), Gid::from_raw(0));
    become_user(root).during("becoming root of the namespaces")?;
    sethostname(inheritance.host_name).during("setting the host name")?;
    enter_root(inheritance.memory)?;
    hide_kernel_files()?;
    umask(Mode::from_bits_truncate(0o022));
    lower_bounds().during("lowering the bounding set")?;
    become_user((Uid::from_raw(plan::AGENT), Gid::from_raw(plan::AGENT)))
        .during("becoming the agent's user")?;
    drop_capabilities().during("dropping capabilities")?;
    execute(inheritance.link)
}

/// The last group of ids that is taken is that of the agent, without a way back.
fn become_user((uid, gid): (Uid, Gid)) -> io::Result<()> {
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    Ok(setresuid(uid, uid, uid)?)
}

/// Mounts everything below the agent's tree and makes it the root. What was the root is gone then.
fn enter_root(memory: u64) -> Result<(), Fault> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .during("keeping mounts to oneself")?;
    mount(Some(CELL), CELL, none, MsFlags::MS_BIND, none).during("mounting the root")?;
    for one in plan::mounts(memory) {
        place(&one).during(format_args!("mounting `{}`", one.at))?;
    }
    devices().during("filling /dev")?;
    let moved = (|| {
        nix::unistd::chdir(CELL)?;
        nix::unistd::pivot_root(".", ".")?;
        umount2(".", MntFlags::MNT_DETACH)?;
        nix::unistd::chdir("/")
    })();
    moved.during("changing the root")
}

fn place(one: &plan::Mount) -> io::Result<()> {
    let at = format!("{CELL}{}", one.at);
    let none = None::<&str>;
    if let Some(kind) = one.kind {
        // On the agent's tree the folder is there already; in file systems made here it isn't.
        fs::create_dir_all(&at)?;
        return Ok(mount(Some(one.source), at.as_str(), Some(kind), one.flags, Some(one.options.as_str()))?);
    }
    if Path::new(one.source).is_dir() {
        fs::create_dir_all(&at)?;
    }
    mount(Some(one.source), at.as_str(), none, MsFlags::MS_BIND, none)?;
    let has = |flag| one.flags.contains(flag);
    restrict(
        Path::new(&at),
        MountRestriction {
            read_only: has(MsFlags::MS_RDONLY),
            no_exec: has(MsFlags::MS_NOEXEC),
            no_dev: has(MsFlags::MS_NODEV),
        },
    )
}

/// No device can be made in a user namespace, so the guest's are shown.
fn devices() -> io::Result<()> {
    let none = None::<&str>;
    for name in plan::DEVICES {
        let at = format!("{CELL}/dev/{name}");
        fs::write(&at, [])?;
        mount(Some(format!("/dev/{name}").as_str()), at.as_str(), none, MsFlags::MS_BIND, none)?;
    }
    plan::LINKS.iter().try_for_each(|(name, target)| symlink(target, format!("{CELL}/dev/{name}")))
}

/// Hides what the kernel tells of itself, and makes read-only what would change it.
fn hide_kernel_files() -> Result<(), Fault> {
    let none = None::<&str>;
    for path in plan::READ_ONLY {
        let hold = || {
            mount(Some(*path), *path, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
            restrict(Path::new(path), MountRestriction { read_only: true, no_exec: true, no_dev: true })
        };
        hold().during(format_args!("making `{path}` read-only"))?;
    }
    for path in plan::MASKED {
        let hidden = match fs::symlink_metadata(path) {
            // This kernel doesn't have it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => Err(error),
            Ok(found) if found.is_dir() => {
                let hard = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
                mount(Some("tmpfs"), *path, Some("tmpfs"), hard | MsFlags::MS_RDONLY, Some("size=0k"))
                    .map_err(io::Error::from)
            }
            Ok(_) => mount(Some("/dev/null"), *path, none, MsFlags::MS_BIND, none).map_err(io::Error::from),
        };
        hidden.during(format_args!("hiding `{path}`"))?;
    }
    Ok(())
}

/// No program that this process becomes can ever have a capability.
fn lower_bounds() -> io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // The kernel is older than this capability.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn drop_capabilities() -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Nothing of PID 1 is left in the program that this becomes: not its memory, nor a descriptor besides the link.
fn execute(link: OwnedFd) -> Result<Infallible, Fault> {
    let text = |text: String| CString::new(text).during("preparing the init");
    let program = text(plan::PROGRAM.to_owned())?;
    let arguments = [program.clone(), text("container".to_owned())?];
    let environment = [text(format!("PATH={}", plan::PATH))?, text("HOME=/home/agent".to_owned())?];
    let filter = filter::program();
    let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
    let streams =
        vec![(link, 0), (null().during("opening /dev/null")?, 1), (null().during("opening /dev/null")?, 2)];
    let spare = null().during("opening /dev/null")?;
    sys::descriptors::arrange(streams, spare).during("arranging descriptors")?;
    rustix::thread::set_no_new_privs(true).during("forbidding new privileges")?;
    seccompiler::apply_filter(&filter).during("setting the filter of system calls")?;
    nix::unistd::execve(&program, &arguments, &environment).during("executing the init")
}
