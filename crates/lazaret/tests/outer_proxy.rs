//! The daemon behind a company's proxy that wants a log-in: a real one, asked by the real daemon with a secret of its vault.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Asked, Lab, PROXY_PASSWORD, PROXY_USER, Reply, Site, Squid, deadline, files};

const HOST: &str = "crm.example";
/// `ann:canary-proxy-password`, as a header carries it.
const ENCODED: &str = "YW5uOmNhbmFyeS1wcm94eS1wYXNzd29yZA==";

/// A tool server with one tool.
fn tools(asked: &Asked) -> Reply {
    let message: Value = serde_json::from_str(&asked.body).unwrap_or_default();
    let result = match message.get("method").and_then(Value::as_str) {
        Some("initialize") => json!({
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "crm", "version": "1"}
        }),
        Some("tools/list") => json!({"tools": [{"name": "look", "inputSchema": {"type": "object"}}]}),
        Some("server/discover") => return Reply::Status(404),
        Some(_) => return Reply::Status(202),
        None => return Reply::Status(405),
    };
    Reply::Json(200, json!({"jsonrpc": "2.0", "id": message.get("id"), "result": result}))
}

#[test]
fn the_daemon_logs_in_at_the_outer_proxy_with_a_secret_that_is_told_nowhere() {
    let site = Site::start(&[HOST], tools);
    let squid = Squid::start(&[HOST]);
    let mut lab = Lab::without_daemon(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    drop(site.network(&lab.path(".")));
    let table = |lab: &Lab, more: &str| {
        let ca = lab.path("site-ca.pem");
        lab.network(&format!("ca = \"{}\"\nproxy = \"{}\"\n{more}", ca.display(), squid.plain()));
    };
    table(&lab, "");
    lab.restart_daemon();
    let url = format!("https://{HOST}:{}/mcp", site.port);
    let shown = |lab: &Lab| {
        // Anew: what was heard of a server is remembered for a while.
        drop(lab.run(&["server", "add", "crm", "--url", &url], ""));
        let run = lab.run(&["server", "show", "crm"], "");
        // What a cell could hear too is told in general; the rest is in the log.
        let log = lab.path("serve.log");
        format!("{}{}{}", run.stdout, run.stderr, std::fs::read_to_string(log).unwrap_or_default())
    };
    let wanted = |lab: &Lab, told: &str| {
        deadline(told, Duration::from_secs(60), || {
            let all = shown(lab);
            assert!(!all.contains("canary"), "{all}");
            all.contains(told).then_some(())
        });
    };
    wanted(&lab, "docs/egress.md says how it is stored");

    lab.kill_daemon();
    table(&lab, "proxy_credential = \"secret:corp\"\n");
    lab.restart_daemon();
    wanted(&lab, "there is no secret called `corp`");
    let to = squid.plain();
    let set = |how: &str, to: &str, code: i32| {
        lab.run(&["secret", "set", "corp", "--to", to, "--as", how], PROXY_PASSWORD).expect(code).stderr
    };
    // Bound otherwise, it is not the proxy's.
    set("basic:ann", &to, 0);
    wanted(&lab, "the secret `corp` is not bound to CONNECT");
    set("proxy:ann", &squid.in_tls(), 0);
    wanted(&lab, "the secret `corp` is not bound to CONNECT");
    assert!(set("proxy:ann", &format!("{to}/path"), 1).contains("is no whole proxy"));
    assert!(set("proxy:ann", &to, 0).contains("`proxy_credential = \"secret:corp\"` in [network]"));
    wanted(&lab, "look");
    let listed = lab.run(&["secret", "ls"], "").expect(0).stdout;
    assert!(listed.contains(&format!("{to} as proxy:ann")), "{listed}");
    // Another password counts at once, and so does the end of the secret.
    drop(lab.run(&["secret", "rotate", "corp"], "canary-another").expect(0));
    wanted(&lab, "or another one than the secret has that `proxy_credential`");
    // What can't be one is refused before it is stored.
    let long = "p".repeat(1025);
    for command in [&["rotate", "corp"][..], &["set", "corp", "--to", &to, "--as", "proxy:ann"]] {
        let told = lab.run(&[&["secret"], command].concat(), &long).expect(1).stderr;
        assert!(told.contains("a proxy's password has at most 1024 bytes"), "{told}");
    }
    wanted(&lab, "or another one than the secret has that `proxy_credential`");
    drop(lab.run(&["secret", "rotate", "corp"], PROXY_PASSWORD).expect(0));
    wanted(&lab, "look");
    let asked = format!("{PROXY_USER} CONNECT {HOST}:{} 200", site.port);
    drop(lab.run(&["secret", "rm", "corp"], "").expect(0));
    wanted(&lab, "there is no secret called `corp`");

    lab.kill_daemon();
    deadline("squid has written its log", Duration::from_secs(60), || {
        squid.asked().contains(&asked).then_some(())
    });
    for one in site.asked() {
        assert!(
            one.headers.iter().all(|(name, value)| !name.contains("auth") && !value.contains(ENCODED)),
            "{one:?}"
        );
    }
    // Neither in the ledger, nor in a log, nor in any file.
    for bytes in [PROXY_PASSWORD, "canary-another", ENCODED] {
        assert!(!files::hold(&lab.path("."), bytes.as_bytes()), "{bytes}");
    }
}

#[test]
fn a_log_in_that_could_be_read_on_its_way_to_the_proxy_is_not_used_unless_the_owner_says_so() {
    let lab = Lab::without_daemon(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    lab.network("proxy = \"http://proxy.corp.example:3128\"\nproxy_credential = \"secret:corp\"\n");
    let told = lab.run(&["serve"], "").expect(1).stderr;
    for expected in
        ["unencrypted, for anybody between here and there to read", "proxy_password_unencrypted = true"]
    {
        assert!(told.contains(expected), "{told}");
    }
}
