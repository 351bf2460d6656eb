//! Subscriptions from the log-in to the model's answer: vendors at their own names, strict as they are, and between them and
//! the asker the real dialer, log-in, vault, renewal and model service.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dial::Dialer;
use domain::{SecretName, Subscription};
use futures::future::BoxFuture;
use gateway::{Credential, ModelService, Patience, Provider, VaultKey};
use oauth::{At, Lender, LogIn, Means, OauthError, PasteError, Renewal, Way, Witness};
use testkit::cell_less::random;
use testkit::files;
use testkit::models::Models;
use testkit::vendors::{ACCOUNT, TYPED, Vendors};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use vault::{Key, Login, Tokens, Vault};
use wire::frame::{self, LARGE, SMALL};
use wire::host::{DoorOpens, ModelAnswer};
use wire::model::{Dialect, ModelRequest};

const START: u64 = 1_795_000_000_000;
const HOUR: u64 = 3_600_000;
const CLAUDE: &str = "anthropic/claude-sonnet-4-5";
const CHATGPT: &str = "chatgpt/gpt-5.5";
const MESSAGES: &str = r#"{"model":"claude-sonnet-4-5","max_tokens":99,"messages":[{"role":"user","content":"Review."}],"stream":true}"#;
const RESPONSES: &str = r#"{"model":"gpt-5.5","instructions":"Be brief.","input":"Review.","stream":true,"store":true,"max_output_tokens":99,"temperature":1,"top_p":1}"#;

/// The vendors, and a host that reaches them under their names.
struct Host {
    vendors: Arc<Vendors>,
    lender: Arc<Lender>,
    dialer: Dialer,
    clock: Arc<AtomicU64>,
    folder: tempfile::TempDir,
}

/// Who is told of renewals, and keeps nothing.
struct Nobody;

impl Witness for Nobody {
    fn renewed(&self, _: Renewal) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

fn name() -> SecretName {
    "plan".parse().unwrap()
}

impl Host {
    fn new(vendors: &Arc<Vendors>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dialer = Dialer::new(vendors.network(folder.path())).unwrap();
        let key = Key::File(folder.path().join("key"));
        let vault = Vault::open(&folder.path().join("secrets"), &key, Box::new(random)).unwrap();
        let clock = Arc::new(AtomicU64::new(START));
        let shown = Arc::clone(&clock);
        let means = Means { now: Arc::new(move || shown.load(Ordering::SeqCst)), random };
        let lender = Lender::new(Arc::new(vault), dialer.clone(), means, Arc::new(Nobody));
        Self { vendors: Arc::clone(vendors), lender, dialer, clock, folder }
    }

    /// Logs in; the person does as `does` says with what they are told.
    async fn log_in<D>(
        &self,
        of: Subscription,
        way: Way,
        does: impl FnOnce(String) -> D,
    ) -> Result<(Login, Tokens), OauthError>
    where
        D: Future<Output = ()>,
    {
        let (tell, mut told) = mpsc::unbounded_channel();
        let tell = move |text: String| drop(tell.send(text));
        let asked = LogIn {
            at: At::Subscription(of),
            client: None,
            scopes: Vec::new(),
            way,
            trust: Vec::new(),
            known_to: None,
        };
        let person = async {
            does(told.recv().await.unwrap_or_default()).await;
            std::future::pending::<()>().await
        };
        let ended = async {
            tokio::select! {
                ended = self.lender.log_in(asked, &tell) => ended,
                () = person => unreachable!(),
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("in time")
    }

    /// The same by pasting what an honest browser ends with, and kept in the vault.
    async fn logged_in(&self, of: Subscription) -> Login {
        let pastes = Way::Paste(self.lender.pastes(&name()));
        let got = self.log_in(of, pastes, async |told| self.paste(&told).await.unwrap()).await.unwrap();
        let login = got.0.clone();
        let bindings = vec![oauth::binding(of).unwrap()];
        drop(self.lender.vault().log_in(&name(), got, bindings, self.now()).unwrap());
        login
    }

    async fn paste(&self, told: &str) -> Result<(), PasteError> {
        let shown = self.vendors.browse(url_in(told));
        self.lender.paste(&name(), shown.as_str().into()).await
    }

    fn now(&self) -> u64 {
        self.clock.load(Ordering::SeqCst)
    }

    /// What a model says to this, through the model service with the provider that is built in.
    async fn ask(&self, model: &str, body: &str) -> Result<String, String> {
        let models = vec![model.parse().unwrap()];
        let mut providers = Provider::built_in(|_| None).unwrap();
        for provider in &mut providers {
            let (lender, key) = (Arc::clone(&self.lender), Some(name()));
            provider.credential = Credential::Vault(VaultKey { lender, key, teams: [].into() });
        }
        let service = ModelService::new(providers, Patience::default(), &self.dialer).unwrap();
        let (models, mut told) = Models::new(service, models, 1_000_000).await;
        let (mut near, far) = tokio::io::duplex(64 << 10);
        let dialect = if model == CLAUDE { Dialect::AnthropicMessages } else { Dialect::OpenAiResponses };
        let request = ModelRequest { dialect, body: body.to_owned(), headers: Vec::new() };
        frame::write(&mut near, &DoorOpens::Model(request), LARGE).await.unwrap();
        let heard = async {
            let mut text = String::new();
            while let Some(answer) = frame::read::<ModelAnswer, _>(&mut near, SMALL).await.unwrap() {
                match answer {
                    ModelAnswer::Failed(failure) => return Err(failure.message),
                    ModelAnswer::Body(bytes) => text.push_str(&String::from_utf8(bytes).unwrap()),
                    ModelAnswer::Head { .. } | ModelAnswer::End => {}
                }
            }
            Ok(text)
        };
        let (served, heard) = tokio::join!(models.serve(far), heard);
        served.unwrap();
        let mut events = String::new();
        while let Ok(event) = told.try_recv() {
            events.push_str(&format!("{event:?}"));
        }
        assert!(!events.contains("canary"), "{events}");
        for folder in [models.folder.path(), self.folder.path()] {
            assert!(!files::hold(folder, b"canary"), "a token is in a file");
        }
        heard
    }

    /// The last request to a host.
    fn asked(&self, host: &str) -> testkit::Asked {
        self.vendors.site.asked().into_iter().rfind(|asked| asked.host == host).unwrap()
    }
}

fn url_in(told: &str) -> &str {
    told.rsplit_once(": ").unwrap().1
}

/// What a browser gets on this machine: the head of the answer.
async fn browsed(url: &str) -> String {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let head = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn run(test: impl AsyncFnOnce(&Host)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // The vendors have a runtime of their own, which ends outside of this one.
    let vendors = Arc::new(Vendors::start());
    runtime.block_on(async { test(&Host::new(&vendors)).await });
}

#[test]
fn a_claude_subscription_is_logged_in_for_asked_with_and_renewed() {
    run(async |host| {
        let login = host.logged_in(Subscription::Claude).await;
        assert_eq!((login.account, login.expires), (None, Some(START + HOUR)));
        for hours in 0..3 {
            host.clock.store(START + hours * HOUR, Ordering::SeqCst);
            let said = host.ask(CLAUDE, MESSAGES).await.unwrap();
            assert!(said.contains("Reviewed."), "{said}");
            assert_eq!(host.vendors.renewals(), hours);
        }
        let asked = host.asked("api.anthropic.com");
        assert_eq!(asked.header("anthropic-beta"), Some("oauth-2025-04-20"));
        assert!(asked.header("user-agent").unwrap().starts_with("lazaret/"));
    });
}

#[test]
fn a_chatgpt_subscription_is_logged_in_for_asked_with_and_renewed() {
    run(async |host| {
        let login = host.logged_in(Subscription::Chatgpt).await;
        assert_eq!(login.account.as_deref(), Some(ACCOUNT));
        // Renewals need no ID token: the account is kept.
        host.vendors.give_id_token("");
        for hours in 0..3 {
            host.clock.store(START + hours * HOUR, Ordering::SeqCst);
            let said = host.ask(CHATGPT, RESPONSES).await.unwrap();
            assert!(said.contains("Reviewed."), "{said}");
            assert_eq!(host.vendors.renewals(), hours);
        }
        assert_eq!(host.asked("chatgpt.com").header("originator"), Some("lazaret"));
        assert!(!host.asked("chatgpt.com").body.contains("99"), "its limit is not for ChatGPT");
        let told =
            host.ask(CHATGPT, &RESPONSES.replace("\"stream\":true", "\"stream\":false")).await.unwrap_err();
        assert!(told.contains("answers only as events"), "{told}");
        let stored = RESPONSES.replace("\"store\"", "\"previous_response_id\":\"r\",\"store\"");
        let told = host.ask(CHATGPT, &stored).await.unwrap_err();
        assert!(told.contains("previous_response_id"), "its fields are those of the list: {told}");
    });
}

#[test]
fn a_token_that_says_no_time_is_renewed_when_it_is_refused() {
    run(async |host| {
        host.vendors.say_no_time();
        assert_eq!(host.logged_in(Subscription::Chatgpt).await.expires, None);
        host.ask(CHATGPT, RESPONSES).await.unwrap();
        host.vendors.revoke();
        host.clock.fetch_add(HOUR, Ordering::SeqCst);
        host.ask(CHATGPT, RESPONSES).await.unwrap();
        assert_eq!(host.vendors.renewals(), 1);
    });
}

#[test]
fn a_browser_on_this_machine_comes_back_to_the_vendors_port() {
    run(async |host| {
        for of in [Subscription::Claude, Subscription::Chatgpt] {
            let browses = async |told: String| {
                let back = host.vendors.browse(url_in(&told));
                let (here, another) = match of {
                    Subscription::Claude => ("localhost", "127.0.0.1"),
                    Subscription::Chatgpt => ("127.0.0.1", "localhost"),
                };
                assert!(back.starts_with(&format!("http://{here}:")), "{back}");
                // A page that leads here by another name, and one that guesses.
                let elsewhere = browsed(&back.replace(here, another)).await;
                assert!(elsewhere.starts_with("HTTP/1.1 421"), "{elsewhere}");
                let guessed = back.replace("state=", "state=x");
                assert!(browsed(&guessed).await.starts_with("HTTP/1.1 400"));
                assert!(browsed(&back).await.starts_with("HTTP/1.1 200"));
            };
            let (login, tokens) = host.log_in(of, Way::Browser, browses).await.unwrap();
            assert!(login.subscription == Some(of) && tokens.refresh.is_some());
        }
    });
}

#[test]
fn a_code_is_typed_at_chatgpt_and_claude_has_none() {
    run(async |host| {
        let types = async |told: String| {
            assert_eq!(told, format!("log in at https://auth.openai.com/codex/device with the code {TYPED}"));
            // It is asked after before and after that.
            tokio::time::sleep(Duration::from_millis(1500)).await;
            host.vendors.approve();
        };
        let (login, _) = host.log_in(Subscription::Chatgpt, Way::Device, types).await.unwrap();
        assert_eq!(login.account.as_deref(), Some(ACCOUNT));
        let nobody = async |_: String| ();
        let told = host.log_in(Subscription::Claude, Way::Device, nobody).await.err().unwrap();
        assert_eq!(
            told.to_string(),
            "`https://claude.com` offers no log-in by a code that is typed (device code)"
        );
    });
}

#[test]
fn what_is_pasted_wrongly_is_refused_and_the_log_in_waits_on() {
    run(async |host| {
        for of in [Subscription::Claude, Subscription::Chatgpt] {
            let pastes = async |told: String| {
                let right = host.vendors.browse(url_in(&told));
                let another = right.replace("state=", "state=x").replace('#', "#x");
                for wrong in ["", "nonsense", "code-1", "https://claude.ai/", &another, &"x".repeat(60_000)] {
                    let refused = host.lender.paste(&name(), wrong.into()).await.unwrap_err();
                    assert!(matches!(refused, PasteError::NotOurs(_)), "{wrong:.40}: {refused}");
                }
                host.lender.paste(&name(), right.as_str().into()).await.unwrap();
            };
            let way = Way::Paste(host.lender.pastes(&name()));
            host.log_in(of, way, pastes).await.unwrap();
            let late = host.lender.paste(&name(), "code-1#x".into()).await.unwrap_err();
            assert!(matches!(late, PasteError::Nobody(_)), "{late}");
        }
        // A code that somebody else was given, for a log-in of theirs: the verifier is another.
        let pastes = async |told: String| {
            let right = host.vendors.browse(url_in(&told));
            let theirs = url_in(&told).replace("code_challenge=", "code_challenge=x");
            let theirs = host.vendors.browse(&theirs);
            let (code, _) = theirs.split_once('#').unwrap();
            let (_, state) = right.split_once('#').unwrap();
            host.lender.paste(&name(), format!("{code}#{state}").as_str().into()).await.unwrap();
        };
        let way = Way::Paste(host.lender.pastes(&name()));
        let told = host.log_in(Subscription::Claude, way, pastes).await.err().unwrap();
        assert_eq!(told.to_string(), "`https://claude.com` gives no token: invalid_grant");
    });
}

#[test]
fn an_id_token_that_names_no_account_is_told_and_nothing_is_kept() {
    run(async |host| {
        for (token, why) in [
            (String::new(), "there is no ID token"),
            ("canary".to_owned(), "the ID token is no JWT"),
            ("e30.e30.canary".to_owned(), "the ID token names no ChatGPT account"),
            (format!("e30.{}.canary", "e".repeat(20_000)), "the ID token is too long"),
            (format!("e30.{}.canary", "e".repeat(200_000)), "gives an answer of more than 128 KiB"),
        ] {
            host.vendors.give_id_token(&token);
            let way = Way::Paste(host.lender.pastes(&name()));
            let pastes = async |told: String| host.paste(&told).await.unwrap();
            let told = host.log_in(Subscription::Chatgpt, way, pastes).await.err().unwrap().to_string();
            assert!(told.contains(why) && !told.contains("canary"), "{told}");
        }
    });
}

#[test]
fn a_token_goes_where_its_subscription_is_served_and_nowhere_else() {
    run(async |host| {
        host.logged_in(Subscription::Claude).await;
        let told = host.ask(CHATGPT, RESPONSES).await.unwrap_err();
        assert!(told.contains("not bound to POST https://chatgpt.com"), "{told}");
        // A key that a person bound there by hand is of no account.
        let to = oauth::binding(Subscription::Chatgpt).unwrap();
        host.lender.vault().set(&name(), "canary-key".into(), vec![to], START).unwrap();
        let told = host.ask(CHATGPT, RESPONSES).await.unwrap_err();
        assert!(told.contains("--subscription chatgpt"), "{told}");
        assert!(host.vendors.site.asked().iter().all(|asked| asked.host != "chatgpt.com"));
    });
}

#[test]
fn a_refresh_token_is_good_once_and_its_end_is_told() {
    run(async |host| {
        host.logged_in(Subscription::Chatgpt).await;
        host.clock.fetch_add(HOUR, Ordering::SeqCst);
        // Too many questions are no end.
        host.vendors.refuse(Some((429, "rate_limit_exceeded")));
        let told = host.ask(CHATGPT, RESPONSES).await.unwrap_err();
        assert!(told.contains("can't be renewed"), "{told}");
        host.clock.fetch_add(11_000, Ordering::SeqCst);
        host.vendors.refuse(None);
        host.ask(CHATGPT, RESPONSES).await.unwrap();
        host.clock.fetch_add(HOUR, Ordering::SeqCst);
        host.vendors.refuse(Some((401, "refresh_token_expired")));
        let told = host.ask(CHATGPT, RESPONSES).await.unwrap_err();
        assert!(
            told.contains("refresh_token_expired")
                && told.contains("log in again by `lazaret secret login plan`"),
            "{told}"
        );
        assert!(!told.contains("canary"), "{told}");
        // As before, by the name of the secret alone.
        let kept = host.lender.vault().login(&name()).unwrap();
        let again = LogIn::again(&kept, Way::Browser).unwrap();
        assert_eq!(again.at, At::Subscription(Subscription::Chatgpt));
    });
}

#[test]
fn a_chatgpt_log_in_is_given_back_and_a_claude_one_can_not_be() {
    run(async |host| {
        host.logged_in(Subscription::Chatgpt).await;
        let kept = host.lender.vault().login(&name()).unwrap();
        host.lender.revoke(&name(), &kept).await.unwrap();
        host.clock.fetch_add(HOUR, Ordering::SeqCst);
        let told = host.ask(CHATGPT, RESPONSES).await.unwrap_err();
        assert!(told.contains("refresh_token_reused"), "{told}");
        host.logged_in(Subscription::Claude).await;
        let kept = host.lender.vault().login(&name()).unwrap();
        let told = host.lender.revoke(&name(), &kept).await.unwrap_err().to_string();
        assert_eq!(told, "`https://claude.com` offers no way to revoke tokens");
    });
}

#[test]
fn a_refresh_token_that_was_given_elsewhere_is_taken() {
    run(async |host| {
        let nobody = async |_: String| ();
        host.logged_in(Subscription::Chatgpt).await;
        let kept = host.lender.vault().login(&name()).unwrap();
        let had = Way::Had(kept.tokens.refresh.unwrap());
        let (login, _) = host.log_in(Subscription::Chatgpt, had, nobody).await.unwrap();
        assert_eq!(login.account.as_deref(), Some(ACCOUNT));
    });
}
