//! The requests that are being answered, so that a later message can cancel one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use wire::json::Json;

/// Every request of one cell that waits for its answer, by its id. Programs of one cell may use the same ids: then a
/// cancellation could mean either request, and none is cancelled.
#[derive(Clone, Default)]
pub(super) struct Calls(Arc<Mutex<HashMap<String, Vec<CancellationToken>>>>);

/// One request. It waits for its answer for as long as this lives.
#[derive(Clone)]
pub(super) struct Call(Arc<Entry>);

struct Entry {
    calls: Calls,
    id: String,
    cancelled: CancellationToken,
}

impl Calls {
    /// Takes note of a request, or cancels what a message cancels.
    pub(super) fn take_note(&self, message: &Json) -> Option<Call> {
        let method = match message.get("method") {
            Some(Json::Text(method)) => method.as_str(),
            Some(_) | None => return None,
        };
        if method == "notifications/cancelled" {
            if let Some(id) = message.get("params").and_then(|params| params.get("requestId")) {
                self.cancel(&id.to_string());
            }
            return None;
        }
        let id = message.get("id")?.to_string();
        let cancelled = CancellationToken::new();
        self.lock().entry(id.clone()).or_default().push(cancelled.clone());
        Some(Call(Arc::new(Entry { calls: self.clone(), id, cancelled })))
    }

    fn cancel(&self, id: &str) {
        if let Some([only]) = self.lock().get(id).map(Vec::as_slice) {
            only.cancel();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<CancellationToken>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// Returns when it was cancelled by a message.
    pub(super) async fn cancelled(&self) {
        self.0.cancelled.cancelled().await;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // One token is as good as another: each stands for one request of this id that still waits.
        self.cancelled.cancel();
        let mut calls = self.calls.lock();
        if let Some(waiting) = calls.get_mut(&self.id) {
            waiting.retain(|token| !token.is_cancelled());
            if waiting.is_empty() {
                calls.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Json {
        let bounds = wire::tools::BODY;
        Json::parse(text, bounds).unwrap()
    }

    fn is_cancelled(call: &Call) -> bool {
        call.0.cancelled.is_cancelled()
    }

    #[test]
    fn a_request_is_cancelled_by_its_id_while_it_waits() {
        let calls = Calls::default();
        let asked = message(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call"}"#);
        let cancel = message(r#"{"method":"notifications/cancelled","params":{"requestId":7}}"#);
        let other = message(r#"{"method":"notifications/cancelled","params":{"requestId":"7"}}"#);
        let call = calls.take_note(&asked).unwrap();
        assert!(calls.take_note(&other).is_none() && !is_cancelled(&call), "a text is another id");
        assert!(calls.take_note(&cancel).is_none() && is_cancelled(&call));
        drop(call);
        assert!(calls.lock().is_empty());

        let (first, second) = (calls.take_note(&asked).unwrap(), calls.take_note(&asked).unwrap());
        calls.take_note(&cancel);
        assert!(!is_cancelled(&first) && !is_cancelled(&second), "it could mean either");
        drop(first);
        calls.take_note(&cancel);
        assert!(is_cancelled(&second));
    }

    #[test]
    fn what_is_no_request_is_not_noted() {
        let calls = Calls::default();
        for text in
            [r#"{"method":"notifications/initialized"}"#, r#"{"id":1,"result":{}}"#, r#"{"method":3,"id":1}"#]
        {
            assert!(calls.take_note(&message(text)).is_none(), "{text}");
        }
    }
}
