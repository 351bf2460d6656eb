//! What a probe of the hostile agent reports: one line of JSON each, read by the demo and the tests.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which layer should stop an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// Namespaces, capabilities, seccomp, Landlock, cgroup and masks of the container.
    Container,
    /// The micro VM: what is not among its devices can't be reached.
    Vm,
    /// The door and the policy behind it.
    Door,
    /// The host, when it takes back what the agent made.
    Host,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Container => "container",
            Self::Vm => "VM",
            Self::Door => "door",
            Self::Host => "host",
        })
    }
}

/// What came of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was stopped.
    Blocked,
    /// It worked.
    Breached,
    /// It can't be tried here.
    NotApplicable,
    /// Something was left for the host, which must refuse it: whoever looks at the host decides.
    Left,
    /// The probe itself failed, so nothing is known. Counts like a breach.
    Failed,
}

/// One attack and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The probe's short name.
    pub id: String,
    /// What it is about.
    pub title: String,
    /// What it tries.
    pub attempt: String,
    /// Which layer should stop it.
    pub layer: Layer,
    /// What came of it.
    pub outcome: Outcome,
    /// What was seen.
    pub evidence: String,
}

impl Report {
    /// Most bytes of a report's line.
    pub const MAX_LINE: usize = 16 * 1024;

    /// Reads one line; `None` when it is no report.
    #[must_use]
    pub fn read(line: &str) -> Option<Self> {
        if line.len() > Self::MAX_LINE {
            return None;
        }
        serde_json::from_str(line).ok()
    }

    /// The report as one line.
    #[must_use]
    pub fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
