//! The front: reads what a door asks for on a stream, and has the right service answer it.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use wire::frame::FrameError;
use wire::host::DoorOpens;

use crate::egress::{self, EgressGate, Leaves};
use crate::tools::{self, ToolGate};
use crate::{ModelService, ModelSession};

/// How long a door may take to say what it wants.
const HEAD_TIME: Duration = Duration::from_secs(60);

/// Why a door was not served.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The door did not speak as agreed, or has gone.
    #[error("the door can't be understood: {0}")]
    Door(#[from] FrameError),
    /// The door opened a stream and said nothing.
    #[error("the door did not say what it wants within {} s", HEAD_TIME.as_secs())]
    Nameless,
    /// The HTTP client can't be made.
    #[error("the HTTP client can't be made: {0}")]
    Client(#[from] reqwest::Error),
}

/// What one session may use.
#[derive(Clone, Copy)]
pub struct Services<'a> {
    /// Asks the providers.
    pub models: &'a ModelService,
    /// The session's right to models.
    pub session: &'a ModelSession,
    /// Who decides about tools.
    pub tools: &'a dyn ToolGate,
    /// Who decides about what leaves.
    pub egress: &'a dyn EgressGate,
    /// Certificates for the servers that are asked for.
    pub leaves: &'a Leaves,
}

impl Services<'_> {
    /// Serves one stream that a door opened: reads what it wants, and answers it. When the door lets go of its side,
    /// the request is given up.
    ///
    /// # Errors
    /// When the door did not speak as agreed.
    pub async fn serve<S>(&self, mut stream: S) -> Result<(), ServiceError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let head = tokio::time::timeout(HEAD_TIME, DoorOpens::read(&mut stream));
        let Some(wanted) = head.await.map_err(|_elapsed| ServiceError::Nameless)?? else { return Ok(()) };
        match wanted {
            DoorOpens::Models => self.models.serve(self.session, None, stream).await?,
            DoorOpens::Model(request) => self.models.serve(self.session, Some(request), stream).await?,
            DoorOpens::Tools(ask) => tools::serve(ask, stream, self.tools).await?,
            DoorOpens::Egress(request) => egress::serve(request, stream, self.egress).await?,
            DoorOpens::Leaf { host } => self.leaves.serve(&host, stream).await?,
        }
        Ok(())
    }
}
