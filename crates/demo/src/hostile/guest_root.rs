//! Attacks by root of the guest, outside the container: only the VM and the door are left to stop them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use demo::report::Layer;
use sys::hardware::make_writable;
use sys::raw::{self, Call, call};

use crate::credentials::find_key;
use crate::probe::{Attempts, GUEST_ROOT, Probe, Verdict, short};

const fn probe(id: &'static str, title: &'static str, attempt: &'static str, run: fn() -> Verdict) -> Probe {
    Probe { id, title, attempt, layer: Layer::Vm, places: GUEST_ROOT, deaths: &[], seconds: 240, run }
}

pub(crate) const PROBES: &[Probe] = &[
    probe(
        "machine-devices",
        "devices of the machine",
        "looks for any device but channel and two disks",
        devices,
    ),
    probe("other-disks", "disks of others", "reads every disk but image and own disk", other_disks),
    probe("image-write", "the shared image", "writes to the image that all cells share", image_write),
    probe("firmware", "what the host tells the firmware", "reads QEMU's fw_cfg and looks for keys", firmware),
    probe("all-memory", "all memory of the machine", "reads /proc/kcore and looks for keys", all_memory),
    probe(
        "port-writes",
        "writing to ports",
        "writes to ports of debug exits, PCI, fw_cfg and power",
        port_writes,
    ),
];

/// Names of the virtio devices that a cell has: block and console.
const ALLOWED_DEVICES: &[(&str, &str)] =
    &[("0x0002", "disk"), ("0x0003", "channel"), ("0x0000", "empty slot")];

fn devices() -> Verdict {
    let mut attempts = Attempts::default();
    for device in fs::read_dir("/sys/bus/virtio/devices").into_iter().flatten().flatten() {
        let id = fs::read_to_string(device.path().join("device")).unwrap_or_default();
        match ALLOWED_DEVICES.iter().find(|(known, _)| *known == id.trim()) {
            Some((_, what)) => attempts.stopped(*what, "expected"),
            None => {
                attempts.worked(device.path().display().to_string(), format!("virtio device {}", id.trim()))
            }
        }
    }
    for bus in ["pci", "usb", "scsi", "i2c", "vmbus", "xen"] {
        let count = fs::read_dir(format!("/sys/bus/{bus}/devices")).map_or(0, Iterator::count);
        if count > 0 {
            attempts.worked(bus, format!("{count} devices"));
        }
    }
    // The channel is one port; others of its device would be ways past the door.
    for port in fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten() {
        match fs::read_to_string(port.path().join("name")).unwrap_or_default().trim() {
            "lazaret.door" => attempts.stopped("port of the door", "expected"),
            other => attempts.worked(format!("port `{other}`"), port.path().display().to_string()),
        }
    }
    attempts.verdict("no device at all is to be seen")
}

/// The disks with their serials.
pub(crate) fn disks() -> Vec<(PathBuf, String)> {
    let listed = fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let mut disks: Vec<_> = listed
        .filter(|d| !d.file_name().to_string_lossy().starts_with("loop"))
        .map(|d| {
            let serial = fs::read_to_string(d.path().join("serial")).unwrap_or_default();
            (Path::new("/dev").join(d.file_name()), serial.trim().to_owned())
        })
        .collect();
    disks.sort();
    disks
}

fn other_disks() -> Verdict {
    let mut attempts = Attempts::default();
    for (path, serial) in disks() {
        if matches!(serial.as_str(), "image" | "disk") {
            attempts.stopped(serial, "the cell's own");
        } else {
            let read = File::open(&path).and_then(|mut f| f.read_exact(&mut [0; 512]));
            attempts.take_any(format!("{} ({serial})", path.display()), read);
        }
    }
    attempts.verdict("no disk is to be seen")
}

fn image_write() -> Verdict {
    let Some((path, _)) = disks().into_iter().find(|(_, serial)| serial == "image") else {
        return Verdict::not_applicable("there is no image disk");
    };
    let mut attempts = Attempts::default();
    let write = || {
        let mut disk = OpenOptions::new().read(true).write(true).open(&path)?;
        let mut block = [0; 512];
        disk.read_exact(&mut block)?;
        disk.seek(SeekFrom::Start(0))?;
        // The same bytes: a breach changes nothing.
        disk.write_all(&block)?;
        disk.sync_all()
    };
    attempts.take_any("write the first block", write());
    let made = File::open(&path).and_then(|disk| make_writable(&disk));
    let then = made.as_ref().map_or_else(short, |()| "done".to_owned());
    attempts.take_any(format!("make it writable ({then}) and write"), write());
    attempts.verdict("nothing was tried")
}

fn firmware() -> Verdict {
    let mut attempts = Attempts::default();
    let mut todo = vec![PathBuf::from("/sys/firmware")];
    let mut read = 0;
    while let (Some(path), true) = (todo.pop(), read < 2000) {
        if path.is_dir() && !path.is_symlink() {
            todo.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()));
        } else if let Ok(bytes) = fs::read(&path) {
            read += 1;
            if let Some(found) = find_key(&bytes) {
                attempts.worked(path.display().to_string(), found);
            }
        }
    }
    attempts.verdict(&format!("{read} files hold nothing like a key"))
}

fn number_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// The parts of memory that /proc/kcore shows, as offset and size.
fn memory_parts(core: &mut File) -> io::Result<Vec<(u64, u64)>> {
    let mut head = vec![0; 4096];
    core.read_exact(&mut head)?;
    let count = number_at::<2>(&head, 56).map_or(0, u16::from_le_bytes);
    let start = number_at::<8>(&head, 32).map_or(64, u64::from_le_bytes);
    let part = |n: u16| {
        let at = usize::try_from(start).ok()? + usize::from(n) * 56;
        let offset = u64::from_le_bytes(number_at(&head, at + 8)?);
        let size = u64::from_le_bytes(number_at(&head, at + 32)?);
        // Larger parts are address ranges, not memory.
        (size > 0 && size <= 16 << 30).then_some((offset, size))
    };
    Ok((0..count).filter_map(part).collect())
}

fn all_memory() -> Verdict {
    const STEP: usize = 1 << 20;
    let mut core = match File::open("/proc/kcore") {
        Ok(core) => core,
        Err(e) => return Verdict::not_applicable(format!("/proc/kcore: {}", short(&e))),
    };
    let parts = match memory_parts(&mut core) {
        Ok(parts) => parts,
        Err(e) => return Verdict::not_applicable(format!("/proc/kcore: {}", short(&e))),
    };
    let mut read = 0_u64;
    let mut bytes = vec![0; STEP];
    for (offset, size) in parts {
        let mut at = 0;
        while at < size && read < 2 << 30 {
            let got =
                core.seek(SeekFrom::Start(offset + at)).and_then(|_| core.read(&mut bytes)).unwrap_or(0);
            if let Some(found) = bytes.get(..got).and_then(find_key) {
                return Verdict::breached(format!("in memory: {found}"));
            }
            read += got as u64;
            at += if got == 0 { STEP as u64 } else { got as u64 };
        }
    }
    Verdict::blocked(format!("{} MiB of memory hold nothing like a key", read >> 20))
}

fn port_writes() -> Verdict {
    if let Err(e) = call(Call::IoPrivilege) {
        return Verdict::not_applicable(format!("iopl: {}", short(&e)));
    }
    // isa-debug-exit, PCI configuration, fw_cfg, SMI, VMware's back door.
    let ports = [0xf4, 0x501, 0xcf8, 0xcfc, 0x510, 0x511, 0xb2, 0x5658];
    for port in ports {
        for value in [0x00, 0x55, 0xff] {
            raw::write_port(port, value);
        }
    }
    Verdict::blocked(format!("{} ports were written, and nothing came of it", ports.len()))
}
