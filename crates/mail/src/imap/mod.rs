//! A client of IMAP (RFC 3501) for one call: it signs in, does what the call wants, and goes.

mod folders;
mod mails;
mod wire;

use std::time::Duration;

use imap_proto::{Capability, Response, ResponseCode, Status};

use crate::account::{Account, Key, Place};
use crate::dial::Dial;
use crate::failure::{Acted, Acting, Failure, words};
use crate::sasl::Mechanism;

use wire::Wire;

pub(crate) use folders::{Folder, Special};
pub(crate) use mails::{Criteria, Kept, MAX_MAIL, Stored};

/// Most responses of a server to one command: each may be a few bytes.
const MAX_RESPONSES: usize = 20_000;

/// What a server says that can't look just now whether somebody may sign in (RFC 5530).
const UNAVAILABLE: &str = "[UNAVAILABLE]";

/// How long a server may take to hear that all was said.
const PARTING: Duration = Duration::from_secs(2);

/// One connection, signed in.
#[derive(Debug)]
pub(crate) struct Imap<'a> {
    wire: Wire,
    commands: u32,
    capabilities: Vec<String>,
    acting: &'a Acting,
}

/// A piece of a command.
#[derive(Debug, Clone, Copy)]
enum Piece<'a> {
    /// Words of the protocol, which are ours.
    Word(&'a str),
    /// Anybody's text.
    Text(&'a str),
    /// A mail.
    Bytes(&'a [u8]),
}

/// What a server answered to a command that it carried out.
#[derive(Debug, Default)]
struct Answer {
    untagged: Vec<Response<'static>>,
    code: Option<ResponseCode<'static>>,
}

impl<'a> Imap<'a> {
    /// Connects and signs in.
    pub(crate) async fn open(
        account: &Account,
        dial: &dyn Dial,
        acting: &'a Acting,
    ) -> Result<Self, Failure> {
        let Account { place, key } = account;
        let at = &place.imap;
        let reached = async { dial.secure(at, dial.connect(at).await?).await };
        let stream = reached
            .await
            .map_err(|e| Failure::server(format!("the mail server {at} can't be reached: {e}")))?;
        let mut imap = Self { wire: Wire::new(stream), commands: 0, capabilities: Vec::new(), acting };
        if !imap.wire.response().await?.starts_with(b"* OK") {
            return Err(Failure::server(format!("{at} greets as no IMAP server does")));
        }
        imap.sign_in(place, key).await.map_err(|failure| {
            let passing = failure.message.contains(UNAVAILABLE);
            failure.signing_in(&place.user, passing)
        })?;
        // There may be others than before.
        imap.capabilities = imap.capabilities().await?;
        Ok(imap)
    }

    async fn sign_in(&mut self, place: &Place, key: &Key) -> Result<(), Failure> {
        let token = match key {
            Key::Token(token) => token,
            Key::Password(password) => {
                let password =
                    password.reveal_text().ok_or_else(|| Failure::server("the password is no text"))?;
                let (user, password) = (Piece::Text(&place.user), Piece::Text(password));
                let login = [Piece::Word("LOGIN "), user, Piece::Word(" "), password];
                return self.command(&login).await.map(drop);
            }
        };
        self.capabilities = self.capabilities().await?;
        let offered = self.capabilities.iter().filter_map(|can| can.strip_prefix("AUTH="));
        let mechanism = Mechanism::offered(offered)?;
        let shown = mechanism.shows(&place.user, &place.imap, token)?;
        let tag = self.tag();
        // What it wants to hear: the token, unless that came with the command, and that its reason was heard.
        let (mut line, mut rest) = (format!("{tag} AUTHENTICATE {mechanism}"), vec![mechanism.hears()]);
        if self.can("SASL-IR") {
            line.extend([" ", &shown]);
        } else {
            rest.insert(0, &shown);
        }
        line.push_str("\r\n");
        self.wire.send(line.as_bytes(), true).await?;
        for said in rest {
            if self.until(&tag, true, &mut Answer::default()).await?.is_some() {
                return Ok(());
            }
            self.wire.send(format!("{said}\r\n").as_bytes(), false).await?;
        }
        self.until(&tag, false, &mut Answer::default()).await.map(drop)
    }

    /// What the server can do now.
    async fn capabilities(&mut self) -> Result<Vec<String>, Failure> {
        let mut all = Vec::new();
        for response in self.command(&[Piece::Word("CAPABILITY")]).await?.untagged {
            if let Response::Capabilities(can) = response {
                all.extend(can.into_iter().filter_map(|one| match one {
                    Capability::Atom(atom) => Some(atom.to_ascii_uppercase()),
                    Capability::Auth(mechanism) => Some(format!("AUTH={}", mechanism.to_ascii_uppercase())),
                    Capability::Imap4rev1 => None,
                }));
            }
        }
        Ok(all)
    }

    /// Signs out. All was done before: what fails now changes nothing.
    pub(crate) async fn close(mut self) {
        drop(tokio::time::timeout(PARTING, self.command(&[Piece::Word("LOGOUT")])).await);
    }

    fn can(&self, what: &str) -> bool {
        self.capabilities.iter().any(|can| can == what)
    }

    /// A command that changes something: until its answer, nobody knows whether it did.
    async fn act(&mut self, pieces: &[Piece<'_>]) -> Result<Answer, Failure> {
        self.acting.begin();
        let answered = self.command(pieces).await;
        // Where the connection failed, nobody knows; where the server said no, it did nothing.
        match &answered {
            Ok(_) => self.acting.end(true),
            Err(failure) if failure.acted == Acted::Failed => self.acting.end(false),
            Err(_) => {}
        }
        answered
    }

    /// What begins the next command, and the end of its answer.
    fn tag(&mut self) -> String {
        self.commands += 1;
        format!("L{}", self.commands)
    }

    /// Sends a command and waits for its end.
    async fn command(&mut self, pieces: &[Piece<'_>]) -> Result<Answer, Failure> {
        let tag = self.tag();
        let mut line = format!("{tag} ").into_bytes();
        let mut begins = true;
        let mut answer = Answer::default();
        for piece in pieces {
            let literal = match piece {
                Piece::Word(word) => {
                    line.extend_from_slice(word.as_bytes());
                    continue;
                }
                Piece::Text(text) => {
                    if let Some(quoted) = quoted(text)? {
                        line.extend_from_slice(quoted.as_bytes());
                        continue;
                    }
                    text.as_bytes()
                }
                Piece::Bytes(bytes) => bytes,
            };
            line.extend_from_slice(format!("{{{}}}\r\n", literal.len()).as_bytes());
            self.wire.send(&line, begins).await?;
            begins = false;
            if let Some(code) = self.until(&tag, true, &mut answer).await? {
                let why = "the mail server ended a command before it had all of it";
                return Err(Failure::server(code.map_or(why.to_owned(), |code| format!("{why}: {code:?}"))));
            }
            line = literal.to_vec();
        }
        line.extend_from_slice(b"\r\n");
        self.wire.send(&line, begins).await?;
        answer.code = self.until(&tag, false, &mut answer).await?.flatten();
        Ok(answer)
    }

    /// Reads up to the end of the command, or up to where the server wants the rest of it: then none.
    async fn until(
        &mut self,
        tag: &str,
        wants_rest: bool,
        answer: &mut Answer,
    ) -> Result<Option<Option<ResponseCode<'static>>>, Failure> {
        loop {
            let bytes = self.wire.response().await?;
            if let Some(rest) = bytes.strip_prefix(tag.as_bytes()).and_then(|rest| rest.strip_prefix(b" ")) {
                return ended(rest, &bytes).map(Some);
            }
            match bytes.first() {
                Some(b'+') if wants_rest => return Ok(None),
                Some(b'*') => {}
                Some(_) | None => return Err(Failure::server("the mail server speaks no IMAP")),
            }
            if answer.untagged.len() >= MAX_RESPONSES {
                return Err(Failure::server("the mail server answers without end"));
            }
            // What an extension says and we don't know is nothing that was asked for.
            if let Ok((_, response)) = Response::from_bytes(&bytes) {
                if let Response::Data { status: Status::Bye, information, .. } = &response {
                    let why = information.as_deref().map(words).unwrap_or_default();
                    return Err(Failure::server(format!("the mail server ended the connection: {why}")));
                }
                answer.untagged.push(response.into_owned());
            }
        }
    }
}

/// What the end of a command says.
fn ended(rest: &[u8], bytes: &[u8]) -> Result<Option<ResponseCode<'static>>, Failure> {
    if rest.get(..2).is_some_and(|word| word.eq_ignore_ascii_case(b"OK")) {
        return Ok(match Response::from_bytes(bytes) {
            Ok((_, Response::Done { code, .. })) => code.map(ResponseCode::into_owned),
            Ok(_) | Err(_) => None,
        });
    }
    let said = words(String::from_utf8_lossy(rest).trim());
    Err(Failure::server(format!("the mail server said: {said}")).refused())
}

/// A text between quotes; none: it must go as a literal.
fn quoted(text: &str) -> Result<Option<String>, Failure> {
    if text.contains('\0') {
        return Err(Failure::invalid("a text has a zero byte, which no mail server takes"));
    }
    if !text.is_ascii() || text.contains(['\r', '\n']) || text.len() > 1000 {
        return Ok(None);
    }
    Ok(Some(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))))
}
