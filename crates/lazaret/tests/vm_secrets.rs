//! The canary: a provider's key that is used, and found nowhere but in the daemon and at the provider.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails says where")]

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use demo::scripted::{Action, Script};
use nix::unistd::geteuid;
use serde_json::{Value, json};
use testkit::{Asked, CANARY, Lab, Reply, Site};

/// The key as it might have been written down: as it is, in hex, and in base64 at each of the three alignments.
fn spellings() -> Vec<Vec<u8>> {
    let mut all =
        vec![CANARY.as_bytes().to_vec(), hex(CANARY).into_bytes(), hex(CANARY).to_uppercase().into_bytes()];
    for shift in 0..3 {
        let text = base64(&[&b"xyz"[..shift], CANARY.as_bytes()].concat());
        // The ends depend on what stands beside them.
        all.push(text.as_bytes()[4..text.len() - 4].to_vec());
    }
    all
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let all =
            chunk.iter().fold(0_u32, |all, byte| (all << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            out.push(char::from(LETTERS[(all >> (18 - 6 * at)) as usize & 63]));
        }
    }
    out
}

fn holds_canary(bytes: &[u8]) -> bool {
    spellings().iter().any(|spelling| memchr::memmem::find(bytes, spelling).is_some())
}

/// The key with its escapes, too: as servers, forms and pages write it.
fn holds_escaped(bytes: &[u8]) -> bool {
    let escaped = ["%2D", "%2d", "&#45;"].map(|dash| CANARY.replace('-', dash));
    holds_canary(bytes) || escaped.iter().any(|text| memchr::memmem::find(bytes, text.as_bytes()).is_some())
}

/// Every process below this one.
fn descendants(of: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1))
            .and_then(|p| p.parse().ok());
        if parent == Some(of) {
            found.push(pid);
            found.extend(descendants(pid));
        }
    }
    found
}

/// What is in a process's memory, in pieces that overlap by more than the key's length; how many bytes were read. A page that
/// can't be read hides none of the others.
fn search_memory(pid: u32, mut each: impl FnMut(&[u8])) -> std::io::Result<u64> {
    const OVERLAP: usize = 256;
    const PAGE: u64 = 4096;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut memory = fs::File::open(format!("/proc/{pid}/mem"))?;
    let mut read = 0;
    for line in maps.lines().filter(|line| line.contains(" r") && !line.contains("[v")) {
        let (from, rest) = line.split_once('-').unwrap();
        let to = u64::from_str_radix(rest.split(' ').next().unwrap(), 16).unwrap();
        let mut at = u64::from_str_radix(from, 16).unwrap();
        let mut piece = Vec::new();
        while at < to && memory.seek(SeekFrom::Start(at)).is_ok() {
            let kept = piece.len().min(OVERLAP);
            piece.drain(..piece.len() - kept);
            // An error may come after what there is before such a page.
            drop(memory.by_ref().take((to - at).min(1 << 20)).read_to_end(&mut piece));
            let got = (piece.len() - kept) as u64;
            if got > 0 {
                read += got;
                at += got;
                each(&piece);
            } else {
                piece.clear();
                at += PAGE;
            }
        }
    }
    Ok(read)
}

/// What programs in a cell do have.
const OF_PROGRAMS: &[u8] = b"LAZARET_MODEL_URL=";

/// That the memory of the daemon's children, guest and door among them, doesn't hold it. Only root may look.
fn assert_not_in_memory(lab: &Lab, holds: impl Fn(&[u8]) -> bool) {
    if !geteuid().is_root() {
        // Run by root, the tests run once more as an ordinary user, who isn't told of CI.
        let ci = std::env::var_os("LAZARET_CI").is_some();
        assert!(!ci, "only root may read the memory of guest and door: CI that leaves nothing out is root's");
        eprintln!("not searched: the memory of guest and door, which only root may read");
        return;
    }
    let (machine, door) =
        (|told: &str| told.contains("qemu-system"), |told: &str| told.trim_end().ends_with(" door"));
    let (mut searched, mut sees) = (Vec::new(), false);
    for pid in descendants(lab.daemon_pid()) {
        // Those that ended meanwhile have no words.
        let words = || fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let told = String::from_utf8_lossy(&words()).replace('\0', " ");
        let read = search_memory(pid, |piece| {
            assert!(!holds(piece), "a secret is in the memory of process {pid}: {told}");
            sees |= machine(&told) && memchr::memmem::find(piece, OF_PROGRAMS).is_some();
        });
        assert!(words().is_empty() || read.as_ref().is_ok_and(|read| *read > 0), "{pid}: {told}: {read:?}");
        searched.push((told, read.unwrap_or_default()));
    }
    assert!(sees, "the search doesn't see what the guest's programs have: {searched:?}");
    assert!(
        searched.iter().any(|(told, read)| door(told) && *read > 0),
        "the door is not among those searched: {searched:?}"
    );
}

#[test]
fn the_spellings_are_found_where_they_are() {
    for text in [CANARY.to_owned(), hex(CANARY), base64(format!("ab{CANARY}c").as_bytes())] {
        assert!(holds_canary(format!("before {text} after").as_bytes()), "{text}");
    }
    assert!(!holds_canary(b"sk-lazaret-placeholder"));
    let mut found = false;
    let here = std::hint::black_box(CANARY.to_owned());
    search_memory(std::process::id(), |piece| found |= holds_canary(piece)).unwrap();
    assert!(found, "{here} is in this process, and the search has to see it");
}

#[test]
fn the_providers_key_is_used_and_is_nowhere_in_the_guest() {
    // One call of the shell ends after two minutes at most.
    let step = || Action::Shell { command: "echo here; sleep 100".to_owned() };
    let wait = Script::new("waiter").then(step()).then(step()).then(step()).then(step());
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), vec![wait]);
    lab.agent("waiter", "name = \"waiter\"\nharness = \"builtin\"\nmodels = [\"scripted/waiter\"]\n[limits]\ndisk = \"64MiB\"\n");
    let mut child = lab.running("waiter");
    // Its input ends: a harness reads all of it first.
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"wait").unwrap();
    testkit::deadline("the model was asked", std::time::Duration::from_secs(60), || {
        (!lab.model.recorded().is_empty()).then_some(())
    });
    let asked = lab.model.recorded();
    assert!(asked[0].headers.iter().any(|(_, value)| value.contains(CANARY)), "the provider got the key");

    // Environment, files and /proc, as the agent can read them.
    let look = "import os\nfor top, dirs, files in os.walk(\"/\"):\n  if top.startswith((\"/sys\", \"/dev\", \"/usr/lib\", \"/usr/share\")): dirs[:] = []; continue\n  for f in files:\n    if not os.path.isfile(os.path.join(top, f)): continue\n    try:\n      with open(os.path.join(top, f), \"rb\") as h:\n        os.write(1, h.read(1 << 20))\n    except OSError: pass";
    let dump = lab.command(&["exec", "waiter", "python3", "-c", look]).output().unwrap();
    assert!(dump.stdout.len() > 100_000, "{}", String::from_utf8_lossy(&dump.stderr));
    assert!(!holds_canary(&dump.stdout), "the key is in a file or in /proc of the container");
    let env = lab.run(&["exec", "waiter", "env"], "").expect(0);
    assert!(!holds_canary(env.stdout.as_bytes()));

    // The whole memory of the VM and of its door, from outside.
    assert_not_in_memory(&lab, holds_canary);
    let disk = find_disk(lab.data(), "waiter");
    assert!(!holds_canary(&fs::read(disk).unwrap()), "the key is on the agent's disk");

    // Nor in logs.
    for folder in ["state", "run"] {
        for file in walk(&lab.path(folder)) {
            assert!(!holds_canary(&fs::read(&file).unwrap_or_default()), "{}", file.display());
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// How secret `n` of the twenty is shown: `--as`, and the header that the host then sends.
fn shown(n: usize) -> (&'static str, String, String) {
    let secret = format!("{CANARY}-{n:02}");
    match n % 3 {
        0 => ("bearer", "authorization".to_owned(), format!("Bearer {secret}")),
        1 => {
            let pair = base64(format!("ann:{secret}").as_bytes());
            let padded = format!("{pair}{}", "=".repeat((4 - pair.len() % 4) % 4));
            ("basic:ann", "authorization".to_owned(), format!("Basic {padded}"))
        }
        _ => ("header:x-key", "x-key".to_owned(), secret),
    }
}

/// Asks every host for what only its secret opens, and looks for it where it is.
const USES: &str = r#"
import os, time, urllib.request
for n in range(1, 19):
    url = "https://api%d.example/use" % n
    for asked in [url, urllib.request.Request(url, headers={"x-key": os.environ["LAZARET_SECRET_S%d" % n]})]:
        print(n, urllib.request.urlopen(asked, timeout=60).read().decode())
print(os.environ)
print("all used", flush=True)
time.sleep(60)
"#;

/// The tool server whose token the host adds: the last of the twenty.
const CRM: &str = "crm.example";

/// Everybody's host: echoes what it was sent to whoever shows the right key.
fn echo(asked: &Asked) -> Reply {
    let host = asked.host.trim_start_matches("api").trim_end_matches(".example");
    let n = if asked.host == CRM { 19 } else { host.parse().unwrap_or(0) };
    let (_, header, value) = shown(n);
    if asked.header(&header) != Some(&value) {
        return Reply::Status(401);
    }
    let (escaped, page) = (value.replace('-', "%2D"), value.replace('-', "&#45;"));
    let said = format!("opened by {value} {} {escaped} {page}", hex(&value));
    if asked.host == CRM { tools(asked, &said) } else { Reply::Bytes("text/plain", said.into_bytes()) }
}

/// A tool server with one tool, which says this.
fn tools(asked: &Asked, said: &str) -> Reply {
    let Ok(message) = serde_json::from_str::<Value>(&asked.body) else { return Reply::Status(405) };
    let result = match message["method"].as_str() {
        Some("initialize") => json!({
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "crm", "version": "1"}
        }),
        Some("tools/list") => {
            json!({"tools": [{"name": "look", "description": said, "inputSchema": {"type": "object"}}]})
        }
        Some("tools/call") => json!({"content": [{"type": "text", "text": said}]}),
        Some("server/discover") => return Reply::Status(404),
        _other => return Reply::Status(202),
    };
    let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
    Reply::Bytes("application/json", answer.to_string().into_bytes())
}

/// Stores all but the model's, each for its host; the file of an agent that may use them, or the tool server's.
fn stored(lab: &Lab, hosts: &[String]) -> String {
    let mut file = "name = \"user\"\nharness = \"builtin\"\nmodels = [\"vaulted/user\"]\n[limits]\ndisk = \"64MiB\"\n[egress]\nallow = [".to_owned();
    let rules: Vec<String> = hosts.iter().map(|host| format!("\"GET https://{host}/use\"")).collect();
    file.push_str(&format!("{}]\n[tools.crm]\nallow = [\"look\"]\n[secrets]\n", rules.join(", ")));
    for n in 1..20 {
        let to = if n == 19 { format!("https://{CRM}/mcp") } else { format!("https://api{n}.example") };
        if n < 19 {
            file.push_str(&format!("s{n} = [\"{to}\"]\n"));
        }
        let secret = lab.run(
            &["secret", "set", &format!("s{n}"), "--to", &to, "--as", shown(n).0],
            &format!("{CANARY}-{n:02}\n"),
        );
        assert!(!holds_canary(secret.expect(0).stderr.as_bytes()));
    }
    file
}

/// Stores the model's, and adds the tool server that is shown the last, with a tool that only reads.
fn model_and_tools(lab: &Lab) {
    // As the provider has it, once it was rotated.
    let set =
        ["secret", "set", "vaulted", "--to", &lab.provider, "--as", "header:x-api-key", "--method", "POST"];
    drop(lab.run(&set, "not the provider's key").expect(0));
    fs::write(lab.path("home/token"), format!("{CANARY}\n")).unwrap();
    drop(lab.run(&["secret", "rotate", "vaulted", "--from-command", "cat token"], "").expect(0));
    fs::remove_file(lab.path("home/token")).unwrap();
    let url = format!("https://{CRM}/mcp");
    drop(lab.run(&["server", "add", "crm", "--url", &url, "--secret", "s19"], "").expect(0));
    let table = lab.path("home/crm.toml");
    fs::write(&table, "[tools.look]\neffects = [\"read\"]\n").unwrap();
    drop(lab.run(&["server", "classify", "crm", "--from", &table.display().to_string()], "").expect(0));
}

#[test]
fn twenty_secrets_are_used_and_none_is_in_the_guest_a_file_a_log_an_answer_or_the_ledger() {
    let hosts: Vec<String> = (1..19).map(|n| format!("api{n}.example")).collect();
    let site = Site::start(&hosts.iter().map(String::as_str).chain([CRM]).collect::<Vec<_>>(), echo);
    let command = format!("python3 -c '{USES}'");
    let script =
        Script::new("user").then(Action::Tool { name: "crm__look".to_owned(), arguments: json!({}) });
    let script = script.then(Action::Shell { command });
    let script = script.then(Action::Shell { command: "sleep 100".to_owned() });
    let mut lab = Lab::without_daemon(env!("CARGO_BIN_EXE_lazaret"), vec![script]);
    lab.network(&site.network(&lab.path("")));
    lab.restart_daemon();
    let file = stored(&lab, &hosts);
    model_and_tools(&lab);
    let listed = lab.run(&["secret", "ls"], "").expect(0).stdout;
    assert!(
        listed.contains("vaulted") && listed.lines().count() == 21 && !holds_canary(listed.as_bytes()),
        "{listed}"
    );

    lab.agent("user", &file);
    let applied = lab.run(&["agent", "apply", "user", "--yes"], "").expect(0).stdout;
    assert!(applied.contains("crm__look") && !holds_escaped(applied.as_bytes()), "{applied}");
    let mut child = lab.running("user");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"use them").unwrap();
    testkit::deadline("all were used, twice", std::time::Duration::from_secs(200), || {
        (site.asked().iter().filter(|asked| asked.host != CRM).count() == 2 * 18).then_some(())
    });
    assert!(site.asked().iter().any(|asked| asked.body.contains("tools/call")), "the tool server was asked");
    assert!(lab.model.recorded()[0].headers.contains(&("x-api-key".to_owned(), CANARY.to_owned())));
    for asked in site.asked() {
        assert!(!matches!(echo(&asked), Reply::Status(401)), "{asked:?}");
    }
    assert_not_in_memory(&lab, holds_escaped);
    let disk = find_disk(lab.data(), "user");
    assert!(!holds_escaped(&fs::read(disk).unwrap()), "a secret is on the agent's disk");
    // What came back, as the program printed it and as its model was told.
    let told = testkit::deadline("the model is told", std::time::Duration::from_secs(200), || {
        lab.model.recorded().get(2).map(|asked| asked.body.clone())
    });
    let results = told.split("\"messages\"").last().unwrap();
    assert!(told.contains("all used") && results.matches("opened by").count() > 2 * 18, "{told}");
    assert!(told.contains("[redacted]") && !holds_escaped(told.as_bytes()), "{told}");
    assert!(!holds_escaped(lab.run(&["logs", "user"], "").expect(0).stdout.as_bytes()));

    // The key goes, and with it what the model may still be asked.
    drop(lab.run(&["secret", "rm", "vaulted"], "").expect(0));
    let ledger = lab.run(&["ledger", "export"], "").expect(0).stdout;
    for kind in ["secret-set", "secret-rotated", "secret-used", "secret-removed"] {
        assert!(ledger.contains(&format!("\"kind\":\"{kind}\"")), "{kind}");
    }
    // The tool server's, too: by the connection, and by the agent's call.
    let used = ledger.lines().filter(|line| line.contains("\"kind\":\"secret-used\""));
    let (calls, connections): (Vec<_>, Vec<_>) =
        used.filter(|line| line.contains("\"s19\"")).partition(|line| line.contains("\"agent\":\"user\""));
    assert_eq!((calls.len(), connections.len()), (1, 1), "{calls:?} {connections:?}");
    assert!(!holds_escaped(ledger.as_bytes()), "a secret is on the ledger");
    let vault = lab.path("state/lazaret/vault/secrets");
    assert!(fs::metadata(&vault).unwrap().len() > 20 * CANARY.len() as u64, "the vault holds them");
    for file in ["state", "run", "config", "home"].iter().flat_map(|folder| walk(&lab.path(folder))) {
        assert!(!holds_escaped(&fs::read(&file).unwrap_or_default()), "{}", file.display());
    }
    assert!(!holds_escaped(&fs::read(lab.path("serve.log")).unwrap()));
    child.kill().unwrap();
    child.wait().unwrap();
}

fn find_disk(data: &Path, agent: &str) -> std::path::PathBuf {
    walk(data)
        .into_iter()
        .find(|path| {
            path.to_string_lossy().contains(&format!("agents/{agent}/"))
                && fs::metadata(path).is_ok_and(|m| m.len() >= 1 << 20)
        })
        .expect("the agent has a disk")
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(walk(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            Ok(_) | Err(_) => {}
        }
    }
    found
}
