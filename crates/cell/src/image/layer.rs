//! Lays one layer over the tree: decompresses it, reads its entries, and keeps what an image may hold.

use std::fs::File;
use std::io::{self, BufReader, Read};

use serde::{Deserialize, Serialize};

use super::error::{LayerError, shown};
use super::limits::RATIO_GRACE;
use super::spool::Spool;
use super::tarball::{Member, MemberKind, TarReader};
use super::tree::{Meta, Tree, split};

/// What was left out of an image, or changed, because no cell could use it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Device nodes, named pipes: not made. A cell has its own /dev.
    pub special_files: u64,
    /// Files whose setuid or setgid bit was taken off: processes of a cell can't gain rights.
    pub privileged_bits: u64,
    /// Files whose extended attributes, such as capabilities, were dropped.
    pub attributes: u64,
    /// Files whose owner or group is above 65535 and became `nobody`.
    pub owners: u64,
}

/// What differs between layers of OCI images and the packages that built-in images are made of.
pub(super) struct Rules<'a> {
    /// Whether `.wh.` names are whiteouts, as in OCI layers.
    pub(super) whiteouts: bool,
    /// Whether a folder leaves a symbolic link to a folder in its place, as Debian's packages expect.
    pub(super) keep_links: bool,
    /// Whether there is nothing but files and folders, which become root's and can be read by all: a package's owner and
    /// modes are those of whoever packed it.
    pub(super) plain: bool,
    /// The place of a path in the image; `None` leaves it out. The path has no leading `/` or `./`.
    pub(super) place: &'a dyn Fn(&[u8]) -> Option<Vec<u8>>,
}

impl Rules<'_> {
    /// The rules of OCI layers.
    pub(super) const OCI: Rules<'static> =
        Rules { whiteouts: true, keep_links: false, plain: false, place: &|path| Some(path.to_vec()) };

    /// The rules of packages.
    pub(super) const PACKAGE: Rules<'static> = Rules { whiteouts: false, keep_links: true, ..Self::OCI };
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// What the first bytes of a stream say.
    pub(super) fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// The tree and the contents of its files, while layers are added.
pub(super) struct Assembly {
    /// The files.
    pub(super) tree: Tree,
    /// Their contents.
    pub(super) spool: Spool,
    /// What was left out so far.
    pub(super) left_out: LeftOut,
    members: u64,
    unpacked: u64,
    files: u64,
}

impl Assembly {
    /// Nothing yet.
    pub(super) fn new(tree: Tree, spool: Spool) -> Self {
        Self { tree, spool, left_out: LeftOut::default(), members: 0, unpacked: 0, files: 0 }
    }

    /// Lays the archive of `base` down.
    pub(super) fn add_base(&mut self, base: File) -> Result<(), LayerError> {
        let packed = base.metadata()?.len();
        let (_, archive) = unpack(base, packed, self.tree.limits().ratio)?;
        self.add_layer(archive, &Rules { whiteouts: false, ..Rules::OCI })
    }

    /// Lays the archive that `source` unpacks to over what is there, and reads `source` to its end.
    pub(super) fn add_layer(&mut self, source: impl Read, rules: &Rules<'_>) -> Result<(), LayerError> {
        self.tree.next_layer();
        let budget = self.tree.limits().total.saturating_sub(self.unpacked);
        let mut archive = TarReader::new(Counted { inner: source, count: 0, most: budget });
        while let Some(member) = archive.next_member().map_err(unwrap_limit)? {
            self.members = self.members.saturating_add(1);
            let most = self.tree.limits().entries;
            if self.members > most {
                return Err(LayerError::Limit { what: "entries in the image", max: most });
            }
            self.add(&member, &mut archive, rules).map_err(unwrap_limit)?;
        }
        let mut rest = archive.into_inner();
        io::copy(&mut rest, &mut io::sink()).map_err(LayerError::Read).map_err(unwrap_limit)?;
        self.unpacked = self.unpacked.saturating_add(rest.count);
        Ok(())
    }

    fn add<R: Read>(
        &mut self,
        member: &Member,
        archive: &mut TarReader<R>,
        rules: &Rules<'_>,
    ) -> Result<(), LayerError> {
        let components = split(&member.path)?;
        if rules.whiteouts && self.whiteout(&components)? {
            return Ok(());
        }
        let Some(path) = (rules.place)(&components.join(&b'/')) else { return Ok(()) };
        if rules.plain {
            return self.add_plain(&path, member, archive);
        }
        match &member.kind {
            MemberKind::Folder => {
                let meta = self.meta(member, 0o1777);
                self.tree.put_folder(&path, meta, rules.keep_links)
            }
            MemberKind::File => {
                let meta = self.meta(member, 0o777);
                self.add_file(&path, meta, member.size, archive)
            }
            MemberKind::Symlink(target) => {
                let meta = self.meta(member, 0o777);
                self.tree.put_symlink(&path, meta, target)
            }
            MemberKind::HardLink(target) => {
                let place = (rules.place)(&split(target)?.join(&b'/')).unwrap_or_default();
                self.tree.put_hard_link(&path, &place)
            }
            MemberKind::Device | MemberKind::Fifo => {
                self.left_out.special_files = self.left_out.special_files.saturating_add(1);
                self.tree.remove(&path)
            }
        }
    }

    fn add_plain<R: Read>(
        &mut self,
        path: &[u8],
        member: &Member,
        archive: &mut TarReader<R>,
    ) -> Result<(), LayerError> {
        let all = Meta { mtime: member.mtime, ..Meta::FOLDER };
        match &member.kind {
            MemberKind::Folder => self.tree.put_folder(path, all, false),
            MemberKind::File => {
                let meta = if member.mode & 0o111 == 0 { Meta { mode: 0o644, ..all } } else { all };
                self.add_file(path, meta, member.size, archive)
            }
            MemberKind::Symlink(_) | MemberKind::HardLink(_) | MemberKind::Device | MemberKind::Fifo => {
                let path = shown(&member.path);
                Err(LayerError::Path { path, why: "is a link or a device, and packages have none" })
            }
        }
    }

    fn add_file<R: Read>(
        &mut self,
        path: &[u8],
        meta: Meta,
        size: u64,
        archive: &mut TarReader<R>,
    ) -> Result<(), LayerError> {
        self.add_contents(path, meta, size, |sink| archive.contents(sink))
    }

    /// Puts a file of `size` bytes at `path`; `fill` hands its parts to the sink that it is given, each with its offset.
    pub(super) fn add_contents(
        &mut self,
        path: &[u8],
        meta: Meta,
        size: u64,
        fill: impl FnOnce(&mut dyn FnMut(u64, &[u8]) -> io::Result<()>) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        let limits = self.tree.limits();
        if size > limits.file {
            return Err(LayerError::Limit { what: "bytes in one file", max: limits.file });
        }
        self.files = self.files.saturating_add(size);
        if self.files > limits.total {
            return Err(LayerError::Limit { what: "bytes in all files together", max: limits.total });
        }
        let piece = self.spool.set_aside(size)?;
        let spool = &self.spool;
        fill(&mut |offset, bytes| spool.write(piece, offset, bytes))?;
        self.tree.put_file(path, meta, piece)
    }

    /// Carries out a whiteout; whether `components` was one.
    fn whiteout(&mut self, components: &[&[u8]]) -> Result<bool, LayerError> {
        let Some((last, parents)) = components.split_last() else { return Ok(false) };
        let Some(hidden) = last.strip_prefix(b".wh.") else { return Ok(false) };
        if hidden == b".wh..opq" {
            self.tree.make_opaque(&parents.join(&b'/'))?;
            return Ok(true);
        }
        // Other names that start so are aufs's own bookkeeping.
        if hidden.starts_with(b".wh.") {
            return Ok(true);
        }
        if matches!(hidden, [] | [b'.'] | [b'.', b'.']) {
            let path = shown(&components.join(&b'/'));
            return Err(LayerError::Path { path, why: "is a whiteout of no file" });
        }
        let mut path = parents.to_vec();
        path.push(hidden);
        self.tree.white_out(&path.join(&b'/'))?;
        Ok(true)
    }

    fn meta(&mut self, member: &Member, bits: u32) -> Meta {
        const NOBODY: u16 = 65534;
        let out = &mut self.left_out;
        let owner = |id: u64| u16::try_from(id).unwrap_or(NOBODY);
        if member.uid > u64::from(u16::MAX) || member.gid > u64::from(u16::MAX) {
            out.owners = out.owners.saturating_add(1);
        }
        if member.mode & 0o6000 != 0 {
            out.privileged_bits = out.privileged_bits.saturating_add(1);
        }
        if member.xattrs {
            out.attributes = out.attributes.saturating_add(1);
        }
        let mode = u16::try_from(member.mode & bits).unwrap_or(0);
        Meta { mode, uid: owner(member.uid), gid: owner(member.gid), mtime: member.mtime }
    }
}

/// Unpacks a layer that is compressed as its first bytes say, and refuses bombs.
pub(super) fn unpack<'a>(
    source: impl Read + 'a,
    packed: u64,
    ratio: u64,
) -> Result<(Compression, Box<dyn Read + 'a>), LayerError> {
    /// The largest window of a Zstandard frame, as a power of two: what `zstd` itself accepts by default.
    const ZSTD_WINDOW: u32 = 27;
    let mut source = BufReader::with_capacity(256 * 1024, source);
    let start = io::BufRead::fill_buf(&mut source)?;
    let compression = Compression::of(start);
    let plain: Box<dyn Read + 'a> = match compression {
        Compression::None => return Ok((compression, Box::new(source))),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
    };
    let most = packed.saturating_mul(ratio).saturating_add(RATIO_GRACE);
    let bounded = Bomb { inner: plain, left: most, ratio };
    Ok((compression, Box::new(BufReader::with_capacity(256 * 1024, bounded))))
}

/// An error of ours on its way through `io::Read`.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Carried(LayerError);

fn unwrap_limit(error: LayerError) -> LayerError {
    match error {
        LayerError::Read(error) => match error.downcast::<Carried>() {
            Ok(carried) => carried.0,
            Err(error) => LayerError::Read(error),
        },
        other @ (LayerError::Path { .. }
        | LayerError::HardLink { .. }
        | LayerError::Limit { .. }
        | LayerError::Ratio { .. }
        | LayerError::Tar { .. }
        | LayerError::Zip { .. }
        | LayerError::Command(_)
        | LayerError::Kind { .. }) => other,
    }
}

/// Fails where a stream unpacks to more than its size allows.
struct Bomb<R> {
    inner: R,
    left: u64,
    ratio: u64,
}

impl<R: Read> Read for Bomb<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(Carried(LayerError::Ratio { max: self.ratio }))),
        }
        Ok(n)
    }
}

/// Counts bytes and fails after the most that are accepted.
struct Counted<R> {
    inner: R,
    count: u64,
    most: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count = self.count.saturating_add(n as u64);
        if self.count > self.most {
            let limit =
                LayerError::Limit { what: "bytes in the unpacked layers still to come", max: self.most };
            return Err(io::Error::other(Carried(limit)));
        }
        Ok(n)
    }
}
