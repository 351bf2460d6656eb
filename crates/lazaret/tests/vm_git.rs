//! git in a real cell against a real host over HTTPS: clone, push where the agent's rules say, and nowhere else, with a
//! password that the cell never has.

use std::fs;

use demo::{GIT_HOST, GitHost};
use serde_json::Value;
use testkit::Lab;

const PASSWORD: &str = "gh-canary-9b1f63d2";

/// Works on the repository, tries what it may not, and prints what came of each.
const PROGRAM: &str = r#"
import json, os, subprocess

def run(*argv, **more):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=200, **more)
    return {"code": done.returncode, "said": done.stdout + done.stderr}

os.environ.update(GIT_TERMINAL_PROMPT="0", HOME="/tmp/home")
os.makedirs("/tmp/home")
run("git", "config", "--global", "user.name", "agent")
run("git", "config", "--global", "user.email", "agent@cell")
url = "HOST_URL"
tried = {"clone": run("git", "clone", "-q", url + "/acme/app.git", "/tmp/app")}
os.chdir("/tmp/app")
open("fix", "w").write("fixed")
run("git", "add", "-A")
run("git", "commit", "-q", "-m", "Mend it")
def push(*refs):
    return run("git", "push", "origin", *refs)
tried["agent"] = push("HEAD:refs/heads/agent/a")
tried["main"] = push("HEAD:refs/heads/main")
tried["both"] = push("HEAD:refs/heads/agent/b", "HEAD:refs/heads/main")
tried["tag"] = push("HEAD:refs/tags/v1")
tried["options"] = push("-o", "merge_request.merge_when_pipeline_succeeds", "HEAD:refs/heads/agent/o")
tried["other"] = run("git", "clone", "-q", url + "/acme/other.git", "/tmp/other")
mine = ["git", "-c", "http.extraHeader=Authorization: Basic eDp5", "ls-remote", url + "/acme/app.git"]
tried["own key"] = run(*mine)
tried["learned"] = run("curl", "-sS", "https://pypi.org/simple/idna/")
tried["looked"] = run("sh", "-c", "env; cat /proc/*/environ /proc/*/cmdline; git config -l; grep -r canary /tmp /run /etc /home 2>/dev/null")
print(json.dumps(tried))
"#;

fn agent(host: &GitHost) -> String {
    let url = host.url("acme");
    let program = PROGRAM.replace("HOST_URL", host.url("").trim_end_matches('/'));
    format!(
        "name = \"courier\"\nharness = {{ command = [\"python3\", \"-c\", '''{program}'''] }}\nimage = \"base\"\n\
         [egress]\nallow = [\"FETCH {url}/app\", \"PUSH {url}/app refs/heads/agent/* no-ci\"]\n\
         [secrets]\napp = [\"{url}/app.git\"]\n[limits]\nmemory = \"256MiB\"\nwall_clock = \"10m\"\n"
    )
}

#[test]
fn a_cell_clones_and_pushes_where_its_rules_say_with_a_password_that_it_never_has() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let root = tempfile::tempdir().unwrap();
    let host = runtime.block_on(async {
        let host = GitHost::start(root.path(), PASSWORD).await.unwrap();
        host.make("acme/app.git", &[("README", "an app\n")]).await.unwrap();
        host.make("acme/other.git", &[("README", "not for the agent\n")]).await.unwrap();
        host
    });
    let before = runtime.block_on(host.refs("acme/app.git")).unwrap();
    let lab = Lab::without_daemon(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    fs::write(lab.path("git-ca.pem"), &host.authority).unwrap();
    lab.network(&format!(
        "private = [\"{GIT_HOST}:{}\"]\nown = [\"{GIT_HOST}\"]\nca = \"{}\"\n",
        host.port,
        lab.path("git-ca.pem").display()
    ));
    lab.agent("courier", &agent(&host));
    let to = host.url("acme/");
    let set = ["secret", "set", "app", "--to", to.trim_end_matches('/'), "--as", "basic:x-access-token"];
    drop(lab.run(&set, PASSWORD).expect(0));
    drop(lab.run(&["agent", "apply", "courier", "--yes"], "").expect(0));
    let done = lab.session(&["courier"], "").expect(0);
    let tried: Value = serde_json::from_str(done.stdout.trim()).unwrap();

    let expect = |what: &str, ok: bool, word: &str| {
        let found = &tried[what];
        let said = found["said"].as_str().unwrap_or_default();
        assert_eq!(found["code"] == 0, ok, "{what}: {found}");
        assert!(said.contains(word), "{what}: {said}");
    };
    expect("clone", true, "");
    expect("agent", true, "HEAD -> agent/a");
    for what in ["main", "both", "tag", "options", "other"] {
        expect(what, false, "403");
    }
    // Its own key is dropped: the host's goes in its place.
    expect("own key", true, "refs/heads/main");
    expect("learned", true, "lazaret: ");

    let refs = runtime.block_on(host.refs("acme/app.git")).unwrap();
    let names: Vec<&str> = refs.keys().map(String::as_str).collect();
    assert_eq!(names, ["refs/heads/agent/a", "refs/heads/main"]);
    assert_eq!(refs["refs/heads/main"], before["refs/heads/main"]);
    assert_eq!(host.refused(), 0, "every request that left had the password");
    for spelling in [PASSWORD, "Z2gtY2FuYXJ5", "gh%2Dcanary"] {
        assert!(!done.stdout.contains(spelling) && !done.stderr.contains(spelling), "the cell had it");
    }
    let export = lab.run(&["ledger", "export"], "").expect(0).stdout;
    assert!(export.contains("refs/heads/agent/a") && !export.contains(PASSWORD));

    let learned = lab.run(&["policy", "learn", "courier", "--json"], "").expect(0).stdout;
    assert!(learned.contains("\"GET https://pypi.org/simple/idna/\""), "{learned}");
    assert!(learned.contains(&format!("FETCH {}\"", host.url("acme/other"))), "{learned}");
}
