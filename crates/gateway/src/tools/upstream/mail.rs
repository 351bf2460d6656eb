//! The built-in tool server for mail, as tool servers are called here.

use std::pin::pin;
use std::sync::Arc;
use std::time::SystemTime;

use ::mail::{Account, Key, Mailbox, Place, Reason, Stamp};
use dial::Dialer;
use domain::{SecretName, Target, ToolName};
use oauth::{LendError, Lender};
use store::Randomness;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use vault::{Injection, Scrubber, Secret};
use wire::tools::{Content, Hints, ToolFailure, ToolFailureKind, ToolResult};

use super::{Acted, CallFailed, ToolDescription, ToolList};
use crate::tools::servers::called_off;

/// Most calls at once to one mailbox. Providers close the door to whoever comes with more.
const AT_ONCE: usize = 4;

/// What signs in, asked for anew for each call: it may have been changed or taken away.
pub enum MailKey {
    /// The host's own password.
    Own(Arc<dyn Fn() -> Result<Secret, ToolFailure> + Send + Sync>),
    /// A secret of the vault: a password, or the token of a log-in.
    Vault(Arc<Lender>, SecretName),
}

/// A team's way to a mailbox.
pub struct MailServer {
    place: Place,
    key: MailKey,
    dialer: Dialer,
    random: Arc<dyn Randomness>,
    places: Semaphore,
}

impl MailServer {
    /// The mailbox at this place.
    #[must_use]
    pub fn new(place: Place, key: MailKey, dialer: Dialer, random: Arc<dyn Randomness>) -> Self {
        Self { place, key, dialer, random, places: Semaphore::new(AT_ONCE) }
    }

    pub(super) fn list(&self) -> Result<ToolList, ToolFailure> {
        let described = |tool: ::mail::Description| {
            let name = tool.name.parse().map_err(|e| internal(&format!("`{}`: {e}", tool.name)))?;
            Ok(ToolDescription {
                name,
                title: None,
                description: Some(tool.says.to_owned()),
                input_schema: tool.schema.to_string(),
                output_schema: None,
                // What they do is in the reviewed table.
                hints: Hints::default(),
            })
        };
        let tools = ::mail::descriptions().into_iter().map(described).collect::<Result<_, ToolFailure>>()?;
        Ok(ToolList { tools, withheld: Vec::new() })
    }

    pub(super) async fn call(
        &self,
        tool: &ToolName,
        arguments: &str,
        cancelled: &CancellationToken,
    ) -> Result<ToolResult, CallFailed> {
        let not_sent = |failure| CallFailed { failure, acted: Acted::No };
        let gone = || not_sent(called_off());
        let _place = tokio::select! {
            place = self.places.acquire() => place.map_err(|e| not_sent(internal(&e.to_string())))?,
            () = cancelled.cancelled() => return Err(gone()),
        };
        let mut unique = [0; 16];
        self.random.fill(&mut unique).map_err(|e| not_sent(internal(&e.to_string())))?;
        let stamp = Stamp { now: SystemTime::now(), unique: u128::from_le_bytes(unique) };
        let mut renewed = false;
        loop {
            let (key, lent) = tokio::select! {
                lent = self.key.lent(&self.place) => lent.map_err(not_sent)?,
                () = cancelled.cancelled() => return Err(gone()),
            };
            let scrubber = Scrubber::new([key.secret()]);
            let account = Account { place: self.place.clone(), key };
            let mailbox = Mailbox::new(account, self.dialer.clone());
            let stop = cancelled.child_token();
            let call = mailbox.call(tool.as_str(), arguments, stamp, &stop);
            let (called, taken) = self.key.while_lent(lent.as_ref(), &stop, call).await;
            let failure = match (called, taken) {
                (Ok(told), _) => return result(scrubbed(&scrubber, &told)),
                (Err(failure), Some(message)) => return Err(failed(::mail::Failure { message, ..failure })),
                (Err(failure), None) => failure,
            };
            // Who isn't let in has done nothing, so the call may be made anew: once, with a token that is new.
            let refused = failure.reason == Reason::SignIn && failure.acted == ::mail::Acted::No;
            if refused && !renewed && self.key.refused(lent.as_ref()).await {
                renewed = true;
                continue;
            }
            let message = scrubbed(&scrubber, &failure.message);
            let told = failed(::mail::Failure { message, ..failure });
            return Err(match &lent {
                Some(lent) if refused && lent.is_token() => log_in_again(told, &lent.secret),
                Some(_) | None => told,
            });
        }
    }
}

impl MailKey {
    /// What signs in at both servers, and what was lent if the vault did.
    async fn lent(&self, place: &Place) -> Result<(Key, Option<Injection>), ToolFailure> {
        let (lender, name) = match self {
            Self::Own(password) => return Ok((Key::Password(password()?), None)),
            Self::Vault(lender, name) => (lender, name),
        };
        let mut last = None;
        for server in place.servers() {
            let (scheme, host, port) = (server.scheme(), server.host(), server.port());
            let target = Target { scheme, host, port, method: "", path: "/" };
            last = Some(lender.lend(name, &target).await.map_err(|e| not_lent(&e))?);
        }
        let lent = last.ok_or_else(|| internal("the mailbox is nowhere"))?;
        let secret = lent.value.share();
        Ok((if lent.is_token() { Key::Token(secret) } else { Key::Password(secret) }, Some(lent)))
    }

    /// Waits for a call. It is stopped when what was lent to it is taken away, and why is said beside what it comes to then.
    async fn while_lent<T>(
        &self,
        lent: Option<&Injection>,
        stop: &CancellationToken,
        call: impl Future<Output = T>,
    ) -> (T, Option<String>) {
        let (Self::Vault(lender, _), Some(lent)) = (self, lent) else { return (call.await, None) };
        let mut call = pin!(call);
        let why = tokio::select! {
            called = &mut call => return (called, None),
            why = lender.vault().withdrawn(lent) => why,
        };
        stop.cancel();
        (call.await, Some(why))
    }

    /// The mail server refused it. True if there is something newer to show.
    async fn refused(&self, lent: Option<&Injection>) -> bool {
        match (self, lent) {
            (Self::Vault(lender, _), Some(lent)) => lender.refused(lent).await,
            (_, _) => false,
        }
    }
}

fn not_lent(error: &LendError) -> ToolFailure {
    let failure = internal(&format!("the mailbox's secret: {}", error.told_in_cell()));
    match error {
        LendError::Vault(_) => failure.hint(
            "store it for both servers: `lazaret secret set NAME --as password --to IMAP --to SMTP`, or log in with \
             `lazaret secret login NAME … --to IMAP --to SMTP`",
        ),
        LendError::Ended { .. }
        | LendError::NotNow { .. }
        | LendError::Replaced { .. }
        | LendError::NotKept { .. } => failure,
    }
}

fn log_in_again(told: CallFailed, name: &SecretName) -> CallFailed {
    let hint = format!("its token isn't taken: log in again by `lazaret secret login {name}`");
    CallFailed { failure: told.failure.hint(hint), ..told }
}

fn result(told: String) -> Result<ToolResult, CallFailed> {
    let result = ToolResult { content: vec![Content::Text(told)], structured: None, is_error: false };
    let check = result.check().map_err(|why| ToolFailure::new(ToolFailureKind::TooLarge, why.to_string()));
    check.map(|()| result).map_err(|failure| CallFailed { failure, acted: Acted::Unknown })
}

fn failed(failure: ::mail::Failure) -> CallFailed {
    let kind = match failure.reason {
        Reason::Invalid => ToolFailureKind::Invalid,
        Reason::NotFound => ToolFailureKind::NotFound,
        Reason::TooLarge => ToolFailureKind::TooLarge,
        Reason::Server | Reason::SignIn => ToolFailureKind::Upstream,
    };
    let acted = match failure.acted {
        ::mail::Acted::No => Acted::No,
        ::mail::Acted::Failed => Acted::Failed,
        ::mail::Acted::Unknown => Acted::Unknown,
    };
    CallFailed { failure: ToolFailure::new(kind, failure.message).bounded(), acted }
}

/// A text without what signs in: a server may echo it, and a mail may hold it.
fn scrubbed(scrubber: &Scrubber, text: &str) -> String {
    String::from_utf8_lossy(&scrubber.whole(text.as_bytes())).into_owned()
}

fn internal(why: &str) -> ToolFailure {
    ToolFailure::new(ToolFailureKind::Internal, why)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use dial::Network;
    use tokio::net::TcpListener;

    use super::*;
    use crate::tests::egress::Here;
    use crate::tests::vault::{lender, vault};
    use domain::{How, SecretBinding};

    /// At a server that never says anything.
    #[tokio::test]
    async fn a_secret_that_is_taken_away_ends_the_call_that_it_was_lent_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (at, user, name) = (format!("imaps://mail.acme.example:{port}"), "ada@acme.example", "mail");
        let smtp = format!("smtps://mail.acme.example:{port}");
        let (vault, _folder) = vault();
        let binding = |place: &String| SecretBinding {
            to: place.parse().unwrap(),
            methods: [].into(),
            how: How::Password,
        };
        let name: SecretName = name.parse().unwrap();
        vault.set(&name, "correct horse".into(), [&at, &smtp].map(binding).into(), 0).unwrap();
        let private = vec![format!("mail.acme.example:{port}").parse().unwrap()];
        let network = Network { private, ca: None, proxy: None };
        let dialer = Dialer::resolving(network, Here(AtomicUsize::new(0))).unwrap();
        let key = MailKey::Vault(lender(&vault), name.clone());
        let place = Place::new(&at, &smtp, user, user).unwrap();
        let random = |bytes: &mut [u8]| -> std::io::Result<()> {
            bytes.fill(7);
            Ok(())
        };
        let server = MailServer::new(place, key, dialer, Arc::new(random));
        let cancelled = CancellationToken::new();
        let tool = "list_folders".parse().unwrap();
        let remove = async {
            let held = listener.accept().await.unwrap();
            vault.remove(&name).unwrap();
            held
        };
        let both = async { tokio::join!(server.call(&tool, "{}", &cancelled), remove) };
        let (called, _held) = tokio::time::timeout(Duration::from_secs(5), both).await.unwrap();
        let failure = called.unwrap_err();
        assert_eq!(failure.acted, Acted::No);
        assert!(failure.failure.message.contains("`mail`"), "{}", failure.failure.message);
    }

    #[tokio::test]
    async fn a_password_is_lent_to_both_servers_of_a_mailbox_or_to_none() {
        let (vault, _folder) = vault();
        let key = MailKey::Vault(lender(&vault), "mail".parse().unwrap());
        let bind = |places: &[&str]| {
            let binding = |place: &&str| SecretBinding {
                to: place.parse().unwrap(),
                methods: [].into(),
                how: How::Password,
            };
            let bindings = places.iter().map(binding).collect();
            vault.set(&"mail".parse().unwrap(), "correct horse".into(), bindings, 0).unwrap();
        };
        let user = "ada@acme.example";
        let place = Place::new("imaps://mail.acme.example", "smtp://mail.acme.example", user, user).unwrap();
        let lent = async || match key.lent(&place).await {
            Ok((Key::Password(password), _)) => Ok(password),
            Ok((Key::Token(_), _)) => panic!("it is no token"),
            Err(failure) => Err(failure.message),
        };
        assert!(lent().await.err().unwrap().contains("mail"), "there is no secret");
        bind(&["imaps://mail.acme.example", "smtp://mail.acme.example:25"]);
        assert!(lent().await.err().unwrap().contains("smtp://mail.acme.example"));
        bind(&["imaps://mail.acme.example", "smtp://mail.acme.example"]);
        assert_eq!(lent().await.unwrap().reveal(), b"correct horse");
        vault.remove(&"mail".parse().unwrap()).unwrap();
        assert!(lent().await.is_err(), "what is removed is not lent again");
    }
}
