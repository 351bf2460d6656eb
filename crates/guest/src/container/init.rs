//! The container's own PID 1: confines itself for good, checks what confines it, then starts processes for the guest's
//! PID 1, which inherit all of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::DumpableBehavior;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use sys::spawn::Leader;
use wire::process::{ProcessSpec, TtySize};

use super::packets::{self, FromInit, ToInit};
use super::{inside, plan};
use crate::fault::{During, Fault};
use crate::reaper;

/// Runs until the guest's PID 1 goes or a protection is found missing.
pub(crate) fn run() -> ExitCode {
    match confined() {
        Ok(mut init) => init.serve().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
        Err(_nobody_to_tell) => ExitCode::FAILURE,
    }
}

/// The init and the processes that it has started.
struct Init {
    link: OwnedFd,
    children: SignalFd,
    running: BTreeMap<Pid, u32>,
}

/// Takes the link, confines this process and reports what was verified.
fn confined() -> Result<Init, Fault> {
    let link = take_link().during("taking the link")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).during("hiding memory")?;
    let writable = plan::WRITABLE.map(Path::new);
    let confined = sys::files_rule::confine(&writable, &[Path::new("/dev"), Path::new("/proc")])
        .during("confining with Landlock")
        .and_then(|()| inside::verify());
    match confined {
        Ok(verified) => packets::send(&link, &FromInit::Ready { verified }, &[]).during("reporting")?,
        Err(fault) => {
            packets::send(&link, &FromInit::Unprotected { why: fault.to_string() }, &[])
                .during("reporting")?;
            return Err(fault);
        }
    }
    let mut ended = SigSet::empty();
    ended.add(Signal::SIGCHLD);
    ended.thread_block().during("blocking SIGCHLD")?;
    let children = SignalFd::with_flags(&ended, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .during("watching processes")?;
    Ok(Init { link, children, running: BTreeMap::new() })
}

/// The link came as standard input; all three standard streams become `/dev/null`.
fn take_link() -> io::Result<OwnedFd> {
    let link = io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(link)
}

impl Init {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let mut ready = [
                PollFd::new(self.link.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [link, children] = ready.map(|fd| fd.any().unwrap_or(false));
            if children {
                self.reap()?;
            }
            if link {
                match packets::receive::<ToInit>(&self.link)? {
                    None => return Ok(()),
                    Some((ToInit::Start { id, spec }, streams)) => self.start(id, &spec, streams)?,
                    Some((ToInit::Signal { id, signal }, _)) => self.signal(id, signal),
                }
            }
        }
    }

    fn start(&mut self, id: u32, spec: &ProcessSpec, streams: Vec<OwnedFd>) -> io::Result<()> {
        let (answer, terminal) = match self.spawn(id, spec, streams) {
            Ok(terminal) => (FromInit::Started { id }, terminal),
            Err(error) => {
                let program = spec.argv.first().map_or("", String::as_str);
                (
                    FromInit::Failed { id, why: format!("starting `{program}` in `{}`: {error}", spec.cwd) },
                    None,
                )
            }
        };
        let beside: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
        packets::send(&self.link, &answer, &beside)
    }

    fn spawn(&mut self, id: u32, spec: &ProcessSpec, streams: Vec<OwnedFd>) -> io::Result<Option<OwnedFd>> {
        let mut command = command(spec)?;
        let terminal = if let Some(size) = spec.tty {
            let (near, far) = terminal(size)?;
            command.stdin(far.try_clone()?).stdout(far.try_clone()?).stderr(far);
            Some(near)
        } else {
            let mut streams = streams.into_iter();
            let mut next = || streams.next().map(Stdio::from).ok_or(io::ErrorKind::InvalidInput);
            command.stdin(next()?).stdout(next()?).stderr(next()?);
            None
        };
        let child =
            sys::spawn::start(&mut command, Leader { terminal: terminal.is_some(), killed_first: true })?;
        self.running.insert(Pid::from_raw(child.id().cast_signed()), id);
        Ok(terminal)
    }

    fn signal(&self, id: u32, signal: u8) {
        let Some((pid, _)) = self.running.iter().find(|(_, running)| **running == id) else { return };
        if let Ok(signal) = Signal::try_from(i32::from(signal)) {
            // The only error is that the group has just ended, which its exit tells.
            let _ended = killpg(*pid, signal).is_err();
        }
    }

    /// Collects every ended process, also those whose parents are gone.
    fn reap(&mut self) -> io::Result<()> {
        while self.children.read_signal()?.is_some() {}
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(status) => status,
                Err(Errno::ECHILD) => return Ok(()),
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let Some((pid, exit)) = reaper::exit(status) else { return Ok(()) };
            if let Some(id) = self.running.remove(&pid) {
                packets::send(&self.link, &FromInit::Exited { id, exit }, &[])?;
            }
        }
    }
}

/// A new terminal of this size: the near end and the far one.
fn terminal(size: TtySize) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let near = openpt(flags)?;
    unlockpt(&near)?;
    let far = ioctl_tiocgptpeer(&near, flags)?;
    tcsetwinsize(&far, window(size))?;
    Ok((near, far))
}

/// A size as the kernel has it.
pub(crate) fn window(size: TtySize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// The command of a process. Two names are reserved for harnesses of this program.
fn command(spec: &ProcessSpec) -> io::Result<Command> {
    let (program, arguments) = spec.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = match program.as_str() {
        "lazaret-builtin" => harness("builtin"),
        "lazaret-acp" => harness("acp"),
        _ => Command::new(program),
    };
    command
        .args(arguments)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&spec.cwd);
    Ok(command)
}

fn harness(name: &str) -> Command {
    let mut command = Command::new(plan::PROGRAM);
    command.arg(name);
    command
}
