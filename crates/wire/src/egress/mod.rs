//! Requests that leave a cell: what a door makes of a program's HTTP request, and how the daemon answers it.
//!
//! ```text
//! door ── DoorOpens::Egress(EgressRequest), then EgressBody frames ──▶ daemon
//!      ◀── EgressAnswer frames ──
//! ```
//! The door keeps its side of the stream open for as long as somebody waits for the answer: when it ends before
//! [`EgressBody::End`], or afterwards is shut down, the daemon gives the request up.

mod check;
#[cfg(test)]
mod tests;
pub mod url;

use serde::{Deserialize, Serialize};

use crate::git::Push;

pub use check::{MAX_HEADER_BYTES, MAX_HEADERS, NotCanonical, stays};

/// Most bytes of an [`EgressRequest`] frame.
pub const MAX_REQUEST: usize = 128 << 10;

/// Most bytes of the head of an answer.
pub const MAX_ANSWER: usize = 64 << 10;

/// How a request is carried to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// In TLS, whose certificate the daemon verifies.
    Https,
}

/// One request in its one canonical form: what is decided, recorded and sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressRequest {
    /// An upper-case token.
    pub method: String,
    /// How it is carried.
    pub scheme: Scheme,
    /// A host name in lower-case ASCII without a final dot, or an address in its one usual spelling, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Begins with `/`; percent-encoded in one way; without dot segments and encoded slashes.
    pub path: String,
    /// What follows the `?`, percent-encoded in one way.
    pub query: Option<String>,
    /// Names in lower case, in the order of the request; none that concerns only one connection, no `host`, no
    /// `content-length`.
    pub headers: Vec<(String, String)>,
    /// What a `git push` asks for: the start of its body, which is not sent again. None: it is no push.
    pub push: Option<Push>,
    /// Whether a body, or the rest of one, follows.
    pub body: BodyLength,
}

/// How long a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyLength {
    /// There is none.
    None,
    /// So many bytes, more than none; another number is an error.
    Known(u64),
    /// Its end will show.
    Unknown,
}

/// After the request, from the door: its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EgressBody {
    /// The next bytes; at most [`crate::frame::CHUNK`].
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The body ended in order. A stream that ends without it was cut.
    End,
}

/// The daemon's answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EgressAnswer {
    /// It was refused, or failed before the first byte; the door makes an HTTP response of it.
    Refused {
        /// HTTP status: 403 by policy, 407 never, 413 too large, 429 too many, 502 and 504 upstream.
        status: u16,
        /// What happened, for people.
        why: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The response's head; then `Body` frames.
    Head {
        /// HTTP status.
        status: u16,
        /// Names in lower case; none that concerns only one connection, but `content-length` where it is known.
        headers: Vec<(String, String)>,
    },
    /// The next bytes of the body; at most [`crate::frame::CHUNK`].
    Body(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The body ended in order. A stream that ends without it was cut.
    End,
}

/// A certificate for a name, as the door shows it to the programs of its cell, whose trust stores know its issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeafAnswer {
    /// Issued.
    Issued {
        /// DER, the leaf first.
        chain: Vec<serde_bytes::ByteBuf>,
        /// PKCS #8 DER. It can speak for nobody but to this installation's cells.
        key: serde_bytes::ByteBuf,
    },
    /// Not issued.
    Refused {
        /// Why, for people.
        why: String,
    },
}
