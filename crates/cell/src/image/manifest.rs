//! The documents of an image: index, manifest and configuration, in the media types of OCI and of Docker's version 2 schema 2.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::digest::Digest;
use super::error::ImageError;
use super::limits::{MAX_BLOB, MAX_LAYERS};
use super::store::ImageConfig;

const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const LAYERS: [&str; 5] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];

/// What a registry is asked for, best first.
pub(super) fn accepted() -> String {
    [INDEXES, MANIFESTS].concat().join(", ")
}

/// The name and address of a blob or document.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    media_type: String,
    /// Its digest.
    pub(super) digest: Digest,
    /// Its bytes.
    pub(super) size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// The name that an OCI layout gives the image.
    pub(super) fn reference_name(&self) -> Option<&str> {
        self.annotations.get("org.opencontainers.image.ref.name").map(String::as_str)
    }
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

/// An index or a manifest.
#[derive(Debug)]
pub(super) enum Document {
    /// Several images.
    Index(Vec<Descriptor>),
    /// One image.
    Manifest(Manifest),
}

/// One image: its configuration and its layers, lowest first.
#[derive(Debug)]
pub(super) struct Manifest {
    /// Where the configuration is.
    pub(super) config: Descriptor,
    /// Where the layers are.
    pub(super) layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

fn refuse(document: &str, why: impl Into<String>) -> ImageError {
    ImageError::Document { document: document.to_owned(), why: why.into() }
}

/// Reads an index or a manifest. One that could be taken for either is refused.
pub(super) fn parse(bytes: &[u8]) -> Result<Document, ImageError> {
    const WHAT: &str = "the manifest";
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| refuse(WHAT, error.to_string()))?;
    if raw.schema_version != 2 {
        return Err(refuse(WHAT, format!("schema version {} is not 2", raw.schema_version)));
    }
    let kind = raw.media_type.as_deref();
    match (raw.manifests, raw.config, raw.layers) {
        (Some(manifests), None, None) => {
            check_kind(kind, &INDEXES, "an index")?;
            Ok(Document::Index(manifests))
        }
        (None, Some(config), Some(layers)) => {
            check_kind(kind, &MANIFESTS, "a manifest")?;
            manifest(config, layers).map(Document::Manifest)
        }
        _ => Err(refuse(WHAT, "it is neither an index nor a manifest, or both")),
    }
}

fn check_kind(found: Option<&str>, known: &[&str], what: &str) -> Result<(), ImageError> {
    match found {
        Some(found) if !known.contains(&found) => {
            let found: String = found.chars().take(100).collect();
            Err(refuse(what, format!("the media type `{found}` is not one that images have")))
        }
        _ => Ok(()),
    }
}

fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Result<Manifest, ImageError> {
    const WHAT: &str = "the manifest";
    check_kind(Some(&config.media_type), &CONFIGS, "the configuration")?;
    if layers.len() > MAX_LAYERS {
        return Err(refuse(
            WHAT,
            format!("it has {} layers, and at most {MAX_LAYERS} are accepted", layers.len()),
        ));
    }
    for layer in &layers {
        check_kind(Some(&layer.media_type), &LAYERS, "a layer")?;
        if layer.size > MAX_BLOB {
            return Err(refuse(WHAT, format!("a layer has {} bytes, more than {MAX_BLOB}", layer.size)));
        }
    }
    Ok(Manifest { config, layers })
}

/// The image for the cells' platform, linux/amd64.
pub(super) fn for_platform(manifests: Vec<Descriptor>) -> Result<Descriptor, ImageError> {
    let fits = |found: &Descriptor| {
        found.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == "amd64")
    };
    let only_one = manifests.len() == 1;
    let others: Vec<String> = manifests
        .iter()
        .filter_map(|m| m.platform.as_ref())
        .take(10)
        .map(|p| format!("{}/{}", p.os, p.architecture))
        .collect();
    manifests.into_iter().find(|found| fits(found) || (only_one && found.platform.is_none())).ok_or_else(
        || refuse("the index", format!("it has no image for linux/amd64, only: {}", others.join(", "))),
    )
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    config: Option<RunConfig>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RunConfig {
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
}

/// Reads a configuration: how the image is run, and the digest of each layer when it is unpacked.
pub(super) fn parse_config(bytes: &[u8], layers: usize) -> Result<(ImageConfig, Vec<Digest>), ImageError> {
    const WHAT: &str = "the image's configuration";
    let raw: RawConfig = serde_json::from_slice(bytes).map_err(|error| refuse(WHAT, error.to_string()))?;
    if raw.os != "linux" || raw.architecture != "amd64" {
        let platform: String = format!("{}/{}", raw.os, raw.architecture).chars().take(60).collect();
        return Err(refuse(WHAT, format!("it is for `{platform}`, and cells are linux/amd64")));
    }
    if raw.rootfs.diff_ids.len() != layers {
        return Err(refuse(WHAT, format!("it names {} layers of {layers}", raw.rootfs.diff_ids.len())));
    }
    let run = raw.config.unwrap_or_default();
    let config = ImageConfig {
        env: run.env.unwrap_or_default(),
        cwd: run.working_dir.unwrap_or_default(),
        entrypoint: run.entrypoint.unwrap_or_default(),
        cmd: run.cmd.unwrap_or_default(),
    };
    check_texts(&config).map_err(|why| refuse(WHAT, why))?;
    Ok((config, raw.rootfs.diff_ids))
}

/// Keeps what is passed to processes within what they can be passed.
fn check_texts(config: &ImageConfig) -> Result<(), &'static str> {
    let texts = || config.env.iter().chain(&config.entrypoint).chain(&config.cmd).chain([&config.cwd]);
    if texts().count() > 1024 || texts().map(String::len).sum::<usize>() > 64 << 10 {
        return Err("its environment and commands are longer than 64 KiB");
    }
    if texts().any(|text| text.contains('\0')) {
        return Err("its environment or commands contain a NUL");
    }
    if config.env.iter().any(|entry| entry.split_once('=').is_none_or(|(name, _)| name.is_empty())) {
        return Err("its environment has an entry that is not `NAME=value`");
    }
    if !config.cwd.is_empty() && !config.cwd.starts_with('/') {
        return Err("its working folder is not absolute");
    }
    Ok(())
}
