//! Why the daemon can't start.

use std::io;
use std::path::{Path, PathBuf};

/// Why the daemon can't start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another one holds the lock.
    #[error("a daemon already runs for `{}`", .0.display())]
    AlreadyRuns(PathBuf),
    /// Another one holds the state, from a session with another runtime folder.
    #[error("a daemon already has the state in `{}`, and its socket is in another runtime folder", .0.display())]
    RunsElsewhere(PathBuf),
    /// The shared socket can't be where it is wanted.
    #[error("the shared socket: `{}` {why}", path.display())]
    NotShareable {
        /// The socket or its folder.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A folder is not private to this user.
    #[error("`{}` {why}", path.display())]
    NotPrivate {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The socket's path is longer than the system allows (`sun_path`, unix(7)).
    #[error("the path of the socket `{}` has more than 107 bytes", .0.display())]
    SocketPath(PathBuf),
    /// The configuration has a mistake.
    #[error("`{}`: {message}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What and where, for people.
        message: String,
    },
    /// A file can't be read or written.
    #[error("`{}`: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What cells need can't be set up.
    #[error("cells can't be run: {0}")]
    Cells(String),
    /// The providers can't be used as they are configured.
    #[error("models can't be served: {0}")]
    Models(String),
    /// The network can't be used as it is configured.
    #[error("the network can't be used as [network] of config.toml says: {0}")]
    Network(String),
    /// The store can't be used.
    #[error("the store of decisions, approvals and the ledger can't be opened: {0}")]
    Store(String),
    /// The vault doesn't open.
    #[error("the vault can't be opened: {0}")]
    Vault(vault::VaultError),
    /// The command that prints the vault's passphrase doesn't.
    #[error("the vault's passphrase: {0} (`passphrase_command` of [vault] in config.toml)")]
    Passphrase(String),
    /// Signals or the listener failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<store::StoreError> for DaemonError {
    fn from(error: store::StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl DaemonError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::RunsElsewhere(_) => Some(
                "set XDG_RUNTIME_DIR as it is where that daemon was started, or end that one with SIGTERM first",
            ),
            Self::AlreadyRuns(_) => Some("end it with SIGTERM first, or just use it"),
            Self::NotShareable { .. } => {
                Some("put it into a folder that only you or root can write to, with mode 755")
            }
            Self::NotPrivate { .. } => {
                Some("give it to yourself with mode 700, or name other folders by XDG variables")
            }
            Self::SocketPath(_) => Some("set XDG_RUNTIME_DIR to a shorter path"),
            Self::Config { .. } | Self::Models(_) | Self::Network(_) => {
                Some("docs/configuration.md lists the keys")
            }
            Self::Vault(error) => crate::secrets::hint(error),
            Self::Passphrase(_) => {
                Some("run the command by hand to see what it says; docs/secrets.md says more")
            }
            Self::File { .. } | Self::Cells(_) | Self::Store(_) | Self::Io(_) => None,
        }
    }

    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}
