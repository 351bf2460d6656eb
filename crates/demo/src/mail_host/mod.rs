//! A host of one mailbox, as an outside service would be one: IMAP and SMTP in TLS, behind a password. It speaks of both
//! what a client needs that reads, drafts and sends; what else it is asked it refuses.

mod imap;
mod smtp;

use std::io::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

use crate::git_host::HOST;
use crate::tls::Tls;

/// Whose mailbox it is.
pub(crate) const USER: &str = "ada@acme.example";
/// The folders. Clients know what they are for by their names.
const FOLDERS: [&str; 3] = ["INBOX", "Drafts", "Sent"];
/// Most bytes of a line, and of a mail.
const MAX_LINE: u64 = 8 << 10;
const MAX_MAIL: usize = 1 << 20;
/// Most mails in all folders, and most that are sent.
const MAX_MAILS: usize = 100;

/// A connection.
type Client = BufReader<TlsStream<TcpStream>>;

/// The host. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct MailHost {
    /// Where mail is read.
    pub(crate) imap: String,
    /// Where mail is sent.
    pub(crate) smtp: String,
    /// Who vouches for both, as PEM.
    pub(crate) authority: String,
    kept: Kept,
    _serving: JoinSet<()>,
}

/// What the host keeps.
#[derive(Debug, Clone)]
struct Kept {
    password: Arc<str>,
    mails: Arc<Mutex<Mails>>,
}

#[derive(Debug, Default)]
struct Mails {
    /// By folder; the place in its list, from 1 on, is the mail's number.
    folders: [Vec<Vec<u8>>; FOLDERS.len()],
    /// For whom, and what.
    sent: Vec<(Vec<String>, Vec<u8>)>,
}

impl MailHost {
    /// Serves a mailbox in which these mails lie, to whoever has the password.
    pub(crate) async fn start(password: &str, inbox: &[String]) -> Result<Self, Error> {
        let (imap, imap_port, imap_authority) = Tls::listen(HOST, "the demo's IMAP server").await?;
        let (smtp, smtp_port, smtp_authority) = Tls::listen(HOST, "the demo's SMTP server").await?;
        let mut mails = Mails::default();
        for mail in inbox {
            mails.keep(0, mail.replace('\n', "\r\n").into_bytes());
        }
        let kept = Kept { password: password.into(), mails: Arc::new(Mutex::new(mails)) };
        let mut serving = JoinSet::new();
        serving.spawn(clients(imap, kept.clone(), imap::serve));
        serving.spawn(clients(smtp, kept.clone(), smtp::serve));
        Ok(Self {
            imap: format!("imaps://{HOST}:{imap_port}"),
            smtp: format!("smtps://{HOST}:{smtp_port}"),
            authority: imap_authority + &smtp_authority,
            kept,
            _serving: serving,
        })
    }

    /// The drafts that lie there.
    pub(crate) fn drafts(&self) -> Vec<String> {
        let mails = self.kept.mails();
        let [_inbox, drafts, _sent] = &mails.folders;
        drafts.iter().map(|draft| String::from_utf8_lossy(draft).into_owned()).collect()
    }

    /// How many mails it was told to send.
    pub(crate) fn sent(&self) -> usize {
        self.kept.mails().sent.len()
    }
}

impl Kept {
    fn mails(&self) -> MutexGuard<'_, Mails> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mails {
    /// Puts a mail into a folder; its number there.
    fn keep(&mut self, folder: usize, mail: Vec<u8>) -> Option<usize> {
        let full = self.folders.iter().map(Vec::len).sum::<usize>() >= MAX_MAILS;
        let folder = self.folders.get_mut(folder).filter(|_folder| !full)?;
        folder.push(mail);
        Some(folder.len())
    }
}

/// Serves each client until it goes. What a client does wrong ends its own connection.
async fn clients<S, F>(mut tls: Tls, kept: Kept, serve: S)
where
    S: Fn(Client, Kept) -> F,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let mut serving = JoinSet::new();
    loop {
        let (stream, _address) = tls.client().await;
        serving.spawn(serve(BufReader::new(stream), kept.clone()));
        while serving.try_join_next().is_some() {}
    }
}

/// A line without its end; none where the client has gone.
async fn line(from: &mut Client) -> Result<Option<String>, Error> {
    let mut bytes = Vec::new();
    from.take(MAX_LINE).read_until(b'\n', &mut bytes).await?;
    match bytes.strip_suffix(b"\r\n") {
        Some(text) => Ok(Some(String::from_utf8_lossy(text).into_owned())),
        None if bytes.is_empty() => Ok(None),
        None => Err(Error::other("a line has no end")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio_rustls::TlsConnector;

    use super::*;

    /// Says each line, and gives all that the server said until the connection ended.
    async fn said(address: &str, authority: &str, lines: &[&str]) -> String {
        use rustls::pki_types::pem::PemObject as _;
        let mut roots = rustls::RootCertStore::empty();
        for certificate in rustls::pki_types::CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let at = address.split_once("://").unwrap().1;
        let stream = TcpStream::connect(at).await.unwrap();
        let name = HOST.try_into().unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        stream.write_all(format!("{}\r\n", lines.join("\r\n")).as_bytes()).await.unwrap();
        let mut all = Vec::new();
        // A server that ends without TLS's own farewell said all the same.
        drop(stream.read_to_end(&mut all).await);
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn mail_is_read_and_drafted_with_the_password_alone() {
        let host = MailHost::start("s3cret", &["Subject: x\n\nhello\n".to_owned()]).await.unwrap();
        let begin = "a LOGIN \"ada@acme.example\" \"s3cret\"";
        let lines = [
            begin,
            "b LIST \"\" \"*\"",
            "c EXAMINE \"INBOX\"",
            "d UID SEARCH ALL",
            "e UID FETCH 1 (UID FLAGS RFC822.SIZE BODY.PEEK[HEADER]<0.16384>)",
            "f UID FETCH 1 (UID FLAGS RFC822.SIZE BODY.PEEK[]<0.16384>)",
            "g APPEND \"Drafts\" (\\Draft) {14}",
            "Subject: y\r\n\r\n",
            "h FROB",
            "i LOGOUT",
        ];
        let heard = said(&host.imap, &host.authority, &lines).await;
        for part in [
            "* LIST () \"/\" \"Drafts\"\r\n",
            "* SEARCH 1\r\n",
            "BODY[HEADER]<0> {14}\r\nSubject: x\r\n\r\n)\r\n",
            "BODY[]<0> {21}\r\nSubject: x\r\n\r\nhello\r\n)\r\n",
            "g OK [APPENDUID 7 1]",
            "h BAD",
            "i OK",
        ] {
            assert!(heard.contains(part), "{part}: {heard}");
        }
        assert_eq!(host.drafts(), ["Subject: y\r\n\r\n"]);
        let wrong = begin.replace("s3", "x");
        let lines = [wrong.as_str(), "b LIST \"\" \"*\"", "c LOGOUT"];
        let wrong = said(&host.imap, &host.authority, &lines).await;
        assert!(wrong.contains("a NO") && wrong.contains("b NO") && !wrong.contains("LIST"), "{wrong}");
    }

    #[tokio::test]
    async fn mail_is_sent_with_the_password_alone_and_counted() {
        let host = MailHost::start("s3cret", &[]).await.unwrap();
        let mail =
            ["MAIL FROM:<ada@acme.example>", "RCPT TO:<bob@b.example>", "DATA", "hi", "..", ".", "QUIT"];
        // "\0ada@acme.example\0s3cret", and another password.
        for (key, sent) in [("AGFkYUBhY21lLmV4YW1wbGUAczNjcmV0", 1), ("AGFkYUBhY21lLmV4YW1wbGUAeA==", 1)] {
            let auth = format!("AUTH PLAIN {key}");
            let lines = [&["EHLO x", auth.as_str()][..], &mail].concat();
            let heard = said(&host.smtp, &host.authority, &lines).await;
            assert_eq!(host.sent(), sent, "{heard}");
        }
        let sent = host.kept.mails().sent.first().cloned();
        assert_eq!(sent, Some((vec!["bob@b.example".to_owned()], b"hi\r\n.\r\n".to_vec())));
    }
}
