//! The first moments of PID 1: a root of its own that is not the initramfs, kernel modules, then the early questions.
//!
//! Nothing here depends on the cell, so a template is saved right after it. In particular nothing reads
//! `/proc/sys/kernel/random/boot_id`, which the kernel makes up when it is first read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use crate::fault::{During, Fault};
use crate::{channel, container, disks, early, machine};

/// Where the initramfs shows its modules, before and after the change of root.
const MODULES: &str = "/modules";

/// Modules of disks and their file systems.
const DISK_MODULES: &str = "/modules/disk";

/// Boots, then answers early questions until the machine is born and this program is executed anew.
pub(crate) fn run() -> Result<(), Fault> {
    machine::power_off_on_panic();
    change_root()?;
    load_modules(Path::new(MODULES))?;
    disks::leave_alone()?;
    load_modules(Path::new(DISK_MODULES))?;
    container::lay_ground()?;
    early::answer(channel::open()?)
}

/// Makes a small tmpfs the root. The initramfs can't be one: its mount can't be left, and a process in a mere chroot
/// may not make a user namespace.
fn change_root() -> Result<(), Fault> {
    const NEW: &str = "/newroot";
    fs::create_dir_all(NEW).during("making /newroot")?;
    let hard = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    attach("tmpfs", NEW, "tmpfs", hard, Some("size=8m,mode=755"))?;
    for folder in ["proc", "sys", "dev", "run", "image", "disk", "cell", "modules"] {
        fs::create_dir(format!("{NEW}/{folder}")).during(format_args!("making /{folder}"))?;
    }
    attach("proc", "/newroot/proc", "proc", hard | MsFlags::MS_NOEXEC, None)?;
    attach("sysfs", "/newroot/sys", "sysfs", hard | MsFlags::MS_NOEXEC, None)?;
    attach(
        "devtmpfs",
        "/newroot/dev",
        "devtmpfs",
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        Some("mode=755"),
    )?;
    attach("tmpfs", "/newroot/run", "tmpfs", hard | MsFlags::MS_NOEXEC, Some("size=8m,mode=700"))?;
    attach("cgroup2", "/newroot/sys/fs/cgroup", "cgroup2", hard | MsFlags::MS_NOEXEC, None)?;
    bind_file("/init", "/newroot/lazaret-guest")?;
    if Path::new(MODULES).is_dir() {
        attach(MODULES, "/newroot/modules", "none", MsFlags::MS_BIND, None)?;
    }
    nix::unistd::chdir(NEW).during("entering /newroot")?;
    attach(".", "/", "none", MsFlags::MS_MOVE, None)?;
    nix::unistd::chroot(".").during("changing the root")?;
    nix::unistd::chdir("/").during("entering the new root")
}

/// Mounts one file system.
pub(crate) fn attach(
    source: &str,
    at: &str,
    kind: &str,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<(), Fault> {
    mount(Some(source), at, Some(kind), flags, options)
        .during(format_args!("mounting `{source}` ({kind}) at `{at}`"))
}

fn bind_file(from: &str, to: &str) -> Result<(), Fault> {
    fs::write(to, []).during(format_args!("making `{to}`"))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o555)).during(format_args!("making `{to}`"))?;
    attach(from, to, "none", MsFlags::MS_BIND, None)?;
    attach("none", to, "none", MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None)
}

/// Loads every `*.ko` that lies directly in this folder, in the order of their names, and frees the memory of each.
fn load_modules(folder: &Path) -> Result<(), Fault> {
    if !folder.is_dir() {
        return Ok(());
    }
    for path in modules_of(folder)? {
        let file = fs::File::open(&path).during(format_args!("opening `{}`", path.display()))?;
        rustix::system::finit_module(&file, c"", 0).during(format_args!("loading `{}`", path.display()))?;
        fs::remove_file(&path).during(format_args!("removing `{}`", path.display()))?;
    }
    Ok(())
}

fn modules_of(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).during(format_args!("listing `{}`", folder.display()))? {
        let path = entry.during(format_args!("listing `{}`", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "ko") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_taken_in_the_order_of_their_names_and_only_from_the_folder_itself() {
        let folder = std::env::temp_dir().join(format!("lazaret-modules-{}", std::process::id()));
        fs::create_dir_all(folder.join("disk")).unwrap();
        for name in ["10-b.ko", "02-a.ko", "notes.txt", "disk/01-c.ko"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let names: Vec<_> = modules_of(&folder)
            .unwrap()
            .into_iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(names, ["02-a.ko", "10-b.ko"]);
    }
}
