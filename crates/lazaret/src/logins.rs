//! `lazaret secret login`: a person logs in with a browser, here or elsewhere, and the daemon keeps what that gives.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use api::{
    Client, ClientError, LoginAt, LoginEnd, LoginParty, LoginRequest, LoginWay, PasteRequest, ProblemKind,
    SecretText,
};
use domain::{SecretBinding, SecretName};
use secrecy::zeroize::Zeroizing;
use tokio::sync::{Notify, oneshot};

use crate::approvals::ask;
use crate::args::{LoginAtArgs, SecretFrom, SecretLoginArgs};
use crate::background;
use crate::failure::{Failure, Outcome, note};
use crate::secrets::{bytes, tell};
use crate::terminal::escape;

/// Most bytes of what is pasted.
const MAX_PASTED: u64 = 8 << 10;
/// What is asked for at a prompt.
const REFRESH_TOKEN: &str = "refresh token";

/// Logs in, and stores the token as a secret.
pub(crate) async fn command(args: SecretLoginArgs) -> Outcome {
    let from = args.from.clone();
    let (name, mut request) = request(args)?;
    let pastes = matches!(request.way, LoginWay::Paste);
    let client = background::client().await?;
    let before = loop {
        let begun = Notify::new();
        let steps = client.log_in(&name, &request).await?;
        let done = steps.finish(|message| {
            note(message);
            begun.notify_one();
        });
        let end = tokio::select! {
            end = done => end?,
            failure = paste(&client, &name, &begun), if pastes => return Err(failure),
        };
        match end {
            LoginEnd::Stored { before } => break before,
            LoginEnd::Asks { began, parties } => {
                confirm(&began, &parties)?;
                request.trust.extend(parties.into_iter().map(|party| party.origin));
            }
            LoginEnd::WantsToken => {
                note("a log-in at a token endpoint takes a refresh token that you have");
                request.way = LoginWay::Had(bytes(&from, REFRESH_TOKEN)?);
            }
        }
    };
    note(format!("{name} is stored and renewed by itself; `lazaret secret ls` shows until when it is good"));
    tell(before);
    Ok(0)
}

/// Asks whether others than the person named may take part. Whoever describes itself may name anybody.
fn confirm(began: &str, parties: &[LoginParty]) -> Result<(), Failure> {
    note(format!("{} says that others take part in logging in there:", escape(began)));
    for LoginParty { origin, does } in parties {
        note(format!("  {} {}", escape(origin), escape(does)));
    }
    let origins: BTreeSet<&str> = parties.iter().map(|party| party.origin.as_str()).collect();
    let flags: Vec<String> = origins.iter().map(|origin| format!("--trust {}", escape(origin))).collect();
    let hint = format!("if that is as it should be, say so: {}", flags.join(" "));
    match ask("Log in with them?") {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new("not logged in").hint(hint)),
        Err(_no_terminal) => Err(Failure::new("not logged in: there is no terminal to ask at").hint(hint)),
    }
}

/// What is asked of the daemon.
fn request(args: SecretLoginArgs) -> Result<(SecretName, LoginRequest), Failure> {
    let SecretLoginArgs { name, at, to, how, client, client_secret_file, scopes, trust, .. } = args;
    let LoginAtArgs { subscription, server, issuer, token_url } = at;
    let to = match &server {
        Some(server) if to.is_empty() => vec![server.parse().map_err(|e| Failure::new(format!("{e}")))?],
        Some(_) | None => to,
    };
    let at = [
        subscription.map(LoginAt::Subscription),
        server.map(LoginAt::Server),
        issuer.map(LoginAt::Issuer),
        token_url.map(LoginAt::Token),
    ];
    let at = at.into_iter().flatten().next().unwrap_or(LoginAt::Again);
    match &at {
        LoginAt::Again if !to.is_empty() || client.is_some() || !scopes.is_empty() => {
            let why = "it is said what the log-in shall be like, but not where it begins";
            return Err(Failure::new(why).hint(
                "name that by --server, --issuer or --token-url; by its name alone it is repeated as it was",
            ));
        }
        LoginAt::Issuer(_) | LoginAt::Token(_) if to.is_empty() => {
            return Err(Failure::new("it isn't said where the token may go").hint("say it by --to URL"));
        }
        LoginAt::Server(_) | LoginAt::Issuer(_) | LoginAt::Token(_)
            if args.refresh_token && client.is_none() =>
        {
            let why = "it isn't said to which client the refresh token was given";
            return Err(Failure::new(why).hint("say it by --client NAME"));
        }
        LoginAt::Again
        | LoginAt::Server(_)
        | LoginAt::Issuer(_)
        | LoginAt::Token(_)
        | LoginAt::Subscription(_) => {}
    }
    let bind = |to| SecretBinding { to, methods: [].into(), how: how.clone() };
    let bindings: Vec<SecretBinding> = to.into_iter().map(bind).collect();
    bindings.iter().try_for_each(|binding| binding.check(true)).map_err(|e| Failure::new(e.to_string()))?;
    let in_file = |path| bytes(&SecretFrom { from_file: Some(path), from_command: None }, name.as_str());
    let client_secret = client_secret_file.map(in_file).transpose()?;
    let way = match (args.device, args.paste, args.refresh_token) {
        (true, ..) => LoginWay::Device,
        (false, true, _) => LoginWay::Paste,
        (false, false, true) => LoginWay::Had(bytes(&args.from, REFRESH_TOKEN)?),
        (false, false, false) => LoginWay::Browser,
    };
    Ok((name, LoginRequest { at, way, client, client_secret, scopes, bindings, trust }))
}

/// Gives the log-in what the person pastes, when it has begun; returns only if that can't be done.
async fn paste(client: &Client, name: &SecretName, begun: &Notify) -> Failure {
    begun.notified().await;
    // Who writes to a program needs no prompt, and has one try: nobody is there to read why it was wrong.
    let person = io::stdin().is_terminal();
    loop {
        if person {
            eprint!("paste what it ends with: ");
        }
        let text = match line().await {
            Ok(text) if text.0.trim().is_empty() && person => {
                return Failure::new("nothing was pasted").hint("begin the log-in once more");
            }
            Ok(text) if text.0.trim().is_empty() => {
                return Failure::new("nothing was pasted: standard input has ended, or holds an empty line").hint(
                    "run it at a terminal, or write what the log-in ends with to its standard input, in one line, once it has told \
                     where to log in",
                );
            }
            Ok(text) => text,
            Err(error) => return Failure::new(format!("what is pasted can't be read: {error}")),
        };
        match client.paste_login(name, &PasteRequest { text }).await {
            Ok(()) => return std::future::pending().await,
            Err(ClientError::Problem(problem)) if problem.kind == ProblemKind::Invalid && person => {
                note(problem.message);
            }
            Err(error) => return error.into(),
        }
    }
}

/// A line of standard input. Who reads it is not waited for: the log-in may end by itself.
async fn line() -> io::Result<SecretText> {
    let (read, line) = oneshot::channel();
    std::thread::spawn(move || {
        let mut text = Zeroizing::new(String::new());
        let got = io::stdin().lock().take(MAX_PASTED).read_line(&mut text);
        // Nobody may wait for it any more.
        drop(read.send(got.map(|_| SecretText(text))));
    });
    line.await.map_err(io::Error::other)?
}
