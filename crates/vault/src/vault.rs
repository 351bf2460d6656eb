//! The vault: the secrets of this installation, by name, with where each may go. What changes is on the disk before it
//! counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::{BindingError, How, SecretBinding, SecretName, Target};
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::inject::{Injection, Right};
use crate::login::{Kept, Login, Tokens};
use crate::sealed::{Content, Key, Random, Sealed, VaultError};
use crate::secret::{Secret, SecretError};

/// Most secrets.
pub const MAX_SECRETS: usize = 1000;
/// Most places of one secret.
const MAX_BINDINGS: usize = 32;

/// Why a secret stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The bytes can't be kept.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It can't be bound so.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// Bound to nothing, or to too much.
    #[error("a secret is bound to 1 to {MAX_BINDINGS} places, not {0}")]
    Bindings(usize),
    /// The vault is full.
    #[error("there are {MAX_SECRETS} secrets already, and no more are kept: remove some")]
    Full,
    /// A log-in's token is renewed by itself.
    #[error("`{0}` comes of a log-in and is renewed by itself: `lazaret secret login {0}` logs in again")]
    LoggedIn(SecretName),
    /// There is none of that name.
    #[error("there is no secret called `{0}`")]
    Unknown(SecretName),
    /// It can't be written.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// What may be told of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Described {
    /// Its name.
    pub name: SecretName,
    /// Where it may go.
    pub bindings: Vec<SecretBinding>,
    /// When it was set, in milliseconds since 1970.
    pub set: u64,
    /// When its bytes were last changed.
    pub rotated: u64,
    /// The log-in that it comes of, if it comes of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
}

/// How many bytes of the sealed content belong to whom.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    described: Described,
    length: usize,
    #[serde(default)]
    refresh: Option<usize>,
    #[serde(default)]
    client_secret: Option<usize>,
}

pub(crate) struct Entry {
    pub(crate) described: Described,
    pub(crate) tokens: Tokens,
    /// The change that set it.
    pub(crate) since: u64,
}

pub(crate) type Entries = BTreeMap<SecretName, Entry>;

/// The open vault.
pub struct Vault {
    file: Sealed,
    entries: Mutex<Entries>,
    /// Held by whoever changes something, while it is written.
    changing: Mutex<()>,
    /// Counts changes.
    version: watch::Sender<u64>,
}

impl Vault {
    /// Opens the vault; makes it when there is none.
    ///
    /// # Errors
    /// It doesn't open with this key, or its files can't be used.
    pub fn open(path: &Path, key: &Key, random: Box<Random>) -> Result<Self, VaultError> {
        let (file, content) = Sealed::open(path, key, random)?;
        let unreadable = || VaultError::Unreadable(path.to_owned());
        let entries = content.map(|content| read(&content).ok_or_else(unreadable)).transpose()?;
        let vault = Self {
            file,
            entries: Mutex::default(),
            changing: Mutex::default(),
            version: watch::Sender::new(1),
        };
        match entries {
            Some(entries) => *vault.entries() = entries,
            None => vault.file.write(&written(&Entries::new())?)?,
        }
        Ok(vault)
    }

    /// Whether the vault there opens with a passphrase only.
    ///
    /// # Errors
    /// It can't be read.
    pub fn wants_passphrase(path: &Path) -> Result<bool, VaultError> {
        Sealed::wants_passphrase(path)
    }

    /// What may be told of all secrets, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Described> {
        self.entries().values().map(|entry| entry.described.clone()).collect()
    }

    /// Stores a secret, in place of one of the same name; gives the log-in that this came of, if it did.
    ///
    /// # Errors
    /// It can't be kept or bound so, there are too many, or the file can't be written.
    pub fn set(
        &self,
        name: &SecretName,
        value: Secret,
        bindings: Vec<SecretBinding>,
        now: u64,
    ) -> Result<Option<Kept>, ChangeError> {
        value.check()?;
        let tokens = Tokens { access: value, refresh: None, client_secret: None };
        self.put(name, (tokens, None), bindings, now)
    }

    pub(crate) fn put(
        &self,
        name: &SecretName,
        (tokens, login): (Tokens, Option<Login>),
        bindings: Vec<SecretBinding>,
        now: u64,
    ) -> Result<Option<Kept>, ChangeError> {
        if !(1..=MAX_BINDINGS).contains(&bindings.len()) {
            return Err(ChangeError::Bindings(bindings.len()));
        }
        bindings.iter().try_for_each(|binding| binding.check(login.is_some()))?;
        self.change(|entries, since| {
            if entries.len() >= MAX_SECRETS && !entries.contains_key(name) {
                return Err(ChangeError::Full);
            }
            let described = Described { name: name.clone(), bindings, set: now, rotated: now, login };
            let before = entries.insert(name.clone(), Entry { described, tokens, since });
            Ok(before.as_ref().and_then(Kept::of))
        })
    }

    /// Gives a secret new bytes; where it may go stays.
    ///
    /// # Errors
    /// There is none, it comes of a log-in, it can't be kept, or the file can't be written.
    pub fn rotate(&self, name: &SecretName, value: Secret, now: u64) -> Result<(), ChangeError> {
        value.check()?;
        self.change(|entries, _| {
            let entry = held(entries, name)?;
            if entry.described.login.is_some() {
                return Err(ChangeError::LoggedIn(name.clone()));
            }
            entry.tokens.access = value;
            entry.described.rotated = now;
            Ok(())
        })
    }

    /// Forgets a secret; gives the log-in that it came of, if it did. Requests that carry it are cut.
    ///
    /// # Errors
    /// There is none, or the file can't be written.
    pub fn remove(&self, name: &SecretName) -> Result<Option<Kept>, ChangeError> {
        self.change(|entries, _| match entries.remove(name) {
            Some(entry) => Ok(Kept::of(&entry)),
            None => Err(ChangeError::Unknown(name.clone())),
        })
    }

    /// Tells of each change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Whether there is a secret of this name.
    #[must_use]
    pub fn holds(&self, name: &SecretName) -> bool {
        self.entries().contains_key(name)
    }

    /// The secret for this target, by the narrowest of its bindings.
    pub(crate) fn lent(&self, name: &SecretName, to: &Target<'_>) -> Option<Injection> {
        let entries = self.entries();
        let entry = entries.get(name)?;
        let lends = |binding: &&SecretBinding| binding.covers(to) && !matches!(binding.how, How::Proxy(_));
        let bindings = entry.described.bindings.iter().filter(lends);
        let binding = bindings.max_by_key(|binding| binding.to.path().len())?.clone();
        Some(Injection::new(name, entry.tokens.access.share(), Right { since: entry.since, binding }))
    }

    /// Whether the secret is still the one that was lent, and still bound so.
    pub(crate) fn stands(&self, name: &SecretName, right: &Right) -> bool {
        self.entries().get(name).is_some_and(|entry| {
            entry.since == right.since && entry.described.bindings.contains(&right.binding)
        })
    }

    /// The headers of secrets that are bound to the target's host; none if none is.
    pub(crate) fn bound_headers(&self, to: &Target<'_>) -> Option<BTreeSet<String>> {
        let entries = self.entries();
        let bindings = entries.values().flat_map(|entry| &entry.described.bindings);
        let mut there = bindings.filter(|binding| binding.to.is_at(to)).peekable();
        there.peek()?;
        Some(there.filter_map(|binding| binding.how.header().map(str::to_owned)).collect())
    }

    /// Changes a copy, writes it, and only then makes it what counts.
    pub(crate) fn change<T>(
        &self,
        with: impl FnOnce(&mut Entries, u64) -> Result<T, ChangeError>,
    ) -> Result<T, ChangeError> {
        // One change at a time; requests go on being served while the disk is written.
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed: Entries =
            self.entries().iter().map(|(name, entry)| (name.clone(), entry.share())).collect();
        let since = self.version.borrow().wrapping_add(1);
        let made = with(&mut changed, since)?;
        self.file.write(&written(&changed)?)?;
        *self.entries() = changed;
        self.version.send_replace(since);
        Ok(made)
    }

    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("secrets", &self.entries().len()).finish_non_exhaustive()
    }
}

impl Entry {
    fn share(&self) -> Self {
        Self { described: self.described.clone(), tokens: self.tokens.share(), since: self.since }
    }

    /// All bytes of it, in the order in which they are sealed.
    fn parts(&self) -> impl Iterator<Item = &Secret> {
        let Tokens { access, refresh, client_secret } = &self.tokens;
        [Some(access), refresh.as_ref(), client_secret.as_ref()].into_iter().flatten()
    }
}

/// The entry of a secret that is to be changed.
pub(crate) fn held<'e>(entries: &'e mut Entries, name: &SecretName) -> Result<&'e mut Entry, ChangeError> {
    entries.get_mut(name).ok_or_else(|| ChangeError::Unknown(name.clone()))
}

/// What is sealed: how long the description is, the description, and the secrets' bytes one after another. They never pass
/// through an encoder, which would leave copies behind.
fn written(entries: &Entries) -> Result<Content, VaultError> {
    let lines: Vec<Line> = entries
        .values()
        .map(|entry| {
            let length = |part: &Secret| part.reveal().len();
            Line {
                described: entry.described.clone(),
                length: length(&entry.tokens.access),
                refresh: entry.tokens.refresh.as_ref().map(length),
                client_secret: entry.tokens.client_secret.as_ref().map(length),
            }
        })
        .collect();
    let lines = serde_json::to_vec(&lines).map_err(|_| VaultError::Encoding)?;
    let values: usize = entries.values().flat_map(Entry::parts).map(|part| part.reveal().len()).sum();
    let mut content =
        Zeroizing::new(Vec::with_capacity(lines.len().saturating_add(values).saturating_add(8)));
    content.extend_from_slice(&(lines.len() as u64).to_be_bytes());
    content.extend_from_slice(&lines);
    for part in entries.values().flat_map(Entry::parts) {
        content.extend_from_slice(part.reveal());
    }
    Ok(content)
}

fn read(content: &[u8]) -> Option<Entries> {
    let (length, rest) = content.split_first_chunk::<8>()?;
    let (lines, mut values) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
    let lines: Vec<Line> = serde_json::from_slice(lines).ok()?;
    let mut entries = Entries::new();
    let mut next = |length: usize| {
        let (value, after) = values.split_at_checked(length)?;
        values = after;
        Some(Secret::new(Zeroizing::new(value.to_vec())))
    };
    for Line { described, length, refresh, client_secret } in lines {
        let access = next(length)?;
        let refresh = refresh.map(&mut next).map_or(Some(None), |part| part.map(Some))?;
        let client_secret = client_secret.map(&mut next).map_or(Some(None), |part| part.map(Some))?;
        let tokens = Tokens { access, refresh, client_secret };
        entries.insert(described.name.clone(), Entry { described, tokens, since: 0 });
    }
    values.is_empty().then_some(entries)
}

#[cfg(test)]
mod tests;
