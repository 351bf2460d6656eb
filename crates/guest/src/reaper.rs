//! Ended children of PID 1: its own and those that it inherits.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use sys::spawn::Leader;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use wire::process::Exit;

use crate::fault::{During, Fault};
use crate::machine;

/// Starts children of PID 1 and collects whatever ends. Cheap to clone; for one thread.
#[derive(Clone, Default)]
pub(crate) struct Reaper(Rc<RefCell<BTreeMap<i32, oneshot::Sender<Exit>>>>);

/// A child of PID 1.
pub(crate) struct Child {
    /// Its process id, which is also that of its process group.
    pub(crate) id: i32,
    /// Its standard input, if it was asked for.
    pub(crate) stdin: Option<ChildStdin>,
    /// Its standard output, if it was asked for.
    pub(crate) stdout: Option<ChildStdout>,
    /// Its standard error, if it was asked for.
    pub(crate) stderr: Option<ChildStderr>,
    /// How it ended, once it has.
    pub(crate) exited: oneshot::Receiver<Exit>,
}

impl Reaper {
    /// Starts a program in a session of its own.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let child = sys::spawn::start(command, Leader::default())?;
        let id = child.id().cast_signed();
        let (exit, exited) = oneshot::channel();
        self.0.borrow_mut().insert(id, exit);
        Ok(Child { id, stdin: child.stdin, stdout: child.stdout, stderr: child.stderr, exited })
    }

    /// Collects the dead until the runtime ends.
    pub(crate) async fn run(self) -> Result<(), Fault> {
        let mut ended = signal(SignalKind::child()).during("watching for ended children")?;
        loop {
            self.collect()?;
            if ended.recv().await.is_none() {
                return Ok(());
            }
        }
    }

    fn collect(&self) -> Result<(), Fault> {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(status) => match exit(status) {
                    Some((pid, exit)) => {
                        if let Some(waiting) = self.0.borrow_mut().remove(&pid.as_raw())
                            && waiting.send(exit).is_err()
                        {
                            machine::log("a child ended that nobody waited for");
                        }
                    }
                    None => return Ok(()),
                },
                Err(Errno::ECHILD) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).during("collecting ended children"),
            }
        }
    }
}

/// Who ended, and how, if this status says so.
pub(crate) fn exit(status: WaitStatus) -> Option<(Pid, Exit)> {
    if let WaitStatus::Exited(pid, code) = status {
        Some((pid, Exit::Code(u8::try_from(code).unwrap_or(u8::MAX))))
    } else if let WaitStatus::Signaled(pid, signal, _) = status {
        Some((pid, Exit::Signal(u8::try_from(signal as i32).unwrap_or(u8::MAX))))
    } else {
        None
    }
}
