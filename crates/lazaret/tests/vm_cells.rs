//! Cells don't see each other, one goes on when another is killed, and nothing is left when the daemon is.

use std::fs;
use std::process::Command;
use std::time::Duration;

use testkit::{Lab, deadline, machines, none_left};

fn idle(lab: &Lab, name: &str) {
    lab.agent(
        name,
        &format!(
            "name = \"{name}\"\nharness = {{ command = [\"sh\", \"-c\", \"echo {name}-was-here > /home/agent/mark; sync; exec sleep 600\"] }}\n\
             image = \"base\"\n[limits]\nmemory = \"192MiB\"\ndisk = \"64MiB\"\n"
        ),
    );
}

#[test]
fn two_cells_see_nothing_of_each_other_and_one_outlives_the_other() {
    let mut lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    idle(&lab, "first");
    idle(&lab, "second");
    let mut first = lab.running("first");
    let machine = machines(lab.daemon_pid());
    let mut second = lab.running("second");

    let look = "hostname; cat /etc/machine-id; ps -e 2>/dev/null; cat /proc/net/unix /proc/net/tcp; ls -lR /home /workspace /tmp /run /dev; cat /home/agent/mark; cat /proc/*/cmdline | tr '\\0' ' '";
    let seen = lab.run(&["exec", "second", "sh", "-c", look], "");
    assert!(seen.stdout.contains("second-was-here"), "{seen:?}");
    assert!(!seen.stdout.contains("first"), "the second cell sees the first:\n{}", seen.stdout);
    let names = |agent: &str| {
        lab.run(&["exec", agent, "sh", "-c", "hostname; cat /etc/machine-id"], "").expect(0).stdout
    };
    let (of_first, of_second) = (names("first"), names("second"));
    assert!(of_first.lines().zip(of_second.lines()).all(|(a, b)| a != b), "{of_first} {of_second}");

    assert_eq!(machine.len(), 1);
    for pid in machine {
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    }
    let status =
        deadline("the killed cell's session ends", Duration::from_secs(20), || first.try_wait().unwrap());
    assert_eq!(status.code(), Some(125));
    let alive = lab.run(&["exec", "second", "echo", "still here"], "").expect(0);
    assert_eq!(alive.stdout.trim(), "still here");

    // The daemon dies as by kill -9: the kernel takes the other cell with it, and the next daemon starts clean.
    let running = machines(lab.daemon_pid());
    assert_eq!(running.len(), 1);
    lab.kill_daemon();
    second.kill().unwrap();
    second.wait().unwrap();
    deadline("no machine is left", Duration::from_secs(20), || none_left(&running).then_some(()));
    lab.restart_daemon();
    let sessions = lab.run(&["ps", "--json"], "").expect(0).stdout;
    assert!(!sessions.contains("running"), "{sessions}");
    let jails = fs::read_dir(lab.path("run/lazaret/jails")).map(Iterator::count).unwrap_or(0);
    assert_eq!(jails, 0, "mount points are left");

    // The disk is kept.
    let mark = "harness = { command = [\"cat\", \"/home/agent/mark\"] }\nimage = \"base\"\n[limits]\nmemory = \"192MiB\"\ndisk = \"64MiB\"\n";
    lab.agent("second", &format!("name = \"second\"\n{mark}"));
    assert_eq!(lab.session(&["second"], "").expect(0).stdout.trim(), "second-was-here");
}
