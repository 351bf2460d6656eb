//! The command line without a VM: its help, its mistakes, and what it says about them.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs;
use std::process::{Command, Stdio};

struct Home(tempfile::TempDir);

/// What a command did, as one text for a snapshot.
struct Said(String);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn command(&self, args: &[&str]) -> Command {
        let home = self.0.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lazaret"));
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", home)
            .env("COLUMNS", "110")
            .current_dir(home)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Said {
        let home = self.0.path();
        let output = self.command(args).output().unwrap();
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes)
                .replace(home.to_str().unwrap(), "~")
                .replace(env!("CARGO_PKG_VERSION"), "VERSION")
        };
        let code = output.status.code().unwrap();
        Said(format!("{}{}[exit code {code}]\n", text(&output.stdout), text(&output.stderr)))
    }

    fn agent(&self, text: &str) {
        fs::create_dir_all(self.0.path().join("agent")).unwrap();
        fs::write(self.0.path().join("agent/agent.toml"), text).unwrap();
    }
}

#[test]
fn help() {
    let home = Home::new();
    insta::assert_snapshot!("help", home.run(&["--help"]).0);
    let pages: Vec<String> = [
        &["run"][..],
        &["agent"],
        &["agent", "new"],
        &["agent", "ls"],
        &["agent", "show"],
        &["ps"],
        &["logs"],
        &["exec"],
        &["stop"],
        &["image"],
        &["image", "pull"],
        &["image", "import"],
        &["image", "build"],
        &["image", "ls"],
        &["image", "rm"],
        &["secret"],
        &["secret", "set"],
        &["secret", "login"],
        &["secret", "ls"],
        &["secret", "rotate"],
        &["secret", "rm"],
        &["policy"],
        &["policy", "show"],
        &["policy", "check"],
        &["policy", "test"],
        &["policy", "explain"],
        &["policy", "diff"],
        &["doctor"],
        &["serve"],
        &["demo"],
        &["completions"],
    ]
    .iter()
    .map(|command| {
        format!(
            "$ lazaret {} --help\n{}",
            command.join(" "),
            home.run(&[command, &["--help"][..]].concat()).0
        )
    })
    .collect();
    insta::assert_snapshot!("help_of_commands", pages.join("\n"));
}

#[test]
fn a_wrong_command_line_is_told() {
    let home = Home::new();
    let told: Vec<String> = [
        &["rum", "reviewer"][..],
        &["run"],
        &["run", "a", "--apply"],
        &["run", "a", "--workspace", "x", "--apply-active"],
        &["run", "a", "--model", "sonnet"],
        &["run", "-t", "--json", "a"],
        &["agent", "new", "Bad_Name"],
        &["exec", "session"],
        &["stop"],
        &["secret", "set", "github"],
        &["secret", "set", "github", "--to", "api.github.com"],
        &["secret", "set", "github", "--to", "https://a", "--as", "cookie"],
        &["secret", "set", "github", "--to", "https://a", "--from-file", "f", "--from-command", "c"],
    ]
    .iter()
    .map(|args| format!("$ lazaret {}\n{}", args.join(" "), home.run(args).0))
    .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn mistakes_are_told_before_anything_starts() {
    let home = Home::new();
    home.agent("name = \"agent\"\nmodels = [\"a/b\"]\n\n[limits]\nmemroy = \"1GiB\"\n");
    fs::create_dir(home.0.path().join("empty")).unwrap();
    let mut told: Vec<String> = [
        &["run", "Reviewer"][..],
        &["run", "./nowhere"],
        &["run", "./agent"],
        &["run", "reviewer", "--workspace", "nowhere"],
        &["run", "reviewer", "--workspace", "empty"],
        &["agent", "show", "./agent"],
        &["secret", "set", "github", "--to", "http://a"],
        &["secret", "set", "github", "--to", "https://a"],
        &["secret", "set", "github", "--to", "https://a", "--from-file", "nowhere"],
        &["secret", "set", "github", "--to", "https://a", "--from-command", "exit 3"],
    ]
    .iter()
    .map(|args| format!("$ lazaret {}\n{}", args.join(" "), home.run(args).0))
    .collect();
    assert!(!home.0.path().join(".local").exists(), "nothing was started");
    told.push(format!("$ lazaret stop --daemon\n{}", home.run(&["stop", "--daemon"]).0));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_new_agent_is_a_file_to_edit_and_is_made_once() {
    let home = Home::new();
    let told = [
        home.run(&["agent", "new", "mine"]).0,
        home.run(&["agent", "new", "mine"]).0,
        home.run(&["agent", "new", "other", "--harness", "vim"]).0,
        home.run(&["agent", "show", ".config/lazaret/agents/mine"]).0,
        fs::read_to_string(home.0.path().join(".config/lazaret/agents/mine/agent.toml")).unwrap(),
    ];
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_daemon_that_cannot_start_is_told_with_the_end_of_its_log() {
    let home = Home::new();
    fs::create_dir_all(home.0.path().join(".config/lazaret")).unwrap();
    fs::write(home.0.path().join(".config/lazaret/config.toml"), "allow_emulaton = true\n").unwrap();
    let said = home.run(&["ps"]).0;
    assert!(said.contains("unknown field `allow_emulaton`"), "{said}");
    assert!(said.contains("daemon.log"), "{said}");
    assert!(said.ends_with("[exit code 1]\n"), "{said}");
    assert!(home.run(&["run", "reviewer"]).0.ends_with("[exit code 125]\n"));
    let again = home.run(&["ps"]).0;
    assert_eq!(again.matches("allow_emulaton = true").count(), 1, "only its own part of the log: {again}");
}

#[test]
fn a_reader_who_went_away_ends_the_command_and_a_listener_who_did_does_not() {
    let home = Home::new();
    let (reader, unread) = std::io::pipe().unwrap();
    drop(reader);
    let answer = home.command(&["completions", "bash"]).stdout(unread.try_clone().unwrap()).output().unwrap();
    assert_eq!((answer.status.code(), answer.stderr.is_empty()), (Some(141), true), "{answer:?}");
    let note = home.command(&["agent", "new", "mine"]).stderr(unread).output().unwrap();
    assert_eq!(note.status.code(), Some(0), "{note:?}");
}

#[test]
fn completions_know_the_commands_and_hide_the_parts_of_a_cell() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let said = home.run(&["completions", shell]).0;
        assert!(said.contains("reviewer") || said.contains("workspace"), "{shell}");
    }
}
