//! How large and how many-parted an image may be. All are far above real images and far below what hurts a host.

/// Limits on one image. [`ImageLimits::default`] is what the product uses; tests use smaller ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct ImageLimits {
    /// Entries of all layers together, folders that are only implied included.
    pub(super) entries: u64,
    /// Bytes of all paths and link targets together.
    pub(super) path_bytes: u64,
    /// Bytes of one unpacked file.
    pub(super) file: u64,
    /// Bytes of all unpacked layers together, and of all files with their holes filled.
    pub(super) total: u64,
    /// Unpacked bytes per compressed byte, counted after the first [`RATIO_GRACE`] bytes.
    pub(super) ratio: u64,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self { entries: 500_000, path_bytes: 64 << 20, file: 8 << 30, total: 16 << 30, ratio: 200 }
    }
}

/// Most bytes in a path of an image or a link's target (Linux's PATH_MAX less its NUL).
pub(super) const MAX_PATH: usize = 4095;
/// Most bytes in one component of a path (Linux's NAME_MAX).
pub(super) const MAX_COMPONENT: usize = 255;
/// Most components in a path.
pub(super) const MAX_DEPTH: usize = 128;
/// Most symbolic links followed for one path, as Linux does.
pub(super) const MAX_LINKS_FOLLOWED: usize = 40;
/// Most bytes in the extended headers (pax, GNU long names) of one entry.
pub(super) const MAX_EXTENDED: u64 = 1 << 20;
/// Most pieces in the map of a sparse file.
pub(super) const MAX_SPARSE_PIECES: usize = 65_536;
/// Unpacked bytes that are not yet held against the ratio.
pub(super) const RATIO_GRACE: u64 = 64 << 20;
/// Most layers in an image. Docker's own limit is 127.
pub(super) const MAX_LAYERS: usize = 256;
/// Most bytes in an index, a manifest or a configuration, as registries limit them.
pub(super) const MAX_DOCUMENT: u64 = 4 << 20;
/// Most bytes in one compressed layer.
pub(super) const MAX_BLOB: u64 = 8 << 30;
