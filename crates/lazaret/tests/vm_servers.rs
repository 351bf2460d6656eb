//! Local tool servers, each in a cell of its own: real ones from npm and PyPI, used through the gateway from inside other cells.
//! No team reaches another's, what dies is started anew, and nothing is left when the daemon is killed.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testkit::{Lab, Reply, Site, deadline, machines, none_left};

const FILES: &str = "npm:@modelcontextprotocol/server-filesystem@2026.8.31";
const EVERYTHING: &str = "npm:@modelcontextprotocol/server-everything@2026.8.31";
const SDK: &str = "npm:@modelcontextprotocol/sdk@1.32.2";
const TIME: &str = "pypi:mcp-server-time==2026.10.19";
const TIME_TABLE: &str =
    "[tools.get_current_time]\neffects = [\"read\"]\n[tools.convert_time]\neffects = [\"read\"]\n";

/// A server without any library: it dies when told to, and looks at what its cell can reach.
const FRAGILE: &str = r#"
import json, os, socket, sys
def reaches(address, send=b""):
    try:
        with socket.create_connection(address, timeout=30) as connection:
            if not send:
                return "reached"
            connection.sendall(send)
            return b"".join(iter(lambda: connection.recv(4000), b"")).decode(errors="replace")
    except OSError as error:
        return "unreachable: %s" % error
POST = (b"POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: application/json, text/event-stream\r\n"
        b"mcp-protocol-version: 2025-06-18\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s")
MODEL = b'{"model":"x","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}'
TOOLS = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
print("\x1b[2Jup, with %s" % sorted(os.environ), file=sys.stderr, flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    name = message.get("params", {}).get("name")
    if message["method"] == "initialize":
        answer["result"] = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "f", "version": "1"}}
    elif message["method"] == "tools/list":
        answer["result"] = {"tools": [{"name": n, "inputSchema": {"type": "object"}} for n in ["die", "look"]]}
    elif name == "die":
        os._exit(3)
    elif name == "look":
        seen = {"pid": os.getpid(), "internet": reaches(("1.1.1.1", 443)), "uid": os.getuid(),
                "model": reaches(("127.0.0.1", 8181), POST % (b"/v1/messages", len(MODEL), MODEL)),
                "tools": reaches(("127.0.0.1", 8182), POST % (b"/mcp", len(TOOLS), TOOLS))}
        answer["result"] = {"content": [{"type": "text", "text": json.dumps(seen)}]}
    else:
        answer["error"] = {"code": -32601, "message": "no such method"}
    print(json.dumps(answer), flush=True)
"#;
const FRAGILE_TABLE: &str = "[tools.die]\neffects = [\"read\"]\n[tools.look]\neffects = [\"read\"]\n";

/// An agent that makes the calls of its prompt, `[[tool, arguments], …]`, and prints the texts of the results.
fn caller(lab: &Lab, name: &str, team: &str, rules: &str) {
    let script = r#"
import json, sys, urllib.request
for at, (tool, arguments) in enumerate(json.loads(sys.argv[1])):
    message = {"jsonrpc": "2.0", "id": at, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    head = {"content-type": "application/json", "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2025-06-18"}
    request = urllib.request.Request("http://127.0.0.1:8182/mcp", json.dumps(message).encode(), head)
    text = urllib.request.urlopen(request, timeout=600).read().decode()
    text = text if text.startswith("{") else [l for l in text.splitlines() if l.startswith("data:")][-1][5:]
    answer = json.loads(text)
    result = answer.get("result", {"content": [{"text": json.dumps(answer)}], "isError": True})
    text = " ".join(result["content"][0]["text"].splitlines())
    print(("failed: " if result.get("isError") else "") + text, flush=True)
"#;
    agent(lab, name, team, &format!("[\"python3\", \"-c\", '''{script}''']"), "base", rules);
}

fn agent(lab: &Lab, name: &str, team: &str, command: &str, image: &str, rules: &str) {
    lab.agent(
        name,
        &format!(
            "name = \"{name}\"\nteam = \"{team}\"\nharness = {{ command = {command} }}\nimage = \"{image}\"\n{rules}"
        ),
    );
}

fn applied(lab: &Lab, name: &str) -> String {
    lab.run(&["agent", "apply", name, "--yes"], "").expect(0).stdout
}

/// Makes calls and gives the lines that were printed.
fn calls(lab: &Lab, agent: &str, calls: &str) -> Vec<String> {
    let done = lab.session(&[agent, calls], "").expect(0);
    done.stdout.lines().map(str::to_owned).collect()
}

fn build(lab: &Lab, image: &str) {
    drop(lab.run(&["image", "build", image], "").expect(0));
}

fn add(lab: &Lab, args: &[&str]) {
    drop(lab.run(&[&["server", "add"], args].concat(), "").expect(0));
}

/// The cells of tool servers: `[server, team, state]`.
fn servers(lab: &Lab) -> Vec<String> {
    let listed = lab.run(&["ps"], "").expect(0).stdout;
    let cells =
        listed.lines().filter_map(|line| line.split_once("  server ").map(|(_, cell)| cell.to_owned()));
    cells.map(|cell| cell.split_whitespace().take(3).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn two_teams_have_a_cell_each_and_neither_sees_the_other_s_files() {
    let mut lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    build(&lab, FILES);
    let shown = lab.run(&["image", "show", FILES], "").expect(0).stdout;
    assert!(shown.contains("node_modules/@modelcontextprotocol/sdk") && shown.contains("sha512-"), "{shown}");
    let server = ["--table", "filesystem", "--image", FILES, "--allow-emulation"];
    let program = ["--", "mcp-server-filesystem", "/workspace"];
    add(&lab, &[&["files"], &server[..], &program].concat());
    let rules = "[tools.files]\nallow = [\"list_*\", \"create_directory\"]\n";
    caller(&lab, "ann", "sales", rules);
    caller(&lab, "bob", "support", rules);
    let asked = applied(&lab, "ann") + &applied(&lab, "bob");
    assert!(asked.contains("files__list_directory") && !asked.contains("files__write_file"), "{asked}");
    let mut cells = servers(&lab);
    cells.sort();
    assert_eq!(cells, ["files of sales", "files of support"]);
    assert_eq!(machines(lab.daemon_pid()).len(), 2, "each has a machine of its own");

    let mark = lab.path("").file_name().unwrap().to_string_lossy().into_owned();
    let make = format!(r#"[["files__create_directory", {{"path": "/workspace/{mark}"}}]]"#);
    let list =
        r#"[["files__list_directory", {"path": "/workspace"}], ["files__list_directory", {"path": "/etc"}]]"#;
    let made = calls(&lab, "ann", &make);
    assert!(made[0].contains("Successfully created"), "{made:?}");
    let of_sales = calls(&lab, "ann", list).join("\n");
    assert!(of_sales.contains(&mark), "{of_sales}");
    assert!(of_sales.contains("failed: ") && of_sales.contains("outside allowed directories"), "{of_sales}");
    let of_support = calls(&lab, "bob", list).join("\n");
    assert!(!of_support.contains(&mark), "{of_support}");

    // The disks stay when the daemon ends.
    drop(lab.run(&["stop", "--daemon"], "").expect(0));
    lab.restart_daemon();
    let of_sales = calls(&lab, "ann", list).join("\n");
    assert!(of_sales.contains(&mark), "{of_sales}");

    // Killed with -9, it takes its servers' cells with it.
    let running = machines(lab.daemon_pid());
    assert_eq!(running.len(), 1);
    lab.kill_daemon();
    deadline("no machine is left", Duration::from_secs(20), || none_left(&running).then_some(()));
    lab.restart_daemon();
    assert!(servers(&lab).is_empty());
    assert!(calls(&lab, "ann", list)[0].starts_with("[DIR]"));
    drop(lab.run(&["server", "rm", "files"], "").expect(0));
    deadline("a removed server's cell goes", Duration::from_secs(20), || {
        servers(&lab).is_empty().then_some(())
    });
}

#[test]
fn a_server_of_pypi_answers_from_its_cell() {
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    build(&lab, TIME);
    let shown = lab.run(&["image", "show", TIME], "").expect(0);
    let packages: Vec<&str> =
        shown.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(packages.contains(&"mcp") && packages.contains(&"pydantic-core"), "{packages:?}");
    assert!(shown.stdout.contains("sha256:") && shown.stdout.contains("/dist-packages"), "{}", shown.stdout);
    // By its digest it is this very image, and no other.
    let digest = shown.stderr.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap();
    build(&lab, &format!("{TIME}@{digest}"));
    let other = format!("{TIME}@sha256:{}", "0".repeat(64));
    let refused = lab.run(&["image", "build", &other], "").expect(1).stderr;
    assert!(refused.contains(&format!("it comes to {digest} now")), "{refused}");

    fs::write(lab.path("config/lazaret/time.toml"), TIME_TABLE).unwrap();
    let server = ["clock", "--table", "time.toml", "--image", TIME, "--allow-emulation"];
    add(&lab, &[&server[..], &["--", "mcp-server-time"]].concat());
    caller(&lab, "ann", "sales", "[tools.clock]\nallow = [\"convert_time\"]\n");
    let asked = applied(&lab, "ann");
    assert!(asked.contains("clock__convert_time") && !asked.contains("get_current_time"), "{asked}");
    let times = r#"{"source_timezone": "Asia/Kathmandu", "time": "16:30", "target_timezone": "UTC"}"#;
    let wrong = r#"{"source_timezone": "Nowhere/Else", "time": "16:30", "target_timezone": "UTC"}"#;
    let told = calls(
        &lab,
        "ann",
        &format!(r#"[["clock__convert_time", {times}], ["clock__convert_time", {wrong}]]"#),
    );
    assert!(told[0].contains("T10:45:00+00:00"), "{told:?}");
    assert!(told[1].starts_with("failed: ") && told[1].contains("Nowhere/Else"), "{told:?}");
}

#[test]
fn a_server_that_dies_is_started_anew_and_has_nothing_but_its_streams() {
    let mut lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    fs::write(lab.path("config/lazaret/fragile.toml"), FRAGILE_TABLE).unwrap();
    let server = ["fragile", "--table", "fragile.toml", "--image", "base"];
    let program = ["--", "python3", "-c", FRAGILE];
    let doctor = lab.run(&["doctor", "--json"], "").stdout;
    let doctor: Value = serde_json::from_str(&doctor).unwrap();
    if doctor["isolation"] == "emulated" {
        add(&lab, &[&server[..], &program].concat());
        let refused = lab.run(&["server", "show", "fragile"], "").expect(1).stdout;
        assert!(refused.contains("emulation is no security boundary"), "{refused}");
    }
    add(&lab, &[&server[..], &["--allow-emulation"], &program].concat());
    caller(&lab, "ann", "sales", "[tools.fragile]\nallow = [\"*\"]\n");
    applied(&lab, "ann");
    let log = lab.run(&["server", "show", "fragile", "--team", "sales"], "").expect(0).stdout;
    assert!(log.contains("\\u{1b}[2Jup, with ["), "what it writes is shown as text: {log}");
    assert!(!log.contains("KEY") && !log.contains("TOKEN"), "{log}");

    let told = calls(&lab, "ann", r#"[["fragile__look", {}], ["fragile__die", {}], ["fragile__look", {}]]"#);
    let before: Value = serde_json::from_str(&told[0]).unwrap();
    assert!(told[1].starts_with("failed: "), "{told:?}");
    let after: Value = serde_json::from_str(&told[2]).unwrap_or_else(|_| panic!("{told:?}"));
    for seen in [&before, &after] {
        assert_eq!(seen["uid"], 1000);
        let said = |what: &str| seen[what].as_str().unwrap().to_owned();
        assert!(said("internet").starts_with("unreachable"), "{seen}");
        assert!(said("model").starts_with("HTTP/1.1 502"), "{seen}");
        assert!(said("tools").contains("error") && !said("tools").contains("\"result\""), "{seen}");
    }
    let log = lab.run(&["server", "show", "fragile", "--team", "sales"], "").expect(0).stdout;
    assert!(log.contains("lazaret: it ended: exit code 3"), "{log}");
    assert!(lab.model.recorded().is_empty(), "no model was asked");

    // Its machine is killed from outside: the next call has another.
    let machine = machines(lab.daemon_pid());
    assert_eq!(machine.len(), 1);
    for pid in &machine {
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    }
    deadline("its cell goes", Duration::from_secs(20), || servers(&lab).is_empty().then_some(()));
    let told = calls(&lab, "ann", r#"[["fragile__look", {}]]"#);
    assert!(told[0].contains("\"pid\""), "{told:?}");

    // What nobody uses goes by itself.
    let path = lab.path("config/lazaret/servers.toml");
    let text = fs::read_to_string(&path).unwrap().replace("idle = \"15m\"", "idle = \"1s\"");
    fs::write(&path, text).unwrap();
    lab.kill_daemon();
    lab.restart_daemon();
    drop(lab.run(&["server", "show", "fragile", "--team", "sales"], "").expect(0));
    deadline("an idle server's cell goes", Duration::from_secs(60), || {
        servers(&lab).is_empty().then_some(())
    });
}

#[test]
fn the_official_client_uses_the_everything_server_from_inside_a_cell() {
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    build(&lab, EVERYTHING);
    build(&lab, SDK);
    let server = ["all", "--table", "everything", "--image", EVERYTHING, "--allow-emulation"];
    add(&lab, &[&server[..], &["--", "mcp-server-everything", "stdio"]].concat());
    let script = r#"
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
const client = new Client({ name: "test", version: "1.0.0" });
await client.connect(new StreamableHTTPClientTransport(new URL(process.env.LAZARET_TOOLS_URL)));
const patience = { timeout: 600000, maxTotalTimeout: 600000, onprogress: p => console.log("progress " + p.progress) };
const call = async (name, args) => {
  const result = await client.callTool({ name, arguments: args }, undefined, patience);
  console.log(JSON.stringify(result));
};
const { tools } = await client.listTools();
console.log("tools " + tools.map(t => t.name).sort().join(" "));
await call("all__echo", { message: "hello" });
await call("all__get-sum", { a: 2, b: 40 });
await call("all__get-tiny-image", {});
await call("all__get-structured-content", { location: "New York" });
await call("all__trigger-long-running-operation", { duration: 2, steps: 2 });
await client.callTool({ name: "all__get-env", arguments: {} }).then(
  r => console.log("env " + JSON.stringify(r)), e => console.log("env " + e.message));
await client.close();
"#;
    let run = "cd /opt/npm && exec node --input-type=module -e \"$0\"";
    let command = format!("[\"sh\", \"-c\", '{run}', '''{script}''']");
    let rules = "[tools.all]\nallow = [\"echo\", \"get-*\", \"trigger-*\"]\ndeny = [\"get-env\"]\n[limits]\nmemory = \"768MiB\"\n";
    agent(&lab, "ann", "sales", &command, SDK, rules);
    let asked = applied(&lab, "ann");
    assert!(asked.contains("all__get-sum") && !asked.contains("allow all__get-env"), "{asked}");
    let said = lab.session(&["ann"], "").expect(0).stdout;
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("tools all__echo ") && !lines[0].contains("get-env"), "{said}");
    for expected in
        ["Echo: hello", "sum of 2 and 40 is 42", "image/png", "\"structuredContent\":{", "progress 1"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let env = lines.iter().find(|line| line.starts_with("env ")).unwrap();
    assert!(!env.contains("PATH") && !env.contains("LAZARET"), "a tool that was denied answered: {env}");
    drop(lab.run(&["ledger", "verify"], "").expect(0));
}

/// A server without any library that fetches what it is told to, and says what it finds of a key.
const FETCHER: &str = r#"
import json, os, sys, urllib.error, urllib.request
def fetch(url, key):
    headers = {"x-key": os.environ["LAZARET_SECRET_API"]} if key else {}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=100)
        return "%d %s" % (answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        return "%d %s" % (error.code, error.read().decode())
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if message["method"] == "initialize":
        answer["result"] = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "f", "version": "1"}}
    elif message["method"] == "tools/list":
        texts = {"type": "object", "properties": {"url": {"type": "string"}}}
        answer["result"] = {"tools": [{"name": n, "inputSchema": texts} for n in ["fetch", "fetch_keyed", "look"]]}
    elif message["method"] == "tools/call":
        name, arguments = message["params"]["name"], message["params"]["arguments"]
        text = str(dict(os.environ)) if name == "look" else fetch(arguments["url"], name == "fetch_keyed")
        answer["result"] = {"content": [{"type": "text", "text": text}]}
    else:
        answer["error"] = {"code": -32601, "message": "no such method"}
    print(json.dumps(answer), flush=True)
"#;
const FETCHER_TABLE: &str = "[tools.fetch]\neffects = [\"read\"]\n[tools.fetch_keyed]\neffects = [\"read\"]\n[tools.look]\neffects = [\"read\"]\n";

#[test]
fn a_server_reaches_out_where_its_entry_says_with_a_key_that_it_never_has() {
    const KEY: &str = "key-canary-51c7a0e9";
    let site = Site::start(&["api.example", "other.example"], |asked| {
        let key = asked.header("x-key").unwrap_or("none");
        Reply::Bytes("text/plain", format!("{} with {key}", asked.line).into_bytes())
    });
    let mut lab = Lab::without_daemon(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    lab.network(&site.network(&lab.path("")));
    lab.restart_daemon();
    fs::write(lab.path("config/lazaret/fetcher.toml"), FETCHER_TABLE).unwrap();
    let set = ["secret", "set", "api", "--to", "https://api.example", "--as", "header:x-key"];
    drop(lab.run(&set, KEY).expect(0));
    let server = ["fetcher", "--table", "fetcher.toml", "--image", "base", "--allow-emulation"];
    let out = ["--egress", "GET https://api.example/items/*", "--lend", "api=https://api.example/items"];
    add(&lab, &[&server[..], &out, &["--", "python3", "-c", FETCHER]].concat());
    let shown = lab.run(&["server", "show", "fetcher"], "").expect(0).stdout;
    assert!(
        shown.contains("egress   GET https://api.example/items/*") && shown.contains("lent     api"),
        "{shown}"
    );

    caller(&lab, "ann", "sales", "[tools.fetcher]\nallow = [\"*\"]\n");
    // What its tools are told may leave: that is so whatever its table says.
    let asked = applied(&lab, "ann");
    assert!(asked.contains("communicate"), "{asked}");
    let ask = |tool: &str, url: &str| format!(r#"["fetcher__{tool}", {{"url": "{url}"}}]"#);
    let asks = [
        ask("fetch", "https://api.example/items/1"),
        ask("fetch_keyed", "https://api.example/items/2"),
        ask("fetch", "https://api.example/else"),
        ask("fetch", "https://other.example/items/1"),
        ask("look", ""),
    ];
    let told = calls(&lab, "ann", &format!("[{}]", asks.join(", ")));
    assert_eq!(told[0], "200 GET /items/1 with [redacted]", "{told:?}");
    assert_eq!(told[1], "200 GET /items/2 with [redacted]", "{told:?}");
    for refused in &told[2..4] {
        assert!(refused.starts_with("403 lazaret: ") && refused.contains("no rule allows"), "{told:?}");
    }
    assert!(told[4].contains("lazaret-secret-api") && told[4].contains("127.0.0.1:8183"), "{told:?}");
    let left: Vec<String> =
        site.asked().iter().map(|a| format!("{} {:?}", a.line, a.header("x-key"))).collect();
    assert_eq!(left, [format!("GET /items/1 Some({KEY:?})"), format!("GET /items/2 Some({KEY:?})")]);

    let ledger = lab.run(&["ledger", "export"], "").expect(0).stdout;
    assert!(ledger.contains("servers.toml, [fetcher.cell]") && ledger.contains("other.example"), "{ledger}");
    assert!(!told.join("").contains(KEY) && !ledger.contains(KEY));
}
