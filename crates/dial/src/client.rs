//! The dialer for reqwest: the same judgement, as the resolver of a client that follows no redirect.

use std::net::IpAddr;

use domain::NamedHost;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Certificate, ClientBuilder, Method, RequestBuilder, Url};

use crate::proxy::WANTS_ANOTHER;
use crate::{DialError, Dialer};

/// What reqwest says when the outer proxy wants a log-in, or another one. There is no type for it.
const TUNNEL_WANTS_LOG_IN: &str = "tunnel error: proxy authorization required";
/// What it says when the proxy refuses otherwise.
const TUNNEL_REFUSED: &str = "tunnel error: unsuccessful";
/// The name that every system gives to itself.
const LOCALHOST: &str = "localhost";
const HTTPS: &str = "https";

/// Makes requests that connect only where the dialer does, follow no redirect, and ask no proxy but the person's.
#[derive(Debug, Clone)]
pub struct Client {
    dialer: Dialer,
    /// For all but hosts that are named, since a resolver of reqwest isn't told the port.
    public: reqwest::Client,
    /// For hosts that are named, at the port that is named.
    named: reqwest::Client,
}

impl Client {
    /// A request; the error is why none may be made.
    ///
    /// # Errors
    /// When the URL's host is an address that isn't public, or is this machine's own, and not named. A name is judged when it is resolved.
    pub fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, DialError> {
        self.dialer.admits(&url)?;
        self.dialer.can_log_in(&url)?;
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        let client = if self.dialer.is_named(host, port) { &self.named } else { &self.public };
        Ok(client.request(method, url))
    }
}

/// Why the dialer refused where a request would have gone; none: something else failed.
#[must_use]
pub fn refusal(error: &reqwest::Error) -> Option<DialError> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let tunnel = |why: &str| {
        let url = error.url();
        let host = url.and_then(reqwest::Url::host_str).unwrap_or_default();
        let port = url.and_then(reqwest::Url::port_or_known_default).unwrap_or_default();
        DialError::Proxy { host: crate::shown(host), port, why: why.to_owned() }
    };
    while let Some(error) = next {
        match error.to_string().as_str() {
            TUNNEL_WANTS_LOG_IN => return Some(tunnel(WANTS_ANOTHER)),
            TUNNEL_REFUSED => return Some(tunnel("it says no")),
            _other => {}
        }
        match error.downcast_ref() {
            Some(refused @ DialError::NotPublic { .. }) => return Some(refused.clone()),
            Some(_) | None => next = error.source(),
        }
    }
    None
}

/// Resolves names for reqwest, which doesn't tell it the port.
struct Judged(Dialer);

impl Resolve for Judged {
    fn resolve(&self, name: Name) -> Resolving {
        let dialer = self.0.clone();
        Box::pin(async move {
            let host = name.as_str();
            let named = dialer.network.private.iter().find(|named| named.host.names(host));
            let port = named.and_then(|named| named.port).unwrap_or(0);
            let mut found = dialer.judged(host, port).await?;
            // With port 0, reqwest uses that of the URL.
            found.iter_mut().for_each(|address| address.set_port(0));
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Dialer {
    /// A client that connects only where this dialer does; `with` sets its times and the like.
    ///
    /// # Errors
    /// When the outer proxy or a certificate can't be used.
    pub fn client(&self, with: impl Fn(ClientBuilder) -> ClientBuilder) -> Result<Client, reqwest::Error> {
        let everywhere = |named: &&NamedHost| named.port.is_none();
        let private = self.network.private.iter().filter(everywhere).cloned().collect();
        let named = with(self.builder(self.clone())?).build()?;
        let public = with(self.builder(self.only_naming(private))?).build()?;
        Ok(Client { dialer: self.clone(), public, named })
    }

    fn builder(&self, resolving: Self) -> Result<ClientBuilder, reqwest::Error> {
        let mut builder = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .user_agent(concat!("lazaret/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Judged(match &self.network.proxy {
                Some(proxy) => resolving.naming(proxy.named()),
                None => resolving,
            }));
        if let Some(proxy) = &self.network.proxy {
            let named = self.network.private.clone();
            let (dialer, proxy) = (self.clone(), proxy.clone());
            let through = reqwest::Url::parse(&proxy.to_string()).ok();
            builder = builder.proxy(reqwest::Proxy::custom(move |url| {
                let host = url.host_str().unwrap_or_default();
                let port = url.port_or_known_default().unwrap_or_default();
                if named.iter().any(|named| named.names(host, port)) {
                    return None;
                }
                // Only with a `CONNECT`, which reqwest sends for what is in TLS.
                let user = dialer.proxy_user().ok().flatten().filter(|_| url.scheme() == HTTPS);
                let shown = user.and_then(|user| reqwest::Url::parse(&user.in_url(&proxy)).ok());
                shown.or_else(|| through.clone())
            }));
        }
        for certificate in self.trust.added.iter() {
            builder = builder.tls_certs_merge([Certificate::from_der(certificate)?]);
        }
        Ok(builder)
    }

    /// The same dialer for a URL that the person configured. An address that stands in it, and `localhost`, is named by
    /// that, at this port; where a name leads is judged as ever.
    #[must_use]
    pub fn configured(&self, url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default();
        let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() || host == LOCALHOST;
        let port = url.port_or_known_default().filter(|_| is_address);
        match port.and_then(|port| format!("{host}:{port}").parse().ok()) {
            Some(named) => self.naming(named),
            None => self.clone(),
        }
    }

    /// The same dialer for what others lead to who begin at this URL, which a person gave: where that is named, so may be what it
    /// leads to; a stranger leads to public addresses only.
    #[must_use]
    pub fn led_by(&self, url: &Url) -> Self {
        let dialer = self.configured(url);
        let host = url.host_str().unwrap_or_default();
        if dialer.is_named(host, url.port_or_known_default().unwrap_or_default()) {
            return dialer;
        }
        dialer.only_naming(Vec::new())
    }

    /// Refuses what would go to the outer proxy without the log-in that it wants.
    fn can_log_in(&self, url: &Url) -> Result<(), DialError> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        if self.network.proxy.is_none() || self.login.is_none() || self.is_named(host, port) {
            return Ok(());
        }
        let refused = |why: String| DialError::Proxy { host: crate::shown(host), port, why };
        if url.scheme() != HTTPS {
            // The proxy would read it, log-in and all, and might pass on what it reads.
            let why = "the log-in at the proxy is shown for https only: use that, or name the host in [network] private";
            return Err(refused(why.to_owned()));
        }
        self.proxy_user().map(drop).map_err(refused)
    }

    /// Whether a URL's host may be asked for, as far as the URL tells: reqwest resolves no literal address.
    fn admits(&self, url: &Url) -> Result<(), DialError> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if !self.is_named(host, port) => self.judge(host, port, address),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}
