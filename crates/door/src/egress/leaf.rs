//! Certificates for the names that programs ask for: got from the daemon, kept for a while.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use tokio::time::Instant;
use wire::egress::LeafAnswer;
use wire::frame::{self, SMALL};
use wire::host::DoorOpens;
use wire::mux::Opener;

use super::refusal::Refusal;

/// Names whose certificates are kept.
const KEPT: usize = 64;
/// How long one is kept: far shorter than it is valid.
const KEPT_FOR: Duration = Duration::from_secs(60 * 60);
/// How long the daemon may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The certificates of one cell. Cheap to clone.
#[derive(Clone)]
pub(super) struct Leaves {
    daemon: Opener,
    kept: Arc<Mutex<VecDeque<Kept>>>,
}

struct Kept {
    host: String,
    since: Instant,
    tls: Arc<ServerConfig>,
}

impl Leaves {
    pub(super) fn new(daemon: Opener) -> Self {
        Self { daemon, kept: Arc::default() }
    }

    /// How to end TLS for this host.
    pub(super) async fn of(&self, host: &str) -> Result<Arc<ServerConfig>, Refusal> {
        if let Some(tls) = self.kept(host) {
            return Ok(tls);
        }
        let answer = tokio::time::timeout(PATIENCE, self.ask(host)).await;
        let answer = answer.map_err(|_elapsed| Refusal::failed("there was no certificate in time"))??;
        let LeafAnswer::Issued { chain, key } = answer else {
            let LeafAnswer::Refused { why } = answer else { return Err(Refusal::failed("no certificate")) };
            return Err(Refusal::new(StatusCode::FORBIDDEN, why));
        };
        let chain = chain.into_iter().map(|one| CertificateDer::from(one.into_vec())).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.into_vec()));
        let tls = Arc::new(config(chain, key).map_err(Refusal::failed)?);
        self.keep(host, Arc::clone(&tls));
        Ok(tls)
    }

    async fn ask(&self, host: &str) -> Result<LeafAnswer, Refusal> {
        let mut stream = self.daemon.open().await.map_err(Refusal::failed)?;
        let head = DoorOpens::Leaf { host: host.to_owned() };
        frame::write(&mut stream, &head, SMALL).await.map_err(Refusal::failed)?;
        let answer = frame::read(&mut stream, SMALL).await.map_err(Refusal::failed)?;
        answer.ok_or_else(|| Refusal::failed("there is no certificate"))
    }

    fn kept(&self, host: &str) -> Option<Arc<ServerConfig>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|one| one.since.elapsed() < KEPT_FOR);
        kept.iter().find(|one| one.host == host).map(|one| Arc::clone(&one.tls))
    }

    fn keep(&self, host: &str, tls: Arc<ServerConfig>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|one| one.host != host);
        kept.truncate(KEPT.saturating_sub(1));
        kept.push_front(Kept { host: host.to_owned(), since: Instant::now(), tls });
    }
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Handshakes are cheap here, and nothing is to be remembered of them.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
