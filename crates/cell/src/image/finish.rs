//! What every image gets so that an agent can live in it: its user, its home, its workspace, and the folders that are
//! mounted over.

use std::io;

use super::error::LayerError;
use super::layer::Assembly;
use super::tree::{Kind, Meta, NodeId};

/// User and group of the agent, inside and outside its user namespace.
const AGENT: u16 = 1000;
/// Most bytes in a user or group file that is kept.
const MAX_ACCOUNTS: usize = 1 << 20;

/// Adds what is missing.
pub(super) fn finish(assembly: &mut Assembly) -> Result<(), LayerError> {
    let tree = &mut assembly.tree;
    tree.next_layer();
    for folder in ["dev", "proc", "sys", "run", "etc", "home"] {
        tree.put_folder_if_missing(folder.as_bytes())?;
    }
    let own = Meta { mode: 0o755, uid: AGENT, gid: AGENT, mtime: 0 };
    tree.put_folder(b"home/agent", own, false)?;
    tree.put_folder(b"workspace", own, false)?;
    tree.put_folder(b"tmp", Meta { mode: 0o1777, ..Meta::FOLDER }, false)?;
    // Where the cell shows its own program; whatever an image has there would be hidden or mistaken for it.
    tree.remove(b".lazaret")?;
    tree.put_folder(b".lazaret", Meta::FOLDER, false)?;
    account(assembly, b"etc/passwd", b"agent:x:1000:1000:agent:/home/agent:/bin/sh\n")?;
    account(assembly, b"etc/group", b"agent:x:1000:\n")?;
    if small_file(assembly, b"etc/hosts")?.is_none_or(|hosts| hosts.is_empty()) {
        put(assembly, b"etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n", Meta::FILE)?;
    }
    Ok(())
}

/// Puts `line` first, so that uid 1000 is `agent` whoever else has that number, and takes out any other `agent`.
fn account(assembly: &mut Assembly, path: &[u8], line: &[u8]) -> Result<(), LayerError> {
    let mut text = line.to_vec();
    let others: &[u8] =
        if path.ends_with(b"passwd") { b"root:x:0:0:root:/root:/bin/sh\n" } else { b"root:x:0:\n" };
    let there = small_file(assembly, path)?.unwrap_or_else(|| others.to_vec());
    for kept in there.split_inclusive(|b| *b == b'\n').filter(|kept| !kept.starts_with(b"agent:")) {
        text.extend_from_slice(kept);
    }
    put(assembly, path, &text, Meta::FILE)
}

/// Puts a small file of ours at `path`.
pub(super) fn put(assembly: &mut Assembly, path: &[u8], bytes: &[u8], meta: Meta) -> Result<(), LayerError> {
    let piece = assembly.spool.add(bytes)?;
    assembly.tree.put_file(path, meta, piece)
}

/// The contents of the file at `path`, links followed within the image; `None` where there is no file of a sane size.
pub(super) fn small_file(assembly: &Assembly, path: &[u8]) -> Result<Option<Vec<u8>>, LayerError> {
    match assembly.tree.look_up(path, true)? {
        Some(id) => Ok(contents(assembly, id)?),
        None => Ok(None),
    }
}

fn contents(assembly: &Assembly, id: NodeId) -> io::Result<Option<Vec<u8>>> {
    match assembly.tree.node(id).map(|node| &node.kind) {
        Some(Kind::File(piece)) => assembly.spool.small(*piece, MAX_ACCOUNTS),
        Some(Kind::Folder(_) | Kind::Symlink(_)) | None => Ok(None),
    }
}
