//! How cells end: in order, by a crash of the daemon, one while another goes on. Nothing is left but the disk.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cell::{CellEnd, StartError, StartMode};
use tokio::io::AsyncReadExt;

use crate::common::{born, config, guest, host, image, kept, launcher, spec};

/// Long enough for a busy machine; a kill takes milliseconds.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// Processes that have this in their command line.
fn processes(with: &str) -> usize {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| contains(&line, with)))
        .count()
}

fn contains(line: &[u8], with: &str) -> bool {
    String::from_utf8_lossy(line).contains(with)
}

/// Our cgroups that have this in their name.
fn cgroups_of(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let entries = std::fs::read_dir(controller.path().join("lazaret")).into_iter().flatten().flatten();
        found.extend(
            entries
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .filter(|entry| entry.contains(name)),
        );
    }
    found
}

#[tokio::test]
async fn kill_9_of_the_daemon_leaves_nothing_but_the_disk() {
    let scratch = tempfile::tempdir().unwrap();
    let image = image(scratch.path());
    let disk = scratch.path().join("disk");
    let run = scratch.path().join("run");
    let mut daemon = Command::new(launcher())
        .arg("daemon")
        .args([kept().join("data"), kept().join("cache"), run.clone(), guest(), image, disk.clone()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "running\n");
    let jails = run.join("jails");
    let names: Vec<_> = std::fs::read_dir(&jails)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let id = names[0].split('-').next().unwrap().to_owned();
    let machines = || processes("name=lazaret.door");
    assert!(machines() >= 1);
    let before = machines();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let gone = async {
        while std::fs::read_dir(&jails).unwrap().count() > 0 || machines() >= before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(GONE_WITHIN, gone).await.expect("the dead daemon's cell lives on");
    assert_eq!(cgroups_of(&id), Vec::<String>::new());
    assert!(disk.exists());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&jails.display().to_string()));
    // The next daemon has the folder, and the disk, to itself.
    let host = host(scratch.path());
    let mut cell =
        host.start(spec(&scratch.path().join("image.squashfs"), disk, StartMode::Clone)).await.unwrap();
    born(&mut cell, 1).await;
}

#[tokio::test]
async fn one_of_two_cells_is_killed_and_the_other_goes_on() {
    let scratch = tempfile::tempdir().unwrap();
    let host = host(scratch.path());
    let image = image(scratch.path());
    let disk = |name: &str| scratch.path().join(name);
    let mut first = host.start(spec(&image, disk("first"), StartMode::Clone)).await.unwrap();
    let mut second = host.start(spec(&image, disk("second"), StartMode::Clone)).await.unwrap();
    let taken = host.start(spec(&image, disk("first"), StartMode::Clone)).await.unwrap_err();
    assert!(matches!(taken, StartError::Disk(_)), "{taken}");
    let (first_id, mut first_link) = born(&mut first, 1).await;
    assert_eq!(std::fs::read_dir(scratch.path().join("run/jails")).unwrap().count(), 4);
    assert_eq!(first.stop(Duration::ZERO).await, CellEnd::Killed);
    // The door may have said something before.
    let rest = tokio::time::timeout(GONE_WITHIN, first_link.read_to_end(&mut Vec::new())).await;
    rest.expect("the link of a dead cell is open").unwrap();
    let (second_id, second_link) = born(&mut second, 2).await;
    assert_ne!(first_id, second_id);
    drop(second_link);
    drop(second);
    let jails = scratch.path().join("run/jails");
    let gone = async {
        while std::fs::read_dir(&jails).unwrap().count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(GONE_WITHIN, gone).await.expect("a dropped cell lives on");
}

#[tokio::test]
async fn a_cell_that_can_not_start_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let mut config = config(scratch.path());
    let image = image(scratch.path());
    let host = cell::CellHost::open(config.clone()).unwrap();
    let none = Path::new("/nonexistent/image");
    let error = host.start(spec(none, scratch.path().join("a"), StartMode::Cold)).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/image"), "{error}");
    drop(host);
    config.launcher = "/bin/true".into();
    let host = cell::CellHost::open(config).unwrap();
    let error = host.start(spec(&image, scratch.path().join("b"), StartMode::Cold)).await.unwrap_err();
    assert!(matches!(error, StartError::Jail(_)), "{error}");
    assert_eq!(std::fs::read_dir(scratch.path().join("run/jails")).unwrap().count(), 0);
}
