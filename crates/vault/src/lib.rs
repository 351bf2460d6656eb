//! Secrets: kept encrypted, lent to one request at a time, and taken out of what comes back.
//!
//! ```text
//! vault file ── key ──▶ Vault ── inject(agent's uses, target) ──▶ Injection ── header ──▶ server
//!                                                                     └── Scrubber ◀── answer ──┘
//! ```
//! A [`Secret`] can't be printed, compared, encoded or copied, and its memory is wiped when its last holder lets it go. It
//! is shown only where one of its bindings says, and, for an agent, where the agent's file says so too.

mod inject;
mod login;
mod own;
mod scrub;
mod sealed;
mod secret;
mod vault;
mod views;

pub use inject::{InjectError, Injection};
pub use login::{Asked, Began, Kept, Login, Tokens};
pub use scrub::{REDACTED, Scrubber};
pub use sealed::{Key, Random, VaultError};
pub use secret::{Secret, SecretError};
pub use vault::{ChangeError, Described, MAX_SECRETS, Vault};
