//! The files of an image while its layers are laid over each other: a tree in memory. A path in a layer is only ever looked
//! up here, so nothing that a layer says can reach a file of the host.

use std::collections::BTreeMap;

use super::error::{LayerError, shown};
use super::limits::{ImageLimits, MAX_COMPONENT, MAX_DEPTH, MAX_LINKS_FOLLOWED, MAX_PATH};
use super::spool::Piece;

/// A file in the tree; several names can lead to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(usize);

/// Owner, permissions and age of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    /// Permission bits without setuid and setgid.
    pub(super) mode: u16,
    /// Owner.
    pub(super) uid: u16,
    /// Group.
    pub(super) gid: u16,
    /// Seconds since 1970.
    pub(super) mtime: u32,
}

impl Meta {
    /// What folders have that no layer describes.
    pub(super) const FOLDER: Self = Self { mode: 0o755, uid: 0, gid: 0, mtime: 0 };
    /// What files have that are added here.
    pub(super) const FILE: Self = Self { mode: 0o644, uid: 0, gid: 0, mtime: 0 };
}

/// What a file is.
#[derive(Debug)]
pub(super) enum Kind {
    /// A folder and what is in it.
    Folder(BTreeMap<Box<[u8]>, Name>),
    /// A regular file and where its contents are.
    File(Piece),
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
}

/// A name in a folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    /// What it leads to.
    pub(super) node: NodeId,
    /// The layer that last wrote it or something below it.
    layer: u32,
}

/// A file.
#[derive(Debug)]
pub(super) struct Node {
    /// Owner, permissions, age.
    pub(super) meta: Meta,
    /// What it is.
    pub(super) kind: Kind,
}

/// Where an entry goes: the folder it is in, and its name there.
struct Place {
    folder: NodeId,
    name: Box<[u8]>,
}

/// All files of an image.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    limits: ImageLimits,
    path_bytes: u64,
    layer: u32,
}

impl Tree {
    /// The top folder.
    pub(super) const ROOT: NodeId = NodeId(0);

    /// A tree of nothing but the top folder.
    pub(super) fn new(limits: ImageLimits) -> Self {
        let root = Node { meta: Meta::FOLDER, kind: Kind::Folder(BTreeMap::new()) };
        Self { nodes: vec![root], limits, path_bytes: 0, layer: 0 }
    }

    /// Starts the next layer: its whiteouts hide what earlier ones brought, not what it brings itself.
    pub(super) fn next_layer(&mut self) {
        self.layer = self.layer.saturating_add(1);
    }

    /// The limits that this tree keeps.
    pub(super) fn limits(&self) -> ImageLimits {
        self.limits
    }

    /// A file by its id.
    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0)
    }

    /// Puts a folder at `path`; one that is there keeps its contents, anything else is replaced.
    /// With `keep_links`, a symbolic link to a folder is kept too, as package managers do.
    pub(super) fn put_folder(&mut self, path: &[u8], meta: Meta, keep_links: bool) -> Result<(), LayerError> {
        let Some(place) = self.place(path)? else {
            self.set_meta(Self::ROOT, meta);
            return Ok(());
        };
        if let Some(name) = self.child(place.folder, &place.name) {
            match self.node(name.node).map(|node| &node.kind) {
                Some(Kind::Folder(_)) => {
                    self.touch(&place);
                    self.set_meta(name.node, meta);
                    return Ok(());
                }
                Some(Kind::Symlink(_)) if keep_links && self.leads_to_folder(path)? => return Ok(()),
                Some(Kind::Symlink(_) | Kind::File(_)) | None => {}
            }
        }
        let node = self.add(Node { meta, kind: Kind::Folder(BTreeMap::new()) })?;
        self.set(place, node)
    }

    /// Puts a folder at `path` unless there is one, or a link to one.
    pub(super) fn put_folder_if_missing(&mut self, path: &[u8]) -> Result<(), LayerError> {
        if self.leads_to_folder(path)? {
            return Ok(());
        }
        self.put_folder(path, Meta::FOLDER, false)
    }

    /// Puts a file at `path` in place of whatever is there.
    pub(super) fn put_file(&mut self, path: &[u8], meta: Meta, contents: Piece) -> Result<(), LayerError> {
        let place = self.place_below_root(path)?;
        let node = self.add(Node { meta, kind: Kind::File(contents) })?;
        self.set(place, node)
    }

    /// Puts a symbolic link at `path` in place of whatever is there. Its target is kept as it is written.
    pub(super) fn put_symlink(&mut self, path: &[u8], meta: Meta, target: &[u8]) -> Result<(), LayerError> {
        let why = match target {
            [] => Some("is a symbolic link to nothing"),
            _ if target.len() > MAX_PATH => Some("is a symbolic link to a path that is too long"),
            _ if target.contains(&0) => Some("is a symbolic link to a path with a NUL"),
            _ => None,
        };
        if let Some(why) = why {
            return Err(LayerError::Path { path: shown(path), why });
        }
        let place = self.place_below_root(path)?;
        self.count_path(target.len())?;
        let node = self.add(Node { meta, kind: Kind::Symlink(target.into()) })?;
        self.set(place, node)
    }

    /// Lets everybody run the file at `path`, links followed.
    pub(super) fn make_executable(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let found = self.look_up(path, true)?.and_then(|id| self.nodes.get_mut(id.0));
        match found {
            Some(Node { meta, kind: Kind::File(_) }) => {
                meta.mode |= 0o555;
                Ok(())
            }
            Some(Node { kind: Kind::Folder(_) | Kind::Symlink(_), .. }) | None => {
                Err(LayerError::Path { path: shown(path), why: "is named as a command, and is no file" })
            }
        }
    }

    /// Gives the file at `target` the name `path` too.
    pub(super) fn put_hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), LayerError> {
        let refuse = |why| LayerError::HardLink { path: shown(path), target: shown(target), why };
        let found = self.look_up(target, false)?.ok_or_else(|| refuse("is not in the image"))?;
        if matches!(self.node(found).map(|node| &node.kind), None | Some(Kind::Folder(_))) {
            return Err(refuse("is a folder"));
        }
        let place = self.place_below_root(path)?;
        self.count_entry()?;
        self.set(place, found)
    }

    /// Takes away whatever is at `path`, from all layers.
    pub(super) fn remove(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let place = self.place_below_root(path)?;
        if let Some(names) = self.names_mut(place.folder) {
            names.remove(&place.name);
        }
        Ok(())
    }

    /// Hides what lower layers have at `path`.
    pub(super) fn white_out(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let components = split(path)?;
        let Some((name, parents)) = components.split_last() else { return Ok(()) };
        let Some(folder) = self.folder_at(parents, path)? else { return Ok(()) };
        let Some(found) = self.child(folder, name) else { return Ok(()) };
        if found.layer == self.layer {
            self.hide_lower(found.node);
        } else if let Some(names) = self.names_mut(folder) {
            names.remove(*name);
        }
        Ok(())
    }

    /// Hides all that lower layers have in the folder `path`.
    pub(super) fn make_opaque(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let components = split(path)?;
        if let Some(folder) = self.folder_at(&components, path)? {
            self.hide_lower(folder);
        }
        Ok(())
    }

    /// What is at `path`, symbolic links followed within the tree; the last one too if `follow_last`.
    pub(super) fn look_up(&self, path: &[u8], follow_last: bool) -> Result<Option<NodeId>, LayerError> {
        let components = split(path)?;
        let Some((name, parents)) = components.split_last() else { return Ok(Some(Self::ROOT)) };
        if follow_last {
            return Ok(self.walk(&components, path)?.filter(|walk| walk.missing.is_empty()).map(|w| w.node));
        }
        let Some(folder) = self.folder_at(parents, path)? else { return Ok(None) };
        Ok(self.child(folder, name).map(|name| name.node))
    }

    /// Calls `visit` for everything below the top folder with its path, folders before what is in them.
    pub(super) fn visit<E>(
        &self,
        mut visit: impl FnMut(&[u8], NodeId, &Node) -> Result<(), E>,
    ) -> Result<(), E> {
        let names_of = |id| match self.node(id).map(|node| &node.kind) {
            Some(Kind::Folder(names)) => Some(names.iter()),
            Some(Kind::File(_) | Kind::Symlink(_)) | None => None,
        };
        let mut path = Vec::new();
        let mut open: Vec<_> = names_of(Self::ROOT).into_iter().map(|names| (names, 0)).collect();
        while let Some((names, start)) = open.last_mut() {
            path.truncate(*start);
            let Some((name, entry)) = names.next() else {
                open.pop();
                continue;
            };
            path.extend_from_slice(name);
            if let Some(node) = self.node(entry.node) {
                visit(&path, entry.node, node)?;
            }
            if let Some(below) = names_of(entry.node) {
                path.push(b'/');
                open.push((below, path.len()));
            }
        }
        Ok(())
    }

    fn add(&mut self, node: Node) -> Result<NodeId, LayerError> {
        self.count_entry()?;
        self.nodes.push(node);
        Ok(NodeId(self.nodes.len().saturating_sub(1)))
    }

    fn count_entry(&mut self) -> Result<(), LayerError> {
        // Every name costs at least as much as a node, so nodes and path bytes together bound the memory.
        if self.nodes.len() as u64 >= self.limits.entries {
            return Err(LayerError::Limit { what: "entries in the image", max: self.limits.entries });
        }
        Ok(())
    }

    fn count_path(&mut self, bytes: usize) -> Result<(), LayerError> {
        self.path_bytes = self.path_bytes.saturating_add(bytes as u64);
        if self.path_bytes > self.limits.path_bytes {
            return Err(LayerError::Limit { what: "bytes of file names", max: self.limits.path_bytes });
        }
        Ok(())
    }

    fn set_meta(&mut self, id: NodeId, meta: Meta) {
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.meta = meta;
        }
    }

    fn set(&mut self, place: Place, node: NodeId) -> Result<(), LayerError> {
        // The map's own cost of a name, so that a million links to one file are bounded too.
        self.count_path(place.name.len().saturating_add(32))?;
        let name = Name { node, layer: self.layer };
        if let Some(names) = self.names_mut(place.folder) {
            names.insert(place.name, name);
        }
        Ok(())
    }

    fn touch(&mut self, place: &Place) {
        let layer = self.layer;
        if let Some(name) = self.names_mut(place.folder).and_then(|names| names.get_mut(&place.name)) {
            name.layer = layer;
        }
    }

    fn names_mut(&mut self, id: NodeId) -> Option<&mut BTreeMap<Box<[u8]>, Name>> {
        match self.nodes.get_mut(id.0).map(|node| &mut node.kind) {
            Some(Kind::Folder(names)) => Some(names),
            Some(Kind::File(_) | Kind::Symlink(_)) | None => None,
        }
    }

    fn child(&self, folder: NodeId, name: &[u8]) -> Option<Name> {
        match self.node(folder).map(|node| &node.kind) {
            Some(Kind::Folder(names)) => names.get(name).copied(),
            Some(Kind::File(_) | Kind::Symlink(_)) | None => None,
        }
    }

    fn hide_lower(&mut self, folder: NodeId) {
        let layer = self.layer;
        let mut todo = vec![folder];
        while let Some(id) = todo.pop() {
            if let Some(names) = self.names_mut(id) {
                names.retain(|_, name| name.layer == layer);
                todo.extend(names.values().map(|name| name.node));
            }
        }
    }

    fn leads_to_folder(&self, path: &[u8]) -> Result<bool, LayerError> {
        Ok(self.look_up(path, true)?.is_some_and(|id| self.is_folder(id)))
    }

    fn place_below_root(&mut self, path: &[u8]) -> Result<Place, LayerError> {
        self.place(path)?
            .ok_or_else(|| LayerError::Path { path: shown(path), why: "is the top folder, but no folder" })
    }

    /// Where `path` goes, with the folders above it made where they are missing; `None` for the top folder itself.
    fn place(&mut self, path: &[u8]) -> Result<Option<Place>, LayerError> {
        let components = split(path)?;
        let Some((name, parents)) = components.split_last() else { return Ok(None) };
        let Some(walk) = self.walk(parents, path)?.filter(|walk| self.is_folder(walk.node)) else {
            return Err(LayerError::Path {
                path: shown(path),
                why: "goes through something that is no folder",
            });
        };
        let layer = self.layer;
        for (folder, name) in &walk.through {
            if let Some(name) = self.names_mut(*folder).and_then(|names| names.get_mut(name)) {
                name.layer = layer;
            }
        }
        let mut folder = walk.node;
        for missing in walk.missing {
            let node = self.add(Node { meta: Meta::FOLDER, kind: Kind::Folder(BTreeMap::new()) })?;
            self.set(Place { folder, name: missing }, node)?;
            folder = node;
        }
        Ok(Some(Place { folder, name: (*name).into() }))
    }

    /// The folder at `components`, if there is one.
    fn folder_at(&self, components: &[&[u8]], path: &[u8]) -> Result<Option<NodeId>, LayerError> {
        let found = self.walk(components, path)?.filter(|walk| walk.missing.is_empty());
        Ok(found.map(|walk| walk.node).filter(|id| self.is_folder(*id)))
    }

    fn is_folder(&self, id: NodeId) -> bool {
        matches!(self.node(id).map(|node| &node.kind), Some(Kind::Folder(_)))
    }

    /// Follows `components` from the top as a file system would, `..` in links held at the top. `None` where the way goes
    /// through something that is no folder.
    fn walk(&self, components: &[&[u8]], path: &[u8]) -> Result<Option<Walk>, LayerError> {
        let mut ahead: Vec<Box<[u8]>> = components.iter().rev().map(|c| (*c).into()).collect();
        // The way walked: each folder with the name that led to it from the one above.
        let mut way: Vec<(NodeId, Box<[u8]>)> = Vec::new();
        let mut missing: Vec<Box<[u8]>> = Vec::new();
        let mut here = Self::ROOT;
        let mut followed = 0;
        while let Some(component) = ahead.pop() {
            if &*component == b".." {
                if missing.pop().is_none() {
                    here = way.pop().map_or(Self::ROOT, |(above, _)| above);
                }
                continue;
            }
            let next = if missing.is_empty() { self.child(here, &component) } else { None };
            let Some(next) = next else {
                if !self.is_folder(here) {
                    return Ok(None);
                }
                missing.push(component);
                if missing.len().saturating_add(way.len()) > MAX_DEPTH {
                    return Err(LayerError::Path { path: shown(path), why: "is too deep" });
                }
                continue;
            };
            match self.node(next.node).map(|node| &node.kind) {
                Some(Kind::Symlink(target)) => {
                    followed += 1;
                    if followed > MAX_LINKS_FOLLOWED {
                        return Err(LayerError::Path { path: shown(path), why: "goes in circles" });
                    }
                    if target.starts_with(b"/") {
                        way.clear();
                        here = Self::ROOT;
                    }
                    let parts = target.split(|b| *b == b'/').filter(|part| !matches!(part, [] | [b'.']));
                    let start = ahead.len();
                    ahead.extend(parts.map(Box::from));
                    if let Some(added) = ahead.get_mut(start..) {
                        added.reverse();
                    }
                }
                Some(Kind::Folder(_) | Kind::File(_)) | None => {
                    way.push((here, component));
                    here = next.node;
                }
            }
        }
        Ok(Some(Walk { node: here, through: way, missing }))
    }
}

/// Where a way through the tree ended.
struct Walk {
    /// The last thing on it that exists.
    node: NodeId,
    /// The names that led there, each with the folder it is in.
    through: Vec<(NodeId, Box<[u8]>)>,
    /// The names below `node` that do not exist.
    missing: Vec<Box<[u8]>>,
}

/// The components of a layer's path. A leading `/` and `.` mean nothing; `..`, which no layer needs, is refused.
pub(super) fn split(path: &[u8]) -> Result<Vec<&[u8]>, LayerError> {
    let refuse = |why| Err(LayerError::Path { path: shown(path), why });
    if path.len() > MAX_PATH {
        return refuse("is longer than a path may be");
    }
    if path.contains(&0) {
        return refuse("contains a NUL");
    }
    let components: Vec<&[u8]> =
        path.split(|b| *b == b'/').filter(|component| !matches!(component, [] | [b'.'])).collect();
    if components.contains(&b"..".as_slice()) {
        return refuse("contains `..`");
    }
    if components.len() > MAX_DEPTH {
        return refuse("is too deep");
    }
    if components.iter().any(|component| component.len() > MAX_COMPONENT) {
        return refuse("has a name that is too long");
    }
    Ok(components)
}
