//! IMAP (RFC 3501) as far as a client needs it that signs in, looks into folders, reads mails and stores drafts.

use std::io::Error;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Client, FOLDERS, Kept, MAX_MAIL, USER, line};

/// The numbering of every folder.
const VALIDITY: u32 = 7;

/// What is known of a client.
#[derive(Debug, Default)]
struct Session {
    signed_in: bool,
    /// The folder that is open.
    folder: Option<usize>,
}

/// Serves one client.
pub(super) async fn serve(mut client: Client, kept: Kept) -> Result<(), Error> {
    let mut session = Session::default();
    client.write_all(b"* OK ready\r\n").await?;
    client.flush().await?;
    while let Some(text) = line(&mut client).await? {
        let (tag, command) = text.split_once(' ').unwrap_or((text.as_str(), ""));
        let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
        let said = match word {
            "LOGOUT" => Some("* BYE\r\n$ OK\r\n".to_owned().into_bytes()),
            "LOGIN" => {
                session.signed_in = rest == format!("\"{USER}\" \"{}\"", kept.password);
                session.signed_in.then(|| b"$ OK\r\n".to_vec())
            }
            _other if !session.signed_in => None,
            "APPEND" => append(&mut client, &kept, rest).await?,
            _other => Some(session.answer(&kept, word, rest).unwrap_or_else(|| b"$ BAD\r\n".to_vec())),
        };
        let said = said.unwrap_or_else(|| b"$ NO\r\n".to_vec());
        client.write_all(&tagged(&said, tag)).await?;
        client.flush().await?;
        if word == "LOGOUT" {
            client.shutdown().await?;
            return Ok(());
        }
    }
    Ok(())
}

/// The client's tag where the last line has `$`.
fn tagged(said: &[u8], tag: &str) -> Vec<u8> {
    let at = said.iter().rposition(|byte| *byte == b'$').unwrap_or(said.len());
    let (before, after) = said.split_at(at);
    [before, tag.as_bytes(), after.get(1..).unwrap_or_default()].concat()
}

impl Session {
    /// The answer to a command that needs no more of the client; none for what isn't spoken here.
    fn answer(&mut self, kept: &Kept, word: &str, rest: &str) -> Option<Vec<u8>> {
        match word {
            "CAPABILITY" => Some(b"* CAPABILITY IMAP4rev1 UIDPLUS\r\n$ OK\r\n".to_vec()),
            "LIST" => {
                let folders = FOLDERS.map(|name| format!("* LIST () \"/\" \"{name}\"\r\n")).concat();
                Some(format!("{folders}$ OK\r\n").into_bytes())
            }
            "EXAMINE" | "SELECT" => {
                self.folder = Some(folder(rest)?);
                Some(format!("* OK [UIDVALIDITY {VALIDITY}] so\r\n$ OK\r\n").into_bytes())
            }
            "UID" => {
                let mails = kept.mails();
                let mails = mails.folders.get(self.folder?)?;
                if rest == "SEARCH ALL" {
                    let all: String = (1..=mails.len()).map(|number| format!(" {number}")).collect();
                    return Some(format!("* SEARCH{all}\r\n$ OK\r\n").into_bytes());
                }
                fetch(mails, rest.strip_prefix("FETCH ")?)
            }
            _other => None,
        }
    }
}

/// Mails, or their heads: `1,2 (UID FLAGS RFC822.SIZE BODY.PEEK[HEADER]<0.16384>)`.
fn fetch(mails: &[Vec<u8>], asked: &str) -> Option<Vec<u8>> {
    let (numbers, what) = asked.split_once(' ')?;
    let part = what.strip_prefix("(UID FLAGS RFC822.SIZE BODY.PEEK[")?.strip_suffix(">)")?;
    let (part, most) = part.split_once("]<0.")?;
    let most: usize = most.parse().ok()?;
    let mut said = Vec::new();
    for number in numbers.split(',') {
        let number: usize = number.parse().ok()?;
        let Some(mail) = number.checked_sub(1).and_then(|at| mails.get(at)) else { continue };
        let head = mail.windows(4).position(|four| four == b"\r\n\r\n").map_or(mail.len(), |at| at + 4);
        let bytes = mail.get(..if part == "HEADER" { head } else { mail.len() }.min(most))?;
        let size = mail.len();
        let before = format!(
            "* {number} FETCH (UID {number} FLAGS () RFC822.SIZE {size} BODY[{part}]<0> {{{}}}\r\n",
            bytes.len()
        );
        said.extend([before.as_bytes(), bytes, b")\r\n"].concat());
    }
    said.extend(b"$ OK\r\n");
    Some(said)
}

/// Stores what the client sends next: `"Drafts" (\Draft) {300}`. None: it can't be stored.
async fn append(client: &mut Client, kept: &Kept, asked: &str) -> Result<Option<Vec<u8>>, Error> {
    let length = asked.rsplit_once('{').and_then(|(_, rest)| rest.strip_suffix('}')?.parse::<usize>().ok());
    let folder = asked.split_once(" (").and_then(|(name, _flags)| folder(name));
    let (Some(folder), Some(length)) = (folder, length.filter(|length| *length <= MAX_MAIL)) else {
        return Ok(None);
    };
    client.write_all(b"+ go on\r\n").await?;
    client.flush().await?;
    let mut mail = vec![0; length];
    client.read_exact(&mut mail).await?;
    line(client).await?;
    let number = kept.mails().keep(folder, mail);
    Ok(number.map(|number| format!("$ OK [APPENDUID {VALIDITY} {number}] kept\r\n").into_bytes()))
}

/// A folder by its name in quotes.
fn folder(quoted: &str) -> Option<usize> {
    let name = quoted.strip_prefix('"')?.strip_suffix('"')?;
    FOLDERS.iter().position(|folder| *folder == name)
}
