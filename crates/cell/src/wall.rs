//! The walls around a cell that a host may be unable to give, and the one rule for each: refuse, or go on and say so.

use serde::{Deserialize, Serialize};

/// A wall that depends on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wall {
    /// Namespaces of the jail's own; for an ordinary user they need unprivileged user namespaces.
    Namespaces,
    /// The allow-list of system calls.
    Seccomp,
    /// An empty root with read-only mounts.
    EmptyRoot,
    /// A user id that belongs to one jail alone.
    OwnUid,
    /// A user namespace around the program in which only its own id exists (root's jails; others always have one).
    InnerUserNamespace,
    /// A cgroup with a memory and a process limit.
    Cgroup,
    /// Landlock: a second, independent limit on files, TCP and signals.
    Landlock,
}

/// What happens where a wall is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// No cell starts.
    Refuse,
    /// Cells start; `doctor` and every cell's report name the wall.
    Degrade,
}

impl Wall {
    /// All of them, in the order in which `doctor` shows them.
    pub const ALL: [Self; 7] = [
        Self::Namespaces,
        Self::EmptyRoot,
        Self::Seccomp,
        Self::OwnUid,
        Self::InnerUserNamespace,
        Self::Cgroup,
        Self::Landlock,
    ];

    /// The rule (docs/isolation.md gives the reasons).
    #[must_use]
    pub const fn rule(self) -> Rule {
        match self {
            Self::Namespaces | Self::Seccomp | Self::EmptyRoot => Rule::Refuse,
            Self::OwnUid | Self::InnerUserNamespace | Self::Cgroup | Self::Landlock => Rule::Degrade,
        }
    }

    /// Its name, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Seccomp => "system call filter",
            Self::EmptyRoot => "empty root",
            Self::OwnUid => "own user id per jail",
            Self::InnerUserNamespace => "inner user namespace",
            Self::Cgroup => "cgroup limits",
            Self::Landlock => "landlock",
        }
    }

    /// What a person can do to have it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Namespaces => {
                "allow unprivileged user namespaces: `./x setup` installs an AppArmor profile on Ubuntu; \
                 elsewhere set `kernel.unprivileged_userns_clone=1` and `user.max_user_namespaces` above 0"
            }
            Self::Seccomp => "use a kernel with CONFIG_SECCOMP_FILTER",
            Self::EmptyRoot => "use a kernel of 5.12 or newer",
            Self::OwnUid => {
                "give your user a range in /etc/subuid and /etc/subgid \
                 (`sudo usermod --add-subuids 200000-265535 --add-subgids 200000-265535 $USER`) and install `uidmap`"
            }
            Self::InnerUserNamespace => "set `user.max_user_namespaces` above 0",
            Self::Cgroup => {
                "run the daemon in a delegated cgroup, such as `systemd-run --user --scope -p Delegate=yes lazaret serve`"
            }
            Self::Landlock => "use a kernel of 6.12 or newer with `landlock` among its security modules",
        }
    }
}
