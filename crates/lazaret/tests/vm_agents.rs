//! Real agents at work in a cell, with the scripted model: each edits a file of a workspace.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use demo::scripted::{Action, Script};
use testkit::{CANARY, Lab, Terminal, deadline};

/// A git repository with one file to edit, one that must not go in, and one that is ignored.
fn workspace(lab: &Lab, name: &str) -> PathBuf {
    let folder = lab.path(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("greeting.txt"), "hello\n").unwrap();
    fs::write(folder.join(".env"), "TOKEN=not-for-agents\n").unwrap();
    fs::write(folder.join(".gitignore"), "ignored.txt\n").unwrap();
    fs::write(folder.join("ignored.txt"), "ignored\n").unwrap();
    for args in [&["init", "-q"][..], &["add", "-A", "-f", "greeting.txt", ".env", ".gitignore"]] {
        assert!(Command::new("git").args(args).current_dir(&folder).status().unwrap().success());
    }
    folder
}

fn edits_a_file(name: &str, agent: &str) {
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    lab.agent(name, agent);
    let folder = workspace(&lab, "workspace");
    let path = folder.to_str().unwrap();
    let done = lab.session(&[name, "--workspace", path, "--apply", "change the greeting"], "").expect(0);
    assert_eq!(fs::read_to_string(folder.join("greeting.txt")).unwrap(), "hello from inside\n", "{done:?}");
    assert!(done.stderr.contains("+hello from inside"), "the patch is shown: {}", done.stderr);
    assert!(done.stdout.contains("The greeting says where it comes from."), "{done:?}");
    for request in lab.model.recorded() {
        assert!(!request.body.contains("not-for-agents"), "the .env file went in");
    }
}

#[test]
fn the_built_in_harness_edits_a_file() {
    edits_a_file(
        "builtin-editor",
        "name = \"builtin-editor\"\nharness = \"builtin\"\nmodels = [\"scripted/greeter\"]\n",
    );
}

#[test]
fn claude_code_edits_a_file() {
    edits_a_file(
        "claude-editor",
        "name = \"claude-editor\"\nharness = \"claude-code\"\nmodels = [\"scripted/greeter\"]\n[limits]\nmemory = \"768MiB\"\n",
    );
}

#[test]
fn codex_edits_a_file() {
    edits_a_file(
        "codex-editor",
        "name = \"codex-editor\"\nharness = \"codex\"\nmodels = [\"scripted-responses/greeter\"]\n[limits]\nmemory = \"768MiB\"\n",
    );
}

#[test]
fn claude_code_is_spoken_to_at_a_terminal() {
    let script = Script::new("talker").then(Action::Say { text: "Spoken from inside.".to_owned() });
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), vec![script]);
    lab.agent(
        "talker",
        "name = \"talker\"\nharness = \"claude-code\"\nmodels = [\"scripted/talker\"]\n[limits]\nmemory = \"768MiB\"\n",
    );
    let lazaret = env!("CARGO_BIN_EXE_lazaret");
    let line = format!("stty rows 40 cols 120; {lazaret} run --allow-emulation -it talker; echo code $?");
    let mut terminal = Terminal::run(&lab, &line);
    let waiting = Duration::from_secs(240);
    deadline("Claude Code is ready", waiting, || terminal.seen().contains('❯').then_some(()));
    terminal.keys("say something");
    deadline("it shows what is typed", waiting, || terminal.seen().contains("something").then_some(()));
    terminal.keys("\r");
    deadline("it shows the answer", waiting, || terminal.seen().contains("Spoken").then_some(()));
    assert!(lab.model.recorded().iter().any(|request| format!("{request:?}").contains(CANARY)));
    drop(lab.run(&["stop", "talker"], "").expect(0));
    let seen = terminal.end();
    assert!(seen.contains("code 130") && !seen.contains("Unable to connect"), "{seen}");
}
