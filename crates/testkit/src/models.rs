//! A session's models without its cell: the real model service, behind a session that may ask it and nothing else.

use std::sync::Arc;

use domain::ModelName;
use gateway::egress::{Authority, Closed, Leaves};
use gateway::{ModelEvent, ModelService, ModelSession, ServiceError, Services};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::cell_less::models_only;

/// The service, and the session.
pub struct Models {
    /// Where the session keeps its ledger.
    pub folder: tempfile::TempDir,
    service: ModelService,
    session: ModelSession,
    leaves: Leaves,
}

impl Models {
    /// A session that may ask these models for so many tokens, and what it is told.
    ///
    /// # Panics
    /// When anything of it fails: it is for tests.
    pub async fn new(
        service: ModelService,
        models: Vec<ModelName>,
        tokens: u64,
    ) -> (Self, mpsc::Receiver<ModelEvent>) {
        let (gate, folder) = models_only(&models).await;
        let (events, told) = mpsc::channel(64);
        let session = ModelSession::new(models, tokens, gate, events);
        let authority = Authority::open(&folder.path().join("authority.key")).expect("an authority");
        (Self { folder, service, session, leaves: Leaves::new(Arc::new(authority)) }, told)
    }

    /// Answers one question of a door, as the daemon does.
    ///
    /// # Errors
    /// When the door did not speak as agreed.
    pub async fn serve<S>(&self, stream: S) -> Result<(), ServiceError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let services = Services {
            models: &self.service,
            session: &self.session,
            tools: self.session.gate.as_ref(),
            egress: &Closed,
            leaves: &self.leaves,
        };
        services.serve(stream).await
    }
}
