//! After an attack that broke its own machine: what the host is like, and what that says of the attack.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::report::{Outcome, Report};

/// What must become of a cell that makes an attack.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Must {
    /// The door cuts it off, for a reason that has one of these words.
    BeCutOff(&'static [&'static str]),
    /// Nothing but the cell itself may be harmed.
    HarmItselfAlone,
}

/// How an attack went.
#[derive(Debug, Default)]
pub(crate) struct Fought {
    /// What the attacker reported, last.
    pub(crate) said: Option<Report>,
    /// Why the cell ended, if it did.
    pub(crate) end: Option<String>,
}

/// What is seen from outside, each as it should be or how it is instead.
#[derive(Debug)]
pub(crate) struct Aftermath {
    /// Whether the daemon answers.
    pub(crate) daemon: Result<(), String>,
    /// Whether another cell, which ran all the time, still runs programs.
    pub(crate) neighbour: Result<(), String>,
    /// Whether the image that all cells share has the digest that it had.
    pub(crate) image: Result<(), String>,
}

impl Aftermath {
    /// What is not as it should be.
    fn harm(&self) -> Option<String> {
        let seen =
            [("the daemon", &self.daemon), ("another cell", &self.neighbour), ("the image", &self.image)];
        let wrong =
            |(what, how): (&str, &Result<(), String>)| Some(format!("{what}: {}", how.as_ref().err()?));
        let wrong: Vec<String> = seen.into_iter().filter_map(wrong).collect();
        (!wrong.is_empty()).then(|| wrong.join("; "))
    }
}

/// How the door's reason begins, and that of a failed cell.
const CUT_OFF: &str = "the door cut the guest off: ";
const CELL_FAILED: &str = "the cell failed: ";

/// Judges an attack that its probe left to whoever looks at the host.
pub(crate) fn judge(must: Must, fought: &Fought, after: &Aftermath) -> (Outcome, String) {
    if let Some(harm) = after.harm() {
        return (Outcome::Breached, harm);
    }
    let Some(said) = &fought.said else {
        let end = fought.end.as_deref().unwrap_or("the cell goes on");
        return (Outcome::Failed, format!("the attacker said nothing: {end}"));
    };
    if said.outcome != Outcome::Left {
        return (said.outcome, said.evidence.clone());
    }
    let end = fought.end.as_deref().map(|end| end.strip_prefix(CELL_FAILED).unwrap_or(end));
    let told = |outcome, end: &str| {
        (outcome, format!("{end}; host, image and another cell are unharmed; {}", said.evidence))
    };
    match (must, end) {
        (Must::HarmItselfAlone, end) => told(Outcome::Blocked, end.unwrap_or("the cell goes on")),
        (Must::BeCutOff(words), Some(end)) => match end.strip_prefix(CUT_OFF) {
            Some(why) if words.iter().any(|word| why.contains(word)) => {
                told(Outcome::Blocked, &format!("cut off: {why}"))
            }
            Some(_) | None => told(Outcome::Failed, &format!("ended for another reason: {end}")),
        },
        (Must::BeCutOff(_), None) => told(Outcome::Breached, "the door did not cut it off"),
    }
}

/// A file whose content must stay as it is.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    path: PathBuf,
    digest: [u8; 32],
}

impl Sealed {
    /// Looks at the file.
    pub(crate) fn new(path: PathBuf) -> io::Result<Self> {
        let digest = digest(&path)?;
        Ok(Self { path, digest })
    }

    /// Looks again.
    pub(crate) fn look(&self) -> Result<(), String> {
        match digest(&self.path) {
            Ok(now) if now == self.digest => Ok(()),
            Ok(_other) => Err("it has changed".to_owned()),
            Err(e) => Err(format!("it can't be read: {e}")),
        }
    }
}

fn digest(path: &Path) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::own_report;

    const FLOOD: Must = Must::BeCutOff(&["streams"]);

    fn fine() -> Aftermath {
        Aftermath { daemon: Ok(()), neighbour: Ok(()), image: Ok(()) }
    }

    fn left(end: Option<&str>) -> Fought {
        let mut said = own_report("flood", "", "", Ok("10,000 were opened".to_owned()));
        said.outcome = Outcome::Left;
        Fought { said: Some(said), end: end.map(str::to_owned) }
    }

    #[test]
    fn a_cut_by_the_door_for_the_reason_expected_is_the_proof_of_a_stop() {
        let end = "the cell failed: the door cut the guest off: more than 32 streams wait";
        let (outcome, evidence) = judge(FLOOD, &left(Some(end)), &fine());
        assert_eq!(outcome, Outcome::Blocked);
        assert!(evidence.starts_with("cut off: more than 32 streams wait"), "{evidence}");
        assert!(evidence.contains("10,000 were opened"), "{evidence}");
    }

    #[test]
    fn a_door_that_takes_it_all_is_a_breach() {
        assert_eq!(judge(FLOOD, &left(None), &fine()).0, Outcome::Breached);
    }

    #[test]
    fn an_end_for_another_reason_proves_nothing() {
        for end in [
            "the cell failed: the machine's monitor ended in order",
            "the cell failed: the door cut the guest off: the guest has been silent for 180 s",
            "the cell failed: more than 32 streams wait",
        ] {
            assert_eq!(judge(FLOOD, &left(Some(end)), &fine()).0, Outcome::Failed, "{end}");
        }
    }

    #[test]
    fn an_attacker_that_said_nothing_proves_nothing() {
        let fought = Fought { said: None, end: Some("the door cut the guest off: streams".to_owned()) };
        assert_eq!(judge(FLOOD, &fought, &fine()).0, Outcome::Failed);
        assert_eq!(judge(Must::HarmItselfAlone, &Fought::default(), &fine()).0, Outcome::Failed);
    }

    #[test]
    fn a_broken_machine_is_no_harm_but_anything_else_is_a_breach() {
        let crashed = left(Some("the cell failed: the machine's monitor ended in order"));
        assert_eq!(judge(Must::HarmItselfAlone, &crashed, &fine()).0, Outcome::Blocked);
        assert_eq!(judge(Must::HarmItselfAlone, &left(None), &fine()).0, Outcome::Blocked);
        let wrong = || Err("not as it was".to_owned());
        for after in [
            Aftermath { daemon: wrong(), ..fine() },
            Aftermath { neighbour: wrong(), ..fine() },
            Aftermath { image: wrong(), ..fine() },
        ] {
            assert_eq!(judge(Must::HarmItselfAlone, &crashed, &after).0, Outcome::Breached);
            let cut = left(Some("the cell failed: the door cut the guest off: streams"));
            assert_eq!(judge(FLOOD, &cut, &after).0, Outcome::Breached);
        }
    }

    #[test]
    fn what_the_probe_itself_knows_stands() {
        let mut fought = left(None);
        for outcome in [Outcome::Breached, Outcome::Failed, Outcome::Blocked, Outcome::NotApplicable] {
            fought.said = fought.said.map(|said| Report { outcome, ..said });
            assert_eq!(judge(FLOOD, &fought, &fine()).0, outcome);
        }
    }

    #[test]
    fn one_changed_byte_of_a_sealed_file_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("image");
        std::fs::write(&path, [0; 4096]).expect("a file");
        let sealed = Sealed::new(path.clone()).expect("its digest");
        assert_eq!(sealed.look(), Ok(()));
        let mut bytes = [0; 4096];
        bytes[4095] = 1;
        std::fs::write(&path, bytes).expect("a file");
        assert!(sealed.look().is_err());
    }
}
