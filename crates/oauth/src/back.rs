//! What a log-in brings back, from a browser or pasted by a person: a code, or the word no, and the state that only this log-in
//! knows.

use ring::digest::{Digest, SHA256, digest};
use secrecy::zeroize::Zeroizing;

use crate::listen::Listener;
use crate::paste::Pastes;
use crate::{OauthError, listen};

/// What came back.
pub(crate) struct Back {
    /// The code, or the code of an error.
    pub(crate) code: Result<Zeroizing<String>, String>,
    /// Whose it is said to be.
    pub(crate) issuer: Option<String>,
}

/// The way back.
pub(crate) enum WayBack {
    /// A browser comes to a port of this machine, or what its address bar says is pasted.
    Here(Listener, Option<Pastes>),
    /// It stays elsewhere, and shows what is pasted.
    Elsewhere(&'static str, Pastes),
}

/// What only one log-in knows. Compared as digests: how long that takes tells nothing.
#[derive(Clone)]
pub(crate) struct State(Digest);

impl State {
    pub(crate) fn new(state: &str) -> Self {
        Self(digest(&SHA256, state.as_bytes()))
    }

    pub(crate) fn is(&self, state: &str) -> bool {
        digest(&SHA256, state.as_bytes()).as_ref() == self.0.as_ref()
    }

    /// What a query says; none: it is of no log-in that was begun with this state.
    pub(crate) fn read(&self, query: &str) -> Option<Back> {
        let one = |name: &str| {
            let mut found = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
            let value = found.next().map(|(_, value)| value.into_owned());
            if found.next().is_some() { Err(()) } else { Ok(value) }
        };
        let (Ok(Some(state)), Ok(code), Ok(error), Ok(issuer)) =
            (one("state"), one("code"), one("error"), one("iss"))
        else {
            return None;
        };
        let code = match (code, error) {
            (Some(code), None) => Ok(Zeroizing::new(code)),
            (None, Some(error)) => Err(error),
            (Some(_) | None, _) => return None,
        };
        self.is(&state).then_some(Back { code, issuer })
    }
}

impl WayBack {
    /// Where the browser is sent.
    pub(crate) fn uri(&self) -> String {
        match self {
            Self::Here(listener, _) => listener.uri(),
            Self::Elsewhere(uri, _) => (*uri).to_owned(),
        }
    }

    /// Which browser will do.
    pub(crate) fn browser(&self) -> &'static str {
        match self {
            Self::Here(_, None) => "a browser on this machine",
            Self::Here(_, Some(_)) | Self::Elsewhere(..) => "any browser",
        }
    }

    /// Waits for who knows the state.
    pub(crate) async fn wait(self, state: &State) -> Result<Back, OauthError> {
        let uri = self.uri();
        match self {
            Self::Here(listener, None) => listener.wait(state).await,
            Self::Here(listener, Some(mut pastes)) => tokio::select! {
                back = listener.wait(state) => back,
                back = pastes.wait(&uri, state) => Ok(back),
            },
            Self::Elsewhere(_, mut pastes) => {
                let back = tokio::time::timeout(listen::PATIENCE, pastes.wait(&uri, state)).await;
                back.map_err(|_elapsed| listen::late())
            }
        }
    }
}
