//! Writes the tree as one read-only file system: as a clean tar archive into `mksquashfs` of squashfs-tools, or as an archive
//! to build other images on.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Stdio};

use super::error::ImageError;
use super::host_tools;
use super::layer::Assembly;
use super::limits::MAX_PATH;
use super::tree::{Kind, Meta, Node, NodeId, Tree};

const TOOL: &str = "mksquashfs";

/// Makes the squashfs file `target`, which must not exist yet. `scratch` is a private folder.
pub(super) fn write(assembly: &Assembly, scratch: &Path, target: &Path) -> Result<(), ImageError> {
    let errors = scratch.join("mksquashfs.log");
    let log = File::create(&errors).map_err(ImageError::io("create", &errors))?;
    let mut child = start(&assembly.tree, scratch, target, log)?;
    let written = match child.0.stdin.take() {
        Some(stdin) => write_tar(assembly, BufWriter::with_capacity(1 << 20, stdin)),
        None => Err(io::ErrorKind::BrokenPipe.into()),
    };
    let status = child.0.wait().map_err(|error| tool(error.to_string()))?;
    if !status.success() {
        return Err(tool(format!("{status}: {}", host_tools::last_words(&errors))));
    }
    written.map_err(|error| tool(error.to_string()))?;
    let file = File::open(target).map_err(ImageError::io("open", target))?;
    file.sync_all().map_err(ImageError::io("write out", target))
}

fn tool(why: String) -> ImageError {
    ImageError::Tool { tool: TOOL, why }
}

/// Ends the program where its caller gives up.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        host_tools::end(&mut self.0);
    }
}

fn start(tree: &Tree, scratch: &Path, target: &Path, log: File) -> Result<Running, ImageError> {
    let top = tree.node(Tree::ROOT).map_or(Meta::FOLDER, |node| node.meta);
    // lz4, since each cell reads its programs anew; measured in docs/images.md.
    let mut command = host_tools::command(TOOL, scratch);
    command
        .arg("-")
        .arg(target)
        .args(["-tar", "-quiet", "-no-progress", "-exit-on-error", "-no-xattrs", "-reproducible"])
        .args(["-comp", "lz4", "-b", "128K", "-mem", "256M"])
        .args(["-root-mode", &format!("{:o}", top.mode & 0o777)])
        .args(["-root-uid", &top.uid.to_string(), "-root-gid", &top.gid.to_string()])
        // No file is younger, so this is the time of the file system and its root only: the same image is the same bytes.
        // But where files are of the future, the root's is that of now: of an archive, mksquashfs 4.5 sets no other.
        .env("SOURCE_DATE_EPOCH", youngest(tree).to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log);
    command.spawn().map(Running).map_err(|error| host_tools::not_started(TOOL, &error))
}

fn youngest(tree: &Tree) -> u32 {
    let mut youngest = tree.node(Tree::ROOT).map_or(0, |top| top.meta.mtime);
    let walked = tree.visit(|_, _, node| {
        youngest = youngest.max(node.meta.mtime);
        Ok::<(), Infallible>(())
    });
    match walked {
        Ok(()) => youngest,
    }
}

/// Writes the tree as an archive in which every folder comes before what is in it and every hard link after its file.
pub(super) fn write_tar(assembly: &Assembly, out: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    let mut names = link_counts(&assembly.tree);
    assembly.tree.visit(|path, id, node| {
        if path.len() > MAX_PATH {
            return Err(io::Error::other("a path is longer than a path may be once its links are followed"));
        }
        add(&mut archive, assembly, (path, id, node), &mut names)
    })?;
    archive.into_inner()?.flush()
}

/// The files that have several names, each with the first name once that is written.
fn link_counts(tree: &Tree) -> HashMap<NodeId, Option<Vec<u8>>> {
    let mut seen = HashSet::new();
    let mut several = HashMap::new();
    let walked = tree.visit(|_, id, node| {
        if !matches!(node.kind, Kind::Folder(_)) && !seen.insert(id) {
            several.insert(id, None);
        }
        Ok::<(), Infallible>(())
    });
    match walked {
        Ok(()) => several,
    }
}

fn add<W: Write>(
    archive: &mut tar::Builder<W>,
    assembly: &Assembly,
    (path, id, node): (&[u8], NodeId, &Node),
    names: &mut HashMap<NodeId, Option<Vec<u8>>>,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(u32::from(node.meta.mode));
    header.set_uid(u64::from(node.meta.uid));
    header.set_gid(u64::from(node.meta.gid));
    header.set_mtime(u64::from(node.meta.mtime));
    header.set_size(0);
    let name = OsStr::from_bytes(path);
    if let Some(first) = names.get_mut(&id) {
        if let Some(first) = first {
            header.set_entry_type(tar::EntryType::Link);
            return archive.append_link(&mut header, name, OsStr::from_bytes(first));
        }
        *first = Some(path.to_vec());
    }
    match &node.kind {
        Kind::Folder(_) => {
            header.set_entry_type(tar::EntryType::Directory);
            archive.append_data(&mut header, name, io::empty())
        }
        Kind::Symlink(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            long_target(archive, target)?;
            header.set_link_name_literal(target.get(..100).unwrap_or(target))?;
            archive.append_data(&mut header, name, io::empty())
        }
        Kind::File(piece) => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(piece.len);
            archive.append_data(&mut header, name, assembly.spool.reader(*piece))
        }
    }
}

/// The GNU header for a link's target that does not fit in its own, so that targets are kept to the byte.
fn long_target<W: Write>(archive: &mut tar::Builder<W>, target: &[u8]) -> io::Result<()> {
    if target.len() <= 100 {
        return Ok(());
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongLink);
    header.set_mode(0o644);
    header.set_size(target.len().saturating_add(1) as u64);
    header.as_mut_bytes().get_mut(..13).unwrap_or_default().copy_from_slice(b"././@LongLink");
    header.set_cksum();
    archive.append(&header, io::Read::chain(target, [0].as_slice()))
}
