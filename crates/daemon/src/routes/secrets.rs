//! Routes for secrets: owners store, rotate and remove them, and log in for them. No answer, log or entry of the ledger holds their bytes.

use std::sync::Arc;

use api::{
    LoginAt, LoginEnd, LoginParty, LoginRequest, LoginView, LoginWay, NewSecret, PasteRequest, Problem,
    ProblemKind, Revocation, RotateRequest, SecretText, SecretView,
};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use domain::{SecretBinding, SecretName, refuse_user};
use oauth::{At, Lender, LogIn, OauthError, Party, PasteError, Way};
use serde::de::DeserializeOwned;
use store::{About, Event, StoreError};
use url::Url;
use vault::{ChangeError, Kept, Login, Secret, Vault};

use super::caller::Caller;
use super::{Answer, Failed, Shared, internal, lines, to_its_end};
use crate::journal::now;
use crate::outside;
use crate::session::{Sessions, Tell};

pub(super) async fn secrets(State(sessions): Shared) -> Json<Vec<SecretView>> {
    let vault = sessions.vault();
    let view = |secret: vault::Described| SecretView {
        login: secret.login.map(|login| LoginView {
            issuer: login.issuer,
            client: login.client,
            scopes: login.scopes,
            expires: login.expires,
            renews: vault.login(&secret.name).is_some_and(|kept| kept.tokens.refresh.is_some()),
        }),
        name: secret.name,
        bindings: secret.bindings,
        set: secret.set,
        rotated: secret.rotated,
    };
    Json(vault.list().into_iter().map(view).collect())
}

/// Has a person log in, and stores what that gives. Whoever goes away has given it up.
pub(super) async fn login(
    State(sessions): Shared,
    Caller(by): Caller,
    Path(name): Path<SecretName>,
    body: Bytes,
) -> Answer<Response> {
    let request: LoginRequest = read(body)?;
    let (asked, bindings) = asked(&sessions.servers.lender, &name, request)?;
    let work = async move |tell: Tell| -> Answer<LoginEnd> {
        if asked.wants_token() {
            return Ok(LoginEnd::WantsToken);
        }
        let got = match sessions.servers.lender.log_in(asked, &|text| tell(text)).await {
            Ok(got) => got,
            Err(OauthError::Elsewhere { began, parties }) => {
                let party = |party: Party| LoginParty { origin: party.origin, does: party.does.to_owned() };
                return Ok(LoginEnd::Asks { began, parties: parties.into_iter().map(party).collect() });
            }
            Err(error) => return Err(Failed(Problem::new(ProblemKind::Refused, error.to_string()))),
        };
        to_its_end(sessions, |sessions| async move {
            let places = bindings.iter().map(ToString::to_string).collect();
            let (stored, login) = (name.clone(), got.0.clone());
            let before = change(&sessions, move |vault| vault.log_in(&stored, got, bindings, now())).await?;
            let event = Event::SecretSet { secret: name.clone(), places, by: by.name };
            let before = before.filter(|kept| !kept.login.is_of_one_client_with(&login));
            Ok(LoginEnd::Stored { before: changed(&sessions, &event, name, before).await? })
        })
        .await
    };
    Ok(lines::steps(move |tell| Box::pin(async move { work(tell).await.map_err(|failed| failed.0) })))
}

/// What a person pasted, for the log-in that waits for it.
pub(super) async fn paste(
    State(sessions): Shared,
    Path(name): Path<SecretName>,
    body: Bytes,
) -> Answer<Json<()>> {
    let PasteRequest { text } = read(body)?;
    let pasted = sessions.servers.lender.paste(&name, Secret::from(text.0.as_str())).await;
    pasted.map(Json).map_err(|error| {
        let kind = match error {
            PasteError::Nobody(_) => ProblemKind::NotFound,
            PasteError::NotOurs(_) => ProblemKind::Invalid,
        };
        Failed(Problem::new(kind, error.to_string()))
    })
}

pub(super) async fn set(
    State(sessions): Shared,
    Caller(by): Caller,
    Path(name): Path<SecretName>,
    body: Bytes,
) -> Answer<Json<Revocation>> {
    let NewSecret { value, bindings } = read(body)?;
    let places = bindings.iter().map(ToString::to_string).collect();
    let value = Secret::from(value.0.as_str());
    for_proxy(&bindings, &value)?;
    to_its_end(sessions, |sessions| async move {
        let stored = name.clone();
        let before = change(&sessions, move |vault| vault.set(&stored, value, bindings, now())).await?;
        let event = Event::SecretSet { secret: name.clone(), places, by: by.name };
        changed(&sessions, &event, name, before).await.map(Json)
    })
    .await
}

pub(super) async fn rotate(
    State(sessions): Shared,
    Caller(by): Caller,
    Path(name): Path<SecretName>,
    body: Bytes,
) -> Answer<Json<()>> {
    let RotateRequest { value } = read(body)?;
    let value = Secret::from(value.0.as_str());
    let known = sessions.vault().list().into_iter().find(|described| described.name == name);
    for_proxy(&known.map(|known| known.bindings).unwrap_or_default(), &value)?;
    to_its_end(sessions, |sessions| async move {
        let stored = name.clone();
        change(&sessions, move |vault| vault.rotate(&stored, value, now())).await?;
        let event = Event::SecretRotated { secret: name.clone(), by: by.name };
        changed(&sessions, &event, name, None).await.map(|_| Json(()))
    })
    .await
}

pub(super) async fn remove(
    State(sessions): Shared,
    Caller(by): Caller,
    Path(name): Path<SecretName>,
) -> Answer<Json<Revocation>> {
    to_its_end(sessions, |sessions| async move {
        let stored = name.clone();
        let before = change(&sessions, move |vault| vault.remove(&stored)).await?;
        let event = Event::SecretRemoved { secret: name.clone(), by: by.name };
        changed(&sessions, &event, name, before).await.map(Json)
    })
    .await
}

/// Refuses what can't be a log-in at the outer proxy, for what is to be one.
fn for_proxy(bindings: &[SecretBinding], value: &Secret) -> Answer<()> {
    let mut users = bindings.iter().filter_map(|binding| binding.how.proxy_user());
    let invalid = |why| Failed(Problem::new(ProblemKind::Invalid, why));
    users.try_for_each(|user| outside::proxy_user(user, value).map(drop).map_err(invalid))
}

/// Writes down what was done to a secret, and has whoever gave the log-in that it held forget it. The vault has already, so
/// that nobody could ask for it later: it is done and told also where the ledger can't be written.
async fn changed(
    sessions: &Sessions,
    event: &Event,
    secret: SecretName,
    before: Option<Kept>,
) -> Answer<Revocation> {
    let mut written = record(sessions, event).await;
    let mut revocation = Revocation::None;
    if let Some(kept) = before {
        let issuer = kept.login.issuer.clone();
        let failed =
            sessions.servers.lender.revoke(&secret, &kept).await.err().map(|error| error.to_string());
        let event =
            Event::LoginRevoked { secret: secret.clone(), issuer: issuer.clone(), failed: failed.clone() };
        written = written.and(record(sessions, &event).await);
        revocation = match failed {
            None => Revocation::Done { issuer, beside: beside(sessions.vault(), &kept.login) },
            Some(why) => Revocation::Failed { issuer, why },
        };
    }
    match written {
        Ok(()) => Ok(revocation),
        Err(error) => Err(unwritten(&secret, &revocation, &error)),
    }
}

/// A change that is made, and is not on the ledger.
fn unwritten(secret: &SecretName, revocation: &Revocation, error: &StoreError) -> Failed {
    let came = match revocation {
        Revocation::None => String::new(),
        Revocation::Done { issuer, .. } => format!(", and its log-in before is revoked at {issuer}"),
        Revocation::Failed { issuer, why } => format!(
            ", and its log-in before is not revoked, so end it at {issuer} yourself if somebody may have its tokens: {why}"
        ),
    };
    let message = format!("the secret {secret} is changed{came}; but the ledger doesn't say so: {error}");
    let problem = Problem::new(ProblemKind::Internal, message);
    Failed(problem.hint("see what is wrong with the database: `lazaret ledger verify`"))
}

/// The secrets that come of other log-ins of the same client.
fn beside(vault: &Vault, login: &Login) -> Vec<SecretName> {
    let all = vault.list().into_iter();
    let others =
        all.filter(|secret| secret.login.as_ref().is_some_and(|other| other.is_of_one_client_with(login)));
    others.map(|secret| secret.name).collect()
}

/// What a person asks for, and where its token may go.
fn asked(lender: &Lender, name: &SecretName, request: LoginRequest) -> Answer<(LogIn, Vec<SecretBinding>)> {
    let LoginRequest { at, way, client, client_secret, scopes, mut bindings, trust } = request;
    let invalid = |e: &dyn std::fmt::Display| Failed(Problem::new(ProblemKind::Invalid, e.to_string()));
    let url = |text: String| {
        refuse_user(&text).map_err(|e| invalid(&e))?;
        Url::parse(&text).map_err(|e| invalid(&format!("`{text}` is no URL: {e}")))
    };
    let hidden = |text: SecretText| Secret::from(text.0.as_str());
    let way = match way {
        LoginWay::Browser => Way::Browser,
        LoginWay::Paste => Way::Paste(lender.pastes(name)),
        LoginWay::Device => Way::Device,
        LoginWay::Had(refresh) => Way::Had(hidden(refresh)),
    };
    let trust = trust.into_iter().map(url).collect::<Answer<Vec<Url>>>()?;
    let at = match at {
        LoginAt::Server(text) => At::Server(url(text)?),
        LoginAt::Issuer(text) => At::Issuer(url(text)?),
        LoginAt::Token(text) => At::Token(url(text)?),
        LoginAt::Subscription(subscription) => {
            if !bindings.is_empty() || !scopes.is_empty() || client.is_some() {
                return Err(invalid(
                    &"a subscription's vendor settles client, scopes and where the token may go",
                ));
            }
            bindings = vec![oauth::binding(subscription).map_err(|e| invalid(&e))?];
            At::Subscription(subscription)
        }
        LoginAt::Again => {
            if client.is_some() || client_secret.is_some() || !scopes.is_empty() || !bindings.is_empty() {
                let why = "a log-in that is repeated has the client, the scopes and the places that it had";
                return Err(invalid(&format!("{why}: say where it begins to have others")));
            }
            let vault = lender.vault();
            let known = vault.list().into_iter().find(|described| described.name == *name);
            let (Some(known), Some(kept)) = (known, vault.login(name)) else {
                let why = format!("there is no log-in `{name}` to repeat");
                let hint = "say where it begins: --subscription, --server, --issuer or --token-url";
                return Err(Failed(Problem::new(ProblemKind::NotFound, why).hint(hint)));
            };
            let mut again = LogIn::again(&kept, way).map_err(|e| invalid(&e))?;
            again.trust.extend(trust);
            return Ok((again, known.bindings));
        }
    };
    bindings.iter().try_for_each(|binding| binding.check(true)).map_err(|e| invalid(&e))?;
    let client = client.map(|id| (id, client_secret.map(hidden)));
    Ok((LogIn { at, client, scopes, way, trust, known_to: None }, bindings))
}

/// Reads a body that holds a secret: what is wrong with it is told by place, not by quoting it.
fn read<T: DeserializeOwned>(body: Bytes) -> Answer<T> {
    let read = serde_json::from_slice(&body).map_err(|e| {
        let message = format!("the request can't be read: line {}, column {}", e.line(), e.column());
        Failed(Problem::new(ProblemKind::Invalid, message))
    });
    // Nobody else holds the buffer: then it is wiped.
    if let Ok(mut bytes) = body.try_into_mut() {
        bytes.fill(0);
    }
    read
}

/// The disk is waited for elsewhere.
async fn change<T: Send + 'static>(
    sessions: &Arc<Sessions>,
    with: impl FnOnce(&Vault) -> Result<T, ChangeError> + Send + 'static,
) -> Answer<T> {
    let vault = Arc::clone(sessions.vault());
    let changed = tokio::task::spawn_blocking(move || with(&vault)).await.map_err(internal)?;
    changed.map_err(|error| {
        let kind = match error {
            ChangeError::Unknown(_) => ProblemKind::NotFound,
            ChangeError::Full | ChangeError::LoggedIn(_) => ProblemKind::Conflict,
            ChangeError::Secret(_) | ChangeError::Binding(_) | ChangeError::Bindings(_) => {
                ProblemKind::Invalid
            }
            ChangeError::Vault(_) => ProblemKind::Internal,
        };
        let problem = Problem::new(kind, error.to_string());
        Failed(if kind == ProblemKind::NotFound {
            problem.hint("`lazaret secret ls` lists them")
        } else {
            problem
        })
    })
}

async fn record(sessions: &Sessions, event: &Event) -> Result<(), StoreError> {
    sessions.store().record(&About::default(), event, None, now()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::sessions_for_tests;

    #[tokio::test]
    async fn a_log_in_that_is_gone_is_revoked_and_told_also_where_the_ledger_can_not_be_written() {
        let (sessions, _folder) = sessions_for_tests().await;
        let login: Login = serde_json::from_value(serde_json::json!({
            "issuer": "https://id.example", "token_url": "https://id.example/token", "client": "lazaret", "basic": false,
            "resource": null, "scopes": [], "expires": null,
        }))
        .unwrap();
        let name: SecretName = "github".parse().unwrap();
        let got = || {
            let access = Secret::from("canary-4f9d1c7b");
            (login.clone(), vault::Tokens { access, refresh: None, client_secret: None })
        };
        let bindings: Vec<SecretBinding> = serde_json::from_value(
            serde_json::json!([{"to": "https://api.github.com", "methods": ["GET"], "how": "bearer"}]),
        )
        .unwrap();
        sessions.vault().log_in(&name, got(), bindings, now()).unwrap();
        let before = sessions.vault().remove(&name).unwrap();
        assert!(before.is_some());
        sessions.store().close().await;
        let event = Event::SecretRotated { secret: name.clone(), by: "ada".parse().unwrap() };
        let told = changed(&sessions, &event, name.clone(), before).await.err().unwrap().0.message;
        for part in [
            "the secret github is changed",
            "not revoked, so end it at https://id.example yourself",
            "the ledger doesn't say so: the database is closed",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains("canary"), "{told}");
    }
}
