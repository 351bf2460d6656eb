//! What the vault keeps, and what it refuses to keep.

use super::*;
use crate::login::{Asked, Began};

fn random(buffer: &mut [u8]) -> std::io::Result<()> {
    buffer.fill(7);
    Ok(())
}

fn open(folder: &Path) -> Vault {
    Vault::open(&folder.join("vault"), &Key::File(folder.join("key")), Box::new(random)).unwrap()
}

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn bound(to: &str) -> Vec<SecretBinding> {
    vec![SecretBinding { to: to.parse().unwrap(), methods: BTreeSet::new(), how: domain::How::Bearer }]
}

#[test]
fn secrets_are_there_after_a_restart_and_gone_once_removed() {
    let folder = tempfile::tempdir().unwrap();
    let vault = open(folder.path());
    vault.set(&name("github"), "canary-1".into(), bound("https://api.github.com"), 5).unwrap();
    vault.set(&name("npm"), "canary-22".into(), bound("https://npm.example"), 6).unwrap();
    vault.rotate(&name("github"), "canary-333".into(), 7).unwrap();
    let listed = vault.list();
    assert_eq!((listed[0].set, listed[0].rotated), (5, 7));
    drop(vault);
    let again = open(folder.path());
    assert_eq!(again.list(), listed);
    let values: Vec<String> =
        again.entries().values().map(|entry| entry.tokens.access.reveal_text().unwrap().to_owned()).collect();
    assert_eq!(values, ["canary-333", "canary-22"]);
    again.remove(&name("github")).unwrap();
    assert!(matches!(again.remove(&name("github")), Err(ChangeError::Unknown(_))));
    assert!(matches!(again.rotate(&name("github"), "canary-4".into(), 8), Err(ChangeError::Unknown(_))));
    assert_eq!(open(folder.path()).list().len(), 1);
}

#[test]
fn nothing_of_a_secret_is_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let vault = open(folder.path());
    vault.set(&name("github"), "canary-4f9d1c7be2a86035".into(), bound("https://a"), 1).unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(memchr::memmem::find(&bytes, b"canary").is_none());
    }
    assert!(!format!("{vault:?}").contains("canary"));
}

#[test]
fn what_can_not_be_kept_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let vault = open(folder.path());
    let version = *vault.changes().borrow();
    let set = |value: &str, bindings| vault.set(&name("a"), value.into(), bindings, 1);
    assert!(matches!(set("short", bound("https://a")), Err(ChangeError::Secret(_))));
    assert!(matches!(set("with\r\nline", bound("https://a")), Err(ChangeError::Secret(_))));
    assert!(matches!(set("long enough", bound("http://a")), Err(ChangeError::Binding(_))));
    assert!(matches!(set("long enough", Vec::new()), Err(ChangeError::Bindings(0))));
    let many = (0..33).flat_map(|n| bound(&format!("https://a{n}"))).collect();
    assert!(matches!(set("long enough", many), Err(ChangeError::Bindings(33))));
    assert!(vault.list().is_empty());
    assert_eq!(*vault.changes().borrow(), version);
}

#[test]
fn a_full_vault_takes_no_more_but_lets_go() {
    let folder = tempfile::tempdir().unwrap();
    let vault = open(folder.path());
    vault.entries().extend((0..MAX_SECRETS).map(|n| {
        let name = name(&format!("s{n}"));
        let described =
            Described { name: name.clone(), bindings: bound("https://a"), set: 0, rotated: 0, login: None };
        let tokens = Tokens { access: "long enough".into(), refresh: None, client_secret: None };
        (name, Entry { described, tokens, since: 0 })
    }));
    let set = |text: &str| vault.set(&name(text), "long enough".into(), bound("https://a"), 1);
    assert!(matches!(set("more"), Err(ChangeError::Full)));
    set("s1").unwrap();
    vault.remove(&name("s2")).unwrap();
    set("more").unwrap();
}

#[test]
fn content_that_is_not_ours_is_not_read() {
    for bad in [
        b"".as_slice(),
        b"\0\0\0\0\0\0\0\x05[]",
        b"\0\0\0\0\0\0\0\x02[]x",
        b"\xff\xff\xff\xff\xff\xff\xff\xff[]",
    ] {
        assert!(read(bad).is_none(), "{bad:?}");
    }
    assert!(read(b"\0\0\0\0\0\0\0\x02[]").is_some());
}

fn log_in(vault: &Vault, access: &str, refresh: Option<&str>) {
    let login = Login {
        asked: None,
        registered: false,
        issuer: "https://id.example".to_owned(),
        token_url: "https://id.example/token".to_owned(),
        revocation_url: None,
        client: "lazaret".to_owned(),
        basic: false,
        resource: None,
        scopes: vec!["read".to_owned()],
        expires: Some(100),
        subscription: None,
        account: None,
    };
    let tokens = Tokens { access: access.into(), refresh: refresh.map(Secret::from), client_secret: None };
    vault.log_in(&name("crm"), (login, tokens), bound("https://crm.example"), 5).unwrap();
}

#[test]
fn what_a_log_in_was_asked_for_is_read_as_it_is_written_and_as_the_first_vaults_wrote_it() {
    let recorded = |asked: &str| {
        let text = format!(
            r#"{{{asked}"issuer":"https://id.example","token_url":"https://id.example/token","client":"lazaret","basic":false,"resource":null,"scopes":[],"expires":null}}"#
        );
        let login: Login = serde_json::from_str(&text).unwrap();
        let again: Login = serde_json::from_str(&serde_json::to_string(&login).unwrap()).unwrap();
        assert_eq!(again, login);
        login.asked
    };
    assert_eq!(recorded(""), None);
    assert_eq!(recorded(r#""server":null,"#), None);
    let at = Began::Server("https://crm.example/mcp".to_owned());
    let nothing = Vec::new();
    let first = Asked { at, scopes: nothing.clone(), trust: nothing };
    assert_eq!(recorded(r#""server":"https://crm.example/mcp","#), Some(first));
    let asked = Asked {
        at: Began::Token("https://id.example/token".to_owned()),
        scopes: vec!["read".to_owned()],
        trust: vec!["https://other.example".to_owned()],
    };
    assert_eq!(
        recorded(
            r#""asked":{"at":{"token":"https://id.example/token"},"scopes":["read"],"trust":["https://other.example"]},"#
        ),
        Some(asked)
    );
}

#[test]
fn what_a_log_in_gave_is_there_after_a_restart_and_is_renewed_only_while_it_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let vault = open(folder.path());
    log_in(&vault, "canary-access", Some("canary-refresh"));
    vault.set(&name("plain"), "canary-plain".into(), bound("https://a.example"), 6).unwrap();
    drop(vault);
    let vault = open(folder.path());
    let kept = vault.login(&name("crm")).unwrap();
    assert_eq!(kept.tokens.access.reveal(), b"canary-access");
    assert_eq!(kept.tokens.refresh.as_ref().unwrap().reveal(), b"canary-refresh");
    assert!(vault.login(&name("plain")).is_none());
    assert!(!format!("{:?}", vault.list()).contains("canary"));
    assert!(matches!(vault.rotate(&name("crm"), "canary-other".into(), 7), Err(ChangeError::LoggedIn(_))));
    // Renewed: what was lent before goes on.
    let to = domain::Target {
        scheme: domain::Scheme::Https,
        host: "crm.example",
        port: 443,
        method: "GET",
        path: "/",
    };
    let lent = vault.lend(&name("crm"), &to).unwrap();
    let tokens = Tokens { access: "canary-new".into(), ..kept.tokens.share() };
    vault.renewed(&name("crm"), &kept.with(kept.login.clone(), tokens), 8).unwrap();
    assert!(vault.stands(&name("crm"), &lent.right));
    assert_eq!(vault.lend(&name("crm"), &to).unwrap().value.reveal(), b"Bearer canary-new");
    // A mail server is shown it in its own way: the token alone, and no header.
    let (login, tokens) =
        (kept.login.clone(), Tokens { access: "canary-mail".into(), ..kept.tokens.share() });
    vault.log_in(&name("mail"), (login, tokens), bound("imaps://mail.example"), 5).unwrap();
    let mail = domain::Target { scheme: domain::Scheme::Imaps, host: "mail.example", port: 993, ..to };
    let at_mail = vault.lend(&name("mail"), &mail).unwrap();
    assert_eq!((at_mail.header.as_deref(), at_mail.value.reveal()), (None, b"canary-mail".as_slice()));
    // Another log-in meanwhile: the renewal of the one before is not kept.
    log_in(&vault, "canary-second", None);
    assert!(!vault.stands(&name("crm"), &lent.right));
    assert!(matches!(vault.renewed(&name("crm"), &kept, 9), Err(ChangeError::Unknown(_))));
    assert!(open(folder.path()).login(&name("crm")).unwrap().tokens.refresh.is_none());
}
