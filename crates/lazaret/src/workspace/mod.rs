//! A workspace: a copy of a folder's tracked files goes into the cell, and what the agent changed comes back as a
//! patch, which touches the folder only after a yes.
//!
//! ```text
//! folder ──collect──▶ Tree ──tar──▶ cell ──tar──▶ Tree
//!                      └──────── changes ───────────┘ ──render──▶ patch ──apply──▶ folder
//! ```
//! The agent's tree is an attacker's: its paths are checked when it is read ([`tree`]), what would run by itself later
//! is told apart ([`active`]), and nothing is written through a symbolic link ([`root`], [`mod@apply`]).

mod active;
mod apply;
mod changes;
mod collect;
mod ignored;
mod patch;
mod root;
mod tree;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub(crate) use apply::apply;
pub(crate) use changes::{Change, Changes, changes};
pub(crate) use collect::{Collected, collect};
pub(crate) use patch::render;
pub(crate) use root::Root;
pub(crate) use tree::{RelPath, Tree};

/// Why a workspace could not be taken in or given back. Nothing was changed in the folder.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkspaceError {
    /// The folder or a file in it can't be read or written.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// git could not list the files.
    #[error("git could not list the tracked files of `{}`: {why}", folder.display())]
    Git {
        /// The folder.
        folder: PathBuf,
        /// What git said.
        why: String,
    },
    /// More than a workspace may hold.
    #[error("the workspace has more than {allowed}")]
    TooMuch {
        /// What is allowed, for people.
        allowed: String,
    },
    /// The archive from the cell can't be read.
    #[error("the workspace came back from the cell damaged: {0}")]
    Damaged(String),
    /// The folder changed meanwhile.
    #[error("changed in the folder while the agent worked: {}", list(.0))]
    Conflict(Vec<String>),
    /// Applying failed half-way; what was done has been undone, or could not be.
    #[error("`{path}` could not be written: {why}; {undone}")]
    Apply {
        /// What.
        path: String,
        /// Why.
        why: String,
        /// What became of the changes made before.
        undone: String,
    },
}

fn list(paths: &[String]) -> String {
    let mut text = paths.iter().take(5).map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
    if paths.len() > 5 {
        text.push_str(&format!(" and {} more", paths.len().saturating_sub(5)));
    }
    text
}

type Result<T> = std::result::Result<T, WorkspaceError>;
