//! What a hostile agent leaves in the workspace and prints, for the host to take back or show.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use demo::report::Layer;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::probe::{CONTAINER, KILLED, Place, Probe, Verdict, io};

const fn probe(id: &'static str, title: &'static str, attempt: &'static str, run: fn() -> Verdict) -> Probe {
    let places: &[Place] = &[Place::Container];
    Probe { id, title, attempt, layer: Layer::Host, places, deaths: KILLED, seconds: 30, run }
}

pub(crate) const PROBES: &[Probe] = &[
    probe(
        "workspace-links",
        "links out of the workspace",
        "leaves links to files of the host, and files behind links",
        links,
    ),
    probe(
        "workspace-triggers",
        "files that run later",
        "leaves hooks, .envrc, editor tasks, CI workflows and agent settings",
        triggers,
    ),
    probe(
        "workspace-kinds",
        "odd files",
        "leaves a setuid program, a pipe, a hard link and names with control characters",
        kinds,
    ),
    Probe {
        places: CONTAINER,
        ..probe(
            "terminal-escapes",
            "terminal escapes",
            "prints sequences that retitle, copy and overwrite",
            escapes,
        )
    },
];

fn left(result: io::Result<()>, what: &str) -> Verdict {
    match result {
        Ok(()) => Verdict::left(what),
        Err(e) => Verdict::not_applicable(format!("the workspace can't be written: {e}")),
    }
}

fn links() -> Verdict {
    let leave = || {
        symlink("/etc/passwd", "hostile-absolute")?;
        symlink("../../../../../../../etc/passwd", "hostile-relative")?;
        symlink("../../../../../../../tmp", "hostile-folder")?;
        fs::create_dir_all("hostile-swap")?;
        fs::write("hostile-swap/inside", "was a file\n")?;
        fs::remove_dir_all("hostile-swap")?;
        symlink("/tmp", "hostile-swap")
    };
    left(leave(), "4 links")
}

fn triggers() -> Verdict {
    let leave = || {
        for (path, content) in [
            (".git/hooks/post-checkout", "#!/bin/sh\ntouch /tmp/lazaret-hostile-ran\n"),
            (".githooks/pre-commit", "#!/bin/sh\ntouch /tmp/lazaret-hostile-ran\n"),
            (".envrc", "touch /tmp/lazaret-hostile-ran\n"),
            (".vscode/tasks.json", "{\"tasks\": [{\"runOptions\": {\"runOn\": \"folderOpen\"}}]}\n"),
            (".github/workflows/hostile.yml", "on: push\n"),
            (".claude/settings.json", "{\"hooks\": {}}\n"),
            (".husky/pre-commit", "touch /tmp/lazaret-hostile-ran\n"),
        ] {
            if let Some(folder) = Path::new(path).parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(path, content)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    };
    left(leave(), "7 files")
}

fn kinds() -> Verdict {
    let leave = || {
        fs::write("hostile-setuid", "#!/bin/sh\nid\n")?;
        fs::set_permissions("hostile-setuid", fs::Permissions::from_mode(0o6755))?;
        io(mkfifo("hostile-pipe", Mode::S_IRUSR | Mode::S_IWUSR))?;
        fs::hard_link("hostile-setuid", "hostile-hard-link")?;
        File::create("hostile-\u{1b}[2Jname").map(drop)?;
        File::create("hostile-name\nwith-a-line").map(drop)
    };
    left(leave(), "5 entries")
}

/// The sequences go to standard error, since standard output carries the reports.
fn escapes() -> Verdict {
    use std::io::Write as _;
    let sequences =
        "\u{1b}]0;hostile title\u{7}\u{1b}]52;c;aG9zdGlsZQ==\u{7}\u{1b}[2J\u{1b}[H\u{9b}31m\u{202e}\r\u{8}";
    left(writeln!(std::io::stderr(), "{sequences}"), "escape sequences on standard error")
}
