//! The images that are built here, whole: as whoever runs the tests, from this host's distribution and npm's registry.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use cell::image::{Image, ImageStore, Progress};
use dial::{Dialer, Network};

/// Everything in the image: path to mode and owner as `unsquashfs -lln` prints them, links with their targets.
fn listing(image: &Path) -> BTreeMap<String, String> {
    let out = Command::new("unsquashfs").arg("-lln").arg(image).output().unwrap();
    assert!(out.status.success());
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains("squashfs-root/")) {
        let (facts, path) = line.split_once("squashfs-root/").unwrap();
        let mut facts = facts.split_whitespace();
        let (mode, owner) = (facts.next().unwrap(), facts.next().unwrap());
        let (path, target) = path.split_once(" -> ").map_or((path, ""), |(path, target)| (path, target));
        found.insert(path.to_owned(), format!("{mode} {owner} {target}"));
    }
    found
}

fn text_of(image: &Image, path: &str) -> String {
    let out = Command::new("unsquashfs").arg("-cat").arg(&image.path).arg(path).output().unwrap();
    assert!(out.status.success(), "{path}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

const COMMANDS: [&str; 17] = [
    "sh", "bash", "ls", "awk", "git", "curl", "python3", "pip", "find", "grep", "sed", "tar", "ps", "less",
    "patch", "rg", "env",
];

fn check_base(base: &Image) {
    let found = listing(&base.path);
    for command in COMMANDS {
        assert!(found.contains_key(&format!("usr/bin/{command}")), "{command} is missing");
    }
    for (path, facts) in [
        ("home/agent", "drwxr-xr-x 1000/1000 "),
        ("workspace", "drwxr-xr-x 1000/1000 "),
        ("tmp", "drwxrwxrwt 0/0 "),
        (".lazaret", "drwxr-xr-x 0/0 "),
        ("bin", "lrwxrwxrwx 0/0 usr/bin"),
        ("lib64", "lrwxrwxrwx 0/0 usr/lib64"),
    ] {
        assert_eq!(found.get(path).map(String::as_str), Some(facts), "{path}");
    }
    // pip installs for the agent without being told that it may, and needn't be compiled at each start.
    assert!(found.keys().all(|path| !path.ends_with("/EXTERNALLY-MANAGED")));
    assert!(found.keys().any(|path| path.contains("/pip/_internal/__pycache__/")));
    assert!(found.keys().any(|path| path.ends_with("/ensurepip/__init__.py")), "`python3 -m venv` works");
    for (path, facts) in &found {
        let mode = facts.split(' ').next().unwrap();
        assert!(!mode.starts_with(['b', 'c', 'p', 's']), "{path} is a device, pipe or socket");
        assert!(!mode.starts_with('-') || !mode.contains(['s', 'S']), "{path} is privileged");
    }
    assert!(found.len() > 4000, "{}", found.len());
    assert!(base.left_out.privileged_bits > 0, "su and its like were there");
    assert!(text_of(base, "etc/passwd").starts_with("agent:x:1000:1000:"));
    assert!(text_of(base, "etc/ssl/certs/ca-certificates.crt").matches("BEGIN CERTIFICATE").count() > 50);
}

/// Where tests run, a mirror of npm's registry may stand at an address that isn't public.
fn dialer() -> Dialer {
    let private = vec!["registry.npmjs.org:443".parse().unwrap()];
    Dialer::new(Network { private, ..Network::default() }).unwrap()
}

#[tokio::test]
async fn built_images_hold_what_agents_need() {
    let data = tempfile::tempdir().unwrap();
    let store = ImageStore::open(data.path(), dialer()).unwrap();
    let silent = Progress::silent();
    let base = store.resolve_or_build_base(&"base".parse().unwrap(), &silent).await.unwrap();
    check_base(&base);
    // The real agents, on the same base; a second build finds the first.
    for (name, command) in [("claude-code", "claude"), ("codex", "codex")] {
        let name = name.parse().unwrap();
        let image = store.build(&name, &silent).await.unwrap();
        let found = listing(&image.path);
        let target = found.get(&format!("usr/local/bin/{command}")).unwrap();
        let target = target.rsplit(' ').next().unwrap().trim_start_matches('/');
        assert!(found.get(target).is_some_and(|facts| facts.starts_with("-rwxr-xr-x 0/0")), "{target}");
        assert!(found.contains_key("opt/node/bin/node") && found.contains_key("usr/bin/git"));
        assert_eq!(store.build(&name, &silent).await.unwrap(), image);
    }
}
