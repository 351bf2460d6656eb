//! What root of a machine does to the machine's devices when it means harm: bytes into their registers, by mapping them
//! and by devices that write to memory themselves.
//!
//! They are for the hostile agent of the demo, as those in [`crate::raw`]. They break the machine that they run on: call
//! them in a virtual one that is to be thrown away.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::ptr::{NonNull, null_mut};

use nix::libc;

/// Bytes in a page of x86-64.
pub const PAGE: usize = 4096;

/// A page of memory that stays where it is, so that a device can be told its address. It is never given back: a device
/// may still write to it.
#[derive(Debug)]
pub struct Page {
    at: NonNull<u8>,
    physical: u64,
}

impl Page {
    /// Takes a page and looks up where it is.
    ///
    /// # Errors
    /// When there is none, or when this process may not know.
    pub fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE | libc::MAP_LOCKED;
        let mut page = Self { at: map(flags, -1, 0)?, physical: 0 };
        page.physical = page.look_up()?;
        Ok(page)
    }

    /// Its address for devices.
    #[must_use]
    pub fn physical(&self) -> u64 {
        self.physical
    }

    /// `/proc/self/pagemap` has 8 bytes per page: 55 bits of the page's number, the highest bit when it is present.
    fn look_up(&self) -> io::Result<u64> {
        let mut map = File::open("/proc/self/pagemap")?;
        map.seek(SeekFrom::Start((self.at.as_ptr().addr() / PAGE) as u64 * 8))?;
        let mut entry = [0; 8];
        map.read_exact(&mut entry)?;
        let number = u64::from_le_bytes(entry) & ((1 << 55) - 1);
        if number == 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(number * PAGE as u64)
    }

    /// Writes to its beginning what a device is to read.
    pub fn write(&self, bytes: &[u8]) {
        for (offset, byte) in bytes.iter().take(PAGE).enumerate() {
            // SAFETY: the offset is within the mapping, which lives as long as `self`; a byte is always aligned.
            unsafe { self.at.as_ptr().add(offset).write_volatile(*byte) }
        }
    }

    /// Its first byte numbers, of which a device may have changed some.
    #[must_use]
    pub fn read<const N: usize>(&self) -> [u8; N] {
        const { assert!(N <= PAGE) };
        // SAFETY: as for writing; N is not more than a page.
        std::array::from_fn(|offset| unsafe { self.at.as_ptr().add(offset).read_volatile() })
    }
}

/// Maps a page for reading and writing, at an address that the kernel chooses.
fn map(flags: i32, file: i32, offset: libc::off_t) -> io::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: without MAP_FIXED a new mapping takes the place of no memory that is in use.
    let at = unsafe { libc::mmap(null_mut(), PAGE, protection, flags, file, offset) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(at.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// Maps `/dev/mem`, opened for writing, at this physical address, which is a multiple of [`PAGE`], and writes `value`
/// over so many bytes of it.
///
/// # Errors
/// What stopped the mapping.
pub fn scribble(memory: &File, physical: u64, bytes: usize, value: u32) -> io::Result<()> {
    let offset = libc::off_t::try_from(physical).map_err(io::Error::other)?;
    let at = map(libc::MAP_SHARED, memory.as_raw_fd(), offset)?;
    for word in 0..bytes.min(PAGE) / 4 {
        // SAFETY: within the page that was mapped, and aligned, since the page is. The registers of a device are no
        // memory that Rust knows of.
        unsafe { at.as_ptr().cast::<u32>().add(word).write_volatile(value) }
    }
    Ok(())
}

/// Writes a number of 32 bits to an I/O port, after [`crate::raw::Call::IoPrivilege`]. Without the privilege the process
/// is killed.
pub fn write_port(port: u16, value: u32) {
    // SAFETY: an `out` touches no memory of this process by itself; what a device does with it is the caller's intent.
    unsafe {
        std::arch::asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags))
    }
}

/// Asks the kernel to take a block device for writable.
///
/// # Errors
/// What stopped it.
pub fn make_writable(device: &File) -> io::Result<()> {
    const BLKROSET: libc::Ioctl = 0x125d;
    let writable: libc::c_int = 0;
    // SAFETY: the call reads one int.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), BLKROSET, &raw const writable) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_what_is_written_to_it() {
        let Ok(page) = Page::new() else {
            eprintln!("skipped: only root may know where its memory is");
            return;
        };
        page.write(b"QEMU");
        assert_eq!(page.read::<4>(), *b"QEMU");
        assert_eq!(page.physical() % PAGE as u64, 0);
    }
}
