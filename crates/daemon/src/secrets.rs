//! The vault of this installation: opened at start, with its key file or with a passphrase.

use std::fs;
use std::path::Path;

use domain::SecretName;
use store::Randomness as _;
use vault::{Key, Secret, Vault, VaultError};

use crate::error::DaemonError;
use crate::folders::private;
use crate::keeping::System;

/// The variable of the daemon's environment that names the file with the vault's passphrase.
pub(crate) const PASSPHRASE_FILE: &str = "LAZARET_VAULT_PASSPHRASE_FILE";
/// How a configuration names a secret of the vault.
const REFERENCE: &str = "secret:";
/// Most bytes of a passphrase's file.
const MAX_PASSPHRASE: u64 = 4096;

/// From where the vault's passphrase comes, where it wants one.
#[derive(Clone, Copy)]
pub(crate) struct Passphrase<'a> {
    /// The file that the environment names.
    pub(crate) file: Option<&'a Path>,
    /// Asks a person; none if there is nobody to ask.
    pub(crate) ask: &'a dyn Fn() -> Option<String>,
}

/// Nobody can look into the daemon's memory from now on, and none of it is written to disk when it fails.
pub(crate) fn hide_memory() -> Result<(), DaemonError> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    hidden.and_then(|()| setrlimit(Resource::Core, none)).map_err(|e| DaemonError::Io(e.into()))
}

/// Opens the vault in its folder; makes it the first time.
pub(crate) fn open(folder: &Path, passphrase: Passphrase<'_>) -> Result<Vault, DaemonError> {
    private(folder)?;
    let (path, key_file) = (folder.join("secrets"), folder.join("key"));
    let said = match passphrase.file {
        Some(file) => Some(read(file)?),
        None if Vault::wants_passphrase(&path).map_err(DaemonError::Vault)? => {
            (passphrase.ask)().map(Secret::from)
        }
        None => None,
    };
    let key = match said {
        Some(said) => Key::Passphrase(said, key_file),
        None => Key::File(key_file),
    };
    Vault::open(&path, &key, Box::new(|buffer| System.fill(buffer))).map_err(DaemonError::Vault)
}

fn read(path: &Path) -> Result<Secret, DaemonError> {
    let text = fs::metadata(path).and_then(|meta| {
        if meta.len() > MAX_PASSPHRASE {
            return Err(std::io::Error::other(format!("a passphrase has at most {MAX_PASSPHRASE} bytes")));
        }
        fs::read_to_string(path)
    });
    let text = text.map_err(DaemonError::file(path))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(DaemonError::File { path: path.to_owned(), source: std::io::Error::other("it is empty") }),
        passphrase => Ok(Secret::from(passphrase)),
    }
}

/// The secret that a text of the configuration names: `secret:NAME`.
pub(crate) fn named(text: &str) -> Result<SecretName, String> {
    let name = text.strip_prefix(REFERENCE);
    let name = name
        .ok_or("write secret:NAME, and store it by `lazaret secret set NAME`: keys don't stand in files")?;
    name.parse().map_err(|e: domain::NameError| e.to_string())
}

/// What to do about a vault that doesn't open.
pub(crate) fn hint(error: &VaultError) -> Option<&'static str> {
    match error {
        VaultError::Closed { .. } => Some(
            "give its passphrase: LAZARET_VAULT_PASSPHRASE_FILE names a file that holds it, or `lazaret serve` asks for it; \
             docs/secrets.md says what to do when a key is lost",
        ),
        VaultError::Exposed { .. }
        | VaultError::File { .. }
        | VaultError::Unreadable(_)
        | VaultError::Random(_)
        | VaultError::Encoding
        | VaultError::Derivation => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: &dyn Fn() -> Option<String> = &|| None;

    #[test]
    fn a_vault_opens_with_its_key_file_until_it_gets_a_passphrase() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("vault");
        let file = folder.path().join("passphrase");
        fs::write(&file, "correct horse\n").unwrap();
        let open = |file: Option<&Path>, ask: &dyn Fn() -> Option<String>| {
            super::open(&place, Passphrase { file, ask })
        };
        open(None, NOBODY).unwrap();
        open(None, &|| unreachable!("nobody is asked for what it doesn't want")).unwrap();
        open(Some(&file), NOBODY).unwrap();
        assert!(matches!(open(None, NOBODY), Err(DaemonError::Vault(VaultError::Closed { .. }))));
        assert!(open(None, &|| Some("wrong".to_owned())).is_err());
        open(None, &|| Some("correct horse".to_owned())).unwrap();
        fs::write(&file, "\n").unwrap();
        assert!(matches!(open(Some(&file), NOBODY), Err(DaemonError::File { .. })));
    }

    #[test]
    fn the_configuration_names_secrets_and_holds_none() {
        assert_eq!(named("secret:github").unwrap().as_str(), "github");
        assert!(named("sk-1").unwrap_err().contains("lazaret secret set"));
        assert!(named("secret:Git Hub").is_err());
    }
}
