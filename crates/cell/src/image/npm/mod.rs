//! Images of npm packages, `npm:NAME@VERSION`: the package, all that it needs, and Node, over `base`. The registry says
//! what the package needs ([`package`], [`resolve`]); each archive is checked against its SHA-512 and unpacked as a layer is,
//! into the image only. No script of a package runs, neither here nor later.

mod package;
mod registry;
mod resolve;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::ImageName;
use futures::future::BoxFuture;
use sha2::{Digest as _, Sha512};

use super::agents::NODE;
use super::digest::Digest;
use super::error::{ImageError, LayerError};
use super::http::{self, Download};
use super::layer::{Assembly, Rules, unpack};
use super::packages::{self, Budget, MAX_ARCHIVE, MAX_DOCUMENT};
use super::progress::{Progress, Reporter};
use super::recipe::Recipe;
use super::store::{ImagePackage, Work};
use super::tree::Meta;

use package::{Need, Package};
use resolve::{Placed, Resolver};

pub(super) use registry::Registry;

/// Where packages lie in the image.
const FOLDER: &str = "opt/npm";

/// A package of which an image is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    name: String,
    version: String,
}

/// A package with all that it needs.
pub(super) struct Packages {
    wanted: Wanted,
    registry: Registry,
    /// By place, such as `node_modules/a`.
    placed: BTreeMap<String, Placed>,
}

impl Wanted {
    /// Reads an image's name without its digest; `None` if it names no package of npm.
    pub(super) fn parse(name: &ImageName) -> Result<Option<Self>, ImageError> {
        let Some(text) = name.as_str().strip_prefix("npm:") else { return Ok(None) };
        let text = text.split_once("@sha256:").map_or(text, |(text, _)| text);
        let (name, version) = match text.rsplit_once('@').filter(|(name, _)| !name.is_empty()) {
            Some((name, version)) => (name, version),
            None => (text, ""),
        };
        if !package::name_is_sound(name) {
            let why = "npm has no such names: write npm:NAME@VERSION or npm:@SCOPE/NAME@VERSION".to_owned();
            return Err(ImageError::Package { package: text.to_owned(), why });
        }
        Ok(Some(Self { name: name.to_owned(), version: version.to_owned() }))
    }

    /// The package's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What the registry says of a package; an empty one where it knows none.
    async fn ask(
        &self,
        registry: &Registry,
        documents: &Budget,
        name: String,
    ) -> Result<(String, Package), ImageError> {
        let document = registry.describe(&name, MAX_DOCUMENT).await?;
        let bytes = document.as_ref().map_or(0, Vec::len);
        documents.spend(bytes as u64).map_err(|why| self.refuse(why))?;
        let package = document.map(|document| Package::parse(&document)).transpose();
        let package = package.map_err(|why| self.refuse(format!("`{name}`: {why}")))?;
        Ok((name, package.unwrap_or_default()))
    }

    fn refuse(&self, why: String) -> ImageError {
        let version = if self.version.is_empty() { String::new() } else { format!("@{}", self.version) };
        ImageError::Package { package: format!("npm:{}{version}", self.name), why }
    }

    /// Finds what the package needs, as of now.
    pub(super) async fn resolve(
        self,
        registry: Registry,
        progress: &Progress,
    ) -> Result<Packages, ImageError> {
        progress.say(&format!("asking the registry what {} needs", self.name));
        let document = registry.describe(&self.name, MAX_DOCUMENT).await?;
        let Some(document) = document else {
            return Err(self.refuse("the registry has no package of this name".to_owned()));
        };
        let package = Package::parse(&document).map_err(|why| self.refuse(why))?;
        let newest = package.newest().unwrap_or("none");
        if self.version.is_empty() {
            let why = format!("say which version: the newest is npm:{}@{newest}", self.name);
            return Err(self.refuse(why));
        }
        let Some((version, _)) = package.exact(&self.version) else {
            return Err(self.refuse(format!("the registry has no such version; the newest is {newest}")));
        };
        let need = Need::read(&self.name, &version.to_string()).map_err(|why| self.refuse(why))?;
        let mut resolver = Resolver::new(need);
        let documents = Budget::of_documents();
        resolver.learn(self.name.clone(), package);
        loop {
            let asked = resolver.missing().into_iter().map(|name| self.ask(&registry, &documents, name));
            for (name, package) in packages::answers(asked.collect()).await? {
                resolver.learn(name, package);
            }
            resolver.step().map_err(|why| self.refuse(why))?;
            if resolver.is_done() {
                return Ok(Packages { placed: resolver.finish(), wanted: self, registry });
            }
        }
    }
}

impl Recipe for Packages {
    /// What the image is built on, and every package with its place and its SHA-512.
    fn digest(&self, base: Digest) -> Digest {
        let mut recipe = format!("lazaret npm 1\n{base}\n{}\n", NODE.recipe());
        for (at, placed) in &self.placed {
            recipe.push_str(&format!("{at} {} {} {}\n", placed.package, placed.version, placed.sha512));
        }
        Digest::of(recipe.as_bytes())
    }

    fn packages(&self) -> Vec<ImagePackage> {
        let record = |(at, placed): (&String, &Placed)| ImagePackage {
            place: at.clone(),
            name: placed.package.clone(),
            version: placed.version.to_string(),
            integrity: format!("sha512-{}", placed.sha512),
        };
        self.placed.iter().map(record).collect()
    }

    /// The packages, and Node.
    fn fetch<'a>(&'a self, work: &'a Work, progress: &'a Progress) -> BoxFuture<'a, Result<(), ImageError>> {
        let all = async move {
            NODE.fetch(&self.registry, &node(work), progress).await?;
            self.fetch_packages(work, progress).await
        };
        Box::pin(packages::in_time(all, |why| self.wanted.refuse(why)))
    }

    fn lay(&self, work: &Work, assembly: &mut Assembly, progress: &Progress) -> Result<(), ImageError> {
        progress.say("unpacking node");
        NODE.add(node(work), assembly).map_err(ImageError::layer("node"))?;
        self.lay_packages(work, assembly, progress)?;
        // Last, so that no package takes its place.
        assembly
            .tree
            .put_symlink(b"usr/local/bin/node", Meta::FOLDER, b"/opt/node/bin/node")
            .map_err(ImageError::layer("node"))
    }
}

impl Packages {
    /// Downloads the packages alone, each checked against its digest.
    pub(super) async fn fetch_packages(&self, work: &Work, progress: &Progress) -> Result<(), ImageError> {
        let budget = Budget::of_archives();
        let fetch = async |placed, at| {
            let bytes = download(&self.registry, placed, archive(work, at)).await?;
            budget.spend(bytes).map_err(|why| self.wanted.refuse(why))
        };
        let asked = self.archives().into_iter().map(|(at, placed)| fetch(placed, at));
        packages::download(asked.collect(), progress).await
    }

    /// Lays the packages alone.
    pub(super) fn lay_packages(
        &self,
        work: &Work,
        assembly: &mut Assembly,
        progress: &Progress,
    ) -> Result<(), ImageError> {
        let mut reporter = Reporter::new(progress, "unpacking packages", Some(self.placed.len() as u64));
        let archives: BTreeMap<_, _> =
            self.archives().into_iter().map(|(at, placed)| (&placed.sha512, at)).collect();
        for (at, placed) in &self.placed {
            let layer = || ImageError::layer(format!("{} {}", placed.package, placed.version));
            let number = archives.get(&placed.sha512).copied().unwrap_or_default();
            add(archive(work, number), &format!("{FOLDER}/{at}"), assembly).map_err(layer())?;
            reporter.add(1);
        }
        let at = format!("node_modules/{}", self.wanted.name);
        for (command, file) in self.placed.get(&at).into_iter().flat_map(|placed| &placed.commands) {
            let target = format!("{FOLDER}/{at}/{}", file.trim_start_matches("./"));
            link(assembly, command, &target).map_err(ImageError::layer(command))?;
        }
        Ok(())
    }

    /// Each archive once, with its number.
    fn archives(&self) -> Vec<(usize, &Placed)> {
        let unique: BTreeMap<&String, &Placed> =
            self.placed.values().map(|placed| (&placed.sha512, placed)).collect();
        unique.into_values().enumerate().collect()
    }
}

fn node(work: &Work) -> PathBuf {
    work.path().join("node.tgz")
}

fn archive(work: &Work, at: usize) -> PathBuf {
    work.path().join(format!("package-{at}.tgz"))
}

/// Downloads the archive of a package; its bytes.
async fn download(registry: &Registry, placed: &Placed, path: PathBuf) -> Result<u64, ImageError> {
    let Placed { package, version, sha512, commands: _ } = placed;
    let url = registry.archive(package, &version.to_string());
    let response = registry.get(&url).await?;
    let (mut hash, mut bytes) = (Sha512::new(), 0_u64);
    let count = |piece: &[u8]| {
        hash.update(piece);
        bytes = bytes.saturating_add(piece.len() as u64);
    };
    http::store(response, &Download { url: &url, most: MAX_ARCHIVE, path: &path }, count).await?;
    if STANDARD.encode(hash.finalize()) != *sha512 {
        let why = format!(
            "`{package} {version}` is not what the registry says that it is: its SHA-512 differs; \
             it was damaged or exchanged"
        );
        return Err(http::refused(&url, why));
    }
    Ok(bytes)
}

/// Unpacks an archive into the image. All its paths begin with one folder, `package` by custom, which is replaced by ours.
fn add(archive: PathBuf, folder: &str, assembly: &mut Assembly) -> Result<(), LayerError> {
    let file = File::open(archive)?;
    let packed = file.metadata()?.len();
    let (_, tar) = unpack(file, packed, assembly.tree.limits().ratio)?;
    let place = |path: &[u8]| -> Option<Vec<u8>> {
        let inner = path.iter().position(|b| *b == b'/').and_then(|at| path.get(at + 1..))?;
        Some([folder.as_bytes(), b"/", inner].concat())
    };
    assembly.add_layer(io::BufReader::new(tar), &Rules { plain: true, place: &place, ..Rules::PACKAGE })
}

/// Makes a file of a package a command.
fn link(assembly: &mut Assembly, command: &str, target: &str) -> Result<(), LayerError> {
    assembly.tree.make_executable(target.as_bytes())?;
    let path = format!("usr/local/bin/{command}");
    assembly.tree.put_symlink(path.as_bytes(), Meta::FOLDER, format!("/{target}").as_bytes())
}
