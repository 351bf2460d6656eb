//! The hostile agent: it tries to get out of its cell by attacks that work on a system that doesn't stop them, and
//! prints for each one line of JSON.
//!
//! ```text
//! lazaret-hostile [--place container|guest-root|from-container] [--only ID,…] [--but ID,…] [--host-file PATH] [--list]
//! ```
//! Each probe runs in a process of its own, so that what it gains or breaks ends with it.

mod channel;
mod credentials;
mod door;
mod egress;
mod files;
mod guest_root;
mod hardware;
mod kernel;
mod network;
mod privileges;
mod probe;
mod resources;
mod seize;
mod workspace;

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use demo::report::{Outcome, Report};
use probe::{Place, Probe, Verdict};

/// Every probe, in the order in which they run: what breaks most comes last.
const FAMILIES: &[&[Probe]] = &[
    files::PROBES,
    credentials::PROBES,
    privileges::PROBES,
    kernel::PROBES,
    channel::PROBES,
    network::PROBES,
    guest_root::PROBES,
    door::PROBES,
    egress::PROBES,
    workspace::PROBES,
    resources::PROBES,
    seize::PROBES,
    hardware::PROBES,
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // A session's prompt is one argument: its words are taken apart.
    let args: Vec<&str> = args.iter().flat_map(|arg| arg.split_whitespace()).collect();
    match args.as_slice() {
        ["--one", id] => return one(id),
        ["--fill-memory", bytes] => return resources::fill(bytes),
        _whole_run => {}
    }
    let wanted = match Wanted::read(&args) {
        Ok(wanted) => wanted,
        Err(why) => {
            print(&mut std::io::stderr(), &format!("error: {why}"));
            return ExitCode::from(2);
        }
    };
    let mut breached = false;
    for probe in FAMILIES.iter().flat_map(|family| family.iter()).filter(|probe| wanted.includes(probe)) {
        if wanted.list {
            print(&mut std::io::stdout(), &format!("{:<24} {}", probe.id, probe.title));
            continue;
        }
        let outcome = attempt(probe, &wanted.host_file);
        breached |= matches!(outcome, Outcome::Breached | Outcome::Failed);
    }
    if breached { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What the command line asks for.
struct Wanted {
    place: Place,
    only: Vec<String>,
    but: Vec<String>,
    host_file: String,
    list: bool,
}

impl Wanted {
    fn read(args: &[&str]) -> Result<Self, String> {
        let mut wanted = Self {
            place: Place::Container,
            only: Vec::new(),
            but: Vec::new(),
            host_file: std::env::var(files::HOST_FILE).unwrap_or_default(),
            list: false,
        };
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let mut value = || rest.next().copied().ok_or_else(|| format!("`{arg}` needs a value"));
            let ids = |list: &str| list.split(',').map(str::to_owned).collect();
            match *arg {
                "--place" => wanted.place = value()?.parse()?,
                "--only" => wanted.only = ids(value()?),
                "--but" => wanted.but = ids(value()?),
                "--host-file" => value()?.clone_into(&mut wanted.host_file),
                "--list" => wanted.list = true,
                // What else a prompt says is of no interest to an attacker.
                _word => {}
            }
        }
        Ok(wanted)
    }

    fn includes(&self, probe: &Probe) -> bool {
        let named = |ids: &[String]| ids.iter().any(|id| id == probe.id);
        probe.places.contains(&self.place) && (self.only.is_empty() || named(&self.only)) && !named(&self.but)
    }
}

fn print(to: &mut dyn std::io::Write, line: &str) {
    // Without a reader there is nothing to report to.
    if writeln!(to, "{line}").and_then(|()| to.flush()).is_err() {
        std::process::exit(1);
    }
}

/// In the process of one probe: makes the attack and prints the verdict.
fn one(id: &str) -> ExitCode {
    let Some(probe) = FAMILIES.iter().flat_map(|family| family.iter()).find(|probe| probe.id == id) else {
        return ExitCode::from(2);
    };
    probe::say(&(probe.run)());
    ExitCode::SUCCESS
}

/// Runs a probe in a process of its own and reports each verdict that it gives; the outcome of the last.
fn attempt(probe: &'static Probe, host_file: &str) -> Outcome {
    let report = |verdict: &Verdict| {
        let report = Report {
            id: probe.id.to_owned(),
            title: probe.title.to_owned(),
            attempt: probe.attempt.to_owned(),
            layer: probe.layer,
            outcome: verdict.outcome,
            evidence: verdict.evidence.clone(),
        };
        print(&mut std::io::stdout(), &report.line());
    };
    let last = match spawn(probe, host_file, report) {
        Ok((Some(said), _)) => return said.outcome,
        Ok((None, status)) => speechless(probe, status),
        Err(why) => Verdict::failed(why),
    };
    report(&last);
    last.outcome
}

/// What the probe's process said last, and how it ended; no status if it had to be ended.
type Spoken = (Option<Verdict>, Option<ExitStatus>);

fn spawn(
    probe: &'static Probe,
    host_file: &str,
    heard: impl Fn(&Verdict) + Send + 'static,
) -> Result<Spoken, String> {
    let error = |e: std::io::Error| format!("the probe's process failed: {e}");
    let mut child = Command::new("/proc/self/exe")
        .args(["--one", probe.id])
        .env(files::HOST_FILE, host_file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(error)?;
    let stdout = child.stdout.take().ok_or("the probe's process has no output")?;
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(stdout.take(Report::MAX_LINE as u64)).lines();
        let verdicts = lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
        verdicts.inspect(|verdict| heard(verdict)).last()
    });
    let end = Instant::now() + Duration::from_secs(probe.seconds);
    let status = loop {
        match child.try_wait().map_err(error)? {
            Some(status) => break Some(status),
            None if Instant::now() >= end => {
                child.kill().map_err(error)?;
                child.wait().map_err(error)?;
                break None;
            }
            None => std::thread::park_timeout(Duration::from_millis(20)),
        }
    };
    Ok((reader.join().map_err(|_| "reading the verdict failed")?, status))
}

/// What the end of a process says that gave no verdict.
fn speechless(probe: &Probe, status: Option<ExitStatus>) -> Verdict {
    let Some(status) = status else {
        return Verdict::failed(format!("no verdict after {} s", probe.seconds));
    };
    match status.signal() {
        Some(signal) if probe.deaths.contains(&signal) => {
            Verdict::blocked(format!("the attacker was killed by signal {signal}"))
        }
        _other => Verdict::failed(format!("the probe's process ended without a verdict: {status}")),
    }
}
