//! A session as others see it: its state, its events, its input, and the ways to stop it.

use std::sync::{Arc, Mutex, PoisonError};

use api::SessionView;
use domain::SessionId;
use gateway::tools::Authors;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use wire::mux::Opener;
use wire::process::ToProcess;

use crate::journal::Journals;

/// Most programs that people run beside a harness at once.
const MAX_EXECS: usize = 16;

/// The two ways to stop a session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stops {
    /// In order.
    pub(crate) asked: CancellationToken,
    /// At once.
    pub(crate) now: CancellationToken,
}

/// What is there while the harness runs.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    /// Opens streams to the door.
    pub(crate) opener: Opener,
    /// The image's environment, for further programs.
    pub(crate) image_env: Arc<[String]>,
    /// Whether programs may run as root of the guest, in tests of single layers.
    pub(crate) guest_root: bool,
    /// Room for further programs.
    pub(crate) execs: Arc<Semaphore>,
}

impl Live {
    pub(super) fn new(opener: Opener, image_env: Arc<[String]>, guest_root: bool) -> Self {
        Self { opener, image_env, guest_root, execs: Arc::new(Semaphore::new(MAX_EXECS)) }
    }
}

/// A session that has not ended, as others see it.
#[derive(Debug)]
pub(crate) struct Session {
    view: watch::Receiver<SessionView>,
    journals: Journals,
    input: mpsc::Sender<ToProcess>,
    workspace: Mutex<Option<oneshot::Sender<Vec<u8>>>>,
    live: watch::Receiver<Option<Live>>,
    stops: Stops,
    authors: Authors,
}

impl Session {
    pub(super) fn new(
        view: watch::Receiver<SessionView>,
        journals: Journals,
        input: mpsc::Sender<ToProcess>,
        workspace: oneshot::Sender<Vec<u8>>,
        live: watch::Receiver<Option<Live>>,
        stops: Stops,
        authors: Authors,
    ) -> Self {
        Self { view, journals, input, workspace: Mutex::new(Some(workspace)), live, stops, authors }
    }

    /// Its id.
    pub(crate) fn id(&self) -> SessionId {
        self.view.borrow().id
    }

    /// What it is now.
    pub(crate) fn view(&self) -> SessionView {
        self.view.borrow().clone()
    }

    /// Its events.
    pub(crate) fn journals(&self) -> Journals {
        self.journals.clone()
    }

    /// Whose words it follows.
    pub(crate) fn authors(&self) -> &Authors {
        &self.authors
    }

    /// Where input for its harness goes; it waits there until the harness reads it.
    pub(crate) fn input(&self) -> mpsc::Sender<ToProcess> {
        self.input.clone()
    }

    /// What is there while its harness runs.
    pub(crate) fn live(&self) -> Option<Live> {
        self.live.borrow().clone()
    }

    /// Who takes its workspace: once, while it waits for one.
    pub(crate) fn workspace(&self) -> Option<oneshot::Sender<Vec<u8>>> {
        let taker = self.workspace.lock().unwrap_or_else(PoisonError::into_inner).take();
        taker.filter(|taker| !taker.is_closed())
    }

    /// It waits on.
    pub(crate) fn waits(&self, taker: oneshot::Sender<Vec<u8>>) {
        *self.workspace.lock().unwrap_or_else(PoisonError::into_inner) = Some(taker);
    }

    /// Stops it.
    pub(crate) fn stop(&self, now: bool) {
        if now {
            self.stops.now.cancel();
        }
        self.stops.asked.cancel();
    }

    /// Ends once it has ended.
    pub(crate) async fn ended(&self) {
        let mut view = self.view.clone();
        // An error means that its task is gone, which is an end too.
        drop(view.wait_for(|view| view.ended.is_some()).await);
    }
}
