//! What goes in: the files that git tracks, or without git all that is not ignored. Never `.env` files, git's own
//! files, submodules or links that leave the folder.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;

use super::root::Root;
use super::tree::{Node, RelPath, Tree, link_stays};
use super::{Result, WorkspaceError};

/// A folder's files, held in memory.
#[derive(Debug)]
pub(crate) struct Collected {
    /// What goes in.
    pub(crate) tree: Tree,
    /// Tracked files that stay out, with why.
    pub(crate) left_out: Vec<(String, &'static str)>,
    /// Files that are neither tracked nor ignored: they stay out as well.
    pub(crate) untracked: usize,
}

/// Most bytes of all files together: the archive adds to it, and the agent may.
const MAX_BYTES: u64 = api::MAX_WORKSPACE / 2;

/// Reads a folder.
pub(crate) fn collect(folder: &Path) -> Result<Collected> {
    let root = Root::open(folder)?;
    let listing = if is_tracked(folder)? { tracked(folder)? } else { not_ignored(folder)? };
    let mut collected =
        Collected { tree: Tree::default(), left_out: Vec::new(), untracked: listing.untracked };
    let mut room = MAX_BYTES;
    for (path, submodule) in listing.paths {
        if collected.tree.0.len() >= usize::try_from(api::MAX_WORKSPACE_ENTRIES).unwrap_or(usize::MAX) {
            return Err(WorkspaceError::TooMuch { allowed: format!("{} files", api::MAX_WORKSPACE_ENTRIES) });
        }
        match read(&root, &path, submodule, room)? {
            Ok(None) => {} // tracked, but deleted in the folder
            Ok(Some((path, node))) => {
                if let Node::File { content, .. } = &node {
                    room = room.saturating_sub(content.len() as u64);
                }
                collected.tree.0.insert(path, node);
            }
            Err(why) => collected.left_out.push((path, why)),
        }
    }
    Ok(collected)
}

type Read = std::result::Result<Option<(RelPath, Node)>, &'static str>;

fn read(root: &Root, path: &str, submodule: bool, room: u64) -> Result<Read> {
    if submodule {
        return Ok(Err("it is a submodule"));
    }
    let parsed = match RelPath::parse(path) {
        Ok(parsed) => parsed,
        Err(why) => return Ok(Err(why)),
    };
    if parsed.split().1.starts_with(".env") {
        return Ok(Err("`.env` files are never copied"));
    }
    match root.read(&parsed, room) {
        Ok(Some(Node::Link { target })) if !link_stays(&parsed, &target) => {
            Ok(Err("it is a link that leaves the workspace"))
        }
        Ok(Some(node)) => Ok(Ok(Some((parsed, node)))),
        Ok(None) => Ok(Ok(None)),
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
            Err(WorkspaceError::TooMuch { allowed: format!("{} MiB", MAX_BYTES >> 20) })
        }
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            Ok(Err("it is neither a file nor a link"))
        }
        Err(error) => Err(root.error(path, error)),
    }
}

struct Listing {
    paths: BTreeMap<String, bool>,
    untracked: usize,
}

fn is_tracked(folder: &Path) -> Result<bool> {
    let absolute =
        folder.canonicalize().map_err(|source| WorkspaceError::Io { path: folder.to_owned(), source })?;
    Ok(absolute.ancestors().any(|at| at.join(".git").exists()))
}

fn tracked(folder: &Path) -> Result<Listing> {
    let mut paths = BTreeMap::new();
    for record in git(folder, &["ls-files", "-z", "--cached", "--stage"])? {
        let (head, path) = record.split_once('\t').unwrap_or(("", &record));
        paths.insert(path.to_owned(), head.starts_with("160000 "));
    }
    let untracked = git(folder, &["ls-files", "-z", "--others", "--exclude-standard"])?.len();
    Ok(Listing { paths, untracked })
}

/// Runs git so that nothing of the folder's own settings runs a program.
fn git(folder: &Path, arguments: &[&str]) -> Result<Vec<String>> {
    let failed = |why: String| WorkspaceError::Git { folder: folder.to_owned(), why };
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"])
        .args(arguments)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .output()
        .map_err(|e| failed(format!("{e}; is git installed?")))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let records = output.stdout.split(|byte| *byte == 0).filter(|record| !record.is_empty());
    Ok(records.map(|record| String::from_utf8_lossy(record).into_owned()).collect())
}

fn not_ignored(folder: &Path) -> Result<Listing> {
    let mut paths = BTreeMap::new();
    let walk = ignore::WalkBuilder::new(folder)
        .hidden(false)
        .require_git(false)
        .follow_links(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    for entry in walk {
        let entry = entry.map_err(|e| WorkspaceError::Io {
            path: folder.to_owned(),
            source: std::io::Error::other(e.to_string()),
        })?;
        if entry.file_type().is_none_or(|kind| kind.is_dir()) {
            continue;
        }
        if let Ok(path) = entry.path().strip_prefix(folder) {
            paths.insert(String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned(), false);
        }
    }
    Ok(Listing { paths, untracked: 0 })
}
