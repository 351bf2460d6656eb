//! Whose rights a jailed program has: a user id of its own where root or subordinate ids allow it.

use std::path::Path;

use rustix::process::{getegid, geteuid};
use serde::{Deserialize, Serialize};

/// The ids of a jailed program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(crate) enum Identity {
    /// An unused id that root took for this jail alone; user and group.
    Alone {
        /// The id.
        id: u32,
    },
    /// One of the user's subordinate ids, mapped by newuidmap and newgidmap.
    Subordinate {
        /// The user id on the host.
        uid: u32,
        /// The group id on the host.
        gid: u32,
    },
    /// The user's own id: the namespaces and filters alone keep it from the user's other processes.
    Own,
}

/// Where root takes ids from: above everything that distributions and systemd hand out.
const FIRST_ALONE: u32 = 0x7a00_0000;
const COUNT_ALONE: u32 = 0x0100_0000;

/// The id inside the first user namespace that a subordinate id is mapped to.
pub(crate) const INSIDE_ID: u32 = FIRST_ALONE;

impl Identity {
    /// Chooses ids for one jail. `random` makes it differ from jail to jail: of 16 million ids as root, of the range's
    /// length with subordinate ids.
    pub(crate) fn choose(random: u32) -> Self {
        if geteuid().is_root() {
            return Self::Alone { id: FIRST_ALONE + random % COUNT_ALONE };
        }
        let helpers = ["newuidmap", "newgidmap"].iter().all(|name| helper(name).is_some());
        let uids = range("/etc/subuid", geteuid().as_raw());
        let gids = range("/etc/subgid", getegid().as_raw());
        match (helpers, uids, gids) {
            (true, Some(uids), Some(gids)) => Self::Subordinate {
                uid: uids.0.saturating_add(random % uids.1),
                gid: gids.0.saturating_add(random % gids.1),
            },
            (true | false, _, _) => Self::Own,
        }
    }
}

/// The path of one of the helpers that map subordinate ids.
pub(crate) fn helper(name: &str) -> Option<std::path::PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists())
}

/// First id and count of the user's range in a file such as /etc/subuid. Groups there belong to users, too.
fn range(file: &str, id: u32) -> Option<(u32, u32)> {
    let text = std::fs::read_to_string(file).ok()?;
    let user = geteuid().as_raw();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    parse_range(&text, &[user_name(&passwd, user).unwrap_or_default(), &user.to_string(), &id.to_string()])
}

fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

fn parse_range(text: &str, owners: &[&str]) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next().filter(|owner| !owner.is_empty() && owners.contains(owner))?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        (!owner.is_empty() && count > 0 && first > 0).then_some((first, count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_found_by_name_or_number_and_nonsense_is_not() {
        let text = "alice:100000:65536\n1001:200000:10\nbob:x:1\n:5:5\ncarol:0:10\ndave:300000:0\n";
        assert_eq!(parse_range(text, &["alice", "1000"]), Some((100_000, 65_536)));
        assert_eq!(parse_range(text, &["nobody", "1001"]), Some((200_000, 10)));
        for nobody in ["bob", "", "carol", "dave", "eve"] {
            assert_eq!(parse_range(text, &[nobody]), None, "{nobody}");
        }
    }

    #[test]
    fn the_name_of_a_user_is_found() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000), Some("ann"));
        assert_eq!(user_name(passwd, 7), None);
    }
}
