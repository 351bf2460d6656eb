//! Dovecot's configuration, in the words of the version that is installed: 2.4 (Debian 13) has other names for much of
//! what 2.3 (Debian 12, Ubuntu 24.04) knows, and wants to be told first for which version it is.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Tokens, installed};

/// Writes it: for a server that runs as this user, listens on this port, and takes these tokens.
pub(super) fn write(at: &Path, user: &str, port: u16, tokens: &Tokens<'_>) {
    let own = match version().as_str() {
        "2.3" => for_2_3(at, tokens),
        "2.4" => for_2_4(at, tokens),
        other => panic!("Dovecot {other} is neither 2.3 nor 2.4: say here how it is configured"),
    };
    fs::write(at.join("dovecot.conf"), own + &for_both(at, user, port)).expect("a file");
}

/// Its first two numbers: it says `2.4.1-4 (7d8c0e5759)`.
fn version() -> String {
    let asked = Command::new(installed("dovecot")).arg("--version").output();
    let said = asked.expect("Dovecot runs: `./x setup --test` installs it").stdout;
    String::from_utf8_lossy(&said).split('.').take(2).collect::<Vec<_>>().join(".")
}

fn for_2_3(at: &Path, tokens: &Tokens<'_>) -> String {
    let shown = at.display();
    let mut text = format!(
        "mail_location = maildir:~/Maildir
ssl_cert = <{shown}/cert.pem
ssl_key = <{shown}/key.pem
passdb {{
  driver = passwd-file
  args = {shown}/users
}}
userdb {{
  driver = passwd-file
  args = {shown}/users
}}
"
    );
    if !tokens.mechanisms.is_empty() {
        fs::write(at.join("oauth2.conf"), introspection(tokens)).expect("a file");
        let mechanisms = tokens.mechanisms.join(" ");
        text += &format!(
            "auth_mechanisms = plain login {mechanisms}
passdb {{
  driver = oauth2
  mechanisms = {mechanisms}
  args = {shown}/oauth2.conf
}}
"
        );
    }
    text
}

fn for_2_4(at: &Path, tokens: &Tokens<'_>) -> String {
    let shown = at.display();
    let mut text = format!(
        "dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
mail_driver = maildir
mail_path = ~/Maildir
ssl_server_cert_file = {shown}/cert.pem
ssl_server_key_file = {shown}/key.pem
passdb passwd-file {{
  passwd_file_path = {shown}/users
}}
userdb passwd-file {{
  passwd_file_path = {shown}/users
}}
"
    );
    if !tokens.mechanisms.is_empty() {
        let (mechanisms, introspection) = (tokens.mechanisms.join(" "), introspection(tokens));
        text += &format!("auth_mechanisms = plain login {mechanisms}\noauth2 {{\n{introspection}}}\n");
    }
    text
}

/// How it asks whose a token is.
fn introspection(tokens: &Tokens<'_>) -> String {
    let asked_at = &tokens.asked_at;
    format!(
        "introspection_mode = post
introspection_url = http://{asked_at}/as/introspect
username_attribute = username
active_attribute = active
active_value = true
"
    )
}

fn for_both(at: &Path, user: &str, port: u16) -> String {
    let at = at.display();
    format!(
        "base_dir = {at}/run
state_dir = {at}/state
log_path = {at}/log/dovecot
protocols = imap
listen = 127.0.0.1
default_internal_user = {user}
default_login_user = {user}
default_internal_group =
first_valid_uid = 1
ssl = required
service imap-login {{
  chroot =
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
namespace inbox {{
  inbox = yes
  mailbox Drafts {{
    auto = create
    special_use = \\Drafts
  }}
  mailbox Sent {{
    auto = create
    special_use = \\Sent
  }}
  mailbox Trash {{
    auto = create
    special_use = \\Trash
  }}
  mailbox Entwürfe {{
    auto = create
  }}
}}
"
    )
}
