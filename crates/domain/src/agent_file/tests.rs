//! What `agent.toml` may say, and how each mistake is told.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

const WHOLE: &str = r#"
name = "mail-clerk"
team = "sales"
harness = "builtin"
models = ["anthropic/claude-sonnet-4-5", "scripted/helper"]
image = "base"
instructions = "Be kind."

[limits]
memory = "1GiB"
cpus = 2
disk = "8GiB"
pids = 100
wall_clock = "15m"
output = "1MiB"
tokens = 2_000_000
"#;

#[test]
fn a_whole_file_reads_into_types() {
    let file = AgentFile::parse(WHOLE).unwrap();
    assert_eq!(file.name.as_str(), "mail-clerk");
    assert_eq!(file.team.as_str(), "sales");
    assert_eq!(file.models.len(), 2);
    assert_eq!(file.limits.memory, ByteSize::mib(1024));
    assert_eq!(file.limits.wall_clock, Span::seconds(900));
    assert_eq!(file.limits.tokens, 2_000_000);
}

#[test]
fn what_is_left_out_has_a_default() {
    let file = AgentFile::parse("name = \"a\"\nharness = { command = [\"sh\"] }").unwrap();
    assert_eq!(file.team.as_str(), "default");
    assert_eq!(file.image.as_str(), "base");
    assert_eq!(file.limits, Limits::default());
    let real =
        AgentFile::parse("name = \"a\"\nharness = \"claude-code\"\nmodels = [\"anthropic/x\"]").unwrap();
    assert_eq!(real.image.as_str(), "claude-code");
}

#[test]
fn rules_keep_their_lines_and_servers_may_refine_who_is_asked() {
    let text = r#"name = "mail-clerk"
models = ["p/m"]

[tools.mail]
allow = ["read_*", "draft_*"]
ask = [
    "send_*",
    "move",
]
deny = ["delete_*"]
approvals = { need = 2, exclude_author = true }

[tools.calendar]
allow = ["list"]

[approvals]
from = "sales-leads"
within = "2h"
"#;
    let file = AgentFile::parse(text).unwrap();
    let [mail, calendar] = file.tools.as_slice() else { panic!("two servers") };
    assert_eq!((mail.server.as_str(), mail.line), ("mail", 4));
    let rules: Vec<(Answer, &str, usize)> =
        mail.rules.iter().map(|rule| (rule.answer, rule.pattern.as_str(), rule.line)).collect();
    let expected = [
        (Answer::Allow, "read_*", 5),
        (Answer::Allow, "draft_*", 5),
        (Answer::Ask, "send_*", 7),
        (Answer::Ask, "move", 8),
        (Answer::Deny, "delete_*", 10),
    ];
    assert_eq!(rules, expected);
    let whole = ApprovalRule {
        from: Some("sales-leads".parse().unwrap()),
        within: Span::seconds(7200),
        ..ApprovalRule::default()
    };
    assert_eq!((&file.approvals, &calendar.approvals), (&whole, &whole));
    assert_eq!(mail.approvals, ApprovalRule { need: 2, exclude_author: true, ..whole });
    assert_eq!(mail.approvals.to_string(), "2 of sales-leads within 2h, not the author of the prompt");
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let minimal = "name = \"a\"\nmodels = [\"p/m\"]\n";
    let with = |rest: &str| format!("{minimal}{rest}");
    let cases = [
        String::new(),
        "name = \"a\"".to_owned(),
        "name = ".to_owned(),
        "name = \"a\"\nname = \"b\"".to_owned(),
        "name = \"../etc\"\nmodels = [\"p/m\"]".to_owned(),
        "name = 7\nmodels = [\"p/m\"]".to_owned(),
        with("modles = [\"p/m\"]"),
        with("colour = \"blue\""),
        with("harness = \"claude\""),
        with("harness = \"vim\""),
        with("harness = 3"),
        with("harness = { acp = [\"a\"], command = [\"b\"] }"),
        with("harness = { acp = [] }"),
        with("harness = { cmd = [\"a\"] }"),
        with("image = \"a b\""),
        with("instructions = [\"a\"]"),
        with("limits = 5"),
        with("tools = 5"),
        with("[tools]\nmail = 5"),
        with("[tools.Mail]\nallow = [\"read_*\"]"),
        with("[tools.mail]\nalow = [\"read_*\"]"),
        with("[tools.mail]\nallow = \"read_*\""),
        with("[tools.mail]\nallow = [\"read.*\"]"),
        with("[tools.mail]\nallow = [\"read_*\", \"read_*\"]"),
        with("[tools.mail]\napprovals = { need = 0 }"),
        with("approvals = 2"),
        with("[approvals]\nneed = 17"),
        with("[approvals]\nfrom = \"Sales\""),
        with("[approvals]\nwithin = \"1s\""),
        with("[approvals]\nwithin = \"31d\""),
        with("[approvals]\nexclude_author = 1"),
        with("[approvals]\nquorum = 2"),
        with("[secrets]\ngithub = []"),
        with("[secrets]\ngithub = \"https://api.github.com\""),
        with("[secrets]\ngithub = [\"api.github.com\"]"),
        with("[secrets]\ngithub = [\"https://*.github.com\"]"),
        with("[secrets]\ngithub = [\"https://a\", \"https://a/\"]"),
        with("[secrets]\nGitHub = [\"https://a\"]"),
        with("[secrets]\ngithub = { variable = \"GITHUB_TOKEN\" }"),
        with("[secrets]\ngithub = { to = [\"https://a\"], variable = \"LD_PRELOAD\" }"),
        with("[secrets]\ngithub = { to = [\"https://a\"], variable = \"a b\" }"),
        with("[secrets]\ngithub = { to = [\"https://a\"], variables = \"A\" }"),
        with(
            "[secrets]\na = { to = [\"https://a\"], variable = \"T\" }\nb = { to = [\"https://b\"], variable = \"T\" }",
        ),
        with("secrets = 1"),
        "name = \"a\"\nmodels = [\"sonnet\"]".to_owned(),
        "name = \"a\"\nmodels = [\"p/m\", \"p/m\"]".to_owned(),
        "name = \"a\"\nmodels = \"p/m\"".to_owned(),
        "name = \"a\"\nharness = \"codex\"\nmodels = []".to_owned(),
    ];
    insta::assert_snapshot!(told(&cases));
}

#[test]
fn every_mistake_in_a_limit_is_told_with_its_place() {
    let limit = |rest: &str| format!("name = \"a\"\nmodels = [\"p/m\"]\n[limits]\n{rest}");
    let cases = [
        limit("memory = 512"),
        limit("memory = \"512MB\""),
        limit("memory = \"64MiB\""),
        limit("cpus = 0"),
        limit("cpus = -1"),
        limit("cpus = 1.5"),
        limit("cpus = \"2\""),
        limit("disk = \"2TiB\""),
        limit("pids = 1"),
        limit("wall_clock = \"8d\""),
        limit("wall_clock = \"1 hour\""),
        limit("output = \"1B\""),
        limit("tokens_per_day = \"5k\""),
        limit("usd_per_day = \"20\""),
        limit("usd_per_day = -1"),
        limit("usd_per_day = inf"),
        limit("usd_per_day = 1e9"),
        limit("memroy = \"1GiB\""),
    ];
    insta::assert_snapshot!(told(&cases));
}

/// How each case is told, after what it is told of.
fn told(cases: &[String]) -> String {
    let mut told = String::new();
    for case in cases {
        let error = AgentFile::parse(case).expect_err(case);
        let last = case.rsplit_once("[\"p/m\"]\n").map_or(case.as_str(), |(_, rest)| rest);
        writeln!(told, "{}\n  {error}", last.replace('\n', " ⏎ ")).unwrap();
        if let Some(hint) = error.hint {
            writeln!(told, "  hint: {hint}").unwrap();
        }
    }
    told
}

#[test]
fn secrets_are_named_with_their_places_and_lines() {
    let text = "name = \"a\"\nmodels = [\"p/m\"]\n[secrets]\nnpm = [\"https://npm.example\"]\ngithub = [\"https://api.github.com/repos/acme\", \"https://api.github.com:8443\"]\n";
    let file = AgentFile::parse(text).unwrap();
    let told: Vec<(usize, String, usize)> =
        file.secrets.iter().map(|used| (used.line, used.secret.to_string(), used.to.len())).collect();
    assert_eq!(told, [(4, "npm".to_owned(), 1), (5, "github".to_owned(), 2)]);
    assert_eq!(file.secrets[1].to[0].path(), "/repos/acme");
    assert!(AgentFile::parse("name = \"a\"\nmodels = [\"p/m\"]").unwrap().secrets.is_empty());
    let text = "name = \"a\"\nmodels = [\"p/m\"]\n[secrets]\ngithub = { to = [\"https://api.github.com\"], variable = \"GITHUB_TOKEN\" }\n";
    let file = AgentFile::parse(text).unwrap();
    assert_eq!(file.secrets[0].variable.as_ref().unwrap().as_str(), "GITHUB_TOKEN");
    assert_eq!(file.secrets[0].to.len(), 1);
}

#[test]
fn money_is_read_to_the_millionth() {
    for (text, micros) in
        [("20", 20_000_000), ("0.1", 100_000), ("1_000.5", 1_000_500_000), ("0", 0), ("1e-7", 1)]
    {
        let file = format!("name = \"a\"\nmodels = [\"p/m\"]\n[limits]\nusd_per_day = {text}");
        let limit = AgentFile::parse(&file).unwrap().limits.usd_per_day;
        assert_eq!(limit, Some(UsdMicros::micros(micros)), "{text}");
    }
    assert_eq!(AgentFile::parse("name = \"a\"\nmodels = [\"p/m\"]").unwrap().limits.usd_per_day, None);
    assert_eq!(UsdMicros::micros(1_500_000).to_string(), "$1.5");
    assert_eq!(UsdMicros::micros(20_000_000).to_string(), "$20");
}

#[test]
fn the_first_problem_in_the_text_is_told() {
    let error = AgentFile::parse("x = 1\nname = 7\n").unwrap_err();
    assert_eq!((error.line, error.column), (1, 1));
}

#[test]
fn a_file_that_is_too_long_is_refused_before_it_is_read() {
    assert!(AgentFile::parse(&"#".repeat(AgentFile::MAX_BYTES + 1)).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let in_place = AgentFile::parse(&text);
        if let Err(error) = in_place {
            prop_assert!(error.line >= 1 && error.column >= 1);
        }
    }

    #[test]
    fn no_damage_to_a_good_file_makes_it_panic(at in 0..WHOLE.len(), with in "\\PC{0,3}", cut in 0..8_usize) {
        let mut damaged: Vec<char> = WHOLE.chars().collect();
        let end = (at + cut).min(damaged.len());
        damaged.splice(at..end, with.chars());
        let damaged: String = damaged.into_iter().collect();
        if let Err(error) = AgentFile::parse(&damaged) {
            prop_assert!(error.line <= damaged.matches('\n').count() + 1);
        }
    }
}

#[test]
fn egress_rules_keep_their_lines_and_limits() {
    let file = AgentFile::parse(
        "name = \"a\"\nmodels = [\"p/m\"]\n[egress]\ndeny = [\"* https://a.example/x\"]\nallow = [\n  \"GET https://a.example/**\",\n]\nbody = \"2MiB\"\napprovals = { need = 2 }\n",
    )
    .unwrap();
    let egress = file.egress.unwrap();
    let rules: Vec<_> = egress.rules.iter().map(|rule| (rule.answer, rule.line)).collect();
    assert_eq!(rules, [(Answer::Deny, 4), (Answer::Allow, 6)]);
    assert_eq!((egress.body, egress.requests_per_minute, egress.approvals.need), (ByteSize::mib(2), 600, 2));
    assert_eq!(AgentFile::parse("name = \"a\"\nmodels = [\"p/m\"]\n").unwrap().egress, None);
}

#[test]
fn every_mistake_of_egress_is_told_with_its_place() {
    let with = |rest: &str| format!("name = \"a\"\nmodels = [\"p/m\"]\n{rest}");
    insta::assert_snapshot!(told(&[
        with("egress = true"),
        with("[egress]\nalow = []"),
        with("[egress]\nallow = [\"https://a.example/\"]"),
        with("[egress]\nallow = [\"* https://a.example/\"]"),
        with("[egress]\nask = [\"GET https://*.com/**\"]"),
        with("[egress]\nask = [\"GET https://a.example/a%2Fb\"]"),
        with("[egress]\nallow = [\"GET https://a.example/\", \"GET https://a.example/\"]"),
        with("[egress]\nask = [\"PUSH https://a.example/b refs/heads/c no-ci\"]"),
        with("[egress]\nbody = 5"),
        with("[egress]\nrequests_per_minute = 0"),
        with("[egress]\nbytes_out_per_day = \"2TiB\""),
    ]));
}
