//! What is laid over `base` for an image that is built here: an agent, or a package of npm.

use std::fs::File;

use domain::ImageName;

use super::agents::Agent;
use super::digest::Digest;
use super::error::ImageError;
use super::layer::Assembly;
use super::npm::{Packages, Registry, Wanted};
use super::progress::Progress;
use super::reference::digest_in;
use super::store::{ImagePackage, Work};

/// What is to be made, with all of its parts named.
pub(super) struct Recipe {
    registry: Registry,
    what: What,
}

enum What {
    Agent(&'static Agent),
    Npm(Packages),
}

impl Recipe {
    /// The recipe of the image of this name. For a package, the registry is asked what it needs.
    pub(super) async fn of(name: &ImageName, progress: &Progress) -> Result<Self, ImageError> {
        let registry = Registry::configured()?;
        let what = match (Agent::named(name.as_str()), Wanted::parse(name)?) {
            (Some(agent), _) => What::Agent(agent),
            (None, Some(wanted)) => What::Npm(wanted.resolve(&registry, progress).await?),
            (None, None) => return Err(ImageError::NotBuildable(name.to_string())),
        };
        Ok(Self { registry, what })
    }

    /// What the image is called, which is asked for as `asked`, perhaps with a digest.
    pub(super) fn name(&self, asked: &ImageName) -> ImageName {
        let bare = asked.as_str().split_once("@sha256:").and_then(|(bare, _)| bare.parse().ok());
        bare.unwrap_or_else(|| asked.clone())
    }

    /// Its digest, built on this `base`.
    pub(super) fn digest(&self, base: Digest) -> Digest {
        match &self.what {
            What::Agent(agent) => agent.digest(base),
            What::Npm(packages) => packages.digest(base),
        }
    }

    /// Whether it comes to the digest that was asked for, if one was.
    pub(super) fn check(&self, asked: &ImageName, digest: Digest) -> Result<(), ImageError> {
        match digest_in(asked) {
            Some(expected) if expected != digest => {
                let why = format!(
                    "it comes to {digest} now, since its packages, `base` or Node changed: \
                     build it without a digest, and look at `lazaret image show`"
                );
                Err(ImageError::Package { package: asked.to_string(), why })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The packages whose set was found just now. Those of agents are pinned in Lazaret itself.
    pub(super) fn packages(&self) -> Vec<ImagePackage> {
        match &self.what {
            What::Agent(_) => Vec::new(),
            What::Npm(packages) => packages.list(),
        }
    }

    /// Downloads everything into `work`, checked.
    pub(super) async fn fetch(&self, work: &Work, progress: &Progress) -> Result<(), ImageError> {
        match &self.what {
            What::Agent(agent) => agent.fetch(&self.registry, work, progress).await,
            What::Npm(packages) => packages.fetch(&self.registry, work, progress).await,
        }
    }

    /// Lays everything over `base`.
    pub(super) fn assemble(
        &self,
        base: File,
        work: &Work,
        assembly: &mut Assembly,
        progress: &Progress,
    ) -> Result<(), ImageError> {
        match &self.what {
            What::Agent(agent) => agent.assemble(base, work, assembly, progress),
            What::Npm(packages) => packages.assemble(base, work, assembly, progress),
        }
    }
}
