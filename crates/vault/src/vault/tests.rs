//! What the vault keeps, and what it refuses to keep.

use super::*;

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
        again.entries().values().map(|entry| entry.value.reveal_text().unwrap().to_owned()).collect();
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
        let described = Described { name: name.clone(), bindings: bound("https://a"), set: 0, rotated: 0 };
        (name, Entry { described, value: "long enough".into(), since: 0 })
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
