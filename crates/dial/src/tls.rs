//! TLS to servers: the platform's certificates, and those that the person added.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{DialError, TLS_TIME, shown};

/// Most bytes of the file of certificates.
const MAX_CA: u64 = 4 << 20;

/// What is spoken in TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Offer {
    /// Nothing is said of it.
    Nothing,
    /// HTTP/2 or HTTP/1.1.
    Http,
}

/// Who is believed to be who.
#[derive(Clone)]
pub(crate) struct Trust {
    plain: Arc<ClientConfig>,
    http: Arc<ClientConfig>,
    /// The certificates that the person added.
    pub(crate) added: Arc<Vec<CertificateDer<'static>>>,
}

impl Trust {
    pub(crate) fn read(ca: Option<&Path>) -> Result<Self, DialError> {
        let added = ca.map_or(Ok(Vec::new()), certificates)?;
        let provider = Arc::new(ring::default_provider());
        if CryptoProvider::get_default().is_none() {
            // Another part of the program may be faster; then its choice stands.
            drop(ring::default_provider().install_default());
        }
        let broken = |error: rustls::Error| DialError::Certificates {
            path: ca.unwrap_or(Path::new("")).to_owned(),
            why: error.to_string(),
        };
        let verifier =
            Verifier::new_with_extra_roots(added.iter().cloned(), Arc::clone(&provider)).map_err(broken)?;
        let plain = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(broken)?
            // The name is rustls' own: the verifier is the platform's, as strict as the usual one.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let mut http = plain.clone();
        http.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { plain: Arc::new(plain), http: Arc::new(http), added: Arc::new(added) })
    }

    pub(crate) async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        host: &str,
        offer: Offer,
    ) -> Result<TlsStream<S>, DialError> {
        let failed = |why: String| DialError::Tls { host: shown(host), why };
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(literal.to_owned()).map_err(|error| failed(error.to_string()))?;
        let config = match offer {
            Offer::Nothing => &self.plain,
            Offer::Http => &self.http,
        };
        let shake = TlsConnector::from(Arc::clone(config)).connect(name, stream);
        tokio::time::timeout(TLS_TIME, shake)
            .await
            .map_err(|_elapsed| failed(format!("TLS was not set up within {} s", TLS_TIME.as_secs())))?
            .map_err(|error| failed(words(&error)))
    }
}

/// A failure in words of this host's.
fn words(error: &std::io::Error) -> String {
    rustls_in(error).map_or_else(|| error.to_string(), words_of)
}

/// What TLS itself says, where that is what failed.
pub(crate) fn rustls_in(error: &std::io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    inner.downcast_ref::<rustls::Error>().or_else(|| rustls_in(inner.downcast_ref()?))
}

/// That in words of this host's: those of a certificate are a stranger's.
pub(crate) fn words_of(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(wrong) = error else { return error.to_string() };
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library adds kinds, and each is told as the last"
    )]
    let wrong = match wrong {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another name"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "isn't valid yet",
        CertificateError::UnknownIssuer => "was signed by nobody who is trusted",
        CertificateError::Revoked => "was revoked",
        _other => "isn't valid",
    };
    format!("its certificate {wrong}")
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, DialError> {
    let broken = |why: String| DialError::Certificates { path: path.to_owned(), why };
    let size = std::fs::metadata(path).map_err(|error| broken(error.to_string()))?.len();
    if size > MAX_CA {
        return Err(broken(format!("it has {size} bytes, {MAX_CA} are allowed")));
    }
    let text = std::fs::read(path).map_err(|error| broken(error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| broken(error.to_string()))?;
    if found.is_empty() {
        return Err(broken("there is no certificate in it".to_owned()));
    }
    Ok(found)
}
