//! The command line with real cells: pipes, workspaces, the terminal, other commands beside a session.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testkit::{Lab, Terminal, deadline};

const LAZARET: &str = env!("CARGO_BIN_EXE_lazaret");
const IDLE: &str =
    "name = \"idle\"\nharness = { command = [\"sh\", \"-c\", \"echo ready; exec sleep 600\"] }\n";

fn repository(lab: &Lab, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = lab.path(name);
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    for args in [&["init", "-q"][..], &["add", "-A"]] {
        assert!(Command::new("git").args(args).current_dir(&folder).status().unwrap().success());
    }
    folder
}

fn command(name: &str, script: &str) -> String {
    format!("name = \"{name}\"\nharness = {{ command = [\"sh\", \"-c\", '''{script}'''] }}\n")
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn a_change_piped_to_the_reviewer_is_answered_on_standard_output() {
    let lab = Lab::start(LAZARET, Vec::new());
    let reviewer = include_str!("../../../agents/reviewer/agent.toml");
    lab.agent("reviewer", &reviewer.replace("anthropic/claude-sonnet-4-5", "scripted/reviewer"));
    let diff = "--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-run(x)\n+eval(x)\n";
    let done = lab.session(&["reviewer"], diff).expect(0);
    assert!(!done.stdout.trim().is_empty(), "{done:?}");
    assert!(!done.stdout.contains("lazaret:"), "progress is on standard error: {done:?}");
    let requests = lab.model.recorded();
    assert!(requests.iter().any(|request| request.body.contains("eval(x)")), "the input reached the model");
}

#[test]
fn what_exit_code_and_events_a_script_sees() {
    let lab = Lab::start(LAZARET, Vec::new());
    lab.agent("seven", &command("seven", "cat; echo oops >&2; exit 7"));
    let done = lab.session(&["seven", "--json"], "from a pipe").expect(7);
    let events: Vec<serde_json::Value> =
        done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let printed = |stream: &str| {
        let of_it = events.iter().filter(|event| event["stream"] == stream);
        of_it.filter_map(|event| event["data"]["text"].as_str()).collect::<String>()
    };
    assert_eq!((printed("stdout").as_str(), printed("stderr").as_str()), ("from a pipe", "oops\n"));
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["exit_code"]), (&"ended".into(), &7.into()));
    let logs = lab.run(&["logs", "seven"], "").expect(0);
    assert_eq!(logs.stdout, "from a pipe");
}

#[test]
fn a_workspace_comes_back_as_a_patch_and_nothing_is_applied_without_a_yes() {
    let lab = Lab::start(LAZARET, Vec::new());
    let script = "echo changed > a.txt; rm gone.txt; mkdir -p .github .git/hooks; echo on > .github/ci.yml; \
                  echo x > .git/hooks/pre-commit; ln -s /etc/passwd out; ls -a";
    lab.agent("worker", &command("worker", script));
    let files = [("a.txt", "one\n"), ("gone.txt", "x\n"), ("only-first.txt", "1\n")];
    let folder = repository(&lab, "first", &files);
    let path = folder.to_str().unwrap();

    let shown = lab.session(&["worker", "--workspace", path], "").expect(0);
    assert!(shown.stderr.contains("+changed") && shown.stderr.contains("not applied"), "{shown:?}");
    assert_eq!(text(&folder.join("a.txt")), "one\n", "without a terminal the answer is no");

    let applied = lab.session(&["worker", "--workspace", path, "--apply"], "").expect(0);
    assert_eq!(text(&folder.join("a.txt")), "changed\n");
    assert!(!folder.join("gone.txt").exists());
    assert!(!folder.join(".github").exists(), "what runs by itself needs a yes of its own");
    assert!(applied.stderr.contains("`.github/ci.yml` runs by itself later"), "{applied:?}");
    assert!(!folder.join(".git/hooks/pre-commit").exists());
    assert!(!folder.join("out").exists() && fs::symlink_metadata(folder.join("out")).is_err());

    // The agent's disk lasts, and yet nothing of one workspace is seen in another.
    let other = repository(&lab, "second", &[("b.txt", "b\n")]);
    let second = lab
        .session(&["worker", "--workspace", other.to_str().unwrap(), "--apply", "--apply-active"], "")
        .expect(0);
    assert!(!second.stdout.contains("only-first.txt"), "{second:?}");
    assert_eq!(text(&other.join(".github/ci.yml")), "on\n");
    assert!(!other.join("only-first.txt").exists());
}

#[test]
fn programs_run_beside_a_session_and_it_is_listed_and_stopped() {
    let lab = Lab::start(LAZARET, Vec::new());
    lab.agent("idle", IDLE);
    let mut session = lab.running("idle");
    let done = lab.run(&["exec", "idle", "sh", "-c", "id -u; cat; exit 5"], "typed").expect(5);
    assert_eq!(done.stdout, "1000\ntyped");
    let refused = lab.run(&["exec", "nobody", "true"], "").expect(125);
    assert!(refused.stderr.contains("means no running session"), "{refused:?}");
    assert!(lab.run(&["stop", "idle"], "").expect(0).stderr.contains("stopped"));
    assert_eq!(session.wait().unwrap().code(), Some(130));
    assert!(!lab.run(&["ps"], "").stdout.contains("idle"));
    assert!(lab.run(&["ps", "-a"], "").stdout.contains("stopped"));
}

#[test]
fn a_terminal_is_lent_and_given_back_and_its_clipboard_stays_out_of_reach() {
    let lab = Lab::start(LAZARET, Vec::new());
    let script =
        r#"stty size; printf '\033]52;c;aGk=\007\033[31mred\033[0m\n'; read line; echo "got $line"; exit 4"#;
    lab.agent("screen", &command("screen", script));
    let shell =
        format!("stty rows 33 cols 101; {LAZARET} run --allow-emulation -it screen; echo code $?; stty -a");
    let mut terminal = Terminal::run(&lab, &shell);
    let red = || terminal.seen().contains("red").then_some(());
    deadline("the agent has the terminal", Duration::from_secs(120), red);
    terminal.keys("hello\r");
    let seen = terminal.end();
    assert!(seen.contains("33 101"), "{seen}");
    assert!(seen.contains("\u{1b}[31mred") && !seen.contains("]52;"), "{seen}");
    assert!(seen.contains("got hello"), "{seen}");
    assert!(seen.contains("code 4"), "{seen}");
    assert!(seen.contains(" icanon") && seen.contains(" echo "), "the terminal is as before: {seen}");
}

#[test]
fn the_session_ends_with_the_command_that_started_it() {
    let lab = Lab::start(LAZARET, Vec::new());
    lab.agent("idle", IDLE);
    let mut session = lab.running("idle");
    session.kill().unwrap();
    session.wait().unwrap();
    deadline("the session ends", Duration::from_secs(8), || {
        (!lab.run(&["ps"], "").stdout.contains("idle")).then_some(())
    });
}
