//! The demo's second and third act in real cells: an agent obeys a stranger's mail and is stopped at the send; one has keys
//! that it can't find, and gets nothing out but what it may push.

use serde_json::{Value, json};
use testkit::Lab;

#[test]
fn the_demo_shows_a_stranger_s_mail_stopped_by_a_person_and_leaves_no_trace() {
    let lab = Lab::without_daemon(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    let shown = lab.run(&["demo", "--act", "2", "--json"], "").expect(0).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let question = shown["mail"]["question"].as_str().unwrap();
    for part in [
        "mail-clerk wants mail__send (irreversible + communicate)",
        "\"to\": \"archive@harbour-backup.example\"",
        "/to: a stranger's text (mail__read)",
        "it can't be undone",
        "built-in, effects: ",
        "built-in, rule-of-two: ",
    ] {
        assert!(question.contains(part), "{part}: {question}");
    }
    assert_eq!(shown["mail"]["sent"], 0);
    assert!(shown["mail"]["ledger"].as_str().unwrap().contains("are as they were written"), "{shown}");
    assert!(!lab.data().join("data/lazaret/agents/mail-clerk").exists(), "the demo left the agent's disk");
    for name in ["config/lazaret/servers.toml", "state/lazaret"] {
        assert!(!lab.path(name).exists(), "the demo left {name}");
    }
}

#[test]
fn the_demo_s_courier_pushes_with_a_key_that_it_can_not_find_and_gets_nothing_else_out() {
    let lab = Lab::without_daemon(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    let shown = lab.run(&["demo", "--act", "3", "--json"], "").expect(0).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let errand = &shown["errand"];
    assert_eq!(errand["branches"], json!(["refs/heads/agent/fix", "refs/heads/main"]));
    let question = errand["question"].as_str().unwrap();
    for part in [
        "courier wants mail__send_draft (irreversible + communicate)",
        "mirror@harbour-backup.example: a stranger's text (mail__search)",
        "def slug(title):",
        "built-in, rule-of-two: ",
    ] {
        assert!(question.contains(part), "{part}: {question}");
    }
    assert_eq!((&errand["drafts"], &errand["sent"], &errand["collected"]), (&json!(1), &json!(0), &json!(0)));
    assert_eq!(errand["learned"], json!(["GET https://pypi.org/simple/idna/"]));
    let attempts = errand["attempts"].as_array().unwrap();
    let fates = |fate: &str| attempts.iter().filter(|attempt| attempt["fate"] == fate).count();
    assert_eq!((fates("refused"), fates("dropped")), (11, 1), "{errand}");
    assert!(errand["searched"].as_u64().unwrap() > 1 << 20, "{errand}");
}
