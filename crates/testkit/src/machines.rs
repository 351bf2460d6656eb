//! The machines of this host, as its list of processes shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Every process of this host: its parent, and whether it is a machine.
fn processes() -> BTreeMap<u32, (u32, bool)> {
    let list = Command::new("ps").args(["-e", "-o", "pid=,ppid=,args="]).output().expect("ps");
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let parsed = list.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (pid, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some((pid, (parent, words.next()?.contains("qemu-system"))))
    });
    parsed.collect()
}

/// The machines that this daemon runs now; others of this host are none of the test's business.
#[must_use]
pub fn machines(daemon: u32) -> BTreeSet<u32> {
    let all = processes();
    let parent = |pid: &u32| all.get(pid).map(|(parent, _)| *parent);
    let ours = |pid: &u32| std::iter::successors(Some(*pid), parent).any(|ancestor| ancestor == daemon);
    all.iter().filter(|(pid, (_, machine))| *machine && ours(pid)).map(|(pid, _)| *pid).collect()
}

/// Whether none of these machines runs any more.
#[must_use]
pub fn none_left(machines: &BTreeSet<u32>) -> bool {
    !processes().iter().any(|(pid, (_, machine))| *machine && machines.contains(pid))
}
