//! Makes the container's root ready: the folders where file systems are mounted, the agent's home, a few files of
//! `/etc`.
//!
//! This runs as the guest's root over a tree that image and agent have written. No symlink in it is followed.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use wire::guest::{AUTHORITY, EgressProxy};

use super::plan::{AGENT, PROGRAM};
use crate::birth::MACHINE_ID;
use crate::disks::CELL;
use crate::fault::{During, Fault};

/// Most bytes read of the image's `/etc/passwd` and `/etc/group`.
const TABLE_MAX: u64 = 1 << 20;

/// A folder that the agent owns and could write to by its permissions, but not by Landlock: the proof that Landlock
/// stands.
pub(crate) const PROBE: &str = "/.lazaret/probe";

/// Where distributions keep the authorities that programs trust.
const BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

/// Makes what the container needs and the image lacks.
pub(crate) fn root(host_name: &str, egress: Option<&EgressProxy>) -> Result<(), Fault> {
    let root = open(CELL, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .during("opening the container's root")?;
    let tree = Tree(root);
    for path in ["/proc", "/sys", "/dev", "/etc", "/home", "/var", "/.lazaret"] {
        tree.folder(path, 0o755, None)?;
    }
    for path in ["/tmp", "/var/tmp"] {
        tree.folder(path, 0o1777, None)?;
    }
    for path in ["/home/agent", "/workspace", PROBE] {
        tree.folder(path, 0o755, Some(AGENT))?;
    }
    tree.file(PROGRAM, b"")?;
    let machine_id = std::fs::read(MACHINE_ID).during("reading the machine id")?;
    tree.file("/etc/machine-id", &machine_id)?;
    tree.file("/etc/hostname", format!("{host_name}\n").as_bytes())?;
    tree.file("/etc/hosts", format!("127.0.0.1 localhost {host_name}\n::1 localhost\n").as_bytes())?;
    tree.file("/etc/resolv.conf", b"# No names can be resolved here: there is no network.\n")?;
    if let Some(proxy) = egress {
        tree.trust(proxy.authority.as_bytes())?;
    }
    tree.entry("/etc/passwd", &format!("agent:x:{AGENT}:{AGENT}:agent:/home/agent:/bin/sh\n"))?;
    tree.entry("/etc/group", &format!("agent:x:{AGENT}:\n"))
}

/// A tree in which only plain folders and files are followed.
struct Tree(OwnedFd);

impl Tree {
    /// Opens what is at this absolute path, without following any symlink.
    fn open(&self, path: &str, flags: OFlag, mode: u32) -> nix::Result<File> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
            .mode(Mode::from_bits_truncate(mode))
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let below = path.trim_start_matches('/');
        openat2(&self.0, if below.is_empty() { "." } else { below }, how).map(File::from)
    }

    /// Makes the folder if it is missing. An `owner` gets it even if it was there.
    fn folder(&self, path: &str, mode: u32, owner: Option<u32>) -> Result<(), Fault> {
        let (parent, name) = split(path)?;
        let parent = self
            .open(parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)
            .during(format_args!("opening the folder of `{path}`"))?;
        let made = match mkdirat(&parent, name, Mode::from_bits_truncate(mode)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(error) => return Err(error).during(format_args!("making `{path}`")),
        };
        let folder = self
            .open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)
            .during(format_args!("opening `{path}`, which must be a folder and no symlink"))?;
        if made {
            // What mkdir makes of the mode depends on the umask.
            fchmod(folder.as_fd(), Mode::from_bits_truncate(mode)).during(format_args!("making `{path}`"))?;
        }
        if let Some(owner) = owner {
            fchown(folder.as_fd(), Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))
                .during(format_args!("giving `{path}` to the agent"))?;
        }
        Ok(())
    }

    /// Puts a file of root's in the place of whatever was there.
    fn file(&self, path: &str, content: &[u8]) -> Result<(), Fault> {
        let (parent, name) = split(path)?;
        let folder = self
            .open(parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)
            .during(format_args!("opening the folder of `{path}`"))?;
        match unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error).during(format_args!("replacing `{path}`")),
        }
        let mut file = self
            .open(path, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL, 0o644)
            .during(format_args!("making `{path}`"))?;
        file.write_all(content).during(format_args!("writing `{path}`"))
    }

    /// Has programs trust this authority: those that are told where it is, and those that look where the image keeps the
    /// world's authorities. Of those, none can be met from here.
    fn trust(&self, authority: &[u8]) -> Result<(), Fault> {
        self.file(AUTHORITY, authority)?;
        for bundle in BUNDLES {
            if self
                .open(bundle, OFlag::O_PATH, 0)
                .is_ok_and(|found| found.metadata().is_ok_and(|it| it.is_file()))
            {
                self.file(bundle, authority)?;
            }
        }
        Ok(())
    }

    /// Adds a line for the agent's id to a table of users or groups that has none.
    fn entry(&self, path: &str, line: &str) -> Result<(), Fault> {
        let mut table = String::new();
        match self.open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK, 0) {
            Ok(file) => {
                let read = file.take(TABLE_MAX).read_to_string(&mut table);
                read.during(format_args!("reading the image's `{path}`"))?;
            }
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error).during(format_args!("opening the image's `{path}`")),
        }
        if names(&table, AGENT) {
            return Ok(());
        }
        if !table.is_empty() && !table.ends_with('\n') {
            table.push('\n');
        }
        table.push_str(line);
        self.file(path, table.as_bytes())
    }
}

/// Whether a table of users or groups has this id.
fn names(table: &str, id: u32) -> bool {
    let id = id.to_string();
    table.lines().any(|line| line.split(':').nth(2) == Some(&id))
}

fn split(path: &str) -> Result<(&str, &str), Fault> {
    let path = Path::new(path);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    match (path.parent().and_then(Path::to_str), path.file_name().and_then(|name| name.to_str())) {
        (Some(parent), Some(name)) if plain => Ok((parent, name)),
        _ => Err(Fault::new(format!("`{}` is not a plain absolute path", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    fn tree(name: &str) -> (PathBuf, Tree) {
        let path = std::env::temp_dir().join(format!("lazaret-tree-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let root = open(&path, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        (path, Tree(root))
    }

    #[test]
    fn a_symlink_in_the_way_of_a_folder_is_refused() {
        let (path, tree) = tree("folder");
        fs::create_dir(path.join("elsewhere")).unwrap();
        symlink(path.join("elsewhere"), path.join("home")).unwrap();
        assert!(tree.folder("/home/agent", 0o755, None).is_err());
        assert!(tree.folder("/home", 0o755, None).is_err());
        assert!(tree.folder("/work", 0o755, None).is_ok());
        let leaked = path.join("elsewhere/agent").exists();
        fs::remove_dir_all(&path).unwrap();
        assert!(!leaked);
    }

    #[test]
    fn a_file_takes_the_place_of_a_symlink_and_leaves_its_target_alone() {
        let (path, tree) = tree("file");
        fs::write(path.join("target"), "kept").unwrap();
        fs::create_dir(path.join("etc")).unwrap();
        symlink(path.join("target"), path.join("etc/hosts")).unwrap();
        tree.file("/etc/hosts", b"new").unwrap();
        let (target, hosts) =
            (fs::read(path.join("target")).unwrap(), fs::read(path.join("etc/hosts")).unwrap());
        fs::remove_dir_all(&path).unwrap();
        assert_eq!((target.as_slice(), hosts.as_slice()), (b"kept".as_slice(), b"new".as_slice()));
    }

    #[test]
    fn an_authority_takes_the_place_of_those_that_the_image_trusts() {
        let (path, tree) = tree("trust");
        fs::create_dir_all(path.join("etc/ssl/certs")).unwrap();
        fs::create_dir(path.join(".lazaret")).unwrap();
        fs::write(path.join("etc/ssl/certs/ca-certificates.crt"), "the world").unwrap();
        fs::write(path.join("target"), "kept").unwrap();
        symlink(path.join("target"), path.join("etc/ssl/cert.pem")).unwrap();
        tree.trust(b"ours").unwrap();
        let read = |file: &str| fs::read_to_string(path.join(file)).unwrap();
        let found = ["etc/ssl/certs/ca-certificates.crt", ".lazaret/ca.pem", "target"].map(read);
        let made = path.join("etc/pki").exists();
        fs::remove_dir_all(&path).unwrap();
        assert_eq!((found, made), (["ours", "ours", "kept"].map(str::to_owned), false));
    }

    #[test]
    fn an_agent_that_the_image_already_names_is_kept() {
        let table = "root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/bash\n";
        assert!(names(table, 1000));
        assert!(!names(table, 100));
        assert!(!names("broken line 1000", 1000));
    }

    #[test]
    fn only_plain_absolute_paths_are_split() {
        assert_eq!(split("/a/b").unwrap(), ("/a", "b"));
        assert_eq!(split("/a").unwrap(), ("/", "a"));
        for bad in ["/", "/a/../b", "/.."] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
