//! The root of a jail: an empty tmpfs with just its files, each mounted read-only, and nothing of the host behind it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Component, Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, mknod};
use sys::mounts::{MountRestriction, restrict};

use super::identity::Identity;
use super::spec::{FileAccess, JailFile, JailSpec};

/// Puts the root together at the mount point and makes it the root of this process.
pub(super) fn enter(spec: &JailSpec) -> io::Result<()> {
    let root = spec.mount_point.as_path();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOATIME;
    mount(Some("jail"), root, Some("tmpfs"), flags, Some("mode=0755,size=1m,nr_inodes=4096"))?;
    let mut made_devices = false;
    for file in &spec.files {
        let target = below(root, &file.target)?;
        made_devices |= place(file, &target, spec.identity).map_err(|e| at(&e, &file.source))?;
    }
    if spec.own_descriptors {
        let target = below(root, Path::new("/proc/self/fd"))?;
        folder(&target)?;
        bind(Path::new("/proc/self/fd"), &target)?;
    }
    restrict(root, MountRestriction { read_only: true, no_exec: false, no_dev: !made_devices })?;
    nix::unistd::chdir(root)?;
    nix::unistd::pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")?;
    Ok(())
}

/// Puts one file in its place; whether a device file was made in the root itself.
fn place(file: &JailFile, target: &Path, identity: Identity) -> io::Result<bool> {
    if let Some(parent) = target.parent() {
        folder(parent)?;
    }
    let restriction = match file.access {
        FileAccess::Read => MountRestriction { read_only: true, no_exec: true, no_dev: true },
        FileAccess::Execute => MountRestriction { read_only: true, no_exec: false, no_dev: true },
        FileAccess::Device => MountRestriction { read_only: true, no_exec: true, no_dev: false },
    };
    if let (FileAccess::Device, Identity::Alone { id }) = (file.access, identity) {
        make_device(&file.source, target, id)?;
        return Ok(true);
    }
    fs::OpenOptions::new().write(true).create_new(true).open(target)?;
    bind(&file.source, target)?;
    restrict(target, restriction)?;
    Ok(false)
}

/// A device file that belongs to the jail's own id: it would not be allowed to open the host's.
fn make_device(source: &Path, target: &Path, id: u32) -> io::Result<()> {
    let metadata = fs::metadata(source)?;
    if !metadata.file_type().is_char_device() {
        return Err(io::Error::other("not a character device"));
    }
    let device = std::os::unix::fs::MetadataExt::rdev(&metadata);
    mknod(target, SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), device)?;
    std::os::unix::fs::chown(target, Some(id), Some(id))
}

fn bind(source: &Path, target: &Path) -> io::Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

fn folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// The place of an absolute path of the jail below its root.
fn below(root: &Path, target: &Path) -> io::Result<PathBuf> {
    let mut place = root.to_path_buf();
    for part in target.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => place.push(name),
            Component::Prefix(_) | Component::CurDir | Component::ParentDir => {
                return Err(io::Error::other(format!("`{}` is not a plain path", target.display())));
            }
        }
    }
    if place == root {
        return Err(io::Error::other("a file of a jail needs a name"));
    }
    Ok(place)
}

fn at(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
}

/// The device files among a jail's files, by their paths inside.
pub(super) fn devices(spec: &JailSpec) -> BTreeSet<&Path> {
    spec.files.iter().filter(|f| f.access == FileAccess::Device).map(|f| f.target.as_path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_below_the_root() {
        let root = Path::new("/r");
        assert_eq!(below(root, Path::new("/a/b")).unwrap(), Path::new("/r/a/b"));
        for bad in ["/../etc/passwd", "/a/../../b", "/", ""] {
            assert!(below(root, Path::new(bad)).is_err(), "{bad}");
        }
    }
}
