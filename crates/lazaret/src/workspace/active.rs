//! Which files run by themselves later: on opening a folder, on a commit, on a push, or as the settings of an agent.
//! They need a yes of their own. Ordinary program code is not among them: it runs when somebody runs it.

use super::changes::Change;
use super::tree::{Node, RelPath};

/// Folders, at any depth: whatever lies in them.
const FOLDERS: &[(&str, &str)] = &[
    (".githooks", "git hooks"),
    (".husky", "git hooks"),
    (".lefthook", "git hooks"),
    (".vscode", "editor tasks and settings"),
    (".idea", "editor tasks and settings"),
    (".fleet", "editor tasks and settings"),
    (".zed", "editor tasks and settings"),
    (".vim", "editor settings"),
    (".nvim", "editor settings"),
    (".devcontainer", "development container"),
    (".github", "continuous integration"),
    (".gitlab", "continuous integration"),
    (".gitea", "continuous integration"),
    (".forgejo", "continuous integration"),
    (".woodpecker", "continuous integration"),
    (".circleci", "continuous integration"),
    (".buildkite", "continuous integration"),
    (".teamcity", "continuous integration"),
    (".semaphore", "continuous integration"),
    (".builds", "continuous integration"),
    (".ci", "continuous integration"),
    (".claude", "agent settings"),
    (".codex", "agent settings"),
    (".cursor", "agent settings"),
    (".gemini", "agent settings"),
    (".windsurf", "agent settings"),
    (".clinerules", "agent settings"),
    (".roo", "agent settings"),
    (".continue", "agent settings"),
    (".kiro", "agent settings"),
    (".amazonq", "agent settings"),
    (".opencode", "agent settings"),
    (".agents", "agent settings"),
    (".cargo", "settings that name programs to run"),
    (".mise", "shell environment"),
    (".ssh", "keys and login commands"),
    ("autostart", "programs started at login"),
    ("systemd", "services"),
    ("fish", "shell start-up"),
];

/// Names, at any depth.
const NAMES: &[(&str, &str)] = &[
    (".envrc", "shell environment"),
    ("mise.toml", "shell environment"),
    (".mise.toml", "shell environment"),
    (".tool-versions", "shell environment"),
    (".bashrc", "shell start-up"),
    (".bash_profile", "shell start-up"),
    (".bash_login", "shell start-up"),
    (".profile", "shell start-up"),
    (".zshrc", "shell start-up"),
    (".zshenv", "shell start-up"),
    (".zprofile", "shell start-up"),
    (".zlogin", "shell start-up"),
    (".exrc", "editor settings"),
    (".vimrc", "editor settings"),
    (".nvimrc", "editor settings"),
    (".nvim.lua", "editor settings"),
    (".lvimrc", "editor settings"),
    (".dir-locals.el", "editor settings"),
    (".devcontainer.json", "development container"),
    (".gitconfig", "git settings"),
    (".gitmodules", "git settings"),
    (".gitattributes", "git settings"),
    (".pre-commit-config.yaml", "git hooks"),
    (".pre-commit-config.yml", "git hooks"),
    (".pre-commit-hooks.yaml", "git hooks"),
    ("lefthook.yml", "git hooks"),
    (".lefthook.yml", "git hooks"),
    (".gitlab-ci.yml", "continuous integration"),
    (".travis.yml", "continuous integration"),
    (".drone.yml", "continuous integration"),
    (".woodpecker.yml", "continuous integration"),
    (".cirrus.yml", "continuous integration"),
    (".build.yml", "continuous integration"),
    ("appveyor.yml", "continuous integration"),
    (".appveyor.yml", "continuous integration"),
    ("azure-pipelines.yml", "continuous integration"),
    ("bitbucket-pipelines.yml", "continuous integration"),
    ("jenkinsfile", "continuous integration"),
    ("claude.md", "agent settings"),
    ("claude.local.md", "agent settings"),
    ("agents.md", "agent settings"),
    ("agents.override.md", "agent settings"),
    ("agent.md", "agent settings"),
    ("gemini.md", "agent settings"),
    ("skill.md", "agent settings"),
    (".cursorrules", "agent settings"),
    (".windsurfrules", "agent settings"),
    (".clinerules", "agent settings"),
    (".roorules", "agent settings"),
    (".mcp.json", "agent settings"),
    ("mcp.json", "agent settings"),
    ("opencode.json", "agent settings"),
    (".aider.conf.yml", "agent settings"),
    ("agent.toml", "agent settings"),
    ("policy.cedar", "agent settings"),
    (".npmrc", "settings that name programs to run"),
    (".yarnrc", "settings that name programs to run"),
    (".yarnrc.yml", "settings that name programs to run"),
    (".pnpmfile.cjs", "settings that name programs to run"),
    ("bunfig.toml", "settings that name programs to run"),
    (".bazelrc", "settings that name programs to run"),
    ("rust-toolchain", "settings that name programs to run"),
    ("rust-toolchain.toml", "settings that name programs to run"),
];

/// Scripts of a `package.json` that run on an installation.
const INSTALL_SCRIPTS: &[&str] =
    &["preinstall", "install", "postinstall", "prepare", "preprepare", "postprepare", "prepublish"];

/// What a change would set going later, if anything.
pub(crate) fn active(path: &RelPath, change: &Change) -> Option<&'static str> {
    by_path(path).or_else(|| by_content(path, change))
}

fn by_path(path: &RelPath) -> Option<&'static str> {
    let (_, name) = path.split();
    let name = fold(name);
    let folders = path.parts().map(fold).collect::<Vec<_>>();
    let in_folder = FOLDERS.iter().find(|(folder, _)| folders.iter().any(|part| part == folder));
    let by_name = NAMES.iter().find(|(known, _)| *known == name);
    if let Some((_, what)) = in_folder.or(by_name) {
        return Some(what);
    }
    if name.starts_with(".env") {
        return Some("shell environment");
    }
    name.ends_with(".code-workspace").then_some("editor tasks and settings")
}

/// As a file system that folds case sees it.
fn fold(part: &str) -> String {
    part.trim_end_matches(['.', ' ']).to_lowercase()
}

fn by_content(path: &RelPath, change: &Change) -> Option<&'static str> {
    if fold(path.split().1) != "package.json" {
        return None;
    }
    let scripts = |node: Option<&Node>| -> Vec<Option<serde_json::Value>> {
        let package = match node {
            Some(Node::File { content, .. }) => serde_json::from_slice::<serde_json::Value>(content).ok(),
            Some(Node::Link { .. }) | None => None,
        };
        INSTALL_SCRIPTS
            .iter()
            .map(|name| package.as_ref().and_then(|package| package.get("scripts")?.get(name)).cloned())
            .collect()
    };
    (scripts(change.before.as_ref()) != scripts(change.after.as_ref())).then_some("installation scripts")
}
