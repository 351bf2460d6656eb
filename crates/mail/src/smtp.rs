//! Sending: one mail over one SMTP connection, once.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::commands::{Data, Mail as From, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use crate::account::{Account, Place};
use crate::address::Address;
use crate::dial::{Dial, Stream};
use crate::failure::{Acting, Failure, words};

/// Most bytes that a server may send during one mail. The library reads all lines of an answer anew with each.
const MAX_SAID: usize = 16 << 10;
/// Most bytes on one line of what it says before TLS, and most such lines.
const MAX_LINE: usize = 1000;
const MAX_LINES: usize = 100;
/// How long a server may take to hear that all was said, once it has accepted the mail.
const PARTING: Duration = Duration::from_secs(5);

/// A connection on which a mail was accepted for every recipient.
pub(crate) struct Accepted(AsyncSmtpConnection);

impl Accepted {
    /// Ends it. The mail is out, however the parting goes.
    pub(crate) async fn close(mut self) {
        drop(tokio::time::timeout(PARTING, self.0.quit()).await);
    }
}

/// Sends a mail.
pub(crate) async fn send(
    account: &Account,
    dial: &dyn Dial,
    to: &[&Address],
    mail: &[u8],
    acting: &Acting,
) -> Result<Accepted, Failure> {
    let recipients = to.iter().map(|address| foreign(address)).collect::<Result<Vec<_>, _>>()?;
    let Account { place, password } = account;
    let from = foreign(&place.from)?;
    let password = password.reveal_text().ok_or_else(|| Failure::server("the password is no text"))?;
    let stream = reach(place, dial)
        .await
        .map_err(|e| Failure::server(format!("the mail server {} can't be reached: {e}", place.smtp)))?;
    let hello = ClientId::Domain(place.from.host().to_owned());
    let mut connection =
        AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello).await.map_err(|e| said(&e))?;
    let credentials = Credentials::new(place.user.clone(), password.to_owned());
    connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await.map_err(|e| {
        Failure::server(format!("signing in as `{}` failed: {}", words(&place.user), said(&e)))
    })?;
    connection.command(From::new(Some(from), Vec::new())).await.map_err(|e| said(&e))?;
    for recipient in recipients {
        let whom = recipient.to_string();
        connection.command(Rcpt::new(recipient, Vec::new())).await.map_err(|e| {
            Failure::server(format!("nothing was sent: the mail server refuses {whom}: {}", said(&e)))
        })?;
    }
    connection.command(Data).await.map_err(|e| said(&e))?;
    acting.begin();
    match connection.message(mail).await {
        Ok(_accepted) => {
            acting.end(true);
            Ok(Accepted(connection))
        }
        // The server's own no: it took nothing.
        Err(error) if error.status().is_some() => {
            acting.end(false);
            Err(said(&error).refused())
        }
        Err(error) => Err(Failure::server(format!(
            "the mail was handed over, and the server did not say whether it took it: {}",
            said(&error)
        ))),
    }
}

fn foreign(address: &Address) -> Result<lettre::Address, Failure> {
    address.as_str().parse().map_err(|e| Failure::invalid(format!("`{address}` can't be sent to: {e}")))
}

fn said(error: &lettre::transport::smtp::Error) -> Failure {
    Failure::server(format!("the mail server said: {}", words(&error.to_string())))
}

/// An encrypted connection, on which the server has greeted or is about to.
async fn reach(place: &Place, dial: &dyn Dial) -> io::Result<Carried> {
    let at = &place.smtp;
    let mut plain = dial.connect(at).await?;
    if !place.sends_by_starttls() {
        return Ok(Carried::new(dial.secure(at, plain).await?, b""));
    }
    reply(&mut plain, "220").await?;
    plain.write_all(format!("EHLO {}\r\n", place.from.host()).as_bytes()).await?;
    reply(&mut plain, "250").await?;
    plain.write_all(b"STARTTLS\r\n").await?;
    reply(&mut plain, "220").await.map_err(|e| {
        io::Error::other(format!("it doesn't begin TLS, and without it nothing is said to it: {e}"))
    })?;
    // What was said before TLS was anybody's; the library waits for a greeting, which was among it.
    Ok(Carried::new(dial.secure(at, plain).await?, b"220 encrypted\r\n"))
}

/// Reads one reply in plain text, no byte further: what follows it belongs to TLS.
async fn reply(stream: &mut Box<dyn Stream>, expected: &str) -> io::Result<()> {
    for _line in 0..MAX_LINES {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() >= MAX_LINE {
                return Err(io::Error::other("it sends endless lines"));
            }
            line.push(stream.read_u8().await?);
        }
        let text = String::from_utf8_lossy(&line);
        match text.strip_prefix(expected).and_then(|rest| rest.chars().next()) {
            Some('-') => {}
            Some(' ' | '\r') => return Ok(()),
            Some(_) | None => return Err(io::Error::other(format!("it says: {}", words(text.trim())))),
        }
    }
    Err(io::Error::other("it sends lines without end"))
}

/// The connection as the library takes it: bounded, and with words of ours before the server's.
#[derive(Debug)]
struct Carried {
    stream: Box<dyn Stream>,
    before: &'static [u8],
    left: usize,
}

impl Carried {
    fn new(stream: Box<dyn Stream>, before: &'static [u8]) -> Self {
        Self { stream, before, left: MAX_SAID }
    }
}

impl AsyncRead for Carried {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.before.is_empty() {
            let (now, later) = self.before.split_at(self.before.len().min(buf.remaining()));
            buf.put_slice(now);
            self.before = later;
            return Poll::Ready(Ok(()));
        }
        let had = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let found = buf.filled().len() - had;
        match self.left.checked_sub(found) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Err(io::Error::other("the mail server sends too many bytes"))),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Carried {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Carried {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}
