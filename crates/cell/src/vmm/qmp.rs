//! QEMU's control protocol, as far as a template needs it: JSON lines, each bounded, one command at a time.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;

/// Most bytes of one line.
const LINE_BYTES: u64 = 64 * 1024;
/// Most lines (events) before an answer.
const LINES: usize = 1_000;
/// How long one command may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QmpError {
    /// The connection failed or ended.
    #[error("the monitor's control socket: {0}")]
    Io(#[from] io::Error),
    /// QEMU refused.
    #[error("the monitor refused `{command}`: {why}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's words.
        why: String,
    },
    /// QEMU said something that isn't the protocol.
    #[error("the monitor broke its protocol: {0}")]
    Malformed(String),
    /// No answer in time.
    #[error("the monitor did not answer `{0}` in time")]
    Late(String),
}

/// A connection after the greeting.
#[derive(Debug)]
pub(crate) struct Qmp {
    stream: BufReader<UnixStream>,
}

#[derive(Debug, Deserialize)]
struct Line {
    event: Option<String>,
    #[serde(rename = "return")]
    value: Option<Value>,
    error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    desc: String,
}

impl Qmp {
    /// Waits for the greeting and answers it.
    pub(crate) async fn greet(stream: UnixStream) -> Result<Self, QmpError> {
        let mut qmp = Self { stream: BufReader::new(stream) };
        let greeting = tokio::time::timeout(ANSWER_WITHIN, qmp.line())
            .await
            .map_err(|_| QmpError::Late("the greeting".into()))??;
        if !greeting.starts_with(b"{\"QMP\"") {
            return Err(QmpError::Malformed("no greeting".into()));
        }
        qmp.command("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Sends a command and returns its answer; events in between are left out.
    pub(crate) async fn command(&mut self, name: &str, arguments: Value) -> Result<Value, QmpError> {
        self.send(name, arguments, None).await
    }

    /// Sends a command together with a descriptor.
    pub(crate) async fn command_with(
        &mut self,
        name: &str,
        arguments: Value,
        fd: BorrowedFd<'_>,
    ) -> Result<Value, QmpError> {
        self.send(name, arguments, Some(fd)).await
    }

    /// Waits for an event of this name; events that came before an answer are gone.
    pub(crate) async fn event(&mut self, name: &str) -> Result<(), QmpError> {
        let wait = async {
            for _ in 0..LINES {
                let line = self.line().await?;
                let line: Line =
                    serde_json::from_slice(&line).map_err(|e| QmpError::Malformed(e.to_string()))?;
                if line.event.as_deref() == Some(name) {
                    return Ok(());
                }
            }
            Err(QmpError::Malformed(format!("more than {LINES} events")))
        };
        tokio::time::timeout(ANSWER_WITHIN, wait).await.map_err(|_| QmpError::Late(name.to_owned()))?
    }

    async fn send(
        &mut self,
        name: &str,
        arguments: Value,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<Value, QmpError> {
        let mut text = json!({ "execute": name, "arguments": arguments }).to_string().into_bytes();
        text.push(b'\n');
        let exchange = async {
            let socket = self.stream.get_ref();
            socket.writable().await?;
            socket.try_io(tokio::io::Interest::WRITABLE, || send_whole(socket, &text, fd))?;
            self.answer(name).await
        };
        tokio::time::timeout(ANSWER_WITHIN, exchange).await.map_err(|_| QmpError::Late(name.to_owned()))?
    }

    async fn answer(&mut self, name: &str) -> Result<Value, QmpError> {
        for _ in 0..LINES {
            let line = self.line().await?;
            let line: Line = serde_json::from_slice(&line).map_err(|e| QmpError::Malformed(e.to_string()))?;
            match line {
                Line { error: Some(Refusal { desc }), .. } => {
                    let why = desc.chars().filter(|c| !c.is_control()).take(400).collect();
                    return Err(QmpError::Refused { command: name.to_owned(), why });
                }
                Line { value: Some(value), .. } => return Ok(value),
                // An event.
                Line { .. } => {}
            }
        }
        Err(QmpError::Malformed(format!("more than {LINES} events")))
    }

    async fn line(&mut self) -> Result<Vec<u8>, QmpError> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(LINE_BYTES).read_until(b'\n', &mut line).await?;
        if line.last() == Some(&b'\n') {
            Ok(line)
        } else if read as u64 == LINE_BYTES {
            Err(QmpError::Malformed(format!("a line of more than {LINE_BYTES} bytes")))
        } else {
            Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
        }
    }
}

/// Commands are far smaller than a socket's buffer, so one call sends a whole one.
fn send_whole(socket: &UnixStream, text: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let sent = sendmsg(socket, &[IoSlice::new(text)], &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent == text.len() { Ok(()) } else { Err(io::Error::other("a command was cut")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// A monitor that answers everything with these bytes.
    async fn monitor(answers: &'static [&'static [u8]]) -> UnixStream {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        tokio::spawn(async move {
            let mut asked = [0; 4096];
            for answer in answers {
                theirs.write_all(answer).await.unwrap();
                if theirs.read(&mut asked).await.unwrap() == 0 {
                    return;
                }
            }
        });
        ours
    }

    const HELLO: &[u8] = b"{\"QMP\": {\"version\": {}}}\r\n";
    const FINE: &[u8] = b"{\"return\": {}}\r\n";

    #[tokio::test]
    async fn answers_are_read_and_events_left_out() {
        let stream = monitor(&[HELLO, FINE, b"{\"event\": \"STOP\"}\r\n{\"return\": 7}\r\n"]).await;
        let mut qmp = Qmp::greet(stream).await.unwrap();
        assert_eq!(qmp.command("x", json!({})).await.unwrap(), json!(7));
    }

    #[tokio::test]
    async fn a_refusal_is_an_error_without_control_characters() {
        let stream =
            monitor(&[HELLO, FINE, b"{\"error\": {\"class\": \"G\", \"desc\": \"no\\u001b[2J\"}}\r\n"]).await;
        let mut qmp = Qmp::greet(stream).await.unwrap();
        let error = qmp.command("x", json!({})).await.unwrap_err().to_string();
        assert_eq!(error, "the monitor refused `x`: no[2J");
    }

    #[tokio::test]
    async fn endless_lines_nonsense_and_an_early_end_are_errors() {
        static ENDLESS: [u8; 200_000] = [b'x'; 200_000];
        for bad in [ENDLESS.as_slice(), b"hello\n", b"{\"QMP\""] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let writer = tokio::spawn(async move { theirs.write_all(bad).await });
            assert!(Qmp::greet(ours).await.is_err());
            // The writer may have been cut off, which is as it should be.
            drop(writer.await.unwrap());
        }
    }
}
