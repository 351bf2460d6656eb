//! Routes for secrets: owners store, rotate and remove them. No answer, log or entry of the ledger holds their bytes.

use std::sync::Arc;

use api::{NewSecret, Problem, ProblemKind, RotateRequest, SecretView};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use domain::{PersonName, SecretName};
use serde::de::DeserializeOwned;
use store::{About, Event};
use vault::{ChangeError, Secret, Vault};

use super::caller::Caller;
use super::{Answer, Failed, Shared, internal};
use crate::journal::now;
use crate::session::Sessions;

pub(super) async fn secrets(State(sessions): Shared) -> Json<Vec<SecretView>> {
    let view = |secret: vault::Described| SecretView {
        name: secret.name,
        bindings: secret.bindings,
        set: secret.set,
        rotated: secret.rotated,
    };
    Json(sessions.vault().list().into_iter().map(view).collect())
}

pub(super) async fn set(
    State(sessions): Shared,
    Caller(by): Caller,
    Path(name): Path<SecretName>,
    body: Bytes,
) -> Answer<Json<()>> {
    let NewSecret { value, bindings } = read(body)?;
    let places = bindings.iter().map(ToString::to_string).collect();
    let value = Secret::from(value.0.as_str());
    let event = |by: PersonName| Event::SecretSet { secret: name.clone(), places, by };
    let stored = name.clone();
    change(&sessions, move |vault| vault.set(&stored, value, bindings, now())).await?;
    record(&sessions, &event(by.name)).await
}

pub(super) async fn rotate(
    State(sessions): Shared,
    Caller(by): Caller,
    Path(name): Path<SecretName>,
    body: Bytes,
) -> Answer<Json<()>> {
    let RotateRequest { value } = read(body)?;
    let value = Secret::from(value.0.as_str());
    let stored = name.clone();
    change(&sessions, move |vault| vault.rotate(&stored, value, now())).await?;
    record(&sessions, &Event::SecretRotated { secret: name, by: by.name }).await
}

pub(super) async fn remove(
    State(sessions): Shared,
    Caller(by): Caller,
    Path(name): Path<SecretName>,
) -> Answer<Json<()>> {
    let stored = name.clone();
    change(&sessions, move |vault| vault.remove(&stored)).await?;
    record(&sessions, &Event::SecretRemoved { secret: name, by: by.name }).await
}

/// Reads a body that holds a secret: what is wrong with it is told by place, not by quoting it.
fn read<T: DeserializeOwned>(body: Bytes) -> Answer<T> {
    let read = serde_json::from_slice(&body).map_err(|e| {
        let message = format!("the request can't be read: line {}, column {}", e.line(), e.column());
        Failed(Problem::new(ProblemKind::Invalid, message))
    });
    // Nobody else holds the buffer: then it is wiped.
    if let Ok(mut bytes) = body.try_into_mut() {
        bytes.fill(0);
    }
    read
}

/// The disk is waited for elsewhere.
async fn change(
    sessions: &Arc<Sessions>,
    with: impl FnOnce(&Vault) -> Result<(), ChangeError> + Send + 'static,
) -> Answer<()> {
    let vault = Arc::clone(sessions.vault());
    let changed = tokio::task::spawn_blocking(move || with(&vault)).await.map_err(internal)?;
    changed.map_err(|error| {
        let kind = match error {
            ChangeError::Unknown(_) => ProblemKind::NotFound,
            ChangeError::Full => ProblemKind::Conflict,
            ChangeError::Secret(_) | ChangeError::Binding(_) | ChangeError::Bindings(_) => {
                ProblemKind::Invalid
            }
            ChangeError::Vault(_) => ProblemKind::Internal,
        };
        let problem = Problem::new(kind, error.to_string());
        Failed(if kind == ProblemKind::NotFound {
            problem.hint("`lazaret secret ls` lists them")
        } else {
            problem
        })
    })
}

async fn record(sessions: &Sessions, event: &Event) -> Answer<Json<()>> {
    sessions.store().record(&About::default(), event, None, now()).await.map_err(internal)?;
    Ok(Json(()))
}
