//! What differs between the tree that went in and the tree that came back.

use std::collections::BTreeMap;

use super::active::active;
use super::ignored::Ignored;
use super::tree::{Node, RelPath, Tree};

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// What went in; `None`: it is new.
    pub(crate) before: Option<Node>,
    /// What came back; `None`: it is gone.
    pub(crate) after: Option<Node>,
}

/// All that differs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Changes {
    /// What waits for one yes.
    pub(crate) plain: BTreeMap<RelPath, Change>,
    /// What runs by itself later, with what it is, and waits for a yes of its own.
    pub(crate) active: BTreeMap<RelPath, (Change, &'static str)>,
    /// New files that the workspace ignores; they stay in the cell.
    pub(crate) ignored: usize,
}

impl Changes {
    /// Whether there is nothing to apply.
    pub(crate) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.active.is_empty()
    }
}

/// Compares two trees. `held_back`: paths that the agent's tree has, but that were refused when it was read: they are
/// neither new nor gone.
pub(crate) fn changes(before: &Tree, after: &Tree, held_back: &[String]) -> Changes {
    let ignored = Ignored::of(before);
    let mut changes = Changes::default();
    let paths = before.0.keys().chain(after.0.keys().filter(|path| !before.0.contains_key(*path)));
    for path in paths {
        let change = Change { before: before.0.get(path).cloned(), after: after.0.get(path).cloned() };
        if change.before == change.after || (change.after.is_none() && held(path, held_back)) {
            continue;
        }
        if change.before.is_none() && ignored.holds(path) {
            changes.ignored = changes.ignored.saturating_add(1);
            continue;
        }
        match active(path, &change) {
            Some(what) => drop(changes.active.insert(path.clone(), (change, what))),
            None => drop(changes.plain.insert(path.clone(), change)),
        }
    }
    changes
}

fn held(path: &RelPath, held_back: &[String]) -> bool {
    held_back.iter().any(|held| held == path.as_str())
}
