//! A launcher for tests of the cell alone: the hidden command `jail`; a `door` that only relays bytes; `daemon`, which
//! starts one cell and waits to be killed; `probe`, which tries things from inside a jail.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use cell::{CellHost, CellSpec, EmulationRule, HostConfig, HostDirs, StartMode};
use domain::{ByteSize, CellId, Limits};

fn main() {
    let mut args = std::env::args().skip(1);
    let result = match args.next().as_deref() {
        Some("jail") => cell::jail_main(),
        Some("door") => door(),
        Some("daemon") => daemon(&args.collect::<Vec<_>>()),
        Some("probe") => probe(&args.collect::<Vec<_>>()),
        _ => std::process::exit(64),
    };
    if let Err(error) = result {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

/// Copies between the channel and the daemon until the channel ends.
fn door() -> std::io::Result<()> {
    let channel = UnixStream::from(sys::descriptors::inherited(3)?);
    let daemon = UnixStream::from(sys::descriptors::inherited(4)?);
    let (channel_in, daemon_out) = (channel.try_clone()?, daemon.try_clone()?);
    std::thread::spawn(move || {
        // Either end may go first: the copy ends then, and that is all it can do.
        drop(copy(&daemon, &channel));
    });
    drop(copy(&channel_in, &daemon_out));
    daemon_out.shutdown(Shutdown::Write)
}

fn copy(mut from: &UnixStream, mut to: &UnixStream) -> std::io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            read => to.write_all(buffer.get(..read).unwrap_or_default())?,
        }
    }
}

/// Opens a host, starts a cell, says so, and waits to be killed. Arguments: data, cache, runtime, guest, image, disk.
fn daemon(args: &[String]) -> std::io::Result<()> {
    let [data, cache, runtime, guest, image, disk] = args else {
        return Err(std::io::Error::other("six paths are needed"));
    };
    let dirs = HostDirs { data: data.into(), cache: cache.into(), runtime: runtime.into() };
    let launcher = std::env::current_exe()?;
    let config = HostConfig { dirs, guest: guest.into(), launcher, kernel: None };
    let spec = CellSpec {
        id: CellId::from_parts(1, u128::from(std::process::id())),
        image: PathBuf::from(image),
        disk: PathBuf::from(disk),
        limits: Limits { memory: ByteSize::mib(256), disk: ByteSize::mib(64), ..Limits::default() },
        start: StartMode::Clone,
        emulation: EmulationRule::Allow,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let host = CellHost::open(config).map_err(std::io::Error::other)?;
        let cell = host.start(spec).await.map_err(std::io::Error::other)?;
        writeln!(std::io::stdout(), "running")?;
        Err(std::io::Error::other(cell.ended().await.to_string()))
    })
}

/// Tries one thing and says on standard output how it went.
fn probe(args: &[String]) -> std::io::Result<()> {
    let tried = match args.first().map(String::as_str) {
        Some("wait") => wait(),
        Some("files") => std::fs::read_dir("/").map(|_| files(Path::new("/")).join("\n")),
        Some("read") => std::fs::read("/etc/passwd").map(|_| "read".to_owned()),
        Some("write") => std::fs::write("/file", "x").map(|()| "written".to_owned()),
        Some("thread") => {
            std::thread::spawn(|| "ran".to_owned()).join().map_err(|_| std::io::Error::other("no"))
        }
        Some("process") => std::process::Command::new("/bin/true").status().map(|status| status.to_string()),
        Some("signal") => signal(),
        Some("memfd") => rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::empty())
            .map(|_| "made".to_owned())
            .map_err(Into::into),
        Some("socket") => std::net::TcpListener::bind("127.0.0.1:0").map(|_| "bound".to_owned()),
        Some("unshare") => nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)
            .map(|()| "unshared".to_owned())
            .map_err(Into::into),
        Some("mount") => nix::mount::umount2("/", nix::mount::MntFlags::MNT_DETACH)
            .map(|()| "unmounted".to_owned())
            .map_err(Into::into),
        Some("setuid") => {
            nix::unistd::setuid(nix::unistd::Uid::from_raw(0)).map(|()| "root".to_owned()).map_err(Into::into)
        }
        _ => Err(std::io::Error::other("no such probe")),
    };
    let text = match tried {
        Ok(text) => format!("ok {text}"),
        Err(error) => format!("failed {error}"),
    };
    std::io::stdout().write_all(text.as_bytes())
}

/// Says that it waits, and does until its input is closed.
fn wait() -> std::io::Result<String> {
    std::io::stdout().write_all(b".")?;
    std::io::stdout().flush()?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok("waited".to_owned())
}

fn signal() -> std::io::Result<String> {
    nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGCONT)?;
    Ok("sent".to_owned())
}

/// Every path below this one, without what can't be listed.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        found.push(path.display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&path));
        }
    }
    found
}
