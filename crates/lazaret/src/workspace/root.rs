//! A folder of the host, entered only by paths that stay in it and pass no symbolic link (`openat2`).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawMode, ResolveFlags};
use rustix::io::Errno;

use super::tree::{Node, RelPath};
use super::{Result, WorkspaceError};

/// The folder, held open.
#[derive(Debug)]
pub(crate) struct Root {
    folder: OwnedFd,
    path: PathBuf,
}

const INSIDE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

impl Root {
    /// Opens a folder. Its own path may pass links: the person named it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|e| WorkspaceError::Io { path: path.to_owned(), source: e.into() })?;
        Ok(Self { folder, path: path.to_owned() })
    }

    /// An error at a path in it.
    pub(crate) fn error(&self, path: &str, source: impl Into<io::Error>) -> WorkspaceError {
        WorkspaceError::Io { path: self.path.join(path), source: source.into() }
    }

    /// The open folder at `path`; empty for the root itself. With `make`, missing ones are made.
    pub(crate) fn folder(&self, path: &str, make: bool) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let open = |at: &OwnedFd, path: &str| {
            rustix::fs::openat2(at, if path.is_empty() { "." } else { path }, flags, Mode::empty(), INSIDE)
        };
        match open(&self.folder, path) {
            Err(Errno::NOENT) if make => {
                let mut at = open(&self.folder, "")?;
                for part in path.split('/') {
                    match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => at = open(&at, part)?,
                        Err(error) => return Err(error),
                    }
                }
                Ok(at)
            }
            other => other,
        }
    }

    /// What lies at a path: `None` when nothing does, an error for what is neither file nor link.
    pub(crate) fn read(&self, path: &RelPath, max: u64) -> io::Result<Option<Node>> {
        let (folder, name) = path.split();
        match self.folder(folder, false) {
            Ok(folder) => read_at(&folder, name, max),
            // A link or a file in the place of a folder: nothing of ours lies below it.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether following `target` from the folder of `path` leaves the root, through whatever links lie there now.
    pub(crate) fn link_leaves(&self, path: &RelPath, target: &str) -> bool {
        let (folder, _) = path.split();
        let from_root = if folder.is_empty() { target.to_owned() } else { format!("{folder}/{target}") };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.folder, from_root, flags, Mode::empty(), resolve) {
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => false,
            Err(_) => true,
        }
    }
}

/// What lies under a name of an open folder.
pub(crate) fn read_at(folder: impl AsFd, name: &str, max: u64) -> io::Result<Option<Node>> {
    let stat = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&folder, name, Vec::new())?;
            let target = target
                .into_string()
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the link is not UTF-8"))?;
            Ok(Some(Node::Link { target }))
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::openat2(&folder, name, flags, Mode::empty(), INSIDE)?;
            let stat = rustix::fs::fstat(&file)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(not_plain());
            }
            let mut content = Vec::new();
            File::from(file).take(max.saturating_add(1)).read_to_end(&mut content)?;
            if content.len() as u64 > max {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {max} bytes")));
            }
            Ok(Some(Node::File { content: content.into(), executable: stat.st_mode & 0o100 != 0 }))
        }
        FileType::Directory
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Err(not_plain()),
    }
}

fn not_plain() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a link")
}

/// Makes a new file or link under a name of an open folder. `like`: the mode of the file that it replaces.
pub(crate) fn make_at(folder: impl AsFd, name: &str, node: &Node, like: Option<RawMode>) -> io::Result<()> {
    match node {
        Node::Link { target } => {
            Ok(rustix::fs::symlinkat(OsStr::from_bytes(target.as_bytes()), &folder, name)?)
        }
        Node::File { content, executable } => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fresh = Mode::from_raw_mode(if *executable { 0o777 } else { 0o666 });
            let mut file = File::from(rustix::fs::openat(&folder, name, flags, fresh)?);
            file.write_all(content)?;
            if let Some(like) = like {
                // Who may read may also execute; nobody gains reading or writing, nor set-id bits.
                let plain = like & 0o666;
                let mode = if *executable { plain | ((plain & 0o444) >> 2) } else { plain };
                rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
            }
            Ok(file.sync_data()?)
        }
    }
}
