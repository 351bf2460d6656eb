//! Differences between versions, tests of policies, explanations, and tables written by others.

use domain::AgentFile;
use policy::{Case, Difference, KnownTool, PolicyError, Sources, Table, Text, Verdict, difference, explain};
use serde_json::json;

use crate::common::*;

pub(crate) fn compare(old: &str, new: &str, own: [Option<&str>; 2]) -> Result<Difference, PolicyError> {
    let (old, new) = (AgentFile::parse(old).unwrap(), AgentFile::parse(new).unwrap());
    let tools: Vec<KnownTool> = known();
    let from = |agent, own: Option<&'static str>| Sources {
        agent,
        file: "agent.toml",
        own: own.map(|text| Text { name: "policy.cedar", text }),
        organisation: &[],
        tools: &tools,
        models: &[],
    };
    let own = own.map(|own| own.map(|text| &*Box::leak(text.to_owned().into_boxed_str())));
    difference(&from(&old, own[0]), &from(&new, own[1]))
}

fn change(from: &str, to: &str) -> Difference {
    assert!(CLERK.contains(from), "{from}");
    compare(CLERK, &CLERK.replace(from, to), [None, None]).unwrap()
}

#[test]
fn a_change_is_narrower_wider_both_or_neither() {
    for (from, to, verdict) in [
        ("name = ", "# a comment\nname = ", Verdict::Same),
        ("\"search\", \"read\"", "\"read\", \"search\"", Verdict::Same),
        ("\"delete\"]", "\"delete\", \"empty_*\"]", Verdict::Wider),
        ("\"draft_*\"", "\"draft_*\", \"dra*\"", Verdict::Wider),
        ("\"send\", ", "", Verdict::Narrower),
        ("ask = [\"move\"]", "ask = [\"move\", \"read\"]", Verdict::Narrower),
        ("deny = [\"send_raw\"]", "deny = []\nask = [\"send_raw\"]", Verdict::Wider),
        ("\"send\", ", "\"empty_trash\", ", Verdict::Both),
        ("need = 2", "need = 1", Verdict::Wider),
        ("need = 2", "need = 3", Verdict::Narrower),
        ("from = \"sales-leads\"", "from = \"interns\"", Verdict::Both),
        (
            "models = [\"scripted/model\"]",
            "models = [\"scripted/model\", \"scripted/other\"]",
            Verdict::Wider,
        ),
    ] {
        let to =
            if from.starts_with("deny") { to.replace("\nask = [\"send_raw\"]", "") } else { to.to_owned() };
        let (from, to) = if from.starts_with("deny") {
            (
                "ask = [\"move\"]\ndeny = [\"send_raw\"]".to_owned(),
                format!("ask = [\"move\", \"send_raw\"]\n{to}"),
            )
        } else {
            (from.to_owned(), to)
        };
        let found = change(&from, &to);
        assert_eq!((found.verdict, found.certain), (verdict, true), "{from} → {to}: {found:?}");
    }
}

#[test]
fn a_wider_change_is_shown_by_a_call_that_became_possible() {
    let found = change("\"delete\"]", "\"delete\", \"empty_trash\"]");
    assert_eq!(
        found.wider.told,
        [
            "mail__empty_trash in a session that is public, person, to a recipient of person origin, in the person's own \
             words was denied, is now allowed",
            "mail__empty_trash in a session that is public, person, to a recipient of person origin, in other words was \
             denied, is now asked"
        ],
        "each step once"
    );
    let found = change("\"draft_*\"", "\"d*\"");
    assert!(found.wider.told.iter().any(|call| call.starts_with("mail__d in a session")), "{found:?}");
}

#[test]
fn a_secret_that_may_go_further_is_wider() {
    let with = |places: &str| format!("{CLERK}\n[secrets]\n{places}\n");
    let (narrow, wide) = ("github = [\"https://a.example/x\"]", "github = [\"https://a.example\"]");
    for (old, new, verdict) in [
        (CLERK.to_owned(), with(narrow), Verdict::Wider),
        (with(narrow), CLERK.to_owned(), Verdict::Narrower),
        (with(narrow), with(wide), Verdict::Wider),
        (with(wide), with(narrow), Verdict::Narrower),
        (with(wide), with(&format!("\n# moved\n{wide}")), Verdict::Same),
        (with(wide), with("npm = [\"https://a.example\"]"), Verdict::Both),
        (with(wide), with("github = [\"https://a.example:8443\"]"), Verdict::Both),
    ] {
        assert_eq!(compare(&old, &new, [None, None]).unwrap().verdict, verdict, "{old} → {new}");
    }
    let found = compare(CLERK, &with(narrow), [None, None]).unwrap();
    let told = "the secret github could not go to https://a.example/x, and now may";
    assert_eq!(found.wider.told, [told]);
}

#[test]
fn an_edit_of_many_kinds_is_told_of_each_and_in_the_same_order_each_time() {
    let old = format!(
        "{CLERK}\n[egress]\npresets = [\"npm\"]\nallow = [\"GET https://a.example/**\"]\nask = [\"PUT https://a.example/x\"]\n\
         [secrets]\nold = [\"https://old.example\"]\n"
    );
    let new = old
        .replace("\"delete\"]", "\"delete\", \"empty_trash\", \"archive\"]")
        .replace("need = 2", "need = 1")
        .replace("[\"scripted/model\"]", "[\"scripted/model\", \"scripted/other\"]")
        .replace(
            "\"GET https://a.example/**\"",
            "\"GET,POST https://a.example/**\", \"PUSH https://g.example/app refs/heads/a/* no-ci\"",
        )
        .replace("[\"npm\"]", "[\"pip\"]")
        .replace(
            "old = [\"https://old.example\"]",
            "git = [\"https://g.example/app\", \"https://h.example\"]",
        )
        .replace("name = ", "image = \"codex\"\nname = ")
        + "[limits]\nmemory = \"1GiB\"\npids = 64\n";
    let found = compare(&old, &new, [None, None]).unwrap();
    assert_eq!((found.verdict, found.certain), (Verdict::Both, true));
    let starts = [
        "the secret git could not go to https://g.example/app, and now may",
        "the secret git could not go to https://h.example, and now may",
        // Not GET, which was allowed before.
        "POST https://a.example/any/thing was denied, is now allowed, by `GET,POST https://a.example/**`",
        "POST https://g.example/app/git-receive-pack refs/heads/a/any was denied, is now allowed, and taken to run nothing",
        "GET https://pypi.org/simple/any/thing was denied, is now allowed, by `GET,HEAD https://pypi.org/simple/**` (preset \
         pip, and 3 more of its rules)",
        "its image was base, is now codex",
        "[limits] `memory` was 512MiB, is now 1GiB",
        "[limits] `pids` was 256, is now 64",
        "mail__archive in a session that is public, person",
        "mail__archive in a session that is public, person",
        "mail__empty_trash in a session that is public, person",
        "mail__empty_trash in a session that is public, person",
    ];
    for start in starts {
        assert!(found.wider.told.iter().any(|call| call.starts_with(start)), "{start}: {found:#?}");
    }
    let others: Vec<&String> =
        found.wider.told.iter().filter(|call| !starts.iter().any(|start| call.starts_with(start))).collect();
    assert!(
        others.iter().all(|call| call.contains("asked were 2") || call.starts_with("scripted/other")),
        "{others:#?}"
    );
    assert!(others.len() >= 2, "{others:#?}");
    for start in [
        "the secret old could go to https://old.example, and now may not",
        "GET https://registry.npmjs.org/any is now denied, was allowed",
    ] {
        assert!(found.narrower.told.iter().any(|call| call.starts_with(start)), "{start}: {found:#?}");
    }
    assert_eq!(compare(&old, &new, [None, None]).unwrap(), found);
}

#[test]
fn so_many_calls_that_not_all_are_told_are_counted() {
    let many: Vec<String> = (0..200).map(|at| format!("\"GET https://h{at}.example/\"")).collect();
    let more: Vec<String> = (0..20)
        .map(|at| {
            format!(
                "s{at} = [{}]",
                (0..30).map(|host| format!("\"https://h{host}.example\"")).collect::<Vec<_>>().join(", ")
            )
        })
        .collect();
    let new = format!("{CLERK}\n[egress]\nallow = [{}]\n[secrets]\n{}\n", many.join(", "), more.join("\n"));
    let found = compare(CLERK, &new, [None, None]).unwrap();
    assert_eq!(found.wider.told.len() + found.wider.more, 800);
    assert!(found.wider.more > 0 && found.wider.told.len() >= 100);
}

#[test]
fn rules_in_cedar_that_differ_count_as_wider() {
    let forbid =
        "forbid (principal, action == Action::\"mail__search\", resource) when { context.calls > 9 };";
    let found = compare(CLERK, CLERK, [Some(forbid), None]).unwrap();
    assert_eq!((found.verdict, found.certain), (Verdict::Wider, false));
    let same = compare(CLERK, CLERK, [Some(forbid), Some(forbid)]).unwrap();
    let permit = "permit (principal, action == Action::\"mail__search\", resource) when { context.arguments has most && context.arguments.most == 7 };";
    let (old, new) = (CLERK.replace("deny = [", "deny = [\"search\", "), CLERK.replace("\"search\", ", ""));
    let hidden = compare(&old, &new, [Some(permit), Some(permit)]).unwrap();
    assert_eq!((hidden.verdict, hidden.certain), (Verdict::Wider, true));
    let mask = "forbid (principal, action, resource) when { context.labels.confidentiality >= 0 && context.calls == 0 };";
    let wider = CLERK.replace("\"delete\"]", "\"delete\", \"empty_trash\"]");
    assert_eq!(compare(CLERK, &wider, [Some(mask), Some(mask)]).unwrap().verdict, Verdict::Wider);
    assert_eq!((same.verdict, same.certain), (Verdict::Same, true));
}

#[test]
fn tests_of_policies_pass_or_say_what_was_found() {
    let policy = clerk();
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases")).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        Case::parse(Text { name: &name, text: &text }).unwrap().run(&policy, &[]).unwrap();
    }
    let wrong = "tool = \"mail__send_raw\"\nexpect = \"allow\"";
    let found = Case::parse(Text { name: "wrong.toml", text: wrong }).unwrap().run(&policy, &[]).unwrap_err();
    assert_eq!(
        found.to_string(),
        "wrong.toml: expected allow, found deny\n  because agent.toml:8, deny: `deny = [\"send_raw\"]` of [tools.mail]"
    );
    for bad in [
        "expect = \"allow\"",
        "tool = \"x\"\nexpect = \"allow\"",
        "tool = \"a__b\"\nexpect = \"yes\"",
        "tool = \"a__b\"\nexpect = \"ask\"\nx = 1",
    ] {
        assert!(Case::parse(Text { name: "bad.toml", text: bad }).is_err(), "{bad}");
    }
}

#[test]
fn a_decision_is_explained() {
    let mut session = Session::new("Write to ada@x.org");
    let arguments = json!({"to": ["ada@x.org", "eve@x.org"], "body": "a\nb"});
    let row = session.policy.row(&tool("send")).unwrap().clone();
    let judged = session.seen.judge(&row, &policy::Arguments::new(&arguments).unwrap()).unwrap();
    let told = explain(&session.policy, &call("send", &arguments, labelled(), judged)).to_string();
    assert_eq!(
        told,
        r#"ask: mail__send {"body":"a\nb","to":["ada@x.org","eve@x.org"]}
  effects: irreversible + communicate
  session: confidential, web
  body = "a\nb": text that is not the person's own words
  to/0 = "ada@x.org": recipient, from the person's own words
  to/1 = "eve@x.org": recipient, of unknown origin
  the call is not wholly in the person's own words
  because built-in, effects: it does more than read, and its arguments are not all of trusted origin and in the person's own words
  because built-in, rule-of-two: the session holds confidential data and has met a stranger's text, and this leaves the organisation or can't be undone
"#
    );
}

#[test]
fn the_policy_can_be_read_as_cedar_with_files_and_lines() {
    let cedar = clerk().cedar();
    assert!(cedar.contains("// agent.toml:6\npermit (principal == Agent::\"mail-clerk\", action in Action::\"tool\", resource in Server::\"mail\")\nwhen { resource.name like \"draft_*\" };"));
    assert!(cedar.starts_with("// built-in\n@id(\"effects\")"));
    assert!(clerk().schema().contains("action \"mail__send\" in [\"tool\"]"));
}

#[test]
fn the_benchmarks_tables_are_tables() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../evals/agentdojo/labels");
    let mut read = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            let table = Table::parse(&std::fs::read_to_string(&path).unwrap());
            assert!(table.is_ok_and(|table| !table.tools.is_empty()), "{}", path.display());
            read += 1;
        }
    }
    assert!(read >= 4);
}
