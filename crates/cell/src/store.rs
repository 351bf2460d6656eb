//! Folders and files of the host that are Lazaret's own: private, written whole or not at all, found by content.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The folders that a host gives to its cells. Each is made if missing, private to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDirs {
    /// Kernels, initramfs, images: worth keeping.
    pub data: PathBuf,
    /// Templates: can be made again.
    pub cache: PathBuf,
    /// What lives only while the daemon does.
    pub runtime: PathBuf,
}

/// Prefix of folders and files that are being written; found at start, they are left over from a crash.
pub(crate) const UNFINISHED: &str = ".new-";

/// Makes a folder with its parents, for its owner alone.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| at(&e, path))?;
    // An older folder may have been made with another mode.
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|e| at(&e, path))
}

/// Writes a file whole: beside its place first, then renamed, on disk before it has its name.
pub(crate) fn write_whole(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file =
        tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder).map_err(|e| at(&e, folder))?;
    file.write_all(content).map_err(|e| at(&e, path))?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode)).map_err(|e| at(&e, path))?;
    file.as_file().sync_all().map_err(|e| at(&e, path))?;
    file.persist(path).map_err(|e| at(&e.error, path))?;
    fs::File::open(folder)?.sync_all()
}

/// A folder that is filled beside its place and gets its name when it is complete.
#[derive(Debug)]
pub(crate) struct NewFolder {
    temporary: tempfile::TempDir,
    parent: PathBuf,
}

impl NewFolder {
    pub(crate) fn under(parent: &Path) -> io::Result<Self> {
        private_folder(parent)?;
        let temporary = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .map_err(|e| at(&e, parent))?;
        Ok(Self { temporary, parent: parent.to_path_buf() })
    }

    pub(crate) fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Gives the folder its name. If another one of that name is there already, that one stays.
    pub(crate) fn finish(self, name: &str) -> io::Result<PathBuf> {
        let place = self.parent.join(name);
        match fs::rename(self.temporary.path(), &place) {
            Ok(()) => {
                // Moved away: there is nothing left to remove.
                drop(self.temporary.keep());
                fs::File::open(&self.parent)?.sync_all()?;
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) => {}
            Err(error) => return Err(at(&error, &place)),
        }
        Ok(place)
    }
}

/// Removes what a crash left unfinished in a folder; how many entries.
pub(crate) fn remove_unfinished(folder: &Path) -> io::Result<usize> {
    let mut removed = 0;
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(|e| at(&e, folder))?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let path = entry.path();
            if entry.file_type()?.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
                .map_err(|e| at(&e, &path))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Reads a file of at most so many bytes.
pub(crate) fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = fs::File::open(path).map_err(|e| at(&e, path))?;
    let mut content = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut content).map_err(|e| at(&e, path))?;
    if content.len() as u64 > max {
        return Err(io::Error::other(format!("`{}` has more than {max} bytes", path.display())));
    }
    Ok(content)
}

/// The SHA-256 of the parts, each with its length in front, as hex.
pub(crate) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex::encode(hasher.finalize())
}

/// The error with the path it is about.
pub(crate) fn at(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_folder_is_removed_and_a_finished_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let new = NewFolder::under(folder.path()).unwrap();
        fs::write(new.path().join("file"), "x").unwrap();
        let crashed = NewFolder::under(folder.path()).unwrap();
        drop(crashed.temporary.keep());
        assert_eq!(new.finish("name").unwrap(), folder.path().join("name"));
        assert_eq!(remove_unfinished(folder.path()).unwrap(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(folder.path().join("name/file").exists());
    }

    #[test]
    fn the_first_of_two_equal_folders_stays_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for content in ["first", "second"] {
            let new = NewFolder::under(folder.path()).unwrap();
            fs::write(new.path().join("file"), content).unwrap();
            new.finish("name").unwrap();
        }
        assert_eq!(fs::read_to_string(folder.path().join("name/file")).unwrap(), "first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn digests_depend_on_where_parts_end() {
        assert_ne!(digest([b"ab".as_slice(), b"c"]), digest([b"a".as_slice(), b"bc"]));
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_whole(&path, 0o600, b"12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        assert!(read_bounded(&path, 4).is_err());
    }
}
