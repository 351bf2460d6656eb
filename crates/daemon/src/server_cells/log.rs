//! What a tool server writes to its standard error: kept in a file of bounded size, as plain text whatever it was.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt as _;

use crate::folders::private;

/// Most bytes in the file. Then it becomes the older one, and that is gone.
const MAX_BYTES: u64 = 256 * 1024;
/// Most bytes of a line; the rest of it is left out.
const MAX_LINE: usize = 2048;
/// Most bytes and lines that are shown.
const TAIL_BYTES: u64 = 16 * 1024;
const TAIL_LINES: usize = 20;

/// The writing end.
pub(super) struct Log {
    path: PathBuf,
    file: tokio::fs::File,
    bytes: u64,
    line: Vec<u8>,
}

impl Log {
    /// Goes on writing to this file.
    pub(super) async fn open(path: PathBuf) -> std::io::Result<Self> {
        if let Some(folder) = path.parent() {
            private(folder).map_err(std::io::Error::other)?;
        }
        let file = append(&path).await?;
        let bytes = file.metadata().await?.len();
        Ok(Self { path, file, bytes, line: Vec::new() })
    }

    /// Takes bytes of the server.
    pub(super) async fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line().await;
            } else if self.line.len() < MAX_LINE {
                self.line.push(*byte);
            }
        }
    }

    /// Adds a line of ours.
    pub(super) async fn note(&mut self, text: &str) {
        self.end_line().await;
        self.line = format!("lazaret: {text}").into_bytes();
        self.end_line().await;
    }

    async fn end_line(&mut self) {
        if self.line.is_empty() {
            return;
        }
        let line = plain(&std::mem::take(&mut self.line));
        if let Err(error) = self.write(&line).await {
            tracing::warn!(%error, "a tool server's log can't be written");
        }
    }

    async fn write(&mut self, line: &str) -> std::io::Result<()> {
        if self.bytes >= MAX_BYTES {
            tokio::fs::rename(&self.path, self.path.with_extension("log.old")).await?;
            self.file = append(&self.path).await?;
            self.bytes = 0;
        }
        self.file.write_all(line.as_bytes()).await?;
        self.file.write_all(b"\n").await?;
        self.file.flush().await?;
        self.bytes = self.bytes.saturating_add(line.len() as u64).saturating_add(1);
        Ok(())
    }
}

async fn append(path: &Path) -> std::io::Result<tokio::fs::File> {
    tokio::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).await
}

/// Text that no terminal takes for a command.
fn plain(line: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(line).trim_end().chars() {
        match c {
            '\t' => text.push(c),
            c if c.is_control() || is_invisible(c) => text.extend(c.escape_unicode()),
            c => text.push(c),
        }
    }
    text
}

/// Characters that turn text around or hide it.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The last lines of a log; none where there is no log.
pub(super) fn tail(path: &Path) -> Vec<String> {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines.into_iter().skip(from).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whatever_is_written_the_log_is_plain_text_of_bounded_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("team/server.log");
        let mut log = Log::open(path.clone()).await.unwrap();
        log.take(b"half a li").await;
        log.take(b"ne\n\x1b[2Jgone\x07 \xff \xe2\x80\xae\n").await;
        log.note("it ended").await;
        assert_eq!(
            tail(&path),
            ["half a line", "\\u{1b}[2Jgone\\u{7} \u{fffd} \\u{202e}", "lazaret: it ended"]
        );
        let long = [vec![b'x'; 100_000], vec![b'\n']].concat();
        for _ in 0..1000 {
            log.take(&long).await;
        }
        let size = |path: &Path| std::fs::metadata(path).unwrap().len();
        let most = MAX_BYTES + MAX_LINE as u64 + 1;
        assert!(size(&path) <= most && size(&path.with_extension("log.old")) <= most);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 2);
        assert!(tail(&path).len() <= TAIL_LINES);
        assert!(tail(&folder.path().join("none")).is_empty());
    }
}
