//! SMTP (RFC 5321) as far as a client needs it that signs in and sends a mail.

use std::io::Error;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWriteExt as _;

use super::{Client, Kept, MAX_MAIL, MAX_MAILS, USER, line};

/// Most recipients of a mail.
const MAX_RECIPIENTS: usize = 50;

/// Serves one client.
pub(super) async fn serve(mut client: Client, kept: Kept) -> Result<(), Error> {
    let (mut signed_in, mut recipients) = (false, Vec::new());
    say(&mut client, "220 ready").await?;
    while let Some(text) = line(&mut client).await? {
        let (word, rest) = text.split_once(' ').unwrap_or((text.as_str(), ""));
        let said = match word {
            "QUIT" => {
                say(&mut client, "221 bye").await?;
                return client.shutdown().await;
            }
            "EHLO" => "250-hello\r\n250 AUTH PLAIN",
            "AUTH" => {
                let wanted = STANDARD.encode(format!("\0{USER}\0{}", kept.password));
                signed_in = rest == format!("PLAIN {wanted}");
                if signed_in { "235 welcome" } else { "535 no" }
            }
            _other if !signed_in => "530 who are you?",
            "MAIL" => "250 yes",
            "RCPT" => match rest.strip_prefix("TO:<").and_then(|rest| rest.split('>').next()) {
                Some(whom) if recipients.len() < MAX_RECIPIENTS => {
                    recipients.push(whom.to_owned());
                    "250 yes"
                }
                Some(_) | None => "550 no",
            },
            "DATA" if !recipients.is_empty() => {
                say(&mut client, "354 go on").await?;
                let mail = mail(&mut client).await?;
                let sent = &mut kept.mails().sent;
                if sent.len() < MAX_MAILS {
                    sent.push((std::mem::take(&mut recipients), mail));
                    "250 taken"
                } else {
                    "452 full"
                }
            }
            _other => "502 not here",
        };
        say(&mut client, said).await?;
    }
    Ok(())
}

async fn say(client: &mut Client, text: &str) -> Result<(), Error> {
    client.write_all(format!("{text}\r\n").as_bytes()).await?;
    client.flush().await
}

/// A mail, up to the line with one dot; other lines that begin with one have one more.
async fn mail(client: &mut Client) -> Result<Vec<u8>, Error> {
    let mut mail = Vec::new();
    while let Some(text) = line(client).await? {
        if text == "." {
            return Ok(mail);
        }
        mail.extend([text.strip_prefix('.').unwrap_or(&text).as_bytes(), b"\r\n"].concat());
        if mail.len() > MAX_MAIL {
            break;
        }
    }
    Err(Error::other("the mail has no end"))
}
