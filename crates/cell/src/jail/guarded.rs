//! A jailed program together with the last words on its standard error.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use super::cgroup::{Budget, CgroupHost};
use super::identity::Identity;
use super::launch::{JailError, Jailed};
use super::spec::{Filter, JailEnd, JailFile, JailSpec, ProcessLimits};
use crate::store;

/// Where and how this host makes jails.
#[derive(Debug, Clone)]
pub(crate) struct Jails {
    /// The executable that has the hidden command `jail`.
    pub(crate) launcher: PathBuf,
    /// The folder of mount points.
    pub(crate) folder: PathBuf,
    /// Prefix of cgroups: differs from daemon to daemon.
    pub(crate) prefix: String,
    /// What cgroups there are.
    pub(crate) cgroups: CgroupHost,
}

/// A program to be jailed.
#[derive(Debug)]
pub(crate) struct Inmate {
    /// Unique on this host: the cell and the role.
    pub(crate) name: String,
    /// Path inside.
    pub(crate) program: String,
    /// Arguments.
    pub(crate) args: Vec<String>,
    /// Environment.
    pub(crate) env: Vec<(String, String)>,
    /// Files of its root.
    pub(crate) files: Vec<JailFile>,
    /// Descriptors with their numbers.
    pub(crate) descriptors: Vec<(OwnedFd, RawFd)>,
    /// Whether it may reopen its own descriptors by path.
    pub(crate) own_descriptors: bool,
    /// System calls.
    pub(crate) filter: Filter,
    /// Per process.
    pub(crate) limits: ProcessLimits,
    /// Altogether.
    pub(crate) budget: Budget,
}

/// A jailed program with its log.
#[derive(Debug)]
pub(crate) struct Guarded {
    jailed: Jailed,
    log: JoinHandle<String>,
}

/// Most bytes of a program's last words that are kept.
const LOG_BYTES: usize = 8 * 1024;

/// A pipe for a program's standard error: what reads it, and the end for the program.
pub(crate) fn log_pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((pipe::Receiver::from_owned_fd(read)?, write))
}

impl Jails {
    /// Jails and starts a program. Its standard error must be the other end of `log`.
    pub(crate) async fn start(&self, inmate: Inmate, log: pipe::Receiver) -> Result<Guarded, JailError> {
        let mount_point = self.folder.join(&inmate.name);
        store::private_folder(&mount_point)?;
        let (fds, numbers) = inmate.descriptors.into_iter().unzip();
        let spec = JailSpec {
            program: inmate.program,
            args: inmate.args,
            env: inmate.env,
            files: inmate.files,
            own_descriptors: inmate.own_descriptors,
            descriptors: numbers,
            identity: Identity::choose(random()?),
            limits: inmate.limits,
            cgroup: self.cgroups.plan(&format!("{}-{}", self.prefix, inmate.name), inmate.budget),
            filter: inmate.filter,
            mount_point: mount_point.clone(),
        };
        let log = tokio::spawn(last_words(log));
        match Jailed::launch(&self.launcher, &spec, fds).await {
            Ok(jailed) => Ok(Guarded { jailed, log }),
            Err(error) => {
                log.abort();
                // The supervisor removes it unless it never got that far.
                match std::fs::remove_dir(&mount_point) {
                    Err(left) if left.kind() != io::ErrorKind::NotFound => {
                        tracing::warn!("`{}` is left until the next start: {left}", mount_point.display());
                    }
                    Ok(()) | Err(_) => {}
                }
                Err(error)
            }
        }
    }
}

impl Guarded {
    /// Walls that this host could not give, for people.
    pub(crate) fn missing(&self) -> &[String] {
        self.jailed.missing()
    }

    /// Waits for the program's end. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> io::Result<JailEnd> {
        self.jailed.ended().await
    }

    /// After [`Self::ended`]: waits for the clean-up; the last words.
    pub(crate) async fn cleaned(self) -> io::Result<String> {
        self.jailed.cleaned().await?;
        self.log.await.map_err(io::Error::other)
    }

    /// Ends it at once and waits until nothing is left; the end and the last words.
    pub(crate) async fn kill(self) -> io::Result<(JailEnd, String)> {
        let end = self.jailed.kill().await?;
        let log = self.log.await.map_err(io::Error::other)?;
        Ok((end, log))
    }
}

async fn last_words(mut from: pipe::Receiver) -> String {
    let mut kept = Vec::new();
    let mut chunk = [0_u8; 4096];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        kept.extend_from_slice(chunk.get(..read).unwrap_or_default());
        let extra = kept.len().saturating_sub(LOG_BYTES);
        kept.drain(..extra);
    }
    let text = String::from_utf8_lossy(&kept);
    text.chars()
        .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Random bits from the kernel.
pub(crate) fn random() -> io::Result<u32> {
    let mut bytes = [0_u8; 4];
    fill_random(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// Fills with random bytes from the kernel.
pub(crate) fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}
