//! Routes about the host and its images.

use api::{ImageRequest, ImageView, Problem, ProblemKind};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::Response;
use domain::ImageName;
use serde::Deserialize;

use super::{Answer, Failed, Shared, json, lines};

pub(super) async fn doctor(State(sessions): Shared) -> Response {
    let host = std::sync::Arc::clone(&sessions.host);
    lines::steps(move |tell| Box::pin(async move { host.examine(tell).await }))
}

pub(super) async fn images(State(sessions): Shared) -> Answer<Json<Vec<ImageView>>> {
    Ok(Json(sessions.host.images().await?))
}

pub(super) async fn add_image(State(sessions): Shared, body: Bytes) -> Answer<Response> {
    let request: ImageRequest = json(&body)?;
    let host = std::sync::Arc::clone(&sessions.host);
    Ok(lines::steps(move |tell| Box::pin(async move { host.add_image(request, tell).await })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    name: String,
}

pub(super) async fn remove_image(
    State(sessions): Shared,
    Query(Named { name }): Query<Named>,
) -> Answer<Json<()>> {
    let name: ImageName = name
        .parse()
        .map_err(|e: domain::NameError| Failed(Problem::new(ProblemKind::Invalid, e.to_string())))?;
    sessions.host.remove_image(name).await?;
    Ok(Json(()))
}
