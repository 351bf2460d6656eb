//! A process on one stream: started where the host says, fed, watched, signalled, and killed when the host goes.

use std::future::pending;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Gid, Pid, Uid, fchown, pipe2};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use wire::frame::{self, CHUNK, FrameError};
use wire::mux::Stream;
use wire::process::{Exit, FromProcess, Place, ProcessSpec, ToProcess, TtySize};

use crate::async_file::AsyncFile;
use crate::born::Guest;
use crate::container::Running;
use crate::container::plan::AGENT;
use crate::machine;

/// Chunks of standard input that may wait for a process that doesn't read, so that signals still get through: 1 MiB.
const INPUT_QUEUE: usize = 32;

/// After a process has ended its output is read on until it ends, or is silent for this long, or has brought as much
/// as a pipe can hold: its own last words are then through, and what its children still say is not waited for.
const SILENCE: Duration = Duration::from_millis(100);

/// As much as a pipe holds.
const PIPE: usize = 64 * 1024;

/// Starts the process and serves its stream to the end.
pub(crate) async fn serve(stream: Stream, spec: ProcessSpec, guest: &Guest) {
    let (from, mut to) = tokio::io::split(stream);
    let done = match start(spec, guest).await {
        Ok(process) => run(process, from, &mut to).await,
        Err(why) => say(&mut to, &FromProcess::Failed { why }).await,
    };
    let closed = async { to.shutdown().await.map_err(FrameError::from) };
    if let Err(error) = done.and(closed.await) {
        machine::log(&format!("the stream of a process: {error}"));
    }
}

/// A process that runs, and what is left of it here.
pub(crate) struct Process {
    /// Its standard input or terminal.
    pub(crate) stdin: Option<AsyncFile>,
    /// Its standard output or terminal.
    pub(crate) stdout: Option<AsyncFile>,
    /// Its standard error.
    pub(crate) stderr: Option<AsyncFile>,
    terminal: Option<OwnedFd>,
    group: Group,
}

/// The process group, wherever it is.
enum Group {
    Contained(Running),
    Root { id: i32, exited: oneshot::Receiver<Exit> },
}

impl Process {
    /// Signals the process group.
    pub(crate) async fn signal(&self, signal: u8) {
        match &self.group {
            Group::Contained(running) => running.signal(signal).await,
            Group::Root { id, .. } => {
                if let Ok(signal) = Signal::try_from(i32::from(signal))
                    && let Err(error) = killpg(Pid::from_raw(*id), signal)
                {
                    machine::log(&format!("signalling process {id}: {error}"));
                }
            }
        }
    }

    /// How the process ended, once it has. Whatever ends with its container was killed.
    pub(crate) async fn exited(&mut self) -> Exit {
        let exited = match &mut self.group {
            Group::Contained(running) => &mut running.exited,
            Group::Root { exited, .. } => exited,
        };
        exited.await.unwrap_or(Exit::Signal(9))
    }

    fn resize(&self, size: TtySize) {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        if let Some(Err(error)) = self.terminal.as_ref().map(|terminal| tcsetwinsize(terminal, size)) {
            machine::log(&format!("resizing a terminal: {error}"));
        }
    }
}

/// Starts a process where its specification says.
///
/// # Errors
/// Says for people what failed.
pub(crate) async fn start(spec: ProcessSpec, guest: &Guest) -> Result<Process, String> {
    if spec.argv.is_empty() {
        return Err("there is no program to start: `argv` is empty".to_owned());
    }
    match spec.place {
        Place::Container => {
            let container = guest.container.get().ok_or("the container is not configured yet")?;
            let streams =
                if spec.tty.is_some() { None } else { Some(Pipes::new().map_err(|e| e.to_string())?) };
            let (near, far) = streams.map_or((None, Vec::new()), |pipes| (Some(pipes.near), pipes.far));
            let running = container.link.start(spec, far).await?;
            contained(running, near).map_err(|error| error.to_string())
        }
        Place::GuestRoot if !guest.guest_root.get() => {
            Err("processes outside the container are not allowed in this cell".to_owned())
        }
        Place::GuestRoot => {
            root(&spec, guest).map_err(|error| format!("starting a process of the guest: {error}"))
        }
    }
}

fn contained(mut running: Running, pipes: Option<[OwnedFd; 3]>) -> io::Result<Process> {
    let terminal = running.terminal.take();
    let (stdin, stdout, stderr) = match (pipes, &terminal) {
        (Some([stdin, stdout, stderr]), _) => (stdin, stdout, Some(AsyncFile::new(stderr)?)),
        (None, Some(terminal)) => (terminal.try_clone()?, terminal.try_clone()?, None),
        (None, None) => return Err(io::Error::other("the container gave no terminal")),
    };
    let (stdin, stdout) = (Some(AsyncFile::new(stdin)?), Some(AsyncFile::new(stdout)?));
    Ok(Process { stdin, stdout, stderr, terminal, group: Group::Contained(running) })
}

/// A process of the guest's root: pipes only, and the guest's own file system.
fn root(spec: &ProcessSpec, guest: &Guest) -> io::Result<Process> {
    let (program, arguments) = spec.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&spec.cwd)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = guest.reaper.spawn(&mut command)?;
    Ok(Process {
        stdin: child.stdin.map(OwnedFd::from).map(AsyncFile::new).transpose()?,
        stdout: child.stdout.map(OwnedFd::from).map(AsyncFile::new).transpose()?,
        stderr: child.stderr.map(OwnedFd::from).map(AsyncFile::new).transpose()?,
        terminal: None,
        group: Group::Root { id: child.id, exited: child.exited },
    })
}

/// Three pipes: the ends that stay here and those of the process, in the order of their numbers.
struct Pipes {
    near: [OwnedFd; 3],
    far: Vec<OwnedFd>,
}

impl Pipes {
    fn new() -> io::Result<Self> {
        let [stdin, stdout, stderr] = [Self::pipe()?, Self::pipe()?, Self::pipe()?];
        Ok(Self { near: [stdin.1, stdout.0, stderr.0], far: vec![stdin.0, stdout.1, stderr.1] })
    }

    /// A pipe that the agent owns, so that its programs can open `/dev/stdout`.
    fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        fchown(read.as_fd(), Some(Uid::from_raw(AGENT)), Some(Gid::from_raw(AGENT)))?;
        Ok((read, write))
    }
}

/// Serves both directions until the process has ended and said its last word, or the host is gone.
async fn run(
    mut process: Process,
    from: ReadHalf<Stream>,
    to: &mut WriteHalf<Stream>,
) -> Result<(), FrameError> {
    let (mut stdout, mut stderr) = (process.stdout.take(), process.stderr.take());
    let (orders, mut ordered) = mpsc::channel(4);
    let hearing = tokio::task::spawn_local(hear(from, process.stdin.take(), orders));
    let said = async {
        say(to, &FromProcess::Started).await?;
        let mut exit = None;
        let mut host = true;
        while exit.is_none() {
            tokio::select! {
                ended = process.exited() => exit = Some(ended),
                order = ordered.recv(), if host => match order {
                    Some(Order::Signal(signal)) => process.signal(signal).await,
                    Some(Order::Resize(size)) => process.resize(size),
                    None => { host = false; process.signal(Signal::SIGKILL as u8).await }
                },
                bytes = chunk(&mut stdout) => if let Some(bytes) = bytes { say(to, &FromProcess::Stdout(bytes)).await? },
                bytes = chunk(&mut stderr) => if let Some(bytes) = bytes { say(to, &FromProcess::Stderr(bytes)).await? },
            }
        }
        for (output, name) in [
            (&mut stdout, FromProcess::Stdout as fn(Vec<u8>) -> FromProcess),
            (&mut stderr, FromProcess::Stderr),
        ] {
            let mut left = PIPE;
            while left > 0
                && let Ok(Some(bytes)) = tokio::time::timeout(SILENCE, rest(output)).await
            {
                left = left.saturating_sub(bytes.len());
                say(to, &name(bytes)).await?;
            }
        }
        match exit {
            Some(exit) => say(to, &FromProcess::Exited(exit)).await,
            None => Ok(()),
        }
    };
    let result = said.await;
    hearing.abort();
    if result.is_err() {
        process.signal(Signal::SIGKILL as u8).await;
    }
    result
}

/// What the host wants besides feeding it.
enum Order {
    Signal(u8),
    Resize(TtySize),
}

/// Hears the host out. The end of this, without the host having ended its half, is an error of the host's.
async fn hear(mut from: ReadHalf<Stream>, stdin: Option<AsyncFile>, orders: mpsc::Sender<Order>) {
    let (input, queue) = mpsc::channel(INPUT_QUEUE);
    let mut input = Some(input);
    tokio::task::spawn_local(feed(stdin, queue));
    loop {
        let heard = match frame::read(&mut from, frame::SMALL).await {
            Ok(Some(ToProcess::Stdin(bytes))) if bytes.len() <= CHUNK => {
                // A process that has closed its standard input wants no more.
                if let Some(input) = &input {
                    drop(input.send(bytes).await)
                }
                Ok(())
            }
            Ok(Some(ToProcess::StdinEnd)) => {
                input = None;
                Ok(())
            }
            Ok(Some(ToProcess::Signal(signal))) => orders.send(Order::Signal(signal)).await,
            Ok(Some(ToProcess::Resize(size))) => orders.send(Order::Resize(size)).await,
            Ok(Some(ToProcess::Stdin(_)) | None) | Err(_) => return,
        };
        if heard.is_err() {
            return;
        }
    }
}

/// Writes what is queued; the end of the queue closes standard input. A terminal hears an end of file.
async fn feed(stdin: Option<AsyncFile>, mut queue: mpsc::Receiver<Vec<u8>>) {
    let Some(mut stdin) = stdin else { return };
    while let Some(bytes) = queue.recv().await {
        if stdin.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// The next bytes of an output that has not ended; `None` when it just has.
async fn chunk(output: &mut Option<AsyncFile>) -> Option<Vec<u8>> {
    match output {
        Some(_) => rest(output).await,
        None => pending().await,
    }
}

/// The next bytes of an output; `None` when it has ended.
async fn rest(output: &mut Option<AsyncFile>) -> Option<Vec<u8>> {
    let mut bytes = vec![0_u8; CHUNK];
    let read = match output.as_mut()?.read(&mut bytes).await {
        // A terminal answers so once its last process has gone.
        Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => 0,
        Err(error) => {
            machine::log(&format!("reading a process's output: {error}"));
            0
        }
        Ok(read) => read,
    };
    if read == 0 {
        *output = None;
        return None;
    }
    bytes.truncate(read);
    Some(bytes)
}

async fn say(to: &mut WriteHalf<Stream>, message: &FromProcess) -> Result<(), FrameError> {
    frame::write(to, message, frame::SMALL).await
}
