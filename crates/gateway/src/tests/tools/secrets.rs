//! Servers over HTTP that are shown a secret of the vault: only where it is bound, never told on, and only while it is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use serde_json::Value;
use vault::Vault;

use super::hostile_http::{Reply, events, json, listening, reply, status, text_result};
use super::*;
use crate::tests::dialer;
use crate::tests::vault::{lender, set, vault};
use crate::{Credential, VaultKey};

const TOKEN: &str = "canary-token-of-the-host";

fn shown(vault: &Arc<Vault>) -> Credential {
    let key = Some("crm".parse().unwrap());
    Credential::Vault(VaultKey { lender: lender(vault), key, teams: BTreeMap::new() })
}

/// Connects to a server that is shown the token.
async fn connect(
    calls: impl Fn(&Value) -> Reply + Send + Sync + 'static,
) -> (Upstream, Arc<Vault>, tempfile::TempDir) {
    let (vault, folder) = vault();
    let address = listening(status("404 Not Found"), calls).await;
    set(&vault, "crm", TOKEN, address.as_str(), "bearer");
    let upstream = Upstream::over_http(&dialer(), &address, shown(&vault), IMPATIENT).await;
    (upstream.unwrap(), vault, folder)
}

#[tokio::test]
async fn what_a_server_says_of_the_token_that_it_was_shown_is_not_heard() {
    let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(TOKEN);
    for said in [TOKEN.to_owned(), TOKEN.replace('-', "\\u002d"), encoded] {
        for as_events in [false, true] {
            let said = said.clone();
            let (upstream, ..) = connect(move |call| {
                let result = text_result(&call["id"], &said);
                if as_events { events(&format!("event: message\ndata: {result}\n\n")) } else { json(&result) }
            })
            .await;
            assert_eq!(text(&call(&upstream, "x", "{}").await.unwrap()), "[redacted]");
        }
    }
    let (upstream, ..) = connect(|_| {
        let error = format!(r#"{{"jsonrpc":"2.0","id":null,"error":{{"code":-32000,"message":"{TOKEN}"}}}}"#);
        reply(format!("HTTP/1.1 500 X\r\ncontent-length: {}\r\n\r\n{error}", error.len()))
    })
    .await;
    let told = format!("{:?}", call(&upstream, "x", "{}").await.unwrap_err());
    assert!(told.contains("redacted") && !told.contains("canary"), "{told}");
}

#[tokio::test]
async fn a_token_that_is_removed_ends_the_calls_that_carry_it() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: wait\n\n";
    for begun in [head, ""] {
        let asked = Arc::new(tokio::sync::Notify::new());
        let told = Arc::clone(&asked);
        let hanging = move |_: &Value| {
            told.notify_one();
            Reply { hangs: true, ..reply(begun) }
        };
        let (upstream, vault, _folder) = connect(hanging).await;
        let removed = async {
            asked.notified().await;
            vault.remove(&"crm".parse().unwrap()).unwrap();
        };
        let called = async { tokio::time::timeout(Duration::from_secs(1), call(&upstream, "x", "{}")).await };
        let (called, ()) = tokio::join!(called, removed);
        let told = called.expect("within a second").unwrap_err().failure.message;
        assert!(told.contains("the secret `crm` was removed"), "{told}");
    }
}

#[tokio::test]
async fn a_token_that_is_not_bound_to_the_server_is_not_shown_to_it() {
    let (vault, _folder) = vault();
    let address = listening(status("404 Not Found"), |_| panic!("nothing is sent")).await;
    for (to, why) in
        [(None, "no secret called `crm`"), (Some("https://crm.example.com"), "is not bound to POST")]
    {
        if let Some(to) = to {
            set(&vault, "crm", TOKEN, to, "bearer");
        }
        let refused = Upstream::over_http(&dialer(), &address, shown(&vault), IMPATIENT).await.err().unwrap();
        assert!(refused.message.contains(why) && !refused.message.contains("canary"), "{refused:?}");
    }
}
