//! The demo's second act in a real cell: the agent obeys a stranger's mail, and is stopped at the send.

use serde_json::Value;
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
