//! `lazaret jail`: the process that stands between the daemon and a jailed program, from start to clean-up.

use std::fs;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal, WaitOptions, pidfd_send_signal, waitpid};
use sys::namespaces::{Forked, Namespaces, fork_into};

use super::identity::{INSIDE_ID, Identity, helper};
use super::inside;
use super::spec::{InsideReport, JailEnd, JailSpec, REPORT_BYTES, Report, SPEC_BYTES, SPEC_FDS};
use crate::wall::Wall;

/// The body of the hidden command `lazaret jail`: standard input is the control socket, over which the spec and the
/// program's descriptors come. Must be called by a process that has started no thread. Its exit code says only whether
/// it did its own work; how the program ended goes over the control socket.
pub fn jail_main() -> ! {
    let code = match control().and_then(|control| supervise(&control)) {
        Ok(()) => 0,
        Err(error) => {
            // Standard error is the daemon's log of this jail; if it is gone too, nobody listens.
            drop(writeln!(io::stderr(), "lazaret jail: {error}"));
            1
        }
    };
    std::process::exit(code)
}

fn control() -> io::Result<UnixStream> {
    Ok(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?))
}

fn supervise(control: &UnixStream) -> io::Result<()> {
    let (spec, descriptors) = receive(control)?;
    let lock = lock_mount_point(&spec)?;
    let started = start(&spec, descriptors, control);
    let ended = match started {
        Ok(Some(child)) => child.watch(control),
        Ok(None) => Ok(None),
        Err(error) => {
            report(control, &Report::Failed { why: error.to_string() })?;
            Ok(None)
        }
    };
    let cgroup = spec.cgroup.as_ref().map_or(Ok(()), super::cgroup::CgroupPlan::remove);
    let mount_point = fs::remove_dir(&spec.mount_point);
    drop(lock);
    if let Some(end) = ended? {
        report(control, &Report::Ended(end))?;
    }
    cgroup.and(mount_point)
}

/// The daemon that comes after a crash takes this lock to see that no supervisor is left in here.
fn lock_mount_point(spec: &JailSpec) -> io::Result<OwnedFd> {
    let folder = rustix::fs::open(
        &spec.mount_point,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
    Ok(folder)
}

struct Child {
    pid: i32,
    pidfd: OwnedFd,
}

/// Starts the inside and waits until it has become the program. `None` when it failed and has been reported.
fn start(spec: &JailSpec, descriptors: Vec<OwnedFd>, control: &UnixStream) -> io::Result<Option<Child>> {
    let (inside_report, report_end) = pipe()?;
    let (go_end, go) = pipe()?;
    let ids = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let mut missing = Vec::new();
    let joined = match &spec.cgroup {
        Some(plan) => match plan.make() {
            Ok(()) => Some(plan),
            Err(error) => {
                missing.push(format!("{}: {error}", Wall::Cgroup.name()));
                None
            }
        },
        None => None,
    };
    let user = !matches!(spec.identity, Identity::Alone { .. });
    let forked = fork_into(Namespaces { user, network: true }, None).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("{} can't be made: {error}; {}", Wall::Namespaces.name(), Wall::Namespaces.advice()),
        )
    })?;
    let Forked::Parent { pid, pidfd } = forked else {
        drop((inside_report, go));
        inside::become_program(spec, inside::Handed { descriptors, go: go_end, report: report_end, ids });
        std::process::exit(1);
    };
    drop((descriptors, report_end, go_end));
    let child = Child { pid, pidfd };
    let ready = let_go(spec, joined, &child, ids, go).and_then(|()| inside_says(inside_report));
    let why = match ready {
        Ok(InsideReport::Ready { missing: more }) => {
            missing.extend(more);
            report(control, &Report::Running { missing })?;
            return Ok(Some(child));
        }
        Ok(InsideReport::Failed { why }) => why,
        Err(error) => error.to_string(),
    };
    let end = child.end()?;
    let killed = end.signal.map(|signal| format!(" (ended by signal {signal})")).unwrap_or_default();
    report(control, &Report::Failed { why: format!("{why}{killed}") })?;
    Ok(None)
}

/// What only the outside can do for the inside, then the sign to go on.
fn let_go(
    spec: &JailSpec,
    joined: Option<&super::cgroup::CgroupPlan>,
    child: &Child,
    ids: (u32, u32),
    go: OwnedFd,
) -> io::Result<()> {
    if let Some(plan) = joined {
        plan.join(child.pid)?;
    }
    if let Identity::Subordinate { uid, gid } = spec.identity {
        map("newuidmap", child.pid, ids.0, uid)?;
        map("newgidmap", child.pid, ids.1, gid)?;
    }
    fs::File::from(go).write_all(&[1])
}

/// Reads to the end: the pipe closes when the inside has become the program, or has ended.
fn inside_says(pipe: OwnedFd) -> io::Result<InsideReport> {
    let mut text = String::new();
    fs::File::from(pipe).take(REPORT_BYTES as u64).read_to_string(&mut text)?;
    let last = text.lines().next_back().ok_or_else(|| io::Error::other("it said nothing"))?;
    serde_json::from_str(last).map_err(io::Error::other)
}

/// Maps two ids of the child's user namespace: the user's own to itself (to set up the files) and one subordinate id.
fn map(program: &str, pid: i32, own: u32, subordinate: u32) -> io::Result<()> {
    let path = helper(program).ok_or_else(|| io::Error::other(format!("`{program}` is not installed")))?;
    let numbers = [pid.to_string(), own.to_string(), own.to_string(), "1".into()];
    let more = [INSIDE_ID.to_string(), subordinate.to_string(), "1".into()];
    let output = Command::new(path)
        .args(numbers)
        .args(more)
        .env_clear()
        .stdin(std::process::Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("`{program}` failed: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

impl Child {
    /// Waits for the end of the program, or of the daemon's interest in it.
    fn watch(self, control: &UnixStream) -> io::Result<Option<JailEnd>> {
        loop {
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN), PollFd::new(control, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let [child, control] = fds;
            // Anything on the control socket is its end: the daemon says nothing more after the spec.
            if !control.revents().is_empty() || !child.revents().is_empty() {
                return self.end().map(Some);
            }
        }
    }

    /// Kills what still runs, and reaps it. All of its namespace's processes go with it.
    fn end(self) -> io::Result<JailEnd> {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        let pid = Pid::from_raw(self.pid);
        let status = loop {
            match waitpid(pid, WaitOptions::empty()) {
                Ok(Some((_, status))) => break status,
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN)?;
        Ok(JailEnd {
            code: status.exit_status(),
            signal: status.terminating_signal(),
            peak_kib: usage.max_rss(),
        })
    }
}

fn report(control: &UnixStream, what: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    let mut control = control;
    match control.write_all(&line) {
        // The daemon is gone, or has heard enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// Reads the spec: a length, then JSON; the descriptors come with the first bytes.
fn receive(control: &UnixStream) -> io::Result<(JailSpec, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(SPEC_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut length = [0_u8; 4];
    let fd: BorrowedFd<'_> = control.as_fd();
    let message = recvmsg(fd, &mut [IoSliceMut::new(&mut length)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if message.bytes != length.len() {
        return Err(io::Error::other("the daemon sent no spec"));
    }
    let mut descriptors = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = part {
            descriptors.extend(fds);
        }
    }
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > SPEC_BYTES {
        return Err(io::Error::other(format!(
            "a spec of {length} bytes where at most {SPEC_BYTES} are allowed"
        )));
    }
    let mut text = Vec::with_capacity(length);
    let mut control = control;
    Read::by_ref(&mut control).take(length as u64).read_to_end(&mut text)?;
    let spec: JailSpec = serde_json::from_slice(&text)?;
    if descriptors.len() != spec.descriptors.len() {
        return Err(io::Error::other(format!(
            "{} descriptors came where the spec names {}",
            descriptors.len(),
            spec.descriptors.len()
        )));
    }
    Ok((spec, descriptors))
}
