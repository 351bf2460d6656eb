//! A mailbox whose secret is a log-in: its token is shown to Dovecot and Exim, which ask whose it is; renewed; and never told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dial::{Dialer, Network};
use domain::{How, SecretBinding, SecretName};
use futures::future::BoxFuture;
use gateway::tools::ProgressSink;
use gateway::tools::upstream::{Acted, CallFailed, MailKey, MailServer, Upstream};
use mail::Place;
use oauth::{Lender, Means, Renewal, Witness};
use serde_json::{Value, json};
use testkit::authorization::{Authorization, Wrong};
use testkit::cell_less::random;
use testkit::mail::{MailServers, USER};
use tokio_util::sync::CancellationToken;
use vault::{Key, Login, Tokens, Vault};
use wire::tools::Content;

const START: u64 = 1_795_000_000_000;
const HOUR: u64 = 3_600_000;

/// Both servers, who gives tokens for them, and a mailbox whose secret is a log-in.
struct Rig {
    authorization: Authorization,
    servers: MailServers,
    mailbox: Upstream,
    vault: Arc<Vault>,
    clock: Arc<AtomicU64>,
    _folder: tempfile::TempDir,
}

fn name() -> SecretName {
    "gmail".parse().unwrap()
}

/// Hears of renewals, and tells nobody.
struct Nobody;

impl Witness for Nobody {
    fn renewed(&self, _: Renewal) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

impl Rig {
    async fn start(mechanisms: &[&str]) -> Self {
        let authorization = Authorization::start().await;
        let servers = MailServers::with_tokens(&authorization, mechanisms);
        let folder = tempfile::tempdir().unwrap();
        let key = Key::File(folder.path().join("key"));
        let vault = Arc::new(Vault::open(&folder.path().join("vault"), &key, Box::new(random)).unwrap());
        let bindings = [servers.imap(), servers.smtps()].map(|to| SecretBinding {
            to: to.parse().unwrap(),
            methods: [].into(),
            how: How::Bearer,
        });
        let (access, refresh) = authorization.tokens();
        let login = Login {
            asked: None,
            issuer: authorization.issuer(),
            token_url: format!("{}/token", authorization.issuer()),
            revocation_url: None,
            client: "lazaret".to_owned(),
            registered: false,
            basic: false,
            resource: Some(authorization.mcp()),
            scopes: Vec::new(),
            expires: Some(START + HOUR),
            subscription: None,
            account: None,
        };
        let (access, refresh) = (access.as_str().into(), Some(refresh.as_str().into()));
        let tokens = Tokens { access, refresh, client_secret: None };
        vault.log_in(&name(), (login, tokens), bindings.into(), START).unwrap();
        let clock = Arc::new(AtomicU64::new(START));
        let shown = Arc::clone(&clock);
        let means = Means { now: Arc::new(move || shown.load(Ordering::SeqCst)), random };
        let dialer = Dialer::new(Network { ca: Some(servers.ca()), ..Network::default() }).unwrap();
        let lender = Lender::new(Arc::clone(&vault), dialer.clone(), means, Arc::new(Nobody));
        let place = Place::new(&servers.imap(), &servers.smtps(), USER, USER).unwrap();
        let server = MailServer::new(
            place,
            MailKey::Vault(lender, name()),
            dialer,
            Arc::new(testkit::cell_less::random),
        );
        let mailbox = Upstream::mail(server);
        Self { authorization, servers, mailbox, vault, clock, _folder: folder }
    }

    async fn tried(&self, tool: &str, arguments: Value) -> Result<Value, CallFailed> {
        let (never, tool) = (CancellationToken::new(), tool.parse().unwrap());
        let result = self.mailbox.call(&tool, &arguments.to_string(), ProgressSink::NONE, &never).await?;
        let [Content::Text(text)] = result.content.as_slice() else { panic!("{result:?}") };
        assert!(!text.contains("canary-access"), "{text}");
        Ok(serde_json::from_str(text).unwrap())
    }

    async fn call(&self, tool: &str, arguments: Value) -> Value {
        self.tried(tool, arguments).await.unwrap_or_else(|e| panic!("{tool}: {}", e.failure.message))
    }

    /// The token that the vault has now.
    fn token(&self) -> String {
        self.vault.login(&name()).unwrap().tokens.access.reveal_text().unwrap().to_owned()
    }

    fn later(&self, by: u64) {
        self.clock.fetch_add(by, Ordering::SeqCst);
    }
}

fn to_bob(subject: &str) -> Value {
    json!({"to": ["bob@acme.example"], "subject": subject, "body": "At noon?"})
}

#[tokio::test]
async fn a_token_signs_in_at_both_servers_in_the_way_that_they_offer() {
    for mechanisms in [&["oauthbearer", "xoauth2"][..], &["xoauth2"], &["oauthbearer"]] {
        let rig = Rig::start(mechanisms).await;
        let token = rig.token();
        rig.servers.deliver(
            "1",
            &format!("From: eve@evil.example\nTo: {USER}\nSubject: {token}\n\nYours? {token}\n"),
        );
        let found = rig.call("search", json!({})).await;
        assert_eq!(found["result"][0]["subject"], "[redacted]", "{found}");
        assert_eq!(rig.call("send", to_bob("Lunch")).await["sent"], true);
        assert!(rig.servers.delivered(1)[0].contains("At noon?"));
        assert_eq!(rig.authorization.renewals(), 0);
    }
}

#[tokio::test]
async fn servers_that_take_no_tokens_are_shown_none() {
    let rig = Rig::start(&[]).await;
    for (tool, arguments) in [("list_folders", json!({})), ("send", to_bob("x"))] {
        let failed = rig.tried(tool, arguments).await.unwrap_err();
        assert!(
            failed.failure.message.contains("neither OAUTHBEARER nor XOAUTH2"),
            "{}",
            failed.failure.message
        );
        assert_eq!((failed.failure.hint, failed.acted), (None, Acted::No));
    }
}

#[tokio::test]
async fn a_token_that_ends_or_is_refused_is_renewed_and_the_call_made_once_more() {
    let rig = Rig::start(&["oauthbearer", "xoauth2"]).await;
    let first = rig.token();
    // About to end: nobody is shown it.
    rig.later(HOUR - 1000);
    rig.call("list_folders", json!({})).await;
    assert_eq!(rig.authorization.renewals(), 1);
    // Refused, though it seemed good: by the one server, then by the other.
    for (renewals, tool, arguments) in [(2, "list_folders", json!({})), (3, "send", to_bob("Once"))] {
        rig.later(61_000);
        rig.authorization.revoke();
        rig.call(tool, arguments).await;
        assert_eq!(rig.authorization.renewals(), renewals, "{tool}");
    }
    // Whatever came twice came before this one.
    rig.call("send", to_bob("Marker")).await;
    let mails = rig.servers.delivered(2);
    assert_eq!(mails.iter().filter(|mail| mail.contains("Once")).count(), 1, "{mails:?}");
    assert!(mails.iter().any(|mail| mail.contains("Marker")), "{mails:?}");
    assert_ne!(rig.token(), first);
}

#[tokio::test]
async fn a_token_that_is_no_good_is_told_with_what_to_do_and_never_shown() {
    let rig = Rig::start(&["oauthbearer", "xoauth2"]).await;
    rig.authorization.revoke();
    rig.authorization.be(Wrong::NoRenewal);
    rig.later(61_000);
    for (tool, arguments) in [("list_folders", json!({})), ("send", to_bob("x"))] {
        let failed = rig.tried(tool, arguments).await.unwrap_err();
        let (message, hint) = (failed.failure.message, failed.failure.hint.unwrap_or_default());
        assert!(message.contains(&format!("signing in as `{USER}` failed")), "{message}");
        assert!(hint.contains("log in again by `lazaret secret login gmail`"), "{hint}");
        assert!(!message.contains("canary"), "{message}");
        assert_eq!(failed.acted, Acted::No);
    }
    // Once it has ended, no server is asked.
    rig.later(HOUR);
    let ended = rig.tried("list_folders", json!({})).await.unwrap_err().failure.message;
    assert!(ended.contains("has ended (invalid_grant): log in again by"), "{ended}");
    assert!(rig.servers.sent().is_empty());
}
