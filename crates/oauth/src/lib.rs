//! OAuth on the host: a person logs in once, and the token is a secret of the vault, renewed before it ends.
//!
//! ```text
//! person ▶ LogIn ── who gives tokens? ▶ register ▶ browser (PKCE) or device code ▶ token ──▶ vault
//! request ▶ Lender ── about to end? ▶ renew, once for all who wait ▶ vault ── Injection ──▶ server
//! removed from the vault ▶ Lender ▶ revoke
//! ```
//! Everything that servers answer is a stranger's: bounded, read strictly, and asked for by the one dialer. A token is asked
//! for one resource (RFC 8707), of the server that this resource names (RFC 9728, RFC 8414), and of no other. Of the vendors whose
//! subscriptions pay for models, all that is asked and answered is known beforehand ([`binding`]).

mod account;
mod back;
mod code;
mod device;
mod discover;
mod error;
mod http;
mod lend;
mod listen;
mod log_in;
mod parties;
mod paste;
mod poll;
mod revoke;
mod token;
mod typed;
mod vendor;

pub use error::OauthError;
pub use lend::{LendError, Lender, Renewal, Witness};
pub use log_in::{At, LogIn, Way};
pub use parties::Party;
pub use paste::{PasteError, Pastes};
pub use vendor::binding;

use std::io;
use std::sync::Arc;

/// What is taken of the machine, so that tests are exact.
#[derive(Clone)]
pub struct Means {
    /// Milliseconds since 1970.
    pub now: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Fills a buffer with what nobody can guess.
    pub random: fn(&mut [u8]) -> io::Result<()>,
}
