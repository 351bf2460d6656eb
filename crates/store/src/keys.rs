//! The store's keys: what opens sealed parts, what signs the ledger. One file, made once, readable to its owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use domain::Digest;
use ring::signature::{Ed25519KeyPair, KeyPair};
use ring::{hkdf, hmac};
use secrecy::zeroize::Zeroizing;

use crate::StoreError;
use crate::backend::check_private;

/// Where random bytes come from. They must be fit for keys.
pub trait Randomness: Send + Sync {
    /// Fills the buffer.
    ///
    /// # Errors
    /// The system has none; whatever needed them is refused.
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()>;
}

impl<F: Fn(&mut [u8]) -> io::Result<()> + Send + Sync> Randomness for F {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        self(buffer)
    }
}

/// The keys in memory.
#[derive(Clone)]
pub(crate) struct Keys {
    /// From it and an entry's own secret comes the key of the entry's sealed part.
    pub(crate) seal: hkdf::Prk,
    /// Binding digests are stored under it, so that the database alone doesn't confirm a guess of what they bind.
    binding: hmac::Key,
    /// Signs entries.
    pub(crate) sign: Arc<Ed25519KeyPair>,
}

const FIRST_LINE: &str = "lazaret store keys 1";

impl Keys {
    /// Reads the file. With random bytes, makes it if it is missing.
    pub(crate) fn open(path: &Path, random: Option<&dyn Randomness>) -> Result<Self, StoreError> {
        let failed = |source| StoreError::File { path: path.to_owned(), source };
        if let (false, Some(random)) = (path.exists(), random) {
            let mut root = Zeroizing::new([0_u8; 32]);
            random.fill(root.as_mut()).map_err(StoreError::Random)?;
            make(path, &root).map_err(failed)?;
        }
        check_private(path, 0o600)?;
        let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
        Self::parse(&text).ok_or_else(|| StoreError::Keys(path.to_owned()))
    }

    fn parse(text: &str) -> Option<Self> {
        let (first, rest) = text.split_once('\n')?;
        let root: Digest = rest.trim_end().parse().ok()?;
        if first != FIRST_LINE {
            return None;
        }
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"lazaret/store/keys/1").extract(root.as_bytes());
        let derive = |what: &[u8]| {
            let mut key = Zeroizing::new([0_u8; 32]);
            root.expand(&[what], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(key.as_mut())).ok()?;
            Some(key)
        };
        Some(Self {
            seal: hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, derive(b"seal")?.as_ref()),
            binding: hmac::Key::new(hmac::HMAC_SHA256, derive(b"binding")?.as_ref()),
            sign: Arc::new(Ed25519KeyPair::from_seed_unchecked(derive(b"sign")?.as_ref()).ok()?),
        })
    }

    /// The key that checks signatures.
    pub(crate) fn public(&self) -> &[u8] {
        self.sign.public_key().as_ref()
    }

    /// How a binding digest is stored.
    pub(crate) fn stored_binding(&self, binding: &Digest) -> String {
        let tag = hmac::sign(&self.binding, binding.as_bytes());
        crate::ledger::chain::hex(tag.as_ref())
    }
}

/// Whole or not at all, and never over one that is there: two programs that start at once use the same.
fn make(path: &Path, root: &[u8; 32]) -> io::Result<()> {
    let half = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    let text = Zeroizing::new(format!("{FIRST_LINE}\n{}\n", Digest::from_bytes(*root)));
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&half, path);
    fs::remove_file(&half)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    pub(crate) fn keys(n: u8) -> Keys {
        Keys::parse(&format!("{FIRST_LINE}\n{}\n", Digest::from_bytes([n; 32]))).unwrap()
    }

    #[test]
    fn the_key_file_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let random = |n: u8| {
            move |buffer: &mut [u8]| {
                buffer.fill(n);
                Ok(())
            }
        };
        assert!(matches!(Keys::open(&path, None), Err(StoreError::File { .. })));
        let made = Keys::open(&path, Some(&random(1))).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let again = Keys::open(&path, Some(&random(2))).unwrap();
        assert_eq!(made.public(), again.public());
        make(&path, &[3; 32]).unwrap();
        assert_eq!(Keys::open(&path, None).unwrap().public(), made.public());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::write(&path, "lazaret store keys 1\n00").unwrap();
        assert!(matches!(Keys::open(&path, Some(&random(1))), Err(StoreError::Keys(_))));
    }

    #[test]
    fn without_random_bytes_there_is_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let none = |_: &mut [u8]| Err(io::Error::other("none"));
        let opened = Keys::open(&folder.path().join("keys"), Some(&none));
        assert!(matches!(opened, Err(StoreError::Random(_))));
    }
}
