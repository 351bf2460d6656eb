//! The guest's end of the link to the container's init: one task owns it, others ask it for processes.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use tokio::sync::{mpsc, oneshot};
use wire::process::{Exit, ProcessSpec};

use super::inside::Verified;
use super::packets::{self, FromInit, ToInit};
use crate::async_file::AsyncFile;
use crate::fault::{During, Fault};
use crate::machine;

/// Asks the init for processes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link(mpsc::Sender<Ask>);

/// A process that was started in the container.
pub(crate) struct Running {
    /// The near end of its terminal, if it has one.
    pub(crate) terminal: Option<OwnedFd>,
    /// How it ended, once it has. An error: the container is gone.
    pub(crate) exited: oneshot::Receiver<Exit>,
    id: u32,
    link: Link,
}

enum Ask {
    Start { spec: ProcessSpec, streams: Vec<OwnedFd>, answer: oneshot::Sender<Result<Running, String>> },
    Signal { id: u32, signal: u8 },
}

impl Link {
    /// Waits for the init to say that it stands, then serves the link from a task of its own.
    pub(crate) async fn open(socket: AsyncFile) -> Result<(Self, Verified), Fault> {
        let first = socket.when_readable(|fd| packets::receive::<FromInit>(fd)).await;
        let verified = match first.during("waiting for the container's init")? {
            Some((FromInit::Ready { verified }, _)) => verified,
            Some((FromInit::Unprotected { why }, _)) => return Err(Fault::new(why)),
            Some(_) => return Err(Fault::new("the container's init spoke out of turn")),
            None => return Err(Fault::new("the container's init ended before it was ready")),
        };
        let (asks, asked) = mpsc::channel(16);
        let link = Self(asks);
        let desk =
            Desk { socket, link: link.clone(), next: 0, starting: BTreeMap::new(), running: BTreeMap::new() };
        tokio::spawn(desk.serve(asked));
        Ok((link, verified))
    }

    /// Returns once the init has ended, and every process of the container with it.
    pub(crate) async fn ended(&self) {
        self.0.closed().await;
    }

    /// Starts a process with these standard streams, or a terminal if its specification says so.
    pub(crate) async fn start(&self, spec: ProcessSpec, streams: Vec<OwnedFd>) -> Result<Running, String> {
        const GONE: &str = "the container has ended";
        let (answer, started) = oneshot::channel();
        self.0.send(Ask::Start { spec, streams, answer }).await.map_err(|_| GONE.to_owned())?;
        started.await.map_err(|_| GONE.to_owned())?
    }
}

impl Running {
    /// Signals its process group.
    pub(crate) async fn signal(&self, signal: u8) {
        // A container that is gone needs no signal.
        drop(self.link.0.send(Ask::Signal { id: self.id, signal }).await);
    }
}

/// The owner of the socket.
struct Desk {
    socket: AsyncFile,
    link: Link,
    next: u32,
    starting: BTreeMap<u32, oneshot::Sender<Result<Running, String>>>,
    running: BTreeMap<u32, oneshot::Sender<Exit>>,
}

impl Desk {
    async fn serve(mut self, mut asked: mpsc::Receiver<Ask>) {
        let why = loop {
            let done = tokio::select! {
                ask = asked.recv() => match ask {
                    Some(ask) => self.ask(ask).await,
                    None => break "nobody needs it".to_owned(),
                },
                message = self.socket.when_readable(|fd| packets::receive::<FromInit>(fd)) => match message {
                    Ok(Some((message, descriptors))) => { self.hear(message, descriptors); Ok(()) }
                    Ok(None) => break "its init ended".to_owned(),
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = done {
                break error.to_string();
            }
        };
        machine::log(&format!("the link to the container is closed: {why}"));
    }

    async fn ask(&mut self, ask: Ask) -> io::Result<()> {
        match ask {
            Ask::Signal { id, signal } => self.send(&ToInit::Signal { id, signal }, &[]).await,
            Ask::Start { spec, streams, answer } => {
                let id = self.next;
                self.next = self.next.wrapping_add(1);
                self.send(&ToInit::Start { id, spec }, &streams).await?;
                self.starting.insert(id, answer);
                Ok(())
            }
        }
    }

    async fn send(&self, message: &ToInit, streams: &[OwnedFd]) -> io::Result<()> {
        let beside: Vec<_> = streams.iter().map(AsFd::as_fd).collect();
        self.socket
            .when_writable(|fd| match packets::send(fd, message, &beside) {
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                sent => sent,
            })
            .await
    }

    /// Messages for processes that nobody waits for are dropped: the init may say what it likes.
    fn hear(&mut self, message: FromInit, descriptors: Vec<OwnedFd>) {
        match message {
            FromInit::Started { id } => {
                let Some(answer) = self.starting.remove(&id) else { return };
                let (exit, exited) = oneshot::channel();
                let terminal = descriptors.into_iter().next();
                let running = Running { terminal, exited, id, link: self.link.clone() };
                if answer.send(Ok(running)).is_ok() {
                    self.running.insert(id, exit);
                }
            }
            FromInit::Failed { id, why } => {
                if let Some(answer) = self.starting.remove(&id) {
                    // Whoever asked may have gone.
                    drop(answer.send(Err(why)));
                }
            }
            FromInit::Exited { id, exit } => {
                if let Some(waiting) = self.running.remove(&id)
                    && waiting.send(exit).is_err()
                {
                    machine::log("a process ended that nobody waited for");
                }
            }
            FromInit::Ready { .. } | FromInit::Unprotected { .. } => {}
        }
    }
}
