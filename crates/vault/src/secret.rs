//! A secret in memory: readable only by name of the method that reveals it, wiped when nobody holds it any more.

use std::sync::Arc;

use secrecy::zeroize::Zeroizing;

/// Why bytes can't be kept as a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// So short that it would be found in any text, or longer than any needs to be.
    #[error("a secret has {min} bytes to 64 KiB, this one has {0}", min = Secret::MIN)]
    Length(usize),
    /// A header would end in the middle of it.
    #[error("the secret holds a character that no header can carry, such as a line break: store it without")]
    Character,
}

/// The bytes of a secret. There is no `Debug`, `Display`, `Clone`, `PartialEq` or `Serialize`, so that it gets nowhere by
/// accident.
///
/// ```compile_fail
/// let secret = vault::Secret::from("canary");
/// println!("{secret:?}");
/// ```
/// ```compile_fail
/// let secret = vault::Secret::from("canary");
/// println!("{secret}");
/// ```
/// ```compile_fail
/// let secret = vault::Secret::from("canary");
/// let copy = secret.clone();
/// ```
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// Fewest bytes of one that is kept.
    pub const MIN: usize = 6;
    /// Most bytes.
    pub const MAX: usize = 64 << 10;

    /// Holds bytes as a secret.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(Arc::new(bytes))
    }

    /// Holds it once more: the bytes are the same, not copied.
    #[must_use]
    pub fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// Whether both hold the same: the same memory, as bytes are not compared.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The bytes, for where they are needed.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text; none if they are none.
    #[must_use]
    pub fn reveal_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Refuses what can't be kept.
    pub(crate) fn check(&self) -> Result<(), SecretError> {
        let length = self.0.len();
        if !(Self::MIN..=Self::MAX).contains(&length) {
            return Err(SecretError::Length(length));
        }
        if self.0.iter().any(u8::is_ascii_control) {
            return Err(SecretError::Character);
        }
        Ok(())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(Zeroizing::new(text.into_bytes()))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(Zeroizing::new(text.as_bytes().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_kept_is_refused() {
        assert_eq!(Secret::from("12345").check(), Err(SecretError::Length(5)));
        assert_eq!(
            Secret::from("x".repeat(Secret::MAX + 1)).check(),
            Err(SecretError::Length(Secret::MAX + 1))
        );
        for bad in ["secret\r\nx-evil: 1", "secret\0", "secret\x7f"] {
            assert_eq!(Secret::from(bad).check(), Err(SecretError::Character), "{bad:?}");
        }
        assert_eq!(Secret::from("correct horse battery").check(), Ok(()));
        assert_eq!(Secret::from("pässwört").check(), Ok(()));
    }
}
