//! A person logs in at a tool server by the command line and a browser; its token is a secret that nobody reads.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use testkit::authorization::{Authorization, Wrong};
use testkit::{Lab, deadline, files};

/// How long a state is waited for that must come: on a host with much else to do, too.
const PATIENCE: Duration = Duration::from_secs(240);

/// What a browser gets there: the whole answer.
fn browsed(url: &str) -> Option<String> {
    let (host, path) = url.strip_prefix("http://")?.split_once('/')?;
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Begins a log-in; what waits for the browser, and where the browser is sent back to.
fn begun(lab: &Lab, name: &str, at: &[&str]) -> (Child, String) {
    let mut command = lab.command(&[&["secret", "login", name], at].concat());
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = lines.find_map(|line| Some(line.unwrap().split_once("machine: ")?.1.to_owned())).unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    let url: String = told.chars().take_while(|letter| !letter.is_control() && *letter != ' ').collect();
    let answer = browsed(&url).unwrap();
    let back = answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().to_owned();
    (child, back)
}

/// To greet a server and to hear what it offers is to show it the secret.
fn one_use_is_told(lab: &Lab, to: &str) {
    let entries = lab.run(&["ledger", "tail"], "").expect(0).stdout;
    let mut used = entries.lines().filter(|line| line.contains("secret-used"));
    let (one, another) = (used.next().unwrap(), used.next());
    assert!(one.contains("  team:") && one.contains("\"crm\"") && one.contains(to), "{one}");
    assert_eq!(another, None);
}

/// Logs in, with a browser that comes back.
fn logged_in(lab: &Lab, name: &str, at: &[&str]) {
    let (mut child, back) = begun(lab, name, at);
    assert!(browsed(&back).unwrap().starts_with("HTTP/1.1 200"));
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_person_logs_in_at_a_tool_server_and_its_token_is_shown_to_nobody_else() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Authorization::start());
    let mut lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    // Given up: nothing listens any more, and nothing is kept.
    let (mut child, back) = begun(&lab, "crm", &["--server", &server.mcp()]);
    child.kill().unwrap();
    child.wait().unwrap();
    let here = back.split_once("/callback").unwrap().0.to_owned();
    // Whoever else has the port by then says something else.
    let gone = || {
        (!browsed(&format!("{here}/nothing")).unwrap_or_default().contains("There is nothing here."))
            .then_some(())
    };
    deadline("nobody listens", PATIENCE, gone);
    assert!(!lab.run(&["secret", "ls"], "").expect(0).stdout.contains("crm"));

    logged_in(&lab, "crm", &["--server", &server.mcp()]);
    let listed = lab.run(&["secret", "ls"], "").expect(0).stdout;
    for told in [server.mcp(), format!("{} (tools:use), until 2", server.issuer())] {
        assert!(listed.contains(&told), "{listed}");
    }
    let refused = lab.run(&["secret", "rotate", "crm"], "another-token").expect(1);
    assert!(refused.stderr.contains("lazaret secret login crm"), "{}", refused.stderr);
    drop(lab.run(&["server", "add", "crm", "--url", &server.mcp(), "--secret", "crm"], "").expect(0));
    let shown = lab.run(&["server", "show", "crm"], "").expect(0).stdout;
    assert!(shown.contains("look"), "{shown}");
    assert!(server.called().iter().any(|one| one.starts_with("Bearer canary-access")));
    let ledger = lab.run(&["ledger", "export"], "").expect(0).stdout;
    assert!(ledger.contains("secret-set") && !ledger.contains("canary-"), "{ledger}");
    one_use_is_told(&lab, &server.mcp());
    assert!(
        !["canary-access", "canary-refresh"]
            .iter()
            .any(|token| files::hold(&lab.path("."), token.as_bytes()))
    );

    // The log-in is there after a restart, until it is forgotten.
    lab.kill_daemon();
    lab.restart_daemon();
    assert!(lab.run(&["server", "show", "crm"], "").expect(0).stdout.contains("look"));
    // Once more, as before.
    server.revoke();
    logged_in(&lab, "crm", &[]);
    assert_eq!(lab.run(&["secret", "ls"], "").expect(0).stdout.matches(&server.mcp()).count(), 1);
    lab.kill_daemon();
    lab.restart_daemon();
    assert!(lab.run(&["server", "show", "crm"], "").expect(0).stdout.contains("look"));
    drop(lab.run(&["secret", "rm", "crm"], "").expect(0));
    // What was heard of it before is not told as if all were well.
    let shown = lab.run(&["server", "show", "crm"], "").expect(1).stdout;
    for told in
        ["it can't be asked: there is no secret called `crm`", "when it could be, it had 1 tools", "look"]
    {
        assert!(shown.contains(told), "{shown}");
    }
    let told = lab.run(&["secret", "login", "crm"], "").expect(1).stderr;
    assert!(told.contains("no log-in `crm` to repeat") && told.contains("--server"), "{told}");
    // A server that shows another's page: nobody is sent there who didn't say so.
    let real = runtime.block_on(Authorization::start());
    server.lure_to(&real);
    let told = lab.run(&["secret", "login", "crm", "--server", &server.mcp()], "").expect(1).stderr;
    for expected in
        [&format!("{} shows the page", real.base), &format!("--trust {}", real.base), &server.base]
    {
        assert!(told.contains(expected), "{told}");
    }
    let mut command =
        lab.command(&["secret", "login", "crm", "--server", &server.mcp(), "--trust", &real.base]);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(&format!("machine: {}/as/authorize", real.base))));
    child.kill().unwrap();
    child.wait().unwrap();

    lab.kill_daemon();
    lab.restart_daemon();
    let told = lab.run(&["server", "show", "crm"], "");
    assert!(told.stdout.contains("there is no secret called `crm`"), "{}{}", told.stdout, told.stderr);
}

#[test]
fn what_a_log_in_gave_is_renewed_and_given_back_and_the_ledger_says_so() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Authorization::start());
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    let logged_in = |name: &str, at: &[&str]| logged_in(&lab, name, at);
    logged_in("crm", &["--server", &server.mcp()]);
    // Once more: the client is another, so what the one before had is given back.
    server.give_for(1);
    logged_in("crm", &[]);
    assert_eq!(server.revoked().len(), 2);
    // Some servers forget all that they gave to a client with one of its log-ins: who removes one is told of the others.
    let listed = lab.run(&["secret", "ls", "--json"], "").expect(0).stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let client = listed[0]["login"]["client"].as_str().unwrap();
    let at = server.mcp();
    let had = ["--server", &at, "--client", client, "--to", "https://ci.example", "--refresh-token"];
    drop(lab.run(&[&["secret", "login", "ci"], &had[..]].concat(), &server.tokens().1).expect(0));
    let removed = lab.run(&["secret", "rm", "ci"], "").expect(0).stderr;
    assert!(removed.contains("of the same client there: crm; some servers end all"), "{removed}");
    assert_eq!(server.revoked().len(), 4);
    // What is renewed is on the ledger, with who was asked; and that a log-in has ended.
    let add = ["server", "add", "crm", "--url", &server.mcp(), "--secret", "crm"];
    let connected_anew = |wanted: &str| {
        deadline(wanted, PATIENCE, || {
            drop(lab.run(&add, "").expect(0));
            drop(lab.run(&["server", "show", "crm"], ""));
            let entries = lab.run(&["ledger", "export", "--kind", wanted], "").expect(0).stdout;
            Some(entries).filter(|entries| entries.contains(&server.issuer()) && !entries.contains("canary-"))
        })
    };
    assert!(!connected_anew("secret-renewed").contains("failed"));
    server.be(Wrong::NoRenewal);
    assert!(connected_anew("login-ended").contains("invalid_grant"));
    // A mail server takes a token too, of a log-in only.
    let at_mail = ["--to", "imaps://mail.acme.example", "--to", "smtps://mail.acme.example"];
    logged_in("mail", &[&["--server", &server.mcp()], &at_mail[..]].concat());
    assert!(lab.run(&["secret", "ls"], "").expect(0).stdout.contains("smtps://mail.acme.example as bearer"));
    let by_hand = [&["secret", "set", "mail"], &at_mail[..]].concat();
    let told = lab.run(&by_hand, "some-token").expect(1).stderr;
    assert!(told.contains("as password, or a log-in's token as bearer"), "{told}");
    // What is removed, or replaced by another secret, is given back to who gave it.
    let replaced = lab.run(&["secret", "set", "mail", "--to", "https://a.example"], "some-token").expect(0);
    let revoked = format!("its log-in is revoked at {}", server.issuer());
    assert!(
        replaced.stderr.contains("mail is stored") && replaced.stderr.contains(&revoked),
        "{}",
        replaced.stderr
    );
    assert_eq!(server.revoked().len(), 6);
    server.be(Wrong::Broken);
    let removed = lab.run(&["secret", "rm", "crm"], "").expect(0).stderr;
    for told in ["crm is removed", "its log-in is not revoked", &server.issuer(), "HTTP 502"] {
        assert!(removed.contains(told), "{removed}");
    }
    let entries = lab.run(&["ledger", "export", "--kind", "login-revoked"], "").expect(0).stdout;
    assert_eq!(entries.lines().count(), 4, "{entries}");
}

#[test]
fn what_a_renewal_gives_after_its_secret_was_removed_is_revoked_and_the_ledger_says_so() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Authorization::start());
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    // Good for no time at all: whoever uses it renews it first, once it is ten seconds old.
    server.give_for(0);
    logged_in(&lab, "crm", &["--server", &server.mcp()]);
    std::thread::sleep(Duration::from_secs(11));
    drop(lab.run(&["server", "add", "crm", "--url", &server.mcp(), "--secret", "crm"], "").expect(0));
    let held = server.hold_renewals();
    let mut asking = lab.command(&["server", "show", "crm"]).stdout(Stdio::null()).spawn().unwrap();
    runtime.block_on(server.renewal_waits());
    let removed = lab.run(&["secret", "rm", "crm"], "").expect(0).stderr;
    assert!(removed.contains("its log-in is revoked"), "{removed}");
    let before = server.revoked().len();
    held.notify_one();
    asking.wait().unwrap();
    let entries = deadline("both are revoked", PATIENCE, || {
        let entries = lab.run(&["ledger", "export", "--kind", "login-revoked"], "").expect(0).stdout;
        Some(entries).filter(|entries| entries.lines().count() == 2)
    });
    assert!(entries.contains(&server.issuer()) && !entries.contains("failed"), "{entries}");
    assert!(!entries.contains("canary-"), "{entries}");
    assert_eq!(server.revoked().len(), before + 2);
    let tried = lab.run(&["ledger", "export", "--kind", "secret-renewed"], "").expect(0).stdout;
    assert!(tried.contains("was removed or replaced while it was renewed"), "{tried}");
}

#[test]
fn a_log_in_is_repeated_by_its_name_with_all_that_was_said_and_asks_only_about_whom_is_new() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (server, other) =
        (runtime.block_on(Authorization::start()), runtime.block_on(Authorization::start()));
    let mut lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    // A refresh token that the person has, of a client with a secret, at a server that says nothing of itself.
    let old = runtime.block_on(Authorization::start());
    old.be(Wrong::Old);
    old.want_secret("canary-client-secret");
    let (file, endpoint) = (lab.path("client-secret"), format!("{}/token", old.issuer()));
    std::fs::write(&file, "canary-client-secret\n").unwrap();
    let file = file.to_str().unwrap().to_owned();
    let first =
        ["secret", "login", "ci", "--token-url", &endpoint, "--client", "ci-client", "--scope", "read,write"];
    let secret = ["--client-secret-file", &file, "--to", "https://ci.example/api", "--refresh-token"];
    drop(lab.run(&[&first[..], &secret].concat(), &old.tokens().1).expect(0));
    std::fs::remove_file(&file).unwrap();
    let listed = lab.run(&["secret", "ls", "--json"], "").expect(0).stdout;
    assert!(listed.contains("ci-client") && !listed.contains("canary"), "{listed}");
    assert!(!files::hold(&lab.path("."), b"canary-client-secret"));
    lab.kill_daemon();
    lab.restart_daemon();
    // Once more by its name: what is wanted is the token alone.
    let told = lab.run(&["secret", "login", "ci"], &old.tokens().1).expect(0).stderr;
    assert!(told.contains("a log-in at a token endpoint takes a refresh token that you have"), "{told}");
    drop(lab.run(&["secret", "login", "ci", "--refresh-token"], &old.tokens().1).expect(0));
    assert_eq!(
        lab.run(&["secret", "ls", "--json"], "").expect(0).stdout.matches("https://ci.example/api").count(),
        1
    );
    let told = lab.run(&["secret", "login", "ci"], "canary-refresh-never-given").expect(1).stderr;
    assert!(told.contains("gives no token: invalid_grant") && !told.contains("canary"), "{told}");
    for more in [["--client", "x"], ["--scope", "x"], ["--to", "https://a.example"]] {
        let told = lab.run(&[&["secret", "login", "ci"], &more[..]].concat(), "").expect(1).stderr;
        assert!(told.contains("not where it begins"), "{told}");
    }

    // Whom the person trusted is not asked about again, in a log-in after a restart too.
    server.be(Wrong::RevokesElsewhere);
    let at = ["--server", &server.mcp(), "--trust", "https://169.254.169.254/any"];
    for at in [&at[..], &[]] {
        logged_in(&lab, "crm", at);
        lab.kill_daemon();
        lab.restart_daemon();
    }
    // Another host shows the page by now: nobody said yes to that.
    server.lure_to(&other);
    let told = lab.run(&["secret", "login", "crm"], "").expect(1).stderr;
    assert!(told.contains(&format!("--trust {}", other.base)) && !told.contains("169.254"), "{told}");
}

#[test]
fn an_address_with_a_password_in_it_is_refused_and_the_password_is_told_nowhere() {
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    for command in [
        "secret set x --to https://ada:hunter2@host.example/",
        "secret login x --server https://ada:hunter2@host.example/",
        "secret login x --issuer https://ada:hunter2@host.example/ --client y --to https://host.example",
        "secret login x --issuer https://host.example --client y --to https://ada:hunter2@host.example",
        "server add x --url https://ada:hunter2@host.example/mcp",
        "server add x --imap imaps://ada:hunter2@host.example --smtp smtps://host.example --user a@host.example --password secret:x",
        "server add x --image base --egress GET_https://ada:hunter2@host.example/* -- program",
        "server add x --image base --egress GET_https://host.example/* --lend y=https://ada:hunter2@host.example -- program",
        "policy explain x --url GET_https://ada:hunter2@host.example/",
    ] {
        let words: Vec<_> = command.split(' ').map(|word| word.replace("GET_", "GET ")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let run = lab.run(&words, "some-secret");
        assert!(run.stderr.contains("isn't taken"), "{command}: {}", run.stderr);
        assert!(
            !run.stderr.contains("hunter2") && !run.stdout.contains("hunter2"),
            "{command}: {}",
            run.stderr
        );
    }
    assert_eq!(lab.run(&["secret", "ls", "--json"], "").expect(0).stdout.trim(), "[]");
}

#[test]
fn a_mailbox_without_its_secret_is_not_shown_as_if_it_could_be_asked() {
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    let add = "server add mail --imap imaps://m.example --smtp smtps://m.example --user a@m.example --password secret:mail";
    drop(lab.run(&add.split(' ').collect::<Vec<_>>(), "").expect(0));
    let show = |code: i32| lab.run(&["server", "show", "mail"], "").expect(code).stdout;
    assert!(show(1).contains("it can't be asked: there is no secret called `mail`"));
    let set = ["secret", "set", "mail", "--as", "password", "--to", "imaps://m.example"];
    drop(lab.run(&set, "correct horse").expect(0));
    assert!(show(1).contains("the secret `mail` is not bound to"));
    drop(lab.run(&[&set[..], &["--to", "smtps://m.example"]].concat(), "correct horse").expect(0));
    assert!(!show(0).contains("can't be asked"));
}
