//! Mailboxes as `servers.toml` has them: from settings to the account of one call.

use std::sync::Arc;

use api::{PasswordIn, ServerMailbox};
use dial::Dialer;
use gateway::tools::upstream::{MailServer, Upstream};
use mail::{Account, Place};
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
pub(crate) fn serve(mailbox: ServerMailbox, dialer: Dialer) -> Upstream {
    let account = move || account(&mailbox);
    Upstream::mail(MailServer::new(Arc::new(account), dialer, Arc::new(System)))
}

fn account(mailbox: &ServerMailbox) -> Result<Account, ToolFailure> {
    let internal = |why: String| ToolFailure::new(ToolFailureKind::Internal, why);
    let password = match &mailbox.password {
        PasswordIn::Variable(name) => match std::env::var(name) {
            Ok(password) if !password.trim().is_empty() => password.trim().into(),
            Ok(_) | Err(_) => {
                return Err(internal(format!(
                    "`{name}` is not set for the daemon: the mailbox's password is in it"
                )));
            }
        },
        PasswordIn::Secret(name) => return Err(internal(format!("there is no secret `{name}`"))),
    };
    Ok(Account { place: place(mailbox).map_err(internal)?, password })
}
