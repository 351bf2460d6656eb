//! Small safe wrappers over namespaces, cgroups, mounts, seccomp and descriptors: the only place with `unsafe`.
#![expect(unsafe_code, reason = "this crate is where it may be")]

pub mod attempt;
pub mod descriptors;
pub mod entropy;
pub mod files_rule;
pub mod hardware;
pub mod loopback;
pub mod mounts;
pub mod namespaces;
pub mod raw;
pub mod spawn;
pub mod tsc;
