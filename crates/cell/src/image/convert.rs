//! From the layers of an image to its file system, with every digest checked on the way.

use std::io;

use domain::ImageName;

use super::digest::Hashing;
use super::error::{ImageError, LayerError};
use super::layer::{Assembly, Rules, unpack};
use super::progress::{Progress, Reporter};
use super::source::{LocalImage, LocalLayer};
use super::store::{Entry, Image, ImageStore, Work};

/// Makes the image `name` of `local`, or takes the one that is here if it is the same.
pub(super) fn convert(
    store: &ImageStore,
    work: &Work,
    local: &LocalImage,
    name: &ImageName,
    progress: &Progress,
) -> Result<Image, ImageError> {
    let _ours = store.lock_digest(local.digest)?;
    if let Some(image) = store.reuse(name, local.digest, &local.config)? {
        return Ok(image);
    }
    let mut assembly = store.assembly(work)?;
    let total = local.layers.iter().map(|layer| layer.packed.map_or(0, |(_, size)| size)).sum();
    let mut reporter = Reporter::new(progress, "unpacking layers", Some(total));
    for (at, layer) in local.layers.iter().enumerate() {
        add(local, layer, at.saturating_add(1), &mut assembly)?;
        reporter.add(layer.packed.map_or(0, |(_, size)| size));
    }
    progress.say("writing the image");
    let entry = Entry { name, digest: local.digest, config: local.config.clone(), packages: Vec::new() };
    store.commit(work, assembly, entry, false)
}

fn add(
    local: &LocalImage,
    layer: &LocalLayer,
    number: usize,
    assembly: &mut Assembly,
) -> Result<(), ImageError> {
    let (file, len) = local.open(layer)?;
    let what = format!("layer {number}");
    let mut packed = Hashing::new(file);
    let ratio = assembly.tree.limits().ratio;
    let diff_id = {
        let (_, plain) = unpack(&mut packed, len, ratio).map_err(ImageError::layer(number))?;
        let mut plain = Hashing::new(plain);
        assembly.add_layer(&mut plain, &Rules::OCI).map_err(ImageError::layer(number))?;
        plain.digest()
    };
    io::copy(&mut packed, &mut io::sink()).map_err(LayerError::Read).map_err(ImageError::layer(number))?;
    if let Some((digest, size)) = layer.packed {
        digest.check_found(packed.digest(), &what)?;
        if packed.count() != size {
            let why = format!("it has {} bytes, but the manifest says {size}", packed.count());
            return Err(ImageError::Document { document: what, why });
        }
    }
    layer.diff_id.check_found(diff_id, &format!("{what}, unpacked,"))
}
