//! A person logs in for a subscription by the command line; what is wrong is told, and no token is shown or written.

use std::time::Duration;

use testkit::person::{logging_in, pasted, url_in};
use testkit::vendors::Vendors;
use testkit::{Done, Lab, Terminal, deadline, files};

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
        (
            &["login", "x", "--token-url", "https://a.example", "--client", "c", "--device"],
            "cannot be used with",
        ),
    ] {
        let told_all = ran(args, 2).stderr;
        assert!(told_all.contains(told), "{args:?}: {told_all}");
    }
    let told = ran(&["login", "claude", "--subscription", "claude", "--device"], 1).stderr;
    assert!(told.contains("offers no log-in by a code that is typed"), "{told}");

    // Nobody is asked at no terminal, and who is there may try again.
    let told = ran(&["login", "claude", "--subscription", "claude", "--paste"], 1).stderr;
    assert!(told.contains("nothing was pasted: standard input has ended"), "{told}");
    assert!(
        told.contains("run it at a terminal, or write") && !told.contains("paste what it ends with"),
        "{told}"
    );
    let line = format!("{} secret login claude --subscription claude --paste", env!("CARGO_BIN_EXE_lazaret"));
    let mut terminal = Terminal::run(&lab, &line);
    for (times, typed) in [(1, "nonsense\r"), (2, "\r")] {
        deadline("it is asked for", Duration::from_secs(60), || {
            (terminal.seen().matches("paste what it ends with: ").count() == times).then_some(())
        });
        terminal.keys(typed);
    }
    let seen = terminal.end();
    assert!(
        seen.contains("that is not what this log-in ended with") && seen.contains("nothing was pasted"),
        "{seen}"
    );
    let (child, _) = logging_in(&lab, &["claude", "--subscription", "claude", "--paste"]);
    assert!(!pasted(child, "nonsense"));
    let (child, _) = logging_in(&lab, &["claude", "--subscription", "claude", "--paste"]);
    assert!(!pasted(child, ""));
    assert!(!ran(&["ls"], 0).stdout.contains("claude"));

    let (child, told) = logging_in(&lab, &["claude", "--subscription", "claude", "--paste"]);
    assert!(pasted(child, &vendors.browse(&url_in(&told))));
    let (child, told) = logging_in(&lab, &["chatgpt", "--subscription", "chatgpt", "--device"]);
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
    let (child, told) = logging_in(&lab, &["chatgpt", "--paste"]);
    assert!(pasted(child, &vendors.browse(&url_in(&told))));
    let ledger = lab.run(&["ledger", "export"], "").expect(0).stdout;
    assert!(ledger.contains("secret-set") && !ledger.contains("canary-"), "{ledger}");
    assert!(!files::hold(&lab.path("."), b"canary-"));
}
