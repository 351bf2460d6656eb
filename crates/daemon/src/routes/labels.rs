//! Routes for labels: what keeps bytes of what kind, and a person's word that something holds no more than that.

use api::{LabelsView, LowerRequest, MAX_WHY, Problem, ProblemKind};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use store::{Keeper, LowerError};

use super::caller::Caller;
use super::{Answer, Failed, Shared, internal, json};
use crate::journal::now;

pub(super) async fn labels(State(sessions): Shared) -> Answer<Json<Vec<LabelsView>>> {
    let all = sessions.store().all_labels().await.map_err(internal)?;
    let view = |(keeper, labels): (Keeper, _)| LabelsView { keeper: keeper.to_string(), labels };
    Ok(Json(all.into_iter().map(view).collect()))
}

pub(super) async fn lower(State(sessions): Shared, Caller(by): Caller, body: Bytes) -> Answer<Json<()>> {
    let LowerRequest { keeper, labels, why } = json(&body)?;
    let invalid = |message: String| Failed(Problem::new(ProblemKind::Invalid, message));
    let keeper: Keeper = keeper.parse().map_err(|e: store::KeeperError| invalid(e.to_string()))?;
    if matches!(keeper, Keeper::Session(_)) {
        let problem = Problem::new(ProblemKind::Refused, "what a session has met, it has met");
        return Err(Failed(problem.hint("lower its agent's disk, and start another session")));
    }
    if why.trim().is_empty() || why.len() > MAX_WHY {
        return Err(invalid(format!("`why` has 1 to {MAX_WHY} bytes, for the ledger")));
    }
    match sessions.store().lower(&keeper, &labels, &by.name, &why, now()).await {
        Ok(()) => Ok(Json(())),
        Err(refused @ LowerError::NotOwner(_)) => {
            Err(Failed(Problem::new(ProblemKind::Refused, refused.to_string())))
        }
        Err(refused @ LowerError::NotLower { .. }) => Err(invalid(refused.to_string())),
        Err(LowerError::Store(error)) => Err(internal(error)),
    }
}
