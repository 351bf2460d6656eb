//! The two disks: the image, read-only and shared, and the agent's own, laid over it to be the container's root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};

use crate::boot::attach;
use crate::fault::{During, Fault};

/// Where the agent's disk is mounted.
pub(crate) const DISK: &str = "/disk";
/// Where the image is mounted.
pub(crate) const IMAGE: &str = "/image";
/// Where the container's root is: the agent's changes over the image.
pub(crate) const CELL: &str = "/cell";

/// The driver of the disks.
const DRIVER: &str = "/sys/bus/virtio/drivers/virtio_blk";

/// Lets a driver that is built into the kernel ask the disks for their sizes once more: in a clone it remembers those
/// of the template's empty disks. A driver that is a module has not been loaded yet.
pub(crate) fn look_again() -> Result<(), Fault> {
    bind_again(Path::new(DRIVER))
}

fn bind_again(driver: &Path) -> Result<(), Fault> {
    let what = "binding the disks to their driver again";
    let listed = match fs::read_dir(driver) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        listed => listed.during(what)?,
    };
    let names: Vec<_> =
        listed.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>().during(what)?;
    for name in names.iter().map(|name| name.to_string_lossy()).filter(|name| name.starts_with("virtio")) {
        for step in ["unbind", "bind"] {
            fs::write(driver.join(step), name.as_bytes()).during(format_args!("{what}: {step} `{name}`"))?;
        }
    }
    Ok(())
}

/// Mounts what the machine has. Without both disks there is no [`CELL`], and no container later.
pub(crate) fn mount_all() -> Result<(), Fault> {
    let hard = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let image = device(Path::new("/sys/block"), "image")?;
    let disk = device(Path::new("/sys/block"), "disk")?;
    if let Some(image) = &image {
        attach(image, IMAGE, "squashfs", hard | MsFlags::MS_RDONLY, None)?;
    }
    if let Some(disk) = &disk {
        attach(disk, DISK, "ext4", hard | MsFlags::MS_NOATIME, Some("errors=remount-ro"))?;
    }
    if image.is_some() && disk.is_some() { lay_over(hard) } else { Ok(()) }
}

fn lay_over(hard: MsFlags) -> Result<(), Fault> {
    for folder in ["/disk/root-upper", "/disk/root-work"] {
        match fs::create_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made
                .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o755)))
                .during(format_args!("making `{folder}`"))?,
        }
    }
    let options = "lowerdir=/image,upperdir=/disk/root-upper,workdir=/disk/root-work";
    attach("cell", CELL, "overlay", hard | MsFlags::MS_NOATIME, Some(options))
}

/// The path of the block device with this serial among those listed in this folder of sysfs.
fn device(blocks: &Path, serial: &str) -> Result<Option<String>, Fault> {
    for entry in fs::read_dir(blocks).during("listing the block devices")? {
        let entry = entry.during("listing the block devices")?;
        // Devices of other kinds (loop, ram) have no serial.
        if fs::read_to_string(entry.path().join("serial")).is_ok_and(|found| found.trim_end() == serial) {
            return Ok(Some(format!("/dev/{}", entry.file_name().to_string_lossy())));
        }
    }
    Ok(None)
}

/// Unmounts all three, so that the agent's disk is clean. What is not mounted is passed over.
pub(crate) fn unmount_all() -> Result<(), Fault> {
    [CELL, DISK, IMAGE].into_iter().try_for_each(|at| match umount2(at, MntFlags::empty()) {
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(error) => Err(error).during(format_args!("unmounting `{at}`")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_that_a_driver_has_are_bound_again_and_without_a_driver_nothing_is_done() {
        let driver = std::env::temp_dir().join(format!("lazaret-driver-{}", std::process::id()));
        bind_again(&driver).unwrap();
        for name in ["virtio1", "module", "bind", "unbind"] {
            fs::create_dir_all(&driver).unwrap();
            fs::write(driver.join(name), "").unwrap();
        }
        bind_again(&driver).unwrap();
        let written = ["unbind", "bind", "module"].map(|name| fs::read_to_string(driver.join(name)).unwrap());
        fs::remove_dir_all(&driver).unwrap();
        assert_eq!(written, ["virtio1", "virtio1", ""]);
    }

    #[test]
    fn a_disk_is_known_by_its_serial_only() {
        let blocks = std::env::temp_dir().join(format!("lazaret-blocks-{}", std::process::id()));
        for (name, serial) in [("vda", Some("disk")), ("vdb", Some("image\n")), ("loop0", None)] {
            fs::create_dir_all(blocks.join(name)).unwrap();
            if let Some(serial) = serial {
                fs::write(blocks.join(name).join("serial"), serial).unwrap();
            }
        }
        let found = ["image", "disk", "other"].map(|serial| device(&blocks, serial).unwrap());
        fs::remove_dir_all(&blocks).unwrap();
        assert_eq!(found, [Some("/dev/vdb".to_owned()), Some("/dev/vda".to_owned()), None]);
    }
}
