//! Vendors of models whose subscriptions one logs in for: whom to ask, how, and where the tokens go.
//!
//! Neither vendor documents this for programs of others. What stands here is what its own client says and does, and can change
//! with any release of it:
//! - Claude: Claude Code 2.1.197 (npm, `@anthropic-ai/claude-code`): its table of addresses, what it asks them, and the one
//!   scope that its `setup-token` asks for.
//! - ChatGPT: Codex 0.171.0 (npm, `@openai/codex`) and its source (openai/codex, `codex-rs/login`: `server.rs`,
//!   `device_code_auth.rs`, `token_data.rs`, `auth/manager.rs`, `auth/revoke.rs`), without the scopes of its connectors.
//!
//! The client's name is the vendor's, since tokens are given to no other; wherever a program says of itself who it is
//! (`originator`, the user agent), it says Lazaret.

use std::collections::BTreeSet;

use domain::{BindingError, DestinationError, How, SecretBinding, Subscription};
use url::Url;

use crate::OauthError;
use crate::discover::Server;
use crate::listen::Redirect;

/// One vendor.
#[derive(Debug)]
pub(crate) struct Vendor {
    /// Whose tokens they are, as people are told.
    issuer: &'static str,
    authorize: &'static str,
    pub(crate) tokens: Tokens,
    pub(crate) client: &'static str,
    pub(crate) scopes: &'static [&'static str],
    /// What else is said to the browser.
    pub(crate) says: &'static [(&'static str, &'static str)],
    pub(crate) back: Back,
    /// Whether requests name an account, which the ID token says.
    pub(crate) account: bool,
    pub(crate) device: Option<Device>,
    /// Where its tokens go, and nowhere else.
    to: &'static str,
}

/// Where its tokens are given and given back.
#[derive(Debug)]
pub(crate) struct Tokens {
    url: &'static str,
    revoke: Option<&'static str>,
    /// What is asked for with a JSON document, not with a form: grants by their names, and [`REVOCATION`].
    json: &'static [&'static str],
    /// Whether it hears the state and, for a renewal, the scopes once more.
    pub(crate) repeats: bool,
}

const REVOCATION: &str = "revocation";

/// Where its browser comes back to.
#[derive(Debug)]
pub(crate) struct Back {
    /// On this machine.
    pub(crate) here: Redirect,
    /// Elsewhere, for whoever pastes: a page of the vendor's that shows the code, or nobody, and the browser shows the address.
    pub(crate) elsewhere: &'static str,
}

/// Its way for a code that is typed, which is not RFC 8628.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) begin: &'static str,
    pub(crate) poll: &'static str,
    /// Where people type it.
    pub(crate) page: &'static str,
    /// What the code that it gives was sent to.
    pub(crate) redirect: &'static str,
}

static CLAUDE: Vendor = Vendor {
    issuer: "https://claude.com",
    authorize: "https://claude.com/cai/oauth/authorize",
    tokens: Tokens {
        url: "https://platform.claude.com/v1/oauth/token",
        revoke: None,
        json: &["authorization_code", "refresh_token"],
        repeats: true,
    },
    client: "9d1c250a-e61b-44d9-88ed-5944d1962f5e",
    scopes: &["user:inference"],
    says: &[("code", "true")],
    back: Back {
        here: Redirect { host: "localhost", ports: &[0], path: "/callback" },
        elsewhere: "https://platform.claude.com/oauth/code/callback",
    },
    account: false,
    device: None,
    to: "https://api.anthropic.com/v1/messages",
};

static CHATGPT: Vendor = Vendor {
    issuer: "https://auth.openai.com",
    authorize: "https://auth.openai.com/oauth/authorize",
    tokens: Tokens {
        url: "https://auth.openai.com/oauth/token",
        revoke: Some("https://auth.openai.com/oauth/revoke"),
        json: &["refresh_token", REVOCATION],
        repeats: false,
    },
    client: "app_EMoamEEZ73f0CkXaXp7hrann",
    scopes: &["openid", "profile", "email", "offline_access"],
    says: &[
        ("id_token_add_organizations", "true"),
        ("codex_cli_simplified_flow", "true"),
        ("originator", "lazaret"),
    ],
    back: Back {
        here: Redirect { host: "127.0.0.1", ports: &[1455, 1457], path: "/auth/callback" },
        elsewhere: "http://127.0.0.1:1455/auth/callback",
    },
    account: true,
    device: Some(Device {
        begin: "https://auth.openai.com/api/accounts/deviceauth/usercode",
        poll: "https://auth.openai.com/api/accounts/deviceauth/token",
        page: "https://auth.openai.com/codex/device",
        redirect: "https://auth.openai.com/deviceauth/callback",
    }),
    to: "https://chatgpt.com/backend-api/codex/responses",
};

impl Vendor {
    pub(crate) fn of(subscription: Subscription) -> &'static Self {
        match subscription {
            Subscription::Claude => &CLAUDE,
            Subscription::Chatgpt => &CHATGPT,
        }
    }

    /// Whether such a question goes as a JSON document.
    pub(crate) fn takes_json(&self, form: &[(&str, &str)]) -> bool {
        form.iter().any(|(key, value)| match *key {
            "grant_type" => self.tokens.json.contains(value),
            "token_type_hint" => self.tokens.json.contains(&REVOCATION),
            _ => false,
        })
    }

    /// Where the log-in begins.
    pub(crate) fn begin(&self) -> Result<Url, OauthError> {
        url(self.issuer)
    }

    /// Where tokens are given and renewed.
    pub(crate) fn token(&self) -> Result<Url, OauthError> {
        url(self.tokens.url)
    }

    /// The vendor as an authorization server that would say this of itself.
    pub(crate) fn server(&self) -> Result<Server, OauthError> {
        let mut server = Server::silent(&self.token()?);
        self.issuer.clone_into(&mut server.issuer);
        server.authorization_endpoint = Some(url(self.authorize)?);
        server.revocation_endpoint = self.tokens.revoke.map(url).transpose()?;
        server.code_challenge_methods_supported = vec!["S256".to_owned()];
        Ok(server)
    }
}

/// Where a subscription's token may go, and how: to its vendor, as a bearer token, and nowhere else.
///
/// # Errors
/// Never with the addresses that are known.
pub fn binding(subscription: Subscription) -> Result<SecretBinding, OauthError> {
    let failed = |why: String| OauthError::Host(why);
    let to = Vendor::of(subscription).to.parse().map_err(|e: DestinationError| failed(e.to_string()))?;
    let binding = SecretBinding { to, methods: BTreeSet::from(["POST".to_owned()]), how: How::Bearer };
    binding.check(true).map_err(|e: BindingError| failed(e.to_string()))?;
    Ok(binding)
}

pub(crate) fn url(text: &str) -> Result<Url, OauthError> {
    text.parse().map_err(|_| OauthError::BadUrl(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    #[test]
    fn what_is_known_of_each_vendor_is_sound() {
        for subscription in [Subscription::Claude, Subscription::Chatgpt] {
            let vendor = Vendor::of(subscription);
            let device = vendor.device.iter().flat_map(|way| [way.begin, way.poll, way.page, way.redirect]);
            let all = [vendor.issuer, vendor.authorize, vendor.tokens.url].into_iter();
            for text in all.chain([vendor.back.elsewhere]).chain(vendor.tokens.revoke).chain(device) {
                http::check(&url(text).unwrap()).unwrap();
            }
            let binding = binding(subscription).unwrap();
            assert!(binding.to.path().len() > 1 && binding.methods.len() == 1, "{binding}");
        }
    }
}
