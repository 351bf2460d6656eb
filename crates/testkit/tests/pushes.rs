//! What git itself says to a real host through a session's way out: which of its pushes arrive, and what it is told of the
//! others.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use demo::{GIT_HOST, GitHost};
use dial::Network;
use testkit::way_out::WayOut;
use tokio::process::Command;

/// A clone of a repository of a real host, whose pushes go through an agent's way out.
struct Clone {
    host: GitHost,
    way: WayOut,
    _root: tempfile::TempDir,
    work: tempfile::TempDir,
}

impl Clone {
    /// By these rules, in which `REPOSITORY` is its URL.
    async fn by(rules: &str) -> Self {
        let (root, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let host = GitHost::start(root.path(), "pass").await.unwrap();
        host.make("acme/app.git", &[("README", "an app\n")]).await.unwrap();
        let rules = rules.replace("REPOSITORY", &host.url("acme/app"));
        let agent = format!("name = \"courier\"\nharness = {{ command = [\"true\"] }}\n[egress]\n{rules}\n");
        let trusted = root.path().join("ca.pem");
        fs::write(&trusted, &host.authority).unwrap();
        let network = Network {
            private: vec![format!("{GIT_HOST}:{}", host.port).parse().unwrap()],
            ca: Some(trusted),
            ..Network::default()
        };
        let way = WayOut::open(&agent, network).await;
        fs::write(work.path().join("ca.pem"), &way.authority).unwrap();
        let clone = Self { host, way, _root: root, work };
        let url = clone.host.url("acme/app.git").replace("https://", "https://x-access-token:pass@");
        let (code, said) = clone.git(&["clone", "-q", &url, "app"]).await;
        assert!(code, "{said}");
        clone
    }

    /// Whether git did it, and what it said.
    async fn git(&self, words: &[&str]) -> (bool, String) {
        let app = self.work.path().join("app");
        let folder: PathBuf = if app.exists() { app } else { self.work.path().to_owned() };
        let proxy = format!("http://{}", self.way.proxy);
        let mut command = Command::new("git");
        command.args(words).current_dir(folder).env_clear().envs([
            ("PATH", "/usr/bin:/bin"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("https_proxy", &proxy),
        ]);
        command.env("GIT_SSL_CAINFO", self.work.path().join("ca.pem"));
        let done = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    async fn branches(&self) -> Vec<String> {
        self.host.refs("acme/app.git").await.unwrap().into_keys().collect()
    }
}

#[tokio::test]
async fn git_pushes_without_options_and_is_refused_with_them() {
    let clone =
        Clone::by("allow = [\"FETCH REPOSITORY\", \"PUSH REPOSITORY refs/heads/agent/* no-ci\"]").await;
    let (code, said) = clone.git(&["push", "origin", "HEAD:refs/heads/agent/plain"]).await;
    assert!(code, "{said}");
    let merges = ["-o", "merge_request.create", "-o", "merge_request.merge_when_pipeline_succeeds"];
    let words = [&["push"], &merges[..], &["origin", "HEAD:refs/heads/agent/merged"]].concat();
    let (code, said) = clone.git(&words).await;
    assert!(!code && said.contains("403"), "{said}");
    assert_eq!(clone.branches().await, ["refs/heads/agent/plain", "refs/heads/main"]);
}
