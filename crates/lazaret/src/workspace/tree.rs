//! A tree of files in memory, to and from a tar archive. Reading one checks every path.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::sync::Arc;

use super::{Result, WorkspaceError};

/// Most bytes in a path.
const MAX_PATH: usize = 4000;
/// Most bytes in one part of a path (`NAME_MAX`).
const MAX_PART: usize = 255;

/// A path below the workspace's folder: no empty, `.` or `..` part, no control character, nothing of `.git`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RelPath(String);

impl RelPath {
    /// The path, unless it is none of a workspace's; then why.
    pub(crate) fn parse(text: &str) -> std::result::Result<Self, &'static str> {
        if text.len() > MAX_PATH {
            return Err("its path is too long");
        }
        if text.chars().any(char::is_control) {
            return Err("its path has a control character");
        }
        for part in text.split('/') {
            if part.is_empty() || part == "." || part == ".." {
                return Err("its path doesn't lie in the workspace");
            }
            if part.len() > MAX_PART {
                return Err("its name is too long");
            }
            // As git does (CVE-2014-9390): also what a file system that folds case or shortens names makes of it.
            let folded = part.trim_end_matches(['.', ' ']).to_lowercase();
            if folded == ".git" || folded == "git~1" {
                return Err("git's own files are never touched");
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The path as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Its parts.
    pub(crate) fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The folder's path (empty: the workspace itself) and the name in it.
    pub(crate) fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// A regular file.
    File {
        /// Its bytes.
        content: Arc<[u8]>,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symbolic link that stays in the workspace.
    Link {
        /// What it says.
        target: String,
    },
}

/// Whether a link at `path` that says `target` stays below the workspace, whatever else lies there: `..` only at the
/// start, and no more often than the path has folders.
pub(crate) fn link_stays(path: &RelPath, target: &str) -> bool {
    let depth = path.parts().count().saturating_sub(1);
    let up = target.split('/').take_while(|part| *part == "..").count();
    let rest = target.split('/').skip(up);
    let sound = rest.clone().all(|part| part != "..") && !target.contains('\0') && target.len() <= MAX_PATH;
    sound
        && !target.is_empty()
        && !target.starts_with('/')
        && up <= depth
        && !rest.into_iter().any(touches_git)
}

fn touches_git(part: &str) -> bool {
    RelPath::parse(part).is_err() && part != "." && !part.is_empty()
}

/// Files and links by path. Folders exist only as far as something lies in them, as in git.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tree(pub(crate) BTreeMap<RelPath, Node>);

impl Tree {
    /// A tar archive of the tree.
    pub(crate) fn to_tar(&self) -> Result<Vec<u8>> {
        let damaged = |e: std::io::Error| WorkspaceError::Damaged(e.to_string());
        let mut tar = tar::Builder::new(Vec::new());
        for (path, node) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_mtime(0);
            match node {
                Node::File { content, executable } => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_mode(if *executable { 0o755 } else { 0o644 });
                    header.set_size(content.len() as u64);
                    tar.append_data(&mut header, path.as_str(), &**content).map_err(damaged)?;
                }
                Node::Link { target } => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    tar.append_link(&mut header, path.as_str(), target).map_err(damaged)?;
                }
            }
        }
        tar.into_inner().map_err(damaged)
    }

    /// The tree of an archive, and what was left out of it, with why.
    pub(crate) fn from_tar(archive: &[u8]) -> Result<(Self, Vec<(String, &'static str)>)> {
        let damaged = |e: std::io::Error| WorkspaceError::Damaged(e.to_string());
        let mut tree = BTreeMap::new();
        let mut left_out = Vec::new();
        for (count, entry) in tar::Archive::new(archive).entries().map_err(damaged)?.enumerate() {
            if count >= usize::try_from(api::MAX_WORKSPACE_ENTRIES).unwrap_or(usize::MAX) {
                let allowed = format!("{} files", api::MAX_WORKSPACE_ENTRIES);
                return Err(WorkspaceError::TooMuch { allowed });
            }
            let mut entry = entry.map_err(damaged)?;
            let kind = entry.header().entry_type();
            let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if kind.is_dir() {
                continue;
            }
            let (path, node) = match (RelPath::parse(&shown), read_node(&mut entry).map_err(damaged)?) {
                (Ok(path), Ok(node)) => (path, node),
                (Err(why), _) | (_, Err(why)) => {
                    left_out.push((shown, why));
                    continue;
                }
            };
            match &node {
                Node::Link { target } if !link_stays(&path, target) => {
                    left_out.push((shown, "it is a link that leaves the workspace"));
                }
                Node::File { .. } | Node::Link { .. } => {
                    tree.insert(path, node);
                }
            }
        }
        Ok((Self(tree), left_out))
    }
}

fn read_node(entry: &mut tar::Entry<'_, &[u8]>) -> std::io::Result<std::result::Result<Node, &'static str>> {
    let kind = entry.header().entry_type();
    if kind.is_symlink() {
        let target = entry.link_name_bytes().map(|bytes| String::from_utf8(bytes.into_owned()));
        return Ok(match target {
            Some(Ok(target)) => Ok(Node::Link { target }),
            Some(Err(_)) | None => Err("it is a link to something that isn't text"),
        });
    }
    if !kind.is_file() {
        return Ok(Err("it is neither a file, a folder nor a link"));
    }
    let executable = entry.header().mode()? & 0o100 != 0;
    let mut content = Vec::new();
    entry.read_to_end(&mut content)?;
    Ok(Ok(Node::File { content: content.into(), executable }))
}
