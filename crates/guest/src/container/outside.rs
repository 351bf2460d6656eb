//! The container's protections as the guest's root sees them: what a process inside could not honestly say.

use std::fs;

use wire::guest::ContainerSpec;

use super::inside::Verified;
use super::plan::{self, AGENT};
use super::status::Status;
use super::{CGROUP, cgroup};
use crate::PROGRAM;
use crate::fault::{During, Fault};

/// Checks the init, whose place every process of the container inherits.
///
/// # Errors
/// Names the first that is missing.
pub(crate) fn verify(init: i32, spec: &ContainerSpec) -> Result<Verified, Fault> {
    let missing =
        |name: &str, fault: &Fault| Fault::new(format!("the protection `{name}` is missing: {fault}"));
    let mut verified = Verified::new();
    let mut check = |name: &str, seen: Result<String, Fault>| match seen {
        Ok(seen) => {
            verified.push((name.to_owned(), seen));
            Ok(())
        }
        Err(fault) => Err(missing(name, &fault)),
    };
    check("identity", identity(init))?;
    check("namespaces", namespaces(init))?;
    check("root", root(init))?;
    check("cgroup", place(init))?;
    check("limits", limits(spec))?;
    Ok(verified)
}

fn identity(init: i32) -> Result<String, Fault> {
    let text = fs::read_to_string(format!("/proc/{init}/status")).during("reading the init's status")?;
    let status = Status::parse(&text);
    status.runs_as(AGENT)?;
    status.has_no_capabilities()?;
    status.field("NoNewPrivs", "1")?;
    status.field("Seccomp", "2")?;
    Ok(format!("the init is user {AGENT} of the guest, confined"))
}

fn namespaces(init: i32) -> Result<String, Fault> {
    const KINDS: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
    for kind in KINDS {
        let ours = fs::read_link(format!("/proc/self/ns/{kind}")).during("reading the guest's namespaces")?;
        let theirs =
            fs::read_link(format!("/proc/{init}/ns/{kind}")).during("reading the init's namespaces")?;
        if ours == theirs {
            return Err(Fault::new(format!("the `{kind}` namespace is the guest's")));
        }
    }
    Ok(KINDS.join(" "))
}

/// The container must see none of the guest's mounts, and the init must be this very program.
fn root(init: i32) -> Result<String, Fault> {
    let table = fs::read_to_string(format!("/proc/{init}/mountinfo")).during("reading the init's mounts")?;
    let root = table.lines().find(|line| line.split(' ').nth(4) == Some("/"));
    if !root.is_some_and(|line| line.contains(" - overlay ")) {
        return Err(Fault::new("the root is not the agent's overlay"));
    }
    if fs::metadata(format!("/proc/{init}/root{PROGRAM}")).is_ok() {
        return Err(Fault::new("the guest's own files are visible"));
    }
    Ok("the image under the agent's disk, nothing of the guest's".to_owned())
}

fn place(init: i32) -> Result<String, Fault> {
    let found = fs::read_to_string(format!("/proc/{init}/cgroup")).during("reading the init's cgroup")?;
    let wanted = format!("0::{}", plan::CGROUP);
    if found.trim_end() == wanted {
        Ok(plan::CGROUP.to_owned())
    } else {
        Err(Fault::new(format!("the init is in `{}`", found.trim_end())))
    }
}

fn limits(spec: &ContainerSpec) -> Result<String, Fault> {
    let wanted = cgroup::limits(spec);
    for (file, wanted) in &wanted {
        let found =
            fs::read_to_string(format!("{CGROUP}/{file}")).during(format_args!("reading `{file}`"))?;
        if found.trim_end() != wanted {
            return Err(Fault::new(format!("`{file}` is `{}`, not `{wanted}`", found.trim_end())));
        }
    }
    Ok(wanted.map(|(file, value)| format!("{file}={value}")).join(" "))
}
