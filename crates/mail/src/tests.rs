//! Mail servers that misbehave, scripted: what a call then says, and what it says may have happened.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use domain::{Destination, Scheme};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio_util::sync::CancellationToken;

use crate::dial::{Dial, Stream};
use crate::tools::{Mailbox, Stamp};
use crate::{Account, Acted, Failure, Key, Place, Reason};

/// What a server answers where a line begins so (after the tag, for IMAP); `$` is the line's tag.
type Script = &'static [(&'static str, &'static str)];

/// Closes the connection instead of an answer; says nothing, for ever.
const DIES: &str = "(dies)";
const HANGS: &str = "(hangs)";

const IMAP: Script = &[
    ("LOGIN", "$ OK\r\n"),
    ("CAPABILITY", "* CAPABILITY IMAP4rev1 UIDPLUS MOVE\r\n$ OK\r\n"),
    ("LIST", "* LIST () \".\" Drafts\r\n* LIST () \".\" Sent\r\n* LIST () \".\" INBOX\r\n$ OK\r\n"),
    ("EXAMINE", "* OK [UIDVALIDITY 7] x\r\n$ OK\r\n"),
    ("SELECT", "* OK [UIDVALIDITY 7] x\r\n$ OK\r\n"),
    (
        "UID FETCH",
        "* 1 FETCH (UID 42 FLAGS () RFC822.SIZE 16 BODY[]<0> {16}\r\nSubject: x\r\n\r\nhi)\r\n$ OK\r\n",
    ),
    ("APPEND", "+ go on\r\n"),
    ("(literal)", "$ OK [APPENDUID 7 43] done\r\n"),
    ("LOGOUT", "* BYE\r\n$ OK\r\n"),
    ("", "$ OK\r\n"),
];

const SMTP: Script = &[
    ("EHLO", "250-mail.acme.example\r\n250 AUTH PLAIN\r\n"),
    ("AUTH", "235 in\r\n"),
    ("DATA", "354 go on\r\n"),
    (".", "250 taken\r\n"),
    ("QUIT", "221 bye\r\n"),
    ("", "250 fine\r\n"),
];

/// Both servers, what they heard, and what they greet with.
#[derive(Clone)]
struct Servers {
    imap: (&'static str, Vec<(&'static str, &'static str)>),
    smtp: (&'static str, Vec<(&'static str, &'static str)>),
    heard: Arc<Mutex<Vec<String>>>,
    /// Where TLS begins.
    secured: Arc<Mutex<usize>>,
}

impl Servers {
    /// Servers that do what they should, but for these lines.
    fn but(imap: Script, smtp: Script) -> Self {
        Self {
            imap: ("* OK hello\r\n", [imap, IMAP].concat()),
            smtp: ("220 hello\r\n", [smtp, SMTP].concat()),
            heard: Arc::default(),
            secured: Arc::default(),
        }
    }

    fn heard(&self, what: &str) -> bool {
        self.heard.lock().unwrap().iter().any(|line| line.contains(what))
    }
}

impl Dial for Servers {
    fn connect<'a>(&'a self, to: &'a Destination) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let is_imap = to.scheme() == Scheme::Imaps;
        let (greeting, script) = if is_imap { self.imap.clone() } else { self.smtp.clone() };
        tokio::spawn(serve(theirs, is_imap, greeting, script, Arc::clone(&self.heard)));
        async move { Ok(Box::new(ours) as Box<dyn Stream>) }.boxed()
    }

    fn secure<'a>(
        &'a self,
        _to: &'a Destination,
        stream: Box<dyn Stream>,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        *self.secured.lock().unwrap() += 1;
        async move { Ok(stream) }.boxed()
    }
}

async fn serve(
    stream: DuplexStream,
    is_imap: bool,
    greeting: &str,
    script: Vec<(&str, &str)>,
    heard: Arc<Mutex<Vec<String>>>,
) {
    let mut stream = BufReader::new(stream);
    let (mut tag, mut in_data) = (String::new(), false);
    if greeting == HANGS {
        return std::future::pending().await;
    }
    drop(stream.write_all(greeting.as_bytes()).await);
    loop {
        let mut line = String::new();
        if !matches!(stream.read_line(&mut line).await, Ok(1..)) {
            return;
        }
        let line = line.trim_end().to_owned();
        heard.lock().unwrap().push(line.clone());
        if in_data && line != "." {
            continue;
        }
        in_data = line == "DATA";
        let said = match (is_imap, line.split_once(' ')) {
            (true, Some((new, rest))) => {
                tag = new.to_owned();
                rest
            }
            _ => &line,
        };
        if !say(&mut stream, &script, said, &tag).await {
            return;
        }
        if is_imap && let Some(length) = line.rsplit_once('{').and_then(|(_, rest)| rest.strip_suffix('}')) {
            let mut literal = vec![0; length.parse::<usize>().unwrap() + 2];
            if stream.read_exact(&mut literal).await.is_err()
                || !say(&mut stream, &script, "(literal)", &tag).await
            {
                return;
            }
        }
    }
}

/// Answers; false where the connection ends.
async fn say(stream: &mut BufReader<DuplexStream>, script: &[(&str, &str)], line: &str, tag: &str) -> bool {
    let (_, answer) = script.iter().find(|(begins, _)| line.starts_with(begins)).unwrap();
    match *answer {
        DIES => false,
        HANGS => std::future::pending().await,
        answer => stream.write_all(answer.replace('$', tag).as_bytes()).await.is_ok(),
    }
}

fn mailbox(servers: &Servers, smtp: &str, within: Duration) -> Mailbox {
    mailbox_with(Key::Password("hunter2".into()), servers, smtp, within)
}

fn mailbox_with(key: Key, servers: &Servers, smtp: &str, within: Duration) -> Mailbox {
    let place = Place::new("imaps://mail.acme.example", smtp, "ada", "ada@acme.example").unwrap();
    let account = Account { place, key };
    Mailbox::reached(account, Arc::new(servers.clone()), within)
}

async fn call(servers: &Servers, tool: &str, arguments: &str) -> Result<Value, Failure> {
    let stamp = Stamp { now: SystemTime::UNIX_EPOCH, unique: 1 };
    let mailbox = mailbox(servers, "smtps://mail.acme.example", SHORT);
    let told = mailbox.call(tool, arguments, stamp, &CancellationToken::new()).await?;
    Ok(serde_json::from_str(&told).unwrap())
}

/// How long a call may take where a server hangs, and where none does.
const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(60);
const READ: &str = r#"{"id": "INBOX:7:42"}"#;
const OWN_DRAFT: &str = "* 1 FETCH (UID 42 FLAGS () RFC822.SIZE 68 BODY[]<0> {68}\r\nFrom: ada@acme.example\r\nTo: bob@acme.example\r\nSubject: x\r\n\r\nhi there)\r\n$ OK\r\n";
const DRAFT: &str = r#"{"to": ["bob@acme.example"], "subject": "x", "body": "hi"}"#;

#[tokio::test]
async fn what_servers_do_wrong_ends_a_call_before_it_acts() {
    for (imap, greeting, why) in [
        (&[] as Script, HANGS, "did not answer within"),
        (&[], "HTTP/1.1 400 Bad Request\r\n", "greets as no IMAP server does"),
        (&[], "* BYE full\r\n", "greets as no IMAP server does"),
        (&[("LOGIN", "$ NO no such user\r\n")], "* OK\r\n", "signing in as `ada` failed"),
        (
            &[("UID FETCH", "* 1 FETCH (UID 42 BODY[] {1073741824}\r\n")],
            "* OK\r\n",
            "too many bytes in one answer",
        ),
        (&[("UID FETCH", "nonsense\r\n")], "* OK\r\n", "speaks no IMAP"),
        (&[("UID FETCH", "* BYE down\r\n")], "* OK\r\n", "ended the connection"),
        (&[("UID FETCH", DIES)], "* OK\r\n", "closed the connection"),
        (&[("UID FETCH", HANGS)], "* OK\r\n", "did not answer within"),
        (&[("UID FETCH", "$ OK\r\n")], "* OK\r\n", "there is no mail INBOX:7:42 any more"),
        (&[("EXAMINE", "* OK [UIDVALIDITY 8] x\r\n$ OK\r\n")], "* OK\r\n", "numbered anew"),
        (&[("EXAMINE", "$ NO no such folder\r\n")], "* OK\r\n", "can't be opened"),
        (&[("EXAMINE", "$ OK\r\n")], "* OK\r\n", "doesn't number its mails"),
    ] {
        let mut servers = Servers::but(imap, &[]);
        servers.imap.0 = greeting;
        let failure = call(&servers, "read", READ).await.unwrap_err();
        assert!(failure.message.contains(why), "{failure}");
        assert_eq!(failure.acted, Acted::No, "{failure}");
        assert!(!failure.message.contains("hunter2"), "{failure}");
    }
}

/// What begins with the name of who signs in, in base64.
const SHOWN: &str = "bixhPWFkYS";

#[tokio::test]
async fn a_token_is_shown_when_the_server_wants_it_and_a_refusal_is_told_as_what_it_is() {
    let imap = |answers: &[(&'static str, &'static str)]| -> Script {
        let offers = "* CAPABILITY IMAP4rev1 AUTH=PLAIN AUTH=OAUTHBEARER AUTH=XOAUTH2\r\n$ OK\r\n";
        let asks = [("CAPABILITY", offers), ("AUTHENTICATE OAUTHBEARER", "+ \r\n")];
        [&asks, answers].concat().leak()
    };
    let smtp = |answer: &'static str| -> Script {
        let offers = ("EHLO", "250-mail.acme.example\r\n250 AUTH PLAIN XOAUTH2 OAUTHBEARER\r\n");
        vec![offers, ("AUTH OAUTHBEARER bixhPWFkYS", answer), ("AQ==", "535 no\r\n")].leak()
    };
    const NO: &str = "$ NO [AUTHENTICATIONFAILED] no\r\n";
    for (imap, smtp, tool, expected) in [
        (imap(&[(SHOWN, "$ OK\r\n")]), smtp(""), "read", None),
        (imap(&[(SHOWN, NO)]), smtp(""), "read", Some(Reason::SignIn)),
        (imap(&[(SHOWN, "+ e30=\r\n"), ("AQ==", NO)]), smtp(""), "read", Some(Reason::SignIn)),
        (imap(&[(SHOWN, "$ NO [UNAVAILABLE] later\r\n")]), smtp(""), "read", Some(Reason::Server)),
        (imap(&[(SHOWN, "+ e30=\r\n"), ("AQ==", "+ e30=\r\n")]), smtp(""), "read", Some(Reason::Server)),
        (imap(&[(SHOWN, DIES)]), smtp(""), "read", Some(Reason::Server)),
        (imap(&[(SHOWN, "$ OK\r\n")]), smtp("235 in\r\n"), "send", None),
        (imap(&[]), smtp("535 no\r\n"), "send", Some(Reason::SignIn)),
        (imap(&[]), smtp("334 e30=\r\n"), "send", Some(Reason::SignIn)),
        (imap(&[]), smtp("454 later\r\n"), "send", Some(Reason::Server)),
        (imap(&[]), smtp(DIES), "send", Some(Reason::Server)),
    ] {
        let servers = Servers::but(imap, smtp);
        let key = Key::Token("canary".into());
        let mailbox = mailbox_with(key, &servers, "smtps://mail.acme.example", LONG);
        let stamp = Stamp { now: SystemTime::UNIX_EPOCH, unique: 1 };
        let arguments = if tool == "read" { READ } else { DRAFT };
        let called = mailbox.call(tool, arguments, stamp, &CancellationToken::new()).await;
        let failed = called.as_ref().err().map(|failure| failure.reason);
        assert_eq!(failed, expected, "{imap:?} {smtp:?}: {called:?}");
        assert!(called.as_ref().err().is_none_or(|failure| failure.acted == Acted::No), "{called:?}");
        assert!(!servers.heard("LOGIN") && !servers.heard("AUTH PLAIN"));
    }
}

#[tokio::test]
async fn a_mail_is_read_and_nothing_is_changed_by_it() {
    let servers = Servers::but(&[], &[]);
    let read = call(&servers, "read", READ).await.unwrap();
    assert_eq!((read["subject"].as_str(), read["body"].as_str()), (Some("x"), Some("hi")));
    assert!(servers.heard("EXAMINE \"INBOX\"") && servers.heard("BODY.PEEK[]") && !servers.heard("STORE"));
    assert_eq!(call(&servers, "nonsense", "{}").await.unwrap_err().reason, Reason::NotFound);
}

#[tokio::test]
async fn a_change_of_which_nobody_heard_is_of_unknown_outcome() {
    for (answer, acted) in [
        (DIES, Acted::Unknown),
        (HANGS, Acted::Unknown),
        ("$ NO over quota\r\n", Acted::Failed),
        ("$ BAD what\r\n", Acted::Failed),
    ] {
        let but: Vec<(&'static str, &'static str)> = vec![("(literal)", answer)];
        let failure = call(&Servers::but(but.leak(), &[]), "draft_create", DRAFT).await.unwrap_err();
        assert_eq!(failure.acted, acted, "{failure}");
        let but: Vec<(&'static str, &'static str)> = vec![("UID MOVE", answer)];
        let moved =
            call(&Servers::but(but.leak(), &[]), "move", r#"{"id": "INBOX:7:42", "folder": "Old"}"#).await;
        assert_eq!(moved.unwrap_err().acted, acted);
    }
}

#[tokio::test]
async fn a_mail_is_removed_alone_or_not_at_all() {
    let plain: Script = &[("CAPABILITY", "* CAPABILITY IMAP4rev1\r\n$ OK\r\n")];
    let servers = Servers::but(plain, &[]);
    let failure = call(&servers, "delete", READ).await.unwrap_err();
    assert!(failure.message.contains("can't remove one mail alone"), "{failure}");
    assert!(!servers.heard("EXPUNGE") && !servers.heard("STORE"));
    // Only drafts are changed and sent as drafts.
    let servers = Servers::but(&[], &[]);
    for tool in ["send_draft", "draft_update"] {
        let failure = call(&servers, tool, READ).await.unwrap_err();
        assert!(failure.message.contains("is no draft"), "{failure}");
    }
    assert!(!servers.heard("EXPUNGE") && !servers.heard("DATA"));
}

#[tokio::test]
async fn an_updated_draft_stays_in_the_trash_and_a_persons_own_as_it_is() {
    const TRASH: &str = "* LIST () \".\" Drafts\r\n* LIST () \".\" Trash\r\n$ OK\r\n";
    let update = format!(r#"{{"id": "Drafts:7:42", {}"#, &DRAFT[1..]);
    let gone = |servers: &Servers| servers.heard("STORE") || servers.heard("EXPUNGE");

    let servers = Servers::but(&[("UID FETCH", OWN_DRAFT), ("LIST", TRASH)], &[]);
    let told = call(&servers, "draft_update", &update).await.unwrap();
    assert_eq!(told, serde_json::json!({"id": "Drafts:7:43"}));
    assert!(servers.heard("UID MOVE 42 \"Trash\"") && !gone(&servers));

    let servers = Servers::but(&[("UID FETCH", OWN_DRAFT)], &[]);
    let told = call(&servers, "draft_update", &update).await.unwrap();
    assert!(told["trouble"].as_str().unwrap().contains("no folder for what is deleted"), "{told}");
    assert!(!servers.heard("UID MOVE") && !gone(&servers));

    // A draft that these tools can't have written: it isn't from this account.
    let servers = Servers::but(&[("LIST", TRASH)], &[]);
    let failure = call(&servers, "draft_update", &update).await.unwrap_err();
    assert!(failure.message.contains("can't be sent or changed from here"), "{failure}");
    assert!(failure.acted == Acted::No && !servers.heard("APPEND") && !servers.heard("UID MOVE"));
}

#[tokio::test]
async fn a_mail_is_sent_once_or_its_outcome_is_told_as_it_is() {
    for (smtp, why, acted) in [
        (&[("EHLO", DIES)] as Script, "the mail server said", Acted::No),
        (&[("AUTH", "535 no\r\n")], "signing in as `ada` failed", Acted::No),
        (&[("RCPT", "550 no such user\r\n")], "nothing was sent", Acted::No),
        (&[("DATA", HANGS)], "did not answer within", Acted::No),
        (&[(".", "554 spam\r\n")], "spam", Acted::Failed),
        (&[(".", DIES)], "did not say whether it took it", Acted::Unknown),
        (&[(".", HANGS)], "did not answer within", Acted::Unknown),
    ] {
        let servers = Servers::but(&[], smtp);
        let failure = call(&servers, "send", DRAFT).await.unwrap_err();
        assert!(failure.message.contains(why) && !failure.message.contains("hunter2"), "{failure}");
        assert_eq!(failure.acted, acted, "{failure}");
        assert!(!servers.heard("APPEND"), "no copy is kept of what may not have been sent");
        assert!(servers.heard.lock().unwrap().iter().filter(|line| *line == "DATA").count() <= 1);
    }
    let servers = Servers::but(&[], &[]);
    let sent = call(&servers, "send", DRAFT).await.unwrap();
    assert_eq!((&sent["sent"], sent["copy"].as_str()), (&true.into(), Some("Sent:7:43")));
    assert!(servers.heard("MAIL FROM:<ada@acme.example>") && servers.heard("RCPT TO:<bob@acme.example>"));
    let nobody = call(&servers, "send", r#"{"to": [], "subject": "x", "body": "hi"}"#).await.unwrap_err();
    assert!(nobody.message.contains("no recipient"), "{nobody}");
}

#[tokio::test]
async fn what_is_sent_stays_sent_though_its_copy_fails() {
    for imap in [&[("LOGIN", "$ NO\r\n")] as Script, &[("(literal)", DIES)], &[("LIST", "$ OK\r\n")]] {
        let sent = call(&Servers::but(imap, &[]), "send", DRAFT).await.unwrap();
        assert_eq!(sent["sent"], true);
        assert!(sent["trouble"].as_str().unwrap().contains("copy"), "{sent}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_part_undoes_nothing() {
    let servers = Servers::but(&[("LOGOUT", HANGS)], &[("QUIT", HANGS)]);
    let stamp = Stamp { now: SystemTime::UNIX_EPOCH, unique: 1 };
    let mailbox = mailbox(&servers, "smtps://mail.acme.example", LONG);
    let never = CancellationToken::new();
    let kept = mailbox.call("draft_create", DRAFT, stamp, &never).await.unwrap();
    assert_eq!(kept, r#"{"id":"Drafts:7:43"}"#);
    let sent = mailbox.call("send", DRAFT, stamp, &never).await.unwrap();
    assert!(!sent.contains("trouble"), "{sent}");
    // What was done is not told as undone when the rest takes too long.
    let failure = call(&servers, "draft_create", DRAFT).await.unwrap_err();
    assert_eq!(failure.acted, Acted::Unknown, "{failure}");
}

#[tokio::test]
async fn a_cancelled_call_says_what_may_have_happened() {
    let servers = Servers::but(&[], &[(".", HANGS)]);
    let cancelled = CancellationToken::new();
    let stamp = Stamp { now: SystemTime::UNIX_EPOCH, unique: 1 };
    let place = mailbox(&servers, "smtps://mail.acme.example", LONG);
    let call = place.call("send", DRAFT, stamp, &cancelled);
    let cancel = async {
        while !servers.heard(".") || servers.heard.lock().unwrap().last().is_none_or(|last| last != ".") {
            tokio::task::yield_now().await;
        }
        cancelled.cancel();
    };
    let (failure, ()) = tokio::join!(call, cancel);
    assert_eq!(failure.unwrap_err().acted, Acted::Unknown);
}

#[tokio::test]
async fn without_tls_a_server_hears_nothing_but_that_it_is_wanted() {
    let stamp = Stamp { now: SystemTime::UNIX_EPOCH, unique: 1 };
    for (answer, good) in [("502 no\r\n", false), ("220 go\r\n", true)] {
        let but: Vec<(&'static str, &'static str)> = vec![("STARTTLS", answer)];
        let servers = Servers::but(&[], but.leak());
        let mailbox = mailbox(&servers, "smtp://mail.acme.example", LONG);
        let sent = mailbox.call("send", DRAFT, stamp, &CancellationToken::new()).await;
        assert_eq!((sent.is_ok(), servers.heard("AUTH")), (good, good), "{sent:?}");
    }
}

#[tokio::test]
async fn endless_words_of_a_server_that_sends_end() {
    for greeting in ["220-more\r\n".repeat(40_000), "2".repeat(1 << 20)] {
        let mut servers = Servers::but(&[], &[]);
        servers.smtp.0 = greeting.leak();
        let failure = call(&servers, "send", DRAFT).await.unwrap_err();
        assert_eq!(failure.acted, Acted::No, "{failure}");
    }
}

#[test]
fn mails_are_read_and_written_off_the_threads_that_carry_sessions() {
    let update = format!(r#"{{"id": "Drafts:7:42", {}"#, &DRAFT[1..]);
    for (tool, arguments) in [
        ("read", READ),
        ("search", "{}"),
        ("draft_create", DRAFT),
        ("draft_update", &update),
        ("send", DRAFT),
        ("send_draft", r#"{"id": "Drafts:7:42"}"#),
    ] {
        let started = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&started);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .on_thread_start(move || {
                counted.fetch_add(1, Ordering::Relaxed);
            })
            .build()
            .unwrap();
        let servers = Servers::but(&[("UID FETCH", OWN_DRAFT)], &[]);
        let done = runtime.block_on(call(&servers, tool, arguments));
        assert!(done.is_ok() && started.load(Ordering::Relaxed) > 0, "{tool}: {done:?}");
    }
}

#[tokio::test]
async fn a_subject_that_mail_programs_decode_is_not_sent() {
    let servers = Servers::but(&[], &[]);
    let disguised = DRAFT.replace(r#""x""#, r#""=?utf-8?b?WWVzLCBJIHF1aXQ=?=""#);
    for tool in ["send", "draft_create"] {
        let failure = call(&servers, tool, &disguised).await.unwrap_err();
        assert!(failure.message.contains("without `=?`") && failure.acted == Acted::No, "{failure}");
    }
    assert!(servers.heard.lock().unwrap().is_empty());
}
