//! Reads the tar archives of layers: ustar, pax and GNU, with a limit on all that a header can claim. Where two headers
//! of one entry contradict each other the archive is refused, so that no other reader can see other files than this one.

use std::io::{self, Read};

use super::error::{LayerError, shown};
use super::limits::{MAX_EXTENDED, MAX_PATH};
use super::sparse::{self, SparseMap};

const BLOCK: usize = 512;

/// One entry of an archive. Its contents, if it is a file, are read next from the reader.
#[derive(Debug)]
pub(super) struct Member {
    /// The path as it is written, neither cleaned nor checked.
    pub(super) path: Vec<u8>,
    /// What it is.
    pub(super) kind: MemberKind,
    /// Permission bits, with setuid, setgid and sticky.
    pub(super) mode: u32,
    /// Owner.
    pub(super) uid: u64,
    /// Group.
    pub(super) gid: u64,
    /// Seconds since 1970; 0 where the archive gives none that can be held.
    pub(super) mtime: u32,
    /// Bytes in the unpacked file, holes included.
    pub(super) size: u64,
    /// Whether extended attributes came with it.
    pub(super) xattrs: bool,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MemberKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link and its target, as written.
    Symlink(Vec<u8>),
    /// Another name for the file at this path, as written.
    HardLink(Vec<u8>),
    /// A character or block device.
    Device,
    /// A named pipe.
    Fifo,
}

/// Extended headers that apply to the next entry.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<u32>,
    xattrs: bool,
    sparse: sparse::PaxSparse,
    bytes: u64,
}

/// Reads an archive from its start to its end.
pub(super) struct TarReader<R> {
    inner: R,
    at: u64,
    /// Stored bytes of the current entry that are still unread.
    left: u64,
    /// Bytes between the current entry's end and the next header.
    padding: u64,
    /// Where the stored bytes belong, if the current entry is sparse.
    map: Option<SparseMap>,
    /// Bytes in the unpacked current entry.
    size: u64,
}

impl<R: Read> TarReader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, at: 0, left: 0, padding: 0, map: None, size: 0 }
    }

    /// The next entry, or `None` at the archive's end. Contents that were not read are passed over.
    pub(super) fn next_member(&mut self) -> Result<Option<Member>, LayerError> {
        let mut ext = Extended::default();
        let mut began = false;
        loop {
            self.skip(self.left.saturating_add(self.padding))?;
            (self.left, self.padding, self.map, self.size) = (0, 0, None, 0);
            let Some(header) = self.header()? else {
                return if began { Err(self.bad("it ends after an extended header")) } else { Ok(None) };
            };
            let stored = self.number(&header, 124..136)?;
            match header.as_bytes().get(156).copied().unwrap_or(0) {
                b'x' => self.pax(stored, &mut ext)?,
                b'g' => self.global_pax(stored)?,
                b'L' => {
                    let name = self.long(stored, &mut ext.bytes)?;
                    self.set_once(&mut ext.path, name)?;
                }
                b'K' => {
                    let name = self.long(stored, &mut ext.bytes)?;
                    self.set_once(&mut ext.link, name)?;
                }
                flag => return self.member(&header, flag, stored, ext).map(Some),
            }
            began = true;
        }
    }

    /// Hands the current file's bytes to `sink`, each with its offset; what is not handed over is zero.
    pub(super) fn contents(
        &mut self,
        mut sink: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> Result<(), LayerError> {
        let map = self.map.take().unwrap_or_else(|| SparseMap::whole(self.left));
        let mut buf = vec![0; 64 * 1024];
        for piece in map.pieces() {
            let (mut offset, mut len) = (piece.offset, piece.len);
            while len > 0 {
                let most = usize::try_from(len).unwrap_or(usize::MAX).min(buf.len());
                let n = self.read_some(buf.get_mut(..most).unwrap_or_default())?;
                sink(offset, buf.get(..n).unwrap_or_default())?;
                offset = offset.saturating_add(n as u64);
                len = len.saturating_sub(n as u64);
                self.left = self.left.saturating_sub(n as u64);
            }
        }
        Ok(())
    }

    /// Where in the archive the current entry's stored bytes begin, until they are read.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// Gives the source back, for what follows the archive's end.
    pub(super) fn into_inner(self) -> R {
        self.inner
    }

    fn bad(&self, why: &'static str) -> LayerError {
        LayerError::Tar { at: self.at, why }
    }

    fn number(&self, header: &tar::Header, field: std::ops::Range<usize>) -> Result<u64, LayerError> {
        sparse::number(header.as_bytes().get(field)).map_err(|why| self.bad(why))
    }

    fn set_once(&self, slot: &mut Option<Vec<u8>>, value: Vec<u8>) -> Result<(), LayerError> {
        if slot.replace(value).is_some() {
            return Err(self.bad("an entry has two long names"));
        }
        Ok(())
    }

    /// One header whose checksum is right; `None` at the end mark or where the source ends.
    fn header(&mut self) -> Result<Option<tar::Header>, LayerError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.inner.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(self.bad("it ends in a header")),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.at = self.at.saturating_add(BLOCK as u64);
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let header = tar::Header::from_byte_slice(&block).clone();
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) })
            .sum();
        if header.cksum().ok() != Some(sum) {
            return Err(self.bad("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    fn member(
        &mut self,
        header: &tar::Header,
        flag: u8,
        stored: u64,
        ext: Extended,
    ) -> Result<Member, LayerError> {
        let stored = self.agreed_size(stored, ext.size)?;
        let path = ext.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = || {
            let target = ext.link.clone().or_else(|| header.link_name_bytes().map(|t| t.into_owned()));
            target.unwrap_or_default()
        };
        let kind = match flag {
            b'0' | 0 | b'7' if path.ends_with(b"/") => MemberKind::Folder,
            b'0' | 0 | b'7' | b'S' => MemberKind::File,
            b'1' => MemberKind::HardLink(link()),
            b'2' => MemberKind::Symlink(link()),
            b'3' | b'4' => MemberKind::Device,
            b'5' => MemberKind::Folder,
            b'6' => MemberKind::Fifo,
            kind => return Err(LayerError::Kind { path: shown(&path), kind }),
        };
        let is_file = kind == MemberKind::File;
        // Only files have contents; archives by old programs give links the size of what they point to.
        self.left = if is_file { stored } else { 0 };
        if !is_file && stored > 0 && matches!(kind, MemberKind::Folder) {
            return Err(self.bad("a folder has contents"));
        }
        self.padding = self.left.next_multiple_of(BLOCK as u64).saturating_sub(self.left);
        self.size = self.left;
        if flag == b'S' {
            self.gnu_sparse(header)?;
        }
        let path = if is_file { self.pax_sparse(ext.sparse, path)? } else { path };
        if path.len() > MAX_PATH {
            return Err(LayerError::Path { path: shown(&path), why: "is longer than a path may be" });
        }
        Ok(Member {
            path,
            kind,
            mode: u32::try_from(self.number(header, 100..108)?).map_err(|_| self.bad("a mode is no mode"))?,
            uid: ext.uid.map_or_else(|| self.number(header, 108..116), Ok)?,
            gid: ext.gid.map_or_else(|| self.number(header, 116..124), Ok)?,
            mtime: ext.mtime.unwrap_or_else(|| {
                // A time before 1970 is written as a negative number; no image depends on it.
                self.number(header, 136..148).ok().and_then(|time| u32::try_from(time).ok()).unwrap_or(0)
            }),
            size: self.size,
            xattrs: ext.xattrs,
        })
    }

    /// The stored size on which header and pax header agree. A header's 0 stands for "see the pax header".
    fn agreed_size(&self, header: u64, pax: Option<u64>) -> Result<u64, LayerError> {
        match pax {
            Some(size) if header != 0 && size != header => Err(self.bad("an entry has two sizes")),
            Some(size) => Ok(size),
            None => Ok(header),
        }
    }

    fn gnu_sparse(&mut self, header: &tar::Header) -> Result<(), LayerError> {
        let block = header.as_bytes();
        let mut map = SparseMap::default();
        let real = sparse::number(block.get(483..495)).map_err(|why| self.bad(why))?;
        let mut more =
            map.add_gnu(block.get(386..482), block.get(482).copied()).map_err(|why| self.bad(why))?;
        while more {
            let mut next = [0; BLOCK];
            self.read_all(&mut next)?;
            more = map.add_gnu(next.get(..504), next.get(504).copied()).map_err(|why| self.bad(why))?;
        }
        map.check(self.left, real).map_err(|why| self.bad(why))?;
        self.size = real;
        self.map = Some(map);
        Ok(())
    }

    fn pax_sparse(&mut self, found: sparse::PaxSparse, path: Vec<u8>) -> Result<Vec<u8>, LayerError> {
        if found.is_empty() {
            return Ok(path);
        }
        if self.map.is_some() {
            return Err(self.bad("an entry has two maps of its holes"));
        }
        let real = found.real_size().map_err(|why| self.bad(why))?;
        let map = if found.map_is_in_contents() { self.map_in_contents()? } else { found.map() };
        map.check(self.left, real).map_err(|why| self.bad(why))?;
        self.size = real;
        self.map = Some(map);
        Ok(found.name.unwrap_or(path))
    }

    /// The map at the head of the contents of a sparse file of format 1.0: lines of decimal numbers, padded to a block.
    fn map_in_contents(&mut self) -> Result<SparseMap, LayerError> {
        let mut numbers = sparse::Lines::default();
        while !numbers.is_complete() {
            if self.left < BLOCK as u64 {
                return Err(self.bad("the map of a file's holes is cut off"));
            }
            let mut block = [0; BLOCK];
            self.read_all(&mut block)?;
            self.left = self.left.saturating_sub(BLOCK as u64);
            numbers.add(&block).map_err(|why| self.bad(why))?;
        }
        Ok(numbers.into_map())
    }

    /// The contents of an extended header, which count towards its entry's limit.
    fn extended(&mut self, size: u64, so_far: &mut u64) -> Result<Vec<u8>, LayerError> {
        *so_far = so_far.saturating_add(size);
        if *so_far > MAX_EXTENDED {
            return Err(LayerError::Limit {
                what: "bytes of extended headers on one entry",
                max: MAX_EXTENDED,
            });
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        self.read_all(&mut bytes)?;
        self.padding = size.next_multiple_of(BLOCK as u64).saturating_sub(size);
        Ok(bytes)
    }

    fn long(&mut self, size: u64, so_far: &mut u64) -> Result<Vec<u8>, LayerError> {
        let mut bytes = self.extended(size, so_far)?;
        if let Some(end) = bytes.iter().position(|b| *b == 0) {
            bytes.truncate(end);
        }
        Ok(bytes)
    }

    /// Global headers carry comments; one that names a path or a size for every entry is no layer's.
    fn global_pax(&mut self, size: u64) -> Result<(), LayerError> {
        let bytes = self.extended(size, &mut 0)?;
        for (key, _) in records(&bytes).map_err(|why| self.bad(why))? {
            if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
                return Err(self.bad("a global header sets the path or size of every entry"));
            }
        }
        Ok(())
    }

    fn pax(&mut self, size: u64, ext: &mut Extended) -> Result<(), LayerError> {
        let bytes = self.extended(size, &mut ext.bytes)?;
        for (key, value) in records(&bytes).map_err(|why| self.bad(why))? {
            match key {
                b"path" => self.set_once(&mut ext.path, value.to_vec())?,
                b"linkpath" => self.set_once(&mut ext.link, value.to_vec())?,
                b"size" => ext.size = Some(sparse::decimal(value).map_err(|why| self.bad(why))?),
                b"uid" => ext.uid = Some(sparse::decimal(value).map_err(|why| self.bad(why))?),
                b"gid" => ext.gid = Some(sparse::decimal(value).map_err(|why| self.bad(why))?),
                b"mtime" => ext.mtime = whole_seconds(value),
                key if key.starts_with(b"GNU.sparse.") => {
                    ext.sparse.add(key, value).map_err(|why| self.bad(why))?;
                }
                key => ext.xattrs |= is_xattr(key),
            }
        }
        Ok(())
    }

    fn read_some(&mut self, buf: &mut [u8]) -> Result<usize, LayerError> {
        loop {
            match self.inner.read(buf) {
                Ok(0) => return Err(self.bad("it ends in an entry's contents")),
                Ok(n) => {
                    self.at = self.at.saturating_add(n as u64);
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn read_all(&mut self, buf: &mut [u8]) -> Result<(), LayerError> {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            filled += self.read_some(rest)?;
        }
        Ok(())
    }

    fn skip(&mut self, mut bytes: u64) -> Result<(), LayerError> {
        let mut buf = [0; 16 * 1024];
        while bytes > 0 {
            let most = usize::try_from(bytes).unwrap_or(usize::MAX).min(buf.len());
            let n = self.read_some(buf.get_mut(..most).unwrap_or_default())?;
            bytes = bytes.saturating_sub(n as u64);
        }
        Ok(())
    }
}

fn is_xattr(key: &[u8]) -> bool {
    key.starts_with(b"SCHILY.xattr.") || key.starts_with(b"LIBARCHIVE.xattr.")
}

/// The seconds of a pax time; what can't be held (before 1970, after 2106) is left to the header.
fn whole_seconds(value: &[u8]) -> Option<u32> {
    let whole = value.split(|b| *b == b'.').next()?;
    sparse::decimal(whole).ok().and_then(|seconds| u32::try_from(seconds).ok())
}

/// A key and its value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// The records of a pax header: `length key=value\n`, in which the length counts the whole record.
fn records(mut bytes: &[u8]) -> Result<Vec<Record<'_>>, &'static str> {
    const BAD: &str = "a pax header has a broken record";
    let mut found = Vec::new();
    while !bytes.is_empty() {
        // Some writers pad with zeros.
        if bytes.iter().all(|b| *b == 0) {
            break;
        }
        let space = bytes.iter().take(20).position(|b| *b == b' ').ok_or(BAD)?;
        let len = sparse::decimal(bytes.get(..space).ok_or(BAD)?)?;
        let len = usize::try_from(len).map_err(|_| BAD)?;
        let record = bytes.get(space + 1..len).and_then(|r| r.strip_suffix(b"\n")).ok_or(BAD)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or(BAD)?;
        let (key, value) = record.split_at(equals);
        found.push((key, value.get(1..).unwrap_or_default()));
        bytes = bytes.get(len..).ok_or(BAD)?;
    }
    Ok(found)
}
