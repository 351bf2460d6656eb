//! The images on this host: one file system per digest, and an index of names. Several processes may use the store at once;
//! what one that died left behind is cleared away when the next one opens it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use dial::Dialer;
use domain::ImageName;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::error::ImageError;
use super::layer::{Assembly, LeftOut};
use super::limits::ImageLimits;
use super::spool::Spool;
use super::tree::Tree;
use super::{finish, squash};

/// What changes when images are put together in another way, so that those of earlier versions are not mistaken for new.
const FORMAT: u32 = 2;

/// How an image wants to be run. Nothing in it configures the host; all of it is for processes inside a cell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Environment, `NAME=value`.
    pub env: Vec<String>,
    /// Working folder; empty for none.
    pub cwd: String,
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program where there is no entry point.
    pub cmd: Vec<String>,
}

/// A package that an image was built of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePackage {
    /// Where it lies, such as `node_modules/a`.
    pub place: String,
    /// Its name at the registry.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The digest that its archive has.
    pub integrity: String,
}

/// What an image to enter is.
pub(super) struct Entry<'a> {
    /// Its name.
    pub(super) name: &'a ImageName,
    /// Its digest.
    pub(super) digest: Digest,
    /// How it wants to be run.
    pub(super) config: ImageConfig,
    /// The packages that it was built of.
    pub(super) packages: Vec<ImagePackage>,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The name it is known by.
    pub name: ImageName,
    /// Digest of the manifest (of the configuration, for a `docker save` archive; of the recipe, for those built here).
    pub digest: Digest,
    /// The read-only squashfs file.
    pub path: PathBuf,
    /// Bytes in that file.
    pub size: u64,
    /// When it was put into the store, in seconds since 1970.
    pub created: u64,
    /// How it wants to be run.
    pub config: ImageConfig,
    /// What was left out of it.
    pub left_out: LeftOut,
    /// The packages of npm or PyPI that it was built of.
    pub packages: Vec<ImagePackage>,
}

/// What the index keeps of an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    name: ImageName,
    digest: Digest,
    size: u64,
    created: u64,
    config: ImageConfig,
    left_out: LeftOut,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    packages: Vec<ImagePackage>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    format: u32,
    images: Vec<Record>,
}

/// The store. Clones share it.
#[derive(Debug, Clone)]
pub struct ImageStore {
    root: Arc<PathBuf>,
    pub(super) limits: ImageLimits,
    /// The way to registries.
    pub(super) dialer: Dialer,
}

impl ImageStore {
    /// Opens the store under Lazaret's data folder `data`, makes it where it is missing, and clears away what broken-off
    /// imports left. Registries are asked where the dialer goes.
    pub fn open(data: &Path, dialer: Dialer) -> Result<Self, ImageError> {
        let root = data.join("images");
        for folder in [root.clone(), root.join("work"), root.join("locks")] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(ImageError::io("create", &folder))?;
        }
        let store = Self { root: Arc::new(root), limits: ImageLimits::default(), dialer };
        let _locked = store.lock_index()?;
        store.clear_work()?;
        store.clear_orphans()?;
        Ok(store)
    }

    /// All images, by name.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let mut images: Vec<Image> =
            self.read_index()?.images.into_iter().map(|record| self.image(record)).collect();
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

    /// The image of this name. A reference is found however it was written (`alpine`, `docker.io/library/alpine:latest`),
    /// and by its digest (`name@sha256:…`, `sha256:…`).
    pub fn resolve(&self, name: &ImageName) -> Result<Image, ImageError> {
        let wanted = super::reference::canonical(name);
        let digest = super::reference::digest_in(name);
        let found = self.read_index()?.images.into_iter().find(|record| {
            record.name == *name
                || Some(record.digest) == digest
                || (wanted.is_some() && super::reference::canonical(&record.name) == wanted)
        });
        let hint = if name.is_reserved() { "build" } else { "pull" };
        let missing =
            || ImageError::Missing { name: name.to_string(), hint: format!("lazaret image {hint} {name}") };
        let image = self.image(found.ok_or_else(missing)?);
        if image.path.is_file() { Ok(image) } else { Err(missing()) }
    }

    /// Forgets an image, and deletes its file if no other name needs it. Cells that run from it go on; whether to remove an
    /// image in use is for the caller to decide, by [`Image::digest`].
    pub fn remove(&self, name: &ImageName) -> Result<Image, ImageError> {
        let image = self.resolve(name)?;
        let _locked = self.lock_index()?;
        let mut index = self.read_index()?;
        index.images.retain(|record| record.name != image.name);
        let needed = index.images.iter().any(|record| record.digest == image.digest);
        self.write_index(&index)?;
        if !needed {
            for path in [self.file_of(image.digest), self.layer_of(image.digest)] {
                remove_if_there(&path)?;
            }
        }
        Ok(image)
    }

    /// The archive that other images are built on, kept for `base`.
    pub(super) fn layer_of(&self, digest: Digest) -> PathBuf {
        self.root.join(format!("{}.{FORMAT}.tar.zst", digest.hex()))
    }

    /// A private folder for one piece of work.
    pub(super) fn begin(&self) -> Result<Work, ImageError> {
        let _locked = self.lock_index()?;
        let parent = self.root.join("work");
        let folder = tempfile::Builder::new()
            .prefix("")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .map_err(ImageError::io("create a folder in", &parent))?;
        let path = folder.path().join("lock");
        let lock = lock_file(&path)?;
        lock.try_lock().map_err(|error| ImageError::Io { what: "lock", path, source: error.into() })?;
        Ok(Work { folder, _lock: lock })
    }

    /// Waits until nobody else makes the image `digest`. Blocks the thread.
    pub(super) fn lock_digest(&self, digest: Digest) -> Result<File, ImageError> {
        let path = self.root.join("locks").join(digest.hex());
        let file = lock_file(&path)?;
        file.lock().map_err(ImageError::io("lock", path))?;
        Ok(file)
    }

    /// An empty assembly whose contents lie in `work`.
    pub(super) fn assembly(&self, work: &Work) -> Result<Assembly, ImageError> {
        let spool = Spool::new(work.path()).map_err(ImageError::io("create a file in", work.path()))?;
        Ok(Assembly::new(Tree::new(self.limits), spool))
    }

    /// Gives `name` to the image `digest`, and to it `config`, if its file is already here.
    pub(super) fn reuse(
        &self,
        name: &ImageName,
        digest: Digest,
        config: &ImageConfig,
    ) -> Result<Option<Image>, ImageError> {
        self.give_name(name, digest, Some(config))
    }

    /// Gives `name` to the image `digest` if it is already here.
    pub(super) fn rename(&self, name: &ImageName, digest: Digest) -> Result<Option<Image>, ImageError> {
        self.give_name(name, digest, None)
    }

    fn give_name(
        &self,
        name: &ImageName,
        digest: Digest,
        config: Option<&ImageConfig>,
    ) -> Result<Option<Image>, ImageError> {
        let _locked = self.lock_index()?;
        let index = self.read_index()?;
        let Some(there) = index.images.iter().find(|record| record.digest == digest).cloned() else {
            return Ok(None);
        };
        if !self.file_of(digest).is_file() {
            return Ok(None);
        }
        let config = config.cloned().unwrap_or_else(|| there.config.clone());
        self.enter(index, Record { name: name.clone(), config, ..there }).map(Some)
    }

    /// Finishes an assembly, writes its file system, and enters it. `keep_layer` keeps an archive to build on.
    pub(super) fn commit(
        &self,
        work: &Work,
        mut assembly: Assembly,
        entry: Entry<'_>,
        keep_layer: bool,
    ) -> Result<Image, ImageError> {
        finish::finish(&mut assembly).map_err(ImageError::layer("added here"))?;
        let made = work.path().join("image.squashfs");
        squash::write(&assembly, work.path(), &made)?;
        let layer = work.path().join("layer.tar.zst");
        if keep_layer {
            write_layer(&assembly, &layer).map_err(ImageError::io("write", &layer))?;
        }
        fs::set_permissions(&made, fs::Permissions::from_mode(0o444))
            .map_err(ImageError::io("set the mode of", &made))?;
        let size = fs::metadata(&made).map_err(ImageError::io("look at", &made))?.len();

        let _locked = self.lock_index()?;
        let Entry { name, digest, config, packages } = entry;
        if keep_layer {
            rename(&layer, &self.layer_of(digest))?;
        }
        rename(&made, &self.file_of(digest))?;
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        let left_out = assembly.left_out;
        let name = name.clone();
        let record = Record { name, digest, size, created, config, left_out, packages };
        self.enter(self.read_index()?, record)
    }

    fn enter(&self, mut index: Index, record: Record) -> Result<Image, ImageError> {
        index.images.retain(|other| other.name != record.name);
        index.images.push(record.clone());
        self.write_index(&index)?;
        self.clear_orphans()?;
        Ok(self.image(record))
    }

    fn image(&self, record: Record) -> Image {
        Image {
            path: self.file_of(record.digest),
            name: record.name,
            digest: record.digest,
            size: record.size,
            created: record.created,
            config: record.config,
            left_out: record.left_out,
            packages: record.packages,
        }
    }

    fn file_of(&self, digest: Digest) -> PathBuf {
        self.root.join(format!("{}.{FORMAT}.squashfs", digest.hex()))
    }

    fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }

    fn lock_index(&self) -> Result<File, ImageError> {
        let path = self.root.join("index.lock");
        let file = lock_file(&path)?;
        file.lock().map_err(ImageError::io("lock", path))?;
        Ok(file)
    }

    fn read_index(&self) -> Result<Index, ImageError> {
        let path = self.index_path();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Index { format: FORMAT, images: Vec::new() });
            }
            Err(error) => return Err(ImageError::io("read", path)(error)),
        };
        let index: Index = serde_json::from_slice(&bytes).map_err(|error| ImageError::Document {
            document: format!("the index `{}`", path.display()),
            why: error.to_string(),
        })?;
        // Images of another format are made anew; their files are orphans from here on.
        Ok(if index.format == FORMAT { index } else { Index { format: FORMAT, images: Vec::new() } })
    }

    fn write_index(&self, index: &Index) -> Result<(), ImageError> {
        let path = self.index_path();
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&*self.root)?;
            serde_json::to_writer_pretty(&mut file, index)?;
            file.flush()?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            File::open(&*self.root)?.sync_all()
        };
        write().map_err(ImageError::io("write", &path))
    }

    /// Removes the folders of work whose doer is gone. The caller holds the index.
    fn clear_work(&self) -> Result<(), ImageError> {
        for path in entries(&self.root.join("work"))? {
            let lock = lock_file(&path.join("lock"))?;
            if lock.try_lock().is_ok() {
                fs::remove_dir_all(&path).map_err(ImageError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Removes files that no record names. The caller holds the index.
    fn clear_orphans(&self) -> Result<(), ImageError> {
        let index = self.read_index()?;
        let kept: Vec<PathBuf> =
            index.images.iter().flat_map(|r| [self.file_of(r.digest), self.layer_of(r.digest)]).collect();
        for path in entries(&self.root)? {
            let ours = path.is_file() && !path.ends_with("index.json") && !path.ends_with("index.lock");
            if ours && !kept.contains(&path) {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }
}

/// A private folder that goes away with its value, or at the next opening of the store.
pub(super) struct Work {
    folder: tempfile::TempDir,
    _lock: File,
}

impl Work {
    /// The folder.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn write_layer(assembly: &Assembly, path: &Path) -> io::Result<()> {
    let file = File::create_new(path)?;
    let mut encoder = zstd::stream::write::Encoder::new(&file, 1)?;
    squash::write_tar(assembly, &mut encoder)?;
    encoder.finish()?;
    file.sync_all()
}

fn lock_file(path: &Path) -> Result<File, ImageError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(ImageError::io("open", path))
}

fn rename(from: &Path, to: &Path) -> Result<(), ImageError> {
    fs::rename(from, to).map_err(ImageError::io("move into place", to))
}

fn remove_if_there(path: &Path) -> Result<(), ImageError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ImageError::io("remove", path)(error)),
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let read = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    read().map_err(ImageError::io("list", folder))
}
