//! What rules name, and what they are not written like.

use super::*;
use proptest::prelude::*;

fn names(pattern: &str, target: &str) -> bool {
    pattern.parse::<EgressPattern>().unwrap().names(&target.parse().unwrap(), Answer::Allow)
}

#[test]
fn a_rule_names_methods_host_port_path_and_query() {
    let github = "GET https://api.github.com/repos/acme/**";
    for (pattern, target, named) in [
        (github, "GET https://api.github.com/repos/acme/a/b", true),
        (github, "GET https://api.github.com/repos/acme/", true),
        (github, "GET https://api.github.com/repos/acme", false),
        (github, "GET https://api.github.com/repos/acme2/a", false),
        (github, "POST https://api.github.com/repos/acme/a", false),
        (github, "GET http://api.github.com/repos/acme/a", false),
        (github, "GET https://api.github.com:8443/repos/acme/a", false),
        (github, "GET https://api.github.com.evil.org/repos/acme/a", false),
        (github, "GET https://api.github.com/repos/acme/a?b", false),
        ("GET https://a.example/**?*", "GET https://a.example/x?y=1", true),
        ("GET https://a.example/**?*", "GET https://a.example/x", true),
        ("GET https://a.example/x?y=1", "GET https://a.example/x?y=1", true),
        ("GET https://a.example/x?y=1", "GET https://a.example/x?y=2", false),
        ("GET https://a.example/x?y=1", "GET https://a.example/x", false),
        ("GET,HEAD https://*.example.com/*", "HEAD https://a.example.com/x", true),
        ("GET,HEAD https://*.example.com/*", "HEAD https://a.example.com/x/y", false),
        ("GET https://a.example/v*/x", "GET https://a.example/v1/x", true),
        ("GET https://a.example/v*/x", "GET https://a.example/v1/y/x", false),
        ("GET https://a.example/**/x", "GET https://a.example/v1/y/x", true),
        ("GET https://a.example", "GET https://a.example/", true),
        ("GET https://a.example:8443/", "GET https://a.example:8443/", true),
        ("GET https://[::1]:1/", "GET https://[::1]:1/", true),
    ] {
        assert_eq!(names(pattern, target), named, "{pattern} {target}");
    }
}

#[test]
fn a_denial_is_about_any_query_and_any_method() {
    let deny: EgressPattern = "* https://a.example/admin/**".parse().unwrap();
    for target in ["GET https://a.example/admin/?x", "PURGE https://a.example/admin/y"] {
        assert!(deny.names(&target.parse().unwrap(), Answer::Deny), "{target}");
    }
    assert!(!deny.names(&"GET https://a.example/other".parse().unwrap(), Answer::Deny));
}

#[test]
fn what_requests_never_look_like_is_a_mistake() {
    for bad in [
        "https://a.example/",
        "GET a.example/",
        "GET ftp://a.example/",
        "get https://a.example/",
        "GET, https://a.example/",
        "CONNECT https://a.example/",
        "GET https://A.example/",
        "GET https://*.com/",
        "GET https://user@a.example/",
        "GET https://a.example:0/",
        "GET https://a.example:/",
        "GET https://a.example/../x",
        "GET https://a.example/a%2fb",
        "GET https://a.example/a%2Fb",
        "GET https://a.example/%61",
        "GET https://a.example/%c3%a9",
        "GET https://a.example/\u{e9}",
        "GET https://a.example/a b",
        "GET https://a.example/a\\b",
        "GET https://a.example/#x",
        "GET https://a.example/***",
        "GET https://a.example/?x=*",
        "GET https://a.example/?x=%00",
        "GET https://a.example/?x=%2f",
        "GET https://a.example/%",
        "GET https://127.1/",
        "",
    ] {
        assert!(bad.parse::<EgressPattern>().is_err(), "{bad}");
    }
    assert!("* https://a.example/".parse::<EgressPattern>().unwrap().is_every_method());
    assert!("GET https://a.example/%C3%A9".parse::<EgressPattern>().is_ok());
}

#[test]
fn what_leaves_in_a_query_can_be_named() {
    let long = format!("GET https://a.example/x?u={}", "a".repeat((16 << 10) - 2));
    for target in
        ["GET https://a.example/x?u=https%3A%2F%2Fb%5C", "GET https://a.example/x?a=..%2F..&b?c", &long]
    {
        assert_eq!(target.parse::<EgressTarget>().unwrap().to_string(), target);
        assert!(names(target, target), "{target}");
    }
    assert!(format!("{long}a").parse::<EgressTarget>().is_err());
}

#[test]
fn rules_about_git_name_repositories_and_refs() {
    let (begin, fetch) =
        ("GET https://g.example/acme/app.git/info/refs?service=", "POST https://g.example/acme/app");
    let (to_fetch, to_push) = (format!("{begin}git-upload-pack"), format!("{begin}git-receive-pack"));
    let fetching = "FETCH https://g.example/acme/*";
    let pushing = "PUSH https://g.example/acme/app.git refs/heads/agent/*";
    let quiet = &format!("{pushing} no-ci");
    for (pattern, target, named) in [
        (fetching, to_fetch.clone(), true),
        (fetching, to_push.clone(), false),
        (fetching, format!("{fetch}/git-upload-pack"), true),
        (fetching, format!("{fetch}/git-receive-pack refs/heads/agent/a"), false),
        (fetching, "GET https://g.example/acme/app/HEAD".to_owned(), false),
        (fetching, "GET https://g.example/acme/app/x/info/refs?service=git-upload-pack".to_owned(), false),
        (fetching, "GET https://g.example/acme/app/info/refs?service=git-upload-pack&x=1".to_owned(), false),
        (pushing, to_push, true),
        (pushing, to_fetch, false),
        (pushing, format!("{fetch}/git-receive-pack refs/heads/agent/a"), true),
        (pushing, format!("{fetch}/git-receive-pack refs/heads/agent/a,refs/heads/agent/b"), true),
        (pushing, format!("{fetch}/git-receive-pack refs/heads/agent/a,refs/heads/main"), false),
        (pushing, format!("{fetch}/git-receive-pack refs/heads/agent/a/b"), false),
        (pushing, format!("{fetch}/git-receive-pack"), true),
        (quiet, format!("{fetch}/git-receive-pack refs/heads/agent/a"), true),
        (quiet, format!("{fetch}/git-receive-pack refs/tags/agent"), false),
        ("POST https://g.example/**", format!("{fetch}/git-receive-pack refs/heads/agent/a"), false),
        ("POST https://g.example/**", format!("{fetch}/git-receive-pack"), false),
        ("POST https://g.example/**", format!("{fetch}/git-receive-pack/"), false),
        ("POST https://g.example/**", format!("{fetch}/Git-Receive-Pack;x"), false),
        ("POST https://g.example/**", format!("{fetch}/git-receive-pack.txt"), true),
    ] {
        assert_eq!(names(pattern, &target), named, "{pattern}: {target}");
    }
    for bad in [
        "FETCH https://g.example/acme/app refs/heads/a",
        "PUSH https://g.example/acme/app",
        "PUSH https://g.example/acme/app main",
        "PUSH https://g.example/acme/app refs/heads/a b",
        "PUSH https://g.example/acme/app refs/heads/a..?",
        "PUSH https://g.example/acme/app refs/heads/a ci",
        "PUSH https://g.example/acme/app refs/heads/a no-ci no-ci",
        "PUSH https://g.example/acme/app refs/heads/* no-ci",
        "PUSH https://g.example/acme/app refs/** no-ci",
        "PUSH https://g.example/acme/app refs/tags/** no-ci",
        "FETCH https://g.example/acme/app no-ci",
        "FETCH https://g.example/",
        "FETCH https://g.example/acme/",
        "FETCH https://g.example/acme?x",
        "FETCH",
    ] {
        assert!(bad.parse::<EgressPattern>().is_err(), "{bad}");
    }
}

#[test]
fn a_push_is_denied_whole_where_one_of_its_refs_is_not_listed() {
    let rule = |answer, pattern: &str| EgressRule {
        answer,
        pattern: pattern.parse().unwrap(),
        line: 1,
        preset: None,
    };
    let egress = Egress {
        rules: vec![
            rule(Answer::Allow, "PUSH https://g.example/app refs/heads/agent/*"),
            rule(Answer::Ask, "PUSH https://g.example/app refs/heads/main"),
        ],
        ..Egress::default()
    };
    let answers = |refs: &str| -> Vec<Answer> {
        let target = format!("POST https://g.example/app.git/git-receive-pack {refs}").parse().unwrap();
        egress.about(&target).into_iter().map(|rule| rule.answer).collect()
    };
    assert_eq!(answers("refs/heads/agent/a"), [Answer::Allow]);
    assert_eq!(answers("refs/heads/main"), [Answer::Ask]);
    assert_eq!(answers("refs/heads/agent/a,refs/heads/main"), [] as [Answer; 0], "pushed apart");
    assert_eq!(answers("refs/heads/main,refs/heads/other"), [] as [Answer; 0]);
}

#[test]
fn a_push_that_says_no_ref_yet_meets_no_rule_about_some_ref() {
    use Answer::{Allow, Ask, Deny};
    let rule = |(answer, pattern): &(Answer, &str)| EgressRule {
        answer: *answer,
        pattern: pattern.parse().unwrap(),
        line: 1,
        preset: None,
    };
    let agents = (Allow, "PUSH https://g.example/app refs/heads/agent/* no-ci");
    let (asks, denies) = (
        (Ask, "PUSH https://g.example/app refs/heads/main"),
        (Deny, "PUSH https://g.example/app refs/heads/main"),
    );
    let all = (Allow, "PUSH https://g.example/app refs/**");
    let closed = (Deny, "* https://g.example/**");
    for (rules, first, to_main) in [
        (&[agents, asks][..], &[Allow][..], &[Ask][..]),
        (&[asks], &[Ask], &[Ask]),
        (&[denies], &[], &[Deny]),
        (&[all, denies], &[Allow], &[Allow, Deny]),
        (&[asks, denies], &[Ask], &[Ask, Deny]),
        (&[agents, closed], &[Allow, Deny], &[Deny]),
        (&[(Ask, "GET https://g.example/**?*"), agents], &[Ask, Allow], &[]),
    ] {
        let egress = Egress { rules: rules.iter().map(rule).collect(), ..Egress::default() };
        let answers = |target: &str| -> Vec<Answer> {
            egress.about(&target.parse().unwrap()).into_iter().map(|rule| rule.answer).collect()
        };
        assert_eq!(
            answers("GET https://g.example/app/info/refs?service=git-receive-pack"),
            first,
            "{rules:?}"
        );
        let tried = answers("POST https://g.example/app.git/git-receive-pack");
        assert!(
            tried == first || rules.iter().any(|(_, rule)| rule.starts_with("GET")),
            "{rules:?}: {tried:?}"
        );
        assert_eq!(
            answers("POST https://g.example/app.git/git-receive-pack refs/heads/main"),
            to_main,
            "{rules:?}"
        );
    }
}

#[test]
fn every_preset_is_made_of_rules() {
    for preset in crate::PRESETS {
        let all = preset.allow.iter().chain(preset.ask);
        for pattern in all {
            assert!(!pattern.parse::<EgressPattern>().unwrap().is_every_method(), "{pattern}");
        }
        for pattern in preset.deny {
            assert!(pattern.parse::<EgressPattern>().is_ok(), "{pattern}");
        }
        assert_eq!(crate::Preset::named(preset.name), Some(preset));
    }
    let mut names: Vec<&str> = crate::PRESETS.iter().map(|preset| preset.name).collect();
    names.dedup();
    assert!(names.is_sorted() && names.len() == crate::PRESETS.len());
}

#[test]
fn many_stars_take_no_time() {
    let pattern = format!("GET https://a.example/{}x", "*a".repeat(200));
    let target = format!("GET https://a.example/{}", "a".repeat(4000));
    assert!(!names(&pattern, &target));
}

proptest! {
    #[test]
    fn a_pattern_without_stars_names_only_itself(a in "/[a-c/]{0,6}", b in "/[a-c/]{0,6}") {
        let (pattern, target) = (format!("GET https://a.example{a}"), format!("GET https://a.example{b}"));
        prop_assert_eq!(names(&pattern, &target), a == b);
    }

    #[test]
    fn its_example_is_named(path in "/[a-c/*]{0,8}", host in "(\\*\\.)?a\\.example", query in "(\\?\\*|\\?x=1)?") {
        if let Ok(pattern) = format!("GET https://{host}{path}{query}").parse::<EgressPattern>() {
            prop_assert!(pattern.names(&pattern.example(), Answer::Allow));
            prop_assert_eq!(pattern.example().to_string().parse(), Ok(pattern.example()));
        }
    }

    #[test]
    fn a_star_passes_no_slash(middle in "[a-c/]{0,6}") {
        let target = format!("GET https://a.example/x{middle}y");
        prop_assert_eq!(names("GET https://a.example/x*y", &target), !middle.contains('/'));
        prop_assert!(names("GET https://a.example/x**y", &target));
    }

    #[test]
    fn no_text_panics(text in ".{0,40}") {
        drop(text.parse::<EgressPattern>());
        drop(format!("GET https://{text}").parse::<EgressTarget>());
    }
}
