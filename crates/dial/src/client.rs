//! The dialer for reqwest: the same judgement, as its resolver.

use std::net::IpAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Certificate, ClientBuilder, Url};

use crate::{DialError, Dialer};

/// Resolves names for reqwest. It isn't told the port, so a host counts as named whichever port was named: whoever builds
/// a client with it names the ports by what it asks for.
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
    /// A builder of clients that connect only where this dialer does, follow no redirect and ask no proxy but the
    /// person's. What they are asked for must pass [`Dialer::admits`], since reqwest resolves no literal address.
    ///
    /// # Errors
    /// When the outer proxy or a certificate can't be used.
    pub fn client(&self) -> Result<ClientBuilder, reqwest::Error> {
        let mut builder = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .user_agent(concat!("lazaret/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Judged(match &self.network.proxy {
                Some(proxy) => self.naming(proxy.named()),
                None => self.clone(),
            }));
        if let Some(proxy) = &self.network.proxy {
            let named = self.network.private.clone();
            let through = reqwest::Url::parse(&proxy.to_string()).ok();
            builder = builder.proxy(reqwest::Proxy::custom(move |url| {
                let host = url.host_str().unwrap_or_default();
                let port = url.port_or_known_default().unwrap_or_default();
                let direct = named.iter().any(|named| named.names(host, port));
                through.clone().filter(|_| !direct)
            }));
        }
        for certificate in self.trust.added.iter() {
            builder = builder.tls_certs_merge([Certificate::from_der(certificate)?]);
        }
        Ok(builder)
    }

    /// Whether a URL's host may be asked for, as far as the URL tells: a literal address is judged here.
    ///
    /// # Errors
    /// When it is an address that isn't public and not named.
    pub fn admits(&self, url: &Url) -> Result<(), DialError> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        let literal = host.trim_matches(['[', ']']);
        match literal.parse::<IpAddr>().ok().and_then(|address| Some((address, crate::not_public(address)?)))
        {
            Some((address, class)) if !self.is_named(host, port) => {
                Err(DialError::NotPublic { host: crate::shown(host), port, address, class })
            }
            Some(_) | None => Ok(()),
        }
    }
}
