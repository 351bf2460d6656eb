//! The vault's file opens with its key alone, and is whole or not there.

use super::*;

/// Different bytes each time, and the same in each test.
fn random() -> Box<Random> {
    let count = std::sync::atomic::AtomicU8::new(1);
    Box::new(move |buffer| {
        buffer.fill(count.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        Ok(())
    })
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn by_file(&self) -> Key {
        Key::File(self.at("key"))
    }

    fn by_passphrase(&self, words: &str) -> Key {
        Key::Passphrase(Secret::from(words), self.at("key"))
    }

    fn open(&self, key: &Key) -> Result<(Sealed, Option<Content>), VaultError> {
        Sealed::open(&self.at("vault"), key, random())
    }

    fn content(&self, key: &Key) -> Result<Vec<u8>, VaultError> {
        self.open(key).map(|(_, content)| content.unwrap().to_vec())
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_written_opens_with_its_key_and_is_nowhere_in_the_file() {
    let place = Place::new();
    let (sealed, content) = place.open(&place.by_file()).unwrap();
    assert!(content.is_none());
    sealed.write(b"canary canary").unwrap();
    assert_eq!(place.content(&place.by_file()).unwrap(), b"canary canary");
    let bytes = fs::read(place.at("vault")).unwrap();
    assert!(memchr::memmem::find(&bytes, b"canary").is_none());
    assert_eq!((mode(&place.at("vault")), mode(&place.at("key"))), (0o600, 0o600));
    assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 2, "no half file is left");
}

#[test]
fn each_writing_has_a_key_of_its_own() {
    let place = Place::new();
    let (sealed, _) = place.open(&place.by_file()).unwrap();
    sealed.write(b"the same").unwrap();
    let first = fs::read(place.at("vault")).unwrap();
    sealed.write(b"the same").unwrap();
    let second = fs::read(place.at("vault")).unwrap();
    let body = |bytes: &[u8]| parts(bytes).map(|(_, _, body)| body.to_vec()).unwrap();
    assert_ne!(body(&first), body(&second));
}

#[test]
fn another_key_or_any_changed_byte_does_not_open() {
    let place = Place::new();
    let (sealed, _) = place.open(&place.by_file()).unwrap();
    sealed.write(b"canary").unwrap();
    let whole = fs::read(place.at("vault")).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(place.at("vault"), &changed).unwrap();
        assert!(place.open(&place.by_file()).is_err(), "byte {at}");
    }
    for length in 0..whole.len() {
        fs::write(place.at("vault"), &whole[..length]).unwrap();
        assert!(place.open(&place.by_file()).is_err(), "{length} bytes");
    }
    fs::write(place.at("vault"), &whole).unwrap();
    fs::write(place.at("key"), format!("{KEY_LINE}\n{}\n", "0f".repeat(32))).unwrap();
    assert!(matches!(place.open(&place.by_file()), Err(VaultError::Closed { .. })));
    fs::remove_file(place.at("key")).unwrap();
    assert!(matches!(place.open(&place.by_file()), Err(VaultError::Closed { .. })));
    assert!(!place.at("key").exists(), "no new key is made for a vault that is there");
}

#[test]
fn a_passphrase_takes_over_from_the_key_file() {
    let place = Place::new();
    let (sealed, _) = place.open(&place.by_file()).unwrap();
    sealed.write(b"canary").unwrap();
    assert_eq!(place.content(&place.by_passphrase("correct horse")).unwrap(), b"canary");
    assert!(!place.at("key").exists());
    assert!(matches!(place.open(&place.by_file()), Err(VaultError::Closed { .. })));
    assert!(matches!(place.open(&place.by_passphrase("wrong horse")), Err(VaultError::Closed { .. })));
    assert_eq!(place.content(&place.by_passphrase("correct horse")).unwrap(), b"canary");
}

#[test]
fn a_key_that_would_cost_too_much_is_not_computed() {
    let place = Place::new();
    let cost = r#"{"memory_kib":4194304,"passes":3,"lanes":4}"#;
    let header =
        format!(r#"{{"root":{{"passphrase":{{"salt":"00","cost":{cost}}}}},"salt":"{}"}}"#, "00".repeat(32));
    fs::write(place.at("vault"), format!("{FIRST_LINE}\n{header}\nxxxxxxxxxxxxxxxxxxxxx")).unwrap();
    fs::set_permissions(place.at("vault"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(place.open(&place.by_passphrase("correct horse")), Err(VaultError::Unreadable(_))));
}

#[test]
fn what_others_may_read_is_refused() {
    let place = Place::new();
    let (sealed, _) = place.open(&place.by_file()).unwrap();
    sealed.write(b"canary").unwrap();
    for name in ["vault", "key"] {
        fs::set_permissions(place.at(name), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(
            matches!(place.open(&place.by_file()), Err(VaultError::Exposed { mode: 0o640, .. })),
            "{name}"
        );
        fs::set_permissions(place.at(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn what_a_death_or_a_full_disk_leaves_half_written_goes() {
    let place = Place::new();
    let files = || {
        let mut names: Vec<_> =
            fs::read_dir(place.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let (sealed, _) = place.open(&place.by_file()).unwrap();
    sealed.write(b"canary").unwrap();
    // It can't be put in the place of a folder.
    fs::rename(place.at("vault"), place.at("kept")).unwrap();
    fs::create_dir(place.at("vault")).unwrap();
    assert!(sealed.write(b"another").is_err());
    fs::remove_dir(place.at("vault")).unwrap();
    fs::rename(place.at("kept"), place.at("vault")).unwrap();
    assert_eq!(files(), ["key", "vault"]);
    // As a death left them, of this version and of earlier ones.
    for name in ["vault.new", "vault.new-4711", "vault.newer"] {
        fs::write(place.at(name), b"canary").unwrap();
    }
    assert_eq!(place.content(&place.by_file()).unwrap(), b"canary");
    assert_eq!(files(), ["key", "vault", "vault.newer"]);
    // A key file that a death kept from being removed.
    let key = fs::read(place.at("key")).unwrap();
    assert_eq!(place.content(&place.by_passphrase("correct horse")).unwrap(), b"canary");
    fs::write(place.at("key"), &key).unwrap();
    assert!(place.open(&place.by_passphrase("wrong horse")).is_err());
    assert!(place.at("key").exists());
    assert_eq!(place.content(&place.by_passphrase("correct horse")).unwrap(), b"canary");
    assert!(!place.at("key").exists());
}
