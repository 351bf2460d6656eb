//! Mail: what the built-in tool server `mail` does, over IMAP and SMTP.
//!
//! ```text
//! call ─▶ tools (arguments) ─▶ imap: folders, mails, drafts     reading: a stranger's mail → bounded plain text
//!                           └▶ smtp: sends, once                writing: arguments → one plain mail
//! ```
//! Who may call what is decided elsewhere. Here every byte of a server or of a stranger's mail is bounded, nothing that a
//! mail refers to is loaded, and what is sent is a plain text of which every part was an argument.

mod account;
mod address;
mod dial;
mod failure;
mod folder;
mod imap;
mod parts;
mod reading;
mod sasl;
mod smtp;
#[cfg(test)]
mod tests;
mod tools;
mod writing;

pub use self::dial::{Dial, Stream};
pub use account::{Account, Key, Place, PlaceError};
pub use address::{Address, AddressError};
pub use failure::{Acted, Failure, Reason};
pub use tools::{Description, Mailbox, Stamp, descriptions};
