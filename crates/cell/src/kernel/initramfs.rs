//! The boot image: a cpio archive (newc) with the guest's program as /init and the modules, named by its content.

use std::io;
use std::path::{Path, PathBuf};

use super::{Kernel, KernelError};
use crate::store;

/// Most bytes of the guest's program, and of one module.
const FILE_BYTES: u64 = 128 << 20;

/// Builds the boot image of this kernel and guest, unless the store has it already. Equal inputs give equal bytes.
pub(crate) fn build(data: &Path, kernel: &Kernel, guest: &Path) -> Result<PathBuf, KernelError> {
    let folder = data.join("initramfs");
    store::private_folder(&folder)?;
    store::remove_unfinished(&folder)?;
    let mut archive = Archive::default();
    archive.file("init", 0o755, &store::read_bounded(guest, FILE_BYTES)?)?;
    archive.folder("modules")?;
    archive.folder("modules/disk")?;
    for (name, path) in kernel.modules() {
        archive.file(&name, 0o644, &store::read_bounded(&path, FILE_BYTES)?)?;
    }
    let archive = archive.finish()?;
    let path = folder.join(format!("{}.cpio", store::digest([archive.as_slice()])));
    if !path.exists() {
        store::write_whole(&path, 0o644, &archive)?;
    }
    Ok(path)
}

/// A newc archive as it grows. Times, owners and inode numbers are fixed.
#[derive(Debug, Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;

impl Archive {
    fn folder(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, FOLDER | 0o755, &[])
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entry(name, REGULAR | mode, content)
    }

    fn finish(mut self) -> io::Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        let links = if mode & FOLDER == 0 { 1 } else { 2 };
        self.bytes.extend_from_slice(b"070701");
        for field in [self.entries, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0] {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
        Ok(())
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode and content of each entry, read as the kernel reads them.
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |n: usize| {
                u32::from_str_radix(std::str::from_utf8(&bytes[6 + n * 8..14 + n * 8]).unwrap(), 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).unwrap();
            assert_eq!(bytes[110 + name_size - 1], 0);
            let start = (110 + name_size).next_multiple_of(4);
            let content = bytes[start..start + size].to_vec();
            bytes = &bytes[(start + size).next_multiple_of(4)..];
            if name == "TRAILER!!!" {
                assert!(bytes.is_empty());
                return entries;
            }
            entries.push((name, mode, content));
        }
    }

    #[test]
    fn an_archive_reads_back() {
        let mut archive = Archive::default();
        archive.file("init", 0o755, b"program").unwrap();
        archive.folder("modules").unwrap();
        for length in 0..5 {
            archive.file(&format!("modules/{}", "m".repeat(length + 1)), 0o644, &vec![7; length]).unwrap();
        }
        let entries = read(&archive.finish().unwrap());
        assert_eq!(entries[0], ("init".into(), 0o100_755, b"program".to_vec()));
        assert_eq!(entries[1], ("modules".into(), 0o040_755, Vec::new()));
        assert_eq!(entries[6], ("modules/mmmmm".into(), 0o100_644, vec![7; 4]));
    }

    #[test]
    fn it_is_rebuilt_when_the_guest_changes_and_only_then() {
        let folder = tempfile::tempdir().unwrap();
        let guest = folder.path().join("guest");
        let image = folder.path().join("vmlinuz");
        std::fs::write(&image, "kernel").unwrap();
        let kernel = super::super::Kernels::open(folder.path()).unwrap().import(&image).unwrap();
        let build = |content: &str| {
            std::fs::write(&guest, content).unwrap();
            build(folder.path(), &kernel, &guest).unwrap()
        };
        let first = build("one");
        assert_eq!(build("one"), first);
        assert_ne!(build("two"), first);
        assert!(first.exists());
    }
}
