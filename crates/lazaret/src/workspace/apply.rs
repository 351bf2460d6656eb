//! The changes, made in the folder: all or none. What lay there is moved aside first and held against what went in, so
//! a file that changed meanwhile stops everything and is put back.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, RawMode, RenameFlags};
use rustix::io::Errno;

use super::changes::Change;
use super::root::{Root, make_at, read_at};
use super::tree::{Node, RelPath};
use super::{Result, WorkspaceError};

/// Applies changes to a folder. `nonce` names the folder beside the files where new and old ones lie meanwhile.
pub(crate) fn apply(root: &Root, changes: &BTreeMap<RelPath, Change>, nonce: u64) -> Result<()> {
    let conflicts: Vec<String> = changes
        .iter()
        .filter(|(path, change)| !is_as_before(root, path, change, changes))
        .map(|(path, _)| path.to_string())
        .collect();
    if !conflicts.is_empty() {
        return Err(WorkspaceError::Conflict(conflicts));
    }
    let mut work = Work::begin(root, nonce)?;
    let outcome = work.run(changes);
    work.end(outcome)
}

/// Whether the folder still has at this path what went in.
fn is_as_before(root: &Root, path: &RelPath, change: &Change, all: &BTreeMap<RelPath, Change>) -> bool {
    let below = format!("{path}/");
    match root.read(path, api::MAX_WORKSPACE) {
        Ok(found) => found == change.before,
        // A folder may give way to a file when all that went in of it goes away; whether it is empty then, shows.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            change.before.is_none() && all.keys().any(|other| other.as_str().starts_with(&below))
        }
        Err(_) => false,
    }
}

/// One step that was done, and how it is undone.
enum Done {
    /// The file was moved to this name in the work folder.
    MovedAside(RelPath, String),
    /// The file was put there.
    Put(RelPath),
}

struct Work<'r> {
    root: &'r Root,
    name: String,
    folder: OwnedFd,
    done: Vec<Done>,
    modes: BTreeMap<RelPath, RawMode>,
}

type Step = std::result::Result<(), (String, io::Error)>;

impl<'r> Work<'r> {
    fn begin(root: &'r Root, nonce: u64) -> Result<Self> {
        let name = format!(".lazaret-apply-{nonce:016x}");
        let make = || -> io::Result<OwnedFd> {
            let top = root.folder("", false)?;
            rustix::fs::mkdirat(&top, name.as_str(), Mode::from_raw_mode(0o700))?;
            Ok(root.folder(&name, false)?)
        };
        let folder = make().map_err(|error| root.error(&name, error))?;
        Ok(Self { root, name, folder, done: Vec::new(), modes: BTreeMap::new() })
    }

    /// Old ones aside first, so that a file can give way to a folder and the other way round.
    fn run(&mut self, changes: &BTreeMap<RelPath, Change>) -> Step {
        let at = |path: &RelPath| {
            let path = path.to_string();
            move |error: io::Error| (path, error)
        };
        for (number, (path, change)) in changes.iter().enumerate() {
            if let Some(before) = &change.before {
                self.move_aside(path, before, number).map_err(at(path))?;
            }
        }
        for (number, (path, change)) in changes.iter().enumerate() {
            if let Some(after) = &change.after {
                self.put(path, after, number).map_err(at(path))?;
            }
        }
        Ok(())
    }

    fn move_aside(&mut self, path: &RelPath, before: &Node, number: usize) -> io::Result<()> {
        let (parent, name) = path.split();
        let folder = self.root.folder(parent, false)?;
        let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            self.modes.insert(path.clone(), stat.st_mode & 0o777);
        }
        let aside = format!("old-{number}");
        rustix::fs::renameat(&folder, name, &self.folder, aside.as_str())?;
        self.done.push(Done::MovedAside(path.clone(), aside.clone()));
        if read_at(&self.folder, &aside, api::MAX_WORKSPACE)?.as_ref() != Some(before) {
            return Err(io::Error::other("it changed in the folder just now"));
        }
        self.remove_empty_folders(parent)
    }

    fn put(&mut self, path: &RelPath, after: &Node, number: usize) -> io::Result<()> {
        if let Node::Link { target } = after
            && self.root.link_leaves(path, target)
        {
            return Err(io::Error::other("it is a link that leaves the workspace by way of another link"));
        }
        let (parent, name) = path.split();
        let folder = self.root.folder(parent, true)?;
        let new = format!("new-{number}");
        make_at(&self.folder, &new, after, self.modes.get(path).copied())?;
        rustix::fs::renameat_with(&self.folder, new.as_str(), &folder, name, RenameFlags::NOREPLACE)?;
        self.done.push(Done::Put(path.clone()));
        Ok(())
    }

    /// As git does; the first folder that still holds something ends it.
    fn remove_empty_folders(&self, mut path: &str) -> io::Result<()> {
        while !path.is_empty() {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let folder = self.root.folder(parent, false)?;
            match rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR) {
                Ok(()) => path = parent,
                Err(Errno::NOTEMPTY | Errno::EXIST) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn end(mut self, outcome: Step) -> Result<()> {
        let Err((path, error)) = outcome else {
            return self.clear().map_err(|error| self.root.error(&self.name, error));
        };
        let mut undone = "nothing was changed".to_owned();
        while let Some(step) = self.done.pop() {
            if let Err(error) = self.undo(&step) {
                undone = format!("undoing failed too ({error}): the old files lie in `{}`", self.name);
                return Err(WorkspaceError::Apply { path, why: why(&error), undone });
            }
        }
        if let Err(error) = self.clear() {
            undone = format!("nothing was changed, but `{}` could not be removed: {error}", self.name);
        }
        Err(WorkspaceError::Apply { path, why: why(&error), undone })
    }

    fn undo(&self, step: &Done) -> io::Result<()> {
        match step {
            Done::MovedAside(path, aside) => {
                let (parent, name) = path.split();
                let folder = self.root.folder(parent, true)?;
                rustix::fs::renameat_with(
                    &self.folder,
                    aside.as_str(),
                    &folder,
                    name,
                    RenameFlags::NOREPLACE,
                )?;
            }
            Done::Put(path) => {
                let (parent, name) = path.split();
                let folder = self.root.folder(parent, false)?;
                rustix::fs::unlinkat(&folder, name, AtFlags::empty())?;
                self.remove_empty_folders(parent)?;
            }
        }
        Ok(())
    }

    /// Removes the work folder and what is left in it.
    fn clear(&self) -> io::Result<()> {
        for entry in rustix::fs::Dir::read_from(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())?;
            }
        }
        let top = self.root.folder("", false)?;
        Ok(rustix::fs::unlinkat(&top, self.name.as_str(), AtFlags::REMOVEDIR)?)
    }
}

fn why(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AlreadyExists {
        return "something else lies there".to_owned();
    }
    error.to_string()
}
