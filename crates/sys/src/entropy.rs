//! The kernel's random pool: fresh bytes from outside, credited and used at once.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::libc;

/// `struct rand_pool_info` with room for one seed, as `RNDADDENTROPY` wants it.
#[repr(C)]
struct PoolInfo {
    bits: libc::c_int,
    bytes: libc::c_int,
    seed: [u8; 64],
}

/// `_IOW('R', 0x03, int[2])` of `linux/random.h`.
const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
/// `_IO('R', 0x07)` of `linux/random.h`.
const RNDRESEEDCRNG: libc::c_ulong = 0x5207;

/// Mixes the seed into the kernel's pool, credits all its bits, and reseeds the generator from the pool, so that
/// nothing read from now on follows from what the machine's memory held before.
///
/// # Errors
/// When the device can't be opened or the caller lacks `CAP_SYS_ADMIN`.
pub fn reseed(seed: &[u8; 64]) -> io::Result<()> {
    let random = File::options().write(true).open("/dev/urandom")?;
    let info = PoolInfo { bits: 512, bytes: 64, seed: *seed };
    // SAFETY: the descriptor is open for the whole call; `info` has the layout that the kernel reads (two ints, then
    // `bytes` bytes) and outlives the call, which keeps no pointer to it.
    nix::errno::Errno::result(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &raw const info) })?;
    // SAFETY: this request takes no argument.
    nix::errno::Errno::result(unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG) })?;
    Ok(())
}
