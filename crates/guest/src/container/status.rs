//! What the kernel says of a process in `/proc/PID/status`.

use std::collections::BTreeMap;

use crate::fault::Fault;

/// The lines of the file, by name.
pub(crate) struct Status(BTreeMap<String, String>);

impl Status {
    /// Reads the file's text.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Self(lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    /// One line must have this value.
    pub(crate) fn field(&self, name: &str, wanted: &str) -> Result<(), Fault> {
        match self.0.get(name) {
            Some(found) if found == wanted => Ok(()),
            Some(found) => Err(Fault::new(format!("`{name}` is `{found}`, not `{wanted}`"))),
            None => Err(Fault::new(format!("the kernel doesn't tell `{name}`"))),
        }
    }

    /// All user and group ids must be this one, and there must be no other group.
    pub(crate) fn runs_as(&self, id: u32) -> Result<(), Fault> {
        let all = [id.to_string(), id.to_string(), id.to_string(), id.to_string()].join("\t");
        self.field("Uid", &all)?;
        self.field("Gid", &all)?;
        self.field("Groups", "")
    }

    /// No set of capabilities may hold any.
    pub(crate) fn has_no_capabilities(&self) -> Result<(), Fault> {
        ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
            .into_iter()
            .try_for_each(|set| self.field(set, "0000000000000000"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFINED: &str = "Name:\tsh\nUid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nGroups:\t \n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";

    #[test]
    fn a_confined_process_passes() {
        let status = Status::parse(CONFINED);
        status.runs_as(1000).unwrap();
        status.has_no_capabilities().unwrap();
        status.field("Seccomp", "2").unwrap();
    }

    #[test]
    fn one_capability_one_id_or_one_group_too_many_is_found() {
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let loose =
                CONFINED.replace(&format!("{set}:\t0000000000000000"), &format!("{set}:\t0000000000200000"));
            assert!(Status::parse(&loose).has_no_capabilities().is_err(), "{set}");
        }
        assert!(Status::parse(&CONFINED.replace("Uid:\t1000\t1000", "Uid:\t1000\t0")).runs_as(1000).is_err());
        assert!(Status::parse(&CONFINED.replace("Groups:\t ", "Groups:\t27")).runs_as(1000).is_err());
        assert!(Status::parse(&CONFINED.replace("Seccomp:\t2\n", "")).field("Seccomp", "2").is_err());
    }
}
