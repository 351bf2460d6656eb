//! The daemon's own folders: private, held by one daemon at a time, with the socket in them; and the socket for the
//! host's other people, where the owner wants one.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use api::Folders;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::error::DaemonError;
use crate::listener::People;

/// Most bytes in a socket's path: `sun_path` of unix(7) less its final zero.
const MAX_SOCKET_PATH: usize = 107;

/// Reads a text whole, or not at all: what is cut says something else.
///
/// # Errors
/// It can't be read, or has more bytes.
pub(crate) fn read_text(path: &Path, most: u64) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_string(&mut text)?;
    if text.len() as u64 > most {
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, format!("it has more than {most} bytes")));
    }
    Ok(text)
}

/// The folders, held. Dropping it gives them free and removes the socket.
#[derive(Debug)]
pub(crate) struct Held {
    socket: PathBuf,
    shared: Option<PathBuf>,
    _locks: Vec<File>,
}

impl Held {
    /// Makes the folders that are missing, refuses those that others could write, and takes the locks.
    pub(crate) fn take(folders: &Folders) -> Result<Self, DaemonError> {
        for folder in [&folders.data, &folders.cache, &folders.state, &folders.runtime] {
            private(folder)?;
        }
        // Of the state too: another session of the same user may have another runtime folder, or none.
        let mut locks = vec![lock(&folders.runtime, DaemonError::AlreadyRuns)?];
        if folders.state != folders.runtime {
            locks.push(lock(&folders.state, DaemonError::RunsElsewhere)?);
        }
        Ok(Self { socket: folders.socket(), shared: None, _locks: locks })
    }

    /// The socket's path.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Listens. A socket that lies there is of a daemon that died: this one has the lock.
    pub(crate) fn listen(&self, known: watch::Receiver<BTreeSet<u32>>) -> Result<People, DaemonError> {
        Ok(People::new(bind(&self.socket, 0o600)?, known))
    }

    /// Listens where every user of the host can connect; who isn't known is turned away. The folder must be such that
    /// nobody else can put another socket in its place.
    pub(crate) fn share(
        &mut self,
        socket: &Path,
        known: watch::Receiver<BTreeSet<u32>>,
    ) -> Result<People, DaemonError> {
        let folder = socket.parent().unwrap_or(Path::new("/"));
        let meta = fs::metadata(folder).map_err(DaemonError::file(folder))?;
        let own = [0, rustix::process::geteuid().as_raw()].contains(&meta.uid());
        if !own || meta.mode() & 0o022 != 0 {
            let why = "can be written to by others, who could put a socket of theirs there";
            return Err(DaemonError::NotShareable { path: folder.to_owned(), why });
        }
        match fs::symlink_metadata(socket) {
            Ok(there) if !there.file_type().is_socket() => {
                let why = "is there already, and is no socket";
                return Err(DaemonError::NotShareable { path: socket.to_owned(), why });
            }
            Ok(_) if UnixStream::connect(socket).is_ok() => {
                return Err(DaemonError::AlreadyRuns(socket.to_owned()));
            }
            Ok(_) | Err(_) => {}
        }
        let listener = bind(socket, 0o666)?;
        self.shared = Some(socket.to_owned());
        Ok(People::new(listener, known))
    }
}

/// Takes the lock of a folder, which goes with the file; or says that another has it.
fn lock(folder: &Path, taken: fn(PathBuf) -> DaemonError) -> Result<File, DaemonError> {
    let path = folder.join("daemon.lock");
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true).mode(0o600);
    let lock = options.open(&path).map_err(DaemonError::file(&path))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(taken(folder.to_owned())),
        Err(error) => Err(DaemonError::File { path, source: error.into() }),
    }
}

/// Makes a socket of this mode. One that lies there is of a daemon that died.
fn bind(socket: &Path, mode: u32) -> Result<UnixListener, DaemonError> {
    if socket.as_os_str().len() > MAX_SOCKET_PATH {
        return Err(DaemonError::SocketPath(socket.to_owned()));
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(DaemonError::File { path: socket.to_owned(), source: error });
        }
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(socket).map_err(DaemonError::file(socket))?;
    fs::set_permissions(socket, fs::Permissions::from_mode(mode)).map_err(DaemonError::file(socket))?;
    Ok(listener)
}

impl Drop for Held {
    fn drop(&mut self) {
        for socket in std::iter::once(&self.socket).chain(&self.shared) {
            if let Err(error) = fs::remove_file(socket) {
                tracing::debug!(%error, socket = %socket.display(), "a socket was not removed");
            }
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

/// Makes a folder as [`private`] does, and removes what is in it. Another daemon may be about the same, where several share
/// their data: the folder itself is never gone, and what is gone already is as it should be.
pub(crate) fn emptied(folder: &Path) -> Result<(), DaemonError> {
    private(folder)?;
    for entry in fs::read_dir(folder).map_err(DaemonError::file(folder))? {
        let path = entry.map_err(DaemonError::file(folder))?.path();
        let removed = if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        match removed {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.map_err(DaemonError::file(&path))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_may_empty_a_folder_at_once() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("scratch");
        let emptying = |of: usize| {
            for round in 0..100 {
                emptied(&folder).unwrap();
                fs::write(folder.join(format!("{of}-{round}.ext4")), "").unwrap();
            }
        };
        std::thread::scope(|threads| {
            for of in 0..8 {
                threads.spawn(move || emptying(of));
            }
        });
        fs::create_dir(folder.join("folder")).unwrap();
        std::os::unix::fs::symlink(base.path(), folder.join("link")).unwrap();
        emptied(&folder).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        assert!(base.path().exists(), "what a link leads to stays");
    }

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
        let elsewhere = Folders { runtime: base.path().join("other"), ..folders.clone() };
        let Err(DaemonError::RunsElsewhere(of)) = Held::take(&elsewhere) else {
            panic!("two have one state")
        };
        assert_eq!(of, folders.state);
        let base = tempfile::tempdir().unwrap();
        let one = Folders { runtime: base.path().join("state"), ..self::folders(base.path()) };
        Held::take(&one).unwrap();
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

    #[tokio::test]
    async fn the_shared_socket_is_open_to_all_in_a_folder_that_is_not() {
        let base = tempfile::tempdir().unwrap();
        let mut held = Held::take(&folders(base.path())).unwrap();
        let (_keep, known) = watch::channel(BTreeSet::new());
        let open = base.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
        let refused = held.share(&open.join("s"), known.clone());
        assert!(matches!(refused, Err(DaemonError::NotShareable { .. })), "{refused:?}");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(open.join("file"), "theirs").unwrap();
        assert!(held.share(&open.join("file"), known.clone()).is_err());
        assert_eq!(fs::read_to_string(open.join("file")).unwrap(), "theirs");
        assert!(held.share(&base.path().join("missing/s"), known.clone()).is_err());

        let socket = open.join("s");
        let listener = held.share(&socket, known.clone()).unwrap();
        assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o666);
        assert!(matches!(held.share(&socket, known.clone()), Err(DaemonError::AlreadyRuns(_))));
        drop(listener);
        let _again = held.share(&socket, known).unwrap();
        drop(held);
        assert!(!socket.exists());
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
