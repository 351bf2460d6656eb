//! Files into the container and out of it. What comes out is an archive of the guest: read entry by entry, each name
//! checked, never written anywhere here.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use tar::{Header, PaxExtensions};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use wire::frame::{self, CHUNK, SMALL};
use wire::guest::{DoorOpens, FilesDone};
use wire::host::FileEntry;
use wire::mux::{Opener, Stream};

use crate::frames::{self, CHUNK_FRAME};
use crate::stalling::Stalling;
use crate::{CutOff, DoorLimits};

/// How much may come out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes of all files together.
    pub(crate) bytes: u64,
    /// Entries, those that are left out too.
    pub(crate) entries: u32,
}

/// Most bytes of a path (Linux's `PATH_MAX`) and of one of its parts (`NAME_MAX`).
const MAX_PATH: usize = 4096;
const MAX_PART: usize = 255;
/// Most folders above an entry.
const MAX_DEPTH: usize = 128;
/// Most bytes of all paths that are remembered together.
const MAX_REMEMBERED: usize = 32 << 20;
/// Most bytes of an archive's own metadata for one entry.
const MAX_METADATA: u64 = 64 * 1024;
const BLOCK: usize = 512;
/// How long what follows an archive's end is waited for.
const REST: Duration = Duration::from_secs(5);

// Types of entries (POSIX.1-2017, pax; the last two are GNU's).
const FILE: u8 = b'0';
const OLD_FILE: u8 = 0;
const CONTIGUOUS_FILE: u8 = b'7';
const HARD_LINK: u8 = b'1';
const SYMLINK: u8 = b'2';
const CHARACTER_DEVICE: u8 = b'3';
const BLOCK_DEVICE: u8 = b'4';
const FOLDER: u8 = b'5';
const FIFO: u8 = b'6';
const EXTENSIONS: u8 = b'x';
const GLOBAL_EXTENSIONS: u8 = b'g';
const LONG_NAME: u8 = b'L';
const LONG_LINK: u8 = b'K';

/// Copies the daemon's archive to the guest, and the guest's answer back.
pub(crate) async fn put(
    daemon: Stream,
    folder: String,
    guests: Opener,
    limits: DoorLimits,
) -> Result<(), CutOff> {
    let (mut from_daemon, mut to_daemon) = tokio::io::split(daemon);
    let done = match open(&guests, &DoorOpens::PutFiles { folder }).await {
        Ok(guest) => copy(&mut from_daemon, guest, limits).await?,
        Err(why) => FilesDone::Failed { why },
    };
    // A daemon that has gone needs no answer.
    drop(frame::write(&mut to_daemon, &done, SMALL).await);
    drop(to_daemon.shutdown().await);
    Ok(())
}

async fn copy<R>(from: &mut R, guest: Stream, limits: DoorLimits) -> Result<FilesDone, CutOff>
where
    R: AsyncRead + Unpin,
{
    let (from_guest, to_guest) = tokio::io::split(guest);
    let mut from_guest = BufReader::new(from_guest);
    let mut to_guest = Stalling::new(to_guest, limits.stall);
    let send = async {
        let copied = tokio::io::copy(from, &mut to_guest).await;
        match copied.and(to_guest.shutdown().await) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(CutOff::Stalled(limits.stall)),
            // Whatever else ended the copy, the guest's answer says what it got.
            Ok(()) | Err(_) => Ok(()),
        }
    };
    let answer = frames::next::<FilesDone, _>(&mut from_guest, SMALL, limits.frame);
    tokio::pin!(answer);
    let early = tokio::select! {
        sent = send => { sent?; None }
        early = &mut answer => Some(early?),
    };
    let done = match early {
        Some(done) => done,
        None => {
            tokio::time::timeout(limits.stall, answer).await.map_err(|_| CutOff::Stalled(limits.stall))??
        }
    };
    Ok(done.unwrap_or(FilesDone::Failed { why: "the guest gave the copy up".to_owned() }))
}

/// Reads the guest's archive of a folder, and hands the daemon its entries.
pub(crate) async fn get(
    daemon: Stream,
    folder: String,
    bounds: Bounds,
    guests: Opener,
    limits: DoorLimits,
) -> Result<(), CutOff> {
    let (_, to_daemon) = tokio::io::split(daemon);
    let mut entries = Entries { to: to_daemon, left: bounds, kinds: HashMap::new(), remembered: 0 };
    let read = match open(&guests, &DoorOpens::GetFiles { folder }).await {
        Ok(guest) => {
            Archive { from: BufReader::new(guest), stall: limits.stall }.read_into(&mut entries).await
        }
        Err(why) => Err(ArchiveError::Bad(why)),
    };
    let last = match read {
        Ok(()) => FileEntry::End,
        Err(ArchiveError::Bad(why)) => FileEntry::Failed { why },
        Err(ArchiveError::DaemonGone) => return Ok(()),
    };
    drop(frame::write(&mut entries.to, &last, CHUNK_FRAME).await);
    drop(entries.to.shutdown().await);
    Ok(())
}

async fn open(guests: &Opener, head: &DoorOpens) -> Result<Stream, String> {
    let mut guest = guests.open().await.map_err(|error| error.to_string())?;
    frame::write(&mut guest, head, SMALL).await.map_err(|error| error.to_string())?;
    Ok(guest)
}

/// Why an archive was not read to its end.
enum ArchiveError {
    /// The archive is wrong, or larger than allowed.
    Bad(String),
    /// Nobody wants it any more.
    DaemonGone,
}

fn bad(why: impl Into<String>) -> ArchiveError {
    ArchiveError::Bad(why.into())
}

/// The guest's archive: ustar with the extensions for long names that GNU tar and POSIX have.
struct Archive<R> {
    from: BufReader<R>,
    stall: Duration,
}

/// What an archive says of the next entry ahead of it.
#[derive(Default)]
struct Ahead {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<R: AsyncRead + Unpin> Archive<R> {
    async fn read_into<W: AsyncWrite + Unpin>(
        &mut self,
        entries: &mut Entries<W>,
    ) -> Result<(), ArchiveError> {
        let mut ahead = Ahead::default();
        loop {
            let block = self.block().await?;
            if block.iter().all(|byte| *byte == 0) {
                return self.rest().await;
            }
            let header = checked(&block)?;
            let size = ahead.size.map_or_else(|| header.entry_size(), Ok).map_err(|e| bad(e.to_string()))?;
            match header.entry_type().as_byte() {
                LONG_NAME => ahead.path = Some(self.long(size).await?),
                LONG_LINK => ahead.target = Some(self.long(size).await?),
                EXTENSIONS => self.extensions(size, &mut ahead).await?,
                GLOBAL_EXTENSIONS => drop(self.metadata(size).await?),
                kind => {
                    let ahead = std::mem::take(&mut ahead);
                    self.entry(kind, &header, ahead, size, entries).await?;
                }
            }
        }
    }

    async fn entry<W: AsyncWrite + Unpin>(
        &mut self,
        kind: u8,
        header: &Header,
        ahead: Ahead,
        size: u64,
        entries: &mut Entries<W>,
    ) -> Result<(), ArchiveError> {
        let name = ahead.path.unwrap_or_else(|| header.path_bytes().into_owned());
        entries.count()?;
        let path = match entries.checked_path(&name) {
            // The folder itself.
            Ok(path) if path.is_empty() => return self.skip(size).await,
            Ok(path) => path,
            Err(why) => {
                entries.leave_out(&name, why).await?;
                return self.skip(size).await;
            }
        };
        match kind {
            FOLDER => {
                entries.say(Kind::Folder, path.clone(), FileEntry::Folder { path }).await?;
                self.skip(size).await
            }
            FILE | OLD_FILE | CONTIGUOUS_FILE => {
                let executable = header.mode().map_err(|e| bad(e.to_string()))? & 0o100 != 0;
                entries.reserve(size)?;
                entries.say(Kind::Leaf, path.clone(), FileEntry::File { path, executable, size }).await?;
                self.content(size, entries).await
            }
            SYMLINK => {
                let target = ahead.target.or_else(|| header.link_name_bytes().map(Into::into));
                match target.map(String::from_utf8) {
                    Some(Ok(target)) if target.len() <= MAX_PATH && !target.contains('\0') => {
                        entries.say(Kind::Leaf, path.clone(), FileEntry::Symlink { path, target }).await?;
                    }
                    Some(_) | None => entries.leave_out(&name, "its target is not text").await?,
                }
                self.skip(size).await
            }
            HARD_LINK | CHARACTER_DEVICE | BLOCK_DEVICE | FIFO => {
                entries.leave_out(&name, "it is neither file, folder nor symbolic link").await?;
                self.skip(size).await
            }
            other => Err(bad(format!("an entry of type {:#04x}, which is not read here", other))),
        }
    }

    async fn content<W: AsyncWrite + Unpin>(
        &mut self,
        size: u64,
        entries: &mut Entries<W>,
    ) -> Result<(), ArchiveError> {
        let mut left = size;
        while left > 0 {
            let mut chunk = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
            self.fill(&mut chunk).await?;
            left -= chunk.len() as u64;
            entries.send(&FileEntry::Content(chunk)).await?;
        }
        self.discard(padding(size)).await
    }

    async fn extensions(&mut self, size: u64, ahead: &mut Ahead) -> Result<(), ArchiveError> {
        let data = self.metadata(size).await?;
        for extension in PaxExtensions::new(&data) {
            let extension = extension.map_err(|e| bad(e.to_string()))?;
            let value = extension.value_bytes().to_vec();
            match extension.key_bytes() {
                b"path" => ahead.path = Some(value),
                b"linkpath" => ahead.target = Some(value),
                b"size" => {
                    let size = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
                    ahead.size = Some(size.ok_or_else(|| bad("a size that is no number"))?);
                }
                _other => {}
            }
        }
        Ok(())
    }

    async fn long(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut text = self.metadata(size).await?;
        if text.last() == Some(&0) {
            text.pop();
        }
        Ok(text)
    }

    async fn metadata(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > MAX_METADATA {
            return Err(bad(format!("metadata of {size} bytes where {MAX_METADATA} are allowed")));
        }
        let mut data = vec![0; usize::try_from(size).unwrap_or(0)];
        self.fill(&mut data).await?;
        self.discard(padding(size)).await?;
        Ok(data)
    }

    async fn block(&mut self) -> Result<[u8; BLOCK], ArchiveError> {
        let mut block = [0; BLOCK];
        self.fill(&mut block).await?;
        Ok(block)
    }

    async fn fill(&mut self, into: &mut [u8]) -> Result<(), ArchiveError> {
        match tokio::time::timeout(self.stall, self.from.read_exact(into)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(bad("the archive ends too early")),
            Err(_elapsed) => {
                Err(bad(format!("the archive did not come on for {} s", self.stall.as_secs_f32())))
            }
        }
    }

    async fn skip(&mut self, size: u64) -> Result<(), ArchiveError> {
        self.discard(size.checked_add(padding(size)).ok_or_else(|| bad("a size that is no size"))?).await
    }

    async fn discard(&mut self, mut left: u64) -> Result<(), ArchiveError> {
        let mut scratch = [0; BLOCK];
        while left > 0 {
            let step = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
            self.fill(scratch.get_mut(..step).unwrap_or_default()).await?;
            left -= step as u64;
        }
        Ok(())
    }

    /// After the end: the padding that writers add, so that the guest is not cut short.
    async fn rest(&mut self) -> Result<(), ArchiveError> {
        let rest = (&mut self.from).take(1 << 20);
        tokio::pin!(rest);
        let mut nowhere = tokio::io::sink();
        let drained = tokio::io::copy(&mut rest, &mut nowhere);
        // Whether it came or not, the archive is complete.
        drop(tokio::time::timeout(self.stall.min(REST), drained).await);
        Ok(())
    }
}

/// Bytes from the end of content to the next block.
fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64).saturating_sub(size)
}

/// A header whose checksum is right.
fn checked(block: &[u8; BLOCK]) -> Result<Header, ArchiveError> {
    let header = Header::from_byte_slice(block).clone();
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte }))
        .sum();
    if header.cksum().ok() == Some(sum) { Ok(header) } else { Err(bad("a header whose checksum is wrong")) }
}

/// What stands at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    Leaf,
}

/// The entries as the daemon gets them, and what is left of the bounds.
struct Entries<W> {
    to: W,
    left: Bounds,
    kinds: HashMap<String, Kind>,
    remembered: usize,
}

impl<W: AsyncWrite + Unpin> Entries<W> {
    fn count(&mut self) -> Result<(), ArchiveError> {
        self.left.entries =
            self.left.entries.checked_sub(1).ok_or_else(|| bad("there are more entries than allowed"))?;
        Ok(())
    }

    fn reserve(&mut self, size: u64) -> Result<(), ArchiveError> {
        self.left.bytes =
            self.left.bytes.checked_sub(size).ok_or_else(|| bad("there are more bytes than allowed"))?;
        Ok(())
    }

    /// The path, cleaned: relative, no `.` or `..`, not there yet, and under no file or link.
    fn checked_path(&self, name: &[u8]) -> Result<String, &'static str> {
        let name = std::str::from_utf8(name).map_err(|_| "its name is not UTF-8")?;
        if name.len() > MAX_PATH {
            return Err("its name is too long");
        }
        if name.starts_with('/') {
            return Err("its name is absolute");
        }
        if name.contains('\0') {
            return Err("its name holds a zero byte");
        }
        if name.split('/').count() > MAX_DEPTH {
            return Err("it lies too deep");
        }
        let mut path = String::with_capacity(name.len());
        for part in name.split('/').filter(|part| !part.is_empty() && *part != ".") {
            if part == ".." {
                return Err("its name leads out of the folder");
            }
            if part.len() > MAX_PART {
                return Err("a part of its name is too long");
            }
            if !path.is_empty() {
                if self.kinds.get(&path) == Some(&Kind::Leaf) {
                    return Err("it lies under something that is not a folder");
                }
                path.push('/');
            }
            path.push_str(part);
        }
        match self.kinds.get(&path) {
            Some(Kind::Leaf) => Err("it is there twice"),
            Some(Kind::Folder) | None => Ok(path),
        }
    }

    /// Passes an entry on, unless a folder stands where it would be.
    async fn say(&mut self, kind: Kind, path: String, entry: FileEntry) -> Result<(), ArchiveError> {
        if kind == Kind::Leaf && self.kinds.contains_key(&path) {
            return Err(bad("a file or link in place of a folder"));
        }
        let parents = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
        let parents: Vec<_> =
            parents.filter(|parent| !self.kinds.contains_key(*parent)).map(str::to_owned).collect();
        for parent in parents {
            self.remember(parent, Kind::Folder)?;
        }
        self.remember(path, kind)?;
        self.send(&entry).await
    }

    fn remember(&mut self, path: String, kind: Kind) -> Result<(), ArchiveError> {
        self.remembered += path.len();
        if self.remembered > MAX_REMEMBERED {
            return Err(bad("the names are too long, all together"));
        }
        self.kinds.insert(path, kind);
        Ok(())
    }

    async fn leave_out(&mut self, name: &[u8], why: &str) -> Result<(), ArchiveError> {
        let path = String::from_utf8_lossy(name).chars().take(200).flat_map(char::escape_default).collect();
        self.send(&FileEntry::LeftOut { path, why: why.to_owned() }).await
    }

    async fn send(&mut self, entry: &FileEntry) -> Result<(), ArchiveError> {
        frame::write(&mut self.to, entry, CHUNK_FRAME).await.map_err(|_| ArchiveError::DaemonGone)
    }
}
