//! Reads zip archives, which Python's wheels are, more strictly than zip readers do: what two of them could read differently
//! is refused (two entries of one name, entries that overlap, headers that contradict each other, bytes around the archive).

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

use super::error::{LayerError, shown};
use super::limits::{ImageLimits, RATIO_GRACE};
use super::tree::split;

/// Most bytes in the list of an archive's entries.
const MAX_LIST: u64 = 32 << 20;
/// Bytes in the fixed part of the record that ends an archive.
const END: u64 = 22;
/// Bytes in the fixed part of an entry's record in the list.
const RECORD: usize = 46;
/// Bytes in the fixed part of the header before an entry's contents.
const HEADER: u64 = 30;
/// Where a size does not fit, which is said by a larger form of zip.
const ELSEWHERE: u32 = u32::MAX;
/// The flags of an entry that change nothing for a reader of the list: how hard it was compressed, sizes that follow the
/// contents, and names in UTF-8.
const HARMLESS: u16 = 0b1000_0000_1110;
const UTF_8: u16 = 1 << 11;

/// An archive whose entries are known.
#[derive(Debug)]
pub(super) struct Zip {
    file: File,
    entries: Vec<Entry>,
}

/// A file of an archive.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its path, without `.`, `..` and double or leading `/`.
    pub(super) path: String,
    /// Whether it can be run.
    pub(super) executable: bool,
    /// Bytes in it.
    pub(super) size: u64,
    packed: u64,
    crc: u32,
    deflated: bool,
    /// Where its header begins, and where its contents do.
    header: u64,
    contents: u64,
}

impl Zip {
    /// Reads the list of entries and holds it against what is there. Folders are passed over.
    pub(super) fn open(file: File, limits: ImageLimits) -> Result<Self, LayerError> {
        let len = file.metadata()?.len();
        let (list_at, list) = list(&file, len)?;
        let mut entries = Vec::new();
        let mut paths = HashSet::new();
        let mut rest = list.as_slice();
        while !rest.is_empty() {
            if paths.len() as u64 >= limits.entries {
                return Err(LayerError::Limit { what: "entries in an archive", max: limits.entries });
            }
            let (entry, name, after) = record(rest)?;
            rest = after;
            let is_folder = name.ends_with('/');
            if !paths.insert(entry.path.clone()) {
                return Err(LayerError::Path {
                    path: shown(name.as_bytes()),
                    why: "is in the archive twice",
                });
            }
            let contents = check_header(&file, &entry, name)?;
            if !is_folder {
                entries.push(Entry { contents, ..entry });
            }
        }
        check_places(&mut entries, list_at)?;
        let unpacked = entries.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.size));
        if unpacked > len.saturating_mul(limits.ratio).saturating_add(RATIO_GRACE) {
            return Err(LayerError::Ratio { max: limits.ratio });
        }
        Ok(Self { file, entries })
    }

    /// Its files, in the order in which they lie there.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Hands the contents of a file to `sink`, each part with its offset, and checks them.
    pub(super) fn contents(
        &self,
        entry: &Entry,
        mut sink: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> Result<(), LayerError> {
        let stored = Stored { file: &self.file, at: entry.contents, left: entry.packed };
        let mut plain: Box<dyn Read + '_> = if entry.deflated {
            Box::new(flate2::bufread::DeflateDecoder::new(BufReader::with_capacity(64 * 1024, stored)))
        } else {
            Box::new(stored)
        };
        let (mut buf, mut offset, mut crc) = (vec![0; 64 * 1024], 0_u64, flate2::Crc::new());
        loop {
            let n = plain.read(&mut buf)?;
            let bytes = buf.get(..n).unwrap_or_default();
            let end = offset.saturating_add(n as u64);
            if n == 0 || end > entry.size {
                break;
            }
            crc.update(bytes);
            sink(offset, bytes)?;
            offset = end;
        }
        if offset != entry.size || crc.sum() != entry.crc {
            return Err(LayerError::Path { path: shown(entry.path.as_bytes()), why: "is damaged" });
        }
        Ok(())
    }

    /// The contents of the file at `path`, of at most `most` bytes; `None` where there is none.
    pub(super) fn small(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, LayerError> {
        let Some(entry) = self.entries.iter().find(|entry| entry.path == path) else { return Ok(None) };
        if entry.size > most {
            return Err(LayerError::Limit { what: "bytes in a file that describes a package", max: most });
        }
        let mut all = Vec::new();
        self.contents(entry, |_, bytes| {
            all.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(Some(all))
    }
}

fn bad(why: &'static str) -> LayerError {
    LayerError::Zip { why }
}

/// The list of entries and where it begins. The record of the end is the archive's last bytes, and the list lies before it.
fn list(file: &File, len: u64) -> Result<(u64, Vec<u8>), LayerError> {
    let end_at = len.checked_sub(END).ok_or(bad("it is too short"))?;
    let end = read(file, end_at, END)?;
    if !end.starts_with(b"PK\x05\x06") {
        return Err(bad("it does not end as one does"));
    }
    let several_disks = u32_at(&end, 4)? != 0;
    let (count, count_here) = (u16_at(&end, 10)?, u16_at(&end, 8)?);
    let (size, at) = (u32_at(&end, 12)?, u32_at(&end, 16)?);
    if several_disks || count != count_here || count == u16::MAX || at == ELSEWHERE || u16_at(&end, 20)? != 0
    {
        return Err(bad("it is in several parts, commented, or of the large form (zip64)"));
    }
    let (size, at) = (u64::from(size), u64::from(at));
    if size > MAX_LIST {
        return Err(LayerError::Limit { what: "bytes in an archive's list of entries", max: MAX_LIST });
    }
    if at.saturating_add(size) != end_at {
        return Err(bad("its list of entries is not where it says"));
    }
    let list = read(file, at, size)?;
    Ok((at, list))
}

/// Takes one record from the list: the entry, its name as written, and what follows.
fn record(list: &[u8]) -> Result<(Entry, &str, &[u8]), LayerError> {
    if !list.starts_with(b"PK\x01\x02") {
        return Err(bad("its list of entries is damaged"));
    }
    let lengths = [28, 30, 32].map(|at| u16_at(list, at).map(usize::from));
    let [name_len, extra_len, comment_len] = lengths;
    let name_end = RECORD.saturating_add(name_len?);
    let end = name_end.saturating_add(extra_len?).saturating_add(comment_len?);
    let cut = || bad("its list of entries is cut");
    let (name, rest) = (list.get(RECORD..name_end).ok_or_else(cut)?, list.get(end..).ok_or_else(cut)?);
    let (flags, method) = (u16_at(list, 8)?, u16_at(list, 10)?);
    let (crc, packed, size) = (u32_at(list, 16)?, u32_at(list, 20)?, u32_at(list, 24)?);
    let header = u32_at(list, 42)?;
    // The upper half is a Unix mode, or zero.
    let mode = u32_at(list, 38)? >> 16;
    let refuse = |why| LayerError::Path { path: shown(name), why };
    let text = std::str::from_utf8(name).ok().filter(|text| text.is_ascii() || flags & UTF_8 != 0);
    let text = text.ok_or_else(|| refuse("is no name in UTF-8"))?;
    let path = split(name)?.into_iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join("/");
    let is_folder = text.ends_with('/');
    let kind_fits = match mode & 0o170_000 {
        0 => true,
        0o040_000 => is_folder,
        0o100_000 => !is_folder,
        _ => false,
    };
    let why = match () {
        () if path.is_empty() => Some("is no name of a file"),
        () if !kind_fits => Some("is a link or a device, and packages have none"),
        () if flags & !HARMLESS != 0 => Some("is encrypted or patched"),
        () if [packed, size, header].contains(&ELSEWHERE) => Some("is too large"),
        () if !matches!(method, 0 | 8) => Some("is compressed in another way than deflate"),
        () if method == 0 && packed != size => Some("has two sizes"),
        () if is_folder && size != 0 => Some("is a folder with contents"),
        () => None,
    };
    if let Some(why) = why {
        return Err(refuse(why));
    }
    let (size, packed, header) = (u64::from(size), u64::from(packed), u64::from(header));
    let (executable, deflated) = (mode & 0o111 != 0, method == 8);
    Ok((Entry { path, executable, size, packed, crc, deflated, header, contents: 0 }, text, rest))
}

/// Checks that the header before an entry's contents names the same entry; where the contents begin.
fn check_header(file: &File, entry: &Entry, name: &str) -> Result<u64, LayerError> {
    let refuse =
        || LayerError::Path { path: shown(name.as_bytes()), why: "is another one in its own header" };
    let header = read(file, entry.header, HEADER.saturating_add(name.len() as u64))?;
    let same = header.starts_with(b"PK\x03\x04")
        && (u16_at(&header, 8)? == 8) == entry.deflated
        && usize::from(u16_at(&header, 26)?) == name.len()
        && header.ends_with(name.as_bytes());
    if !same {
        return Err(refuse());
    }
    let extra = u64::from(u16_at(&header, 28)?);
    Ok(entry.header.saturating_add(header.len() as u64).saturating_add(extra))
}

/// Checks that no entry lies in another one or in the list, and sorts them by place.
fn check_places(entries: &mut [Entry], list_at: u64) -> Result<(), LayerError> {
    entries.sort_by_key(|entry| entry.header);
    let ends = entries.iter().skip(1).map(|next| next.header).chain([list_at]);
    for (entry, end) in entries.iter().zip(ends) {
        if entry.contents.saturating_add(entry.packed) > end {
            return Err(LayerError::Path {
                path: shown(entry.path.as_bytes()),
                why: "overlaps with another",
            });
        }
    }
    Ok(())
}

fn read(file: &File, at: u64, len: u64) -> Result<Vec<u8>, LayerError> {
    let len = usize::try_from(len).map_err(|_| bad("it is too large"))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at).map_err(|_| bad("it is cut"))?;
    Ok(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, LayerError> {
    let two = bytes.get(at..).and_then(|rest| rest.first_chunk());
    two.map(|two| u16::from_le_bytes(*two)).ok_or(bad("it is cut"))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, LayerError> {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk());
    four.map(|four| u32::from_le_bytes(*four)).ok_or(bad("it is cut"))
}

/// A part of the file.
struct Stored<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Stored<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let n = self.file.read_at(buf.get_mut(..most).unwrap_or_default(), self.at)?;
        self.at = self.at.saturating_add(n as u64);
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}
