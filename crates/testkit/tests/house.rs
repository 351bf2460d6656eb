//! The house's own rules, for what lints can't see: the dependency table, sizes, words, and the documents' promises.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Which crates of ours a crate may use. `lazaret` also starts `daemon`, `door` and `demo`; `testkit` is for tests.
const MAY_USE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("wire", &[]),
    ("sys", &[]),
    ("store", &["domain"]),
    ("vault", &["domain"]),
    ("api", &["domain"]),
    ("policy", &["domain"]),
    ("dial", &["domain"]),
    ("cell", &["domain", "wire", "sys", "dial"]),
    ("mail", &["domain", "vault", "dial"]),
    ("oauth", &["domain", "vault", "dial"]),
    ("gateway", &["domain", "wire", "policy", "store", "vault", "dial", "mail", "oauth"]),
    (
        "daemon",
        &["domain", "wire", "cell", "gateway", "api", "policy", "store", "vault", "dial", "mail", "oauth"],
    ),
    ("demo", &["domain", "wire", "sys", "api"]),
    ("lazaret", &["domain", "api", "policy", "daemon", "door", "demo"]),
    ("door", &["domain", "wire", "sys"]),
    ("guest", &["wire", "sys"]),
    (
        "testkit",
        &[
            "domain", "wire", "sys", "policy", "store", "vault", "dial", "mail", "oauth", "cell", "gateway",
            "daemon", "door", "api", "demo",
        ],
    ),
];

fn metadata() -> Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn crates_use_only_what_the_table_allows() {
    let table: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let data = metadata();
    let packages = data["packages"].as_array().unwrap();
    let ours: BTreeSet<&str> = packages.iter().map(|p| p["name"].as_str().unwrap()).collect();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let allowed = table.get(name).unwrap_or_else(|| panic!("`{name}` is not in the dependency table"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            let dev = dependency["kind"].as_str() == Some("dev");
            if ours.contains(used) && !dev {
                assert!(allowed.contains(&used), "`{name}` may not use `{used}`");
            }
            if used == "testkit" {
                assert!(dev, "`{name}` uses `testkit` outside tests");
            }
        }
    }
}

#[test]
fn every_dependency_has_its_line() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let listed = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let listed: BTreeSet<String> = listed
        .lines()
        .filter(|l| l.starts_with("| "))
        .flat_map(|l| {
            l.split('|').nth(1).unwrap().split(',').map(|c| c.trim().to_owned()).collect::<Vec<_>>()
        })
        .collect();
    let used: BTreeSet<String> = metadata()["packages"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|p| p["dependencies"].as_array().unwrap().clone())
        .map(|d| d["name"].as_str().unwrap().to_owned())
        .collect();
    for (name, value) in manifest["workspace"]["dependencies"].as_table().unwrap() {
        if value.get("path").is_some() {
            continue;
        }
        assert!(listed.contains(name), "`{name}` has no line in docs/dependencies.md");
        assert!(used.contains(name), "`{name}` is declared in Cargo.toml, but no crate uses it");
    }
}

#[test]
fn the_lock_file_stays_small() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let packages = lock.lines().filter(|l| *l == "[[package]]").count();
    assert!(packages < 600, "{packages} packages are locked; 599 is the most");
}

/// Every file that Git tracks or would track.
fn files() -> Vec<PathBuf> {
    let out = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let files: Vec<PathBuf> = text.lines().map(|l| root().join(l)).filter(|p| p.is_file()).collect();
    assert!(files.len() > 20, "git lists too few files");
    files
}

fn rust_files() -> Vec<(PathBuf, String)> {
    files()
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "rs"))
        .map(|p| {
            let text = fs::read_to_string(&p).unwrap();
            (p, text)
        })
        .collect()
}

/// The file's lines without its unit tests, which stand at its end, and without what else is for tests alone; none for files that
/// only tests use. What is left out leaves empty lines, so that lines keep their numbers.
fn code(path: &Path, text: &str) -> Vec<String> {
    let in_tests = path
        .components()
        .any(|c| ["tests", "benches", "fuzz", "testkit"].iter().any(|t| c.as_os_str() == *t));
    if in_tests {
        return Vec::new();
    }
    let (mut kept, mut for_tests) = (Vec::new(), false);
    for line in text.lines() {
        if for_tests && line.starts_with("mod ") && line.ends_with('{') {
            break;
        }
        let skipped = for_tests || line.starts_with("#[cfg(test)]");
        // An attribute, or the first line of what is for tests; an item that goes on is read on, which is no harm.
        for_tests = line.starts_with("#[cfg(test)]") || (for_tests && line.starts_with("#["));
        kept.push(if skipped { String::new() } else { line.to_owned() });
    }
    kept
}

#[test]
fn files_are_short_and_open_with_their_purpose() {
    for (path, text) in rust_files() {
        let lines = text.lines().count();
        assert!(lines < 800, "{}: {lines} lines; 799 is the most", path.display());
        assert!(text.starts_with("//! "), "{}: doesn't open with what it is for", path.display());
    }
}

#[test]
fn structs_have_few_fields() {
    for (path, text) in rust_files() {
        let mut fields: Option<(String, usize)> = None;
        for line in text.lines() {
            let code = line.trim_start();
            let declares = code
                .trim_start_matches("pub ")
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub(super) ");
            if declares.starts_with("struct ") && line.ends_with('{') {
                fields = Some((declares.to_owned(), 0));
            } else if let Some((name, count)) = &mut fields {
                if code == "}" {
                    assert!(*count < 13, "{}: `{name}` has {count} fields; 12 is the most", path.display());
                    fields = None;
                } else if code.ends_with(',')
                    && code.contains(": ")
                    && !code.starts_with("//")
                    && !code.starts_with('#')
                {
                    *count += 1;
                }
            }
        }
    }
}

#[test]
fn nothing_is_left_unfinished_or_swallowed() {
    let words =
        ["todo!(", "unimplemented!(", "// TODO", "// FIXME", "// XXX", "// HACK", "#[allow(", "#![allow("];
    let swallowed = ["let _ =", "_ => {}"];
    for (path, text) in rust_files() {
        for (at, line) in code(&path, &text).iter().enumerate() {
            let found = words.iter().chain(&swallowed).find(|w| line.contains(**w));
            assert!(found.is_none(), "{}:{}: `{}`", path.display(), at + 1, line.trim());
            let swallows = line.trim_end().ends_with(".ok();") && !line.contains('=');
            assert!(!swallows, "{}:{}: a result is swallowed", path.display(), at + 1);
        }
    }
}

#[test]
fn unsafe_is_only_in_sys() {
    for (path, text) in rust_files() {
        if path.starts_with(root().join("crates/sys")) {
            continue;
        }
        for (at, line) in code(&path, &text).iter().enumerate() {
            let found =
                line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl");
            assert!(!found, "{}:{}: unsafe code belongs into `sys`", path.display(), at + 1);
        }
    }
}

/// What asks for a name, or reaches another machine, by itself.
const REACHES: &[&str] = &[
    "TcpStream::connect",
    "TcpSocket",
    "UdpSocket",
    "ToSocketAddrs",
    "to_socket_addrs",
    "lookup_host",
    "getaddrinfo",
    "libc::connect",
    "net::connect",
    "socket::connect",
    "reqwest::Client",
    "reqwest::blocking",
    "reqwest::get",
    "ClientBuilder",
    "HttpConnector",
    "HttpsConnector",
    "PgConnect",
    "SmtpTransport",
    "connect_tokio1",
    "Transport::from_uri",
];

/// Which code may do so beside tests, and why. All the rest of the host goes by the one dialer, which judges where it leads.
const MAY_REACH: &[(&str, &str)] = &[
    ("crates/dial/src", "it is the one dialer"),
    ("crates/store/src", "the database, which the host's owner named"),
    ("crates/guest/src/harness", "in a cell, whose loopback leads to the door alone"),
    ("crates/demo/src/hostile", "in a cell, where it tries what must not be reached"),
];

#[test]
fn only_the_dialer_reaches_other_machines() {
    let mut used: BTreeSet<&(&str, &str)> = BTreeSet::new();
    for (path, text) in rust_files() {
        if path.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        for (at, line) in code(&path, &text).iter().enumerate() {
            let imports = line.contains("use reqwest::") && line.contains("Client");
            let is_comment = line.trim_start().starts_with("//");
            if is_comment || !(imports || REACHES.iter().any(|word| line.contains(word))) {
                continue;
            }
            let mine = MAY_REACH.iter().find(|(place, _)| path.starts_with(root().join(place)));
            assert!(mine.is_some(), "{}:{}: goes past the dialer: `{}`", path.display(), at + 1, line.trim());
            used.extend(mine);
        }
    }
    for entry in MAY_REACH {
        assert!(used.contains(entry), "`{}` needn't be listed: it reaches nothing", entry.0);
    }
}

#[test]
fn no_path_of_a_developers_machine_is_committed() {
    let forbidden = [concat!("/wo", "rk/"), concat!("/tmp/", "h/"), concat!("/home/", "user/")];
    for path in files() {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (at, line) in text.lines().enumerate() {
            let found = forbidden.iter().find(|f| line.contains(**f));
            assert!(found.is_none(), "{}:{}: a path of one machine", path.display(), at + 1);
        }
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for path in files().into_iter().filter(|p| p.extension().is_some_and(|e| e == "md")) {
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with('#') || link.contains(' ') {
                continue;
            }
            let target = path.parent().unwrap().join(link.split('#').next().unwrap());
            assert!(target.exists(), "{}: the link to `{link}` leads nowhere", path.display());
        }
    }
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let specification = fs::read_to_string(root().join("docs/SPECIFICATION.md")).unwrap();
    let sources: String = rust_files().into_iter().map(|(_, text)| text).collect();
    let mut promises = 0;
    for line in specification.lines().filter(|l| l.starts_with("| ") && l.contains('`')) {
        let test = line.rsplit('|').find(|c| c.contains('`')).unwrap();
        for name in test.split('`').skip(1).step_by(2) {
            promises += 1;
            let name = name.rsplit("::").next().unwrap();
            assert!(
                sources.contains(&format!("fn {name}(")),
                "the specification names `{name}`, which is no test"
            );
        }
    }
    assert!(promises > 0);
}
