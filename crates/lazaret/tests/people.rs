//! Several users of one host and one daemon, by its shared socket: each may do what their role allows, and strangers
//! nothing.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Users that no host has.
const VIEWER: u32 = 61_995;
const APPROVER: u32 = 61_996;
const STRANGER: u32 = 61_998;

struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        let at = host.0.path();
        fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_lazaret"));
        for name in ["lazaret", "lazaret-guest"] {
            fs::copy(program.with_file_name(name), at.join(name)).unwrap();
        }
        for folder in ["owner/.config/lazaret", "shared"] {
            fs::create_dir_all(at.join(folder)).unwrap();
        }
        fs::set_permissions(at.join("shared"), fs::Permissions::from_mode(0o755)).unwrap();
        let config = format!("shared_socket = \"{}\"\n", host.socket());
        fs::write(at.join("owner/.config/lazaret/config.toml"), config).unwrap();
        host
    }

    fn socket(&self) -> String {
        self.0.path().join("shared/api.sock").to_str().unwrap().to_owned()
    }

    fn command(&self, home: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(self.0.path().join("lazaret"));
        command.args(args).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home).stdin(Stdio::null());
        command.current_dir("/");
        command
    }

    fn owner(&self, args: &[&str]) -> Output {
        self.command(&self.0.path().join("owner"), args).output().unwrap()
    }

    fn other(&self, uid: u32, args: &[&str]) -> Output {
        let home = self.0.path().join(uid.to_string());
        fs::create_dir_all(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(uid), Some(uid)).unwrap();
        self.command(&home, args).env("LAZARET_SOCKET", self.socket()).uid(uid).gid(uid).output().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.owner(&["stop", "--daemon"]));
    }
}

fn told(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn users_of_a_host_share_a_daemon_each_with_their_role() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can try as other users");
        return;
    }
    let host = Host::new();
    for (name, role, uid) in [("vera", "viewer", VIEWER), ("ben", "approver", APPROVER)] {
        let uid = uid.to_string();
        let added = host.owner(&["person", "add", name, "--role", role, "--uid", &uid]);
        assert!(added.status.success(), "{:?}", told(&added));
    }
    let seen = host.other(VIEWER, &["approvals", "--json"]);
    assert_eq!((seen.status.code(), seen.stdout.as_slice()), (Some(0), &b"[]\n"[..]), "{:?}", told(&seen));

    let no_such = "01arz3ndektsv4rrffq69g5fav";
    let (code, why) = told(&host.other(APPROVER, &["approve", "--yes", no_such]));
    assert!(code != Some(0) && why.contains(no_such), "an approver is heard: {why}");
    for (uid, args, because) in [
        (VIEWER, &["person", "add", "eve"][..], "vera is viewer"),
        (APPROVER, &["person", "add", "eve"], "ben is approver"),
        (VIEWER, &["stop", "--daemon"], "vera is viewer"),
        (APPROVER, &["stop", "--daemon"], "ben is approver"),
    ] {
        let (code, why) = told(&host.other(uid, args));
        assert!(code != Some(0) && why.contains(because), "{args:?}: {why}");
    }
    let (code, why) = told(&host.other(STRANGER, &["approvals"]));
    assert!(code != Some(0) && !why.contains("no question"), "a stranger is turned away: {why}");

    // Nobody starts another's daemon.
    assert!(host.owner(&["stop", "--daemon"]).status.success());
    let (code, why) = told(&host.other(APPROVER, &["approvals"]));
    assert!(code != Some(0) && why.contains("whoever owns that daemon"), "{why}");
}
