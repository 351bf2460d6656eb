//! Logging in against a real authorization server on loopback, strict or wrong in one way; and tokens that are renewed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dial::{Dialer, Network};
use domain::{How, Scheme, SecretBinding, SecretName, Target};
use futures::future::BoxFuture;
use gateway::tools::ProgressSink;
use gateway::tools::upstream::{Upstream, UpstreamLimits};
use gateway::{BaseUrl, Credential, VaultKey};
use oauth::{At, LendError, Lender, LogIn, Means, OauthError, Renewal, Way, Witness};
use testkit::authorization::{Authorization, Falter, Wrong};
use testkit::cell_less::random;
use tokio::sync::mpsc;
use url::Url;
use vault::{Key, Login, Tokens, Vault};

const START: u64 = 1_795_000_000_000;
const HOUR: u64 = 3_600_000;

/// A clock that tests set, and what else is taken of the machine.
fn means() -> (Means, Arc<AtomicU64>) {
    let clock = Arc::new(AtomicU64::new(START));
    let shown = Arc::clone(&clock);
    (Means { now: Arc::new(move || shown.load(Ordering::SeqCst)), random }, clock)
}

fn dialer() -> Dialer {
    Dialer::new(Network::default()).unwrap()
}

fn at(server: &Authorization) -> At {
    At::Server(server.mcp().parse().unwrap())
}

/// Logs in, with a browser that does as `browses` says with what the person is told.
async fn log_in<B>(at: At, way: Way, browses: impl FnOnce(String) -> B) -> Result<(Login, Tokens), OauthError>
where
    B: Future<Output = ()>,
{
    // Somebody trusts what no dialer goes to.
    let trust = vec!["https://169.254.169.254".parse().unwrap()];
    log_in_as(LogIn { at, client: None, scopes: Vec::new(), way, trust, known_to: None }, browses).await
}

async fn log_in_as<B>(asked: LogIn, browses: impl FnOnce(String) -> B) -> Result<(Login, Tokens), OauthError>
where
    B: Future<Output = ()>,
{
    let (tell, mut told) = mpsc::unbounded_channel();
    let tell = move |text: String| drop(tell.send(text));
    let (means, _) = means();
    let private = vec!["127.0.0.1".parse().unwrap()];
    let dialer = Dialer::new(Network { private, ..Network::default() }).unwrap();
    let browsed = async {
        let text = told.recv().await.unwrap_or_default();
        browses(text).await;
    };
    // Whoever waits for a browser in vain waits for long.
    tokio::time::timeout(Duration::from_secs(60), async {
        tokio::select! {
            ended = asked.run(&dialer, &means, &tell) => ended,
            () = async { browsed.await; std::future::pending().await } => unreachable!(),
        }
    })
    .await
    .expect("in time")
}

/// The person's browser.
fn browser() -> reqwest::Client {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

fn url_in(told: &str) -> Url {
    told.rsplit_once(": ").unwrap().1.parse().unwrap()
}

/// Where the authorization server sends the browser back to.
async fn sent_back(told: &str) -> String {
    let answer = browser().get(url_in(told)).send().await.unwrap();
    assert_eq!(answer.status(), 302, "{told}");
    answer.headers()["location"].to_str().unwrap().to_owned()
}

async fn status(url: &str) -> Option<u16> {
    browser().get(url).send().await.ok().map(|answer| answer.status().as_u16())
}

async fn honest(told: String) {
    let back = sent_back(&told).await;
    assert_eq!(status(&back).await, Some(200));
}

#[tokio::test]
async fn a_person_logs_in_by_a_browser_and_the_code_is_good_once() {
    let server = Authorization::start().await;
    let replayed = Arc::new(std::sync::Mutex::new(String::new()));
    let noted = Arc::clone(&replayed);
    let browses = |told: String| async move {
        assert!(told.contains("code_challenge_method=S256") && told.contains("resource="), "{told}");
        let back = sent_back(&told).await;
        noted.lock().unwrap().clone_from(&back);
        assert_eq!(status(&back).await, Some(200));
    };
    let (login, tokens) = log_in(at(&server), Way::Browser, browses).await.unwrap();
    assert_eq!(login.issuer, server.issuer());
    assert_eq!(login.resource, Some(server.mcp()));
    assert_eq!(login.scopes, ["tools:use"]);
    assert_eq!(login.expires, Some(START + HOUR));
    assert!(tokens.access.reveal_text().unwrap().starts_with("canary-access"));
    assert!(tokens.refresh.is_some());
    let again = replayed.lock().unwrap().clone();
    assert_eq!(status(&again).await, None, "nobody listens any more");
}

#[tokio::test]
async fn strangers_who_call_where_the_browser_comes_back_get_nothing_and_end_nothing() {
    let server = Authorization::start().await;
    let browses = |told: String| async move {
        let back = sent_back(&told).await;
        let url: Url = back.parse().unwrap();
        let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        let here = format!("http://{}:{}", url.host_str().unwrap(), url.port().unwrap());
        let place = url.path().to_owned();
        assert!(place.starts_with("/callback/"), "{place}");
        for (path, expected) in [
            (format!("{place}?code=evil&state=guess"), 400),
            (format!("{place}?code=evil"), 400),
            (format!("{place}?code=evil&state={state}&state={state}"), 400),
            (format!("{place}?code=evil&code=evil&state={state}"), 400),
            (format!("{place}?code=evil&error=x&state={state}"), 400),
            (format!("{place}?state={state}"), 400),
            // Where a client of another issuer would come back.
            (format!("/callback?code=evil&state={state}"), 404),
            (format!("/callback/AAAAAAAAAAA?code=evil&state={state}"), 404),
        ] {
            assert_eq!(status(&format!("{here}{path}")).await, Some(expected), "{path}");
        }
        // A page that leads here under another name, though it knew the state; another method; no HTTP at all.
        let rebound = browser().get(&back).header("host", "evil.example").send().await.unwrap();
        assert_eq!(rebound.status(), 421);
        assert_eq!(browser().post(&back).send().await.unwrap().status(), 404);
        let mut silent = tokio::net::TcpStream::connect(url.socket_addrs(|| None).unwrap()[0]).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut silent, b"\0\0").await.unwrap();
        assert_eq!(status(&back).await, Some(200));
    };
    log_in(at(&server), Way::Browser, browses).await.unwrap();
}

#[tokio::test]
async fn a_person_who_says_no_is_believed() {
    let server = Authorization::start().await;
    let browses = |told: String| async move {
        let back: Url = sent_back(&told).await.parse().unwrap();
        let pairs = back
            .query_pairs()
            .filter(|(name, _)| name != "code")
            .map(|(a, b)| (a.into_owned(), b.into_owned()));
        let mut no = back.clone();
        no.query_pairs_mut()
            .clear()
            .extend_pairs(pairs.collect::<Vec<_>>())
            .append_pair("error", "access_denied");
        assert_eq!(status(no.as_str()).await, Some(200));
    };
    let error = log_in(at(&server), Way::Browser, browses).await.err().unwrap();
    assert!(error.to_string().ends_with("gives no token: access_denied"), "{error}");
}

#[tokio::test]
async fn a_person_logs_in_with_a_code_on_another_machine() {
    let server = Authorization::start().await;
    let approving = server.clone();
    let browses = |told: String| async move {
        assert!(told.ends_with("/as/type with the code ABCD-EFGH"), "{told}");
        approving.approve_devices();
    };
    let (login, tokens) = log_in(at(&server), Way::Device, browses).await.unwrap();
    assert_eq!(login.issuer, server.issuer());
    assert!(tokens.refresh.is_some());
}

#[tokio::test]
async fn nobody_types_a_code_at_a_host_that_they_did_not_name_and_lists_have_an_end() {
    let server = Authorization::start().await;
    server.be(Wrong::TypedElsewhere);
    let asked = |trust: Vec<Url>, scopes: usize| LogIn {
        at: at(&server),
        client: None,
        scopes: vec!["a".to_owned(); scopes],
        way: Way::Device,
        trust,
        known_to: None,
    };
    let named: Vec<Url> = (0..33).map(|n| format!("https://h{n}.example").parse().unwrap()).collect();
    for (trust, scopes, why) in [
        (Vec::new(), 0, "`https://169.254.169.254`, which shows the page that you type the code at"),
        (named, 0, "more than 32 hosts take part"),
        (Vec::new(), 65, "64 scopes"),
    ] {
        let nobody = |told: String| async move { panic!("somebody is told {told}") };
        let told = log_in_as(asked(trust, scopes), nobody).await.err().unwrap().to_string();
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(server.token_requests(), 0);
}

#[tokio::test]
async fn a_log_in_with_a_code_goes_on_through_what_passes_and_ends_where_it_is_refused() {
    let logged_in = |how: &'static [Falter]| async move {
        let server = Authorization::start().await;
        server.falter(how);
        let approving = server.clone();
        let browses = |_told: String| async move { approving.approve_devices() };
        let ended = log_in(at(&server), Way::Device, browses).await;
        (ended.map(|_| ()).map_err(|error| error.to_string()), server.token_requests())
    };
    // At once, since each waits for the interval that it is told.
    let passing: [&[Falter]; 5] = [
        &[Falter::Drop],
        &[Falter::Status(503, None), Falter::Status(502, Some(1))],
        &[Falter::Status(408, None)],
        &[Falter::Status(429, Some(2))],
        &[Falter::Error("slow_down")],
    ];
    for (how, (ended, asked)) in passing.iter().zip(futures::future::join_all(passing.map(logged_in)).await) {
        assert_eq!((ended, asked), (Ok(()), how.len() as u64 + 1), "{how:?}");
    }
    let ending: [(&[Falter], &str); 4] = [
        (&[Falter::Error("access_denied")], "gives no token: access_denied"),
        (&[Falter::Error("expired_token")], "gives no token: expired_token"),
        (&[Falter::Status(403, None)], "answers HTTP 403"),
        (&[Falter::Status(200, None)], "answers what can't be read"),
    ];
    let ended = futures::future::join_all(ending.map(|(how, _)| logged_in(how))).await;
    for ((how, told), (ended, asked)) in ending.iter().zip(ended) {
        assert!(ended.as_ref().is_err_and(|error| error.contains(told)), "{how:?}: {ended:?}");
        assert_eq!(asked, 1, "{how:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_wrong_gets_no_code_and_gives_no_token() {
    for (wrong, told) in [
        (Wrong::OtherIssuer, "speaks for another than the one that was asked for"),
        (Wrong::OtherIssuerBack, "is not of `http://127.0.0.1"),
        (Wrong::NoPkce, "offers no protection of codes"),
        (Wrong::OtherResource, "describes another server"),
        (Wrong::DescribedElsewhere, "another host describes it"),
        (Wrong::PrivateEndpoint, "leads to 169.254.169.254"),
        (Wrong::Endless, "gives an answer of more than 128 KiB"),
    ] {
        let server = Authorization::start().await;
        server.be(wrong);
        let error = log_in(at(&server), Way::Browser, honest).await.err().unwrap().to_string();
        assert!(error.contains(told), "{wrong:?}: {error}");
    }
}

#[tokio::test]
async fn nobody_is_sent_a_proof_or_a_token_whom_the_person_did_not_name() {
    for (wrong, does) in [
        (Wrong::PrivateEndpoint, "is sent what proves your log-in"),
        (Wrong::RevokesElsewhere, "is sent the tokens when they are to be revoked"),
    ] {
        let server = Authorization::start().await;
        server.be(wrong);
        let (scopes, trust) = (Vec::new(), Vec::new());
        let asked = LogIn { at: at(&server), client: None, scopes, way: Way::Browser, trust, known_to: None };
        let error = log_in_as(asked, honest).await.err().unwrap().to_string();
        assert!(error.contains(&format!("`https://169.254.169.254`, which {does}")), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_shows_anothers_page_gets_no_code_of_it() {
    let (real, hostile) = (Authorization::start().await, Authorization::start().await);
    real.be(Wrong::Old);
    hostile.lure_to(&real);
    let asked = |trust: &[&String]| LogIn {
        at: at(&hostile),
        client: Some(("lazaret".to_owned(), None)),
        scopes: Vec::new(),
        way: Way::Browser,
        trust: trust.iter().map(|url| url.parse().unwrap()).collect(),
        known_to: None,
    };
    // The person is told where they would log in.
    let error = log_in_as(asked(&[]), honest).await.err().unwrap();
    let told = format!("`{}`, which shows the page that you log in at", real.base);
    assert!(error.to_string().contains(&told) && matches!(error, OauthError::Elsewhere { .. }), "{error}");
    // And were they to say yes: that page must say whom it spoke for, though the server says that it needn't.
    let browses = |told: String| async move {
        let back = sent_back(&told).await;
        assert!(back.contains("/callback?code="), "the real one gave a code: {back}");
        assert_eq!(status(&back).await, Some(200));
    };
    let error = log_in_as(asked(&[&real.base]), browses).await.err().unwrap();
    assert!(matches!(error, OauthError::MixedUp { .. }), "{error}");
    assert_eq!(hostile.token_requests(), 0);
}

#[tokio::test]
async fn who_gives_tokens_may_be_another_host_if_a_person_says_so() {
    let (tool, login) = (Authorization::start().await, Authorization::start().await);
    tool.belong_to(&login);
    let asked = |trust: &[&String]| LogIn {
        at: at(&tool),
        client: None,
        scopes: Vec::new(),
        way: Way::Browser,
        trust: trust.iter().map(|url| url.parse().unwrap()).collect(),
        known_to: None,
    };
    let error = log_in_as(asked(&[]), honest).await.err().unwrap();
    let OauthError::Elsewhere { began, parties } = error else { panic!("{error}") };
    assert_eq!(began, tool.base);
    assert!(parties.iter().all(|party| party.origin == login.base), "{parties:?}");
    assert_eq!(parties.len(), 5, "{parties:?}");
    assert_eq!(login.token_requests(), 0);
    let (given, _) = log_in_as(asked(&[&login.base]), honest).await.unwrap();
    assert_eq!((given.issuer, given.resource), (login.issuer(), Some(tool.mcp())));
}

#[tokio::test]
async fn what_is_not_encrypted_is_not_asked() {
    for (at, told) in [
        ("http://login.example/", "can't be asked for tokens"),
        ("https://user:word@login.example/", "can't be asked for tokens"),
    ] {
        let error = log_in(At::Issuer(at.parse().unwrap()), Way::Browser, honest).await.err().unwrap();
        assert!(error.to_string().contains(told) && !error.to_string().contains("word"), "{error}");
    }
}

#[tokio::test]
async fn a_host_is_trusted_by_its_whole_address_and_a_client_is_shown_to_whom_it_is_known_only() {
    let server = Authorization::start().await;
    let asked = |trust: &str, known_to: Option<&str>| LogIn {
        at: at(&server),
        client: Some(("ours".to_owned(), Some("canary-client".into()))),
        scopes: Vec::new(),
        way: Way::Browser,
        trust: vec![trust.parse().unwrap()],
        known_to: known_to.map(str::to_owned),
    };
    for (not_whole, told) in
        [("id.example.com:443", "`id.example.com:` can't be asked"), ("canary:8080", "`canary:`")]
    {
        let error = log_in_as(asked(not_whole, None), honest).await.err().unwrap().to_string();
        assert!(error.contains(told) && error.contains("write https://host"), "{error}");
    }
    let other = "https://id.example.com";
    let error = log_in_as(asked(other, Some(other)), honest).await.err().unwrap();
    assert!(matches!(error, OauthError::OtherIssuer { .. }), "{error}");
    assert_eq!(server.token_requests(), 0);

    // And who gives tokens may not get one that was given to a client that was made for another log-in.
    let (lender, _clock, _folder) = logged_in(&server).await;
    let kept = lender.vault().login(&name()).unwrap();
    let again = LogIn::again(&kept, Way::Had("canary-refresh".into())).err();
    assert!(matches!(again, Some(OauthError::NotItsClient)));
}

/// What was told of renewals.
#[derive(Default)]
struct Told(Mutex<Vec<Renewal>>);

impl Witness for Told {
    fn renewed(&self, renewal: Renewal) -> BoxFuture<'_, ()> {
        self.0.lock().unwrap().push(renewal);
        Box::pin(async {})
    }
}

/// A vault with a token of this server, as a log-in gave it.
async fn logged_in(server: &Authorization) -> (Arc<Lender>, Arc<AtomicU64>, tempfile::TempDir) {
    witnessed(server, Arc::default()).await
}

/// The same; what is renewed is told to this one.
async fn witnessed(
    server: &Authorization,
    told: Arc<Told>,
) -> (Arc<Lender>, Arc<AtomicU64>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let key = Key::File(folder.path().join("key"));
    let vault = Vault::open(&folder.path().join("secrets"), &key, Box::new(random)).unwrap();
    let got = log_in(at(server), Way::Browser, honest).await.unwrap();
    let to = server.mcp().parse().unwrap();
    let binding = SecretBinding { to, methods: [].into(), how: How::Bearer };
    vault.log_in(&name(), got, vec![binding], START).unwrap();
    let (means, clock) = means();
    (Lender::new(Arc::new(vault), dialer(), means, told), clock, folder)
}

fn name() -> SecretName {
    "crm".parse().unwrap()
}

async fn lent(lender: &Arc<Lender>, server: &Authorization) -> Result<String, String> {
    let url: Url = server.mcp().parse().unwrap();
    let port = url.port().unwrap();
    let to = Target { scheme: Scheme::Http, host: "127.0.0.1", port, method: "POST", path: "/mcp" };
    let lent = lender.lend(&name(), &to).await.map_err(|error| error.to_string())?;
    Ok(lent.value.reveal_text().unwrap().to_owned())
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_once_for_all_who_wait() {
    let server = Authorization::start().await;
    let (lender, clock, folder) = logged_in(&server).await;
    let first = lent(&lender, &server).await.unwrap();
    assert_eq!(lent(&lender, &server).await.unwrap(), first);
    assert_eq!(server.renewals(), 0);
    clock.fetch_add(HOUR - 30_000, Ordering::SeqCst);
    let both = futures::future::join_all((0..8).map(|_| lent(&lender, &server))).await;
    let second = both[0].clone().unwrap();
    assert!(second != first && both.iter().all(|one| one.as_ref() == Ok(&second)), "{both:?}");
    assert_eq!(server.renewals(), 1);
    // What renews it next is on the disk: the one before is good for nothing any more.
    drop(lender);
    let key = Key::File(folder.path().join("key"));
    let vault = Vault::open(&folder.path().join("secrets"), &key, Box::new(random)).unwrap();
    let (means, clock) = means();
    clock.store(START + 2 * HOUR, Ordering::SeqCst);
    let lender = Lender::new(Arc::new(vault), dialer(), means, Arc::new(Told::default()));
    assert_ne!(lent(&lender, &server).await.unwrap(), second);
    assert_eq!(server.renewals(), 2);
}

#[tokio::test]
async fn a_server_whose_tokens_end_at_once_is_not_asked_with_each_request() {
    let server = Authorization::start().await;
    let (lender, clock, _folder) = logged_in(&server).await;
    server.give_for(0);
    clock.fetch_add(HOUR, Ordering::SeqCst);
    for _ in 0..8 {
        lent(&lender, &server).await.unwrap();
        clock.fetch_add(1000, Ordering::SeqCst);
    }
    assert_eq!(server.renewals(), 1);
    clock.fetch_add(3000, Ordering::SeqCst);
    lent(&lender, &server).await.unwrap();
    assert_eq!(server.renewals(), 2);
}

#[tokio::test]
async fn each_renewal_is_told_with_its_result_and_no_bytes() {
    let server = Authorization::start().await;
    let told = Arc::new(Told::default());
    let (lender, clock, _folder) = witnessed(&server, Arc::clone(&told)).await;
    lent(&lender, &server).await.unwrap();
    assert!(told.0.lock().unwrap().is_empty(), "nothing was renewed");
    clock.fetch_add(HOUR, Ordering::SeqCst);
    drop(futures::future::join_all((0..8).map(|_| lent(&lender, &server))).await);
    for wrong in [Wrong::Broken, Wrong::NoRenewal] {
        server.be(wrong);
        clock.fetch_add(HOUR, Ordering::SeqCst);
        lent(&lender, &server).await.unwrap_err();
        lent(&lender, &server).await.unwrap_err();
    }
    let told = told.0.lock().unwrap();
    let [renewed, broken, ended] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((&renewed.secret, &renewed.issuer, &renewed.failed), (&name(), &server.issuer(), &None));
    assert!(matches!(broken.failed, Some(LendError::NotNow { .. })), "{broken:?}");
    assert!(
        matches!(&ended.failed, Some(LendError::Ended { why, .. }) if why == "invalid_grant"),
        "{ended:?}"
    );
    assert!(!format!("{told:?}").contains("canary"));
}

#[tokio::test]
async fn a_renewal_whose_caller_went_away_is_kept() {
    let server = Authorization::start().await;
    let (lender, clock, _folder) = logged_in(&server).await;
    clock.fetch_add(HOUR, Ordering::SeqCst);
    let held = server.hold_renewals();
    let given_up = tokio::time::timeout(Duration::from_millis(200), lent(&lender, &server)).await;
    assert!(given_up.is_err());
    // A token of its own for each renewal: were it asked twice, the second would wait for ever.
    held.notify_one();
    let renewed = tokio::time::timeout(Duration::from_secs(5), lent(&lender, &server)).await;
    renewed.expect("what was begun ended").unwrap();
    assert_eq!(server.renewals(), 1);
}

#[tokio::test]
async fn a_log_in_that_has_ended_says_so_and_is_not_asked_again() {
    let server = Authorization::start().await;
    let (lender, clock, _folder) = logged_in(&server).await;
    server.be(Wrong::NoRenewal);
    clock.fetch_add(HOUR - 1000, Ordering::SeqCst);
    assert!(lent(&lender, &server).await.is_ok(), "it is good to its very end");
    clock.fetch_add(HOUR, Ordering::SeqCst);
    let told = lent(&lender, &server).await.unwrap_err();
    assert!(
        told.contains("invalid_grant") && told.contains("log in again by `lazaret secret login crm`"),
        "{told}"
    );
    assert!(!told.contains("canary"), "{told}");
}

#[tokio::test]
async fn a_server_that_can_not_be_asked_now_is_asked_later() {
    let server = Authorization::start().await;
    let (lender, clock, _folder) = logged_in(&server).await;
    server.be(Wrong::Broken);
    clock.fetch_add(HOUR, Ordering::SeqCst);
    let told = lent(&lender, &server).await.unwrap_err();
    assert!(told.contains("can't be renewed") && told.contains("HTTP 502"), "{told}");
    // The refresh token was not used up.
    server.be(Wrong::OtherResource);
    assert!(lent(&lender, &server).await.is_err(), "not at once");
    clock.fetch_add(11_000, Ordering::SeqCst);
    assert!(lent(&lender, &server).await.is_ok());
}

#[tokio::test]
async fn what_a_renewal_gave_and_could_not_be_kept_is_kept_later_and_nobody_is_asked_for_more() {
    let server = Authorization::start().await;
    let (lender, clock, folder) = logged_in(&server).await;
    clock.fetch_add(HOUR, Ordering::SeqCst);
    let away = folder.path().with_extension("away");
    std::fs::rename(folder.path(), &away).unwrap();
    let told = lent(&lender, &server).await.unwrap_err();
    assert!(told.contains("can't be kept"), "{told}");
    assert_eq!(server.renewals(), 1);
    std::fs::rename(&away, folder.path()).unwrap();
    clock.fetch_add(11_000, Ordering::SeqCst);
    let token = lent(&lender, &server).await.unwrap();
    assert_eq!(server.renewals(), 1);
    assert!(server.takes(token.strip_prefix("Bearer ").unwrap()));
    let kept =
        Vault::open(&folder.path().join("secrets"), &Key::File(folder.path().join("key")), Box::new(random));
    let kept = kept.unwrap().login(&name()).unwrap();
    assert_eq!(format!("Bearer {}", kept.tokens.access.reveal_text().unwrap()), token);
}

#[tokio::test]
async fn what_a_renewal_gave_and_could_not_be_kept_is_what_is_revoked() {
    let server = Authorization::start().await;
    let (lender, clock, folder) = logged_in(&server).await;
    clock.fetch_add(HOUR, Ordering::SeqCst);
    let away = folder.path().with_extension("away");
    std::fs::rename(folder.path(), &away).unwrap();
    lent(&lender, &server).await.unwrap_err();
    std::fs::rename(&away, folder.path()).unwrap();
    let kept = lender.vault().remove(&name()).unwrap().unwrap();
    lender.revoke(&name(), &kept).await.unwrap();
    let revoked = server.revoked();
    let old = [kept.tokens.refresh.as_ref().unwrap(), &kept.tokens.access];
    assert_eq!(revoked.len(), 2);
    assert!(old.iter().all(|old| !revoked.contains(&old.reveal_text().unwrap().to_owned())), "{revoked:?}");
    assert!(revoked.iter().all(|token| !server.takes(token)), "{revoked:?}");
}

#[tokio::test]
async fn a_log_in_that_is_removed_is_revoked_by_both_its_tokens() {
    let server = Authorization::start().await;
    let (lender, _clock, _folder) = logged_in(&server).await;
    let kept = lender.vault().remove(&name()).unwrap().unwrap();
    lender.revoke(&name(), &kept).await.unwrap();
    let tokens = [kept.tokens.refresh.as_ref().unwrap(), &kept.tokens.access];
    assert_eq!(server.revoked(), tokens.map(|token| token.reveal_text().unwrap()));
}

#[tokio::test]
async fn what_a_renewal_gives_too_late_is_revoked_unless_it_may_be_the_newer_log_ins() {
    /// What takes the place of the log-in while it is renewed.
    enum Then {
        Nothing,
        AnotherSecret,
        AnotherLogIn,
        OneOfTheSameClient,
        OneOfTheSameClientElsewhere,
    }
    for then in [
        Then::Nothing,
        Then::AnotherSecret,
        Then::AnotherLogIn,
        Then::OneOfTheSameClient,
        Then::OneOfTheSameClientElsewhere,
    ] {
        let server = Authorization::start().await;
        let told = Arc::new(Told::default());
        let (lender, clock, _folder) = witnessed(&server, Arc::clone(&told)).await;
        clock.fetch_add(HOUR, Ordering::SeqCst);
        let before = lender.vault().login(&name()).unwrap();
        let held = server.hold_renewals();
        let waits = tokio::spawn({
            let (lender, server) = (Arc::clone(&lender), server.clone());
            async move { lent(&lender, &server).await }
        });
        server.renewal_waits().await;
        let binding =
            SecretBinding { to: server.mcp().parse().unwrap(), methods: [].into(), how: How::Bearer };
        let vault = lender.vault();
        match then {
            Then::Nothing => drop(vault.remove(&name()).unwrap()),
            Then::AnotherSecret => {
                drop(vault.set(&name(), "canary-set".into(), vec![binding], START).unwrap())
            }
            Then::AnotherLogIn | Then::OneOfTheSameClient => {
                let (mut login, tokens) = log_in(at(&server), Way::Browser, honest).await.unwrap();
                login.expires = None;
                if matches!(then, Then::OneOfTheSameClient) {
                    login.client.clone_from(&before.login.client);
                }
                drop(vault.log_in(&name(), (login, tokens), vec![binding], START).unwrap());
            }
            Then::OneOfTheSameClientElsewhere => {
                let (mut login, tokens) = log_in(at(&server), Way::Browser, honest).await.unwrap();
                login.client.clone_from(&before.login.client);
                drop(vault.remove(&name()).unwrap());
                let wiki = "wiki".parse().unwrap();
                drop(vault.log_in(&wiki, (login, tokens), vec![binding], START).unwrap());
            }
        }
        held.notify_one();
        let lent = waits.await.unwrap();
        match then {
            Then::Nothing | Then::OneOfTheSameClientElsewhere => {
                assert!(lent.unwrap_err().contains("there is no secret called `crm`"));
            }
            Then::AnotherSecret => assert_eq!(lent.unwrap(), "Bearer canary-set"),
            Then::AnotherLogIn | Then::OneOfTheSameClient => {
                let there = vault.login(&name()).unwrap();
                assert_eq!(lent.unwrap(), format!("Bearer {}", there.tokens.access.reveal_text().unwrap()));
            }
        }
        // Both tokens that the renewal gave, and none that is used.
        let (revoked, told) = (server.revoked(), told.0.lock().unwrap());
        let [Renewal { failed: Some(LendError::Replaced { revoked: told, .. }), .. }] = told.as_slice()
        else {
            panic!("{told:?}")
        };
        if matches!(then, Then::OneOfTheSameClient | Then::OneOfTheSameClientElsewhere) {
            assert!(revoked.is_empty() && told.is_none(), "{revoked:?} {told:?}");
            continue;
        }
        assert_eq!(*told, Some(Ok(())));
        let [refresh, access] = revoked.as_slice() else { panic!("{revoked:?}") };
        assert!(refresh.starts_with("canary-refresh") && access.starts_with("canary-access"), "{revoked:?}");
        let old = before.tokens.refresh.as_ref().unwrap();
        assert!(refresh != old.reveal_text().unwrap() && !server.takes(refresh) && !server.takes(access));
    }
}

#[tokio::test]
async fn a_log_in_that_can_not_be_revoked_is_told_in_time_and_without_its_tokens() {
    for (at_log_in, later, expected) in [
        (Some(Wrong::NoRevocation), None, "offers no way to revoke tokens"),
        (Some(Wrong::RevokesElsewhere), None, "leads to 169.254.169.254"),
        (None, Some(Wrong::Broken), "doesn't revoke it: HTTP 502"),
        (None, Some(Wrong::Silent), "no answer within 5 s"),
    ] {
        let server = Authorization::start().await;
        at_log_in.into_iter().for_each(|wrong| server.be(wrong));
        let (lender, _clock, _folder) = logged_in(&server).await;
        later.into_iter().for_each(|wrong| server.be(wrong));
        let kept = lender.vault().remove(&name()).unwrap().unwrap();
        let told = lender.revoke(&name(), &kept).await.unwrap_err().to_string();
        assert!(told.contains(expected) && !told.contains("canary"), "{told}");
        assert!(lent(&lender, &server).await.is_err(), "it is removed all the same");
    }
}

#[tokio::test]
async fn a_tool_servers_token_that_was_revoked_is_renewed_once_and_never_told() {
    let server = Authorization::start().await;
    let (lender, clock, _folder) = logged_in(&server).await;
    let key = VaultKey { lender, key: Some(name()), teams: [].into() };
    let address = BaseUrl::parse(&server.mcp(), false).unwrap();
    let limits = UpstreamLimits::default();
    let upstream = Upstream::over_http(&dialer(), &address, Credential::Vault(key), limits).await.unwrap();
    let call = async || {
        let never = tokio_util::sync::CancellationToken::new();
        let called = upstream.call(&"look".parse().unwrap(), "{}", ProgressSink::NONE, &never).await;
        called.map(|result| format!("{:?}", result.content)).map_err(|failed| failed.failure.message)
    };
    let text = call().await.unwrap();
    assert!(text.contains("you showed Bearer [redacted]"), "{text}");
    // A token that was given just now is not asked for anew: whoever refuses it would refuse the next.
    clock.fetch_add(61_000, Ordering::SeqCst);
    server.revoke();
    assert!(call().await.is_ok());
    assert_eq!(server.renewals(), 1);
    let called = server.called();
    assert_eq!(called.iter().filter(|one| one.contains("tools/call")).count(), 2, "{called:?}");
    server.revoke();
    let refused = call().await.unwrap_err();
    assert!(refused.contains("refused the host's credential") && !refused.contains("canary"), "{refused}");
    assert_eq!(server.renewals(), 1);
}
