//! Why there is no connection.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::address::Class;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// Not a host.
    #[error("`{host}` is no host's name or address")]
    NoHost {
        /// As it was given, in short.
        host: String,
    },
    /// The name leads nowhere.
    #[error("`{host}` can't be resolved: {why}")]
    Unknown {
        /// The host.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// An address that isn't public.
    #[error(
        "`{host}` leads to {address}, which is {class}: the host's owner can name it as `{}` in [network] private",
        place(host, *port)
    )]
    NotPublic {
        /// The host.
        host: String,
        /// The port; 0: it isn't known.
        port: u16,
        /// Where it leads.
        address: IpAddr,
        /// What that is.
        class: Class,
    },
    /// Nobody answers.
    #[error("`{host}` port {port} can't be reached: {why}")]
    Unreachable {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The system's reason.
        why: String,
    },
    /// It took too long.
    #[error("`{host}` was not reached within {seconds} s")]
    Late {
        /// The host.
        host: String,
        /// For how long it was tried.
        seconds: u64,
    },
    /// The certificate is not good for this host, or TLS can't be agreed on.
    #[error("`{host}` can't be trusted: {why}")]
    Tls {
        /// The host.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// The outer proxy says no.
    #[error("the proxy makes no connection to `{host}` port {port}: {why}")]
    Proxy {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// What it said.
        why: String,
    },
    /// The certificates that are trusted can't be read.
    #[error("the certificates of `{path}` can't be read: {why}")]
    Certificates {
        /// The file; empty: the platform's.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

pub(crate) fn place(host: &str, port: u16) -> String {
    if port == 0 { host.to_owned() } else { format!("{host}:{port}") }
}
