//! The vault of this installation: opened at start, with its key file or with a passphrase.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use domain::SecretName;
use secrecy::zeroize::Zeroizing;
use store::Randomness as _;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
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

/// How long the command that prints it may take: a person may have to open a keyring first.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);

/// From where the vault's passphrase comes, where it wants one.
#[derive(Clone, Copy)]
pub(crate) struct Passphrase<'a> {
    /// The file that the environment names.
    pub(crate) file: Option<&'a Path>,
    /// The program that prints it, with its arguments, as the configuration says.
    pub(crate) command: Option<&'a [String]>,
    /// Asks a person; none if there is nobody to ask.
    pub(crate) ask: &'a (dyn Fn() -> Option<String> + Sync),
}

/// Nobody can look into the daemon's memory from now on, and none of it is written to disk when it fails.
pub(crate) fn hide_memory() -> Result<(), DaemonError> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    hidden.and_then(|()| setrlimit(Resource::Core, none)).map_err(|e| DaemonError::Io(e.into()))
}

/// Opens the vault in its folder; makes it the first time.
pub(crate) async fn open(folder: &Path, passphrase: Passphrase<'_>) -> Result<Vault, DaemonError> {
    private(folder)?;
    let (path, key_file) = (folder.join("secrets"), folder.join("key"));
    let said = match (passphrase.file, passphrase.command) {
        (Some(file), _) => Some(read(file)?),
        (None, Some(command)) => Some(printed(command, COMMAND_WITHIN).await?),
        (None, None) if Vault::wants_passphrase(&path).map_err(DaemonError::Vault)? => {
            (passphrase.ask)().map(Secret::from)
        }
        (None, None) => None,
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

/// What the command prints, without the end of its last line. Nothing else of what it prints is shown or kept.
async fn printed(command: &[String], within: Duration) -> Result<Secret, DaemonError> {
    let failed = |why: String| {
        let program = command.first().map(String::as_str).unwrap_or_default();
        DaemonError::Passphrase(format!("`{program}` {why}"))
    };
    let [program, arguments @ ..] = command else { return Err(failed("is no program".to_owned())) };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(format!("can't be started: {e}")))?;
    let out = child.stdout.take().ok_or_else(|| failed("has no output".to_owned()))?;
    let most = MAX_PASSPHRASE.saturating_add(2);
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(most).unwrap_or_default()));
    let ended = async {
        out.take(most).read_to_string(&mut text).await?;
        child.wait().await
    };
    let ended = tokio::time::timeout(within, ended).await;
    let ended = ended.map_err(|_| failed(format!("takes longer than {} s", within.as_secs())))?;
    let ended = ended.map_err(|e| failed(format!("can't be read: {e}")))?;
    if !ended.success() {
        return Err(failed(format!("gave none: {ended}")));
    }
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(failed("printed nothing".to_owned())),
        said if said.len() as u64 > MAX_PASSPHRASE => {
            Err(failed(format!("printed more than {MAX_PASSPHRASE} bytes")))
        }
        said => Ok(Secret::from(said)),
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
            "give its passphrase: LAZARET_VAULT_PASSPHRASE_FILE names a file that holds it, `passphrase_command` of [vault] in \
             config.toml a program that prints it, or `lazaret serve` asks for it; \
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

    type Ask = dyn Fn() -> Option<String> + Sync;
    const NOBODY: &Ask = &|| None;

    async fn opened(place: &Path, file: Option<&Path>, ask: &Ask) -> Result<Vault, DaemonError> {
        super::open(place, Passphrase { file, command: None, ask }).await
    }

    async fn opened_by(place: &Path, command: &[&str]) -> Result<Vault, DaemonError> {
        let command: Vec<String> = command.iter().map(|part| (*part).to_owned()).collect();
        super::open(place, Passphrase { file: None, command: Some(&command), ask: NOBODY }).await
    }

    #[tokio::test]
    async fn a_vault_opens_with_its_key_file_until_it_gets_a_passphrase() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("vault");
        let file = folder.path().join("passphrase");
        fs::write(&file, "correct horse\n").unwrap();
        opened(&place, None, NOBODY).await.unwrap();
        opened(&place, None, &|| unreachable!("nobody is asked for what it doesn't want")).await.unwrap();
        opened(&place, Some(&file), NOBODY).await.unwrap();
        let closed = opened(&place, None, NOBODY).await;
        assert!(matches!(closed, Err(DaemonError::Vault(VaultError::Closed { .. }))));
        assert!(opened(&place, None, &|| Some("wrong".to_owned())).await.is_err());
        opened(&place, None, &|| Some("correct horse".to_owned())).await.unwrap();
        fs::write(&file, "\n").unwrap();
        assert!(matches!(opened(&place, Some(&file), NOBODY).await, Err(DaemonError::File { .. })));
    }

    #[tokio::test]
    async fn a_command_may_print_the_passphrase() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("vault");
        opened_by(&place, &["printf", "correct horse\n"]).await.unwrap();
        opened(&place, None, &|| Some("correct horse".to_owned())).await.unwrap();
        opened_by(&place, &["echo", "correct horse"]).await.unwrap();
        for (command, told) in [
            (&["sh", "-c", "echo wrong"][..], "doesn't open"),
            (&["sh", "-c", "printf 'correct horse'; exit 3"], "`sh` gave none: exit status: 3"),
            (&["true"], "`true` printed nothing"),
            (&["sh", "-c", "head -c 5000 /dev/zero | tr '\\0' x"], "printed more than 4096 bytes"),
            (&["sh", "-c", "printf '\\377'"], "can't be read"),
            (&["/nowhere/at-all"], "can't be started"),
        ] {
            let error = opened_by(&place, command).await.err().unwrap().to_string();
            assert!(error.contains(told) && !error.contains("horse"), "{command:?}: {error}");
        }
        let slow = ["sleep".to_owned(), "60".to_owned()];
        let error = printed(&slow, Duration::from_millis(50)).await.err().unwrap().to_string();
        assert!(error.contains("`sleep` takes longer"), "{error}");
    }

    #[test]
    fn the_configuration_names_secrets_and_holds_none() {
        assert_eq!(named("secret:github").unwrap().as_str(), "github");
        assert!(named("sk-1").unwrap_err().contains("lazaret secret set"));
        assert!(named("secret:Git Hub").is_err());
    }
}
