//! The daemon's side of a jail: starts the supervisor, hears how it goes, ends it.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::spec::{JailEnd, JailSpec, REPORT_BYTES, Report, SPEC_BYTES, SPEC_FDS};

/// Why a jail could not be had.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// The launcher could not be started or talked to.
    #[error("the jail's launcher failed: {0}")]
    Launcher(#[from] io::Error),
    /// A wall that is required could not be built, or a file is missing.
    #[error("the jail could not be built: {0}")]
    Refused(String),
    /// The jail was not up in time.
    #[error("the jail was not up within {} s", .0.as_secs())]
    Late(Duration),
}

/// A jail takes milliseconds to build; a busy machine gets this long.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// A killed jail is gone in milliseconds, too.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// A program that runs in its jail. Dropping this kills it, and the supervisor cleans up behind.
#[derive(Debug)]
pub(crate) struct Jailed {
    supervisor: Child,
    reports: tokio::io::Lines<BufReader<tokio::io::Take<UnixStream>>>,
    missing: Vec<String>,
}

impl Jailed {
    /// Starts a program in a jail and waits until it runs. `descriptors` go to the numbers in the spec, in order.
    pub(crate) async fn launch(
        launcher: &Path,
        spec: &JailSpec,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Self, JailError> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let supervisor = Command::new(launcher)
            .arg("jail")
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .current_dir("/")
            .spawn()?;
        ours.set_nonblocking(true)?;
        let mut control = UnixStream::from_std(ours)?;
        let text = serde_json::to_vec(spec).map_err(io::Error::other)?;
        if text.len() > SPEC_BYTES || descriptors.len() > SPEC_FDS {
            return Err(JailError::Refused(format!("its description has {} bytes", text.len())));
        }
        send_descriptors(&control, u32::try_from(text.len()).unwrap_or(u32::MAX), &descriptors).await?;
        drop(descriptors);
        control.write_all(&text).await?;
        let reports = BufReader::new(control.take(4 * REPORT_BYTES as u64)).lines();
        let mut jailed = Self { supervisor, reports, missing: Vec::new() };
        match tokio::time::timeout(UP_WITHIN, jailed.next_report()).await {
            Err(_) => Err(JailError::Late(UP_WITHIN)),
            Ok(Ok(Report::Running { missing })) => {
                jailed.missing = missing;
                Ok(jailed)
            }
            Ok(Ok(Report::Failed { why })) => {
                jailed.supervisor.wait().await?;
                Err(JailError::Refused(why))
            }
            Ok(Ok(Report::Ended(end))) => Err(JailError::Refused(format!("it ended at once: {end:?}"))),
            Ok(Err(error)) => Err(error.into()),
        }
    }

    /// Walls that this host could not give, for people.
    pub(crate) fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Waits for the program's end. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> io::Result<JailEnd> {
        match self.next_report().await? {
            Report::Ended(end) => Ok(end),
            Report::Running { .. } | Report::Failed { .. } => {
                Err(io::Error::other("the jail's supervisor reported out of order"))
            }
        }
    }

    /// Kills the program and waits until its jail is gone.
    pub(crate) async fn kill(mut self) -> io::Result<JailEnd> {
        self.reports.get_mut().get_mut().get_mut().shutdown().await?;
        let gone = async {
            let end = self.ended().await?;
            self.supervisor.wait().await?;
            Ok(end)
        };
        tokio::time::timeout(GONE_WITHIN, gone)
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the jail's supervisor doesn't end")))
    }

    /// Waits for the supervisor itself, once the program's end has been seen.
    pub(crate) async fn cleaned(mut self) -> io::Result<()> {
        let status = tokio::time::timeout(GONE_WITHIN, self.supervisor.wait())
            .await
            .map_err(|_| io::Error::other("the jail's supervisor doesn't end"))??;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("the jail's clean-up failed: {status}")))
        }
    }

    async fn next_report(&mut self) -> io::Result<Report> {
        let line = self
            .reports
            .next_line()
            .await?
            .ok_or_else(|| io::Error::other("the jail's supervisor ended without a report"))?;
        serde_json::from_str(&line).map_err(io::Error::other)
    }
}

async fn send_descriptors(control: &UnixStream, length: u32, descriptors: &[OwnedFd]) -> io::Result<()> {
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    control.writable().await?;
    control.try_io(tokio::io::Interest::WRITABLE, || {
        let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(SPEC_FDS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !borrowed.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
            return Err(io::Error::other("too many descriptors for one jail"));
        }
        let sent =
            sendmsg(control, &[IoSlice::new(&length.to_le_bytes())], &mut ancillary, SendFlags::NOSIGNAL)?;
        if sent == 4 { Ok(()) } else { Err(io::Error::other("the jail's launcher takes no spec")) }
    })
}
