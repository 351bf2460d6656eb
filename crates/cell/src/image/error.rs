//! What can go wrong with images, by whose fault it is: the image's, the source's, the host's or the caller's.

use std::io;
use std::path::PathBuf;

use super::digest::Digest;

/// Why an image could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A layer holds something that is never unpacked.
    #[error("layer {layer} is refused: {source}")]
    Layer {
        /// Which layer, counted from 1, or the name of a package.
        layer: String,
        /// What was found in it.
        #[source]
        source: LayerError,
    },
    /// A document of the image (index, manifest, configuration) is not what the OCI specification says.
    #[error("{document} is refused: {why}")]
    Document {
        /// Which document.
        document: String,
        /// What is wrong with it.
        why: String,
    },
    /// Bytes are not those that the digest names.
    #[error("{what} has digest `{found}`, but `{expected}` was asked for: it was damaged or exchanged")]
    Digest {
        /// What was read.
        what: String,
        /// The digest that names it.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// A text that is no image reference.
    #[error("`{text}` is not an image reference: {why}")]
    Reference {
        /// What was given, shortened.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A path that holds no image in a form that can be imported.
    #[error("`{}` can't be imported: {why}", path.display())]
    Import {
        /// The folder or archive.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The name is one that Lazaret builds itself.
    #[error("`{0}` is a reserved name: choose another, or build it with `lazaret image build {0}`")]
    Reserved(String),
    /// The name is not one that Lazaret builds.
    #[error(
        "`{0}` can't be built here: only base, claude-code, codex, npm:NAME@VERSION and \
         pypi:NAME==VERSION can; others are pulled or imported"
    )]
    NotBuildable(String),
    /// A package, or what it needs, can't be had.
    #[error("`{package}`: {why}")]
    Package {
        /// The package that was asked for.
        package: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// No image of that name is in the store.
    #[error("no image `{name}` is here: get it with `{hint}`")]
    Missing {
        /// The name asked for.
        name: String,
        /// The command that brings it.
        hint: String,
    },
    /// A registry or package source did not answer as it should.
    #[error("`{url}`: {why}")]
    Network {
        /// What was asked for, without credentials.
        url: String,
        /// What came instead.
        why: String,
    },
    /// The registry wants other credentials.
    #[error(
        "`{registry}` refuses access to `{repository}`: {why}; log in with `docker login {registry}` or check the name"
    )]
    Denied {
        /// Host and port of the registry.
        registry: String,
        /// The repository asked for.
        repository: String,
        /// What credentials were tried.
        why: String,
    },
    /// A program of the host is missing or failed.
    #[error("`{tool}` failed: {why}")]
    Tool {
        /// The program.
        tool: &'static str,
        /// What it said, and what to do.
        why: String,
    },
    /// The host's file system said no.
    #[error("{what} `{}`: {source}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A task of the runtime was cancelled or panicked.
    #[error("the work on an image was cut short: {0}")]
    CutShort(String),
}

impl ImageError {
    /// An error of the file system, for `map_err`.
    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    /// A layer's error, for `map_err`.
    pub(super) fn layer(layer: impl std::fmt::Display) -> impl FnOnce(LayerError) -> Self {
        let layer = layer.to_string();
        move |source| Self::Layer { layer, source }
    }
}

/// What is wrong with a layer.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A name that would leave the image, or that no file can have.
    #[error("path `{path}` {why}")]
    Path {
        /// The path, with unprintable bytes escaped and shortened.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A hard link to nothing.
    #[error("hard link `{path}` points to `{target}`, which {why}")]
    HardLink {
        /// Where the link is.
        path: String,
        /// What it names.
        target: String,
        /// What is wrong with that.
        why: &'static str,
    },
    /// Too much of something.
    #[error("more than {max} {what}")]
    Limit {
        /// What there is too much of, with its unit.
        what: &'static str,
        /// The most that is accepted.
        max: u64,
    },
    /// Compressed data that unpacks to far more than layers do.
    #[error("it unpacks to more than {max} times its size: a decompression bomb")]
    Ratio {
        /// The largest ratio that is accepted.
        max: u64,
    },
    /// Bytes that are no tar archive.
    #[error("it is not a sound tar archive: {why} at byte {at}")]
    Tar {
        /// Position in the unpacked archive.
        at: u64,
        /// What is wrong there.
        why: &'static str,
    },
    /// Bytes that are no zip archive, or no wheel.
    #[error("it is not a sound wheel: {why}")]
    Zip {
        /// What is wrong with it.
        why: &'static str,
    },
    /// A command that a package declares, and that can't be made.
    #[error("one of its commands can't be made: {0}")]
    Command(String),
    /// A kind of entry that tar archives of images don't have.
    #[error("path `{path}` is of the unknown kind {kind:#04x}")]
    Kind {
        /// The path.
        path: String,
        /// The type flag of its header.
        kind: u8,
    },
    /// The source could not be read or decompressed.
    #[error("it can't be read: {0}")]
    Read(#[from] io::Error),
}

/// A path of an image for people: unprintable bytes escaped, cut at 120 characters.
pub(super) fn shown(path: &[u8]) -> String {
    let text = path.escape_ascii().to_string();
    match text.char_indices().nth(120) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    }
}
