//! The start of a `git push`: what it asks for is taken out of its body, so that the daemon can decide on each ref.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use hyper::body::Incoming;
use wire::egress::{BodyLength, EgressRequest};
use wire::git::{Push, PushError, Start};

use super::exchange::next;
use super::refusal::Refusal;

/// Puts what is pushed into the request. What was read of the body beyond that is the rest's beginning.
pub(super) async fn take(
    request: &mut EgressRequest,
    body: &mut Incoming,
    patience: Duration,
) -> Result<Bytes, Refusal> {
    if request.headers.iter().any(|(name, _)| name == "content-encoding") {
        let why = "a push must not be compressed as a whole: what it changes could not be read";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let mut begun = BytesMut::new();
    loop {
        match Push::read(&begun) {
            Ok(Start::Whole(push, used)) => {
                let rest = begun.split_off(used).freeze();
                let is_nothing = push.changes.is_empty();
                if is_nothing
                    && (!rest.is_empty() || next(body, patience).await?.is_some_and(|more| !more.is_empty()))
                {
                    return Err(Refusal::malformed(PushError::MoreThanNothing));
                }
                request.body = if is_nothing { BodyLength::None } else { BodyLength::Unknown };
                request.push = Some(push);
                return Ok(rest);
            }
            Ok(Start::More) => {}
            Err(error @ (PushError::Malformed(_) | PushError::MoreThanNothing)) => {
                return Err(Refusal::malformed(error));
            }
            Err(
                error @ (PushError::TooMany { .. }
                | PushError::Signed
                | PushError::Options
                | PushError::Name(_)),
            ) => return Err(Refusal::new(StatusCode::FORBIDDEN, error.to_string())),
        }
        match next(body, patience).await? {
            Some(bytes) => begun.extend_from_slice(&bytes),
            None => return Err(Refusal::malformed("the push ends before it says what it changes")),
        }
    }
}
