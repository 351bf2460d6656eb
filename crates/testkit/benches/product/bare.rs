//! The baseline of machines: the same kernel in a plain QEMU microvm without a jail, whose init is a shell script that
//! says hello over the same kind of channel, and then does what it is told.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use domain::Isolation;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};

use crate::cells::{Ground, MEMORY_MIB};
use crate::{Failure, Result};

const BUSYBOX: &str = "/bin/busybox";

/// How long it may take to boot.
const HELLO_WITHIN: Duration = Duration::from_secs(180);

/// Bytes that the script moves at a time.
pub const BLOCK: usize = 32 * 1024;

/// Loads the channel's modules, says hello, and obeys: `echo`, `send` and `take` so many blocks.
const INIT: &str = "#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
exec 0</dev/null 1>/dev/null 2>/dev/null
for module in /modules/*.ko; do $b insmod $module; done
until (exec 3<>/dev/vport0p1); do $b usleep 1000; done
exec 3<>/dev/vport0p1
echo hello >&3
while read -r what blocks <&3; do
    case $what in
        echo) exec $b cat <&3 >&3 ;;
        send) $b dd if=/dev/zero bs=32768 count=$blocks >&3 ;;
        take) $b dd of=/dev/null bs=32768 count=$blocks iflag=fullblock <&3; echo taken >&3 ;;
    esac
done
";

/// What a bare machine lacks on this host.
pub fn lacks() -> Option<String> {
    let program = fs::read(BUSYBOX).unwrap_or_default();
    // A dynamic program names its loader right after its headers.
    let dynamic = program.windows(8).take(4096).any(|bytes| bytes == b"ld-linux");
    (program.is_empty() || dynamic)
        .then(|| "a static `busybox` is not installed (`./x setup --test` does)".to_owned())
}

/// A bare machine that has said hello. Dropping it ends it.
pub struct Bare {
    process: Child,
    /// From the start of QEMU to the hello.
    pub took: Duration,
    channel: BufReader<UnixStream>,
}

impl Bare {
    /// Boots one as the cells of this host are run: on KVM or emulated.
    pub async fn boot(ground: &Ground, isolation: Isolation) -> Result<Self> {
        let (kernel, scratch) = (ground.kernel()?, ground.scratch());
        let (initramfs, socket) = (scratch.join("bare.cpio"), scratch.join("bare.sock"));
        if !initramfs.exists() {
            fs::write(&initramfs, boot_image(&kernel)?)?;
        }
        if socket.exists() {
            fs::remove_file(&socket)?;
        }
        let listener = UnixListener::bind(&socket)?;
        let clock = match (isolation, sys::tsc::measure_khz(Duration::from_millis(50))) {
            // Without it, an emulated kernel on a busy host may not find out its clock, and hang.
            (Isolation::Emulated, Some(khz)) => {
                format!(" tsc_early_khz={khz} tsc=reliable no_timer_check")
            }
            (Isolation::Emulated, None) | (Isolation::Hardware, _) => String::new(),
        };
        let (accelerator, cpu) = match isolation {
            Isolation::Hardware => ("kvm", "host"),
            Isolation::Emulated => ("tcg,thread=multi", "max"),
        };
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-M", "microvm,isa-serial=off,pit=off,pic=off,rtc=on,auto-kernel-cmdline=off"])
            .args(["-accel", accelerator, "-cpu", cpu, "-smp", "1", "-m", &format!("{MEMORY_MIB}M")])
            .arg("-kernel")
            .arg(kernel.join("vmlinuz"))
            .arg("-initrd")
            .arg(&initramfs)
            .args(["-append", &format!("panic=-1 reboot=t quiet{clock}")])
            .args(["-chardev", &format!("socket,id=channel,path={}", socket.display())])
            .args(["-device", "virtio-serial-device"])
            .args(["-device", "virtserialport,chardev=channel,name=bare"])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let began = Instant::now();
        let mut process = command.spawn()?;
        let hello = async {
            let mut channel = BufReader::new(listener.accept().await?.0);
            let mut said = String::new();
            channel.read_line(&mut said).await?;
            if said == "hello\n" {
                Ok::<_, Failure>(channel)
            } else {
                Err(format!("the bare machine said `{said}`").into())
            }
        };
        let channel = tokio::select! {
            hello = tokio::time::timeout(HELLO_WITHIN, hello) => hello??,
            end = process.wait() => return Err(format!("the bare machine ended: {}", end?).into()),
        };
        Ok(Self { process, took: began.elapsed(), channel })
    }

    /// Ends it.
    pub async fn stop(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    /// How long it takes to send so many blocks.
    pub async fn send(&mut self, blocks: usize) -> Result<Duration> {
        let began = Instant::now();
        self.channel.write_all(format!("send {blocks}\n").as_bytes()).await?;
        let (mut block, mut left) = (vec![0; BLOCK], blocks * BLOCK);
        while left > 0 {
            let most = left.min(BLOCK);
            match self.channel.read(&mut block[..most]).await? {
                0 => return Err("the bare machine hung up".into()),
                read => left -= read,
            }
        }
        Ok(began.elapsed())
    }

    /// How long it takes to take so many blocks.
    pub async fn take(&mut self, blocks: usize) -> Result<Duration> {
        let began = Instant::now();
        self.channel.write_all(format!("take {blocks}\n").as_bytes()).await?;
        let block = vec![0; BLOCK];
        for _ in 0..blocks {
            self.channel.write_all(&block).await?;
        }
        let mut said = String::new();
        self.channel.read_line(&mut said).await?;
        if said == "taken\n" { Ok(began.elapsed()) } else { Err(format!("it said `{said}`").into()) }
    }

    /// Makes it send back whatever it gets, from now on.
    pub async fn echo(mut self) -> Result<Echo> {
        self.channel.write_all(b"echo\n").await?;
        Ok(Echo(self))
    }
}

/// A bare machine that sends back whatever it gets.
pub struct Echo(Bare);

impl Echo {
    /// How long so many bytes take there and back.
    pub async fn round_trip(&mut self, bytes: usize) -> Result<Duration> {
        let mut buffer = vec![7; bytes];
        let began = Instant::now();
        self.0.channel.write_all(&buffer).await?;
        self.0.channel.read_exact(&mut buffer).await?;
        Ok(began.elapsed())
    }

    /// Ends it.
    pub async fn stop(self) -> Result<()> {
        self.0.stop().await
    }
}

/// The boot image (cpio, newc): the script, its interpreter, the modules.
fn boot_image(kernel: &Path) -> Result<Vec<u8>> {
    let mut image = Vec::new();
    for folder in ["bin", "dev", "modules"] {
        entry(&mut image, folder, 0o040_755, &[]);
    }
    entry(&mut image, "init", 0o100_755, INIT.as_bytes());
    entry(&mut image, "bin/busybox", 0o100_755, &fs::read(BUSYBOX)?);
    for module in fs::read_dir(kernel.join("base"))? {
        let module = module?;
        let name = format!("modules/{}", module.file_name().to_string_lossy());
        entry(&mut image, &name, 0o100_644, &fs::read(module.path())?);
    }
    entry(&mut image, "TRAILER!!!", 0, &[]);
    Ok(image)
}

fn entry(image: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) {
    image.extend(b"070701");
    for field in [0, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0] {
        image.extend(format!("{field:08x}").as_bytes());
    }
    for part in [[name.as_bytes(), b"\0"].concat(), content.to_vec()] {
        image.extend(part);
        image.resize(image.len().next_multiple_of(4), 0);
    }
}
