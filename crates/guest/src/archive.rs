//! Packs and unpacks tar archives inside the container, as the agent: `put FOLDER` from standard input, `get FOLDER` to
//! standard output.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::fcntl::OFlag;
use tar::{Archive, Builder, EntryType, Header};

use crate::fault::{During, Fault};

/// Most entries of one archive.
const ENTRIES: usize = 1_000_000;

/// Unpacks what comes on standard input under the folder.
pub(crate) fn put(folder: &Path) -> ExitCode {
    end(unpack(&mut io::stdin().lock(), folder))
}

/// Packs the folder onto standard output.
pub(crate) fn get(folder: &Path) -> ExitCode {
    end(pack(folder, io::stdout().lock()))
}

fn end(result: Result<(), Fault>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            // Without standard error there is nobody to tell; the exit code still says it.
            drop(write!(io::stderr(), "{fault}"));
            ExitCode::FAILURE
        }
    }
}

fn unpack(from: &mut impl Read, folder: &Path) -> Result<(), Fault> {
    fs::create_dir_all(folder).during(format_args!("making `{}`", folder.display()))?;
    empty(folder)?;
    let mut archive = Archive::new(from);
    archive.set_preserve_permissions(true);
    let mut folders = Vec::new();
    for (count, entry) in archive.entries().during("reading the archive")?.enumerate() {
        if count >= ENTRIES {
            return Err(Fault::new(format!("more than {ENTRIES} entries in the archive")));
        }
        let mut entry = entry.during("reading the archive")?;
        let path = entry.path().during("reading the archive")?.into_owned();
        let kind = entry.header().entry_type();
        let plain =
            [EntryType::Regular, EntryType::Directory, EntryType::Symlink, EntryType::Link].contains(&kind);
        if !plain {
            return Err(Fault::new(format!("`{}` is neither file, folder nor link", path.display())));
        }
        if kind == EntryType::Directory {
            // Its permissions come last: they may forbid what is to be put in it.
            let mode = entry.header().mode().during("reading the archive")?;
            folders.push((path.clone(), mode));
            entry.set_preserve_permissions(false);
        }
        if !entry.unpack_in(folder).during(format_args!("unpacking `{}`", path.display()))? {
            return Err(Fault::new(format!("`{}` leads out of the folder", path.display())));
        }
    }
    for (path, mode) in folders.into_iter().rev() {
        fs::set_permissions(folder.join(&path), fs::Permissions::from_mode(mode & 0o777))
            .during(format_args!("setting the permissions of `{}`", path.display()))?;
    }
    Ok(())
}

/// Removes what an earlier session left in the folder: a disk that lasts must not carry one workspace into another.
fn empty(folder: &Path) -> Result<(), Fault> {
    let removing = |path: &Path| format!("removing `{}`, which an earlier session left", path.display());
    for entry in fs::read_dir(folder).during(removing(folder))? {
        let entry = entry.during(removing(folder))?;
        let (path, kind) = (entry.path(), entry.file_type().during(removing(folder))?);
        let removed = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.during(removing(&path))?;
    }
    Ok(())
}

/// Folders, files and symlinks, none of them followed; sockets, pipes and the like are left out.
fn pack(folder: &Path, to: impl Write) -> Result<(), Fault> {
    // Dropped, a builder would end its archive, and what failed halfway would look whole.
    let mut archive = ManuallyDrop::new(Builder::new(to));
    let mut waiting = vec![PathBuf::new()];
    let mut count = 0_usize;
    while let Some(below) = waiting.pop() {
        let path = folder.join(&below);
        let found = fs::symlink_metadata(&path).during(format_args!("looking at `{}`", path.display()))?;
        count += 1;
        if count > ENTRIES {
            return Err(Fault::new(format!("more than {ENTRIES} entries in `{}`", folder.display())));
        }
        append(&mut archive, &path, &below, &found).during(format_args!("packing `{}`", path.display()))?;
        if found.is_dir() {
            let mut inside = fs::read_dir(&path)
                .and_then(|entries| {
                    entries.map(|entry| Ok(below.join(entry?.file_name()))).collect::<io::Result<Vec<_>>>()
                })
                .during(format_args!("listing `{}`", path.display()))?;
            inside.sort_by(|a, b| b.cmp(a));
            waiting.append(&mut inside);
        }
    }
    ManuallyDrop::into_inner(archive).into_inner().and_then(|mut to| to.flush()).during("ending the archive")
}

fn append(archive: &mut Builder<impl Write>, path: &Path, below: &Path, found: &Metadata) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(found.mode() & 0o777);
    header.set_mtime(u64::try_from(found.mtime()).unwrap_or(0));
    header.set_size(0);
    if found.is_dir() {
        if below.as_os_str().is_empty() {
            return Ok(());
        }
        header.set_entry_type(EntryType::Directory);
        archive.append_data(&mut header, below, io::empty())
    } else if found.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        archive.append_link(&mut header, below, fs::read_link(path)?)
    } else if found.is_file() {
        let safe = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let file = File::options().read(true).custom_flags(safe).open(path)?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(found.len());
        // A file that changes meanwhile keeps the size that was announced.
        archive.append_data(&mut header, below, file.chain(io::repeat(0)).take(found.len()))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("lazaret-archive-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn entry(kind: EntryType, path: &str, link: &str, content: &[u8]) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        let mut archive = Builder::new(Vec::new());
        archive.append(&header, content).unwrap();
        archive.into_inner().unwrap()
    }

    #[test]
    fn what_an_earlier_session_left_is_gone_and_no_link_is_followed() {
        let (folder, outside) = (scratch("left"), scratch("outside"));
        fs::create_dir_all(folder.join("old/deep")).unwrap();
        fs::write(folder.join("old/deep/file"), "old").unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        symlink(&outside, folder.join("link")).unwrap();
        let archive = entry(EntryType::Regular, "new", "", b"new");
        unpack(&mut archive.as_slice(), &folder).unwrap();
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["new"]);
        assert!(outside.join("kept").exists());
        fs::remove_dir_all(folder).unwrap();
        fs::remove_dir_all(outside).unwrap();
    }

    #[test]
    fn a_tree_comes_back_as_it_was() {
        let (from, to) = (scratch("from"), scratch("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/file"), "hello").unwrap();
        fs::write(from.join("run.sh"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(from.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(from.join("a/b"), fs::Permissions::from_mode(0o555)).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        let mut packed = Vec::new();
        pack(&from, &mut packed).unwrap();
        unpack(&mut packed.as_slice(), &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("a/b/file")).unwrap(), "hello");
        assert_eq!(fs::metadata(to.join("run.sh")).unwrap().mode() & 0o777, 0o755);
        assert_eq!(fs::metadata(to.join("a/b")).unwrap().mode() & 0o777, 0o555);
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
        for path in [from, to] {
            fs::set_permissions(path.join("a/b"), fs::Permissions::from_mode(0o755)).unwrap();
            fs::remove_dir_all(path).unwrap();
        }
    }

    #[test]
    fn an_archive_that_failed_halfway_has_no_end() {
        let mut packed = Vec::new();
        assert!(pack(Path::new("/nowhere/at/all"), &mut packed).is_err());
        assert!(packed.is_empty());
    }

    #[test]
    fn archives_that_lead_out_or_hold_devices_are_refused() {
        let to = scratch("hostile");
        for hostile in [
            entry(EntryType::Regular, "../escaped", "", b"x"),
            entry(EntryType::Char, "device", "", b""),
            entry(EntryType::Fifo, "fifo", "", b""),
        ] {
            assert!(unpack(&mut hostile.as_slice(), &to).is_err());
        }
        let escaped = to.parent().unwrap().join("escaped").exists();
        fs::remove_dir_all(to).unwrap();
        assert!(!escaped);
    }
}
