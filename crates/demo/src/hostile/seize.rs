//! Attacks by root of the guest over the channel itself, which it takes from PID 1: what comes then is no longer what
//! PID 1 would let through, and only the door is left to stop it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use demo::report::Layer;
use sys::raw;
use wire::frame::{SMALL, encode};
use wire::guest::GuestOpens;

use crate::probe::{GUEST_ROOT, Probe, Verdict, say, short};

const fn probe(id: &'static str, title: &'static str, attempt: &'static str, run: fn() -> Verdict) -> Probe {
    Probe { id, title, attempt, layer: Layer::Door, places: GUEST_ROOT, deaths: &[], seconds: 240, run }
}

pub(crate) const PROBES: &[Probe] = &[
    probe(
        "stream-flood",
        "10,000 streams",
        "takes the channel from PID 1 and opens 10,000 streams to the door",
        || over_the_channel(&streams()),
    ),
    probe(
        "channel-garbage",
        "garbage on the channel",
        "takes the channel from PID 1 and writes frames that lie",
        || over_the_channel(&garbage()),
    ),
    probe(
        "channel-lie",
        "a control frame that lies",
        "takes the channel from PID 1 and announces 4 GiB on the control stream",
        || over_the_channel(&lie()),
    ),
];

/// The port's name, and where the kernel lists ports and lets their driver go.
const NAME: &str = "lazaret.door";
const PORTS: &str = "/sys/class/virtio-ports";
const DRIVER: &str = "/sys/bus/virtio/drivers/virtio_console";
/// A cgroup for PID 1 alone, so that it can be frozen.
const CAGE: &str = "/sys/fs/cgroup/seized";
/// How long the kernel may take for each step.
const WAIT: Duration = Duration::from_secs(20);
/// How long PID 1 gets to pass on what was said before it is frozen.
const HEARD: Duration = Duration::from_secs(2);

/// A head of the multiplexer (yamux): version, kind, flags, stream, length. 1 opens a window or stream, flag 1 is SYN.
fn head(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
    let mut bytes = vec![0, kind];
    bytes.extend(flags.to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

/// 10,000 streams, of the even numbers that are the guest's, each of which says that it is for the model.
fn streams() -> Vec<u8> {
    let model = encode(&GuestOpens::Model, SMALL).unwrap_or_default();
    let length = u32::try_from(model.len()).unwrap_or(0);
    (0..10_000).flat_map(|n| [head(0, 1, 0x1_0000 + 2 * n, length), model.clone()].concat()).collect()
}

/// A frame that announces 4 GiB for a stream that nobody opened, then noise.
fn garbage() -> Vec<u8> {
    let mut bytes = head(0, 1, 0x7fff_ffff, 0xffff_ffff);
    bytes.extend((0..4096_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()));
    bytes
}

/// On the control stream, which is the first: a frame of ours that announces 4 GiB, of which a few bytes come.
fn lie() -> Vec<u8> {
    [head(0, 0, 1, 8), vec![0xff, 0xff, 0xff, 0xff, 0, 1, 2, 3]].concat()
}

/// Takes the channel and writes to it. The last that the demo can hear of this is what is said before PID 1, by which
/// all words go, is frozen; the door and the host tell the rest.
fn over_the_channel(bytes: &[u8]) -> Verdict {
    let (channel, how) = match take() {
        Ok(taken) => taken,
        Err(verdict) => return verdict,
    };
    match write(channel, bytes) {
        Ok(()) => Verdict::left(format!("{how}; {} bytes were written", bytes.len())),
        Err(e) => Verdict::blocked(format!("{how}; the channel takes nothing: {}", short(&e))),
    }
}

fn write(mut channel: File, bytes: &[u8]) -> io::Result<()> {
    channel.write_all(bytes)?;
    channel.flush()?;
    // Closing it would tell the machine's monitor to hold back what has not gone yet.
    park_timeout(WAIT);
    Ok(())
}

/// The channel, by the first way that leads to it, and which that is.
fn take() -> Result<(File, String), Verdict> {
    let Some((port, device)) = find_port() else {
        return Err(Verdict::not_applicable("the machine has no channel"));
    };
    let mut stops = Vec::new();
    match steal() {
        Ok(file) => return Ok((file, announced("the channel is taken by pidfd_getfd"))),
        Err(e) => stops.push(format!("pidfd_getfd {}", short(&e))),
    }
    match raw::trace(1) {
        Ok(()) => stops.push("ptrace works".to_owned()),
        Err(e) => stops.push(format!("ptrace {}", short(&e))),
    }
    match OpenOptions::new().read(true).write(true).open(&port) {
        Ok(file) => return Ok((file, announced("the channel is opened beside PID 1"))),
        Err(e) => stops.push(format!("open {}", short(&e))),
    }
    let stops = stops.join(", ");
    if let Err(e) = cage() {
        return Err(Verdict::blocked(format!("PID 1 keeps the channel: {stops}, cgroup {}", short(&e))));
    }
    let how = announced(&format!("{stops}; then PID 1 is frozen and the channel's driver bound anew"));
    match freeze(true).and_then(|()| rebind(&device)) {
        Ok(file) => Ok((file, how)),
        Err(e) => {
            // Without PID 1 nobody would hear of it.
            let thawed = freeze(false).map_or_else(|e| short(&e), |()| "thawed".to_owned());
            Err(Verdict::failed(format!("{stops}; then {}; PID 1 {thawed}", short(&e))))
        }
    }
}

/// Says how it is done while it can still be heard.
fn announced(how: &str) -> String {
    say(&Verdict::left(how));
    park_timeout(HEARD);
    how.to_owned()
}

/// A copy of the descriptor that PID 1 has.
fn steal() -> io::Result<File> {
    for number in 0..64 {
        let target = fs::read_link(format!("/proc/1/fd/{number}")).unwrap_or_default();
        if target.to_string_lossy().contains("vport") {
            return raw::steal_descriptor(1, number).map(File::from);
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// The path of the port, and the name of the virtio device that it belongs to.
fn find_port() -> Option<(PathBuf, String)> {
    fs::read_dir(PORTS).ok()?.flatten().find_map(|port| {
        let name = fs::read_to_string(port.path().join("name")).ok()?;
        let device = fs::canonicalize(port.path().join("device")).ok()?;
        let device = device.file_name()?.to_string_lossy().into_owned();
        (name.trim() == NAME).then(|| (Path::new("/dev").join(port.file_name()), device))
    })
}

/// Puts PID 1 into a cgroup of its own.
fn cage() -> io::Result<()> {
    match fs::create_dir(CAGE) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        Ok(()) | Err(_) => {}
    }
    fs::write(Path::new(CAGE).join("cgroup.procs"), "1")
}

fn freeze(on: bool) -> io::Result<()> {
    fs::write(Path::new(CAGE).join("cgroup.freeze"), if on { "1" } else { "0" })?;
    let wanted = if on { "frozen 1" } else { "frozen 0" };
    until(|| {
        let events = fs::read_to_string(Path::new(CAGE).join("cgroup.events")).ok()?;
        events.contains(wanted).then_some(())
    })
}

/// Takes the device from its driver and gives it back, which makes the port anew: it is then nobody's.
fn rebind(device: &str) -> io::Result<File> {
    fs::write(Path::new(DRIVER).join("unbind"), device)?;
    fs::write(Path::new(DRIVER).join("bind"), device)?;
    until(|| OpenOptions::new().read(true).write(true).open(find_port()?.0).ok())
}

fn until<T>(mut there: impl FnMut() -> Option<T>) -> io::Result<T> {
    let end = Instant::now() + WAIT;
    while Instant::now() < end {
        if let Some(found) = there() {
            return Ok(found);
        }
        park_timeout(Duration::from_millis(20));
    }
    Err(io::ErrorKind::TimedOut.into())
}
