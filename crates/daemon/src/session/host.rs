//! What sessions need of the host: images and cells. Behind a trait, so that sessions are tested without a VM.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::{DoctorReport, ImageRequest, ImageView, Problem};
use domain::{AgentName, CellId, ImageName, Isolation, Limits, ServerName, TeamName};
use futures::future::BoxFuture;
use tokio::net::UnixStream;

/// Is told what is being done, for people.
pub(crate) type Tell = Arc<dyn Fn(String) + Send + Sync>;

/// An image that can be run.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// The read-only file system.
    pub(crate) path: PathBuf,
    /// Its environment, `NAME=value`.
    pub(crate) env: Arc<[String]>,
}

/// Whose a disk is.
#[derive(Debug, Clone)]
pub(crate) enum DiskOf {
    /// Nobody's: a fresh one that goes away with its cell.
    Nobody,
    /// An agent's.
    Agent(AgentName),
    /// That of a team's tool server.
    Server(TeamName, ServerName),
}

/// A cell to start.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Its id.
    pub(crate) id: CellId,
    /// What it runs.
    pub(crate) image: Image,
    /// Whose disk it has.
    pub(crate) disk: DiskOf,
    /// Its limits.
    pub(crate) limits: Limits,
    /// Boot a kernel of its own instead of a clone.
    pub(crate) cold: bool,
    /// Whether an emulated machine will do.
    pub(crate) allow_emulation: bool,
}

/// A cell that was started.
pub(crate) struct Started {
    /// What stands between it and the host, as observed.
    pub(crate) isolation: Isolation,
    /// The daemon's end of the door's socket pair.
    pub(crate) link: UnixStream,
    /// The cell itself.
    pub(crate) cell: Box<dyn LiveCell>,
}

/// A cell that runs. Dropping it ends it at once.
pub(crate) trait LiveCell: Send {
    /// Takes note that its guest was born.
    fn born(&self) -> BoxFuture<'_, ()>;
    /// Waits until it has ended by itself; then why. Safe to cancel.
    fn ended(&mut self) -> BoxFuture<'_, String>;
    /// Stops it and clears up. What still runs after the grace is killed.
    fn stop(self: Box<Self>, grace: Duration) -> BoxFuture<'static, ()>;
}

/// Why a cell was not started.
#[derive(Debug)]
pub(crate) enum StartFailure {
    /// A rule forbids it on this host.
    Refused {
        /// Which.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// It failed.
    Failed(String),
}

/// The host.
pub(crate) trait Host: Send + Sync {
    /// The image of this name, built if it is one of Lazaret's own and missing.
    fn image(&self, name: ImageName, tell: Tell) -> BoxFuture<'_, Result<Image, Problem>>;
    /// Starts a cell.
    fn start(&self, wanted: Wanted, tell: Tell) -> BoxFuture<'_, Result<Started, StartFailure>>;
    /// Examines the host.
    fn examine(&self, tell: Tell) -> BoxFuture<'_, Result<DoctorReport, Problem>>;
    /// Every image.
    fn images(&self) -> BoxFuture<'_, Result<Vec<ImageView>, Problem>>;
    /// Gets an image.
    fn add_image(&self, request: ImageRequest, tell: Tell) -> BoxFuture<'_, Result<ImageView, Problem>>;
    /// Removes an image.
    fn remove_image(&self, name: ImageName) -> BoxFuture<'_, Result<(), Problem>>;
}
