//! Birth: what turns a booted machine, which may be one of many clones, into one cell of its own.

use std::fs;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use wire::early::Birth;

use crate::disks;
use crate::fault::{During, Fault};

/// Where the machine id is kept until the container gets it.
pub(crate) const MACHINE_ID: &str = "/run/machine-id";

/// Most bytes of a host name, as the kernel has it.
const HOST_NAME_MAX: usize = 64;

/// Randomness first, then the time, the names and the disks.
pub(crate) fn apply(birth: &Birth) -> Result<(), Fault> {
    sys::entropy::reseed(&birth.seed).during("seeding the random pool")?;
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from(Duration::from_nanos(birth.unix_nanos)))
        .during("setting the clock")?;
    nix::unistd::sethostname(host_name(&birth.host_name)?).during("setting the host name")?;
    fs::write(MACHINE_ID, machine_id(&birth.machine_id)).during("keeping the machine id")?;
    disks::bind_all()?;
    disks::mount_all()
}

fn host_name(name: &str) -> Result<&str, Fault> {
    let fits = !name.is_empty()
        && name.len() <= HOST_NAME_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if fits { Ok(name) } else { Err(Fault::new(format!("`{name}` is not a host name"))) }
}

fn machine_id(id: &[u8; 16]) -> String {
    format!("{:032x}\n", u128::from_be_bytes(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_id_is_32_hex_digits_and_a_newline() {
        assert_eq!(machine_id(&[1; 16]), format!("{}\n", "01".repeat(16)));
        assert_eq!(machine_id(&[0; 16]).len(), 33);
    }

    #[test]
    fn host_names_are_letters_digits_and_hyphens() {
        assert!(host_name("cell-01").is_ok());
        for bad in ["", "a b", "a/b", "é", &"a".repeat(65)] {
            assert!(host_name(bad).is_err(), "{bad}");
        }
    }
}
