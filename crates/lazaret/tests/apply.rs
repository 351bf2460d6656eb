//! `lazaret agent apply` and `agent show` against a real daemon: whoever accepts an agent's files sees all that they ask
//! for, and what is new in them.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs;

use serde_json::Value;
use testkit::Lab;

const COURIER: &str = r#"name = "courier"
harness = { command = ["true"] }
image = "base"
[tools.mail]
allow = ["search", "draft_*"]
ask = ["send_draft"]
[egress]
presets = ["npm"]
allow = ["FETCH https://git.example/acme/app"]
[secrets]
npm = ["https://registry.npmjs.org"]
"#;

/// The courier after one edit of three kinds: a tool, a way out with a word about what runs there, a place of a secret.
fn edited() -> String {
    COURIER
        .replace("ask = [\"send_draft\"]", "ask = []")
        .replace("\"draft_*\"]", "\"draft_*\", \"send_draft\"]")
        .replace("acme/app\"]", "acme/app\", \"PUSH https://git.example/acme/app refs/heads/agent/* no-ci\"]")
        .replace("[secrets]\n", "[secrets]\ngit = [\"https://git.example\"]\n")
}

const MAILBOX: [&str; 11] = [
    "server",
    "add",
    "mail",
    "--imap",
    "imaps://mail.example",
    "--smtp",
    "smtps://mail.example",
    "--user",
    "clerk@mail.example",
    "--password",
    "secret:mail",
];

/// A laboratory that knows a mailbox.
fn lab() -> Lab {
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    drop(
        lab.run(
            &[
                "secret",
                "set",
                "mail",
                "--to",
                "imaps://mail.example",
                "--to",
                "smtps://mail.example",
                "--as",
                "password",
            ],
            "open sesame",
        )
        .expect(0),
    );
    drop(lab.run(&MAILBOX, "").expect(0));
    lab
}

fn json(lab: &Lab, args: &[&str]) -> Value {
    serde_json::from_str(&lab.run(args, "").expect(0).stdout).unwrap()
}

/// The lines of the files with this mark, as JSON has them.
fn marked(asked: &Value, mark: &str) -> Vec<String> {
    let terms = asked["terms"].as_array().unwrap().iter().filter(|term| term["mark"] == mark);
    let text = |term: &Value, key: &str| term[key].as_str().unwrap().to_owned();
    terms.map(|term| format!("{} {}", text(term, "place"), text(term, "says"))).collect()
}

fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` in\n{text}");
    }
}

#[test]
fn whoever_applies_an_agent_first_sees_all_that_it_asks_for() {
    let lab = lab();
    lab.agent("courier", &edited());
    let refused = lab.run(&["agent", "apply", "courier"], "");
    assert_eq!(refused.code(), 1, "without a terminal nobody agrees");
    holds(&refused.stderr, &["no terminal to ask at"]);
    holds(
        &refused.stdout,
        &[
            "courier: nothing of it was applied before, so all of it is new\n",
            "+ harness        command 0: true\n",
            "+ image          base\n",
            "+ [limits]       memory 512MiB\n",
            "                 tokens_per_day 20000000\n".trim_start(),
            "+ [approvals]    asked are 1 of the owners within 4h\n",
            "+ [tools.mail]   allow search\n",
            "allow send_draft\n",
            "+ [egress]       allow FETCH https://git.example/acme/app\n",
            "allow PUSH https://git.example/acme/app refs/heads/agent/* no-ci\n",
            "! no-ci: your word that nothing runs at the host on such a push; nobody is asked",
            "preset npm: packages of the public registry: reading; no publishing, no tokens (4 rules that allow, 0 that ask, 6",
            "bytes_out_per_day 64MiB of all sessions\n",
            "+ [secrets]      git goes to https://git.example\n",
            "npm goes to https://registry.npmjs.org\n",
            "+ allow mail__send_draft  NEW\n    ! effects: ",
            "+ allow mail__search  NEW\n      effects: read\n",
        ],
    );
    assert!(!refused.stdout.contains("mail__delete"), "{}", refused.stdout);
    let asked = json(&lab, &["agent", "apply", "courier", "--json"]);
    assert_eq!((&asked["earlier"], &asked["applied"]), (&"never".into(), &false.into()));
    assert_eq!(marked(&asked, "kept").len() + marked(&asked, "gone").len(), 0, "{asked}");
    let new = marked(&asked, "new").join("\n");
    holds(
        &new,
        &[
            "[egress] allow PUSH https://git.example",
            "[secrets] git goes to https://git.example\n",
            "[egress] preset npm",
        ],
    );
    let tools = asked["tools"].as_array().unwrap();
    let send = tools.iter().find(|tool| tool["tool"] == "mail__send_draft").unwrap();
    assert_eq!((&send["answer"], &send["pin"]), (&"allow".into(), &"new".into()));

    // Until then it doesn't start, and that is what is said of it.
    let waits = lab.run(&["agent", "show", "courier"], "").expect(0).stdout;
    holds(&waits, &["NOT applied", "lazaret agent apply courier", "allow PUSH https://git.example/acme/app"]);
    drop(lab.session(&["courier"], "").expect(126));
    drop(lab.run(&["agent", "apply", "courier", "--yes"], "").expect(0));
    let shown = lab.run(&["agent", "show", "courier"], "").expect(0).stdout;
    holds(
        &shown,
        &[
            "its files were applied\n",
            "  [egress]       allow FETCH https://git.example/acme/app\n",
            "git goes to https://git.example\n",
            "  approved       mail__draft_create\n",
            "tokens_per_day 20000000\n",
            "allow send_draft",
        ],
    );
    assert_eq!(json(&lab, &["agent", "show", "courier", "--json"])["counts"], "applied");
    let again = lab.run(&["agent", "apply", "courier"], "").expect(0);
    holds(&again.stdout, &["exactly this was applied", "  [secrets]      git goes to https://git.example\n"]);
    assert!(!again.stdout.lines().any(|line| line.starts_with('+')), "{}", again.stdout);
}

#[test]
fn of_one_edit_of_three_kinds_each_is_shown_and_marked() {
    let lab = lab();
    lab.agent("courier", COURIER);
    drop(lab.run(&["agent", "apply", "courier", "--yes"], "").expect(0));
    lab.agent("courier", &edited());
    let asked = json(&lab, &["agent", "apply", "courier", "--json"]);
    assert_eq!((&asked["earlier"], &asked["applied"]), (&"known".into(), &false.into()));
    let new = [
        "[tools.mail] allow send_draft",
        "[egress] allow PUSH https://git.example/acme/app refs/heads/agent/* no-ci",
        "[secrets] git goes to https://git.example",
    ];
    assert_eq!(marked(&asked, "new"), new);
    assert_eq!(marked(&asked, "gone"), ["[tools.mail] ask   send_draft"]);
    let change = &asked["change"];
    assert_eq!((&change["verdict"], &change["wider"]["more"]), (&"wider".into(), &0.into()), "{change}");
    let possible = [
        "the secret git could not go to https://git.example, and now may",
        "POST https://git.example/acme/app/git-receive-pack refs/heads/agent/any was denied, is now allowed, and taken to run \
         nothing at the host (`no-ci`)",
        "mail__send_draft in a session that is ",
    ];
    let wider: Vec<&str> =
        change["wider"]["calls"].as_array().unwrap().iter().map(|call| call.as_str().unwrap()).collect();
    holds(&wider.join("\n"), &possible);

    let told = lab.run(&["agent", "apply", "courier"], "").expect(1).stdout;
    holds(
        &told,
        &[
            "+ is new and - is gone",
            "its files are: wider\n",
            "+ [secrets]      git goes to https://git.example\n                   ! what the secret opens there",
        ],
    );
    for line in ["allow send_draft", "allow PUSH https://git.example/acme/app refs/heads/agent/* no-ci"] {
        assert!(told.lines().any(|told| told.starts_with('+') && told.ends_with(line)), "{line}: {told}");
    }
    assert!(told.lines().any(|line| line.starts_with('-') && line.ends_with("ask   send_draft")), "{told}");
    for call in possible {
        assert!(told.contains(&format!("  possible now  {call}")), "{call}: {told}");
    }
    // What counts meanwhile is what was applied.
    let shown = lab.run(&["agent", "show", "courier"], "").expect(0).stdout;
    holds(&shown, &["were CHANGED", "lazaret agent apply courier", "ask   send_draft"]);
    assert!(!shown.contains("no-ci") && !shown.contains("git goes to"), "{shown}");
    drop(lab.session(&["courier"], "").expect(126));

    // What is shown is what is applied.
    drop(lab.run(&["agent", "apply", "courier", "--yes"], "").expect(0));
    assert_eq!(json(&lab, &["agent", "show", "courier", "--json"])["counts"], "applied");
    lab.agent("courier", &edited().replace("npm = [\"https://registry.npmjs.org\"]\n", ""));
    let narrower = json(&lab, &["agent", "show", "courier", "--json"]);
    assert_eq!(narrower["counts"], "narrower", "and so nobody need apply it");
    let shown = lab.run(&["agent", "show", "courier"], "").expect(0).stdout;
    assert!(shown.contains("allow no more") && !shown.contains("npm goes to"), "{shown}");
    // To look asks no server: without a list at hand it isn't known.
    drop(lab.run(&MAILBOX, "").expect(0));
    assert_eq!(json(&lab, &["agent", "show", "courier", "--json"])["counts"], "waiting");
    drop(lab.run(&["server", "show", "mail"], "").expect(0));
    assert_eq!(json(&lab, &["agent", "show", "courier", "--json"])["counts"], "narrower");
}

#[test]
fn rules_in_cedar_are_shown_whole_or_not_applied_and_ones_that_no_tool_fits_any_more_can_be_replaced() {
    let lab = lab();
    let cedar = lab.path("config/lazaret/agents/courier/policy.cedar");
    lab.agent("courier", COURIER);
    let forbid = "forbid (principal, action == Action::\"mail__search\", resource) when { context.calls_today > 9 };\n";
    fs::write(&cedar, forbid.to_owned() + &"// x\n".repeat(400)).unwrap();
    let cut = lab.run(&["agent", "apply", "courier", "--yes"], "").expect(1);
    holds(&cut.stdout, &["+ policy.cedar   forbid (principal", "… 1 more lines: --all shows them"]);
    holds(&cut.stderr, &["1 lines of it were not shown", "lazaret agent apply courier --all"]);
    drop(lab.run(&["agent", "apply", "courier", "--yes", "--all"], "").expect(0));
    fs::write(&cedar, "permit (principal, action == Action::\"mail__read\", resource);\n").unwrap();
    let told = lab.run(&["agent", "apply", "courier", "--yes", "--all"], "").expect(0).stdout;
    holds(
        &told,
        &[
            "+ policy.cedar   permit (principal",
            "! what it permits needs no line in agent.toml",
            "+ cedar mail__read  NEW\n    ! no rule of agent.toml names it",
            "the rules in Cedar changed",
        ],
    );

    // Without its server, the rules that were applied don't fit the tools there are.
    fs::remove_file(&cedar).unwrap();
    let (head, tail) = (COURIER.split("[tools").next().unwrap(), COURIER.split("[egress]").nth(1).unwrap());
    lab.agent("courier", &format!("{head}[egress]{tail}"));
    let told = lab.run(&["agent", "apply", "courier", "--yes"], "").expect(0).stdout;
    holds(&told, &["- [tools.mail]   allow search", "can't be compared"]);
    fs::write(&cedar, "// x\n".repeat(60_000)).unwrap();
    let refused = lab.run(&["agent", "apply", "courier", "--yes"], "").expect(1);
    holds(&refused.stderr, &["policy.cedar", "more than 262144 bytes"]);
}

#[test]
fn rules_in_cedar_hold_for_an_agent_that_is_run_by_its_folder() {
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    let folder = lab.path("home/mine");
    fs::create_dir(&folder).unwrap();
    fs::write(
        folder.join("agent.toml"),
        "name = \"mine\"\nharness = { command = [\"true\"] }\nimage = \"base\"\n",
    )
    .unwrap();
    fs::write(folder.join("policy.cedar"), "\nforbid (principal, action == Action::\"modle\", resource);\n")
        .unwrap();
    let refused = lab.session(&["./mine"], "").expect(126);
    holds(&refused.stderr, &["policy.cedar:2: "]);
    let shown = lab.run(&["agent", "show", "./mine"], "").expect(0).stdout;
    holds(&shown, &["policy.cedar   forbid (principal", "[egress]       none: nothing leaves its cell"]);
    assert_eq!(json(&lab, &["agent", "show", "./mine", "--json"])["counts"], "freely");
}

#[test]
fn a_tool_server_that_is_changed_keeps_its_teams_and_what_was_said_of_its_tools() {
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    let add = |more: &[&str]| {
        let url = ["server", "add", "crm", "--url", "https://crm.example/mcp"];
        lab.run(&[&url[..], more].concat(), "").expect(0).stderr
    };
    let entry = || json(&lab, &["server", "ls", "--json"])[0].clone();
    assert!(!add(&["--team", "sales", "--table", "hubspot"]).contains("keeps"));
    let before = entry();
    let told = add(&["--secret", "crm"]);
    assert!(told.contains("it keeps what was not said anew: teams sales, table hubspot"), "{told}");
    let now = entry();
    assert_eq!(
        (&now["teams"], &now["table"], &now["secret"]),
        (&before["teams"], &before["table"], &"crm".into())
    );
    add(&["--team", "support"]);
    assert_eq!(entry()["teams"], serde_json::json!(["support"]));
    // Of another server nothing is known.
    let told =
        lab.run(&["server", "add", "crm", "--url", "https://elsewhere.example/mcp"], "").expect(0).stderr;
    holds(
        &told,
        &["it keeps what was not said anew: teams support;", "table hubspot is dropped", "`--table hubspot`"],
    );
    assert_eq!((&entry()["table"], &entry()["teams"]), (&Value::Null, &serde_json::json!(["support"])));

    // A newer version of a package is the same program, another program in an image isn't.
    let add = |image: &str, more: &[&str]| {
        lab.run(&[&["server", "add", "crm", "--image", image], more].concat(), "").expect(0).stderr
    };
    add("pypi:mcp-server-time==2026.10.19", &["--table", "filesystem", "--", "mcp-server-time"]);
    let told = add("pypi:mcp-server-time==2026.11.1", &["--", "mcp-server-time"]);
    holds(&told, &["teams support, table filesystem"]);
    add("base", &["--table", "filesystem", "--", "prog-a"]);
    let told = add("base", &["--", "prog-b"]);
    holds(&told, &["table filesystem is dropped: it says what the tools of another server or program do"]);
    assert_eq!(entry()["table"], Value::Null);
}
