//! Images: what cells run from. An image comes from a registry, an OCI layout, a `docker save` archive, or is built here, and
//! becomes one read-only squashfs file per digest, shared by all cells.
//!
//! Layers are hostile input. They are never unpacked onto the host: their entries become a tree in memory and their contents
//! one nameless file ([`tree`], [`spool`]), and only the finished tree is written out, as a clean archive into `mksquashfs`
//! ([`squash`]). So no path, link or mode of a layer ever reaches the host's file system. Nothing here needs root.

mod agents;
mod base;
mod bytecode;
mod convert;
mod credentials;
mod digest;
mod error;
mod finish;
mod host_tools;
mod http;
mod layer;
mod limits;
mod manifest;
mod npm;
mod packages;
mod progress;
mod pypi;
mod recipe;
mod reference;
mod registry;
mod source;
mod sparse;
mod spool;
mod squash;
mod store;
mod tarball;
mod tree;
mod zip;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::Path;

use domain::ImageName;

pub use digest::{BadDigest, Digest};
pub use error::{ImageError, LayerError};
pub use layer::LeftOut;
pub use progress::{Progress, Step};
pub use recipe::unversioned;
pub use store::{Image, ImageConfig, ImagePackage, ImageStore};

use credentials::Credential;
use recipe::Ground;
use reference::Reference;
use registry::Repository;
use source::LocalImage;
use store::Entry;

impl ImageStore {
    /// Pulls an image from a registry. A tag is looked up anew each time; what it led to stays pinned by digest in the store
    /// until the next pull.
    pub async fn pull(&self, name: &ImageName, progress: &Progress) -> Result<Image, ImageError> {
        if name.is_reserved() {
            return Err(ImageError::Reserved(name.to_string()));
        }
        let reference = Reference::parse(name.as_str())?;
        let credential = blocking(move || credentials::find(&reference)).await?;
        self.pull_as(name, credential, progress).await
    }

    async fn pull_as(
        &self,
        name: &ImageName,
        credential: Option<Credential>,
        progress: &Progress,
    ) -> Result<Image, ImageError> {
        let reference = Reference::parse(name.as_str())?;
        let mut repository = Repository::new(&self.dialer, reference, credential)?;
        progress.say(&format!("asking for {name}"));
        let (digest, manifest) = repository.manifest().await?;
        let work = self.begin()?;
        if self.list()?.iter().all(|image| image.digest != digest) {
            repository.download(&manifest, work.path(), self.limits.total, progress).await?;
        } else if let Some(image) = self.rename(name, digest)? {
            return Ok(image);
        }
        let (store, name, progress) = (self.clone(), name.clone(), progress.clone());
        blocking(move || {
            let local = LocalImage::of_manifest(work.path(), &manifest, digest)?;
            convert::convert(&store, &work, &local, &name, &progress)
        })
        .await
    }

    /// Imports an image from an OCI layout (a folder or an archive) or from an archive by `docker save`. Without `name` it is
    /// known by the name that it has there, or else by its file's.
    pub async fn import(
        &self,
        path: &Path,
        name: Option<&ImageName>,
        progress: &Progress,
    ) -> Result<Image, ImageError> {
        if let Some(name) = name.filter(|name| name.is_reserved()) {
            return Err(ImageError::Reserved(name.to_string()));
        }
        let (store, path, name, progress) = (self.clone(), path.to_owned(), name.cloned(), progress.clone());
        blocking(move || {
            let work = store.begin()?;
            progress.say("reading the archive");
            let local = LocalImage::find(&path, name.as_ref().map(ImageName::as_str), &work, store.limits)?;
            let name = match name {
                Some(name) => name,
                None => name_of(&local, &path)?,
            };
            convert::convert(&store, &work, &local, &name, &progress)
        })
        .await
    }

    /// Builds `base`, `claude-code`, `codex` or the image of a package; where it is here already, anew if there are
    /// newer packages. A name with a digest is what comes out, or an error.
    pub async fn build(&self, name: &ImageName, progress: &Progress) -> Result<Image, ImageError> {
        if *name == ImageName::base() {
            let (store, progress) = (self.clone(), progress.clone());
            return blocking(move || store.build_base(&progress)).await;
        }
        let wanted = recipe::Wanted::parse(name)?;
        let base = match self.resolve(&ImageName::base()) {
            Ok(base) if self.layer_of(base.digest).is_file() => base,
            Ok(_) | Err(ImageError::Missing { .. }) => {
                Box::pin(self.build(&ImageName::base(), progress)).await?
            }
            Err(error) => return Err(error),
        };
        let (work, layer) = (self.begin()?, self.layer_of(base.digest));
        let ground = Ground { layer: &layer, work: &work, limits: self.limits };
        let recipe = wanted.recipe(&self.dialer, &ground, progress).await?;
        let digest = recipe.digest(base.digest);
        recipe::check(name, digest)?;
        let name = &recipe::name(name);
        if let Some(image) = self.reuse(name, digest, &base.config)? {
            return Ok(image);
        }
        recipe.fetch(&work, progress).await?;
        let (store, name, progress) = (self.clone(), name.clone(), progress.clone());
        blocking(move || {
            let _ours = store.lock_digest(digest)?;
            if let Some(image) = store.reuse(&name, digest, &base.config)? {
                return Ok(image);
            }
            let file = File::open(&layer).map_err(ImageError::io("open", &layer))?;
            let mut assembly = store.assembly(&work)?;
            progress.say("reading base");
            assembly.add_base(file).map_err(ImageError::layer("base"))?;
            recipe.lay(&work, &mut assembly, &progress)?;
            progress.say("writing the image");
            let entry = Entry { name: &name, digest, config: base.config, packages: recipe.packages() };
            store.commit(&work, assembly, entry, false)
        })
        .await
    }

    /// The image of this name; `base` is built first where it is missing.
    pub async fn resolve_or_build_base(
        &self,
        name: &ImageName,
        progress: &Progress,
    ) -> Result<Image, ImageError> {
        match self.resolve(name) {
            Err(ImageError::Missing { .. }) if *name == ImageName::base() => self.build(name, progress).await,
            found => found,
        }
    }

    fn build_base(&self, progress: &Progress) -> Result<Image, ImageError> {
        let name = ImageName::base();
        let work = self.begin()?;
        let packages = base::fetch(&work, progress)?;
        let _ours = self.lock_digest(packages.digest)?;
        if let Some(image) = self.reuse(&name, packages.digest, &base::config())? {
            return Ok(image);
        }
        let mut assembly = self.assembly(&work)?;
        base::assemble(&packages, &work, &mut assembly, progress)?;
        progress.say("writing the image");
        let (digest, config) = (packages.digest, base::config());
        self.commit(&work, assembly, Entry { name: &name, digest, config, packages: Vec::new() }, true)
    }
}

/// What an imported image is called where its importer says nothing.
fn name_of(local: &LocalImage, path: &Path) -> Result<ImageName, ImageError> {
    // A layout may give only a tag, such as `latest`, which says nothing on its own.
    let given = local.name.as_deref().filter(|name| name.contains(['/', ':']));
    let stem = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split('.').next());
    let text = given.or(stem).unwrap_or_default();
    let name: ImageName = text.parse().map_err(|error| ImageError::Import {
        path: path.to_owned(),
        why: format!("its name can't be used ({error}): give it one"),
    })?;
    if name.is_reserved() {
        return Err(ImageError::Reserved(name.to_string()));
    }
    Ok(name)
}

/// Runs long work where it holds no task up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ImageError::CutShort(error.to_string()))?
}
