//! Landlock for a process and all that it starts: where it may read and where it may write.

use std::io;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};

/// The oldest version of Landlock that is enough: that of Linux 5.19.
const NEEDED: ABI = ABI::V2;
/// The newest version whose rules for files are used where the kernel has them.
const WANTED: ABI = ABI::V5;

/// Confines this thread, and every process that it starts from now on, to reading and executing below `/`, writing to
/// what exists below `devices`, and writing, making, renaming and removing below `writable`, but never making device
/// nodes. Sets no_new_privs.
///
/// # Errors
/// When the kernel's Landlock is missing or older than needed, or a path can't be opened.
pub fn confine(writable: &[&Path], devices: &[&Path]) -> io::Result<()> {
    let everything = AccessFs::from_all(WANTED);
    let write = everything & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    let device = AccessFs::from_read(WANTED) | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
    let mut rules: Vec<(&Path, BitFlags<AccessFs>)> = vec![(Path::new("/"), AccessFs::from_read(WANTED))];
    rules.extend(writable.iter().map(|path| (*path, write)));
    rules.extend(devices.iter().map(|path| (*path, device)));

    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(NEEDED))
        .map_err(io::Error::other)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(everything)
        .map_err(io::Error::other)?
        .create()
        .map_err(io::Error::other)?;
    for (path, access) in rules {
        let beneath = PathBeneath::new(PathFd::new(path).map_err(io::Error::other)?, access);
        ruleset = ruleset.add_rule(beneath).map_err(io::Error::other)?;
    }
    let status = ruleset.restrict_self().map_err(io::Error::other)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err(io::Error::other("this kernel doesn't enforce Landlock")),
    }
}
