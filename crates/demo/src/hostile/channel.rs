//! Attacks on the channel between guest and door.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use demo::report::Layer;
use nix::sys::stat::SFlag;

use crate::files::made_device;
use crate::probe::{Attempts, CONTAINER, KILLED, Probe, Verdict};

pub(crate) const PROBES: &[Probe] = &[
    Probe {
        id: "channel-device",
        title: "the channel's device",
        attempt: "opens the port of the door by name, by number, by a device it makes, and as PID 1's descriptor",
        layer: Layer::Container,
        places: CONTAINER,
        deaths: KILLED,
        seconds: 30,
        run: device,
    },
    Probe {
        id: "channel-bus",
        title: "the channel's bus",
        attempt: "unbinds the virtio devices and asks their driver for more, through /sys",
        layer: Layer::Container,
        places: CONTAINER,
        deaths: KILLED,
        seconds: 20,
        run: bus,
    },
];

fn read_write(path: &Path) -> io::Result<()> {
    OpenOptions::new().read(true).write(true).open(path).map(drop)
}

fn device() -> Verdict {
    let mut attempts = Attempts::default();
    for folder in ["/dev", "/dev/virtio-ports"] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("vport") || name.starts_with("hvc") || folder.ends_with("ports") {
                attempts.take(name, read_write(&entry.path()));
            }
        }
    }
    attempts.take("/dev/vport0p1", read_write(Path::new("/dev/vport0p1")));
    for (major, minor) in port_numbers() {
        let name = format!("mknod {major}:{minor}");
        attempts.take(name, made_device(SFlag::S_IFCHR, major, minor, read_write));
    }
    for number in 0..16 {
        let path = format!("/proc/1/fd/{number}");
        attempts.take(path.clone(), read_write(Path::new(&path)));
    }
    attempts.verdict("nothing was tried")
}

/// The numbers of the ports, from /sys where it tells, and else those that the kernel gives first.
fn port_numbers() -> Vec<(u64, u64)> {
    let listed = fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten();
    let numbers = listed.filter_map(|e| {
        let text = fs::read_to_string(e.path().join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    let mut numbers: Vec<_> = numbers.collect();
    numbers.extend((240..252).map(|major| (major, 1)));
    numbers
}

fn bus() -> Verdict {
    let mut attempts = Attempts::default();
    for driver in ["virtio_console", "virtio_blk"] {
        for file in ["bind", "unbind", "uevent"] {
            let path = format!("/sys/bus/virtio/drivers/{driver}/{file}");
            attempts.take(path.clone(), OpenOptions::new().write(true).open(&path));
        }
    }
    for path in
        ["/sys/bus/virtio/drivers_probe", "/sys/bus/pci/rescan", "/sys/devices/system/cpu/cpu0/online"]
    {
        attempts.take(path, OpenOptions::new().write(true).open(path));
    }
    attempts.verdict("nothing was tried")
}
