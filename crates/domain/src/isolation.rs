//! What really stands between an agent and the host.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of wall a cell has, as it was observed and not as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// A virtual machine on the processor's own virtualisation (KVM).
    Hardware,
    /// A virtual machine in QEMU's emulator (TCG). It behaves alike, but its authors do not call it a security
    /// boundary.
    Emulated,
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hardware => "hardware",
            Self::Emulated => "emulated",
        })
    }
}
