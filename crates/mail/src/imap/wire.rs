//! What an IMAP server sends, one response at a time, within bounds that are held before anything parses it.

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::dial::Stream;
use crate::failure::Failure;

/// Most bytes of a response outside of its literals. A search in a mailbox of 100,000 mails is one line.
const MAX_LINE: usize = 1 << 20;
/// Most bytes that a server may send in answer to one command.
pub(super) const MAX_ANSWER: usize = 8 << 20;
/// How deep its lists may nest. Parsers recurse.
const MAX_DEPTH: usize = 16;
/// Most literals of one response.
const MAX_LITERALS: usize = 64;

/// The two directions of a connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: BufReader<Box<dyn Stream>>,
    /// Bytes that the server may still send in answer to the command that runs.
    left: usize,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream: BufReader::new(stream), left: MAX_ANSWER }
    }

    /// Sends, and gives the server a new allowance where a command begins.
    pub(super) async fn send(&mut self, bytes: &[u8], begins: bool) -> Result<(), Failure> {
        if begins {
            self.left = MAX_ANSWER;
        }
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|e| Failure::server(format!("the mail server can't be told: {e}")))
    }

    /// One response: a line, and the literals in it with what follows them.
    pub(super) async fn response(&mut self) -> Result<Vec<u8>, Failure> {
        let (mut response, mut scan, mut lines) = (Vec::new(), Scan::default(), 0);
        for _literal in 0..=MAX_LITERALS {
            let from = response.len();
            self.line(&mut response, MAX_LINE.saturating_sub(lines)).await?;
            let line = response.get(from..).unwrap_or_default();
            lines += line.len();
            scan.line(line)?;
            let Some(length) = literal(line) else { return Ok(response) };
            self.spend(length)?;
            let before = response.len();
            // The length is the server's word: memory is taken as bytes come.
            let mut limited = (&mut self.stream).take(length as u64);
            limited.read_to_end(&mut response).await.map_err(|e| broken(&e))?;
            if response.len() - before < length {
                return Err(Failure::server(
                    "the mail server closed the connection in the middle of its answer",
                ));
            }
        }
        Err(too_much("parts in one answer"))
    }

    async fn line(&mut self, response: &mut Vec<u8>, most: usize) -> Result<(), Failure> {
        let before = response.len();
        let most = most.min(self.left);
        let mut limited = (&mut self.stream).take(most as u64);
        limited.read_until(b'\n', response).await.map_err(|e| broken(&e))?;
        let found = response.len() - before;
        if response.ends_with(b"\r\n") && found > 0 {
            return self.spend(found);
        }
        if found >= most {
            return Err(too_much("bytes on one line, or in one answer"));
        }
        Err(Failure::server("the mail server closed the connection"))
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Failure> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| too_much("bytes in one answer"))?;
        Ok(())
    }
}

/// How deep the lists of a response are nested, over its lines.
#[derive(Default)]
struct Scan {
    depth: usize,
}

impl Scan {
    fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        let (mut quoted, mut escaped) = (false, false);
        for byte in line {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b'(' if !quoted => self.depth += 1,
                b')' if !quoted => self.depth = self.depth.saturating_sub(1),
                _other => {}
            }
            if self.depth > MAX_DEPTH {
                return Err(too_much("lists within lists"));
            }
        }
        Ok(())
    }
}

/// The length of the literal that a line announces at its end.
fn literal(line: &[u8]) -> Option<usize> {
    let inside = line.strip_suffix(b"}\r\n")?;
    let open = inside.iter().rposition(|byte| *byte == b'{')?;
    let digits = std::str::from_utf8(inside.get(open + 1..)?).ok()?;
    let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    // A number that no machine holds is as much too large as one that this one doesn't.
    number.then(|| digits.parse().unwrap_or(usize::MAX))
}

fn too_much(what: &str) -> Failure {
    Failure::server(format!("the mail server sends too many {what}; the connection was ended"))
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::server(format!("the connection to the mail server broke: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let (ours, mut theirs) = tokio::io::duplex(64 << 10);
        let send = async move {
            // The reader may have had enough.
            drop(theirs.write_all(&bytes).await);
        };
        let mut wire = Wire::new(Box::new(ours));
        let (answer, ()) = tokio::join!(
            async {
                let answer = wire.response().await;
                drop(wire);
                answer
            },
            send
        );
        answer
    }

    #[tokio::test]
    async fn a_response_is_a_line_with_its_literals() {
        let text = b"* 1 FETCH (BODY[] {7}\r\na\r\nb)(\r X {0}\r\n)\r\n";
        assert_eq!(answer([text.as_slice(), b"* next\r\n"].concat()).await.unwrap(), text);
        assert_eq!(answer(b"* OK {x}\r\n".to_vec()).await.unwrap(), b"* OK {x}\r\n");
    }

    #[tokio::test]
    async fn what_a_server_sends_is_bounded() {
        let deep = [b"* ".as_slice(), &b"(".repeat(17), b"\r\n"].concat();
        let deeper = [b"* ((((((((( {1}\r\n(".as_slice(), &b"(".repeat(9), b"\r\n"].concat();
        for (bytes, why) in [
            (b"* 1 FETCH (BODY[] {1073741824}\r\n".to_vec(), "bytes in one answer"),
            (b"* 1 FETCH (BODY[] {99999999999999999999999999}\r\n".to_vec(), "bytes in one answer"),
            (vec![b'x'; MAX_LINE + 1], "bytes on one line"),
            (b"* {1}\r\nx".repeat(MAX_LITERALS + 2), "parts in one answer"),
            (deep, "lists within lists"),
            (deeper, "lists within lists"),
            (b"* 1 FETCH (BODY[] {10}\r\nshort".to_vec(), "in the middle"),
            (b"* OK no end".to_vec(), "closed the connection"),
            (b"* OK bare\n".to_vec(), "closed the connection"),
            (Vec::new(), "closed the connection"),
        ] {
            let told = answer(bytes).await.unwrap_err();
            assert!(told.message.contains(why), "{told}");
        }
    }
}
