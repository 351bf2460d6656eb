//! Decisions on requests that leave a cell, and differences between what may.

use domain::{Answer, Confidentiality, Integrity, Labels, Origin};
use policy::{
    AgentPolicy, Body, Call, Case, Connect, ConnectFacts, Counts, Decision, Grant, Push, Text, Verdict,
    decide, explain_connect,
};
use proptest::prelude::*;

use crate::common::*;
use crate::versions::compare;

const EGRESS: &str = r#"
[egress]
allow = [
    "GET,HEAD https://api.example.com/repos/acme/**",
    "GET https://api.example.com/status",
    "GET https://find.example.com/?*",
    "POST https://api.example.com/repos/acme/*/issues",
    "GET,POST https://wiki.corp.example/**",
]
ask = ["PUT https://api.example.com/**"]
deny = ["* https://api.example.com/repos/acme/secret/**"]
"#;

pub(crate) fn agent(egress: &str) -> String {
    CLERK.replace("[approvals]", &format!("{egress}\n[approvals]"))
}

fn policy() -> AgentPolicy {
    compile(&agent(EGRESS), None, &[]).unwrap()
}

pub(crate) fn request(target: &str) -> Connect {
    let body =
        if target.starts_with("GET") || target.starts_with("HEAD") { Body::None } else { Body::Upto(9) };
    Connect { target: target.parse().unwrap(), headers: Vec::new(), push: None, body }
}

fn exposed() -> Labels {
    Labels { confidentiality: Confidentiality::Confidential, integrity: Integrity::Web, ..Labels::default() }
}

pub(crate) fn facts(labels: Labels, own: bool, origin: Origin) -> ConnectFacts {
    ConnectFacts { labels, origin, own, calls: Counts::default() }
}

pub(crate) fn asked(policy: &AgentPolicy, action: Connect, facts: ConnectFacts) -> (Answer, String) {
    match decide(policy, Call { action, facts }) {
        Decision::Allow(allowed) => (Answer::Allow, allowed.reasons()[0].to_string()),
        Decision::Ask(question) => (Answer::Ask, question.reasons()[0].to_string()),
        Decision::Deny(reasons) => (Answer::Deny, reasons[0].to_string()),
    }
}

#[test]
fn rules_of_egress_decide_and_what_is_unlisted_is_denied() {
    let policy = policy();
    for (target, answer, because) in [
        ("GET https://api.example.com/repos/acme/a", Answer::Allow, "agent.toml:13, allow"),
        ("POST https://api.example.com/repos/acme/a/issues", Answer::Allow, "agent.toml:16, allow"),
        ("PUT https://api.example.com/repos/acme/a", Answer::Ask, "agent.toml:19, ask"),
        ("PUT https://api.example.com/repos/acme/secret/a", Answer::Deny, "agent.toml:20, deny"),
        ("GET https://api.example.com/repos/acme/secret/a", Answer::Deny, "agent.toml:20, deny"),
        ("POST https://api.example.com/repos/acme/a", Answer::Deny, "unlisted"),
        ("GET https://api.example.com/repos/acme/a?x", Answer::Deny, "unlisted"),
        ("GET http://api.example.com/repos/acme/a", Answer::Deny, "unlisted"),
        ("GET https://other.example.com/", Answer::Deny, "unlisted"),
    ] {
        let (found, why) = asked(&policy, request(target), facts(Labels::default(), false, Origin::Unknown));
        assert_eq!(found, answer, "{target}: {why}");
        assert!(why.contains(because), "{target}: {why}");
    }
    let closed = clerk();
    let (found, why) =
        asked(&closed, request("GET https://a.example/"), facts(Labels::default(), false, Origin::Person));
    assert_eq!(found, Answer::Deny);
    assert!(why.contains("no [egress]"), "{why}");
}

#[test]
fn under_the_rule_of_two_only_what_carries_nothing_leaves_without_a_person() {
    let policy = policy();
    let status = "GET https://api.example.com/status";
    let wild = "GET https://api.example.com/repos/acme/a";
    let query = "GET https://find.example.com/?q=1";
    let post = "POST https://api.example.com/repos/acme/a/issues";
    let wiki = ["GET https://wiki.corp.example/a", "POST https://wiki.corp.example/a"];
    for (target, own, origin, answer) in [
        (status, false, Origin::Unknown, Answer::Allow),
        (wild, false, Origin::Unknown, Answer::Ask),
        (wild, false, Origin::Stranger("web".to_owned()), Answer::Ask),
        (wild, false, Origin::Person, Answer::Allow),
        (query, false, Origin::Unknown, Answer::Ask),
        (query, false, Origin::Person, Answer::Allow),
        (post, false, Origin::Person, Answer::Ask),
        (wiki[0], true, Origin::Unknown, Answer::Allow),
        (wiki[1], true, Origin::Unknown, Answer::Ask),
    ] {
        let told = format!("{target} {origin:?}");
        let (found, why) = asked(&policy, request(target), facts(exposed(), own, origin));
        assert_eq!(found, answer, "{told}: {why}");
    }
    // A header says as much as a path.
    let mut loud = request(status);
    loud.headers.push(("cookie".to_owned(), "all I know".to_owned()));
    assert_eq!(asked(&policy, loud.clone(), facts(exposed(), false, Origin::Person)).0, Answer::Ask);
    assert_eq!(asked(&policy, loud.plain(), facts(exposed(), false, Origin::Unknown)).0, Answer::Allow);
}

#[test]
fn a_yes_is_good_for_exactly_the_request_that_was_shown() {
    let policy = policy();
    let body = |text: &str| Connect {
        body: Body::Whole(text.into()),
        ..request("PUT https://api.example.com/repos/acme/a")
    };
    let question = |action: Connect| {
        let facts = facts(Labels::default(), false, Origin::Unknown);
        let Decision::Ask(question) = decide(&policy, Call { action, facts }) else { panic!("not asked") };
        *question
    };
    let first = question(body("one"));
    let grant = Grant {
        approval: domain::ApprovalId::from_parts(1, 2),
        binding: first.binding(),
        ceiling: first.labels().clone(),
    };
    assert!(question(body("one")).granted(&grant).is_ok());
    assert!(question(body("two")).granted(&grant).is_err());
    let mut header = body("one");
    header.headers.push(("x".to_owned(), "y".to_owned()));
    assert!(question(header).granted(&grant).is_err());
    let mut elsewhere = body("one");
    elsewhere.target.path.push('b');
    assert!(question(elsewhere).granted(&grant).is_err());
    let shown: Vec<String> = first.arguments().iter().map(ToString::to_string).collect();
    assert!(shown[0].contains("https://api.example.com/repos/acme/a"), "{shown:?}");
    assert!(shown.last().unwrap().contains("one"), "{shown:?}");
    assert_eq!(first.session_binding(), None);
}

#[test]
fn rules_in_cedar_see_a_request() {
    let own = r#"
        forbid (principal, action == Action::"connect", resource == Host::"api.example.com")
        when { context.method == "GET" && context.path like "/repos/acme/b*" };
    "#;
    let policy = compile(&agent(EGRESS), Some(own), &[]).unwrap();
    let ask = |target| asked(&policy, request(target), facts(Labels::default(), false, Origin::Unknown)).0;
    assert_eq!(ask("GET https://api.example.com/repos/acme/a"), Answer::Allow);
    assert_eq!(ask("GET https://api.example.com/repos/acme/bc"), Answer::Deny);
    let action = request("GET https://api.example.com/repos/acme/bc");
    let call = Call { action, facts: facts(exposed(), false, Origin::Person) };
    let told = explain_connect(&policy, &call).to_string();
    assert!(told.starts_with("deny: GET https://api.example.com/repos/acme/bc\n"), "{told}");
    assert!(told.contains("another organisation's") && told.contains("policy.cedar:2"), "{told}");
}

#[test]
fn a_wider_egress_is_shown_by_a_request_that_became_possible() {
    let wiki = "    \"GET,POST https://wiki.corp.example/**\",\n";
    let status = "    \"GET https://api.example.com/status\",\n";
    let deny = "deny = [\"* https://api.example.com/repos/acme/secret/**\"]\n";
    let ask = "ask = [\"PUT https://api.example.com/**\"]\n";
    for (from, to, verdict, told) in [
        (status, "", Verdict::Narrower, "GET https://api.example.com/status is now denied, was allowed"),
        (
            wiki,
            "    \"GET https://*.corp.example/**\",\n",
            Verdict::Both,
            "GET https://any.corp.example/any/thing was denied, is now allowed",
        ),
        (deny, "", Verdict::Wider, "secret/any/thing was denied, is now perhaps not, by `* https"),
        (ask, "", Verdict::Both, "PUT https://api.example.com/any/thing was asked, is now allowed"),
        (ask, "ask = []\nbody = \"1MiB\"\n", Verdict::Both, "was asked"),
        ("[egress]\n", "[egress]\nbody = \"2MiB\"\n", Verdict::Wider, "`body` was 1MiB, is now 2MiB"),
        ("[egress]\n", "[egress]\nrequests_per_minute = 5\n", Verdict::Narrower, "`requests_per_minute`"),
        ("[egress]\n", "[egress]\napprovals = { need = 1 }\n", Verdict::Wider, "[egress]: asked were"),
    ] {
        let newer = EGRESS.replace(from, to);
        assert_ne!(newer, EGRESS);
        let found = compare(&agent(EGRESS), &agent(&newer), [None, None]).unwrap();
        assert_eq!(found.verdict, verdict, "{from} → {to}: {found:?}");
        let all = format!("{:?} {:?}", found.wider, found.narrower);
        assert!(all.contains(told), "{all}");
    }
    let found = compare(CLERK, &agent(EGRESS), [None, None]).unwrap();
    assert_eq!(found.verdict, Verdict::Wider);
    let found = compare(&agent(EGRESS), CLERK, [None, None]).unwrap();
    assert_eq!(found.verdict, Verdict::Narrower, "{found:?}");
}

fn rule() -> impl Strategy<Value = String> {
    ("(GET|POST|GET,POST)", "(a|b|\\*\\.a)\\.example\\.com", "/(\\*\\*|\\*|x|x/\\*)", "(\\?\\*)?")
        .prop_map(|(methods, host, path, query)| format!("{methods} https://{host}{path}{query}"))
}

fn table() -> impl Strategy<Value = [Vec<String>; 3]> {
    let rules =
        || proptest::collection::btree_set(rule(), 0..3).prop_map(|rules| rules.into_iter().collect());
    [rules(), rules(), rules()]
}

fn written([allow, ask, deny]: &[Vec<String>; 3]) -> String {
    agent(&format!("[egress]\nallow = {allow:?}\nask = {ask:?}\ndeny = {deny:?}\n"))
}

fn levels() -> impl Strategy<Value = (Confidentiality, Integrity)> {
    use {Confidentiality as C, Integrity as I};
    (
        prop_oneof![Just(C::Public), Just(C::Internal), Just(C::Confidential), Just(C::Secret)],
        prop_oneof![Just(I::Person), Just(I::Organisation), Just(I::ThirdParty), Just(I::Web)],
    )
}

fn level(answer: Answer) -> u8 {
    match answer {
        Answer::Allow => 2,
        Answer::Ask => 1,
        Answer::Deny => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_is_called_narrower_allows_no_request_more(old in table(), new in table(), drop_allowed: bool) {
        // Half of the time, the newer is the older with a rule less, so that narrower ones come up.
        let mut nearly = old.clone();
        nearly[0].pop();
        let new = if drop_allowed { nearly } else { new };
        let verdict = compare(&written(&old), &written(&new), [None, None]).unwrap().verdict;
        if matches!(verdict, Verdict::Same | Verdict::Narrower) {
            let [old, new] = [&old, &new].map(|table| compile(&written(table), None, &[]).unwrap());
            for host in ["a", "b", "x.a", "x.y.a"] {
                for path in ["", "x", "x/y"] {
                    for (method, query) in [("GET", ""), ("GET", "?q"), ("POST", "")] {
                        let target = format!("{method} https://{host}.example.com/{path}{query}");
                        for labels in [Labels::default(), exposed()] {
                            let ask = |policy| asked(policy, request(&target), facts(labels.clone(), false, Origin::Unknown)).0;
                            prop_assert!(level(ask(&new)) <= level(ask(&old)), "{}", target);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn labels_only_add_restrictions_to_requests(table in table(), levels in levels()) {
        let policy = compile(&written(&table), None, &[]).unwrap();
        let labels = Labels {
            confidentiality: levels.0,
            integrity: levels.1,
            ..Labels::default()
        };
        for target in ["GET https://a.example.com/x", "POST https://b.example.com/x", "GET https://x.a.example.com/x?q"] {
            for own in [true, false] {
                let ask = |labels| asked(&policy, request(target), facts(labels, own, Origin::Unknown)).0;
                prop_assert!(level(ask(labels.clone())) <= level(ask(Labels::default())));
            }
        }
    }
}

const GIT: &str = r#"
[egress]
presets = ["pip"]
allow = [
    "FETCH https://git.example.com/acme/*",
    "PUSH https://git.example.com/acme/app refs/heads/agent/* no-ci",
    "PUSH https://git.example.com/acme/app refs/heads/tested/*",
    "POST https://git.example.com/**",
]
ask = ["PUSH https://git.example.com/acme/app refs/heads/main"]
"#;

fn push(refs: &str, deletes: bool) -> Connect {
    let push =
        Some(Push { changes: vec![refs.to_owned()], deletes, bytes: format!("{refs} {deletes}").into() });
    let target = format!("POST https://git.example.com/acme/app.git/git-receive-pack {refs}");
    Connect { target: target.parse().unwrap(), headers: Vec::new(), push, body: Body::Upto(9) }
}

#[test]
fn pushes_are_decided_by_their_refs_and_never_by_other_rules() {
    let policy = compile(&agent(GIT), None, &[]).unwrap();
    for (refs, deletes, answer, because) in [
        ("refs/heads/agent/a", false, Answer::Allow, "`allow = [\"PUSH"),
        ("refs/heads/agent/a", true, Answer::Ask, "push-deletes"),
        ("refs/heads/main", false, Answer::Ask, "`ask = [\"PUSH"),
        ("refs/heads/tested/a", false, Answer::Ask, "push-runs: hosts run tests and more"),
        ("refs/heads/tested/a,refs/heads/agent/a", false, Answer::Deny, "no rule allows"),
        ("refs/heads/main,refs/heads/agent/a", false, Answer::Deny, "no rule allows"),
        ("refs/heads/other", false, Answer::Deny, "no rule allows"),
        ("refs/tags/v1", false, Answer::Deny, "no rule allows"),
    ] {
        let (found, reason) =
            asked(&policy, push(refs, deletes), facts(Labels::default(), false, Origin::Unknown));
        assert_eq!(found, answer, "{refs}: {reason}");
        assert!(reason.contains(because), "{refs}: {reason}");
    }
    let (found, reason) =
        asked(&policy, push("refs/heads/agent/a", false), facts(exposed(), false, Origin::Unknown));
    assert!(found == Answer::Ask && reason.contains("connect-rule-of-two"), "{reason}");
    let (found, _) =
        asked(&policy, push("refs/heads/agent/a", false), facts(exposed(), true, Origin::Unknown));
    assert_eq!(found, Answer::Allow, "to the organisation's own host it leaves nobody");
}

#[test]
fn to_begin_a_push_asks_nobody_where_some_push_is_allowed() {
    let policy = compile(&agent(GIT), None, &[]).unwrap();
    let begins = "GET https://git.example.com/acme/app/info/refs?service=git-receive-pack";
    let action = Connect::told(begins.parse().unwrap(), Body::None);
    let (found, reason) = asked(&policy, action, facts(Labels::default(), false, Origin::Unknown));
    assert_eq!(found, Answer::Allow, "{reason}");
}

#[test]
fn a_push_that_is_asked_about_may_make_something_run() {
    let policy = compile(&agent(GIT), None, &[]).unwrap();
    let call = Call {
        action: push("refs/heads/main", false),
        facts: facts(Labels::default(), false, Origin::Unknown),
    };
    let Decision::Ask(question) = decide(&policy, call) else { panic!("it asks") };
    assert_eq!(question.effects().unwrap().to_string(), "read + write + communicate + execute");
    assert!(question.arguments().iter().any(|judged| judged.value == "refs/heads/main"));
    let other = Call {
        action: push("refs/heads/main", true),
        facts: facts(Labels::default(), false, Origin::Unknown),
    };
    let Decision::Ask(other) = decide(&policy, other) else { panic!("it asks") };
    assert_ne!(question.binding(), other.binding());
}

#[test]
fn a_rule_by_which_nothing_runs_is_told_as_such() {
    let policy = compile(&agent(GIT), None, &[]).unwrap();
    let explained = |refs: &str| {
        let target = format!("POST https://git.example.com/acme/app/git-receive-pack {refs}");
        let action = Connect::told(target.parse().unwrap(), Body::Upto(9));
        let facts = facts(Labels::default(), false, Origin::Person);
        explain_connect(&policy, &Call { action, facts }).to_string()
    };
    let quiet = explained("refs/heads/agent/a");
    assert!(quiet.starts_with("allow: ") && !quiet.contains("execute"), "{quiet}");
    assert!(quiet.contains("by which nothing runs on such pushes"), "{quiet}");
    let runs = explained("refs/heads/tested/a");
    assert!(runs.starts_with("ask: ") && runs.contains("execute") && runs.contains("push-runs"), "{runs}");

    let without = GIT.replace("agent/* no-ci", "agent/*");
    let found = compare(&agent(&without), &agent(GIT), [None, None]).unwrap();
    assert_eq!(found.verdict, Verdict::Wider, "{found:?}");
    let told = "was asked, is now allowed, and taken to run nothing at the host (`no-ci`)";
    assert!(format!("{:?}", found.wider).contains(told), "{found:?}");
    let found = compare(&agent(GIT), &agent(&without), [None, None]).unwrap();
    assert_eq!(found.verdict, Verdict::Narrower, "{found:?}");
    let found = compare(CLERK, &agent(&without), [None, None]).unwrap();
    assert_eq!(found.verdict, Verdict::Wider, "{found:?}");
}

#[test]
fn a_fetch_reads_and_a_preset_is_named_where_it_decides() {
    let policy = compile(&agent(GIT), None, &[]).unwrap();
    let fetch =
        Connect { body: Body::Upto(9), ..request("POST https://git.example.com/acme/app/git-upload-pack") };
    assert_eq!(fetch.effects(false).to_string(), "read");
    for (body, own, effects) in [
        (Body::Upto(16 << 10), false, "read"),
        (Body::Upto((16 << 10) + 1), false, "read + communicate"),
        (Body::Whole(vec![b'x'; 20_000]), false, "read + communicate"),
        (Body::Upto(1 << 20), true, "read"),
    ] {
        let long = Connect { body, ..fetch.clone() };
        assert_eq!(long.effects(own).to_string(), effects, "what it has may say anything");
    }
    let (found, reason) = asked(&policy, fetch.clone(), facts(Labels::default(), false, Origin::Unknown));
    assert!(found == Answer::Allow, "{reason}");
    let (found, _) = asked(&policy, fetch, facts(exposed(), false, Origin::Unknown));
    assert_eq!(found, Answer::Ask, "what it wants could say something");
    let begin = request("GET https://git.example.com/acme/app/info/refs?service=git-upload-pack");
    assert_eq!(begin.effects(false).to_string(), "read");

    let download = request("GET https://files.pythonhosted.org/packages/aa/x.whl").plain();
    let (found, reason) = asked(&policy, download, facts(exposed(), false, Origin::Unknown));
    assert!(found == Answer::Allow && reason.contains("of the preset `pip`"), "{reason}");
    let upload = request("POST https://upload.pypi.org/legacy/");
    let (found, reason) = asked(&policy, upload, facts(Labels::default(), false, Origin::Unknown));
    assert!(found == Answer::Deny && reason.contains(", deny: "), "{reason}");
}

#[test]
fn tests_of_policies_can_be_about_requests() {
    let policy = policy();
    let own = ["wiki.corp.example".parse().unwrap()];
    let run = |text: &str| Case::parse(Text { name: "a.toml", text }).unwrap().run(&policy, &own);
    let exposed = "labels = { confidentiality = \"confidential\", integrity = \"web\" }\n";
    for (text, expect) in [
        ("request = \"GET https://api.example.com/repos/acme/app\"", "allow"),
        ("request = \"POST https://api.example.com/repos/acme/app/issues\"\nbody = \"{}\"", "allow"),
        ("request = \"PUT https://api.example.com/a\"\nbody = \"x\"", "ask"),
        ("request = \"GET https://api.example.com/repos/acme/secret/a\"", "deny"),
        ("request = \"GET https://other.example.com/\"\nbecause = [\"unlisted\"]", "deny"),
    ] {
        run(&format!("expect = \"{expect}\"\n{text}")).unwrap();
    }
    for (request, expect) in [
        (
            "request = \"GET https://api.example.com/repos/acme/app\"\nbecause = [\"connect-rule-of-two\"]",
            "ask",
        ),
        (
            "request = \"GET https://api.example.com/repos/acme/app\"\nprompt = \"Read https://api.example.com/repos/acme/app\"",
            "allow",
        ),
        ("request = \"GET https://api.example.com/status\"", "allow"),
        ("request = \"POST https://wiki.corp.example/a\"\nbody = \"x\"", "ask"),
    ] {
        run(&format!("expect = \"{expect}\"\n{exposed}{request}")).unwrap();
    }
    let found = run("request = \"PUT https://api.example.com/a\"\nexpect = \"allow\"").unwrap_err();
    assert!(found.to_string().starts_with("a.toml: expected allow, found ask\n  because "), "{found}");
    for bad in [
        "request = \"GET api.example.com/\"\nexpect = \"deny\"",
        "request = \"GET https://a.example/%2e%2e\"\nexpect = \"deny\"",
        "request = \"GET https://a.example/\"\nmodel = \"a/b\"\nexpect = \"deny\"",
        "model = \"a/b\"\nbody = \"x\"\nexpect = \"deny\"",
    ] {
        assert!(Case::parse(Text { name: "bad.toml", text: bad }).is_err(), "{bad}");
    }
}
