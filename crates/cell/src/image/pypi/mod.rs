//! Images of PyPI packages, `pypi:NAME==VERSION`: the package and all that it needs, as wheels, for the Python of `base`. The
//! index and the wheels say what is needed ([`release`], [`metadata`], [`resolve`]); each wheel is checked against its SHA-256
//! and laid into the image only ([`wheel`]). Sources are never built, and nothing of a package runs here.

mod index;
mod metadata;
mod python;
mod release;
mod requirement;
mod resolve;
mod tags;
mod wheel;

use std::path::PathBuf;

use domain::ImageName;
use futures::future::BoxFuture;
use pep440_rs::Version;

use super::blocking;
use super::digest::Digest;
use super::error::ImageError;
use super::http::{self, Download};
use super::layer::Assembly;
use super::limits::ImageLimits;
use super::packages::{self, Budget, MAX_ARCHIVE, MAX_DOCUMENT};
use super::progress::{Progress, Reporter};
use super::recipe::{Ground, Recipe};
use super::store::{ImagePackage, Work};

use metadata::{MAX_METADATA, Metadata};
use release::Project;
use requirement::Name;
use resolve::{Placed, Question, Resolver, Step};
use wheel::Archive;

pub(super) use index::Index;
pub(super) use python::Python;

/// A package of which an image is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    name: Name,
    version: Option<Version>,
}

/// A package with all that it needs.
pub(super) struct Packages {
    wanted: Wanted,
    /// By name.
    placed: Vec<Placed>,
    source: Source,
}

/// Where wheels come from, for which Python, and how much may still come.
struct Source {
    index: Index,
    python: Python,
    limits: ImageLimits,
    documents: Budget,
    archives: Budget,
}

/// What the index or a wheel answered.
enum Answer {
    Project(Name, Project),
    Metadata(Placed, Result<Metadata, String>),
}

impl Wanted {
    /// Reads an image's name without its digest; `None` if it names no package of PyPI.
    pub(super) fn parse(name: &ImageName) -> Result<Option<Self>, ImageError> {
        let Some(text) = name.as_str().strip_prefix(ImageName::PYPI) else { return Ok(None) };
        let text = text.split_once("@sha256:").map_or(text, |(text, _)| text);
        let refuse =
            |why: String| Err(ImageError::Package { package: format!("{}{text}", ImageName::PYPI), why });
        let (given, version) =
            text.split_once("==").map_or((text, None), |(name, version)| (name, Some(version)));
        let Some(name) = Name::parse(given) else {
            return refuse("PyPI has no such names: write pypi:NAME==VERSION".to_owned());
        };
        if name.as_str() != given {
            return refuse(format!("packages are called by the one form of their name: write pypi:{name}"));
        }
        match version.map(str::parse::<Version>).transpose() {
            Ok(version) => Ok(Some(Self { name, version })),
            Err(_) => {
                refuse("that is no version: write pypi:NAME==VERSION, such as pypi:tool==1.2.0".to_owned())
            }
        }
    }

    /// The package's name.
    pub(super) fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Asks the index what the package needs on this Python, until nothing is missing. Wheels that are not described otherwise
    /// are downloaded for it.
    pub(super) async fn resolve(
        self,
        index: Index,
        python: Python,
        ground: &Ground<'_>,
        progress: &Progress,
    ) -> Result<Packages, ImageError> {
        progress.say(&format!("asking the index what {} needs", self.name));
        let (documents, archives) = (Budget::of_documents(), Budget::of_archives());
        let source = Source { index, python, limits: ground.limits, documents, archives };
        let all = self.search(&source, ground.work);
        let placed = packages::in_time(all, |why| self.refuse(why)).await?;
        Ok(Packages { wanted: self, placed, source })
    }

    async fn search(&self, source: &Source, work: &Work) -> Result<Vec<Placed>, ImageError> {
        let (version, project) = self.exact(source).await?;
        let mut resolver = Resolver::new(source.python.clone(), self.name.clone(), version);
        resolver.learn_project(self.name.clone(), project);
        loop {
            let (known, step) = blocking(move || {
                let step = resolver.step();
                Ok((resolver, step))
            })
            .await?;
            resolver = known;
            let questions = match step.map_err(|why| self.refuse(why))? {
                Step::Done(placed) => return Ok(placed),
                Step::Ask(questions) => questions,
            };
            let asked = questions.into_iter().map(|question| self.answer(question, source, work));
            for answer in packages::answers(asked.collect()).await? {
                match answer {
                    Answer::Project(name, project) => resolver.learn_project(name, project),
                    Answer::Metadata(of, metadata) => resolver.learn_metadata(of, metadata),
                }
            }
        }
    }

    /// The version that is wanted, which must be one that can be had.
    async fn exact(&self, source: &Source) -> Result<(Version, Project), ImageError> {
        let Some(project) = self.project(&self.name, source).await? else {
            return Err(self.refuse("the index has no package of this name".to_owned()));
        };
        let newest = project.newest().map_or_else(|| "none".to_owned(), Version::to_string);
        let Some(version) = &self.version else {
            return Err(self.refuse(format!("say which version: the newest is pypi:{}=={newest}", self.name)));
        };
        if let Some((version, _)) = project.exact(version) {
            return Ok((version.clone(), project));
        }
        let why = match project.why_not(|other| other == version) {
            Some((_, why)) => format!("this version {why}; the newest that can be used is {newest}"),
            None => format!("the index has no such version; the newest is {newest}"),
        };
        Err(self.refuse(why))
    }

    async fn answer(&self, question: Question, source: &Source, work: &Work) -> Result<Answer, ImageError> {
        match question {
            Question::Project(name) => {
                let project = self.project(&name, source).await?.unwrap_or_default();
                Ok(Answer::Project(name, project))
            }
            Question::Metadata(placed) => {
                let bytes = source.metadata(&placed, work).await?;
                source.documents.spend(bytes.len() as u64).map_err(|why| self.refuse(why))?;
                let metadata = Metadata::parse(&bytes, &placed.name, &placed.version);
                Ok(Answer::Metadata(placed, metadata))
            }
        }
    }

    async fn project(&self, name: &Name, source: &Source) -> Result<Option<Project>, ImageError> {
        let Some((at, document)) = source.index.describe(name, MAX_DOCUMENT).await? else { return Ok(None) };
        source.documents.spend(document.len() as u64).map_err(|why| self.refuse(why))?;
        let project = Project::parse(&document, name, &at, &source.python);
        project.map(Some).map_err(|why| self.refuse(format!("`{name}`: {why}")))
    }

    fn refuse(&self, why: String) -> ImageError {
        let version = self.version.as_ref().map(|version| format!("=={version}")).unwrap_or_default();
        ImageError::Package { package: format!("pypi:{}{version}", self.name), why }
    }
}

impl Source {
    /// What a wheel says of itself: where the index has that apart, from there, else out of the wheel.
    async fn metadata(&self, placed: &Placed, work: &Work) -> Result<Vec<u8>, ImageError> {
        let Placed { name, version, wheel } = placed;
        if let Some(digest) = wheel.metadata {
            let mut url = wheel.url.clone();
            url.set_path(&format!("{}.metadata", url.path()));
            let bytes = self.index.document(&url, MAX_METADATA).await?;
            digest.check(&bytes, &format!("the description of {name} {version}"))?;
            return Ok(bytes);
        }
        self.fetch(placed, work).await?;
        let (path, limits, placed) = (path_of(placed, work), self.limits, placed.clone());
        blocking(move || {
            let Placed { name, version, wheel: _ } = &placed;
            let read = || Archive::open(&path, name, version, limits)?.metadata();
            read().map_err(ImageError::layer(format!("{name} {version}")))
        })
        .await
    }

    /// Downloads a wheel and checks it against its digest, unless it is here already.
    async fn fetch(&self, placed: &Placed, work: &Work) -> Result<(), ImageError> {
        let path = path_of(placed, work);
        if path.is_file() {
            return Ok(());
        }
        let url = &placed.wheel.url;
        let response = self.index.get(url).await?;
        let download = Download { url: url.as_str(), most: MAX_ARCHIVE, path: &path };
        http::store_verified(response, &download, placed.wheel.digest).await?;
        let bytes = std::fs::metadata(&path).map_err(ImageError::io("look at", &path))?.len();
        self.archives.spend(bytes).map_err(|why| http::refused(url.as_str(), why))
    }
}

impl Packages {
    /// Lays one package.
    fn lay_one(&self, placed: &Placed, work: &Work, assembly: &mut Assembly) -> Result<(), ImageError> {
        let Placed { name, version, wheel } = placed;
        let layer = || ImageError::layer(format!("{name} {version}"));
        let archive =
            Archive::open(&path_of(placed, work), name, version, self.source.limits).map_err(layer())?;
        if let Some(digest) = wheel.metadata {
            let own = archive.metadata().map_err(layer())?;
            digest.check(&own, &format!("the description in the wheel of {name} {version}"))?;
        }
        archive.lay(&self.source.python.folder(), *name == self.wanted.name, assembly).map_err(layer())
    }
}

impl Recipe for Packages {
    /// What the image is built on, whose commands it has, and every package with its SHA-256.
    fn digest(&self, base: Digest) -> Digest {
        let mut recipe = format!("lazaret pypi 1\n{base}\n{}\n", self.wanted.name);
        for Placed { name, version, wheel } in &self.placed {
            recipe.push_str(&format!("{name} {version} {}\n", wheel.digest));
        }
        Digest::of(recipe.as_bytes())
    }

    fn packages(&self) -> Vec<ImagePackage> {
        let record = |Placed { name, version, wheel }: &Placed| ImagePackage {
            place: format!("/{}", self.source.python.folder()),
            name: name.to_string(),
            version: version.to_string(),
            integrity: wheel.digest.to_string(),
        };
        self.placed.iter().map(record).collect()
    }

    fn fetch<'a>(&'a self, work: &'a Work, progress: &'a Progress) -> BoxFuture<'a, Result<(), ImageError>> {
        let asked = self.placed.iter().map(|placed| self.source.fetch(placed, work));
        let all = packages::download(asked.collect(), progress);
        Box::pin(packages::in_time(all, |why| self.wanted.refuse(why)))
    }

    fn lay(&self, work: &Work, assembly: &mut Assembly, progress: &Progress) -> Result<(), ImageError> {
        let mut reporter = Reporter::new(progress, "unpacking packages", Some(self.placed.len() as u64));
        for placed in &self.placed {
            self.lay_one(placed, work, assembly)?;
            reporter.add(1);
        }
        Ok(())
    }
}

/// Where a wheel lies once it is downloaded and checked.
fn path_of(placed: &Placed, work: &Work) -> PathBuf {
    work.path().join(format!("{}.whl", placed.wheel.digest.hex()))
}
