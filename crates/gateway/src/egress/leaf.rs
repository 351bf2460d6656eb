//! Certificates for the names that cells' programs ask for, under an authority of this installation that only its cells
//! trust. They let a door end TLS; the way out from here is other TLS, whose certificates are those of the world.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use secrecy::zeroize::Zeroizing;
use serde_bytes::ByteBuf;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use wire::egress::{LeafAnswer, url};
use wire::frame::{self, FrameError, SMALL};

/// Names that one session may have certificates for in a minute.
const NAMES: u32 = 240;
const MINUTE: Duration = Duration::from_secs(60);
/// How long before now a certificate begins, since clocks differ, and how long after now it ends.
const BEFORE: Duration = Duration::from_secs(24 * 60 * 60);
const AFTER: Duration = Duration::from_secs(6 * 24 * 60 * 60);

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its key can't be read or written.
    #[error("the key of the cells' certificate authority, `{}`: {source}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read it.
    #[error("the key of the cells' certificate authority, `{}`, can be read by others", .0.display())]
    NotPrivate(PathBuf),
    /// It is no key.
    #[error("the key of the cells' certificate authority can't be used: {0}")]
    Key(#[from] rcgen::Error),
}

/// The authority of this installation.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// Reads its key, or makes one: then all cells that start from now on trust another authority.
    ///
    /// # Errors
    /// As [`AuthorityError`] says.
    pub fn open(path: &Path) -> Result<Self, AuthorityError> {
        let failed = |source| AuthorityError::File { path: path.to_owned(), source };
        let found = match fs::metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(path, &Zeroizing::new(KeyPair::generate()?.serialize_pem())).map_err(failed)?;
                fs::metadata(path).map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        if found.permissions().mode() & 0o077 != 0 {
            return Err(AuthorityError::NotPrivate(path.to_owned()));
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
        Ok(Self::with(KeyPair::from_pem_and_sign_algo(&text, &PKCS_ECDSA_P256_SHA256)?)?)
    }

    fn with(key: KeyPair) -> Result<Self, rcgen::Error> {
        let params = authority(&key);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Its own certificate, for the trust stores of cells.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for a host in its canonical form.
    fn issue(&self, host: &str) -> Result<LeafAnswer, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![match host.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.try_into()?),
        }];
        let now = SystemTime::now();
        params.not_before = (now - BEFORE).into();
        params.not_after = (now + AFTER).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(LeafAnswer::Issued {
            chain: vec![ByteBuf::from(certificate.der().to_vec())],
            key: ByteBuf::from(key.serialize_der()),
        })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// What the authority says of itself: the same for the same key, whenever it is made.
fn authority(key: &KeyPair) -> CertificateParams {
    let mark: String =
        Sha256::digest(key.public_key_raw()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Lazaret cells {mark}"));
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2056, 1, 1);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Whole or not at all.
fn make(path: &Path, text: &str) -> io::Result<()> {
    let half = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&half, path)
}

/// The certificates of one session: so many, and no more.
#[derive(Debug)]
pub struct Leaves {
    authority: Arc<Authority>,
    issued: Mutex<(Instant, u32)>,
}

impl Leaves {
    /// For one session.
    #[must_use]
    pub fn new(authority: Arc<Authority>) -> Self {
        Self { authority, issued: Mutex::new((Instant::now(), 0)) }
    }

    /// Answers a door that asks for one.
    ///
    /// # Errors
    /// When the answer can't be passed on.
    pub async fn serve<S>(&self, host: &str, mut stream: S) -> Result<(), FrameError>
    where
        S: AsyncWrite + Unpin,
    {
        let answer = self.answer(host).unwrap_or_else(|why| LeafAnswer::Refused { why });
        frame::write(&mut stream, &answer, SMALL).await?;
        stream.shutdown().await?;
        Ok(())
    }

    fn answer(&self, host: &str) -> Result<LeafAnswer, String> {
        if url::host(host).map_err(|fault| fault.to_string())? != host {
            return Err("the host is not in its canonical form".to_owned());
        }
        if self.is_enough() {
            return Err(format!(
                "this session has asked for {NAMES} servers within a minute; try again later"
            ));
        }
        self.authority.issue(host).map_err(|error| format!("there is no certificate for `{host}`: {error}"))
    }

    fn is_enough(&self) -> bool {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if issued.0.elapsed() > MINUTE {
            *issued = (Instant::now(), 0);
        }
        issued.1 = issued.1.saturating_add(1);
        issued.1 > NAMES
    }
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;

    fn leaves(folder: &Path) -> Leaves {
        Leaves::new(Arc::new(Authority::open(&folder.join("ca.key")).unwrap()))
    }

    /// Whether a program that trusts this authority would take the certificate for this host, at a time from now on.
    fn is_taken(pem: &str, answer: &LeafAnswer, host: &str, later: Duration) -> bool {
        let LeafAnswer::Issued { chain, .. } = answer else { panic!("{answer:?}") };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let now = UnixTime::since_unix_epoch(
            UnixTime::now().as_secs().checked_add(later.as_secs()).map(Duration::from_secs).unwrap(),
        );
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let leaf = CertificateDer::from(chain[0].to_vec());
        verifier.verify_server_cert(&leaf, &[], &name, &[], now).is_ok()
    }

    #[test]
    fn a_certificate_is_for_one_host_and_a_week_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let leaves = leaves(folder.path());
        let pem = leaves.authority.pem().to_owned();
        for host in ["example.com", "1.2.3.4", "2001:db8::1", "a_b.example"] {
            let leaf = leaves.answer(host).unwrap();
            assert!(is_taken(&pem, &leaf, host, Duration::ZERO), "{host}");
            assert!(!is_taken(&pem, &leaf, "www.example.com", Duration::ZERO), "{host}");
            assert!(!is_taken(&pem, &leaf, host, Duration::from_secs(7 * 24 * 60 * 60)), "{host}");
        }
        let other = tempfile::tempdir().unwrap();
        let other = Leaves::new(Arc::new(Authority::open(&other.path().join("ca.key")).unwrap()));
        assert!(!is_taken(&pem, &other.answer("example.com").unwrap(), "example.com", Duration::ZERO));
    }

    #[test]
    fn what_is_no_canonical_host_and_what_is_too_much_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let leaves = leaves(folder.path());
        for host in [
            "Example.com",
            "*.example.com",
            "example.com.",
            "127.1",
            "",
            "a b",
            "[::1]",
            "a,b",
            "b\u{fc}cher.example",
        ] {
            assert!(leaves.answer(host).is_err(), "{host}");
        }
        let issued = (0..300).filter(|at| leaves.answer(&format!("a{at}.example")).is_ok()).count();
        assert_eq!(issued, 240);
    }

    #[test]
    fn the_key_is_made_once_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.key");
        let first = leaves(folder.path());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        // After a start of the daemon, cells that live on take what is issued.
        let second = leaves(folder.path());
        let leaf = second.answer("example.com").unwrap();
        assert!(is_taken(first.authority.pem(), &leaf, "example.com", Duration::ZERO));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Authority::open(&path), Err(AuthorityError::NotPrivate(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "no key").unwrap();
        assert!(matches!(Authority::open(&path), Err(AuthorityError::Key(_))));
    }
}
