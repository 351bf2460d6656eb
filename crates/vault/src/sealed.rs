//! The vault's file: one line that says what it is, one that says how its key is made, then what is sealed with
//! ChaCha20-Poly1305 (RFC 8439). Each writing has a key of its own, so no nonce is ever used twice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::hkdf;
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;

const FIRST_LINE: &str = "lazaret vault 1";
const KEY_LINE: &str = "lazaret vault key 1";
/// Most bytes of a vault: each secret and its bindings, sealed.
const MAX_FILE: u64 = 128 << 20;
/// Most bytes of the second line.
const MAX_HEADER: usize = 1024;
/// Memory and passes of Argon2id, as RFC 9106 recommends for machines without memory to spare.
const COST: Cost = Cost { memory_kib: 64 << 10, passes: 3, lanes: 4 };
/// The dearest key that is computed for a file that says so.
const MOST: Cost = Cost { memory_kib: 1 << 20, passes: 16, lanes: 16 };

/// Where random bytes come from. They must be fit for keys.
pub type Random = dyn Fn(&mut [u8]) -> io::Result<()> + Send + Sync;

/// What opens the vault.
pub enum Key {
    /// This file, made when it is missing, readable to its owner only.
    File(PathBuf),
    /// What a person typed; the file is what it was sealed with before, if it ever was.
    Passphrase(Secret, PathBuf),
}

/// Why the vault can't be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// A file can't be read or written.
    #[error("`{}`: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could read it.
    #[error("`{}` has mode {mode:o}: others may read it; give it mode 600, and rotate what is in it", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not written by us, or by a newer program.
    #[error("`{}` is no vault that this version can read", .0.display())]
    Unreadable(PathBuf),
    /// The key is another, or the bytes were changed.
    #[error("`{}` doesn't open: {why}", path.display())]
    Closed {
        /// Which.
        path: PathBuf,
        /// What may be the reason.
        why: &'static str,
    },
    /// The system has no random bytes.
    #[error("there are no random bytes: {0}")]
    Random(io::Error),
    /// What is to be sealed can't be written down.
    #[error("the vault can't be encoded")]
    Encoding,
    /// The key can't be computed.
    #[error("the vault's key can't be computed")]
    Derivation,
}

/// How much a guess at the passphrase costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// What is added to the name of a file that isn't whole yet.
const HALF: &str = ".new";

/// From what the root key comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Root {
    KeyFile,
    Passphrase { salt: String, cost: Cost },
}

/// The second line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    root: Root,
    /// From it and the root comes the key of this writing.
    salt: String,
}

/// What is sealed.
pub(crate) type Content = Zeroizing<Vec<u8>>;

/// An open vault's file.
pub(crate) struct Sealed {
    path: PathBuf,
    root: Root,
    key: Zeroizing<[u8; 32]>,
    random: Box<Random>,
}

impl Sealed {
    /// Opens the file with its key, and gives what is in it; nothing if there is no file yet.
    pub(crate) fn open(
        path: &Path,
        key: &Key,
        random: Box<Random>,
    ) -> Result<(Self, Option<Content>), VaultError> {
        remove_halves(path)?;
        let bytes = read(path)?;
        let Some(bytes) = bytes else {
            let (root, key) = fresh(key, &random)?;
            return Ok((Self { path: path.to_owned(), root, key, random }, None));
        };
        let unreadable = || VaultError::Unreadable(path.to_owned());
        let (head, header, body) = parts(&bytes).ok_or_else(unreadable)?;
        let old = root_key(path, &header.root, key, &random)?;
        let content = unseal(&old, &header, head, body).ok_or(VaultError::Closed {
            path: path.to_owned(),
            why: match header.root {
                Root::KeyFile => "its key file is of another vault, or it was changed",
                Root::Passphrase { .. } => "the passphrase is another, or it was changed",
            },
        })?;
        let mut sealed = Self { path: path.to_owned(), root: header.root, key: old, random };
        if let Key::Passphrase(_, file) = key {
            if sealed.root == Root::KeyFile {
                sealed.now_by_passphrase(key, &content)?;
            }
            // Also one that a death on the way left: it opens what the vault was.
            remove(file)?;
        }
        Ok((sealed, Some(content)))
    }

    /// Whether the file says that its key comes from a passphrase.
    pub(crate) fn wants_passphrase(path: &Path) -> Result<bool, VaultError> {
        let bytes = read(path)?;
        let header = bytes.as_ref().and_then(|bytes| parts(bytes)).map(|(_, header, _)| header);
        Ok(header.is_some_and(|header| matches!(header.root, Root::Passphrase { .. })))
    }

    /// From now on the passphrase opens it, and the key file does not.
    fn now_by_passphrase(&mut self, key: &Key, content: &[u8]) -> Result<(), VaultError> {
        (self.root, self.key) = fresh(key, &self.random)?;
        self.write(content)
    }

    /// Seals and writes: the whole or nothing.
    pub(crate) fn write(&self, content: &[u8]) -> Result<(), VaultError> {
        let mut salt = [0_u8; 32];
        (self.random)(&mut salt).map_err(VaultError::Random)?;
        let header = Header { root: self.root.clone(), salt: hex::encode(salt) };
        let header = serde_json::to_string(&header).map_err(|_| VaultError::Derivation)?;
        let mut bytes = format!("{FIRST_LINE}\n{header}\n").into_bytes();
        // Room for all of it at once, so that no half of it stays behind where it lay before.
        let mut body =
            Zeroizing::new(Vec::with_capacity(content.len().saturating_add(CHACHA20_POLY1305.tag_len())));
        body.extend_from_slice(content);
        let key = writing_key(&self.key, &salt).map_err(|_| VaultError::Derivation)?;
        key.seal_in_place_append_tag(nonce(), Aad::from(&bytes), &mut *body)
            .map_err(|_| VaultError::Derivation)?;
        bytes.extend_from_slice(&body);
        replace(&self.path, &bytes).map_err(|source| VaultError::File { path: self.path.clone(), source })
    }
}

/// Both lines as they stand, what the second says, and what follows.
fn parts(bytes: &[u8]) -> Option<(&[u8], Header, &[u8])> {
    let rest = bytes.strip_prefix(FIRST_LINE.as_bytes())?.strip_prefix(b"\n")?;
    let end = memchr::memchr(b'\n', rest.get(..MAX_HEADER.min(rest.len()))?)?;
    let header = serde_json::from_slice(rest.get(..end)?).ok()?;
    let body = rest.get(end.saturating_add(1)..)?;
    Some((bytes.get(..bytes.len().saturating_sub(body.len()))?, header, body))
}

fn unseal(root: &[u8; 32], header: &Header, head: &[u8], body: &[u8]) -> Option<Content> {
    let salt = hex::decode(&header.salt).ok()?;
    let mut body = Zeroizing::new(body.to_vec());
    let key = writing_key(root, &salt).ok()?;
    let length = key.open_in_place(nonce(), Aad::from(head), &mut body).ok()?.len();
    body.truncate(length);
    Some(body)
}

fn writing_key(root: &[u8; 32], salt: &[u8]) -> Result<LessSafeKey, Unspecified> {
    let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"lazaret/vault/1").extract(root);
    let info = [salt];
    let okm = root.expand(&info, &CHACHA20_POLY1305)?;
    Ok(LessSafeKey::new(UnboundKey::from(okm)))
}

/// Each key seals one text only, so that its nonce needs no choosing.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// The root key of a vault that is new, or gets a new one.
fn fresh(key: &Key, random: &Random) -> Result<(Root, Zeroizing<[u8; 32]>), VaultError> {
    match key {
        Key::File(path) => Ok((Root::KeyFile, key_file(path, Some(random))?)),
        Key::Passphrase(passphrase, _) => {
            let mut salt = [0_u8; 16];
            random(&mut salt).map_err(VaultError::Random)?;
            let root = stretched(passphrase, &salt, COST)?;
            Ok((Root::Passphrase { salt: hex::encode(salt), cost: COST }, root))
        }
    }
}

/// The root key of a vault that is there.
fn root_key(path: &Path, root: &Root, key: &Key, random: &Random) -> Result<Zeroizing<[u8; 32]>, VaultError> {
    match (root, key) {
        (Root::KeyFile, Key::File(file) | Key::Passphrase(_, file)) => {
            if !file.exists() {
                let why = "its key file is gone: put it back from a copy, or remove the vault and set its secrets anew";
                return Err(VaultError::Closed { path: path.to_owned(), why });
            }
            key_file(file, Some(random))
        }
        (Root::Passphrase { salt, cost }, Key::Passphrase(passphrase, _)) => {
            let unreadable = || VaultError::Unreadable(path.to_owned());
            let affordable =
                cost.memory_kib <= MOST.memory_kib && cost.passes <= MOST.passes && cost.lanes <= MOST.lanes;
            if !affordable {
                return Err(unreadable());
            }
            stretched(passphrase, &hex::decode(salt).map_err(|_| unreadable())?, *cost)
        }
        (Root::Passphrase { .. }, Key::File(_)) => {
            let why = "it wants a passphrase, and none was given";
            Err(VaultError::Closed { path: path.to_owned(), why })
        }
    }
}

fn stretched(passphrase: &Secret, salt: &[u8], cost: Cost) -> Result<Zeroizing<[u8; 32]>, VaultError> {
    let params = argon2::Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32))
        .map_err(|_| VaultError::Derivation)?;
    let mut memory = Zeroizing::new(vec![argon2::Block::default(); params.block_count()]);
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut key = Zeroizing::new([0_u8; 32]);
    argon2
        .hash_password_into_with_memory(passphrase.reveal(), salt, key.as_mut(), memory.as_mut_slice())
        .map_err(|_| VaultError::Derivation)?;
    Ok(key)
}

/// Reads the key file; with random bytes, makes it if it is missing.
fn key_file(path: &Path, random: Option<&Random>) -> Result<Zeroizing<[u8; 32]>, VaultError> {
    let failed = |source| VaultError::File { path: path.to_owned(), source };
    if let (false, Some(random)) = (path.exists(), random) {
        let mut root = Zeroizing::new([0_u8; 32]);
        random(root.as_mut()).map_err(VaultError::Random)?;
        let digits = Zeroizing::new(hex::encode(root.as_ref()));
        replace(path, Zeroizing::new(format!("{KEY_LINE}\n{}\n", *digits)).as_bytes()).map_err(failed)?;
    }
    let bytes = read(path)?.ok_or_else(|| failed(ErrorKind::NotFound.into()))?;
    let unreadable = || VaultError::Unreadable(path.to_owned());
    let rest = bytes.strip_prefix(KEY_LINE.as_bytes()).and_then(|rest| rest.strip_prefix(b"\n"));
    let digits = rest.and_then(|rest| rest.strip_suffix(b"\n")).ok_or_else(unreadable)?;
    let mut key = Zeroizing::new([0_u8; 32]);
    hex::decode_to_slice(digits, key.as_mut()).map_err(|_| unreadable())?;
    Ok(key)
}

/// A file that only its owner may read; none if there is none.
fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
    let failed = |source| VaultError::File { path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let meta = file.metadata().map_err(failed)?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(VaultError::Exposed { path: path.to_owned(), mode });
    }
    let length = usize::try_from(meta.len().min(MAX_FILE)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.saturating_add(1)));
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Whole or not at all: what was there before stays until the new is on the disk, and nothing of what failed.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let half = half(path);
    let written = write_new(&half, bytes).and_then(|()| fs::rename(&half, path));
    if written.is_err() {
        // Where it can't be removed now, it is when the vault is opened.
        drop(fs::remove_file(&half));
    }
    written?;
    sync_folder(path)
}

/// Where a file is written before it is whole.
fn half(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(HALF);
    path.with_file_name(name)
}

/// Removes what a death left of a file that was being written: it may be of a secret that is gone since. The name of earlier
/// versions ends with a process's id.
fn remove_halves(path: &Path) -> Result<(), VaultError> {
    remove(&half(path))?;
    let (Some(folder), Some(stem)) = (path.parent(), path.file_stem().and_then(|stem| stem.to_str())) else {
        return Ok(());
    };
    let begins = format!("{stem}{HALF}-");
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    let halves =
        found.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(&begins)));
    halves.map(|entry| entry.path()).try_for_each(|half| remove(&half))
}

/// Removes a file for good, if it is there.
fn remove(path: &Path) -> Result<(), VaultError> {
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        removed => removed.and_then(|()| sync_folder(path)),
    };
    removed.map_err(|source| VaultError::File { path: path.to_owned(), source })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
