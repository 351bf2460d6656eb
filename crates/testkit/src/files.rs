//! What files hold: for tests that a secret is in none of them.

use std::fs;
use std::path::Path;

/// Whether a file below this folder holds these bytes. What goes away meanwhile, under a daemon that runs, is passed over.
///
/// # Panics
/// When there is nothing to be read: then nothing was looked at.
#[must_use]
pub fn hold(folder: &Path, bytes: &[u8]) -> bool {
    let mut read = 0_usize;
    let found = search(folder, bytes, &mut read);
    assert!(found || read > 0, "no file of {} could be read", folder.display());
    found
}

fn search(folder: &Path, bytes: &[u8], read: &mut usize) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let Ok(kind) = entry.file_type() else { return false };
        if kind.is_dir() {
            return search(&entry.path(), bytes, read);
        }
        // Sockets and pipes would be waited for.
        let Some(Ok(held)) = kind.is_file().then(|| fs::read(entry.path())) else { return false };
        *read += 1;
        held.windows(bytes.len().max(1)).any(|window| window == bytes)
    })
}
