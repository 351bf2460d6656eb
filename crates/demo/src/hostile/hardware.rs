//! Attacks by root of the guest on the devices of its machine, each of which ends with a machine that is broken or
//! gone: whoever looks at the host decides whether anything else was harmed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::thread::park_timeout;
use std::time::Duration;

use demo::report::Layer;
use sys::hardware::{Page, scribble, write_port};
use sys::raw::{Call, call};

use crate::guest_root::disks;
use crate::probe::{GUEST_ROOT, Probe, Verdict, say, short};

const fn probe(id: &'static str, title: &'static str, attempt: &'static str, run: fn() -> Verdict) -> Probe {
    Probe { id, title, attempt, layer: Layer::Vm, places: GUEST_ROOT, deaths: &[], seconds: 120, run }
}

pub(crate) const PROBES: &[Probe] = &[
    probe(
        "own-disk",
        "its own raw disk",
        "overwrites the disk below its file system, and writes past its end",
        own_disk,
    ),
    probe(
        "registers",
        "registers of the devices",
        "writes over every register by /dev/mem, and by the firmware device's direct access to memory",
        registers,
    ),
    probe(
        "own-kernel",
        "its own kernel",
        "loads a module, starts another kernel, then makes its own panic",
        own_kernel,
    ),
];

/// How long PID 1 gets to pass on what was said before the machine breaks.
const HEARD: Duration = Duration::from_secs(2);

fn own_disk() -> Verdict {
    const SIZE: usize = 1 << 20;
    let Some((path, _)) = disks().into_iter().find(|(_, serial)| serial == "disk") else {
        return Verdict::not_applicable("there is no disk of its own");
    };
    let overwrite = || -> io::Result<(u64, io::Result<()>)> {
        let mut disk = OpenOptions::new().read(true).write(true).open(&path)?;
        let end = disk.seek(SeekFrom::End(0))?;
        let bytes = vec![0xa5; SIZE];
        let mut written = 0;
        for at in (0..end.saturating_sub(SIZE as u64)).step_by(32 << 20) {
            disk.seek(SeekFrom::Start(at))?;
            disk.write_all(&bytes)?;
            written += SIZE as u64;
        }
        disk.sync_all()?;
        disk.seek(SeekFrom::Start(end))?;
        Ok((written, disk.write_all(&bytes)))
    };
    match overwrite() {
        Ok((_, Ok(()))) => Verdict::breached("more was written than the disk has room for"),
        Ok((written, Err(e))) => {
            Verdict::left(format!("{} MiB overwritten, past the end {}", written >> 20, short(&e)))
        }
        Err(e) => Verdict::blocked(format!("{}: {}", path.display(), short(&e))),
    }
}

/// Where QEMU's microvm has registers: address and bytes. The slots of the channel and of what carries interrupts are
/// not here: without them nobody hears of the rest.
const DISKS: (u64, u32) = (0xfeb0_0000, 0xe00);
const REST: &[(u64, u32)] = &[
    (0xfea0_0000, 0x400), // power and hotplug
    (0xe000_0000, 0x40),  // nothing at all
    (0xffff_0000, 0x100), // the ROM
    (0xfec0_0000, 0x40),  // the I/O APIC
    (0xfeb0_0e00, 0x200), // the channel
];

fn registers() -> Verdict {
    let memory = OpenOptions::new().read(true).write(true).open("/dev/mem");
    let mapped = |address, bytes| {
        memory
            .as_ref()
            .map_err(short)
            .and_then(|m| scribble(m, address, bytes, u32::MAX).map_err(|e| short(&e)))
    };
    let by_memory = mapped(0xe000_0000, 0x40).map_or_else(|e| e, |()| "works".to_owned());
    let firmware = match Firmware::find() {
        Ok(firmware) => firmware,
        Err(e) => {
            return Verdict::blocked(format!("/dev/mem {by_memory}, the firmware device {}", short(&e)));
        }
    };
    // Which they are is asked of the disks themselves, so it must be known before.
    let files = status_files();
    let before = statuses(&files);
    firmware.write_over(DISKS);
    let after = statuses(&files);
    let seen = format!(
        "/dev/mem {by_memory}; the firmware device writes to registers: status of the disks {before}, then {after}"
    );
    say(&Verdict::left(seen.clone()));
    park_timeout(HEARD);
    for (address, bytes) in REST {
        drop(mapped(*address, *bytes as usize));
        firmware.write_over((*address, *bytes));
    }
    match fs::write("/proc/sysrq-trigger", "b") {
        Ok(()) => Verdict::left(seen),
        Err(e) => Verdict::left(format!("{seen}; reset {}", short(&e))),
    }
}

/// Where the kernel shows the status register of each disk.
fn status_files() -> Vec<PathBuf> {
    let file = |path: &Path| {
        let disk = Path::new("/sys/class/block").join(path.file_name()?);
        Some(fs::canonicalize(disk.join("device")).ok()?.join("status"))
    };
    disks().iter().filter_map(|(path, _)| file(path)).collect()
}

/// What the registers hold now.
fn statuses(files: &[PathBuf]) -> String {
    let status = |file| fs::read_to_string(file).map_or_else(|e| short(&e), |text| text.trim().to_owned());
    files.iter().map(status).collect::<Vec<_>>().join(" and ")
}

/// QEMU's fw_cfg device, which writes what it holds to whatever address it is told.
struct Firmware(Page);

impl Firmware {
    /// The ports for the address of a request: the upper and the lower half, which starts it.
    const PORTS: [u16; 2] = [0x514, 0x518];
    /// Select item 0, which is the four letters `QEMU`, and write it to memory.
    const ITEM_TO_MEMORY: u32 = 0x8 | 0x2;

    /// Gets access to the ports and sees whether the device does as it is told.
    fn find() -> io::Result<Self> {
        call(Call::IoPrivilege)?;
        let firmware = Self(Page::new()?);
        firmware.ask(firmware.0.physical() + 16, 4);
        match firmware.0.read::<20>() {
            [.., b'Q', b'E', b'M', b'U'] => Ok(firmware),
            _other => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Writes so many bytes to this physical address: the item, then zeros.
    fn ask(&self, address: u64, bytes: u32) {
        let mut request = Vec::with_capacity(16);
        request.extend(Self::ITEM_TO_MEMORY.to_be_bytes());
        request.extend(bytes.to_be_bytes());
        request.extend(address.to_be_bytes());
        self.0.write(&request);
        let here = self.0.physical();
        let halves = [here >> 32, here & u64::from(u32::MAX)];
        for (port, half) in Self::PORTS.into_iter().zip(halves) {
            write_port(port, u32::try_from(half).unwrap_or(0).to_be());
        }
    }

    /// Each register, then all at once.
    fn write_over(&self, (address, bytes): (u64, u32)) {
        for register in (0..u64::from(bytes)).step_by(4) {
            self.ask(address + register, 4);
        }
        self.ask(address, bytes);
    }
}

fn own_kernel() -> Verdict {
    let tried = [
        ("module", call(Call::FinitModule)),
        ("kexec", call(Call::KexecLoad)),
        (
            "kernel's memory",
            File::open("/dev/mem").and_then(|mut memory| {
                memory.seek(SeekFrom::Start(0x100_0000))?;
                memory.read_exact(&mut [0; 16])?;
                Ok(0)
            }),
        ),
    ];
    let tried = tried.map(|(name, result)| {
        format!("{name} {}", result.map_or_else(|e| short(&e), |_| "works".to_owned()))
    });
    let seen = format!("{}; then it panics", tried.join(", "));
    say(&Verdict::left(seen.clone()));
    park_timeout(HEARD);
    match fs::write("/proc/sysrq-trigger", "c") {
        Ok(()) => Verdict::left(seen),
        Err(e) => Verdict::left(format!("{}; panic {}", tried.join(", "), short(&e))),
    }
}
