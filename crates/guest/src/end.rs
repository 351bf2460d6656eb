//! The end in order: every process gets the time to stop, then all is killed, unmounted and written back.

use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::born::Guest;
use crate::container::{CGROUP, Container};
use crate::{disks, machine};

/// Longest grace that a host can give.
const LONGEST_GRACE: Duration = Duration::from_secs(60);

/// How often the kernel is asked whether all have ended.
const STEP: Duration = Duration::from_millis(10);

/// How long killed processes may take to go, and their mounts with them.
const KILLED: Duration = Duration::from_secs(5);

/// Asks every process of the container to end, waits as long as the grace says, then kills what is left.
pub(crate) async fn shut_down(guest: &Guest, grace: Duration) {
    if let Some(container) = guest.container.get() {
        ask_all_to_end(container);
        until(grace.min(LONGEST_GRACE), || container.processes() <= 1).await;
    }
    kill_everything(guest).await;
}

/// Kills every process but this one, then unmounts. Safe to do twice.
pub(crate) async fn kill_everything(guest: &Guest) {
    if let Some(container) = guest.container.get() {
        container.kill();
    }
    match kill(Pid::from_raw(-1), Signal::SIGKILL) {
        // There is no other process.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => machine::log(&format!("killing what is left: {error}")),
    }
    // The container's mounts go with its last process, a moment after it.
    until(KILLED, || disks::unmount_all().is_ok()).await;
    if let Err(fault) = disks::unmount_all() {
        machine::log(&fault.to_string());
    }
    nix::unistd::sync();
}

/// SIGTERM for all but the init.
fn ask_all_to_end(container: &Container) {
    let Ok(listed) = fs::read_to_string(format!("{CGROUP}/cgroup.procs")) else { return };
    for id in listed.lines().filter_map(|line| line.parse().ok()).filter(|id| *id != container.init) {
        match kill(Pid::from_raw(id), Signal::SIGTERM) {
            // It has just ended.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => machine::log(&format!("asking process {id} to end: {error}")),
        }
    }
}

/// Waits until something holds, but no longer than this.
async fn until(longest: Duration, holds: impl Fn() -> bool) {
    let waiting = async {
        let mut step = tokio::time::interval(STEP);
        while !holds() {
            step.tick().await;
        }
    };
    if tokio::time::timeout(longest, waiting).await.is_err() {
        machine::log("the time to end in order is over");
    }
}
