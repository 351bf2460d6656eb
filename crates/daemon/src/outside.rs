//! How requests leave this host: as `[network]` of `config.toml` says.

use std::sync::Arc;

use dial::{Dialer, Proxy, ProxyLogin, ProxyUser};
use domain::{SecretName, Target};
use gateway::egress::{Bounds, Outside};
use oauth::Lender;
use vault::{Secret, Vault};

use crate::config::Config;
use crate::error::DaemonError;

/// The one dialer. What it logs in with at the outer proxy is in the vault.
pub(crate) fn dialer(config: &Config, vault: &Arc<Vault>) -> Result<Dialer, DaemonError> {
    let network = config.network.network().map_err(DaemonError::Network)?;
    let credential = config.network.credential().map_err(DaemonError::Network)?;
    let login = network.proxy.clone().zip(credential);
    let dialer = Dialer::new(network).map_err(|error| DaemonError::Network(error.to_string()))?;
    Ok(match login {
        Some((proxy, secret)) => {
            dialer.logging_in(Arc::new(AtProxy { vault: Arc::clone(vault), secret, proxy }))
        }
        None => dialer,
    })
}

/// The log-in at the outer proxy: as it is in the vault when a connection is made.
struct AtProxy {
    vault: Arc<Vault>,
    secret: SecretName,
    proxy: Proxy,
}

impl ProxyLogin for AtProxy {
    fn log_in(&self) -> Result<ProxyUser, String> {
        let Self { vault, secret, proxy } = self;
        let to = Target {
            scheme: proxy.scheme(),
            host: proxy.host(),
            port: proxy.port(),
            method: "CONNECT",
            path: "/",
        };
        let (user, password) = vault.lend_to_proxy(secret, &to).map_err(|error| {
            format!("{error}; the proxy's log-in is stored by `--to` its address and `--as proxy:USER`")
        })?;
        proxy_user(&user, &password).map_err(|why| format!("the secret `{secret}`: {why}"))
    }
}

/// A log-in at an outer proxy.
///
/// # Errors
/// Why this can't be one.
pub(crate) fn proxy_user(user: &str, password: &Secret) -> Result<ProxyUser, String> {
    let text = password.reveal_text().ok_or_else(|| "a proxy's password is text".to_owned())?;
    ProxyUser::new(user.to_owned(), text.into())
}

/// The way out of cells.
pub(crate) fn outside(config: &Config, dialer: Dialer, lender: &Arc<Lender>) -> Outside {
    let own = Arc::from(config.network.own.clone());
    Outside { dialer, own, lender: Some(Arc::clone(lender)), bounds: Bounds::default() }
}
