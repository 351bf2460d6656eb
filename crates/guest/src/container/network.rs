//! The container's network: loopback alone, in a namespace that belongs to the guest's root, so that nothing in the
//! container may change it.
//!
//! It needs nothing of the cell, so it is made before a template is saved.

use std::fs::{self, File};

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns, unshare};

use crate::boot::attach;
use crate::fault::{During, Fault};

/// Where the namespace is kept while no process is in it.
const KEPT: &str = "/run/network";

/// The namespace that this process is in.
const OWN: &str = "/proc/self/ns/net";

/// Makes the network.
pub(crate) fn make() -> Result<(), Fault> {
    let what = "making the container's network";
    let own = File::open(OWN).during(what)?;
    unshare(CloneFlags::CLONE_NEWNET).during(what)?;
    sys::loopback::bring_up().during("bringing loopback up")?;
    fs::write(KEPT, []).during(what)?;
    attach(OWN, KEPT, "none", MsFlags::MS_BIND, None)?;
    setns(own, CloneFlags::CLONE_NEWNET).during(what)
}

/// Does something in the container's network. What this process makes there meanwhile stays there: sockets, children.
pub(crate) fn within<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    let own = File::open(OWN).during("remembering the guest's network")?;
    let kept = File::open(KEPT).during("opening the container's network")?;
    setns(kept, CloneFlags::CLONE_NEWNET).during("entering the container's network")?;
    let done = work();
    setns(own, CloneFlags::CLONE_NEWNET).during("leaving the container's network")?;
    done
}
