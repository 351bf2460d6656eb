//! An agent's disk: a sparse file with an empty ext4 at first. The host opens and locks it, and never looks inside.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use domain::ByteSize;
use rustix::fs::{FlockOperation, OFlags, flock};

use crate::store;

/// Why a disk can't be had.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Another cell has it.
    #[error("the disk `{0}` is in use by another cell")]
    InUse(String),
    /// It could not be made.
    #[error("the disk could not be made by `mke2fs`: {0}")]
    Make(String),
    /// It could not be opened.
    #[error("the disk can't be opened: {0}")]
    Io(#[from] io::Error),
}

const MAKERS: &[&str] = &["/usr/sbin/mke2fs", "/sbin/mke2fs"];

/// Makes an empty disk of this size where there is none yet.
///
/// # Errors
/// When there is no `mke2fs`, or no room.
pub(crate) fn make_if_missing(path: &Path, size: ByteSize) -> Result<(), DiskError> {
    if path.exists() {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    store::private_folder(folder)?;
    let file = tempfile::Builder::new().prefix(store::UNFINISHED).tempfile_in(folder)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
    file.as_file().set_len(size.as_u64())?;
    let maker = MAKERS
        .iter()
        .find(|path| Path::new(path).exists())
        .ok_or_else(|| DiskError::Make("it is not installed (`apt-get install e2fsprogs`)".into()))?;
    let output = Command::new(maker)
        .args([
            "-q",
            "-F",
            "-t",
            "ext4",
            "-m",
            "0",
            "-E",
            "root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1,nodiscard",
        ])
        .arg(file.path())
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|e| DiskError::Make(e.to_string()))?;
    if !output.status.success() {
        return Err(DiskError::Make(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|e| e.error)?;
    Ok(())
}

/// Opens a disk for one cell alone. The lock lives as long as any copy of the descriptor, the machine's too.
pub(crate) fn open_disk(path: &Path) -> Result<OwnedFd, DiskError> {
    let file = open(path, true)?;
    match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DiskError::InUse(path.display().to_string())),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

/// Opens an image, which many cells share.
pub(crate) fn open_image(path: &Path) -> Result<OwnedFd, DiskError> {
    open(path, false)
}

/// Only a regular file, itself and no link to one.
fn open(path: &Path, write: bool) -> Result<OwnedFd, DiskError> {
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file = fs::OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(no_follow)
        .open(path)
        .map_err(|e| store::at(&e, path))?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("`{}` is not a regular file", path.display())).into());
    }
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_made_once_sparse_and_opened_by_one_cell_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent/disk");
        make_if_missing(&path, ByteSize::mib(64)).unwrap();
        let made = fs::metadata(&path).unwrap();
        assert_eq!(made.len(), 64 << 20);
        assert_eq!(made.permissions().mode() & 0o777, 0o600);
        assert!(std::os::unix::fs::MetadataExt::blocks(&made) * 512 < 8 << 20);
        make_if_missing(&path, ByteSize::mib(128)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 64 << 20, "an existing disk was made anew");
        let first = open_disk(&path).unwrap();
        assert!(matches!(open_disk(&path), Err(DiskError::InUse(_))));
        let copy = first.try_clone().unwrap();
        drop(first);
        assert!(
            matches!(open_disk(&path), Err(DiskError::InUse(_))),
            "the lock went with the first descriptor"
        );
        drop(copy);
        open_disk(&path).unwrap();
    }

    #[test]
    fn links_and_folders_are_not_disks() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(open_image(&link).is_err());
        assert!(open_image(folder.path()).is_err());
    }
}
