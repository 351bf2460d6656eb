//! A policy that is held within another, and one that is closed.

use std::sync::Arc;

use domain::{Answer, Origin, Scheme, Target};
use policy::{
    AgentPolicy, Body, Call, Connect, ConnectFacts, Counts, Decision, ModelCall, ModelFacts, decide,
};
use serde_json::json;

use crate::common::*;

fn with(clerk: &str, rest: &str) -> AgentPolicy {
    compile(&clerk.replace("[approvals]", &format!("{rest}\n[approvals]")), None, &[]).unwrap()
}

fn old() -> AgentPolicy {
    with(
        CLERK,
        r#"
[egress]
allow = ["GET https://a.example/**", "GET https://b.example/**", "GET https://c.example/**"]
ask = ["GET https://e.example/**"]
requests_per_minute = 10
[secrets]
one = ["https://a.example", "https://b.example"]
two = ["https://a.example"]"#,
    )
}

fn newer() -> AgentPolicy {
    with(
        CLERK,
        r#"
[egress]
allow = ["GET https://a.example/**", "GET https://d.example/**", "GET https://e.example/**"]
ask = ["GET https://b.example/**"]
requests_per_minute = 20
body = "1KiB"
[secrets]
one = ["https://a.example"]
three = ["https://a.example"]"#,
    )
}

fn decided(policy: &AgentPolicy, host: &str) -> Decision<Connect> {
    let target = format!("GET https://{host}.example/x").parse().unwrap();
    let action = Connect { target, headers: Vec::new(), push: None, body: Body::None };
    let labels = domain::Labels::default();
    let facts = ConnectFacts { labels, origin: Origin::Unknown, own: false, calls: Counts::default() };
    decide(policy, Call { action, facts })
}

fn answer(policy: &AgentPolicy, host: &str) -> (Answer, String) {
    match decided(policy, host) {
        Decision::Allow(_) => (Answer::Allow, String::new()),
        Decision::Ask(question) => (Answer::Ask, question.reasons()[0].to_string()),
        Decision::Deny(reasons) => (Answer::Deny, reasons[0].to_string()),
    }
}

fn may_carry(policy: &AgentPolicy, host: &str) -> Vec<String> {
    let host = format!("{host}.example");
    let to = Target { scheme: Scheme::Https, host: &host, port: 443, method: "GET", path: "/" };
    policy.secrets_for(&to).iter().map(|used| used.secret.to_string()).collect()
}

#[test]
fn a_policy_within_another_allows_what_both_allow() {
    let held = old().within(Arc::new(newer()));
    for (host, expected) in [
        ("a", Answer::Allow),
        ("b", Answer::Ask),
        ("c", Answer::Deny),
        ("d", Answer::Deny),
        ("e", Answer::Ask),
    ] {
        assert_eq!(answer(&held, host).0, expected, "{host}");
    }
    assert_eq!(may_carry(&held, "a"), ["one"]);
    assert_eq!(may_carry(&held, "b"), [""; 0]);
    let limits = held.egress_limits().unwrap();
    assert_eq!((limits.requests_per_minute, limits.body.as_u64()), (10, 1024));
    // What ends egress ends it.
    assert_eq!(old().within(Arc::new(clerk())).egress_limits(), None);
}

#[test]
fn a_policy_within_another_offers_the_tools_and_models_of_both() {
    let fewer = CLERK.replace("\"search\"", "\"nothing\"");
    let fewer = compile(&fewer, None, &[]).unwrap();
    let (all, held) = (clerk(), clerk().within(Arc::new(fewer.clone())));
    assert!(all.offered().len() > fewer.offered().len(), "{:?}", fewer.offered());
    assert_eq!(held.offered(), fewer.offered());
    let mut session = Session::new("Search for the invoice of Ada.");
    let search = json!({"query": "invoice"});
    assert_eq!(session.answer("search", &search), "allow");
    session.policy = held;
    assert_eq!(session.answer("search", &search), "deny");
    let other = compile(&CLERK.replace("scripted/model", "scripted/other"), None, &[]).unwrap();
    let asked = |policy: &AgentPolicy| {
        let action = ModelCall { model: "scripted/model".parse().unwrap() };
        let facts = ModelFacts { labels: domain::Labels::default(), calls: Counts::default() };
        matches!(decide(policy, Call { action, facts }), Decision::Allow(_))
    };
    assert!(asked(&clerk()) && !asked(&clerk().within(Arc::new(other))));
}

#[test]
fn a_closed_policy_allows_nothing_and_says_why() {
    let closed = old().closed("agent.toml is gone".to_owned());
    let (answered, why) = answer(&closed, "a");
    assert_eq!(answered, Answer::Deny);
    assert!(why.contains("agent.toml is gone"), "{why}");
    assert!(closed.offered().is_empty() && may_carry(&closed, "a").is_empty());
}

/// A newer file that nobody has applied asks no fewer people.
#[test]
fn of_two_that_ask_the_stricter_says_whom() {
    let asks = |approvals: &str| {
        let clerk = CLERK.replace("from = \"sales-leads\"\nneed = 2\n", approvals);
        with(&clerk, "[egress]\nask = [\"GET https://a.example/**\"]\n")
    };
    let need = |policy: &AgentPolicy| match decided(policy, "a") {
        Decision::Ask(question) => Some(question.approvals().need),
        Decision::Allow(_) | Decision::Deny(_) => None,
    };
    let two = || asks("from = \"sales-leads\"\nneed = 2\n");
    assert_eq!(need(&two()), Some(2));
    for (newer, expected) in [
        ("from = \"sales-leads\"\nneed = 2\n", Some(2)),
        ("from = \"sales-leads\"\nneed = 1\n", Some(2)),
        ("from = \"sales-leads\"\nneed = 3\n", Some(3)),
        ("from = \"others\"\nneed = 1\n", None),
        ("from = \"sales-leads\"\nneed = 3\nwithin = \"90h\"\n", None),
    ] {
        assert_eq!(need(&two().within(Arc::new(asks(newer)))), expected, "{newer}");
    }
}
