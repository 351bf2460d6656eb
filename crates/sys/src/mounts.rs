//! Restrictions on a mount that only ever add up (mount_setattr), so that locked flags of a mount stay as they are.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc;

/// What a mount may not do any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountRestriction {
    /// No writing.
    pub read_only: bool,
    /// No execution.
    pub no_exec: bool,
    /// No device files.
    pub no_dev: bool,
}

/// Adds a restriction, and always `nosuid`, to the mount at this path.
///
/// # Errors
/// When the kernel refuses, or is older than 5.12.
pub fn restrict(path: &Path, restriction: MountRestriction) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let mut set = libc::MOUNT_ATTR_NOSUID;
    for (wanted, flag) in [
        (restriction.read_only, libc::MOUNT_ATTR_RDONLY),
        (restriction.no_exec, libc::MOUNT_ATTR_NOEXEC),
        (restriction.no_dev, libc::MOUNT_ATTR_NODEV),
    ] {
        if wanted {
            set |= flag;
        }
    }
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is a C string and the attributes a `struct mount_attr` of the size given; both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            0,
            std::ptr::from_ref(&attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
