//! A secret goes where its bindings and the agent's file both say, in its one header, and nowhere else.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::Scheme;
use proptest::prelude::*;

use super::*;
use crate::sealed::Key;

fn vault() -> (Vault, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let random = |buffer: &mut [u8]| {
        buffer.fill(7);
        Ok(())
    };
    let key = Key::File(folder.path().join("key"));
    (Vault::open(&folder.path().join("vault"), &key, Box::new(random)).unwrap(), folder)
}

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn binding(to: &str, how: &str, methods: &[&str]) -> SecretBinding {
    let methods: BTreeSet<String> = methods.iter().map(|method| (*method).to_owned()).collect();
    SecretBinding { to: to.parse().unwrap(), methods, how: how.parse().unwrap() }
}

fn used(secret: &str, to: &[&str]) -> SecretUse {
    let to = to.iter().map(|to| to.parse().unwrap()).collect();
    SecretUse { secret: name(secret), to, variable: None, line: 1 }
}

fn get<'a>(host: &'a str, path: &'a str) -> Target<'a> {
    Target { scheme: Scheme::Https, host, port: 443, method: "GET", path }
}

fn shows(injection: &Injection) -> (&str, &str) {
    (injection.header.as_deref().unwrap_or_default(), injection.value.reveal_text().unwrap())
}

#[test]
fn the_log_in_of_the_outer_proxy_is_lent_for_that_and_for_nothing_else() {
    let (vault, _folder) = vault();
    let proxy = "http://proxy.corp.example:3128";
    vault.set(&name("corp"), "canary-corp".into(), vec![binding(proxy, "proxy:ann", &[])], 1).unwrap();
    vault
        .set(&name("other"), "canary-other".into(), vec![binding("https://a.example", "basic:ann", &[])], 1)
        .unwrap();
    let at = |scheme, host, port| Target { scheme, host, port, method: "CONNECT", path: "/" };
    let there = at(Scheme::Http, "proxy.corp.example", 3128);
    let (user, password) = vault.lend_to_proxy(&name("corp"), &there).unwrap();
    assert_eq!((user.as_str(), password.reveal()), ("ann", &b"canary-corp"[..]));
    for elsewhere in [
        at(Scheme::Https, "proxy.corp.example", 3128),
        at(Scheme::Http, "proxy.corp.example", 3129),
        at(Scheme::Http, "proxy.evil.example", 3128),
    ] {
        let refused = vault.lend_to_proxy(&name("corp"), &elsewhere);
        assert!(matches!(refused, Err(InjectError::NotBound { .. })));
    }
    // What requests carry is not shown to a proxy, and the proxy's log-in to no request: not to the proxy's own host, whatever
    // an agent's file says, and not to a tool server or provider there.
    let https = at(Scheme::Https, "a.example", 443);
    assert!(matches!(vault.lend_to_proxy(&name("other"), &https), Err(InjectError::NotBound { .. })));
    assert!(matches!(vault.lend_to_proxy(&name("none"), &there), Err(InjectError::Unknown(_))));
    let get = Target { method: "GET", ..there };
    for to in [get, there] {
        assert!(matches!(vault.lend(&name("corp"), &to), Err(InjectError::NotBound { .. })));
        assert!(vault.inject(&[used("corp", &[proxy])], &to).unwrap().is_none());
    }
}

#[test]
fn both_the_binding_and_the_agents_file_must_allow() {
    let (vault, _folder) = vault();
    vault
        .set(
            &name("github"),
            "canary-1".into(),
            vec![binding("https://api.github.com/repos", "bearer", &["GET"])],
            1,
        )
        .unwrap();
    let uses = [used("github", &["https://api.github.com/repos/acme"])];
    let injected = |uses: &[SecretUse], to: Target<'_>| vault.inject(uses, &to).unwrap().is_some();
    assert!(injected(&uses, get("api.github.com", "/repos/acme/x")));
    assert!(!injected(&[], get("api.github.com", "/repos/acme/x")), "no agent has one by default");
    assert!(!injected(&uses, get("api.github.com", "/repos/evil")), "the agent's file is narrower");
    assert!(!injected(&uses, get("api.github.com", "/user")));
    assert!(!injected(&uses, Target { method: "POST", ..get("api.github.com", "/repos/acme") }));
    assert!(!injected(&uses, Target { port: 8443, ..get("api.github.com", "/repos/acme") }));
    assert!(!injected(&uses, get("api.github.com.evil.example", "/repos/acme")));
    let wider = [used("github", &["https://api.github.com", "https://evil.example"])];
    assert!(!injected(&wider, get("evil.example", "/repos")), "the secret's own bindings are narrower");
    assert!(!injected(&wider, get("api.github.com", "/user")));
    assert!(!injected(&[used("other", &["https://api.github.com"])], get("api.github.com", "/repos")));
}

#[test]
fn each_way_makes_its_header() {
    let (vault, _folder) = vault();
    for (how, header, value) in [
        ("bearer", "authorization", "Bearer canary-1"),
        ("basic:ann", "authorization", "Basic YW5uOmNhbmFyeS0x"),
        ("header:X-Api-Key", "x-api-key", "canary-1"),
    ] {
        vault.set(&name("s"), "canary-1".into(), vec![binding("https://a", how, &[])], 1).unwrap();
        let injection = vault.inject(&[used("s", &["https://a"])], &get("a", "/")).unwrap().unwrap();
        assert_eq!(shows(&injection), (header, value), "{how}");
        assert_eq!(injection.scrubber().whole(value.as_bytes()).iter().filter(|b| **b == b'[').count(), 1);
    }
}

#[test]
fn the_narrowest_binding_says_how() {
    let (vault, _folder) = vault();
    let bindings = vec![binding("https://a", "bearer", &[]), binding("https://a/v2", "header:x-key", &[])];
    vault.set(&name("s"), "canary-1".into(), bindings, 1).unwrap();
    let how = |path: &str| vault.lend(&name("s"), &get("a", path)).unwrap().header.unwrap();
    assert_eq!((how("/v1"), how("/v2/x")), ("authorization".to_owned(), "x-key".to_owned()));
}

#[test]
fn two_secrets_for_one_request_are_an_error() {
    let (vault, _folder) = vault();
    for secret in ["one", "two"] {
        vault.set(&name(secret), "canary-1".into(), vec![binding("https://a", "bearer", &[])], 1).unwrap();
    }
    let uses = [used("one", &["https://a"]), used("two", &["https://a/two"])];
    assert_eq!(vault.inject(&uses, &get("a", "/")).unwrap().unwrap().secret, name("one"));
    assert!(matches!(vault.inject(&uses, &get("a", "/two")), Err(InjectError::Two { .. })));
}

#[test]
fn the_host_is_lent_a_secret_only_for_where_it_is_bound() {
    let (vault, _folder) = vault();
    vault
        .set(&name("mail"), "canary-1".into(), vec![binding("imaps://imap.example", "password", &[])], 1)
        .unwrap();
    let imap = Target { scheme: Scheme::Imaps, host: "imap.example", port: 993, method: "", path: "/" };
    let lent = vault.lend(&name("mail"), &imap).unwrap();
    assert_eq!(shows(&lent), ("", "canary-1"));
    let told = |name: &SecretName, to: &Target<'_>| vault.lend(name, to).err().unwrap().to_string();
    assert!(
        told(&name("mail"), &get("imap.example", "/")).contains("not bound to GET https://imap.example:443/")
    );
    assert!(told(&name("none"), &imap).contains("`lazaret secret set none"));
}

#[test]
fn an_agents_own_key_to_a_bound_host_is_dropped() {
    let (vault, _folder) = vault();
    vault
        .set(&name("s"), "canary-1".into(), vec![binding("https://a/v1", "header:x-custom", &["GET"])], 1)
        .unwrap();
    for header in
        ["Authorization", "authorization", "X-Custom", "x-api-key", "cookie", "Job-Token", "x-never-heard-of"]
    {
        assert!(vault.strips(&get("a", "/elsewhere"), header), "{header}");
        assert!(!vault.strips(&get("b", "/"), header), "{header}");
    }
    assert!(!vault.strips(&get("a", "/"), "Accept"));
    vault.set(&name("t"), "canary-2".into(), vec![binding("https://c", "header:if-match", &[])], 1).unwrap();
    assert!(vault.strips(&get("c", "/"), "if-match"), "a secret's own header, whatever it is");
}

#[test]
fn an_agents_own_key_in_a_query_to_a_bound_host_is_told_of() {
    let (vault, _folder) = vault();
    vault.set(&name("s"), "canary-1".into(), vec![binding("https://a/v1", "bearer", &[])], 1).unwrap();
    assert_eq!(vault.own_key(&get("a", "/elsewhere"), "q=1&Private_Token=x;b"), Some("Private_Token"));
    assert_eq!(vault.own_key(&get("a", "/"), "q=key&page=2"), None);
    assert_eq!(vault.own_key(&get("b", "/"), "key=x"), None);
}

#[tokio::test]
async fn a_removed_secret_is_withdrawn_at_once_and_a_rotated_one_is_not() {
    let (vault, _folder) = vault();
    let set =
        || vault.set(&name("s"), "canary-1".into(), vec![binding("https://a", "bearer", &[])], 1).unwrap();
    let ends = async |lent: &Injection| {
        tokio::time::timeout(Duration::from_millis(200), vault.withdrawn(lent)).await.is_ok()
    };
    set();
    let lent = vault.lend(&name("s"), &get("a", "/")).unwrap();
    vault.rotate(&name("s"), "canary-2".into(), 2).unwrap();
    assert!(!ends(&lent).await);
    assert_eq!(shows(&vault.lend(&name("s"), &get("a", "/")).unwrap()).1, "Bearer canary-2");
    let waiting = async { vault.withdrawn(&lent).await };
    let removing = async { vault.remove(&name("s")).unwrap() };
    let (why, _) = tokio::time::timeout(Duration::from_secs(1), async { tokio::join!(waiting, removing) })
        .await
        .unwrap();
    assert!(why.contains("`s` was removed"));
    set();
    assert!(ends(&lent).await, "a new secret of the same name is another");
}

#[test]
fn no_request_elsewhere_carries_a_secret() {
    let (vault, _folder) = vault();
    vault.set(&name("s"), "canary-1".into(), vec![binding("https://a.b/c", "bearer", &[])], 1).unwrap();
    proptest!(|(host in "[a-c.]{1,4}", port in prop_oneof![Just(443), 1..9000_u16], path in "/[c/.]{0,6}")| {
        let to = Target { port, ..get(&host, &path) };
        let injected = vault.inject(&[used("s", &["https://a.b"])], &to).unwrap().is_some();
        let there = host == "a.b" && port == 443 && (path == "/c" || path.starts_with("/c/"));
        prop_assert!(!injected || there);
    });
}
