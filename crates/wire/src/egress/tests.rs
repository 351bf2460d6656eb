//! One form for each URL, and none for what two readers could read in two ways.

use proptest::prelude::*;

use crate::git::{Push, PushError, RefChange};

use super::url::{Authority, Url, host, path, path_and_query, query};
use super::*;

fn canonical(text: &str) -> Option<String> {
    Url::parse(text).ok().map(|url| url.to_string())
}

#[test]
fn ways_to_write_a_url_have_one_form() {
    for (written, form) in [
        ("HTTPS://API.Example.COM", "https://api.example.com/"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("http://example.com:80/a", "http://example.com/a"),
        ("http://example.com:443/a", "http://example.com:443/a"),
        ("https://example.com/%7euser/%41%2d%c3%a9", "https://example.com/~user/A-%C3%A9"),
        ("https://example.com/a|b[c]{d}^`\"<>", "https://example.com/a%7Cb%5Bc%5D%7Bd%7D%5E%60%22%3C%3E"),
        ("https://example.com/a;b=c,d@e:f!$&'()*+", "https://example.com/a;b=c,d@e:f!$&'()*+"),
        ("https://example.com/a%20b%25c/", "https://example.com/a%20b%25c/"),
        ("https://example.com/...", "https://example.com/..."),
        ("https://example.com/@scope%2fname", "https://example.com/@scope/name"),
        (
            "https://example.com/npm/@scope%2Fname/-/name-1.0.tgz",
            "https://example.com/npm/@scope/name/-/name-1.0.tgz",
        ),
        ("https://example.com/?", "https://example.com/?"),
        ("https://example.com?q=%2f..%5c%0a'%e9&%41", "https://example.com/?q=%2F..%5C%0A%27%E9&A"),
        ("https://example.com/a?b?c/d", "https://example.com/a?b?c/d"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
        ("https://1.2.3.4:8443/", "https://1.2.3.4:8443/"),
        ("https://[2001:db8::1]:444/", "https://[2001:db8::1]:444/"),
        ("https://[2001:DB8::A]/", "https://[2001:db8::a]/"),
        ("https://_dmarc.example.com/", "https://_dmarc.example.com/"),
    ] {
        assert_eq!(canonical(written).as_deref(), Some(form), "{written}: {:?}", Url::parse(written));
    }
}

#[test]
fn hosts_that_could_be_read_in_two_ways_are_refused() {
    for host in [
        // Addresses in every spelling but the usual one.
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "127.0.0.01",
        "127.0.0.256",
        "1.2.3.4.5",
        "a.1",
        "a.0x1",
        "0x",
        "1.2.3.0x4",
        "1.2.3.4.",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[::FFFF:7F00:1]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[0:0:0:0:0:0:0:1]",
        "[2001:0db8::1]",
        "[v1.x]",
        "[",
        "[]",
        "[::1",
        "::1",
        // Users, look-alikes, and what is no name.
        "user@example.com",
        "user:password@example.com",
        "example.com%40evil.example",
        "b\u{fc}cher.example",
        "corp.com\u{ff0f}.evil.example",
        "\u{212a}ernel.org",
        "example\u{3002}com",
        "example.com\u{200b}",
        "",
        ".",
        "example.com.",
        ".example.com",
        "a..b",
        "-a.example",
        "a-.example",
        "a b",
        "a\tb",
        "a\0b",
        "a%2eb",
        "a%00",
        "*.example.com",
        "a,b",
        "a'b",
    ] {
        assert!(Url::parse(&format!("https://{host}/")).is_err(), "{host}");
    }
    let long = |count| vec!["a".repeat(49); count].join(".");
    assert!(host(&long(5)).is_ok() && host(&long(6)).is_err());
    assert!(host(&"a".repeat(63)).is_ok() && host(&"a".repeat(64)).is_err());
    // A backslash ends no host here, and names none.
    assert!(Url::parse("https://example.com\\@evil.example/").is_err());
    assert!(Url::parse("https://example.com#@evil.example/").is_err());
}

#[test]
fn ports_and_schemes_are_written_in_one_way() {
    for authority in
        ["a:", "a:0", "a:080", "a:65536", "a:+80", "a:-1", "a:80:80", "a: 80", "a:80x", "[::1]80", "[::1]:"]
    {
        assert!(Authority::parse(authority, 443).is_err(), "{authority}");
    }
    assert_eq!(Authority::parse("a:65535", 443).unwrap().port, 65535);
    for url in
        ["ftp://a/", "file:///etc/passwd", "//a/", "a", "https:/a", "https:a", "javascript:1", "ws://a/", ""]
    {
        assert!(Url::parse(url).is_err(), "{url}");
    }
}

#[test]
fn paths_that_could_be_read_in_two_ways_are_refused() {
    for path_text in [
        "",
        "a",
        "/.",
        "/..",
        "/a/../b",
        "/a/./b",
        "/a/.",
        "/%2e",
        "/%2E%2e/",
        "/.%2e",
        "/..;x/",
        "/.;",
        "/%2e%2e;a=b/",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/%00",
        "/a%0d%0ab",
        "/%0a",
        "/%09",
        "/%7f",
        "/a\tb",
        "/a b",
        "/a\nb",
        "/a\0",
        "//",
        "/a//b",
        "//a",
        "/\u{e9}",
        "/%",
        "/%4",
        "/%zz",
        "/%c0%af",
        "/%e9",
        "/%ff",
        "/%252e%252e/",
        "/a%252fb",
        "/a%255cb",
        "/%2500",
        "/%252e",
        "/%25%32%66",
        "/@a%2f",
        "/@%2fb",
        "/@a%2fb%2fc",
        "/@a%2f..",
        "/@..%2fb%5c",
        "/a@b%2fc",
        "/a#b",
    ] {
        assert!(path_and_query(path_text).is_err(), "{path_text}: {:?}", path_and_query(path_text));
    }
    let long = format!("/{}", "a".repeat(url::MAX_PATH));
    assert!(path(&long).is_err() && path(&long[1..]).is_err() && path(&long[..url::MAX_PATH]).is_ok());
    // What grows in being encoded is measured after it.
    assert!(path(&format!("/{}", "|".repeat(url::MAX_PATH / 2))).is_err());
    for query_text in ["%", "a%0", "a b", "a#b", "%00", "\u{e9}", "\n", "\\"] {
        assert!(query(query_text).is_err(), "{query_text}");
    }
    assert!(query(&"a".repeat(url::MAX_QUERY + 1)).is_err() && query(&"'".repeat(url::MAX_QUERY)).is_err());
}

fn request() -> EgressRequest {
    EgressRequest {
        method: "POST".into(),
        scheme: Scheme::Https,
        host: "example.com".into(),
        port: 443,
        path: "/a".into(),
        query: Some("b=c".into()),
        headers: vec![("accept".into(), "*/*\t\u{e9}".into())],
        push: None,
        body: BodyLength::Unknown,
    }
}

#[test]
fn the_daemon_takes_only_what_is_in_its_canonical_form() {
    let good = request();
    assert_eq!(good.check(), Ok(()));
    assert_eq!(good.to_string(), "https://example.com/a?b=c");
    let with = |change: &dyn Fn(&mut EgressRequest)| {
        let mut request = request();
        change(&mut request);
        request.check()
    };
    let header = |name: &str, value: &str| {
        let header = (name.to_owned(), value.to_owned());
        with(&move |request| request.headers.push(header.clone()))
    };
    for method in ["", "get", "GE T", "GET\r\n", "CONNECT", "TRACE", &"A".repeat(33)] {
        assert_eq!(with(&|request| request.method = method.into()), Err(NotCanonical::Method), "{method}");
    }
    for host in ["Example.com", "example.com.", "[::1]", "a:80", "a/b", "a@b", "127.1"] {
        assert!(with(&|request| request.host = host.into()).is_err(), "{host}");
    }
    for path in ["", "a", "/%41", "/a/../b", "/%2f", "/a?b", "/a b", "/@a%2fb", "/\u{e9}"] {
        assert!(with(&|request| request.path = path.into()).is_err(), "{path}");
    }
    for query in ["'", "%41", "#", "a b", "%0a"] {
        assert!(with(&|request| request.query = Some(query.into())).is_err(), "{query}");
    }
    assert!(with(&|request| request.port = 0).is_err());
    assert_eq!(with(&|request| request.body = BodyLength::Known(0)), Err(NotCanonical::Body));
    for name in [
        "",
        "Accept",
        "a b",
        "a:b",
        "a\r\n",
        "host",
        "content-length",
        "connection",
        "proxy-authorization",
        "te",
        "upgrade",
        "transfer-encoding",
        "expect",
        ":authority",
        "keep-alive",
        "\u{e9}",
        "forwarded",
        "x-forwarded-host",
        "x_forwarded_for",
        "x-host",
        "x-original-host",
        "proxy",
        "transfer_encoding",
    ] {
        assert!(matches!(header(name, "x"), Err(NotCanonical::Name(_))), "{name}");
    }
    for value in ["a\r\nb: c", "a\nb", "a\0", "\u{7f}"] {
        assert!(matches!(header("x", value), Err(NotCanonical::Value(_))), "{value}");
    }
    let many = vec![("a".to_owned(), "b".to_owned()); MAX_HEADERS + 1];
    assert_eq!(with(&move |request| request.headers = many.clone()), Err(NotCanonical::Headers));
    assert_eq!(header("a", &"b".repeat(MAX_HEADER_BYTES)), Err(NotCanonical::Headers));
}

#[test]
fn no_header_asks_for_another_method_or_path() {
    for name in [
        "x-http-method",
        "x-http-method-override",
        "x_http_method_override",
        "x-method-override",
        "x-original-url",
        "x-original-uri",
        "x-rewrite-url",
    ] {
        let headers = vec![(name.to_owned(), "DELETE".to_owned())];
        let found = EgressRequest { headers, ..request() }.check();
        assert!(found.as_ref().is_err_and(|fault| fault.to_string().contains(name)), "{found:?}");
        assert!(matches!(found, Err(NotCanonical::Override(_))), "{name}");
    }
}

/// Text that is often a URL, and often nearly one.
fn nearly_a_url() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("%2e".to_owned()),
        Just("%2F".to_owned()),
        Just("%25".to_owned()),
        Just("..".to_owned()),
        Just("/".to_owned()),
        Just("?".to_owned()),
        Just("#".to_owned()),
        Just("\\".to_owned()),
        Just("@".to_owned()),
        Just(":80".to_owned()),
        Just("xn--".to_owned()),
        Just("0x7f".to_owned()),
        Just("1.".to_owned()),
        Just("'".to_owned()),
        Just(";".to_owned()),
        "[a-zA-Z0-9.-]{1,6}",
        "%[0-9a-fA-F]{2}",
        "[!-~]",
        any::<char>().prop_map(String::from),
    ];
    (
        prop_oneof![Just("https://"), Just("http://"), Just("HTTP://")],
        "[a-zA-Z0-9.:_\\[\\]-]{0,12}",
        proptest::collection::vec(piece, 0..10),
    )
        .prop_map(|(scheme, host, pieces)| format!("{scheme}{host}{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_canonical_form_is_its_own(text in nearly_a_url()) {
        if let Ok(url) = Url::parse(&text) {
            let form = url.to_string();
            prop_assert_eq!(Url::parse(&form), Ok(url.clone()));
            prop_assert!(form.is_ascii());
            let request = EgressRequest {
                method: "GET".into(), scheme: url.scheme, host: url.authority.host, port: url.authority.port,
                path: url.path, query: url.query, headers: Vec::new(), push: None, body: BodyLength::None,
            };
            prop_assert_eq!(request.check(), Ok(()));
        }
    }

    /// The other parser is the one that browsers follow, and many clients.
    #[test]
    fn another_parser_reads_the_canonical_form_as_itself(text in nearly_a_url()) {
        if let Some(form) = canonical(&text) {
            match ::url::Url::parse(&form) {
                Ok(other) => prop_assert_eq!(other.as_str(), form),
                // It also holds `xn--` labels against Unicode's rules.
                Err(_) => prop_assert!(form.contains("xn--"), "{}", form),
            }
        }
    }

    #[test]
    fn nothing_makes_it_panic(text in any::<String>()) {
        drop((Url::parse(&text), host(&text), path_and_query(&text), Authority::parse(&text, 1)));
    }
}

#[test]
fn a_push_says_what_it_pushes_and_nothing_else_does() {
    let path = "/acme/app.git/git-receive-pack".to_owned();
    let push = || Some(Push { changes: vec![], capabilities: vec![], shallow: vec![] });
    let pushing =
        EgressRequest { path: path.clone(), query: None, push: push(), body: BodyLength::None, ..request() };
    assert_eq!(pushing.check(), Ok(()));
    for body in [BodyLength::Unknown, BodyLength::Known(1)] {
        let more = EgressRequest { body, ..pushing.clone() };
        assert_eq!(more.check(), Err(NotCanonical::Pushed(PushError::MoreThanNothing)));
    }
    assert_eq!(EgressRequest { push: None, ..pushing.clone() }.check(), Err(NotCanonical::Push));
    assert_eq!(EgressRequest { push: push(), ..request() }.check(), Err(NotCanonical::Push));
}

/// What a lenient server might take for a push, and rules would not.
#[test]
fn what_is_nearly_gits_does_not_leave() {
    let check = |method: &str, target: &str, body| {
        let (path, query) = path_and_query(target).unwrap();
        let id = |digit: &str| digit.repeat(40).try_into().unwrap();
        let name = "refs/heads/a".to_owned().try_into().unwrap();
        let changes = vec![RefChange { old: id("1"), new: id("2"), name }];
        let push = (method == "POST" && target.ends_with("/git-receive-pack")).then(|| Push {
            changes,
            capabilities: vec!["quiet".to_owned()],
            shallow: vec![],
        });
        EgressRequest { method: method.into(), path, query, body, push, ..request() }.check()
    };
    let some = BodyLength::Known(4);
    for (method, target, body) in [
        ("POST", "/acme/app.git/git-receive-pack", some),
        ("POST", "/acme/app/git-upload-pack", some),
        ("GET", "/acme/app.git/info/refs?service=git-receive-pack", BodyLength::None),
        ("GET", "/acme/app.git/info/refs?service=git-upload-pack", BodyLength::None),
        ("GET", "/acme/app.git/info/refs", BodyLength::None),
        ("GET", "/docs/git-receive-pack", BodyLength::None),
        ("HEAD", "/docs/git-upload-pack/", BodyLength::None),
        ("POST", "/docs/git-receive-pack.txt", some),
        ("POST", "/docs/not-git-receive-pack", some),
        ("GET", "/info/refs?service=mail", BodyLength::None),
    ] {
        assert_eq!(check(method, target, body), Ok(()), "{method} {target}");
    }
    for (method, target) in [
        ("POST", "/acme/app.git/git-receive-pack/"),
        ("POST", "/acme/app.git/git-upload-pack/"),
        ("POST", "/acme/app.git/Git-Receive-Pack"),
        ("POST", "/acme/app.git/git-receive-pack;x=y"),
        ("POST", "/acme/app.git/git-receive-pack%3bx"),
        ("POST", "/acme/app.git/git-receive-pack."),
        ("POST", "/acme/app.git/git-receive-pack%20"),
        ("POST", "/acme/app.git/git-receive-pack?x=y"),
        ("POST", "/acme/app.git/git%2dreceive%2dpack/x"),
        ("POST", "/acme/git-receive-pack/git-upload-pack"),
        ("POST", "/git-receive-pack"),
        ("PUT", "/acme/app.git/git-receive-pack"),
        ("GET", "/acme/app.git/git-receive-pack"),
        ("POST", "/acme/app.git/info/refs?service=git-receive-pack"),
        ("GET", "/acme/app.git/info/refs/?service=git-receive-pack"),
        ("GET", "/acme/app.git/Info/Refs?service=git-receive-pack"),
        ("GET", "/acme/app.git/info/refs?service=git-receive-pack&x=y"),
        ("GET", "/acme/app.git/info/refs?x=y&service=git-upload-pack"),
    ] {
        assert_eq!(check(method, target, some), Err(NotCanonical::Git), "{method} {target}");
    }
}

/// The daemon reads a push of a door that was fooled, too.
#[test]
fn a_push_that_no_door_could_have_read_is_refused() {
    let id = |digit: &str| digit.repeat(40).try_into().unwrap();
    let change = |name: String| RefChange { old: id("1"), new: id("2"), name: name.try_into().unwrap() };
    let pushing = |changes, capability: String| EgressRequest {
        path: "/acme/app.git/git-receive-pack".to_owned(),
        query: None,
        push: Some(Push { changes, capabilities: vec![capability], shallow: vec![] }),
        ..request()
    };
    let some = |count: u8| (0..count).map(|n| change(format!("refs/heads/{n}"))).collect::<Vec<_>>();
    let quiet = || "quiet".to_owned();
    assert_eq!(pushing(some(64), quiet()).check(), Ok(()));
    for (what, request) in [
        ("65 changes", pushing(some(65), quiet())),
        ("a ref twice", pushing([some(2), some(1)].concat(), quiet())),
        ("an endless capability", pushing(some(1), "a".repeat(70_000))),
        ("two capabilities in one", pushing(some(1), "quiet atomic".to_owned())),
        ("a capability that ends its line", pushing(some(1), "quiet\n0000".to_owned())),
        ("options", pushing(some(1), "push-options".to_owned())),
        ("a certificate", pushing(some(1), "push-cert=x".to_owned())),
        ("capabilities of nothing", pushing(vec![], quiet())),
    ] {
        assert!(matches!(request.check(), Err(NotCanonical::Pushed(_))), "{what}: {:?}", request.check());
    }
}
