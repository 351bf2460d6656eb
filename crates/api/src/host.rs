//! The host and its images, as the API shows them.

use domain::{ImageName, Isolation};
use serde::{Deserialize, Serialize};

use crate::Problem;

/// The daemon, alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Sessions that have not ended.
    pub sessions: usize,
}

/// One line of a long answer: some progress, then one end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step<T> {
    /// What is being done, for people.
    Progress(String),
    /// It is done.
    Done(T),
    /// It failed.
    Failed(Problem),
}

/// What `doctor` saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorReport {
    /// What stands between an agent and this host; none when no cell can run.
    pub isolation: Option<Isolation>,
    /// Each thing that was looked at.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// How it is.
    pub status: CheckStatus,
    /// What was seen.
    pub seen: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// How a checked thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckStatus {
    /// As it should be.
    Good,
    /// Cells run, with less than they could have.
    Degraded,
    /// Cells can't run.
    Bad,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageView {
    /// What it is called.
    pub name: ImageName,
    /// The digest that pins it.
    pub digest: String,
    /// Bytes on disk.
    pub size: u64,
    /// The packages that it was built of, for those of npm and PyPI.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<PackageView>,
}

/// A package in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageView {
    /// Where it lies, such as `node_modules/a`.
    pub place: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The digest that its archive has.
    pub integrity: String,
}

/// An image to get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageRequest {
    /// From a registry.
    Pull {
        /// The OCI reference.
        reference: ImageName,
    },
    /// From an OCI layout (a folder or tar archive) or a `docker save` archive.
    Import {
        /// Absolute path on the daemon's host.
        path: String,
        /// What to call it.
        name: Option<ImageName>,
    },
    /// One of [`ImageName::RESERVED`], `npm:NAME@VERSION`, or `pypi:NAME==VERSION`.
    Build {
        /// Which.
        name: ImageName,
    },
}
