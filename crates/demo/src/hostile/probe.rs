//! What a probe is, and how the outcome of a system call is judged.

use std::io::{self, Write as _};

use demo::report::{Layer, Outcome};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use sys::raw::{Call, call};

/// `SIGSYS` and `SIGKILL`, by which filters and limits kill.
pub(crate) const KILLED: &[i32] = &[31, 9];

/// One attack.
pub(crate) struct Probe {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) attempt: &'static str,
    pub(crate) layer: Layer,
    pub(crate) places: &'static [Place],
    /// Signals whose death means that the attack was stopped.
    pub(crate) deaths: &'static [i32],
    /// How long it may take, on an emulated machine too.
    pub(crate) seconds: u64,
    pub(crate) run: fn() -> Verdict,
}

/// Where the attacker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the container, against everything.
    Container,
    /// As root of the guest, so that the VM and the door stand alone.
    GuestRoot,
    /// In the container, against the guest around it, so that the container stands alone.
    FromContainer,
}

/// Attacks on the layers around the container.
pub(crate) const EVERYWHERE: &[Place] = &[Place::Container, Place::GuestRoot];
/// Attacks that only the container stops.
pub(crate) const CONTAINER: &[Place] = &[Place::Container, Place::FromContainer];
/// Attacks that need root of the guest.
pub(crate) const GUEST_ROOT: &[Place] = &[Place::GuestRoot];

impl std::str::FromStr for Place {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "container" => Ok(Self::Container),
            "guest-root" => Ok(Self::GuestRoot),
            "from-container" => Ok(Self::FromContainer),
            other => Err(format!("`{other}` is not a place: use container, guest-root or from-container")),
        }
    }
}

/// What came of an attack, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    pub(crate) evidence: String,
}

impl Verdict {
    fn new(outcome: Outcome, evidence: impl Into<String>) -> Self {
        let evidence: String = evidence.into();
        Self { outcome, evidence: evidence.chars().take(400).collect() }
    }

    pub(crate) fn blocked(evidence: impl Into<String>) -> Self {
        Self::new(Outcome::Blocked, evidence)
    }

    pub(crate) fn breached(evidence: impl Into<String>) -> Self {
        Self::new(Outcome::Breached, evidence)
    }

    pub(crate) fn not_applicable(reason: impl Into<String>) -> Self {
        Self::new(Outcome::NotApplicable, reason)
    }

    pub(crate) fn left(what: impl Into<String>) -> Self {
        Self::new(Outcome::Left, what)
    }

    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self::new(Outcome::Failed, why)
    }
}

/// Says what came of an attack so far: of all that is said, the last counts.
pub(crate) fn say(verdict: &Verdict) {
    let line = serde_json::to_string(verdict).unwrap_or_default();
    let mut to = io::stdout();
    // Without a reader there is nothing to report to.
    if writeln!(to, "{line}").and_then(|()| to.flush()).is_err() {
        std::process::exit(1);
    }
}

/// What each of several attempts of one attack gave. One that worked makes the attack a breach.
#[derive(Default)]
pub(crate) struct Attempts {
    worked: Vec<String>,
    stopped: Vec<(String, String)>,
}

impl Attempts {
    /// Takes a result: only what a permission check or a missing thing says is a stop; any other error means that the
    /// attempt got past the check.
    pub(crate) fn take<T>(&mut self, name: impl Into<String>, result: io::Result<T>) {
        match result {
            Ok(_gained) => self.worked(name, "it worked"),
            Err(e) if is_stop(&e) => self.stopped(name, short(&e)),
            Err(e) => self.worked(name, format!("let through, then {}", short(&e))),
        }
    }

    /// Takes a result of which every error is a stop.
    pub(crate) fn take_any<T>(&mut self, name: impl Into<String>, result: io::Result<T>) {
        match result {
            Ok(_gained) => self.worked(name, "it worked"),
            Err(e) => self.stopped(name, short(&e)),
        }
    }

    pub(crate) fn worked(&mut self, name: impl Into<String>, how: impl Into<String>) {
        self.worked.push(format!("{}: {}", name.into(), how.into()));
    }

    pub(crate) fn stopped(&mut self, name: impl Into<String>, why: impl Into<String>) {
        self.stopped.push((name.into(), why.into()));
    }

    /// Whether one has worked already.
    pub(crate) fn any_worked(&self) -> bool {
        !self.worked.is_empty()
    }

    /// The verdict: `none` is the evidence when nothing was there to attack.
    pub(crate) fn verdict(self, none: &str) -> Verdict {
        if !self.worked.is_empty() {
            return Verdict::breached(self.worked.join(", "));
        }
        if self.stopped.is_empty() {
            return Verdict::blocked(none);
        }
        // Attempts that were stopped alike share one reason.
        let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
        for (name, why) in self.stopped {
            match reasons.iter_mut().find(|(known, _)| *known == why) {
                Some((_, names)) => names.push(name),
                None => reasons.push((why, vec![name])),
            }
        }
        let text = |(why, names): (String, Vec<String>)| match names.as_slice() {
            [a, b, c, d, ..] if names.len() > 5 => {
                format!("{a}, {b}, {c}, {d} and {} more: {why}", names.len() - 4)
            }
            _few => format!("{}: {why}", names.join(", ")),
        };
        Verdict::blocked(reasons.into_iter().map(text).collect::<Vec<_>>().join("; "))
    }
}

/// Makes each of these calls.
pub(crate) fn calls(list: &[(&str, Call)]) -> Verdict {
    let mut attempts = Attempts::default();
    for (name, what) in list {
        attempts.take(*name, call(*what));
    }
    attempts.verdict("nothing was tried")
}

/// Whether the kernel says that this may not be done, or that it doesn't exist.
pub(crate) fn is_stop(error: &io::Error) -> bool {
    let stops = [
        Errno::EPERM,
        Errno::EACCES,
        Errno::ENOSYS,
        Errno::ENOENT,
        Errno::ENODEV,
        Errno::ENXIO,
        Errno::EROFS,
        Errno::EAFNOSUPPORT,
        Errno::EPROTONOSUPPORT,
        Errno::ESOCKTNOSUPPORT,
        Errno::EOPNOTSUPP,
        Errno::ENOSPC,
        Errno::EUSERS,
    ];
    error.raw_os_error().is_some_and(|code| stops.contains(&Errno::from_raw(code)))
}

/// The error's name, such as `EPERM`.
pub(crate) fn short(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |code| format!("{:?}", Errno::from_raw(code)))
}

/// An error of `nix` as one of the standard library.
pub(crate) fn io<T>(result: nix::Result<T>) -> io::Result<T> {
    result.map_err(io::Error::from)
}
