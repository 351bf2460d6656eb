//! The daemon's own folders: private, held by one daemon at a time, with the socket in them.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use api::Folders;
use rustix::fs::FlockOperation;
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::error::DaemonError;
use crate::listener::People;

/// Most bytes in a socket's path: `sun_path` of unix(7) less its final zero.
const MAX_SOCKET_PATH: usize = 107;

/// The folders, held. Dropping it gives them free and removes the socket.
#[derive(Debug)]
pub(crate) struct Held {
    socket: PathBuf,
    _lock: File,
}

impl Held {
    /// Makes the folders that are missing, refuses those that others could write, and takes the lock.
    pub(crate) fn take(folders: &Folders) -> Result<Self, DaemonError> {
        for folder in [&folders.data, &folders.cache, &folders.state, &folders.runtime] {
            private(folder)?;
        }
        let path = folders.runtime.join("daemon.lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(DaemonError::file(&path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| DaemonError::AlreadyRuns(folders.runtime.clone()))?;
        Ok(Self { socket: folders.socket(), _lock: lock })
    }

    /// The socket's path.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Listens. A socket that lies there is of a daemon that died: this one has the lock.
    pub(crate) fn listen(&self, known: watch::Receiver<BTreeSet<u32>>) -> Result<People, DaemonError> {
        if self.socket.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(DaemonError::SocketPath(self.socket.clone()));
        }
        match fs::remove_file(&self.socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(DaemonError::File { path: self.socket.clone(), source: error });
            }
            Ok(()) | Err(_) => {}
        }
        let file = DaemonError::file(&self.socket);
        let listener = UnixListener::bind(&self.socket).map_err(file)?;
        // The folder is private, so others reach it only where an owner opens both. Who they are is checked all the same.
        fs::set_permissions(&self.socket, fs::Permissions::from_mode(0o600))
            .map_err(DaemonError::file(&self.socket))?;
        Ok(People::new(listener, known))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.socket) {
            tracing::debug!(%error, "the socket was not removed");
        }
    }
}

/// Makes a folder with mode 700, or checks that it is this user's and nobody else writes to it.
pub(crate) fn private(folder: &Path) -> Result<(), DaemonError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(DaemonError::file(folder))?;
    let meta = fs::symlink_metadata(folder).map_err(DaemonError::file(folder))?;
    let why = if !meta.is_dir() {
        "is not a folder"
    } else if meta.uid() != rustix::process::geteuid().as_raw() {
        "belongs to another user"
    } else if meta.mode() & 0o077 != 0 {
        return fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
            .map_err(DaemonError::file(folder));
    } else {
        return Ok(());
    };
    Err(DaemonError::NotPrivate { path: folder.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(base: &Path) -> Folders {
        let at = |name: &str| base.join(name);
        Folders {
            config: at("config"),
            data: at("data"),
            cache: at("cache"),
            state: at("state"),
            runtime: at("run"),
        }
    }

    #[tokio::test]
    async fn one_daemon_holds_the_folders_and_all_is_private() {
        let base = tempfile::tempdir().unwrap();
        let folders = folders(base.path());
        let held = Held::take(&folders).unwrap();
        assert!(matches!(Held::take(&folders), Err(DaemonError::AlreadyRuns(_))));
        let (_keep, known) = watch::channel(BTreeSet::new());
        let _listener = held.listen(known.clone()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&folders.runtime), 0o700);
        assert_eq!(mode(&folders.socket()), 0o600);
        drop(held);
        assert!(!folders.socket().exists());
        let again = Held::take(&folders).unwrap();
        fs::write(folders.socket(), "left by a crash").unwrap();
        again.listen(known).unwrap();
    }

    #[test]
    fn a_folder_that_others_may_read_becomes_private_and_a_link_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let open = base.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        private(&open).unwrap();
        assert_eq!(fs::metadata(&open).unwrap().mode() & 0o777, 0o700);
        let link = base.path().join("link");
        std::os::unix::fs::symlink(&open, &link).unwrap();
        assert!(private(&link).is_err());
    }
}
