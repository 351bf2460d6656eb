//! The jail around every program of a cell on the host (the VMM and the door): one mechanism, in two processes.
//!
//! ```text
//! daemon ── control socket ──▶ supervisor (`lazaret jail`) ── clone3 ──▶ inside: sets up, then becomes the program
//!    │  spec, descriptors          │ outside of the namespaces                process 1 of its pid namespace
//!    └──── its end = kill ─────────┘ kills, reaps, removes cgroup and mount point, reports how it ended
//! ```
//! The supervisor sees the daemon's end of the control socket go away whatever ended the daemon, and kills the program.
//! If the supervisor itself is killed, the program dies with it (parent-death signal).

pub(crate) mod cgroup;
pub(crate) mod files;
pub(crate) mod guarded;
pub(crate) mod identity;
mod inside;
pub(crate) mod launch;
mod root;
pub(crate) mod spec;
mod supervisor;
mod syscalls;
#[cfg(test)]
mod tests;

pub use launch::JailError;
pub use supervisor::jail_main;
