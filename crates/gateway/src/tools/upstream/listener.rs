//! What a tool server says without being asked: progress is passed on, changes are noted, and what it asks for (models,
//! the person, the host's files) is refused.
#![expect(
    deprecated,
    reason = "roots are on their way out of the protocol; servers that still ask are refused"
)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::model::{
    ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult, ErrorCode, Implementation,
    ListRootsResult, ProgressNotificationParam, ProgressToken,
};
use rmcp::service::{NotificationContext, RequestContext};
use rmcp::{ClientHandler, ErrorData, RoleClient};
use tokio::sync::watch;
use wire::tools::{Amount, MAX_SHORT, Progress, shortened};

use crate::tools::ProgressSink;

/// Hears one server.
#[derive(Clone)]
pub(super) struct Listener {
    waiting: Arc<Mutex<HashMap<ProgressToken, ProgressSink>>>,
    changes: watch::Sender<u64>,
}

/// A call that hears of its progress for as long as this lives.
pub(super) struct Listening {
    listener: Listener,
    token: ProgressToken,
}

impl Listener {
    pub(super) fn new() -> (Self, watch::Receiver<u64>) {
        let (changes, heard) = watch::channel(0);
        (Self { waiting: Arc::default(), changes }, heard)
    }

    /// Passes progress under this token on from now on.
    pub(super) fn listen(&self, token: ProgressToken, sink: ProgressSink) -> Listening {
        self.lock().insert(token.clone(), sink);
        Listening { listener: self.clone(), token }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ProgressToken, ProgressSink>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_change(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.listener.lock().remove(&self.token);
    }
}

fn refused(what: &'static str) -> ErrorData {
    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, what, None)
}

/// Models (sampling) are refused by the library's own default.
impl ClientHandler for Listener {
    fn get_info(&self) -> ClientConfig {
        // No capability: a server that keeps to the protocol asks for nothing.
        ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("lazaret", env!("CARGO_PKG_VERSION")),
        )
    }

    async fn list_roots(&self, _context: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        Err(refused("no files are offered"))
    }

    async fn create_elicitation(
        &self,
        _asked: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Err(refused("the person is not asked on a server's behalf"))
    }

    async fn on_progress(&self, told: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        let Some(sink) = self.lock().get(&told.progress_token).cloned() else { return };
        let Ok(done) = Amount::try_from(told.progress) else { return };
        let total = told.total.and_then(|total| Amount::try_from(total).ok());
        let message = told.message.map(|message| shortened(message, MAX_SHORT));
        sink.tell(Progress { done, total, message });
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.note_change();
    }

    async fn on_resource_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.note_change();
    }

    async fn on_prompt_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.note_change();
    }
}
