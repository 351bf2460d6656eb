//! The changes as a patch that git and people read.

use std::time::Duration;

use similar::TextDiff;

use super::changes::Change;
use super::tree::{Node, RelPath};

/// Larger files are shown by their size: nobody reads such a patch, and comparing them takes long.
const MAX_TEXT: usize = 1 << 20;
/// A comparison that takes longer falls back to a coarser one.
const MAX_TIME: Duration = Duration::from_secs(2);

/// One change in git's format; files that are not text only by their sizes. The text is an attacker's: make it safe
/// before a terminal sees it.
pub(crate) fn render(path: &RelPath, change: &Change) -> String {
    let mut out = format!("diff --git a/{path} b/{path}\n");
    let mode = |node: &Option<Node>| node.as_ref().map(mode);
    let heads = match (mode(&change.before), mode(&change.after)) {
        (None, Some(new)) => format!("new file mode {new}\n"),
        (Some(old), None) => format!("deleted file mode {old}\n"),
        (Some(old), Some(new)) if old != new => format!("old mode {old}\nnew mode {new}\n"),
        (Some(_), Some(_)) | (None, None) => String::new(),
    };
    out.push_str(&heads);
    let (before, after) = (bytes(&change.before), bytes(&change.after));
    if before == after {
        return out;
    }
    match (text(before), text(after)) {
        (Some(old), Some(new)) => {
            let from = change.before.as_ref().map_or("/dev/null".to_owned(), |_| format!("a/{path}"));
            let to = change.after.as_ref().map_or("/dev/null".to_owned(), |_| format!("b/{path}"));
            let diff = TextDiff::configure().timeout(MAX_TIME).diff_lines(old, new);
            out.push_str(&diff.unified_diff().header(&from, &to).to_string());
        }
        (Some(_), None) | (None, Some(_)) | (None, None) => {
            out.push_str(&format!(
                "Binary or large file: {} bytes become {} bytes\n",
                before.len(),
                after.len()
            ));
        }
    }
    out
}

fn mode(node: &Node) -> &'static str {
    match node {
        Node::File { executable: true, .. } => "100755",
        Node::File { executable: false, .. } => "100644",
        Node::Link { .. } => "120000",
    }
}

fn bytes(node: &Option<Node>) -> &[u8] {
    match node {
        Some(Node::File { content, .. }) => content,
        Some(Node::Link { target }) => target.as_bytes(),
        None => &[],
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    (bytes.len() <= MAX_TEXT && !bytes.contains(&0)).then(|| std::str::from_utf8(bytes).ok()).flatten()
}
