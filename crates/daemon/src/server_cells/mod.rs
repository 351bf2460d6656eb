//! Local tool servers: each runs in a cell of its own, one per team, never on the host and never shared. A cell starts when
//! its team first wants the server, is started anew after it died, and goes when nobody is connected to it.
//!
//! ```text
//! connect ▶ (wait, if it failed lately) ▶ image ▶ cell ▶ container ▶ program ▶ speak MCP ▶ let go ▶ cell gone
//! ```

mod log;
mod owner;
mod restarts;
#[cfg(test)]
mod tests;
mod way_out;

#[cfg(test)]
pub(crate) use tests::way;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::{RunningServer, ServerCell};
use domain::{ServerName, TeamName};
use gateway::tools::upstream::{Upstream, UpstreamLimits};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire::tools::{ToolFailure, ToolFailureKind};

use crate::session::{Host, StartFailure};
use owner::{Ended, Owner};
use restarts::Restarts;
pub(crate) use way_out::{Ways, rules};

/// Bytes between the gateway and a program that are on their way.
const PIPE: usize = 64 * 1024;
/// Most cells at once.
const MAX_CELLS: usize = 32;
/// How long whoever connects may be held up by a server that failed lately.
const PATIENCE: Duration = Duration::from_secs(5);

/// A team's server.
type Key = (TeamName, ServerName);

/// The cells of all local tool servers.
pub(crate) struct ServerCells {
    host: Arc<dyn Host>,
    ways: Ways,
    allow_emulation: bool,
    logs: PathBuf,
    places: Mutex<BTreeMap<Key, Arc<Place>>>,
    tasks: TaskTracker,
    /// For so many cells more.
    room: Arc<Semaphore>,
    end: CancellationToken,
}

/// The place of one cell, whether there is one or not.
#[derive(Default)]
struct Place {
    /// Whoever holds it starts and stops the cell.
    turn: tokio::sync::Mutex<Turn>,
    seen: Mutex<Option<RunningServer>>,
}

#[derive(Default)]
struct Turn {
    cell: Option<(CancellationToken, JoinHandle<Ended>)>,
    restarts: Restarts,
}

impl ServerCells {
    /// None yet.
    pub(crate) fn new(host: Arc<dyn Host>, ways: Ways, allow_emulation: bool, logs: PathBuf) -> Self {
        let (places, tasks, end) = (Mutex::default(), TaskTracker::new(), CancellationToken::new());
        let room = Arc::new(Semaphore::new(MAX_CELLS));
        Self { host, ways, allow_emulation, logs, places, tasks, room, end }
    }

    /// Lets nothing more out of a server's cells, whose calls may still run.
    pub(crate) fn close_ways(&self, server: &ServerName) {
        self.ways.close(server);
    }

    /// Starts the team's cell of the server, and speaks to it. Letting go of the connection stops the cell.
    pub(crate) async fn connect(
        &self,
        team: &TeamName,
        server: &ServerName,
        wanted: &ServerCell,
    ) -> Result<Upstream, ToolFailure> {
        let place = self.place(team, server);
        let mut turn = place.turn.lock().await;
        // The one before holds the disk until it is gone.
        if let Some(ended) = turn.clear().await {
            turn.note(ended, wanted.limits.idle.as_duration());
        }
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            let why = format!("{MAX_CELLS} cells of tool servers are up already");
            return Err(
                failed(why).hint("`lazaret server ls` lists them; those that nobody uses go by themselves")
            );
        };
        let wait = turn.restarts.wait(Instant::now());
        if wait > PATIENCE {
            let why = format!(
                "tool server {server} failed {} times in a row: it is not started for {} s",
                turn.restarts.failures(),
                wait.as_secs()
            );
            return Err(failed(why).hint(format!("`lazaret server show {server}` shows why")));
        }
        tokio::time::sleep(wait).await;
        let way_out = self.ways.make(team, server, wanted).await.map_err(failed)?;
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let stop = self.end.child_token();
        let (ready, stands) = oneshot::channel();
        let owner = Owner {
            host: Arc::clone(&self.host),
            key: (team.clone(), server.clone()),
            cell: wanted.clone(),
            way_out,
            allow_emulation: self.allow_emulation || wanted.allow_emulation,
            log: self.log(team, server),
            place: Arc::clone(&place),
            _room: room,
            stop: stop.clone(),
        };
        turn.cell = Some((stop, self.tasks.spawn(owner.run(theirs, ready))));
        match stands.await {
            Ok(Ok(())) => {}
            Ok(Err(StartFailure::Refused { why, hint })) => {
                return Err(ToolFailure::new(ToolFailureKind::Refused, why).hint(hint));
            }
            Ok(Err(StartFailure::Failed(why))) => {
                turn.clear().await;
                turn.restarts.failed(Instant::now(), Duration::ZERO);
                return Err(failed(format!("tool server {server} can't be started: {why}")));
            }
            Err(_) => return Err(failed(format!("tool server {server} was stopped"))),
        }
        match Upstream::over_stream(ours, UpstreamLimits::default()).await {
            Ok(upstream) => Ok(upstream),
            Err(failure) => {
                turn.clear().await;
                turn.restarts.failed(Instant::now(), Duration::ZERO);
                Err(failure.hint(format!("`lazaret server show {server}` shows what it wrote")))
            }
        }
    }

    /// The cells that live.
    pub(crate) fn running(&self) -> Vec<RunningServer> {
        let seen = |place: &Arc<Place>| place.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.places().values().filter_map(seen).collect()
    }

    /// The last lines that a team's server wrote to its standard error.
    pub(crate) fn last_words(&self, team: &TeamName, server: &ServerName) -> Vec<String> {
        log::tail(&self.log(team, server))
    }

    /// Waits until they are being stopped for good.
    pub(crate) async fn ending(&self) {
        self.end.cancelled().await;
    }

    /// Stops all in order, and waits for them.
    pub(crate) async fn stop_all(&self) {
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn place(&self, team: &TeamName, server: &ServerName) -> Arc<Place> {
        Arc::clone(self.places().entry((team.clone(), server.clone())).or_default())
    }

    fn places(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self, team: &TeamName, server: &ServerName) -> PathBuf {
        self.logs.join(team.as_str()).join(format!("{server}.log"))
    }
}

impl Turn {
    /// Ends the cell, if there is one; how it ended.
    async fn clear(&mut self) -> Option<Ended> {
        let (stop, ended) = self.cell.as_mut()?;
        stop.cancel();
        let ended = ended.await;
        self.cell = None;
        ended.map_err(|error| tracing::error!(%error, "the task of a tool server's cell failed")).ok()
    }

    fn note(&mut self, ended: Ended, idle: Duration) {
        match ended {
            // Sooner than that nobody lets go of it for want of use: it broke a rule of the protocol.
            Ended::LetGo { after } if after < idle => self.restarts.failed(Instant::now(), after),
            Ended::LetGo { .. } => self.restarts.steady(),
            Ended::Refused => {}
            Ended::Died { after } => self.restarts.failed(Instant::now(), after),
        }
    }
}

impl Place {
    fn show(&self, running: Option<RunningServer>) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }
}

fn failed(why: String) -> ToolFailure {
    ToolFailure::new(ToolFailureKind::Upstream, why).bounded()
}
