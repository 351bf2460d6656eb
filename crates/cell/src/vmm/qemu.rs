//! QEMU's `microvm`: which files it needs, and every argument it is started with.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use domain::Isolation;

use super::{BootFiles, Disks, Machine, MonitorProgram, Origin, Vmm};
use crate::jail::files::{ProgramFiles, of_program};
use crate::jail::spec::{FileAccess, Filter, JailFile};

/// QEMU as found on this host.
#[derive(Debug, Clone)]
pub(crate) struct Qemu {
    files: ProgramFiles,
    firmware: Vec<JailFile>,
    /// First line of `--version`.
    version: String,
}

/// QEMU with one accelerator: a monitor.
#[derive(Debug, Clone)]
pub(crate) struct QemuVmm {
    pub(crate) qemu: Qemu,
    pub(crate) isolation: Isolation,
    /// The host's time stamp counter, kHz: an emulated kernel can't calibrate its own on a busy host, and hangs.
    pub(crate) tsc_khz: Option<u64>,
}

const PROGRAMS: &[&str] = &["/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64"];
const FIRMWARE_FOLDERS: &[&str] = &["/usr/share/qemu", "/usr/share/seabios", "/usr/local/share/qemu"];
const MODULE_FOLDERS: &[&str] = &["/usr/lib/x86_64-linux-gnu/qemu", "/usr/lib/qemu", "/usr/lib64/qemu"];
/// The machine's own firmware, then the option ROM that loads a kernel.
const FIRMWARE: &[&str] = &["bios-microvm.bin", "linuxboot_dma.bin"];
/// The emulator, where the distribution builds it as a module.
const EMULATOR_MODULE: &str = "accel-tcg-x86_64.so";

/// Numbers of descriptors inside the jail.
const LOG: RawFd = 2;
const CHANNEL: RawFd = 3;
const MEMORY: RawFd = 4;
pub(crate) const STATE: RawFd = 5;
const CONTROL: RawFd = 6;
const IMAGE: RawFd = 7;
const DISK: RawFd = 8;

/// Bytes of code that the emulator keeps translated, MiB. Its default makes a cell four times as large.
const TRANSLATED_MIB: u64 = 128;
/// Address space besides the machine's memory: libraries, stacks, arenas, translated code.
const OVERHEAD: u64 = 4 << 30;
/// Memory (not address space) besides the machine's.
pub(crate) const RESIDENT_OVERHEAD: u64 = (TRANSLATED_MIB + 256) << 20;

impl Qemu {
    /// Finds QEMU and everything it needs on this host.
    pub(crate) fn find() -> io::Result<Self> {
        let program = first_existing(PROGRAMS.iter().map(PathBuf::from)).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "QEMU is not installed (`apt-get install qemu-system-x86`)",
            )
        })?;
        let modules: Vec<_> =
            first_existing(MODULE_FOLDERS.iter().map(|f| Path::new(f).join(EMULATOR_MODULE)))
                .into_iter()
                .collect();
        let mut firmware = Vec::new();
        for name in FIRMWARE {
            let source = first_existing(FIRMWARE_FOLDERS.iter().map(|f| Path::new(f).join(name)))
                .ok_or_else(|| {
                    io::Error::new(
                        io::ErrorKind::NotFound,
                        format!("QEMU's firmware `{name}` is not installed (`seabios`)"),
                    )
                })?;
            let target = Path::new("/firmware").join(name);
            firmware.push(JailFile { source, target, access: FileAccess::Read });
        }
        let files = of_program(&program, &modules)?;
        let output = Command::new(&program).arg("--version").env_clear().stdin(Stdio::null()).output()?;
        let version = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
        if version.is_empty() {
            return Err(io::Error::other(format!("`{} --version` says nothing", program.display())));
        }
        Ok(Self { files, firmware, version })
    }

    /// First line of `--version`, for people and for keys.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }
}

fn first_existing(mut paths: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    paths.find(|path| path.exists())
}

impl Vmm for QemuVmm {
    fn isolation(&self) -> Isolation {
        self.isolation
    }

    fn identity(&self) -> String {
        let fixed = self.fixed(0, 0, true).join(" ");
        format!("{}\n{}\n{fixed}\n{}", self.qemu.version, self.qemu.files.program, self.processor())
    }

    fn program(&self, machine: Machine) -> io::Result<MonitorProgram> {
        let kept_memory = match machine.origin {
            Origin::Boot(_) => false,
            Origin::Save { .. } | Origin::Clone { .. } => true,
        };
        let mut args = self.fixed(machine.memory_mib, machine.cpus, kept_memory);
        let mut files = self.qemu.files.files.clone();
        files.extend(self.qemu.firmware.iter().cloned());
        let mut descriptors = vec![(machine.log, LOG), (machine.channel, CHANNEL)];
        origin(
            machine.origin,
            machine.memory_mib,
            &mut Parts {
                args: &mut args,
                files: &mut files,
                descriptors: &mut descriptors,
                boot: self.kernel_line(),
            },
        )?;
        disks(machine.disks, &mut args, &mut descriptors);
        let kvm = self.isolation == Isolation::Hardware;
        if kvm {
            let kvm = PathBuf::from("/dev/kvm");
            files.push(JailFile { source: kvm.clone(), target: kvm, access: FileAccess::Device });
        }
        Ok(MonitorProgram {
            program: self.qemu.files.program.clone(),
            args,
            env: vec![("LD_LIBRARY_PATH".into(), self.qemu.files.library_path.clone())],
            files,
            descriptors,
            filter: if kvm { Filter::VmmKvm } else { Filter::Vmm },
            address_space: (machine.memory_mib << 20).saturating_add(OVERHEAD),
        })
    }
}

impl QemuVmm {
    fn accelerator(&self) -> String {
        match self.isolation {
            Isolation::Hardware => "kvm".into(),
            Isolation::Emulated => format!("tcg,thread=multi,tb-size={TRANSLATED_MIB}"),
        }
    }

    /// The host's processor: a saved machine has seen its features.
    fn processor(&self) -> String {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field =
            |name: &str| info.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        match self.isolation {
            Isolation::Hardware => {
                format!("{} {} {}", field("model name"), field("flags"), field("microcode"))
            }
            Isolation::Emulated => String::new(),
        }
    }

    fn cpu(&self) -> &'static str {
        match self.isolation {
            Isolation::Hardware => "host",
            Isolation::Emulated => "max",
        }
    }

    /// Nothing per cell is on it: a template serves all.
    fn kernel_line(&self) -> String {
        let clock = match (self.isolation, self.tsc_khz) {
            (Isolation::Emulated, Some(khz)) => format!(" tsc_early_khz={khz} tsc=reliable no_timer_check"),
            (Isolation::Emulated, None) => " no_timer_check".into(),
            (Isolation::Hardware, _) => String::new(),
        };
        format!("panic=-1 reboot=t quiet{clock}")
    }

    /// The arguments that every machine has. No default device, no configuration file, no user interface, no network;
    /// of microvm's own devices, off is what can be.
    fn fixed(&self, memory_mib: u64, cpus: u8, kept_memory: bool) -> Vec<String> {
        let accelerator = self.accelerator();
        let memory = if kept_memory { ",memory-backend=ram" } else { "" };
        strings(&[
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
            "-L",
            "/firmware",
            "-M",
            &format!(
                "microvm,isa-serial=off,pit=off,pic=off,ioapic2=off,rtc=on,auto-kernel-cmdline=off{memory}"
            ),
            "-global",
            "apic-common.vapic=off",
            "-accel",
            &accelerator,
            "-cpu",
            self.cpu(),
            "-smp",
            &cpus.to_string(),
            "-m",
            &format!("{memory_mib}M"),
            "-chardev",
            &format!("socket,id=door,fd={CHANNEL}"),
            "-device",
            "virtio-serial-device,max_ports=2",
            "-device",
            "virtserialport,chardev=door,name=lazaret.door",
        ])
    }
}

/// Where the parts of a machine's origin go.
struct Parts<'a> {
    args: &'a mut Vec<String>,
    files: &'a mut Vec<JailFile>,
    descriptors: &'a mut Vec<(OwnedFd, RawFd)>,
    boot: String,
}

fn origin(origin: Origin, memory_mib: u64, parts: &mut Parts<'_>) -> io::Result<()> {
    let backend = |share: &str| {
        format!("memory-backend-file,id=ram,size={memory_mib}M,mem-path=/proc/self/fd/{MEMORY},share={share}")
    };
    match origin {
        Origin::Boot(files) => boot(&files, parts),
        Origin::Save { files, memory, control } => {
            boot(&files, parts);
            parts.args.extend(strings(&["-object", &backend("on")]));
            parts.args.extend(monitor());
            parts.descriptors.extend([(memory, MEMORY), (control, CONTROL)]);
        }
        // No kernel: what it left in memory is what runs.
        Origin::Clone { memory, state, control } => {
            parts.args.extend(strings(&["-object", &backend("off"), "-incoming", "defer"]));
            parts.args.extend(monitor());
            parts.descriptors.extend([(memory, MEMORY), (state, STATE), (control, CONTROL)]);
        }
    }
    Ok(())
}

fn monitor() -> Vec<String> {
    strings(&["-chardev", &format!("socket,id=control,fd={CONTROL}"), "-mon", "chardev=control,mode=control"])
}

fn boot(files: &BootFiles, parts: &mut Parts<'_>) {
    for (source, target) in [(&files.kernel, "/kernel"), (&files.initramfs, "/initramfs")] {
        let (source, target) = (source.clone(), PathBuf::from(target));
        parts.files.push(JailFile { source, target, access: FileAccess::Read });
    }
    parts.args.extend(strings(&["-kernel", "/kernel", "-initrd", "/initramfs", "-append", &parts.boot]));
}

/// Format and backing are named here, never taken from what is on a disk. A machine without disks has placeholders of
/// the same kind, so that a clone of it can have any disks.
fn disks(disks: Option<Disks>, args: &mut Vec<String>, descriptors: &mut Vec<(OwnedFd, RawFd)>) {
    let (image, disk) = match disks {
        Some(Disks { image, disk }) => (Some(image), Some(disk)),
        None => (None, None),
    };
    for (name, fd, number, read_only) in [("image", image, IMAGE, "on"), ("disk", disk, DISK, "off")] {
        if let Some(fd) = fd {
            let file = format!(
                "driver=file,node-name={name}-file,filename=/dev/fdset/{number},read-only={read_only},\
                 auto-read-only=off,locking=off"
            );
            let raw = format!("driver=raw,node-name={name},file={name}-file,read-only={read_only}");
            let set = format!("fd={number},set={number}");
            args.extend(strings(&["-add-fd", &set, "-blockdev", &file, "-blockdev", &raw]));
            descriptors.push((fd, number));
        } else {
            let none = format!("driver=null-co,node-name={name},size=1048576,read-only={read_only}");
            args.extend(strings(&["-blockdev", &none]));
        }
        args.extend(strings(&["-device", &format!("virtio-blk-device,drive={name},serial={name}")]));
    }
}

fn strings(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| (*part).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmm(isolation: Isolation) -> QemuVmm {
        let files = ProgramFiles {
            program: "/usr/bin/qemu-system-x86_64".into(),
            files: Vec::new(),
            library_path: "/lib".into(),
        };
        let qemu = Qemu { files, firmware: Vec::new(), version: "QEMU 7.2".into() };
        QemuVmm { qemu, isolation, tsc_khz: Some(2_400_000) }
    }

    fn fd() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    fn program(isolation: Isolation, origin: Origin, disks: bool) -> MonitorProgram {
        let disks = disks.then(|| Disks { image: fd(), disk: fd() });
        let machine = Machine { memory_mib: 256, cpus: 2, origin, channel: fd(), disks, log: fd() };
        vmm(isolation).program(machine).unwrap()
    }

    fn boot_files() -> BootFiles {
        BootFiles { kernel: "/k".into(), initramfs: "/i".into() }
    }

    #[test]
    fn a_machine_has_the_channel_two_disks_and_nothing_else() {
        for disks in [true, false] {
            let program = program(Isolation::Emulated, Origin::Boot(boot_files()), disks);
            let devices: Vec<_> = program
                .args
                .iter()
                .zip(program.args.iter().skip(1))
                .filter(|(option, _)| *option == "-device")
                .map(|(_, device)| device.split(',').next().unwrap())
                .collect();
            assert_eq!(
                devices,
                ["virtio-serial-device", "virtserialport", "virtio-blk-device", "virtio-blk-device"]
            );
            let line = program.args.join(" ");
            assert!(!line.contains("netdev") && !line.contains("-nic") && !line.contains("virtfs"));
            assert!(
                line.contains("-nodefaults")
                    && line.contains("-no-user-config")
                    && line.contains("spawn=deny")
            );
        }
    }

    #[test]
    fn disks_are_raw_and_the_image_is_read_only() {
        let line = program(Isolation::Emulated, Origin::Boot(boot_files()), true).args.join(" ");
        assert!(line.contains("driver=raw,node-name=image,file=image-file,read-only=on"));
        assert!(line.contains("driver=raw,node-name=disk,file=disk-file,read-only=off"));
        assert!(line.contains("filename=/dev/fdset/7,read-only=on"));
        assert!(!line.contains("backing"));
    }

    #[test]
    fn kvm_is_in_the_jail_only_if_it_is_used() {
        let has_kvm = |isolation| {
            let program = program(isolation, Origin::Boot(boot_files()), true);
            let device = program.files.iter().any(|file| file.access == FileAccess::Device);
            (device, program.filter)
        };
        assert_eq!(has_kvm(Isolation::Hardware), (true, Filter::VmmKvm));
        assert_eq!(has_kvm(Isolation::Emulated), (false, Filter::Vmm));
    }

    #[test]
    fn an_emulated_kernel_is_told_the_clock() {
        let line = program(Isolation::Emulated, Origin::Boot(boot_files()), true).args.join(" ");
        assert!(line.contains("tsc_early_khz=2400000 tsc=reliable"));
    }

    #[test]
    fn a_clone_has_private_memory_and_no_kernel() {
        let args =
            program(Isolation::Emulated, Origin::Clone { memory: fd(), state: fd(), control: fd() }, true)
                .args;
        let line = args.join(" ");
        assert!(line.contains("share=off") && line.contains("-incoming defer"));
        assert!(!args.contains(&"-kernel".to_owned()));
    }
}
