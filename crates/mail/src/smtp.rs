//! Sending: one mail over one SMTP connection, once.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism as ByPassword};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::commands::{Data, Ehlo, Mail as From, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Severity;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use crate::account::{Account, Key, Place};
use crate::address::Address;
use crate::dial::{Dial, Stream};
use crate::failure::{Acting, Failure, words};
use crate::sasl::Mechanism;

/// Most bytes that a server may send during one mail. The library reads all lines of an answer anew with each.
const MAX_SAID: usize = 16 << 10;
/// Most bytes on one line of what it says before TLS, and most such lines.
const MAX_LINE: usize = 1000;
const MAX_LINES: usize = 100;
/// A server that signs somebody in says so where it wants to hear more.
const WANTS_MORE: u16 = 334;
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
    let Account { place, key } = account;
    let from = foreign(&place.from)?;
    let stream = reach(place, dial)
        .await
        .map_err(|e| Failure::server(format!("the mail server {} can't be reached: {e}", place.smtp)))?;
    let hello = ClientId::Domain(place.from.host().to_owned());
    let mut connection =
        AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello).await.map_err(|e| said(&e))?;
    sign_in(&mut connection, &hello, place, key).await?;
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

async fn sign_in(
    connection: &mut AsyncSmtpConnection,
    hello: &ClientId,
    place: &Place,
    key: &Key,
) -> Result<(), Failure> {
    let no = |error: &Error| {
        let passing =
            error.status().is_some_and(|code| code.severity == Severity::TransientNegativeCompletion);
        let failure = said(error);
        let failure = if error.status().is_some() { failure.refused() } else { failure };
        failure.signing_in(&place.user, passing)
    };
    let token = match key {
        Key::Token(token) => token,
        Key::Password(password) => {
            let password =
                password.reveal_text().ok_or_else(|| Failure::server("the password is no text"))?;
            let credentials = Credentials::new(place.user.clone(), password.to_owned());
            let ways = [ByPassword::Plain, ByPassword::Login];
            return connection.auth(&ways, &credentials).await.map(drop).map_err(|e| no(&e));
        }
    };
    // Once more: of what was offered at first, the library keeps what it knows.
    let offers = connection.command(Ehlo::new(hello.clone())).await.map_err(|e| said(&e))?;
    let offered =
        offers.message().filter_map(|line| line.strip_prefix("AUTH ")).flat_map(str::split_whitespace);
    let mechanism = Mechanism::offered(offered).map_err(|failure| failure.signing_in(&place.user, false))?;
    let shown = mechanism.shows(&place.user, &place.smtp, token)?;
    let mut answer = connection.command(format!("AUTH {mechanism} {shown}\r\n")).await;
    if answer.as_ref().is_ok_and(|answer| answer.has_code(WANTS_MORE)) {
        answer = connection.command(format!("{}\r\n", mechanism.hears())).await;
    }
    match answer.map_err(|e| no(&e))? {
        answer if answer.has_code(WANTS_MORE) => {
            Err(Failure::server("the mail server asks who it is without end"))
        }
        _signed_in => Ok(()),
    }
}

fn foreign(address: &Address) -> Result<lettre::Address, Failure> {
    address.as_str().parse().map_err(|e| Failure::invalid(format!("`{address}` can't be sent to: {e}")))
}

fn said(error: &Error) -> Failure {
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
