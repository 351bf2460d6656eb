//! Egress: what a door asks to send out of its cell is decided and sent by an [`EgressGate`].
//!
//! ```text
//! door ── DoorOpens::Egress, body ──▶ serve ▶ EgressGate (decides, acts) ▶ server
//!      ◀─────────── answer ─────────
//! ```
//! [`serve()`] carries bounded pieces both ways, no faster than they are taken; what may leave is the gate's to say.

mod frequency;
mod gate;
mod leaf;
mod outside;
mod search;
mod send;
mod sending;
mod serve;

use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wire::egress::{EgressAnswer, EgressRequest};
use wire::frame::CHUNK;

pub use gate::SessionEgress;
pub use leaf::{Authority, AuthorityError, Leaves};
pub use outside::{Bounds, Outside};
pub use serve::serve;

/// Who decides about the requests of one session, and sends them.
pub trait EgressGate: Send + Sync {
    /// Decides about a request, sends it, and passes the answer on. `Ok`: the answer is whole. An error before the head
    /// of an answer is told to the program; one after it cuts the answer short.
    fn exchange(
        &self,
        request: EgressRequest,
        exchange: Exchange,
    ) -> BoxFuture<'_, Result<(), EgressRefusal>>;
}

/// The program's side of one request.
#[derive(Debug)]
pub struct Exchange {
    /// What the program sends.
    pub body: RequestBody,
    /// Where the answer goes.
    pub answer: Answer,
    /// Is cancelled when nobody waits for the answer any more. The gate's future is still run to its end, so that what
    /// was begun can be concluded: it should end soon.
    pub cancelled: CancellationToken,
}

/// Why there is no answer, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct EgressRefusal {
    /// HTTP status, as in [`EgressAnswer::Refused`].
    pub status: u16,
    /// What happened.
    pub why: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The program, or its door, has gone away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody waits for the answer any more")]
pub struct Gone;

/// The body of a request, as it comes from the door. It is as long as its head said, or ends with an error.
#[derive(Debug)]
pub struct RequestBody(mpsc::Receiver<Result<Piece, Gone>>);

/// A piece of a body.
#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    End,
}

impl RequestBody {
    /// The next bytes; `None` at the end. What is not asked for makes the program wait.
    ///
    /// # Errors
    /// When the body was cut short.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Gone> {
        match self.0.recv().await {
            Some(Ok(Piece::Bytes(bytes))) => Ok(Some(bytes)),
            Some(Ok(Piece::End)) => {
                self.0.close();
                Ok(None)
            }
            Some(Err(gone)) => Err(gone),
            None => Err(Gone),
        }
    }
}

/// Where an answer goes, no faster than the program takes it.
#[derive(Debug, Clone)]
pub struct Answer(mpsc::Sender<EgressAnswer>);

impl Answer {
    /// Begins it. Once.
    ///
    /// # Errors
    /// When nobody waits for it any more.
    pub async fn head(&self, status: u16, headers: Vec<(String, String)>) -> Result<(), Gone> {
        self.0.send(EgressAnswer::Head { status, headers }).await.map_err(|_| Gone)
    }

    /// The next bytes of its body.
    ///
    /// # Errors
    /// When nobody waits for it any more.
    pub async fn body(&self, bytes: &[u8]) -> Result<(), Gone> {
        for piece in bytes.chunks(CHUNK) {
            self.0.send(EgressAnswer::Body(piece.to_vec())).await.map_err(|_| Gone)?;
        }
        Ok(())
    }
}

/// The gate of a session whose agent was given no way out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Closed;

impl EgressGate for Closed {
    fn exchange(
        &self,
        request: EgressRequest,
        _exchange: Exchange,
    ) -> BoxFuture<'_, Result<(), EgressRefusal>> {
        let why = format!("egress is closed: agent.toml has no [egress] rule for `{}`", request.host);
        let hint = "a person who owns the agent decides what it may reach".to_owned();
        Box::pin(async { Err(EgressRefusal { status: 403, why, hint: Some(hint) }) })
    }
}

#[cfg(test)]
mod tests;
