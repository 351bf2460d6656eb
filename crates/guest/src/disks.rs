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

/// The bus of the disks, as the kernel shows it.
const BUS: &str = "/sys/bus/virtio";

/// What a disk is on the bus: `VIRTIO_ID_BLOCK`.
const KIND: &str = "0x0002";

/// Keeps drivers that are loaded from now on away from the disks until [`bind_all`]: a driver asks a disk for its size
/// when it is bound to it, and the disks of a template are empty.
pub(crate) fn leave_alone() -> Result<(), Fault> {
    let switch = Path::new(BUS).join("drivers_autoprobe");
    if switch.exists() { fs::write(switch, "0").during("keeping drivers from the disks") } else { Ok(()) }
}

/// Binds the driver to every disk, anew where it is bound already because it is built into the kernel.
pub(crate) fn bind_all() -> Result<(), Fault> {
    bind(Path::new(BUS))
}

fn bind(bus: &Path) -> Result<(), Fault> {
    let what = "binding the disks to their driver";
    let driver = bus.join("drivers/virtio_blk");
    if !driver.exists() {
        return Ok(());
    }
    for device in fs::read_dir(bus.join("devices")).during(what)? {
        let device = device.during(what)?;
        let kind = fs::read_to_string(device.path().join("device")).during(what)?;
        if kind.trim_end() != KIND {
            continue;
        }
        let name = device.file_name();
        let bound = device.path().join("driver").exists();
        for step in ["unbind", "bind"].into_iter().skip(usize::from(!bound)) {
            fs::write(driver.join(step), name.as_encoded_bytes())
                .during(format_args!("{what}: {step} `{}`", name.display()))?;
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
        attach(disk, DISK, "ext4", hard | MsFlags::MS_NOATIME, Some("errors=remount-ro,noinit_itable"))?;
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
    fn disks_are_bound_anew_if_they_were_bound_and_nothing_else_is() {
        let bus = std::env::temp_dir().join(format!("lazaret-bus-{}", std::process::id()));
        let driver = bus.join("drivers/virtio_blk");
        bind(&bus).unwrap();
        fs::create_dir_all(&driver).unwrap();
        for (name, kind) in [("virtio0", "0x0003\n"), ("virtio1", "0x0002\n")] {
            fs::create_dir_all(bus.join("devices").join(name)).unwrap();
            fs::write(bus.join("devices").join(name).join("device"), kind).unwrap();
        }
        bind(&bus).unwrap();
        let written = || ["unbind", "bind"].map(|step| fs::read_to_string(driver.join(step)).ok());
        let fresh = written();
        fs::create_dir(bus.join("devices/virtio1/driver")).unwrap();
        bind(&bus).unwrap();
        let anew = written();
        fs::remove_dir_all(&bus).unwrap();
        let name = Some("virtio1".to_owned());
        assert_eq!((fresh, anew), ([None, name.clone()], [name.clone(), name]));
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
