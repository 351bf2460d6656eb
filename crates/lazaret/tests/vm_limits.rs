//! Each limit stops a runaway, with a message that names it; an interrupted session ends in order.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::io::Read;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use testkit::{Lab, deadline};

fn lab() -> Lab {
    Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new())
}

/// An agent that is one Python program, with these limits.
fn runaway(lab: &Lab, name: &str, program: &str, limits: &str) {
    lab.agent(
        name,
        &format!(
            "name = \"{name}\"\nharness = {{ command = [\"python3\", \"-c\", '''\n{program}\n'''] }}\nimage = \"base\"\n\
             [limits]\nmemory = \"256MiB\"\ndisk = \"64MiB\"\n{limits}\n"
        ),
    );
}

#[test]
fn a_session_is_stopped_at_its_wall_clock() {
    let lab = lab();
    runaway(&lab, "endless", "while True: pass", "wall_clock = \"40s\"");
    let start = Instant::now();
    let done = lab.session(&["endless"], "").expect(124);
    assert!(done.stderr.contains("wall clock") && done.stderr.contains("40s"), "{}", done.stderr);
    assert!(start.elapsed() < Duration::from_secs(120));
}

#[test]
fn a_session_that_takes_too_much_memory_is_stopped_and_told() {
    let lab = lab();
    let program = "a = []\nwhile True: a.append(bytearray(1 << 20))";
    runaway(&lab, "hungry", program, "wall_clock = \"4m\"");
    let done = lab.session(&["hungry"], "");
    assert!(done.code() == 124 || done.code() == 137, "{done:?}");
    assert!(done.stderr.contains("memory"), "{}", done.stderr);
}

#[test]
fn a_session_that_prints_without_end_is_stopped() {
    let lab = lab();
    let program = "import sys\nwhile True: sys.stdout.write(\"x\" * 65536)";
    runaway(&lab, "chatty", program, "wall_clock = \"4m\"\noutput = \"1MiB\"");
    let done = lab.session(&["chatty"], "").expect(124);
    assert!(done.stderr.contains("output") && done.stderr.contains("1MiB"), "{}", done.stderr);
    assert!(done.stdout.len() <= 1 << 20, "{} bytes came through", done.stdout.len());
}

#[test]
fn processes_beyond_the_limit_are_not_made_and_the_session_is_told() {
    let lab = lab();
    let program = "import os, time\nmade = 0\ntry:\n  while made < 2000:\n    if os.fork() == 0: time.sleep(60)\n    made += 1\n\
                   except BlockingIOError: print(\"made\", made, flush=True)\nos._exit(0)";
    runaway(&lab, "many", program, "wall_clock = \"4m\"\npids = 40");
    let done = lab.session(&["many"], "").expect(0);
    let made: u32 = done.stdout.trim().strip_prefix("made ").unwrap().parse().unwrap();
    assert!(made < 40, "{made}");
    assert!(done.stderr.contains("processes"), "{}", done.stderr);
}

#[test]
fn the_disk_holds_no_more_than_it_may_and_the_session_is_told() {
    let lab = lab();
    let program = "try:\n  with open(\"/home/agent/fill\", \"wb\", 0) as f:\n    while True: f.write(bytes(1 << 20))\n\
                   except OSError as e: print(e.errno)";
    runaway(&lab, "hoarder", program, "wall_clock = \"4m\"");
    let done = lab.session(&["hoarder"], "").expect(0);
    assert_eq!(done.stdout.trim(), "28", "{}", done.stderr);
    assert!(done.stderr.contains("disk"), "{}", done.stderr);
}

#[test]
fn a_session_has_no_more_processor_time_than_its_processors() {
    let lab = lab();
    let program = "print(open(\"/sys/fs/cgroup/cpu.max\").read())";
    runaway(&lab, "counted", program, "cpus = 1");
    let done = lab.session(&["counted"], "").expect(0);
    assert_eq!(done.stdout.trim(), "100000 100000", "{}", done.stderr);
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

/// Reads what it prints until this is in it.
fn heard(from: &mut impl Read, what: &str) {
    let mut said = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&said).contains(what) {
        assert_eq!(from.read(&mut byte).unwrap(), 1, "ended with {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&byte);
    }
}

/// Starts the agent that ignores SIGTERM, and waits until it does.
fn stubborn(lab: &Lab) -> Child {
    let mut child = lab.spawn(&["run", "--allow-emulation", "stubborn"]);
    heard(child.stdout.as_mut().unwrap(), "deaf");
    child
}

#[test]
fn an_interrupt_ends_the_session_in_order_and_a_second_one_at_once() {
    let lab = lab();
    let program = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(\"deaf\", flush=True)\ntime.sleep(600)";
    runaway(&lab, "stubborn", program, "");
    let mut child = stubborn(&lab);
    let start = Instant::now();
    interrupt(&child);
    let status = deadline("it ends in order", Duration::from_secs(10), || child.try_wait().unwrap());
    let in_order = start.elapsed();
    assert_eq!(status.code(), Some(130));
    // 5 s are promised; the rest is for a busy machine.
    assert!(in_order < Duration::from_secs(8), "{in_order:?}");

    let mut child = stubborn(&lab);
    let start = Instant::now();
    interrupt(&child);
    heard(child.stderr.as_mut().unwrap(), "once more");
    interrupt(&child);
    let status = deadline("it ends at once", Duration::from_secs(10), || child.try_wait().unwrap());
    let at_once = start.elapsed();
    assert_eq!(status.code(), Some(130));
    assert!(at_once < in_order, "{at_once:?}, and in order {in_order:?}");
    assert!(lab.run(&["ps", "--json"], "").stdout.trim().trim_matches(['[', ']', ' ', '\n']).is_empty());
}
