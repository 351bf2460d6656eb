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

/// Has an agent do its work as its maker means it to be run, with nothing of it switched off; what it was refused meanwhile.
fn refused_meanwhile(name: &str, model: &str, image: &str, command: &str) -> String {
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    drop(lab.run(&["image", "build", image], "").expect(0));
    lab.agent(
        name,
        &format!(
            "name = \"{name}\"\nharness = {{ command = [\"sh\", \"-c\", '''{command}''', \"sh\"] }}\nimage = \"{image}\"\n\
             models = [\"{model}\"]\n[limits]\nmemory = \"768MiB\"\n"
        ),
    );
    let folder = workspace(&lab, "workspace");
    let path = folder.to_str().unwrap();
    let done = lab.session(&[name, "--workspace", path, "--apply", "change the greeting"], "").expect(0);
    assert_eq!(fs::read_to_string(folder.join("greeting.txt")).unwrap(), "hello from inside\n", "{done:?}");
    let export = lab.run(&["ledger", "export"], "").expect(0).stdout;
    let refused: Vec<&str> = export.lines().filter(|line| line.contains("egress is closed")).collect();
    refused.join("\n")
}

#[test]
fn telemetry_of_claude_code_is_refused_without_harm() {
    let command = r#"
        export ANTHROPIC_BASE_URL=$LAZARET_MODEL_URL ANTHROPIC_API_KEY=placeholder ANTHROPIC_MODEL=greeter
        exec claude --dangerously-skip-permissions --print -- "$1"
    "#;
    let refused = refused_meanwhile("claude-teller", "scripted/greeter", "claude-code", command);
    assert!(refused.contains("api.anthropic.com/"), "{refused}");
}

#[test]
fn telemetry_of_codex_is_refused_without_harm() {
    let command = r#"
        provider="{name=\"lazaret\",base_url=\"$LAZARET_MODEL_URL/v1\",env_key=\"KEY\",wire_api=\"responses\"}"
        export KEY=placeholder
        exec codex exec --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox -m greeter \
            -c model_provider=lazaret -c "model_providers.lazaret=$provider" -c web_search=disabled -- "$1"
    "#;
    let refused = refused_meanwhile("codex-teller", "scripted-responses/greeter", "codex", command);
    assert!(refused.contains("chatgpt.com/"), "{refused}");
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
