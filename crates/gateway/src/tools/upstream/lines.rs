//! MCP over a byte stream, such as the standard streams of a server in a cell: one message a line.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::sync::Mutex;

use super::strict::{self, Faults, MESSAGE, failed};

/// How long a server may leave a message untaken.
const STALL: Duration = Duration::from_secs(60);
/// Lines that are no messages, such as a greeting, that a server may write.
const OTHER_LINES: u32 = 1000;

/// The lines of one server.
pub(super) struct Lines<S> {
    read: BufReader<ReadHalf<S>>,
    write: Arc<Mutex<WriteHalf<S>>>,
    /// What has arrived of a line: reading it may be given up and begun again.
    line: Vec<u8>,
    other_lines: u32,
    faults: Faults,
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Lines<S> {
    pub(super) fn new(stream: S, faults: Faults) -> Self {
        let (read, write) = tokio::io::split(stream);
        let (read, write) = (BufReader::new(read), Arc::new(Mutex::new(write)));
        Self { read, write, line: Vec::new(), other_lines: 0, faults }
    }

    /// Completes the line that is being read. Safe to cancel.
    async fn complete_line(&mut self) -> Result<(), wire::tools::ToolFailure> {
        loop {
            let ended = || failed("it ended");
            let bytes = self.read.fill_buf().await.map_err(|_| ended())?;
            if bytes.is_empty() {
                return Err(ended());
            }
            let (taken, whole) = match bytes.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end + 1, true),
                None => (bytes.len(), false),
            };
            self.line.extend(bytes.iter().take(taken));
            self.read.consume(taken);
            if self.line.len() > MESSAGE.bytes {
                return Err(strict::too_large());
            }
            if whole {
                return Ok(());
            }
        }
    }

    async fn next(&mut self) -> Result<ServerJsonRpcMessage, wire::tools::ToolFailure> {
        loop {
            self.complete_line().await?;
            let line = std::mem::take(&mut self.line);
            let line = line.trim_ascii();
            if line.first() == Some(&b'{') {
                let text =
                    std::str::from_utf8(line).map_err(|_| failed("it sent a line that is not UTF-8"))?;
                return strict::read(text).map(|read| read.message);
            }
            self.other_lines += u32::from(!line.is_empty());
            if self.other_lines > OTHER_LINES {
                return Err(failed("it writes lines that are no messages"));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Transport<RoleClient> for Lines<S> {
    type Error = io::Error;

    fn name() -> Cow<'static, str> {
        "lines".into()
    }

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        let (write, faults) = (Arc::clone(&self.write), self.faults.clone());
        async move {
            let mut line = serde_json::to_vec(&message).map_err(io::Error::other)?;
            line.push(b'\n');
            let sent = async {
                let mut write = write.lock().await;
                write.write_all(&line).await?;
                write.flush().await
            };
            match tokio::time::timeout(STALL, sent).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => {
                    faults.note(failed("it takes no messages any more"));
                    Err(error)
                }
                Err(_elapsed) => {
                    faults.note(failed(format_args!("it took no message for {} s", STALL.as_secs())));
                    Err(io::ErrorKind::TimedOut.into())
                }
            }
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        match self.next().await {
            Ok(message) => Some(message),
            Err(fault) => {
                self.faults.note(fault);
                None
            }
        }
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        self.write.lock().await.shutdown().await
    }
}
