//! Looks for keys in what came out of a cell, in each way in which bytes are commonly written.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use crate::DemoError;
use crate::stage::io;

/// Bytes that are read at once. Holes of disks are read as zeros, and zeros hold no key.
const PIECE: usize = 64 << 10;
/// Bytes at the ends of base64 that depend on what stands beside the key.
const EDGE: usize = 4;

/// The spellings of some keys.
#[derive(Debug)]
pub(super) struct Search {
    spellings: Vec<Vec<u8>>,
    /// Which two bytes a spelling begins with.
    begins: Vec<bool>,
    longest: usize,
    /// How many bytes were looked at.
    pub(super) seen: u64,
}

impl Search {
    /// A search for these keys.
    pub(super) fn new(keys: &[&str]) -> Self {
        let mut spellings: Vec<Vec<u8>> = keys.iter().flat_map(|key| spellings(key)).collect();
        spellings.sort();
        spellings.dedup();
        let mut begins = vec![false; 1 << 16];
        for pair in spellings.iter().filter_map(|spelling| spelling.first_chunk()) {
            if let Some(begins) = begins.get_mut(place(*pair)) {
                *begins = true;
            }
        }
        let longest = spellings.iter().map(Vec::len).max().unwrap_or_default();
        Self { spellings, begins, longest, seen: 0 }
    }

    /// Whether a key is in these bytes.
    pub(super) fn holds(&mut self, bytes: &[u8]) -> bool {
        self.seen += bytes.len() as u64;
        bytes.windows(2).enumerate().any(|(at, pair)| {
            let begins = pair.first_chunk().and_then(|pair| self.begins.get(place(*pair))) == Some(&true);
            let here = bytes.get(at..).unwrap_or_default();
            begins && self.spellings.iter().any(|spelling| here.starts_with(spelling))
        })
    }

    /// The first file below a folder that holds a key. Links aren't followed.
    pub(super) fn folder(&mut self, at: &Path) -> Result<Option<String>, DemoError> {
        let shown = at.display().to_string();
        let entries = match fs::read_dir(at) {
            Ok(entries) => entries,
            // The daemon goes on working meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return io(shown, Err(e)),
        };
        for entry in entries {
            let entry = io(&shown, entry)?;
            let (path, kind) = (entry.path(), io(&shown, entry.file_type())?);
            if kind.is_dir() {
                if let Some(found) = self.folder(&path)? {
                    return Ok(Some(found));
                }
            } else if kind.is_file() && self.file(&path)? {
                return Ok(Some(path.display().to_string()));
            }
        }
        Ok(None)
    }

    fn file(&mut self, path: &Path) -> Result<bool, DemoError> {
        let shown = path.display().to_string();
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return io(shown, Err(e)),
        };
        let zeros = vec![0_u8; PIECE];
        let mut piece: Vec<u8> = Vec::new();
        loop {
            // A key may lie across two pieces.
            piece.drain(..piece.len().saturating_sub(self.longest));
            let before = piece.len();
            let read = io(&shown, (&mut file).take(PIECE as u64).read_to_end(&mut piece))?;
            if read == 0 {
                return Ok(false);
            }
            if piece.get(before..) == zeros.get(..read) {
                piece.clear();
            } else if self.holds(&piece) {
                return Ok(true);
            }
        }
    }
}

/// Where two bytes stand among all.
fn place([first, second]: [u8; 2]) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

/// A key as it is, in hex, in base64 of both alphabets and at each alignment, and as URLs write it.
fn spellings(key: &str) -> Vec<Vec<u8>> {
    let hex = |before: &str| key.bytes().map(|byte| format!("{before}{byte:02x}")).collect::<String>();
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let escaped: String =
        key.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
    let mut all = vec![
        key.to_owned(),
        key.to_uppercase(),
        key.chars().rev().collect(),
        hex(""),
        hex("").to_uppercase(),
        hex("%"),
        hex("%").to_uppercase(),
        hex("\\x"),
        escaped.clone(),
        escaped.to_lowercase(),
    ];
    for shift in 0..3 {
        let shifted = format!("{}{key}", "xyz".get(..shift).unwrap_or_default());
        for text in [STANDARD.encode(&shifted), URL_SAFE.encode(&shifted)] {
            all.extend(text.get(EDGE..text.len().saturating_sub(EDGE)).map(str::to_owned));
        }
    }
    all.into_iter().map(String::into_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "git_pat_0123456789abcdef";

    #[test]
    fn a_key_is_found_however_it_is_written() {
        let hex: String = KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
        for text in [
            KEY.to_owned(),
            hex.to_uppercase(),
            STANDARD.encode(format!("x-access-token:{KEY}")),
            URL_SAFE.encode(format!("ab{KEY}cd")),
            KEY.replace('_', "%5F"),
            KEY.replace('_', "%5f"),
            KEY.chars().rev().collect(),
        ] {
            assert!(
                Search::new(&["another_key", KEY]).holds(format!("ggit_{text} after").as_bytes()),
                "{text}"
            );
        }
        assert!(!Search::new(&[KEY]).holds(b"git_pat_0123456789abcdee lazaret-secret-git"));
    }

    #[test]
    fn a_key_is_found_at_the_end_of_a_disk_with_holes_and_across_two_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        let mut search = Search::new(&[KEY]);
        for before in [0, PIECE - 5, PIECE, 10 * PIECE - 1] {
            let mut bytes = vec![0_u8; before];
            fs::write(below.join("disk"), &bytes).unwrap();
            assert_eq!(search.folder(folder.path()).unwrap(), None);
            bytes.extend(KEY.as_bytes());
            fs::write(below.join("disk"), &bytes).unwrap();
            assert!(search.folder(folder.path()).unwrap().unwrap().ends_with("a/b/disk"), "{before}");
        }
    }
}
