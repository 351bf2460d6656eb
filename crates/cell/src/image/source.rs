//! Images in files: an OCI layout as a folder or an archive, and what `docker save` writes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::digest::Digest;
use super::error::{ImageError, shown};
use super::layer::{Compression, unpack};
use super::limits::{ImageLimits, MAX_DOCUMENT};
use super::manifest::{self, Descriptor, Document, Manifest};
use super::store::{ImageConfig, Work};
use super::tarball::{MemberKind, TarReader};

/// Most files in an archive that holds an image.
const MAX_MEMBERS: usize = 20_000;
/// Most indexes between an archive's own and a manifest.
const MAX_NESTING: usize = 4;

/// An image whose files are at hand.
pub(super) struct LocalImage {
    /// Digest of its manifest or, where it has none, its configuration.
    pub(super) digest: Digest,
    /// The name that it has in its archive.
    pub(super) name: Option<String>,
    /// How it is run.
    pub(super) config: ImageConfig,
    /// Its layers, lowest first.
    pub(super) layers: Vec<LocalLayer>,
    files: Files,
}

/// A layer in a file.
pub(super) struct LocalLayer {
    path: String,
    /// Digest and bytes as it is stored, where a manifest gives them.
    pub(super) packed: Option<(Digest, u64)>,
    /// Digest when it is unpacked.
    pub(super) diff_id: Digest,
}

impl LocalImage {
    /// Opens a layer; also its bytes as stored.
    pub(super) fn open(&self, layer: &LocalLayer) -> Result<(impl Read + use<>, u64), ImageError> {
        self.files.open(&layer.path)
    }

    /// The image of a manifest whose blobs lie in `folder` as in an OCI layout.
    pub(super) fn of_manifest(
        folder: &Path,
        manifest: &Manifest,
        digest: Digest,
    ) -> Result<Self, ImageError> {
        let files = Files { path: folder.to_owned(), archive: None };
        from_manifest(files, manifest, digest, None)
    }

    /// Finds the image in a folder or archive. Where there are several, `wanted` names one.
    pub(super) fn find(
        path: &Path,
        wanted: Option<&str>,
        work: &Work,
        limits: ImageLimits,
    ) -> Result<Self, ImageError> {
        let files = Files::of(path, work, limits)?;
        if files.has("index.json") {
            return from_layout(files, wanted);
        }
        if files.has("manifest.json") {
            return from_docker(files, wanted);
        }
        let why = "it is no OCI layout (no `index.json`) and no `docker save` archive (no `manifest.json`)";
        Err(ImageError::Import { path: path.to_owned(), why: why.to_owned() })
    }
}

fn from_layout(files: Files, wanted: Option<&str>) -> Result<LocalImage, ImageError> {
    let mut document = manifest::parse(&files.document("index.json")?)?;
    let mut name = None;
    let mut digest = None;
    for _ in 0..MAX_NESTING {
        let manifests = match document {
            Document::Manifest(found) => {
                let digest = digest.ok_or_else(|| files.refuse("its `index.json` is no index"))?;
                return from_manifest(files, &found, digest, name);
            }
            Document::Index(manifests) => manifests,
        };
        // Only the outermost index names images; inner ones list the platforms of one.
        let next = match digest {
            None => one_of(&files, manifests, wanted)?,
            Some(_) => manifest::for_platform(manifests)?,
        };
        name = name.or_else(|| next.reference_name().map(str::to_owned));
        let bytes = files.document(&blob(next.digest))?;
        next.digest.check(&bytes, "a manifest")?;
        digest = Some(next.digest);
        document = manifest::parse(&bytes)?;
    }
    Err(files.refuse("its indexes are nested too deeply"))
}

/// The one image that is meant by `wanted`, or the only one.
fn one_of(
    files: &Files,
    mut manifests: Vec<Descriptor>,
    wanted: Option<&str>,
) -> Result<Descriptor, ImageError> {
    if let Some(at) = manifests.iter().position(|m| wanted.is_some() && m.reference_name() == wanted) {
        return Ok(manifests.swap_remove(at));
    }
    let names: Vec<&str> = manifests.iter().filter_map(Descriptor::reference_name).take(20).collect();
    if names.len() > 1 {
        let why = format!("it holds several images: name one of {}", names.join(", "));
        return Err(files.refuse(why));
    }
    manifest::for_platform(manifests)
}

fn from_manifest(
    files: Files,
    manifest: &Manifest,
    digest: Digest,
    name: Option<String>,
) -> Result<LocalImage, ImageError> {
    let bytes = files.document(&blob(manifest.config.digest))?;
    manifest.config.digest.check(&bytes, "the image's configuration")?;
    let (config, diff_ids) = manifest::parse_config(&bytes, manifest.layers.len())?;
    let layers = manifest
        .layers
        .iter()
        .zip(diff_ids)
        .map(|(layer, diff_id)| LocalLayer {
            path: blob(layer.digest),
            packed: Some((layer.digest, layer.size)),
            diff_id,
        })
        .collect();
    Ok(LocalImage { digest, name, config, layers, files })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn from_docker(files: Files, wanted: Option<&str>) -> Result<LocalImage, ImageError> {
    let bytes = files.document("manifest.json")?;
    let mut saved: Vec<Saved> =
        serde_json::from_slice(&bytes).map_err(|error| files.refuse(error.to_string()))?;
    let is_wanted = |one: &Saved| one.repo_tags.iter().flatten().any(|tag| Some(tag.as_str()) == wanted);
    let at = match saved.iter().position(is_wanted) {
        Some(at) => at,
        None if saved.len() == 1 => 0,
        None => {
            let names: Vec<&str> = saved
                .iter()
                .flat_map(|one| one.repo_tags.iter().flatten())
                .take(20)
                .map(String::as_str)
                .collect();
            return Err(files.refuse(format!("it holds several images: name one of {}", names.join(", "))));
        }
    };
    let one = saved.swap_remove(at);
    let bytes = files.document(&one.config)?;
    // The configuration is named by its digest, `HEX.json` or `blobs/sha256/HEX`; all else hangs on it.
    let hex = one.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    let digest: Digest = format!("sha256:{hex}")
        .parse()
        .map_err(|_| files.refuse("its configuration is not named by a digest"))?;
    digest.check(&bytes, "the image's configuration")?;
    let (config, diff_ids) = manifest::parse_config(&bytes, one.layers.len())?;
    let layers = one
        .layers
        .into_iter()
        .zip(diff_ids)
        .map(|(path, diff_id)| LocalLayer { path, packed: None, diff_id })
        .collect();
    let name = one.repo_tags.and_then(|tags| tags.into_iter().next());
    Ok(LocalImage { digest, name, config, layers, files })
}

/// Where a blob is in an OCI layout.
pub(super) fn blob(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The files of a layout: a folder, or the members of an archive and where they lie in it.
struct Files {
    path: PathBuf,
    archive: Option<HashMap<String, Member>>,
}

enum Member {
    File { at: u64, len: u64 },
    Link(String),
}

impl Files {
    fn of(path: &Path, work: &Work, limits: ImageLimits) -> Result<Self, ImageError> {
        let meta = std::fs::metadata(path).map_err(ImageError::io("look at", path))?;
        if meta.is_dir() {
            return Ok(Self { path: path.to_owned(), archive: None });
        }
        let mut start = [0; 4];
        let mut file = open_file(path).map_err(ImageError::io("open", path))?;
        let n = file.read(&mut start).map_err(ImageError::io("read", path))?;
        file.rewind().map_err(ImageError::io("read", path))?;
        if Compression::of(start.get(..n).unwrap_or_default()) == Compression::None {
            return Self::index(path, file);
        }
        let plain = work.path().join("archive.tar");
        let whole = unpack(file, meta.len(), limits.ratio).and_then(|(_, tar)| {
            let copied = io::copy(&mut tar.take(limits.total), &mut File::create_new(&plain)?)?;
            Ok(copied)
        });
        whole.map_err(|error| ImageError::Import { path: path.to_owned(), why: error.to_string() })?;
        let file = open_file(&plain).map_err(ImageError::io("open", &plain))?;
        Self::index(&plain, file)
    }

    fn index(path: &Path, file: File) -> Result<Self, ImageError> {
        let refuse = |why: String| ImageError::Import { path: path.to_owned(), why };
        let mut reader = TarReader::new(BufReader::with_capacity(1 << 20, file));
        let mut members = HashMap::new();
        while let Some(member) = reader.next_member().map_err(|error| refuse(error.to_string()))? {
            if members.len() >= MAX_MEMBERS {
                return Err(refuse(format!("it has more than {MAX_MEMBERS} members")));
            }
            let Ok(name) = String::from_utf8(member.path.clone()) else {
                return Err(refuse(format!("a member's name, `{}`, is no text", shown(&member.path))));
            };
            let name = name.trim_start_matches("./").to_owned();
            let entry = match member.kind {
                MemberKind::File => Member::File { at: reader.position(), len: member.size },
                MemberKind::Symlink(target) | MemberKind::HardLink(target) => {
                    Member::Link(String::from_utf8_lossy(&target).into_owned())
                }
                MemberKind::Folder | MemberKind::Device | MemberKind::Fifo => continue,
            };
            if members.insert(name.clone(), entry).is_some() {
                return Err(refuse(format!("the member `{name}` is in it twice")));
            }
        }
        Ok(Self { path: path.to_owned(), archive: Some(members) })
    }

    fn refuse(&self, why: impl Into<String>) -> ImageError {
        ImageError::Import { path: self.path.clone(), why: why.into() }
    }

    fn has(&self, name: &str) -> bool {
        match &self.archive {
            Some(members) => members.contains_key(name),
            None => self.path.join(name).is_file(),
        }
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let (mut file, len) = self.open(name)?;
        if len > MAX_DOCUMENT {
            return Err(self.refuse(format!("`{name}` has more than {MAX_DOCUMENT} bytes")));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(ImageError::io("read", &self.path))?;
        Ok(bytes)
    }

    /// Opens a file of the layout by its name there, which is never followed out of it.
    fn open(&self, name: &str) -> Result<(io::Take<File>, u64), ImageError> {
        let sound = !name.split('/').any(|part| matches!(part, "" | "." | ".."));
        if !sound {
            return Err(self.refuse(format!("`{}` is no name of a file in it", shown(name.as_bytes()))));
        }
        let Some(members) = &self.archive else {
            let path = self.path.join(name);
            let file = open_file(&path).map_err(ImageError::io("open", &path))?;
            let len = file.metadata().map_err(ImageError::io("look at", &path))?.len();
            return Ok((file.take(len), len));
        };
        let missing = || self.refuse(format!("`{}` is not in it", shown(name.as_bytes())));
        let (at, len) = match members.get(name).ok_or_else(missing)? {
            Member::File { at, len } => (*at, *len),
            // Older Docker versions store a layer that several images share once, and link to it: `../ID/layer.tar`.
            Member::Link(target) => match members.get(target.trim_start_matches("../")) {
                Some(Member::File { at, len }) => (*at, *len),
                Some(Member::Link(_)) | None => return Err(missing()),
            },
        };
        let mut file = open_file(&self.path).map_err(ImageError::io("open", &self.path))?;
        file.seek(SeekFrom::Start(at)).map_err(ImageError::io("read", &self.path))?;
        Ok((file.take(len), len))
    }
}

/// Opens a regular file; a pipe or device in its place does not hold us up, it is refused.
fn open_file(path: &Path) -> io::Result<File> {
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
}
