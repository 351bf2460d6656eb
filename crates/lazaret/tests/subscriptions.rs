//! A person logs in for a subscription by the command line; what is wrong is told, and no token is shown or written.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};

use testkit::vendors::Vendors;
use testkit::{Done, Lab, files};

/// Begins a log-in; what runs, and what the person was told first.
fn begun(lab: &Lab, args: &[&str]) -> (Child, String) {
    let mut command = lab.command(&[&["secret", "login"], args].concat());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains("log in ") {
        told.clear();
        assert!(said.read_line(&mut told).unwrap() > 0, "nobody was told what to do");
    }
    let rest = std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    drop(rest);
    (child, told)
}

fn url_in(told: &str) -> String {
    let (_, url) = told.split_once("https://").unwrap();
    let url: String = url.chars().take_while(|letter| !letter.is_control() && *letter != ' ').collect();
    format!("https://{url}")
}

/// Pastes a line, and waits for the end.
fn pasted(mut child: Child, line: &str) -> bool {
    writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
    child.wait().unwrap().success()
}

#[test]
fn a_person_logs_in_for_a_subscription_and_nothing_else_need_be_said() {
    let vendors = Vendors::start();
    let mut lab = Lab::without_daemon(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    lab.network(&vendors.site.network(&lab.path(".")));
    lab.restart_daemon();
    let ran = |args: &[&str], code: i32| -> Done { lab.run(&[&["secret"], args].concat(), "").expect(code) };

    for (args, told) in [
        (&["login", "x", "--subscription", "gemini"][..], "write claude or chatgpt"),
        (&["login", "x", "--subscription", "claude", "--to", "https://evil.example"], "cannot be used with"),
        (&["login", "x", "--subscription", "claude", "--client", "x"], "cannot be used with"),
        (&["login", "x", "--subscription", "claude", "--server", "https://a.example"], "cannot be used with"),
        (&["login", "x", "--subscription", "claude", "--device", "--paste"], "cannot be used with"),
        (&["login", "x", "--token-url", "https://a.example", "--refresh-token"], "required"),
    ] {
        let told_all = ran(args, 2).stderr;
        assert!(told_all.contains(told), "{args:?}: {told_all}");
    }
    let told = ran(&["login", "claude", "--subscription", "claude", "--device"], 1).stderr;
    assert!(told.contains("offers no log-in by a code that is typed"), "{told}");

    let (child, _) = begun(&lab, &["claude", "--subscription", "claude", "--paste"]);
    assert!(!pasted(child, "nonsense"));
    let (child, _) = begun(&lab, &["claude", "--subscription", "claude", "--paste"]);
    assert!(!pasted(child, ""));
    assert!(!ran(&["ls"], 0).stdout.contains("claude"));

    let (child, told) = begun(&lab, &["claude", "--subscription", "claude", "--paste"]);
    assert!(pasted(child, &vendors.browse(&url_in(&told))));
    let (child, told) = begun(&lab, &["chatgpt", "--subscription", "chatgpt", "--device"]);
    assert!(told.contains("https://auth.openai.com/codex/device with the code "), "{told}");
    vendors.approve();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stdout.is_empty());
    let listed = ran(&["ls"], 0).stdout;
    for told in [
        "POST https://api.anthropic.com/v1/messages as bearer",
        "https://claude.com (user:inference), until 2",
        "POST https://chatgpt.com/backend-api/codex/responses as bearer",
        "https://auth.openai.com (openid profile email offline_access), until 2",
    ] {
        assert!(listed.contains(told), "{told}: {listed}");
    }

    // Once more, as before.
    let (child, told) = begun(&lab, &["chatgpt", "--paste"]);
    assert!(pasted(child, &vendors.browse(&url_in(&told))));
    let ledger = lab.run(&["ledger", "export"], "").expect(0).stdout;
    assert!(ledger.contains("secret-set") && !ledger.contains("canary-"), "{ledger}");
    assert!(!files::hold(&lab.path("."), b"canary-"));
}
