//! The one dialer: whatever the daemon connects to beyond this machine's own sockets, it connects to here: what leaves cells,
//! mail, models' providers, tool servers, registries of images and packages.
//!
//! ```text
//! host, port ▶ named by the person? ▶ resolve, once ▶ judge each address ▶ connect to one that was judged ▶ TLS
//! ```
//! A name that leads into a private network, to this machine or to a cloud's metadata is refused unless the person named
//! that host. Nothing is resolved a second time: a name that answers otherwise later gains nothing.

mod address;
mod client;
mod error;
mod login;
mod proxy;
mod resolve;
#[cfg(test)]
mod tests;
mod tls;
mod told;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::NamedHost;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
pub use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

pub use address::{Class, not_public};
pub use client::{Client, refusal};
pub use error::DialError;
pub use login::{ProxyLogin, ProxyUser};
pub use proxy::{BadProxy, Proxy};
pub use resolve::{Resolve, System};
pub use told::{causes, told, told_in_cell};

/// A connection to a host: straight or through a proxy in the clear, or through a proxy in TLS up to there.
pub type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// How long a name may take to be resolved.
const RESOLVE_TIME: Duration = Duration::from_secs(10);
/// How long one address may take to accept a connection, and all together.
const CONNECT_TIME: Duration = Duration::from_secs(10);
const ALL_TIME: Duration = Duration::from_secs(30);
/// How long TLS may take to be set up.
const TLS_TIME: Duration = Duration::from_secs(15);
/// Most addresses of one name that are judged, and tried.
const MAX_ADDRESSES: usize = 16;
/// Most names that are looked up at once, and by one program.
const MAX_LOOKUPS: usize = 256;
const MAX_LOOKUPS_OF_ONE: usize = 8;
/// Most bytes of a host's name.
const MAX_HOST: usize = 253;

/// How the host reaches the network: the table `[network]` of `config.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Hosts that may have an address that isn't public.
    pub private: Vec<NamedHost>,
    /// A PEM file of certificates that are trusted besides the platform's.
    pub ca: Option<PathBuf>,
    /// The proxy through which everything goes that isn't named in `private`.
    pub proxy: Option<Proxy>,
}

/// Makes connections.
#[derive(Clone)]
pub struct Dialer {
    network: Arc<Network>,
    resolve: Arc<dyn Resolve>,
    trust: tls::Trust,
    /// Who has the log-in at the outer proxy.
    login: Option<Arc<dyn ProxyLogin>>,
    /// Turns to look up a name: those of all, and of whom this one is for.
    turns: [Arc<Semaphore>; 2],
}

impl Dialer {
    /// A dialer that asks the system's resolver.
    ///
    /// # Errors
    /// When the certificates that are trusted can't be read.
    pub fn new(network: Network) -> Result<Self, DialError> {
        Self::resolving(network, System)
    }

    /// A dialer that asks another resolver.
    ///
    /// # Errors
    /// As [`Dialer::new`].
    pub fn resolving(network: Network, resolve: impl Resolve + 'static) -> Result<Self, DialError> {
        let trust = tls::Trust::read(network.ca.as_deref())?;
        let turns = [MAX_LOOKUPS, MAX_LOOKUPS].map(|most| Arc::new(Semaphore::new(most)));
        Ok(Self { network: Arc::new(network), resolve: Arc::new(resolve), trust, login: None, turns })
    }

    /// The same dialer for one program, which can't take all turns to look up names: each may hold a thread for long.
    #[must_use]
    pub fn for_one(&self) -> Self {
        let [all, _] = &self.turns;
        Self { turns: [Arc::clone(all), Arc::new(Semaphore::new(MAX_LOOKUPS_OF_ONE))], ..self.clone() }
    }

    /// The same dialer, which logs in at the outer proxy.
    #[must_use]
    pub fn logging_in(self, login: Arc<dyn ProxyLogin>) -> Self {
        Self { login: Some(login), ..self }
    }

    /// The same dialer for a host that the person configured: it may be anywhere.
    #[must_use]
    pub fn naming(&self, host: NamedHost) -> Self {
        let mut private = self.network.private.clone();
        private.push(host);
        self.only_naming(private)
    }

    fn only_naming(&self, private: Vec<NamedHost>) -> Self {
        let network = Network { private, ..Network::clone(&self.network) };
        Self { network: Arc::new(network), ..self.clone() }
    }

    /// A connection to a host, which is a name or an address (an IPv6 one in brackets or without).
    ///
    /// # Errors
    /// When it can't be resolved, is not public and not named, or doesn't answer.
    pub async fn connect(&self, host: &str, port: u16) -> Result<Stream, DialError> {
        let connected = async {
            match &self.network.proxy {
                Some(proxy) if !self.is_named(host, port) => self.through(proxy, host, port).await,
                Some(_) | None => self.directly(host, port).await.map(Stream::Left),
            }
        };
        let late = || DialError::Late { host: shown(host), seconds: ALL_TIME.as_secs() };
        tokio::time::timeout(ALL_TIME, connected).await.map_err(|_elapsed| late())?
    }

    /// A connection in TLS, whose certificate was verified.
    ///
    /// # Errors
    /// As [`Dialer::connect`], or when the certificate is not good for this host.
    pub async fn tls(&self, host: &str, port: u16) -> Result<TlsStream<Stream>, DialError> {
        self.secure(self.connect(host, port).await?, host).await
    }

    /// The same for HTTP: offers HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// As [`Dialer::tls`].
    pub async fn https(&self, host: &str, port: u16) -> Result<TlsStream<Stream>, DialError> {
        self.trust.secure(self.connect(host, port).await?, host, tls::Offer::Http).await
    }

    /// Sets up TLS on a connection that began in the clear (STARTTLS).
    ///
    /// # Errors
    /// When the certificate is not good for this host.
    pub async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        host: &str,
    ) -> Result<TlsStream<S>, DialError> {
        self.trust.secure(stream, host, tls::Offer::Nothing).await
    }

    fn is_named(&self, host: &str, port: u16) -> bool {
        self.network.private.iter().any(|named| named.names(host, port))
    }

    /// The addresses of a host that may be connected to.
    async fn judged(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
        if host.is_empty() || host.len() > MAX_HOST || host.contains(['\0', '%']) {
            return Err(DialError::NoHost { host: shown(host) });
        }
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let found = match literal.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => self.resolved(host, port).await?,
        };
        if self.is_named(host, port) {
            return Ok(found);
        }
        let mut refused = None;
        let mut public = Vec::new();
        for address in found {
            match self.judge(host, port, address.ip()) {
                Ok(()) => public.push(address),
                Err(error) => refused = Some(error),
            }
        }
        if public.is_empty() {
            let none = || DialError::Unknown { host: shown(host), why: "it has no address".to_owned() };
            return Err(refused.unwrap_or_else(none));
        }
        Ok(public)
    }

    /// Refuses an address that isn't public, or leads to this machine itself, or of which that can't be told. Every address that
    /// isn't named comes by here, however it was found.
    fn judge(&self, host: &str, port: u16, address: IpAddr) -> Result<(), DialError> {
        let refused = |class| Err(DialError::NotPublic { host: shown(host), port, address, class });
        if let Some(class) = not_public(address) {
            return refused(class);
        }
        match self.resolve.is_here(address::leads_to(address)) {
            Ok(false) => Ok(()),
            Ok(true) => refused(Class::Loopback),
            Err(error) => {
                let why = format!("whether that is this machine can't be told: {error}");
                Err(DialError::Unreachable { host: shown(host), port, why })
            }
        }
    }

    async fn resolved(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
        let unknown = |why: String| DialError::Unknown { host: shown(host), why };
        let (resolve, asked, turns) = (Arc::clone(&self.resolve), host.to_owned(), self.turns.clone());
        let found = async {
            let [all, own] = turns.map(Semaphore::acquire_owned);
            let turns = (own.await, all.await);
            // A task of its own: whoever gives up leaves the thread that asks the system, and its turn with it.
            let found = tokio::spawn(async move {
                let found = resolve.resolve(&asked, port).await;
                drop(turns);
                found
            });
            found.await.unwrap_or_else(|failed| Err(std::io::Error::other(failed)))
        };
        let mut found = tokio::time::timeout(RESOLVE_TIME, found)
            .await
            .map_err(|_elapsed| unknown(format!("no answer within {} s", RESOLVE_TIME.as_secs())))?
            .map_err(|error| unknown(error.to_string()))?;
        found.truncate(MAX_ADDRESSES);
        // The port is ours, whatever a resolver says.
        found.iter_mut().for_each(|address| address.set_port(port));
        Ok(found)
    }

    async fn directly(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let mut last = "it has no address".to_owned();
        for address in self.judged(host, port).await? {
            match tokio::time::timeout(CONNECT_TIME, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Small writes must not wait for each other; without it, it is only slower.
                    drop(stream.set_nodelay(true));
                    return Ok(stream);
                }
                Ok(Err(error)) => last = error.to_string(),
                Err(_elapsed) => last = format!("no connection within {} s", CONNECT_TIME.as_secs()),
            }
        }
        Err(DialError::Unreachable { host: shown(host), port, why: last })
    }

    /// Through the proxy, which resolves the name: its network is the person's. An address is judged here.
    async fn through(&self, proxy: &Proxy, host: &str, port: u16) -> Result<Stream, DialError> {
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = literal.parse::<IpAddr>() {
            self.judge(host, port, address)?;
        }
        let refused = |why: String| DialError::Proxy { host: shown(host), port, why };
        let user = self.proxy_user().map_err(refused)?;
        let asking = proxy::asking(host, port, user.as_ref())?;
        let stream = self.naming(proxy.named()).directly(proxy.host(), proxy.port()).await?;
        let mut stream = if proxy.in_tls() {
            let stream = self.trust.secure(stream, proxy.host(), tls::Offer::Nothing).await;
            Stream::Right(Box::new(stream.map_err(|error| refused(error.to_string()))?))
        } else {
            Stream::Left(stream)
        };
        proxy::connect(&mut stream, &asking, user.is_some()).await.map_err(refused)?;
        Ok(stream)
    }

    /// The log-in at the outer proxy, as it is now; none if none is configured.
    fn proxy_user(&self) -> Result<Option<ProxyUser>, String> {
        self.login.as_ref().map(|login| login.log_in()).transpose()
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("network", &self.network).finish_non_exhaustive()
    }
}

/// A host's name as an error tells it: it may be an attacker's.
fn shown(host: &str) -> String {
    host.chars().take(80).flat_map(char::escape_debug).collect()
}
