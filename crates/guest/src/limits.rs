//! Limits that only the guest can see being met: memory and processes of the container, space on its disk.

use std::fs;
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use wire::guest::GuestLimit;

use crate::async_file::AsyncFile;
use crate::container::CGROUP;
use crate::disks::DISK;
use crate::fault::{During, Fault};

/// At most one report of each limit in this time.
const QUIET: Duration = Duration::from_secs(1);

/// How often the disk is looked at.
const DISK_EVERY: Duration = Duration::from_secs(2);

/// A disk with less free space is full.
const DISK_FULL: u64 = 1 << 20;

/// A disk with more free space is not full any more.
const DISK_EASED: u64 = 8 << 20;

/// Reports limits from now on.
pub(crate) fn watch(hits: mpsc::Sender<GuestLimit>) -> Result<(), Fault> {
    watch_counter("memory.events", "oom_kill", GuestLimit::Memory, hits.clone())?;
    watch_counter("pids.events", "max", GuestLimit::Pids, hits.clone())?;
    tokio::task::spawn_local(watch_disk(hits));
    Ok(())
}

/// Bytes free on the agent's disk, if there is one.
pub(crate) fn disk_free() -> Option<u64> {
    let found = statvfs(DISK).ok()?;
    found.blocks_available().checked_mul(found.fragment_size())
}

/// Reports whenever a counter in a file of the cgroup has risen. The kernel tells when the file changes.
fn watch_counter(
    file: &'static str,
    name: &'static str,
    limit: GuestLimit,
    hits: mpsc::Sender<GuestLimit>,
) -> Result<(), Fault> {
    let path = format!("{CGROUP}/{file}");
    let changes = inotify::init(CreateFlags::CLOEXEC).during("watching limits")?;
    inotify::add_watch(&changes, &path, WatchFlags::MODIFY).during(format_args!("watching `{file}`"))?;
    let mut changes = AsyncFile::new(changes).during("watching limits")?;
    let mut before = counter(&fs::read_to_string(&path).during(format_args!("reading `{file}`"))?, name);
    tokio::task::spawn_local(async move {
        let mut change = [0_u8; 1024];
        while changes.read(&mut change).await.is_ok_and(|read| read > 0) {
            let now = fs::read_to_string(&path).map_or(before, |text| counter(&text, name));
            if now > before && hits.send(limit).await.is_err() {
                return;
            }
            before = now;
            tokio::time::sleep(QUIET).await;
        }
    });
    Ok(())
}

/// The value of a counter in a file of `name value` lines.
fn counter(text: &str, name: &str) -> u64 {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter(|(found, _)| *found == name).find_map(|(_, value)| value.parse().ok()).unwrap_or(0)
}

async fn watch_disk(hits: mpsc::Sender<GuestLimit>) {
    let mut every = tokio::time::interval(DISK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut full = false;
    loop {
        every.tick().await;
        let Some(free) = disk_free() else { return };
        let was_full = full;
        full = now_full(was_full, free);
        if full && !was_full && hits.send(GuestLimit::Disk).await.is_err() {
            return;
        }
    }
}

fn now_full(was_full: bool, free: u64) -> bool {
    free < if was_full { DISK_EASED } else { DISK_FULL }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(counter(events, "oom_kill"), 2);
        assert_eq!(counter(events, "max"), 12);
        assert_eq!(counter(events, "kill"), 0);
    }

    #[test]
    fn a_full_disk_is_told_once_until_there_is_room_again() {
        assert!(!now_full(false, 2 << 20));
        assert!(now_full(false, 1000));
        assert!(now_full(true, 2 << 20));
        assert!(!now_full(true, 9 << 20));
    }
}
