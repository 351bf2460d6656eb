//! A mail server that says any bytes, and a mail of any bytes: each call ends, without a panic, and what it tells is JSON.
#![no_main]

use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use domain::Destination;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use libfuzzer_sys::fuzz_target;
use mail::{Account, Dial, Key, Mailbox, Place, Stamp, Stream};
use tokio_util::sync::CancellationToken;

/// Calls of which a server's answers are read.
const CALLS: [(&str, &str); 8] = [
    ("read", r#"{"id":"INBOX:7:42"}"#),
    ("search", r#"{"text":"x"}"#),
    ("list_folders", "{}"),
    ("draft_create", r#"{"to":["a@b.example"],"subject":"s","body":"b","in_reply_to":"INBOX:7:42"}"#),
    ("move", r#"{"id":"INBOX:7:42","to":"Drafts"}"#),
    ("delete", r#"{"id":"INBOX:7:42"}"#),
    ("send", r#"{"to":["a@b.example"],"subject":"s","body":"b"}"#),
    ("send_draft", r#"{"id":"Drafts:7:42"}"#),
];
const SIGNED_IN: &[u8] = b"* OK hi\r\nL1 OK\r\n* CAPABILITY IMAP4rev1 UIDPLUS MOVE\r\nL2 OK\r\n";

/// Both servers say these bytes, whatever they hear.
struct Says(Vec<u8>);

impl Dial for Says {
    fn connect<'a>(&'a self, _: &'a Destination) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        let stream = tokio::io::join(Cursor::new(self.0.clone()), tokio::io::sink());
        async move { Ok(Box::new(stream) as Box<dyn Stream>) }.boxed()
    }

    fn secure<'a>(
        &'a self,
        _: &'a Destination,
        stream: Box<dyn Stream>,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        async move { Ok(stream) }.boxed()
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, rest)) = bytes.split_first() else { return };
    let (call, how) = (usize::from(*which) % CALLS.len(), usize::from(*which) / CALLS.len() % 3);
    let says = match how {
        0 => rest.to_vec(),
        1 => [SIGNED_IN, rest].concat(),
        _ => {
            let head = format!(
                "* OK [UIDVALIDITY 7] x\r\nL3 OK\r\n* 1 FETCH (UID 42 FLAGS () RFC822.SIZE {0} BODY[]<0> {{{0}}}\r\n",
                rest.len()
            );
            [SIGNED_IN, head.as_bytes(), rest, b")\r\nL4 OK\r\n"].concat()
        }
    };
    let Ok(place) = Place::new("imaps://m.example", "smtps://m.example", "ada", "ada@m.example") else { return };
    let key = if usize::from(*which) / CALLS.len() / 3 % 2 == 1 { Key::Token } else { Key::Password };
    let account = Account { place, key: key("hunter2".into()) };
    let mailbox = Mailbox::reached(account, Arc::new(Says(says)), Duration::from_secs(5));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (tool, arguments) = CALLS[call];
    let stamp = Stamp { now: SystemTime::UNIX_EPOCH, unique: 1 };
    let told = runtime.block_on(mailbox.call(tool, arguments, stamp, &CancellationToken::new()));
    if let Ok(told) = told {
        serde_json::from_str::<serde_json::Value>(&told).expect("what is told is JSON");
    }
});
