//! Secrets on the host: what is typed is not shown, and nobody looks into the daemon's memory.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::geteuid;
use testkit::{Lab, Terminal, deadline};

const LAZARET: &str = env!("CARGO_BIN_EXE_lazaret");

#[test]
fn a_secret_that_is_typed_is_not_shown() {
    let lab = Lab::start(LAZARET, Vec::new());
    let line = format!("{LAZARET} secret set typed --to https://api.example; echo code $?; stty -a");
    let mut terminal = Terminal::run(&lab, &line);
    let asked = || terminal.seen().contains("typed: ").then_some(());
    deadline("it is asked for", Duration::from_secs(60), asked);
    terminal.keys("canary-of-the-keyboard\r");
    let seen = terminal.end();
    assert!(seen.contains("code 0") && !seen.contains("canary"), "{seen}");
    assert!(seen.contains(" echo "), "the terminal is as before: {seen}");
    assert!(lab.run(&["secret", "ls"], "").expect(0).stdout.contains("typed"));
}

/// A user that no host has.
const NOBODYS: u32 = 61_994;

/// Makes it a program of an ordinary user: root may look into everybody's memory.
fn ordinary(command: &mut Command) -> &mut Command {
    if geteuid().is_root() { command.uid(NOBODYS).gid(NOBODYS) } else { command }
}

/// Reads this file of a process as another one of the same user; what went wrong.
fn read_as_another(pid: u32, file: &str) -> String {
    let mut command = Command::new("head");
    command.args(["--bytes=1", &format!("/proc/{pid}/{file}")]).env("LC_ALL", "C");
    String::from_utf8_lossy(&ordinary(&mut command).output().unwrap().stderr).into_owned()
}

#[test]
fn nobody_reads_the_daemons_memory_and_none_of_it_is_written_when_it_fails() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["lazaret", "lazaret-guest"] {
        fs::copy(Path::new(LAZARET).with_file_name(name), at.join(name)).unwrap();
    }
    let home = at.join("home");
    fs::create_dir(&home).unwrap();
    if geteuid().is_root() {
        std::os::unix::fs::chown(&home, Some(NOBODYS), Some(NOBODYS)).unwrap();
    }
    let mut daemon = Command::new(at.join("lazaret"));
    daemon.arg("serve").env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &home).current_dir("/");
    daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut daemon = ordinary(&mut daemon).spawn().unwrap();
    let vault = home.join(".local/state/lazaret/vault");
    deadline("the vault is open", Duration::from_secs(60), || vault.exists().then_some(()));
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.id())).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"], "{limits}");
    for file in ["mem", "environ", "maps"] {
        let told = read_as_another(daemon.id(), file);
        assert!(told.contains("Permission denied"), "{file}: {told}");
    }
    // Any other program of this user lets itself be read so.
    let mut other = ordinary(Command::new("sleep").arg("60")).spawn().unwrap();
    assert_eq!(read_as_another(other.id(), "environ"), "");
    for child in [&mut daemon, &mut other] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
