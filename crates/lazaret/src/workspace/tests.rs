//! What goes in, what comes back, and that an agent's tree can do nothing else to the folder.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::tree::{Node, link_stays};
use super::*;

fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

fn file(text: &str) -> Node {
    Node::File { content: text.as_bytes().into(), executable: false }
}

fn tree(files: &[(&str, &str)]) -> Tree {
    Tree(files.iter().map(|(name, text)| (path(name), file(text))).collect())
}

fn git(folder: &Path, arguments: &[&str]) {
    let done = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// What lies in a folder now.
fn lies(folder: &Path) -> Tree {
    let mut found = BTreeMap::new();
    let root = Root::open(folder).unwrap();
    let mut folders = vec![String::new()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(folder.join(&at)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{at}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                folders.push(format!("{name}/"));
            } else {
                found.insert(path(&name), root.read(&path(&name), 1 << 20).unwrap().unwrap());
            }
        }
    }
    Tree(found)
}

fn give(folder: &Path, tree: &Tree) {
    for (path, node) in &tree.0 {
        let at = folder.join(path.as_str());
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        match node {
            Node::File { content, executable } => {
                fs::write(&at, content).unwrap();
                let mode = if *executable { 0o755 } else { 0o644 };
                fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
            }
            Node::Link { target } => symlink(target, &at).unwrap(),
        }
    }
}

fn apply_all(folder: &Path, before: &Tree, after: &Tree) -> super::Result<()> {
    let changes = changes(before, after, &[]);
    let mut all = changes.plain;
    all.extend(changes.active.into_iter().map(|(path, (change, _))| (path, change)));
    apply(&Root::open(folder).unwrap(), &all, 1)
}

#[test]
fn only_tracked_files_go_in_and_never_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    git(at, &["init", "-q"]);
    git(at, &["config", "remote.origin.url", "https://user:canary@example.org/x"]);
    for (name, text) in [
        ("a.rs", "a"),
        ("sub/run.sh", "r"),
        (".env", "canary"),
        (".env.local", "canary"),
        ("sub/.envrc", "canary"),
        (".gitignore", "ignored\n"),
        ("gone", "g"),
    ] {
        write(at, name, text);
    }
    fs::set_permissions(at.join("sub/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("a.rs", at.join("good")).unwrap();
    symlink("/etc/passwd", at.join("evil")).unwrap();
    symlink("sub/../../x", at.join("odd")).unwrap();
    git(at, &["add", "-A", "-f"]);
    git(at, &["commit", "-qm", "x"]);
    fs::remove_file(at.join("gone")).unwrap();
    write(at, "ignored", "canary");
    write(at, "untracked", "canary");
    let collected = collect(at).unwrap();
    let names: Vec<&str> = collected.tree.0.keys().map(RelPath::as_str).collect();
    assert_eq!(names, [".gitignore", "a.rs", "good", "sub/run.sh"]);
    assert!(matches!(&collected.tree.0[&path("sub/run.sh")], Node::File { executable: true, .. }));
    assert_eq!((collected.left_out.len(), collected.untracked), (5, 1));
    let archive = collected.tree.to_tar().unwrap();
    assert!(!String::from_utf8_lossy(&archive).contains("canary"));
    assert_eq!(Tree::from_tar(&archive).unwrap(), (collected.tree, Vec::new()));
}

#[test]
fn a_repository_runs_nothing_when_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    git(at, &["init", "-q"]);
    write(at, "a", "a");
    git(at, &["add", "-A"]);
    let trap = format!("touch {}", at.join("trapped").display());
    git(at, &["config", "core.fsmonitor", &trap]);
    collect(at).unwrap();
    assert!(!at.join("trapped").exists());
}

#[test]
fn without_git_all_that_is_not_ignored_goes_in() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in
        [("a", "a"), (".hidden", "h"), (".env", "s"), ("target/x", "t"), (".gitignore", "target\n")]
    {
        write(folder.path(), name, text);
    }
    let collected = collect(folder.path()).unwrap();
    let names: Vec<&str> = collected.tree.0.keys().map(RelPath::as_str).collect();
    assert_eq!(names, [".gitignore", ".hidden", "a"]);
}

#[test]
fn a_tracked_path_that_became_a_link_to_elsewhere_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "f", "canary");
    let at = folder.path();
    git(at, &["init", "-q"]);
    write(at, "d/f", "fine");
    git(at, &["add", "-A"]);
    fs::remove_dir_all(at.join("d")).unwrap();
    symlink(outside.path(), at.join("d")).unwrap();
    let archive = collect(at).unwrap().tree.to_tar().unwrap();
    assert!(!String::from_utf8_lossy(&archive).contains("canary"));
}

#[test]
fn names_that_are_no_place_in_the_workspace_are_refused() {
    for bad in [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../x",
        "a/../b",
        "a//b",
        "./a",
        "a/.",
        ".git",
        ".git/hooks/x",
        "a/.git/config",
        ".GIT/config",
        ".Git",
        "git~1/config",
        ".git./x",
        ".git /x",
        "a\nb",
        "a\x1bb",
        "a\0b",
    ] {
        assert!(RelPath::parse(bad).is_err(), "{bad:?}");
    }
    for good in ["a", ".gitignore", "a/b c/ü", "..a", "git", ".github/x"] {
        assert!(RelPath::parse(good).is_ok(), "{good:?}");
    }
}

#[test]
fn links_that_leave_the_workspace_are_refused() {
    for (at, target) in [
        ("l", "/etc/passwd"),
        ("l", ".."),
        ("l", "../x"),
        ("d/l", "../../x"),
        ("l", "d/../../x"),
        ("l", "d/.."),
        ("l", ".git/hooks/post-commit"),
        ("d/l", "../.GIT/config"),
        ("l", ""),
    ] {
        assert!(!link_stays(&path(at), target), "{at} -> {target}");
    }
    for (at, target) in [("l", "x"), ("d/l", "../x"), ("d/e/l", "../../x/y"), ("l", "./x"), ("l", "d/")] {
        assert!(link_stays(&path(at), target), "{at} -> {target}");
    }
}

#[test]
fn files_that_run_by_themselves_are_told_apart() {
    let before = tree(&[("package.json", r#"{"scripts":{"test":"jest"}}"#), ("Makefile", "a:")]);
    let mut after = before.clone();
    let runs = [
        ".envrc",
        "sub/.env",
        ".vscode/tasks.json",
        ".VSCode/settings.json",
        ".github/workflows/ci.yml",
        ".gitlab-ci.yml",
        "CLAUDE.md",
        "sub/agents.md",
        ".claude/settings.json",
        ".mcp.json",
        ".cursor/rules",
        ".husky/pre-commit",
        ".pre-commit-config.yaml",
        ".devcontainer/devcontainer.json",
        ".idea/workspace.xml",
        ".gitattributes",
        ".cargo/config.toml",
        "x.code-workspace",
        "Jenkinsfile",
        "agent.toml",
        "package.json",
    ];
    for name in runs {
        after.0.insert(path(name), file("new"));
    }
    after.0.insert(path("package.json"), file(r#"{"scripts":{"test":"jest","postinstall":"curl evil"}}"#));
    after.0.insert(path("Makefile"), file("a: b"));
    after.0.insert(path("src/main.rs"), file("fn main() {}"));
    let found = changes(&before, &after, &[]);
    let active: Vec<&str> = found.active.keys().map(RelPath::as_str).collect();
    let mut wanted = runs;
    wanted.sort_unstable();
    assert_eq!(active, wanted);
    let plain: Vec<&str> = found.plain.keys().map(RelPath::as_str).collect();
    assert_eq!(plain, ["Makefile", "src/main.rs"]);
    let harmless = tree(&[("package.json", r#"{"scripts":{"test":"jest --ci"}}"#), ("Makefile", "a:")]);
    assert!(changes(&before, &harmless, &[]).active.is_empty());
}

#[test]
fn new_files_that_the_workspace_ignores_stay_in_the_cell() {
    let before = tree(&[(".gitignore", "target/\n*.log\n!keep.log\n"), ("sub/.gitignore", "/out\n")]);
    let mut after = before.clone();
    for name in ["target/debug/x", "a.log", "keep.log", "sub/out/y", "out/z", "new"] {
        after.0.insert(path(name), file("n"));
    }
    // The agent's own rules count for nothing.
    after.0.insert(path(".gitignore"), file("*\n"));
    let found = changes(&before, &after, &[]);
    let plain: Vec<&str> = found.plain.keys().map(RelPath::as_str).collect();
    assert_eq!(plain, [".gitignore", "keep.log", "new", "out/z"]);
    assert_eq!(found.ignored, 3);
}

#[test]
fn a_hostile_archive_writes_nothing_outside_and_nothing_of_git() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &[u8], kind: tar::EntryType, link: Option<&str>| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o4777);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        if let Some(link) = link {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        tar.append(&header, std::io::empty()).unwrap();
    };
    let regular = tar::EntryType::Regular;
    for name in [&b"../up"[..], b"/abs", b".git/hooks/pre-commit", b"a/../../b"] {
        add(name, regular, None);
    }
    add(b"out", tar::EntryType::Symlink, Some("../../etc"));
    add(b"dev", tar::EntryType::Char, None);
    add(b"hard", tar::EntryType::Link, Some("/etc/passwd"));
    add(b"fine", regular, None);
    let (tree, left_out) = Tree::from_tar(&tar.into_inner().unwrap()).unwrap();
    assert_eq!(tree.0.keys().map(RelPath::as_str).collect::<Vec<_>>(), ["fine"]);
    assert_eq!(left_out.len(), 7, "{left_out:?}");
}

#[test]
fn nothing_is_written_through_a_link_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), folder.path().join("d")).unwrap();
    let error = apply_all(folder.path(), &Tree::default(), &tree(&[("a", "a"), ("d/f", "x")])).unwrap_err();
    assert!(matches!(error, WorkspaceError::Apply { .. } | WorkspaceError::Conflict(_)), "{error}");
    assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
    assert!(!folder.path().join("a").exists(), "half applied");
}

#[test]
fn a_link_that_leaves_by_way_of_another_link_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    symlink("/etc", folder.path().join("d")).unwrap();
    let mut after = Tree::default();
    after.0.insert(path("l"), Node::Link { target: "d/passwd".to_owned() });
    assert!(apply_all(folder.path(), &Tree::default(), &after).is_err());
    assert!(!folder.path().join("l").exists());
}

#[test]
fn a_file_that_changed_meanwhile_stops_everything() {
    let folder = tempfile::tempdir().unwrap();
    let before = tree(&[("a", "1"), ("b", "1")]);
    let after = tree(&[("a", "2"), ("b", "2"), ("c", "new")]);
    give(folder.path(), &before);
    write(folder.path(), "b", "mine");
    let error = apply_all(folder.path(), &before, &after).unwrap_err();
    assert!(matches!(&error, WorkspaceError::Conflict(paths) if *paths == ["b"]), "{error}");
    write(folder.path(), "b", "1");
    write(folder.path(), "c", "mine");
    assert!(matches!(apply_all(folder.path(), &before, &after), Err(WorkspaceError::Conflict(_))));
    assert_eq!(lies(folder.path()), tree(&[("a", "1"), ("b", "1"), ("c", "mine")]));
}

#[test]
fn what_fails_half_way_is_undone() {
    let folder = tempfile::tempdir().unwrap();
    let before = tree(&[("a", "1"), ("d/f", "1")]);
    // `d` gives way to a file, but something of the person's lies in it: that shows only after `a` was changed.
    let after = tree(&[("a", "2"), ("d", "file")]);
    give(folder.path(), &before);
    write(folder.path(), "d/mine", "mine");
    let error = apply_all(folder.path(), &before, &after).unwrap_err();
    assert!(error.to_string().contains("nothing was changed"), "{error}");
    assert_eq!(lies(folder.path()), tree(&[("a", "1"), ("d/f", "1"), ("d/mine", "mine")]));
}

#[test]
fn modes_gain_nothing_but_execution() {
    let folder = tempfile::tempdir().unwrap();
    let before = tree(&[("secret", "1"), ("shared", "1")]);
    give(folder.path(), &before);
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().mode() & 0o7777;
    fs::set_permissions(folder.path().join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(folder.path().join("shared"), fs::Permissions::from_mode(0o664)).unwrap();
    let mut after = tree(&[("secret", "2"), ("shared", "2")]);
    for node in after.0.values_mut() {
        if let Node::File { executable, .. } = node {
            *executable = true;
        }
    }
    apply_all(folder.path(), &before, &after).unwrap();
    assert_eq!((mode("secret"), mode("shared")), (0o700, 0o775));
}

#[test]
fn the_patch_is_one_that_git_applies() {
    let folder = tempfile::tempdir().unwrap();
    let before = tree(&[("a", "one\ntwo\n"), ("gone", "x\n"), ("run", "r\n")]);
    let mut after = tree(&[("a", "one\n2\n"), ("new", "no line feed"), ("run", "r\n")]);
    after.0.insert(path("run"), Node::File { content: b"r\n"[..].into(), executable: true });
    give(folder.path(), &before);
    git(folder.path(), &["init", "-q"]);
    let found = changes(&before, &after, &[]);
    let patch: String = found.plain.iter().map(|(path, change)| render(path, change)).collect();
    insta::assert_snapshot!(patch);
    write(folder.path(), ".patch", &patch);
    git(folder.path(), &["apply", ".patch"]);
    fs::remove_file(folder.path().join(".patch")).unwrap();
    fs::remove_dir_all(folder.path().join(".git")).unwrap();
    assert_eq!(lies(folder.path()), after);
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        4 => (prop::collection::vec(any::<u8>(), 0..20), any::<bool>())
            .prop_map(|(content, executable)| Node::File { content: content.into(), executable }),
        1 => "[ab]{1,2}".prop_map(|target| Node::Link { target }),
    ]
}

/// Trees in which no path lies below another.
fn any_tree() -> impl Strategy<Value = Tree> {
    prop::collection::btree_map("[ab](/[ab]){0,2}", node(), 0..8).prop_map(|nodes| {
        let mut tree: BTreeMap<RelPath, Node> = BTreeMap::new();
        for (name, node) in nodes {
            let below = |other: &RelPath| name.starts_with(&format!("{other}/"));
            if !tree.keys().any(below) {
                tree.insert(path(&name), node);
            }
        }
        Tree(tree)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn applying_makes_exactly_the_agents_tree(before in any_tree(), after in any_tree()) {
        let folder = tempfile::tempdir().unwrap();
        give(folder.path(), &before);
        match apply_all(folder.path(), &before, &after) {
            Ok(()) => prop_assert_eq!(lies(folder.path()), after),
            // A link that would leave by way of another: nothing was changed.
            Err(_) => prop_assert_eq!(lies(folder.path()), before),
        }
    }

    #[test]
    fn a_tree_reads_back_from_its_archive(tree in any_tree()) {
        prop_assert_eq!(Tree::from_tar(&tree.to_tar().unwrap()).unwrap().0, tree);
    }
}
