//! Attacks by root of the guest, outside the container: only the VM and the door are left to stop them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use demo::report::Layer;
use nix::sched::{CloneFlags, setns};
use sys::raw::{self, Call, call};

use crate::credentials::find_key;
use crate::door::endpoint;
use crate::probe::{Attempts, GUEST_ROOT, Probe, Verdict, io, short};

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
    Probe {
        layer: Layer::Door,
        ..probe(
            "stream-flood",
            "10,000 streams",
            "opens 10,000 streams to the door from the container's loopback",
            stream_flood,
        )
    },
    Probe {
        layer: Layer::Door,
        ..probe(
            "channel-garbage",
            "garbage on the channel",
            "takes the channel from PID 1 and writes frames that lie",
            channel_garbage,
        )
    },
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
    attempts.verdict("no device at all is to be seen")
}

/// The disks with their serials.
fn disks() -> Vec<(PathBuf, String)> {
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

/// Enters the network namespace of the container, which is another than this process's.
fn enter_container_network() -> io::Result<()> {
    let own = fs::read_link("/proc/self/ns/net")?;
    for entry in fs::read_dir("/proc")?.flatten() {
        let namespace = entry.path().join("ns/net");
        if fs::read_link(&namespace).is_ok_and(|other| other != own) {
            return io(setns(File::open(namespace)?, CloneFlags::CLONE_NEWNET));
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn stream_flood() -> Verdict {
    if let Err(e) = enter_container_network() {
        return Verdict::not_applicable(format!("the container's network: {}", short(&e)));
    }
    let (mut open, mut refused) = (Vec::new(), 0_u32);
    for _ in 0..10_000 {
        match TcpStream::connect_timeout(&endpoint(), Duration::from_secs(5)) {
            Ok(mut stream) => {
                if stream.write_all(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\n").is_ok() {
                    open.push(stream);
                } else {
                    refused += 1;
                }
            }
            Err(_no_more) => refused += 1,
        }
        if refused > 100 {
            break;
        }
    }
    Verdict::left(format!("{} streams were opened and {refused} refused", open.len()))
}

fn channel_garbage() -> Verdict {
    let mut taken = None;
    for number in 0..64 {
        let Ok(target) = fs::read_link(format!("/proc/1/fd/{number}")) else { continue };
        if target.to_string_lossy().contains("vport") {
            taken = Some(raw::steal_descriptor(1, number));
        }
    }
    let mut channel = match taken {
        Some(Ok(fd)) => File::from(fd),
        Some(Err(e)) => return Verdict::not_applicable(format!("PID 1 keeps it: {}", short(&e))),
        None => return Verdict::not_applicable("PID 1 holds no channel"),
    };
    // A frame of the mux that announces 4 GiB for a stream that nobody opened, then noise.
    let mut lie = vec![0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    lie.extend((0..4096_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()));
    match channel.write_all(&lie) {
        Ok(()) => Verdict::left("16 KiB of lies were written"),
        Err(e) => Verdict::blocked(format!("the channel takes no more: {}", short(&e))),
    }
}
