//! The vault's passphrase from the platform's keyring: a real one, asked by the program that the configuration names.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use testkit::Lab;

/// A session of a desktop: its keyring is open, and holds the passphrase, until that is taken out.
const SESSION: &str = r#"set -eu
printf login | gnome-keyring-daemon --unlock --components=secrets >/dev/null
printf 'correct horse' | secret-tool store --label=Lazaret service lazaret
printf 'sk-kept' | "$LAZARET" secret set kept --to https://api.example.com
"$LAZARET" stop --daemon
"$LAZARET" secret ls
"$LAZARET" stop --daemon
secret-tool clear service lazaret
if "$LAZARET" secret ls; then echo opened without a passphrase; fi
"#;

#[test]
fn a_vault_opens_with_the_passphrase_that_the_platforms_keyring_holds() {
    let tools = ["dbus-run-session", "gnome-keyring-daemon", "secret-tool"];
    let missing = tools.into_iter().find(|tool| !Path::new("/usr/bin").join(tool).exists());
    if let Some(missing) = missing {
        assert!(std::env::var_os("LAZARET_CI").is_none(), "{missing} is missing");
        eprintln!("not tried: {missing} is missing (packages dbus-x11, gnome-keyring, libsecret-tools)");
        return;
    }
    let lab = Lab::without_daemon(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    let mut config = OpenOptions::new().append(true).open(lab.path("config/lazaret/config.toml")).unwrap();
    let command = "\n[vault]\npassphrase_command = [\"secret-tool\", \"lookup\", \"service\", \"lazaret\"]\n";
    config.write_all(command.as_bytes()).unwrap();
    let lazaret = lab.command(&[]);
    let environment = lazaret.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let done = Command::new("dbus-run-session")
        .args(["--", "sh", "-c", SESSION])
        .env_clear()
        .envs(environment)
        .env("LAZARET", lazaret.get_program())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}\n{errors}");
    assert!(said.contains("kept") && said.contains("api.example.com"), "{said}\n{errors}");
    assert!(!said.contains("opened without"), "{said}");
    assert!(errors.contains("`secret-tool` gave none") && errors.contains("passphrase_command"), "{errors}");
    for text in ["correct horse", "sk-kept"] {
        assert!(!said.contains(text) && !errors.contains(text), "{said}\n{errors}");
    }
    let sealed = std::fs::read(lab.path("state/lazaret/vault/secrets")).unwrap();
    assert!(!sealed.windows(7).any(|bytes| bytes == b"sk-kept"));
    assert!(!lab.path("state/lazaret/vault/key").exists(), "the key lies beside it");
}
