//! Which new files of the agent are build products, by the `.gitignore` files that went in (never by the agent's).

use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::tree::{Node, RelPath, Tree};

/// The ignore rules of a tree.
#[derive(Debug)]
pub(crate) struct Ignored(Vec<(String, Gitignore)>);

impl Ignored {
    /// The rules of all `.gitignore` files in a tree; a line that is no pattern counts for nothing, as in git.
    pub(crate) fn of(tree: &Tree) -> Self {
        let mut rules = Vec::new();
        for (path, node) in &tree.0 {
            let (folder, name) = path.split();
            let (".gitignore", Node::File { content, .. }) = (name, node) else { continue };
            let mut builder = GitignoreBuilder::new("");
            for line in String::from_utf8_lossy(content).lines() {
                // A line that is no pattern counts for nothing, as in git.
                drop(builder.add_line(None, line));
            }
            if let Ok(rule) = builder.build() {
                rules.push((folder.to_owned(), rule));
            }
        }
        rules.sort_by_key(|(folder, _)| std::cmp::Reverse(folder.len()));
        Self(rules)
    }

    /// Whether a file at this path is ignored: the deepest folder that says anything decides.
    pub(crate) fn holds(&self, path: &RelPath) -> bool {
        for (folder, rule) in &self.0 {
            let below = if folder.is_empty() {
                Some(path.as_str())
            } else {
                path.as_str().strip_prefix(folder.as_str()).and_then(|rest| rest.strip_prefix('/'))
            };
            let Some(below) = below else { continue };
            let found = rule.matched_path_or_any_parents(Path::new(below), false);
            if !found.is_none() {
                return found.is_ignore();
            }
        }
        false
    }
}
