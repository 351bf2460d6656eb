//! A session's workspace: into the container before its harness starts, and out of it, as the door read it, after.

use api::{MAX_WORKSPACE, MAX_WORKSPACE_ENTRIES};
use tokio::io::AsyncWriteExt as _;
use wire::frame::{self, SMALL};
use wire::guest::FilesDone;
use wire::host::{DaemonOpens, FileEntry};
use wire::mux::Opener;

use super::link::open;
use crate::harness::WORKSPACE;

/// Most bytes of all files together; the rest is room for the archive's own blocks.
const MAX_CONTENT: u64 = MAX_WORKSPACE / 8 * 7;

/// Puts an archive into the container.
///
/// # Errors
/// What failed, for people.
pub(super) async fn put(opener: &Opener, archive: &[u8]) -> Result<(), String> {
    let head = DaemonOpens::PutFiles { folder: WORKSPACE.to_owned() };
    let mut stream = open(opener, &head).await?;
    let failed = |e: std::io::Error| format!("the workspace can't be put: {e}");
    stream.write_all(archive).await.map_err(failed)?;
    stream.shutdown().await.map_err(failed)?;
    match frame::read::<FilesDone, _>(&mut stream, SMALL).await {
        Ok(Some(FilesDone::Ok)) => Ok(()),
        Ok(Some(FilesDone::Failed { why })) => Err(format!("the workspace can't be put: {why}")),
        Ok(None) => Err("the workspace can't be put: the guest didn't answer".to_owned()),
        Err(error) => Err(format!("the workspace can't be put: {error}")),
    }
}

/// Gets the workspace out of the container, as an archive made here.
///
/// # Errors
/// What failed, for people.
pub(super) async fn get(opener: &Opener) -> Result<Vec<u8>, String> {
    let head = DaemonOpens::GetFiles {
        folder: WORKSPACE.to_owned(),
        max_bytes: MAX_CONTENT,
        max_entries: MAX_WORKSPACE_ENTRIES,
    };
    let mut stream = open(opener, &head).await?;
    let mut archive = Archive::new();
    loop {
        match frame::read::<FileEntry, _>(&mut stream, SMALL).await {
            Ok(Some(FileEntry::End)) => return archive.end(),
            Ok(Some(entry)) => archive.take(entry)?,
            Ok(None) => return Err("the workspace came only in part".to_owned()),
            Err(error) => return Err(format!("the workspace can't be read: {error}")),
        }
    }
}

/// An archive in the making. It holds the door to its own limits, and trusts no size that was announced.
struct Archive {
    tar: tar::Builder<Vec<u8>>,
    file: Option<(String, bool, u64, Vec<u8>)>,
    entries: u32,
    bytes: u64,
}

impl Archive {
    fn new() -> Self {
        Self { tar: tar::Builder::new(Vec::new()), file: None, entries: 0, bytes: 0 }
    }

    fn take(&mut self, entry: FileEntry) -> Result<(), String> {
        if !matches!(entry, FileEntry::Content(_)) {
            self.close_file()?;
            self.entries = self.entries.saturating_add(1);
            if self.entries > MAX_WORKSPACE_ENTRIES {
                return Err(format!("the workspace has more than {MAX_WORKSPACE_ENTRIES} entries"));
            }
        }
        match entry {
            FileEntry::File { path, executable, size } => {
                self.file = Some((path, executable, size, Vec::new()))
            }
            FileEntry::Content(bytes) => self.content(&bytes)?,
            FileEntry::Symlink { path, target } => self.link(&path, &target)?,
            FileEntry::Folder { .. } => {}
            FileEntry::LeftOut { path, why } => tracing::info!(path, why, "left out of a workspace"),
            FileEntry::Failed { why } => return Err(format!("the workspace can't be read: {why}")),
            FileEntry::End => {}
        }
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.bytes > MAX_CONTENT {
            return Err(format!("the workspace has more than {} MiB", MAX_CONTENT >> 20));
        }
        let Some((path, _, size, content)) = &mut self.file else {
            return Err("the door sent content of no file".to_owned());
        };
        content.extend_from_slice(bytes);
        if content.len() as u64 > *size {
            return Err(format!("`{path}` is longer than the door said"));
        }
        Ok(())
    }

    fn close_file(&mut self) -> Result<(), String> {
        let Some((path, executable, size, content)) = self.file.take() else { return Ok(()) };
        if content.len() as u64 != size {
            return Err(format!("`{path}` is shorter than the door said"));
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(if executable { 0o755 } else { 0o644 });
        header.set_size(size);
        self.tar.append_data(&mut header, &path, content.as_slice()).map_err(|e| format!("`{path}`: {e}"))
    }

    fn link(&mut self, path: &str, target: &str) -> Result<(), String> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        self.tar.append_link(&mut header, path, target).map_err(|e| format!("`{path}`: {e}"))
    }

    fn end(mut self) -> Result<Vec<u8>, String> {
        self.close_file()?;
        self.tar.into_inner().map_err(|e| e.to_string())
    }
}
