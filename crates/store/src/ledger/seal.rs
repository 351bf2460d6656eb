//! Sealed parts of entries: encrypted with AES-256-GCM (NIST SP 800-38D) under a key of their own, which can be erased.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use serde::{Deserialize, Serialize};

use crate::keys::Keys;

/// A text that logs don't get to see: arguments, content. JSON where a type says so.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Private(String);

impl Private {
    /// Hides a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} private bytes]", self.0.len())
    }
}

/// An entry's own random bytes. Its key needs them and the key file: either gone, it is gone.
pub(crate) type Secret = [u8; 32];

fn key(keys: &Keys, secret: &[u8]) -> Result<LessSafeKey, Unspecified> {
    let info = [b"lazaret/ledger/sealed/1".as_slice(), secret];
    let okm = keys.seal.expand(&info, &AES_256_GCM)?;
    Ok(LessSafeKey::new(UnboundKey::from(okm)))
}

/// Each key seals one text only, so that its nonce needs no choosing.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

pub(crate) fn seal(keys: &Keys, secret: &Secret, seq: u64, text: &str) -> Result<Vec<u8>, Unspecified> {
    let mut bytes = text.as_bytes().to_vec();
    key(keys, secret)?.seal_in_place_append_tag(nonce(), Aad::from(seq.to_be_bytes()), &mut bytes)?;
    Ok(bytes)
}

/// Nothing if the key is not the one, or the bytes are not what was sealed.
pub(crate) fn open(keys: &Keys, secret: &[u8], seq: u64, sealed: &[u8]) -> Option<Private> {
    let mut bytes = sealed.to_vec();
    let text =
        key(keys, secret).ok()?.open_in_place(nonce(), Aad::from(seq.to_be_bytes()), &mut bytes).ok()?;
    Some(Private(String::from_utf8(text.to_vec()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::keys;

    #[test]
    fn only_the_right_keys_open_a_sealed_part_in_its_place() {
        let sealed = seal(&keys(1), &[7; 32], 5, "to: eve").unwrap();
        let opened =
            |keys: &Keys, secret: &[u8], seq, sealed: &[u8]| open(keys, secret, seq, sealed).is_some();
        assert_eq!(open(&keys(1), &[7; 32], 5, &sealed), Some(Private::new("to: eve".to_owned())));
        assert!(!opened(&keys(2), &[7; 32], 5, &sealed));
        assert!(!opened(&keys(1), &[8; 32], 5, &sealed));
        assert!(!opened(&keys(1), &[7; 32], 6, &sealed));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(!opened(&keys(1), &[7; 32], 5, &changed), "byte {at}");
        }
    }

    #[test]
    fn a_private_text_is_not_printed() {
        assert_eq!(format!("{:?}", Private::new("to: eve".to_owned())), "[7 private bytes]");
    }
}
