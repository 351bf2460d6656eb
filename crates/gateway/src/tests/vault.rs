//! Models asked with a key that the vault lends: only where it is bound, whose team's it is, and only while it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use ::vault::{Key, Login, Tokens, Vault};
use domain::{SecretBinding, SecretName};
use futures::future::BoxFuture;
use oauth::{Lender, Means, Renewal, Witness};
use store::{Event, Outcome};
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::VaultKey;

/// A vault with no secrets, and where it lies.
pub(crate) fn vault() -> (Arc<Vault>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let random = |bytes: &mut [u8]| {
        bytes.fill(7);
        Ok(())
    };
    let key = Key::File(folder.path().join("key"));
    let vault = Vault::open(&folder.path().join("secrets"), &key, Box::new(random)).unwrap();
    (Arc::new(vault), folder)
}

/// Hears of renewals, and tells nobody.
struct Nobody;

impl Witness for Nobody {
    fn renewed(&self, _: Renewal) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Who lends its secrets.
pub(crate) fn lender(vault: &Arc<Vault>) -> Arc<Lender> {
    let means = Means { now: Arc::new(|| 20_000), random: |_| Ok(()) };
    Lender::new(Arc::clone(vault), dialer(), means, Arc::new(Nobody))
}

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

/// Stores a secret for this address, in the header that the scripted model reads.
pub(super) fn set(vault: &Vault, secret: &str, value: &str, to: &str, how: &str) {
    let binding =
        SecretBinding { to: to.parse().unwrap(), methods: BTreeSet::new(), how: how.parse().unwrap() };
    vault.set(&name(secret), value.into(), vec![binding], 1).unwrap();
}

/// A rig whose provider is shown secrets of this vault, and the provider's address.
async fn rig(vault: &Arc<Vault>, key: Option<&str>, teams: &[(&str, &str)]) -> (Rig, String) {
    let teams: BTreeMap<_, _> =
        teams.iter().map(|(team, secret)| (team.parse().unwrap(), name(secret))).collect();
    let credential = Credential::Vault(VaultKey { lender: lender(vault), key: key.map(name), teams });
    let rig = Rig::with(1_000_000, credential, quick()).await;
    let base = rig.base.clone();
    (rig, base)
}

#[tokio::test]
async fn the_vaults_key_reaches_the_provider_and_the_ledger_names_it_only() {
    let (vault, _folder) = vault();
    let (rig, base) = rig(&vault, Some("key"), &[]).await;
    set(&vault, "key", KEY, &base, "header:x-api-key");
    assert_eq!(status(&rig.ask(anthropic()).await), 200);
    let headers = &rig.model.recorded()[0].headers;
    assert!(headers.contains(&("x-api-key".to_owned(), KEY.to_owned())), "{headers:?}");
    let ledger = rig.kept.ledger().await;
    let used = |event: &Event| matches!(event, Event::SecretUsed { secret, to } if *secret == name("key") && to.starts_with(&base));
    assert_eq!(ledger.iter().filter(|event| used(event)).count(), 1);
    assert!(!format!("{ledger:?}").contains(KEY));
}

#[tokio::test]
async fn a_key_that_is_not_bound_to_the_provider_is_not_shown_to_it() {
    let (vault, _folder) = vault();
    let (rig, base) = rig(&vault, Some("key"), &[]).await;
    let told = async |why: &str| {
        let failure = rig.failure(anthropic()).await;
        assert!(failure.message.contains(why), "{}", failure.message);
        assert!(!failure.message.contains(KEY));
    };
    told("there is no secret called `key`").await;
    for to in ["https://api.example.com".to_owned(), format!("{base}/v2"), "http://127.0.0.1:1".to_owned()] {
        set(&vault, "key", KEY, &to, "bearer");
        told("is not bound to POST http://127.0.0.1").await;
    }
    assert!(rig.model.recorded().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn a_team_is_asked_for_with_its_own_key() {
    let (vault, _folder) = vault();
    let (rig, base) = rig(&vault, Some("key"), &[("sales", "sales-key"), ("other", "other-key")]).await;
    set(&vault, "key", "canary-of-all", &base, "bearer");
    set(&vault, "sales-key", KEY, &base, "bearer");
    assert_eq!(status(&rig.ask(request(Dialect::OpenAiChat, CHAT)).await), 200);
    assert!(rig.model.recorded()[0].headers.contains(&("authorization".to_owned(), format!("Bearer {KEY}"))));
}

#[tokio::test]
async fn a_team_without_a_key_is_refused_where_keys_are_per_team() {
    let (vault, _folder) = vault();
    let (rig, base) = rig(&vault, None, &[("other", "other-key")]).await;
    set(&vault, "other-key", KEY, &base, "bearer");
    let failure = rig.failure(anthropic()).await;
    assert!(failure.message.contains("team sales has no key"), "{}", failure.message);
    assert!(rig.model.recorded().is_empty());
}

#[tokio::test]
async fn a_rotated_key_is_used_from_the_next_request_on() {
    let (vault, _folder) = vault();
    let (rig, base) = rig(&vault, Some("key"), &[]).await;
    set(&vault, "key", "canary-before", &base, "header:x-api-key");
    let failure = rig.failure(anthropic()).await;
    assert!(failure.message.contains("refused the host's credential"), "{}", failure.message);
    vault.rotate(&name("key"), KEY.into(), 2).unwrap();
    assert_eq!(status(&rig.ask(anthropic()).await), 200);
}

#[tokio::test]
async fn a_removed_key_cuts_the_calls_that_it_was_lent_to() {
    let (vault, _folder) = vault();
    let (mut rig, base) = rig(&vault, Some("key"), &[]).await;
    set(&vault, "key", KEY, &base, "header:x-api-key");
    rig.model.fail_next(demo::scripted::Fault::Slow(Duration::from_secs(60)));
    let mut stream = rig.open(&DoorOpens::Model(anthropic())).await;
    let head: Option<ModelAnswer> = frame::read(&mut stream, SMALL).await.unwrap();
    assert!(matches!(head, Some(ModelAnswer::Head { status: 200, .. })));
    // Other bytes are for the next request; this one goes on.
    vault.rotate(&name("key"), KEY.into(), 2).unwrap();
    vault.remove(&name("key")).unwrap();
    let cut = async {
        loop {
            match frame::read::<ModelAnswer, _>(&mut stream, SMALL).await {
                Ok(Some(ModelAnswer::Body(_))) => {}
                Ok(None) => break,
                other => panic!("not cut: {other:?}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(1), cut).await.expect("cut within a second");
    assert!(!counted(&rig.events().await).1, "it is counted at the worst");
    let unknown = |event: &Event| matches!(event, Event::Ended { outcome: Outcome::Unknown { .. }, .. });
    assert!(rig.kept.ledger().await.iter().any(unknown));
    let failure = rig.failure(anthropic()).await;
    assert!(failure.message.contains("there is no secret called `key`"), "{}", failure.message);
}

#[tokio::test]
async fn a_provider_that_says_the_key_is_not_heard() {
    let answer = |value: &str| format!(r#"{{"echo":"{value}","type":"message"}}"#);
    for written in [KEY.to_owned(), hex(KEY), KEY.replace('-', "%2d"), KEY.replace('-', "\\u002d")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let text = answer(&written);
        let response = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json; a={written}\r\nrequest-id: {KEY}\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            drop(connection.read(&mut [0; 4096]).await);
            connection.write_all(response.as_bytes()).await
        });
        let mut rig = Rig::new(1_000_000).await;
        let provider = provider(&base, Credential::ApiKey(KEY.into()));
        rig.service = Arc::new(ModelService::new(vec![provider], quick(), &dialer()).unwrap());
        let answers = rig.ask(anthropic()).await;
        assert_eq!(body(&answers), answer("[redacted]"));
        let Some(ModelAnswer::Head { headers, content_type, .. }) = answers.first() else {
            panic!("{answers:?}")
        };
        assert_eq!(content_type, "application/json; a=[redacted]");
        assert_eq!(headers, &[("request-id".to_owned(), "[redacted]".to_owned())]);
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// A new token, and that there is none any more.
pub(super) const GIVEN: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\
    {\"access_token\":\"canary-key-of-the-host\",\"token_type\":\"bearer\",\"refresh_token\":\"canary-next\"}";
pub(super) const REFUSED: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n\
    {\"error\":\"invalid_grant\",\"error_description\":\"canary-refresh\"}";

/// A token endpoint that answers so, each time.
pub(super) async fn token_endpoint(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            drop(connection.read(&mut [0; 4096]).await);
            drop(connection.write_all(answer.as_bytes()).await);
        }
    });
    url
}

/// What a log-in gave, which this endpoint renews.
pub(super) fn logged_in(vault: &Vault, token_url: String, to: &str, expires: Option<u64>) {
    let login = Login {
        asked: None,
        registered: false,
        issuer: "https://id.example".to_owned(),
        token_url,
        revocation_url: None,
        client: "lazaret".to_owned(),
        basic: false,
        resource: None,
        scopes: Vec::new(),
        expires,
        subscription: None,
        account: None,
    };
    let tokens = Tokens {
        access: "canary-of-yesterday".into(),
        refresh: Some("canary-refresh".into()),
        client_secret: None,
    };
    let binding = SecretBinding { to: to.parse().unwrap(), methods: [].into(), how: domain::How::Bearer };
    vault.log_in(&name("claude"), (login, tokens), vec![binding], 0).unwrap();
}

/// Who lends a vault's secrets, and the clock that tells when they end.
pub(super) fn lender_with_a_clock(vault: &Arc<Vault>) -> (Arc<Lender>, Arc<AtomicU64>) {
    let clock = Arc::new(AtomicU64::new(1));
    let now = Arc::clone(&clock);
    let means = Means { now: Arc::new(move || now.load(Ordering::SeqCst)), random: |_| Ok(()) };
    (Lender::new(Arc::clone(vault), dialer(), means, Arc::new(Nobody)), clock)
}

/// Who lends a vault's secrets when they are old enough to be renewed.
pub(super) fn late_lender(vault: &Arc<Vault>) -> Arc<Lender> {
    let means = Means { now: Arc::new(|| 3_600_000), random: |_| Ok(()) };
    Lender::new(Arc::clone(vault), dialer(), means, Arc::new(Nobody))
}

fn lending_late(vault: &Arc<Vault>) -> Credential {
    let lender = late_lender(vault);
    Credential::Vault(VaultKey { lender, key: Some(name("claude")), teams: BTreeMap::new() })
}

#[tokio::test]
async fn a_subscriptions_token_is_renewed_once_when_the_provider_refuses_it() {
    let (vault, _folder) = vault();
    let rig = Rig::with(1_000_000, lending_late(&vault), quick()).await;
    logged_in(&vault, token_endpoint(GIVEN).await, &rig.base, None);
    assert_eq!(status(&rig.ask(anthropic()).await), 200);
    let asked = rig.model.recorded();
    let shown = |at: usize, header: &str, value: &str| {
        asked[at].headers.contains(&(header.to_owned(), value.to_owned()))
    };
    assert_eq!(asked.len(), 2);
    assert!(shown(0, "authorization", "Bearer canary-of-yesterday"));
    assert!(shown(1, "authorization", &format!("Bearer {KEY}")));
    assert!(shown(1, "anthropic-beta", "oauth-2025-04-20"), "{asked:?}");
    // One call: what the first answer cost is not counted twice.
    assert_eq!(vault.login(&name("claude")).unwrap().tokens.refresh.unwrap().reveal(), b"canary-next");
    assert!(!format!("{:?}", rig.kept.ledger().await).contains("canary"));
}

#[tokio::test]
async fn a_log_in_that_has_ended_is_told_to_whoever_asks_a_model() {
    let (vault, _folder) = vault();
    let rig = Rig::with(1_000_000, lending_late(&vault), quick()).await;
    logged_in(&vault, token_endpoint(REFUSED).await, &rig.base, Some(1000));
    let failure = rig.failure(anthropic()).await;
    assert!(failure.message.contains("log in again by `lazaret secret login claude`"), "{}", failure.message);
    assert!(!failure.message.contains("canary"), "{}", failure.message);
    assert!(rig.model.recorded().is_empty());
}
