//! The probes on a system that stops nothing: a probe that couldn't tell a breach there would prove nothing in a cell.

use std::process::Command;

use crate::report::{Outcome, Report};

/// Probes whose success can't be shown without harm or without the machine for it, and why.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("kill-init", "PID 1 of a namespace ignores signals from within"),
    ("vm-sockets", "needs a host that listens on AF_VSOCK"),
    ("connections", "succeeds only where it brings the door down"),
];

/// What the kernel says to calls and devices that it was built without.
const ABSENT: &[&str] = &["ENOSYS", "ENXIO", "ENODEV", "ENOENT"];

/// Whether all that stopped it was that this kernel doesn't have it.
fn absent(report: &Report) -> bool {
    let reasons = report.evidence.split("; ").filter_map(|part| part.rsplit(": ").next());
    report.outcome == Outcome::Blocked && reasons.into_iter().all(|reason| ABSENT.contains(&reason))
}

/// The static program that cells run, where `./x build` puts it. An integration test would have cargo put another,
/// which needs the host's libraries, in its place.
fn hostile() -> std::path::PathBuf {
    let test = std::env::current_exe().expect("this program");
    let program =
        test.parent().and_then(std::path::Path::parent).expect("its folder").join("lazaret-hostile");
    assert!(program.exists(), "`{}` is missing: ./x build makes it", program.display());
    program
}

#[test]
fn every_probe_breaches_a_system_that_stops_nothing() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: it takes root to have nothing that stops one");
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/unconfined.py");
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--ipc",
            "--uts",
            "--mount-proc",
            "python3",
            script,
        ])
        .arg(hostile())
        .output()
        .expect("unshare");
    let text = String::from_utf8_lossy(&output.stdout);
    let reports: Vec<Report> = text.lines().filter_map(Report::read).collect();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(reports.len() >= 60, "{} reports: {text}{said}", reports.len());
    let blind: Vec<String> = reports
        .iter()
        .filter(|r| !NOT_SHOWN.iter().any(|(id, _)| *id == r.id))
        .filter(|r| !matches!(r.outcome, Outcome::Breached | Outcome::Left) && !absent(r))
        .map(|r| format!("{}: {:?}, {}", r.id, r.outcome, r.evidence))
        .collect();
    assert!(blind.is_empty(), "probes that saw no breach:\n{}\n{said}", blind.join("\n"));
}
