//! What is laid over `base` for an image that is built here: an agent, or a package of npm or PyPI with all that it needs.

use std::path::Path;

use dial::Dialer;
use domain::ImageName;
use futures::future::BoxFuture;

use super::agents::{Agent, AgentRecipe};
use super::blocking;
use super::digest::Digest;
use super::error::ImageError;
use super::layer::Assembly;
use super::limits::ImageLimits;
use super::progress::Progress;
use super::reference::{Reference, digest_in};
use super::store::{ImagePackage, Work};
use super::{npm, pypi};

/// What is to be made, with all of its parts named.
pub(super) trait Recipe: Send + Sync {
    /// Its digest, built on this `base`.
    fn digest(&self, base: Digest) -> Digest;

    /// The packages whose set was found just now.
    fn packages(&self) -> Vec<ImagePackage>;

    /// Downloads everything into `work`, checked.
    fn fetch<'a>(&'a self, work: &'a Work, progress: &'a Progress) -> BoxFuture<'a, Result<(), ImageError>>;

    /// Lays everything over `base`, which lies there.
    fn lay(&self, work: &Work, assembly: &mut Assembly, progress: &Progress) -> Result<(), ImageError>;
}

/// What an image's name asks for, before any registry is asked what that takes.
pub(super) enum Wanted {
    /// One of the agents that Lazaret knows.
    Agent(&'static Agent),
    /// A package of npm.
    Npm(npm::Wanted),
    /// A package of PyPI.
    Pypi(pypi::Wanted),
}

/// What there is to build on.
pub(super) struct Ground<'a> {
    /// The archive of `base`.
    pub(super) layer: &'a Path,
    /// Where downloads go.
    pub(super) work: &'a Work,
    /// Limits on what is laid over `base`.
    pub(super) limits: ImageLimits,
}

impl Wanted {
    /// Reads the name of an image that can be built.
    pub(super) fn parse(name: &ImageName) -> Result<Self, ImageError> {
        if let Some(agent) = Agent::named(name.as_str()) {
            return Ok(Self::Agent(agent));
        }
        let npm = npm::Wanted::parse(name)?.map(Self::Npm);
        let pypi = pypi::Wanted::parse(name)?.map(Self::Pypi);
        npm.or(pypi).ok_or_else(|| ImageError::NotBuildable(name.to_string()))
    }

    /// Its recipe. For a package, the registry is asked what it needs.
    pub(super) async fn recipe(
        self,
        dialer: &Dialer,
        ground: &Ground<'_>,
        progress: &Progress,
    ) -> Result<Box<dyn Recipe>, ImageError> {
        Ok(match self {
            Self::Agent(agent) => {
                Box::new(AgentRecipe { agent, registry: npm::Registry::configured(dialer)? })
            }
            Self::Npm(wanted) => {
                Box::new(wanted.resolve(npm::Registry::configured(dialer)?, progress).await?)
            }
            Self::Pypi(wanted) => {
                let (layer, limits) = (ground.layer.to_owned(), ground.limits);
                let python = blocking(move || pypi::Python::of_base(&layer, limits)).await?;
                let index = pypi::Index::configured(dialer)?;
                Box::new(wanted.resolve(index, python, ground, progress).await?)
            }
        })
    }
}

/// What the image is called, which is asked for as `asked`, perhaps with a digest.
pub(super) fn name(asked: &ImageName) -> ImageName {
    let bare = asked.as_str().split_once("@sha256:").and_then(|(bare, _)| bare.parse().ok());
    bare.unwrap_or_else(|| asked.clone())
}

/// An image's name without version and digest: what stays of it when it is renewed. A digest alone stays as it is, and so does what
/// names no image.
#[must_use]
pub fn unversioned(asked: &ImageName) -> String {
    let name = name(asked);
    match Wanted::parse(&name) {
        Ok(Wanted::Npm(wanted)) => return format!("{}{}", ImageName::NPM, wanted.name()),
        Ok(Wanted::Pypi(wanted)) => return format!("{}{}", ImageName::PYPI, wanted.name()),
        Ok(Wanted::Agent(_)) | Err(_) => {}
    }
    let reference = Reference::parse(name.as_str()).ok();
    let reference = reference.filter(|_| !name.is_reserved() && digest_in(&name).is_none());
    reference.map_or_else(
        || name.to_string(),
        |Reference { registry, repository, .. }| format!("{registry}/{repository}"),
    )
}

/// Whether it came to the digest that was asked for, if one was.
pub(super) fn check(asked: &ImageName, digest: Digest) -> Result<(), ImageError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_of_a_name_is_of_which_package_or_repository_it_is() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (name, stays) in [
            ("base", "base"),
            ("base@D", "base"),
            ("claude-code", "claude-code"),
            ("npm:tool@1.0.0", "npm:tool"),
            ("npm:tool@1.0.0@D", "npm:tool"),
            ("npm:@acme/tool@1.0.0@D", "npm:@acme/tool"),
            ("npm:@acme/tool", "npm:@acme/tool"),
            ("pypi:mcp-server-time==2026.10.19", "pypi:mcp-server-time"),
            ("pypi:mcp-server-time==2026.10.19@D", "pypi:mcp-server-time"),
            ("ghcr.io/acme/tool:v1", "ghcr.io/acme/tool"),
            ("ghcr.io/acme/tool:v1@D", "ghcr.io/acme/tool"),
            ("localhost:5000/tool@D", "localhost:5000/tool"),
            ("tool", "docker.io/library/tool"),
            ("D", "D"),
            ("a//b", "a//b"),
            ("pypi:No_Such==1", "pypi:No_Such==1"),
        ] {
            let [name, stays] = [name, stays].map(|text| text.replace('D', &digest));
            assert_eq!(unversioned(&name.parse().unwrap()), stays, "{name}");
        }
    }
}
