//! What a person takes back reaches what is open: answers without end in a real cell, each of which ends when its right does.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::io::{BufRead as _, BufReader};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use testkit::{Asked, Lab, Reply, Site};

const HOSTS: [&str; 6] = [
    "ruled.example",
    "lent.example",
    "removed.example",
    "rotated.example",
    "second.example",
    "third.example",
];

/// Opens an answer without end at each host, tells of each that is cut, and in the end looks at what is left.
const PROGRAM: &str = r#"
import queue, threading, urllib.request
cuts = queue.Queue()
def follow(name, answer):
    try:
        while answer.read1(1000):
            pass
    except Exception:
        pass
    cuts.put(name)
# A secret and a stranger's text: from here on, requests carry nothing that a later rise of labels could cut them for.
urllib.request.urlopen("https://rotated.example/again", timeout=100).read()
opened = {}
for name in ["ruled", "second", "third", "lent", "removed", "rotated"]:
    opened[name] = urllib.request.urlopen("https://%s.example/endless" % name, timeout=100)
    opened[name].read1(1000)
for name in ["ruled", "second", "third", "lent", "removed"]:
    threading.Thread(target=follow, args=(name, opened[name]), daemon=True).start()
print("open", flush=True)
for _ in range(5):
    print(cuts.get(), flush=True)
print(urllib.request.urlopen("https://rotated.example/again", timeout=100).status, flush=True)
for _ in range(40):
    assert opened["rotated"].read1(1000)
print("goes on", flush=True)
"#;

fn answer(asked: &Asked) -> Reply {
    if asked.line.ends_with("/endless") { Reply::Endless } else { Reply::Bytes("text/plain", Vec::new()) }
}

/// Its file; without what is taken away.
fn agent(without: &[&str]) -> String {
    let kept = |host: &&&str| !without.contains(*host);
    let rules: Vec<String> = HOSTS
        .iter()
        .filter(kept)
        .map(|host| format!("\"GET https://{host}/endless\", \"GET https://{host}/again\""))
        .collect();
    let lent: Vec<String> = [("lent", HOSTS[1]), ("removed", HOSTS[2]), ("rotated", HOSTS[3])]
        .iter()
        .filter(|(name, _)| !without.contains(name))
        .map(|(name, host)| format!("{name} = [\"https://{host}\"]\n"))
        .collect();
    format!(
        "name = \"reader\"\nharness = {{ command = [\"python3\", \"-c\", '''{PROGRAM}'''] }}\nimage = \"base\"\n\
         [egress]\nallow = [{}]\n[limits]\nmemory = \"256MiB\"\nwall_clock = \"10m\"\n[secrets]\n{}",
        rules.join(", "),
        lent.concat()
    )
}

#[test]
fn what_is_taken_back_ends_what_is_open() {
    let site = Site::start(&HOSTS, answer);
    let lab = Lab::without_daemon(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    lab.network(&site.network(&lab.path("")));
    for (name, host) in [("lent", HOSTS[1]), ("removed", HOSTS[2]), ("rotated", HOSTS[3])] {
        let to = format!("https://{host}");
        drop(lab.run(&["secret", "set", name, "--to", &to], "the-first-key").expect(0));
    }
    lab.agent("reader", &agent(&[]));
    drop(lab.run(&["agent", "apply", "reader", "--yes"], "").expect(0));
    let mut child = lab.spawn(&["run", "--allow-emulation", "reader"]);
    let said = lines(child.stdout.take().unwrap());
    next(&said, "open");

    // New bytes count from the next request on; what is open goes on.
    drop(lab.run(&["secret", "rotate", "rotated"], "the-second-key").expect(0));
    assert!(said.recv_timeout(Duration::from_secs(2)).is_err(), "something ended by itself");
    // A rule, and what a file lends: whoever narrows the file need not apply it.
    let mut without = Vec::new();
    let mut took = Vec::new();
    for (taken, ends) in [
        ("ruled.example", "ruled"),
        ("second.example", "second"),
        ("third.example", "third"),
        ("lent", "lent"),
    ] {
        without.push(taken);
        lab.agent("reader", &agent(&without));
        took.push(cut(&said, ends));
    }
    // A busy machine adds to most of them, and hardly to all.
    assert!(took.iter().min() < Some(&Duration::from_secs(1)), "{took:?}");
    // And the secret itself.
    drop(lab.run(&["secret", "rm", "removed"], "").expect(0));
    cut(&said, "removed");

    next(&said, "200");
    next(&said, "goes on");
    assert!(child.wait().unwrap().success());
    let keys: Vec<String> = site
        .asked()
        .iter()
        .filter(|asked| asked.host == "rotated.example")
        .map(|asked| format!("{} {}", asked.line, asked.header("authorization").unwrap_or_default()))
        .collect();
    assert_eq!(
        keys,
        [
            "GET /again Bearer the-first-key",
            "GET /endless Bearer the-first-key",
            "GET /again Bearer the-second-key"
        ]
    );
}

/// The lines of it, as they come.
fn lines(from: std::process::ChildStdout) -> Receiver<String> {
    let (tell, said) = channel();
    std::thread::spawn(move || {
        BufReader::new(from).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
    });
    said
}

/// That this is cut, and after how long: within a second where nothing else runs (docs/egress.md), and soon on a busy machine.
fn cut(said: &Receiver<String>, expected: &str) -> Duration {
    within(Duration::from_secs(20), said, expected)
}

fn next(said: &Receiver<String>, expected: &str) {
    within(Duration::from_secs(200), said, expected);
}

fn within(limit: Duration, said: &Receiver<String>, expected: &str) -> Duration {
    let begun = Instant::now();
    assert_eq!(said.recv_timeout(limit).unwrap(), expected);
    let took = begun.elapsed();
    eprintln!("{expected}: after {took:?}");
    took
}
