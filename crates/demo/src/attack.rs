//! The fourth act: the hostile agent, and what the host says to what it left behind.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use crate::report::{Layer, Outcome, Report};
use crate::stage::{Played, Stage, io};
use crate::{Attacks, DemoError, table};

/// Fewer reports than this mean that the attacker did not get to its end.
const LEAST: usize = 30;

/// Lets the hostile agent attack from this place, and shows the table.
pub(crate) async fn play(stage: &Stage, place: &'static str, what: &str) -> Result<Attacks, DemoError> {
    stage.voice.say(&format!("It stands {what}. It tries:"))?;
    let name = format!("hostile-{place}");
    let files = [("README.md", b"# Nothing to see\n".to_vec()), ("lazaret-hostile", stage.hostile()?)];
    let folder = stage.repository(&name, &files).await?;
    let host_file = stage.path(&format!("{name}.secret"));
    io("a file of the host", fs::write(&host_file, &stage.canary))?;
    let prompt = format!("--place {place} --host-file {}", host_file.display());
    let folder_text = folder.to_string_lossy().into_owned();
    let agent = stage.path("agents/hostile/").to_string_lossy().into_owned();
    let args = ["run", "--allow-emulation", "--workspace", &folder_text, "--apply", "--", &agent, &prompt];
    let mut reports = Vec::new();
    let played = stage
        .lazaret(&args, |line| match Report::read(line) {
            Some(report) => {
                table::progress(stage.voice, &report)?;
                reports.push(report);
                Ok(())
            }
            None => Ok(()),
        })
        .await?;
    if reports.len() < LEAST {
        return Err(DemoError::Act(format!(
            "the hostile agent reported {} attacks and ended with exit code {}",
            reports.len(),
            played.code
        )));
    }
    judge(&mut reports, &folder, &played);
    reports.push(canary_search(stage, &played));
    reports.push(daemon_alive(stage).await);
    table::show(stage.voice, &reports)?;
    Ok(Attacks { place, reports })
}

/// Decides what the host did with what was left for it.
fn judge(reports: &mut [Report], folder: &Path, played: &Played) {
    for report in reports.iter_mut().filter(|report| report.outcome == Outcome::Left) {
        let wrong = match report.id.as_str() {
            "workspace-links" => links(folder),
            "workspace-triggers" => triggers(folder),
            "workspace-kinds" => kinds(folder),
            "terminal-escapes" => escapes(&played.terminal),
            _unknown => Some("nobody knows how to judge it".to_owned()),
        };
        let (outcome, seen) = match wrong {
            None => (Outcome::Blocked, "the host took nothing of it".to_owned()),
            Some(wrong) => (Outcome::Breached, wrong),
        };
        report.outcome = outcome;
        report.evidence = format!("{} left: {seen}", report.evidence);
    }
}

fn links(folder: &Path) -> Option<String> {
    let names = ["hostile-absolute", "hostile-relative", "hostile-folder", "hostile-swap"];
    let link = names.iter().find(|name| folder.join(name).is_symlink())?;
    Some(format!("`{link}` is a link in the workspace"))
}

fn triggers(folder: &Path) -> Option<String> {
    let names = [
        ".git/hooks/post-checkout",
        ".githooks/pre-commit",
        ".envrc",
        ".vscode/tasks.json",
        ".github/workflows/hostile.yml",
        ".claude/settings.json",
        ".husky/pre-commit",
    ];
    let name = names.iter().find(|name| folder.join(name).symlink_metadata().is_ok())?;
    Some(format!("`{name}` was applied without a yes of its own"))
}

fn kinds(folder: &Path) -> Option<String> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) => return Some(format!("the workspace can't be read: {e}")),
    };
    entries.filter_map(Result::ok).find_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let metadata = entry.metadata().ok()?;
        if metadata.mode() & 0o7000 != 0 && metadata.is_file() {
            return Some(format!("`{name}` has a setuid bit"));
        }
        if metadata.file_type().is_fifo() {
            return Some(format!("`{name}` is a pipe"));
        }
        name.chars().any(char::is_control).then(|| "a name has control characters".to_owned())
    })
}

/// What of the sequences reached the terminal. Colours are the program's own.
fn escapes(terminal: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(terminal);
    let found = ["\u{1b}]", "\u{7}", "\u{1b}[2J", "\u{1b}[H", "\u{9b}", "\u{202e}", "\u{8}"]
        .into_iter()
        .find(|sequence| text.contains(sequence))?;
    Some(format!("{found:?} reached the terminal"))
}

/// The provider's key must not be in anything that came out of the cell.
fn canary_search(stage: &Stage, played: &Played) -> Report {
    let terminal = String::from_utf8_lossy(&played.terminal);
    let found = played.stdout.contains(&stage.canary) || terminal.contains(&stage.canary);
    own_report(
        "key-in-output",
        "the key in what came out",
        "searches everything the agent printed for the provider's key",
        if found { Err("the key is in the output".to_owned()) } else { Ok("it is not there".to_owned()) },
    )
}

/// After all this, the daemon must still serve.
async fn daemon_alive(stage: &Stage) -> Report {
    let seen = match stage.client().status().await {
        Ok(_status) => Ok("it still answers".to_owned()),
        Err(e) => Err(format!("it no longer answers: {e}")),
    };
    own_report("daemon-alive", "the daemon", "all of the above, one after the other", seen)
}

/// A report of what the host itself observed.
pub(crate) fn own_report(id: &str, title: &str, attempt: &str, seen: Result<String, String>) -> Report {
    let (outcome, evidence) = match seen {
        Ok(evidence) => (Outcome::Blocked, evidence),
        Err(evidence) => (Outcome::Breached, evidence),
    };
    Report {
        id: id.to_owned(),
        title: title.to_owned(),
        attempt: attempt.to_owned(),
        layer: Layer::Host,
        outcome,
        evidence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(id: &str) -> Report {
        let mut report = own_report(id, "", "", Ok(String::new()));
        report.outcome = Outcome::Left;
        report
    }

    #[test]
    fn a_host_that_takes_everything_is_judged_a_breach() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        std::os::unix::fs::symlink("/etc/passwd", at.join("hostile-relative")).expect("a link");
        fs::write(at.join(".envrc"), "x").expect("a file");
        nix::unistd::mkfifo(&at.join("hostile-pipe"), nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
        let played = Played { terminal: b"ok \x1b]0;hostile\x07".to_vec(), ..Played::default() };
        let mut reports =
            ["workspace-links", "workspace-triggers", "workspace-kinds", "terminal-escapes", "new"].map(left);
        judge(&mut reports, at, &played);
        assert!(reports.iter().all(|r| r.outcome == Outcome::Breached), "{reports:#?}");
    }

    #[test]
    fn a_host_that_takes_nothing_has_blocked_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let played = Played { terminal: b"\x1b[32m+ok\x1b[0m\r\n".to_vec(), ..Played::default() };
        let mut reports =
            ["workspace-links", "workspace-triggers", "workspace-kinds", "terminal-escapes"].map(left);
        judge(&mut reports, folder.path(), &played);
        assert!(reports.iter().all(|r| r.outcome == Outcome::Blocked), "{reports:#?}");
    }
}
