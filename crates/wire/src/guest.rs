//! The channel's streams: what door process and guest say to each other.

use serde::{Deserialize, Serialize};

use crate::process::ProcessSpec;

/// The head of a stream that the door opens to the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DoorOpens {
    /// The one control stream: then [`ToGuest`] and [`FromGuest`] frames.
    Control,
    /// A process: then [`crate::process::ToProcess`] and [`crate::process::FromProcess`] frames.
    Process(ProcessSpec),
    /// Files for the container: then a tar archive to the stream's end; the guest answers with one [`FilesDone`].
    PutFiles {
        /// Absolute path of the folder in the container under which they go; made if missing, emptied first.
        folder: String,
    },
    /// Files from the container: the guest sends a tar archive to the stream's end.
    GetFiles {
        /// Absolute path of the folder in the container.
        folder: String,
    },
}

/// The guest's answer to [`DoorOpens::PutFiles`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilesDone {
    /// All were written.
    Ok,
    /// Something failed.
    Failed {
        /// What failed, for people.
        why: String,
    },
}

/// The head of a stream that the guest opens to the door: a named service, deny by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestOpens {
    /// One connection to the model endpoint on the container's loopback: then HTTP/1.1 bytes.
    Model,
    /// One connection to the tools' endpoint on the container's loopback: then HTTP/1.1 bytes that carry MCP.
    Tools,
    /// One connection to the egress proxy on the container's loopback: then HTTP/1.1 bytes of a client of a proxy.
    Egress,
}

/// On the control stream, to the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToGuest {
    /// Set the container up. Once, and first.
    Configure(ContainerSpec),
    /// How are you?
    Health,
    /// End every process, unmount, power off.
    Shutdown {
        /// Milliseconds between SIGTERM and SIGKILL.
        grace_ms: u32,
    },
}

/// What the container is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Memory limit of the container's cgroup, bytes.
    pub memory: u64,
    /// CPU limit, thousandths of a processor.
    pub cpu_millis: u32,
    /// Processes and threads at once.
    pub pids: u32,
    /// The port on the container's loopback where the model endpoint listens.
    pub model_port: u16,
    /// The port on the container's loopback where the tools' endpoint listens; another than `model_port`.
    pub tools_port: u16,
    /// The egress proxy, if there is one.
    pub egress: Option<EgressProxy>,
    /// Whether processes in [`crate::process::Place::GuestRoot`] are allowed: only for tests of single layers.
    pub allow_guest_root: bool,
}

/// How the container's programs reach out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressProxy {
    /// The port on the container's loopback where the proxy listens; another than those of the other endpoints.
    pub port: u16,
    /// The certificate that programs are to trust, in PEM.
    pub authority: String,
}

/// Where [`EgressProxy::authority`] lies in the container.
pub const AUTHORITY: &str = "/.lazaret/ca.pem";

/// On the control stream, from the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromGuest {
    /// The container stands, and each protection was seen to be on, from inside.
    Configured(Protections),
    /// The container could not be set up as asked, or a protection is missing; the guest powers off.
    Refused {
        /// What is missing or failed, for people.
        why: String,
    },
    /// The answer to [`ToGuest::Health`].
    Health {
        /// Processes in the container.
        pids: u32,
        /// Bytes of memory in use by the container.
        memory: u64,
        /// Bytes free on the agent's disk.
        disk_free: u64,
    },
    /// The container met a limit.
    LimitHit {
        /// Which.
        limit: GuestLimit,
    },
    /// All is unmounted; the machine powers off next.
    Down,
}

/// A limit that only the guest can see being met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GuestLimit {
    /// The kernel killed a process for memory.
    Memory,
    /// A process could not be made.
    Pids,
    /// The disk is full.
    Disk,
}

/// The protections of the container, each as observed from inside (not as asked for).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Protections {
    /// Name of each protection that was verified, such as `seccomp`, with what was seen.
    pub verified: Vec<(String, String)>,
}
