//! Mailboxes as `servers.toml` has them: from settings to the account of one call.

use std::sync::Arc;

use api::{PasswordIn, ServerMailbox};
use dial::Dialer;
use domain::{SecretName, Target, ToolName};
use gateway::tools::upstream::{MailServer, Upstream};
use mail::{Account, Place};
use vault::{Secret, Vault};
use wire::tools::{ToolFailure, ToolFailureKind};

use crate::keeping::System;

/// The reviewed table of the built-in server.
pub(crate) const TABLE: &str = "mail";

/// Where a mailbox is.
pub(crate) fn place(mailbox: &ServerMailbox) -> Result<Place, String> {
    let ServerMailbox { imap, smtp, user, from, password: _ } = mailbox;
    Place::new(imap, smtp, user, from.as_ref().unwrap_or(user)).map_err(|e| e.to_string())
}

/// The built-in server for this mailbox.
pub(crate) fn serve(mailbox: ServerMailbox, vault: Arc<Vault>, dialer: Dialer) -> Upstream {
    let account = move || account(&mailbox, &vault);
    Upstream::mail(MailServer::new(Arc::new(account), dialer, Arc::new(System)))
}

/// The secret that a call of a tool shows, and where: only what sends signs in where mail is sent.
pub(crate) fn shows(mailbox: &ServerMailbox, tool: &ToolName) -> Vec<(SecretName, String)> {
    let PasswordIn::Secret(name) = &mailbox.password else { return Vec::new() };
    let sends = matches!(tool.as_str(), "send" | "send_draft");
    let places = [Some(&mailbox.imap), Some(&mailbox.smtp).filter(|_| sends)];
    places.into_iter().flatten().map(|place| (name.clone(), place.clone())).collect()
}

fn account(mailbox: &ServerMailbox, vault: &Vault) -> Result<Account, ToolFailure> {
    let internal = |why: String| ToolFailure::new(ToolFailureKind::Internal, why);
    let place = place(mailbox).map_err(internal)?;
    let password = match &mailbox.password {
        PasswordIn::Variable(name) => match std::env::var(name) {
            Ok(password) if !password.trim().is_empty() => password.trim().into(),
            Ok(_) | Err(_) => {
                return Err(internal(format!(
                    "`{name}` is not set for the daemon: it should hold the mailbox's password"
                )));
            }
        },
        PasswordIn::Secret(name) => lent(vault, name, &place).map_err(|why| {
            let hint =
                "store it for both servers: `lazaret secret set NAME --as password --to IMAP --to SMTP`";
            internal(format!("the mailbox's password: {why}")).hint(hint)
        })?,
    };
    Ok(Account { place, password })
}

/// The vault's secret, if it may be shown to both servers as a password.
fn lent(vault: &Vault, name: &SecretName, place: &Place) -> Result<Secret, String> {
    let mut password = None;
    for server in place.servers() {
        let (scheme, host, port) = (server.scheme(), server.host(), server.port());
        let target = Target { scheme, host, port, method: "", path: "/" };
        // To a mail server, a secret is bound as a password only.
        password = Some(vault.lend(name, &target).map_err(|e| e.to_string())?.value);
    }
    password.ok_or_else(|| "the mailbox is nowhere".to_owned())
}

#[cfg(test)]
mod tests {
    use domain::{How, SecretBinding};

    use super::*;
    use crate::secrets::{Passphrase, open};

    fn mailbox(password: &str) -> ServerMailbox {
        ServerMailbox {
            imap: "imaps://mail.acme.example".to_owned(),
            smtp: "smtp://mail.acme.example".to_owned(),
            user: "ada@acme.example".to_owned(),
            from: None,
            password: password.parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn a_password_is_lent_to_both_servers_of_a_mailbox_or_to_none() {
        let folder = tempfile::tempdir().unwrap();
        let nobody = Passphrase { file: None, command: None, ask: &|| None };
        let vault = open(&folder.path().join("vault"), nobody).await.unwrap();
        let bind = |places: &[&str]| {
            let binding = |place: &&str| SecretBinding {
                to: place.parse().unwrap(),
                methods: [].into(),
                how: How::Password,
            };
            let bindings = places.iter().map(binding).collect();
            vault.set(&"mail".parse().unwrap(), "correct horse".into(), bindings, 0).unwrap();
        };
        let account = || account(&mailbox("secret:mail"), &vault).map_err(|failure| failure.message);
        assert!(account().err().unwrap().contains("mail"), "there is no secret");
        bind(&["imaps://mail.acme.example", "smtp://mail.acme.example:25"]);
        assert!(account().err().unwrap().contains("smtp://mail.acme.example"));
        bind(&["imaps://mail.acme.example", "smtp://mail.acme.example"]);
        assert_eq!(account().unwrap().password.reveal(), b"correct horse");
        vault.remove(&"mail".parse().unwrap()).unwrap();
        assert!(account().is_err(), "what is removed is not lent again");
    }

    #[test]
    fn the_ledger_hears_of_each_server_that_sees_the_password() {
        let shown = |password: &str, tool: &str| {
            let shown = shows(&mailbox(password), &tool.parse().unwrap());
            shown.into_iter().map(|(_, to)| to).collect::<Vec<_>>()
        };
        assert_eq!(shown("secret:mail", "read"), ["imaps://mail.acme.example"]);
        assert_eq!(shown("secret:mail", "send").len(), 2);
        assert!(shown("env:MAIL", "send").is_empty());
    }
}
