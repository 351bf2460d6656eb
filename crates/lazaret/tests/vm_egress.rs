//! How programs of a real cell meet the way out: a refusal that they can read, over TLS that they trust, and no other way.

use serde_json::Value;
use testkit::Lab;

/// Tries the ways out, and prints what came of each.
const PROGRAM: &str = r#"
import json, os, socket, subprocess, urllib.error, urllib.request

def run(*argv, **more):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=200, **more)
    return {"code": done.returncode, "said": done.stdout + done.stderr}

def fetched(url, **more):
    try:
        return {"code": 0, "said": urllib.request.urlopen(url, timeout=100, **more).read().decode()}
    except urllib.error.HTTPError as error:
        return {"code": error.code, "said": error.read().decode()}
    except Exception as error:
        return {"code": -1, "said": repr(error)}

def resolved(name):
    try:
        return {"code": 0, "said": str(socket.getaddrinfo(name, 443))}
    except OSError as error:
        return {"code": -1, "said": repr(error)}

def through(target, what):
    with socket.create_connection(("127.0.0.1", 8183), timeout=100) as to:
        to.sendall(("CONNECT %s HTTP/1.1\r\nhost: %s\r\n\r\n" % (target, target)).encode())
        head = to.recv(4096).decode()
        to.sendall(what)
        return {"code": int(head.split()[1]), "said": to.recv(4096).decode()}

curl = ["curl", "--silent", "--show-error", "--include", "--max-time", "100"]
plain = {"PATH": os.environ["PATH"], "HTTPS_PROXY": os.environ["HTTPS_PROXY"]}
print(json.dumps({
    "http": run(*curl, "http://example.com/a?b"),
    "https1": run(*curl, "--http1.1", "https://example.com/a"),
    "https2": run(*curl, "--http2", "https://example.com/a"),
    "post": run(*curl, "--data", "x=y", "https://example.com/a"),
    "address": run(*curl, "https://93.184.216.34/a"),
    "bundle": run(*curl, "https://example.com/a", env=plain),
    "python": fetched("https://example.com/a"),
    "git": run("git", "ls-remote", "https://example.com/a.git"),
    "other ca": run(*curl, "--cacert", "/etc/hostname", "https://example.com/a"),
    "other host": run(*curl, "--header", "host: evil.example", "https://example.com/a"),
    "websocket": run(*curl, "--http1.1", "--header", "connection: upgrade", "--header", "upgrade: websocket", "https://example.com/a"),
    "ssh": through("example.com:22", b"SSH-2.0-x\r\n\r\n"),
    "socks": through("example.com:443", b"\x05\x01\x00"),
    "dots": run(*curl, "--path-as-is", "https://example.com/a/%2e%2e/b"),
    "around, by name": run(*curl, "--noproxy", "*", "https://example.com/"),
    "around, by address": run(*curl, "--noproxy", "*", "https://93.184.216.34/"),
    "metadata": run(*curl, "--noproxy", "*", "http://169.254.169.254/"),
    "name": resolved("example.com"),
}))
"#;

#[test]
fn the_only_way_out_of_a_cell_is_one_that_can_say_no() {
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    lab.agent(
        "outward",
        &format!(
            "name = \"outward\"\nharness = {{ command = [\"python3\", \"-c\", '''{PROGRAM}'''] }}\nimage = \"base\"\n\
             [limits]\nmemory = \"256MiB\"\nwall_clock = \"10m\"\n"
        ),
    );
    let done = lab.session(&["outward"], "").expect(0);
    let tried: Value = serde_json::from_str(done.stdout.trim()).unwrap();
    let expect = |way: &str, code: i64, words: &[&str]| {
        let found = &tried[way];
        let said = found["said"].as_str().unwrap_or_default();
        assert_eq!(found["code"], code, "{way}: {found}");
        assert!(words.iter().all(|word| said.contains(word)), "{way}: {said}");
    };
    let closed = "lazaret: egress is closed";
    expect("http", 0, &["HTTP/1.1 403", closed, "`example.com`"]);
    // TLS was verified: curl takes no certificate that it does not trust.
    expect("https1", 0, &["HTTP/1.1 200", "HTTP/1.1 403", closed]);
    expect("https2", 0, &["HTTP/2 403", closed]);
    expect("post", 0, &["403", closed]);
    expect("address", 0, &["403", closed]);
    // And where nothing tells it whom to trust.
    expect("bundle", 0, &["403", closed]);
    expect("python", 403, &[closed]);
    expect("git", 128, &["403"]);
    assert_ne!(tried["other ca"]["code"], 0, "{}", tried["other ca"]);
    expect("other host", 0, &["421", "lazaret: "]);
    expect("websocket", 0, &["501", "WebSockets"]);
    expect("ssh", 200, &["HTTP/1.1 400"]);
    expect("socks", 200, &["only HTTP leaves a cell"]);
    expect("dots", 0, &["400", "`..`"]);
    for way in ["around, by name", "around, by address", "metadata", "name"] {
        assert_ne!(tried[way]["code"], 0, "{way}: {}", tried[way]);
    }
}
