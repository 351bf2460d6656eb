//! The contents of an image's files while it is put together: one nameless temporary file, in which holes cost nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where a file's contents lie in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Position of the first byte.
    pub(super) at: u64,
    /// Number of bytes.
    pub(super) len: u64,
}

/// A file that has no name on the host and only grows.
pub(super) struct Spool {
    file: File,
    end: u64,
}

impl Spool {
    /// A new one on the file system of `folder`.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile_in(folder)?, end: 0 })
    }

    /// Sets `len` bytes aside, all zero until written.
    pub(super) fn set_aside(&mut self, len: u64) -> io::Result<Piece> {
        let end = self.end.checked_add(len).ok_or(io::ErrorKind::FileTooLarge)?;
        self.file.set_len(end)?;
        let piece = Piece { at: self.end, len };
        self.end = end;
        Ok(piece)
    }

    /// Writes `bytes` at `offset` of the piece. Zeros stay holes.
    pub(super) fn write(&self, piece: Piece, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let past = offset.checked_add(bytes.len() as u64).is_none_or(|end| end > piece.len);
        if past {
            return Err(io::Error::other("a write past the end of its piece"));
        }
        if bytes.iter().all(|b| *b == 0) {
            return Ok(());
        }
        self.file.write_all_at(bytes, piece.at.saturating_add(offset))
    }

    /// Adds a whole small file.
    pub(super) fn add(&mut self, bytes: &[u8]) -> io::Result<Piece> {
        let piece = self.set_aside(bytes.len() as u64)?;
        self.write(piece, 0, bytes)?;
        Ok(piece)
    }

    /// Reads a piece from its start to its end.
    pub(super) fn reader(&self, piece: Piece) -> PieceReader<'_> {
        PieceReader { spool: self, at: piece.at, left: piece.len }
    }

    /// The contents of a piece of at most `max` bytes; `None` if it is larger.
    pub(super) fn small(&self, piece: Piece, max: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(len) = usize::try_from(piece.len).ok().filter(|len| *len <= max) else {
            return Ok(None);
        };
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, piece.at)?;
        Ok(Some(bytes))
    }
}

/// Reads one piece.
pub(super) struct PieceReader<'a> {
    spool: &'a Spool,
    at: u64,
    left: u64,
}

impl io::Read for PieceReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let Some(part) = buf.get_mut(..most) else { return Ok(0) };
        if part.is_empty() {
            return Ok(0);
        }
        let n = self.spool.file.read_at(part, self.at)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at = self.at.saturating_add(n as u64);
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}
