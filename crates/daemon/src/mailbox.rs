//! Mailboxes as `servers.toml` has them: from settings to what answers for them.

use std::sync::Arc;

use api::{PasswordIn, ServerMailbox};
use dial::Dialer;
use domain::{SecretName, ToolName};
use gateway::tools::upstream::{MailKey, MailServer, Upstream};
use mail::Place;
use oauth::Lender;
use vault::Secret;
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
pub(crate) fn serve(
    mailbox: &ServerMailbox,
    lender: Arc<Lender>,
    dialer: Dialer,
) -> Result<Upstream, ToolFailure> {
    let key = match &mailbox.password {
        PasswordIn::Secret(name) => MailKey::Vault(lender, name.clone()),
        PasswordIn::Variable(name) => {
            let name = name.clone();
            MailKey::Own(Arc::new(move || in_variable(&name)))
        }
    };
    let place = place(mailbox).map_err(internal)?;
    Ok(Upstream::mail(MailServer::new(place, key, dialer, Arc::new(System))))
}

/// The secret that a call of a tool shows, and where: only what sends signs in where mail is sent.
pub(crate) fn shows(mailbox: &ServerMailbox, tool: &ToolName) -> Vec<(SecretName, String)> {
    let sends = matches!(tool.as_str(), "send" | "send_draft");
    let mut shown = shown(mailbox);
    shown.retain(|(_, place)| sends || *place == mailbox.imap);
    shown
}

/// The secret that signs in at both servers, and where.
pub(crate) fn shown(mailbox: &ServerMailbox) -> Vec<(SecretName, String)> {
    let PasswordIn::Secret(name) = &mailbox.password else { return Vec::new() };
    [&mailbox.imap, &mailbox.smtp].into_iter().map(|place| (name.clone(), place.clone())).collect()
}

fn in_variable(name: &str) -> Result<Secret, ToolFailure> {
    match std::env::var(name) {
        Ok(password) if !password.trim().is_empty() => Ok(password.trim().into()),
        Ok(_) | Err(_) => Err(internal(format!(
            "`{name}` is not set for the daemon: it should hold the mailbox's password"
        ))),
    }
}

fn internal(why: String) -> ToolFailure {
    ToolFailure::new(ToolFailureKind::Internal, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(password: &str) -> ServerMailbox {
        ServerMailbox {
            imap: "imaps://mail.acme.example".to_owned(),
            smtp: "smtp://mail.acme.example".to_owned(),
            user: "ada@acme.example".to_owned(),
            from: None,
            password: password.parse().unwrap(),
        }
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
