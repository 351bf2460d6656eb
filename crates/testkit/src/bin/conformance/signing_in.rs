//! Logging in at the suite's servers, as `lazaret secret login NAME --server URL` does it: with a person who trusts whoever takes
//! part, and a browser that goes where it is sent.

use std::sync::Arc;

use dial::{Dialer, Network};
use domain::{How, SecretBinding, SecretName};
use futures::future::BoxFuture;
use gateway::VaultKey;
use oauth::{At, Lender, LogIn, Means, OauthError, Renewal, Way, Witness};
use serde_json::Value;
use testkit::cell_less::{now, random};
use tokio::sync::mpsc;
use url::Url;
use vault::{Key, Login, Secret, Tokens, Vault};

/// What the suite tells of a client that is known already, as JSON.
const CONTEXT: &str = "MCP_CONFORMANCE_CONTEXT";

/// A key of a vault that a log-in at this server gave. The folder is the vault's.
pub(crate) async fn key(url: &str) -> Result<(VaultKey, tempfile::TempDir), OauthError> {
    let given = logged_in(url).await?;
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let vault = Vault::open(&at("secrets"), &Key::File(at("key")), Box::new(random)).expect("a vault");
    let name: SecretName = "suite".parse().expect("a name");
    let to = url.parse().expect("the server's address");
    let binding = SecretBinding { to, methods: [].into(), how: How::Bearer };
    vault.log_in(&name, given, vec![binding], now()).expect("it is kept");
    let lender = Lender::new(Arc::new(vault), dialer(), means(), Arc::new(Nobody));
    Ok((VaultKey { lender, key: Some(name), teams: [].into() }, folder))
}

/// Logs in; whoever takes part is trusted when that is asked.
async fn logged_in(url: &str) -> Result<(Login, Tokens), OauthError> {
    let mut trust = Vec::new();
    loop {
        let at = At::Server(url.parse().map_err(|_| OauthError::BadUrl(url.to_owned()))?);
        let asked = LogIn {
            at,
            client: known(),
            scopes: Vec::new(),
            way: Way::Browser,
            trust: trust.clone(),
            known_to: None,
        };
        match with_browser(asked).await {
            Err(OauthError::Elsewhere { parties, .. }) if trust.len() < 8 => {
                println!("trusted: {parties:?}");
                trust.extend(parties.iter().filter_map(|party| party.origin.parse::<Url>().ok()));
            }
            ended => return ended,
        }
    }
}

async fn with_browser(asked: LogIn) -> Result<(Login, Tokens), OauthError> {
    let (tell, mut told) = mpsc::unbounded_channel::<String>();
    let tell = move |text: String| drop(tell.send(text));
    let browsing = async {
        while let Some(text) = told.recv().await {
            println!("{text}");
            if let Some(url) = text.split_whitespace().find(|word| word.starts_with("http")) {
                drop(reqwest::get(url).await);
            }
        }
    };
    let (dialer, means) = (dialer(), means());
    tokio::select! {
        ended = asked.run(&dialer, &means, &tell) => ended,
        () = async { browsing.await; std::future::pending().await } => unreachable!("it waits"),
    }
}

/// A client that is known to the server beforehand.
fn known() -> Option<(String, Option<Secret>)> {
    let context: Value = serde_json::from_str(&std::env::var(CONTEXT).ok()?).ok()?;
    let text = |name: &str| Some(context.get(name)?.as_str()?.to_owned());
    Some((text("client_id")?, text("client_secret").map(Secret::from)))
}

fn dialer() -> Dialer {
    let private = ["127.0.0.1", "localhost"].map(|host| host.parse().expect("a host")).to_vec();
    Dialer::new(Network { private, ..Network::default() }).expect("a dialer")
}

fn means() -> Means {
    Means { now: Arc::new(now), random }
}

/// Nobody wants to know of renewals.
struct Nobody;

impl Witness for Nobody {
    fn renewed(&self, _: Renewal) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
