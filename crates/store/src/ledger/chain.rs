//! The chain: what an entry's hash covers, how it is signed, and how a changed ledger is told from a true one. Pure.

use domain::Digest;
use ring::digest::{Context, SHA256};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::keys::Keys;

/// An entry as it is chained. The hash covers everything of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) seq: u64,
    pub(crate) at: u64,
    pub(crate) kind: String,
    pub(crate) agent: Option<String>,
    pub(crate) team: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) body: String,
    pub(crate) sealed: Option<Vec<u8>>,
    pub(crate) prev: Digest,
}

/// What the entry before the first one would hash to.
pub(crate) const BEFORE_ALL: [u8; 32] = [0; 32];

impl Link {
    /// SHA-256 over an encoding that has one reading: a domain, then each field with its length before it.
    pub(crate) fn hash(&self) -> Digest {
        self.hash_as(self.seq, &self.contents())
    }

    /// What the two large fields hash to.
    fn contents(&self) -> (Digest, Option<Digest>) {
        (sha256(self.body.as_bytes()), self.sealed.as_deref().map(sha256))
    }

    /// The hash that it would have with this number.
    fn hash_as(&self, seq: u64, (body, sealed): &(Digest, Option<Digest>)) -> Digest {
        let mut context = Context::new(&SHA256);
        let mut field = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        field(b"lazaret/ledger/entry/1");
        field(&seq.to_be_bytes());
        field(&self.at.to_be_bytes());
        field(self.kind.as_bytes());
        for id in [&self.agent, &self.team, &self.session] {
            // No name is empty, so an empty field is an absent one.
            field(id.as_deref().unwrap_or_default().as_bytes());
        }
        field(body.as_bytes());
        field(sealed.as_ref().map_or(b"".as_slice(), |sealed| sealed.as_bytes()));
        field(self.prev.as_bytes());
        digest(context)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    digest(context)
}

fn digest(context: Context) -> Digest {
    let mut bytes = [0; 32];
    // SHA-256 has 32 bytes; a shorter copy could only fail a comparison.
    for (to, from) in bytes.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    Digest::from_bytes(bytes)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The newest entry that somebody has seen. Kept outside of the database, it shows a ledger that was cut or rewound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The entry's number; the first is 1.
    pub seq: u64,
    /// The entry's hash, which covers all before it.
    pub hash: Digest,
    /// The ledger's Ed25519 signature (RFC 8032) of both, as hex digits.
    pub signature: String,
}

fn signed_bytes(seq: u64, hash: &Digest) -> Vec<u8> {
    [b"lazaret/ledger/head/1".as_slice(), &seq.to_be_bytes(), hash.as_bytes()].concat()
}

pub(crate) fn sign(keys: &Keys, seq: u64, hash: &Digest) -> Vec<u8> {
    keys.sign.sign(&signed_bytes(seq, hash)).as_ref().to_vec()
}

/// Whether the ledger's key signed this.
pub(crate) fn is_signed(public_key: &[u8], seq: u64, hash: &Digest, signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public_key).verify(&signed_bytes(seq, hash), signature).is_ok()
}

/// What is wrong with a ledger, at its first wrong entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The entry is not what was written.
    Changed,
    /// The entry is gone; later ones are there.
    Removed,
    /// In the entry's place is another one of this ledger.
    Moved {
        /// Whose place it is from.
        from: u64,
    },
    /// The entry was never written by this ledger.
    Added,
    /// The entry is genuine, but doesn't follow the one before it: one of the two is of another past.
    Forked,
    /// The entry and all after it are gone.
    Truncated,
    /// The entry isn't the one that was seen at its place: the ledger was taken back and written anew.
    Rewritten,
    /// The key of the entry's sealed part is gone or wrong, though nobody erased it.
    KeyLost,
    /// The head that it is held against is not this ledger's.
    ForeignHead,
}

/// A ledger's first wrong entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("entry {seq} {}", told(.fault))]
pub struct Tampered {
    /// The entry's number; the first is 1.
    pub seq: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

fn told(fault: &Fault) -> String {
    match fault {
        Fault::Changed => "was changed".to_owned(),
        Fault::Removed => "was removed".to_owned(),
        Fault::Moved { from } => format!("is not in its place: entry {from} is there instead"),
        Fault::Added => "was added by somebody else".to_owned(),
        Fault::Forked => "is genuine, but doesn't follow the entry before it".to_owned(),
        Fault::Truncated => "and all after it are missing: the ledger was cut off".to_owned(),
        Fault::Rewritten => {
            "is not the one that was seen: the ledger was taken back and continued anew".to_owned()
        }
        Fault::KeyLost => "has a sealed part whose key is lost, though nobody erased it".to_owned(),
        Fault::ForeignHead => "of the head last seen was not signed by this ledger's key".to_owned(),
    }
}

/// A row as it was found: an entry with its claims, or something that is none.
pub(crate) struct Found {
    /// Nothing where the row is no entry at all.
    pub(crate) link: Option<Link>,
    pub(crate) hash: Option<Digest>,
    pub(crate) signature: Vec<u8>,
}

/// How many entries may be gone, and one that was moved is still told from one that was changed.
const MOST_GONE: u64 = 1 << 16;

/// Follows a chain from its first entry.
pub(crate) struct Follower {
    public_key: Vec<u8>,
    /// The newest number of the ledger, as the database says: whoever writes to it can raise it.
    last: u64,
    /// How many rows there are.
    there: u64,
    /// Against which head.
    seen: Option<Head>,
    pub(crate) at: u64,
    pub(crate) hash: Digest,
    pub(crate) signature: Vec<u8>,
}

impl Follower {
    pub(crate) fn new(public_key: Vec<u8>, last: u64, there: u64, seen: Option<Head>) -> Self {
        let hash = Digest::from_bytes(BEFORE_ALL);
        Self { public_key, last, there, seen, at: 0, hash, signature: Vec::new() }
    }

    /// Takes the next row.
    pub(crate) fn follow(&mut self, found: &Found) -> Result<(), Tampered> {
        let seq = self.at.saturating_add(1);
        let fault = |fault| Err(Tampered { seq, fault });
        let (Some(link), Some(hash)) = (&found.link, &found.hash) else { return fault(Fault::Changed) };
        if link.seq > seq {
            return fault(Fault::Removed);
        }
        if link.seq < seq {
            return Err(Tampered { seq: link.seq, fault: Fault::Added });
        }
        if link.hash() != *hash || !is_signed(&self.public_key, seq, hash, &found.signature) {
            return fault(self.stranger(link, found));
        }
        if link.prev != self.hash {
            return fault(Fault::Forked);
        }
        if self.seen.as_ref().is_some_and(|seen| seen.seq == seq && seen.hash != *hash) {
            return fault(Fault::Rewritten);
        }
        self.at = seq;
        self.hash = *hash;
        self.signature.clone_from(&found.signature);
        Ok(())
    }

    /// What an entry is that doesn't belong where it stands.
    fn stranger(&self, link: &Link, found: &Found) -> Fault {
        let contents = link.contents();
        let genuine = |from: &u64| {
            let hash = link.hash_as(*from, &contents);
            found.hash == Some(hash) && is_signed(&self.public_key, *from, &hash, &found.signature)
        };
        let farthest = self.last.min(self.there.saturating_add(MOST_GONE));
        match (1..=farthest).find(genuine) {
            Some(from) => Fault::Moved { from },
            None => Fault::Changed,
        }
    }

    /// Ends: everything that is known to have been written must have come.
    pub(crate) fn end(&self) -> Result<(), Tampered> {
        let known = self.last.max(self.seen.as_ref().map_or(0, |seen| seen.seq));
        if self.at < known {
            return Err(Tampered { seq: self.at.saturating_add(1), fault: Fault::Truncated });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::keys;

    fn link(seq: u64, body: &str, prev: Digest) -> Link {
        let (agent, body) = (Some("mail-clerk".to_owned()), body.to_owned());
        Link {
            seq,
            at: seq,
            kind: "refused".to_owned(),
            agent,
            team: None,
            session: None,
            body,
            sealed: None,
            prev,
        }
    }

    fn found(keys: &Keys, link: Link) -> Found {
        let hash = link.hash();
        Found { signature: sign(keys, link.seq, &hash), hash: Some(hash), link: Some(link) }
    }

    /// A true chain with these bodies.
    fn chain(keys: &Keys, bodies: &[&str]) -> Vec<Found> {
        let mut prev = Digest::from_bytes(BEFORE_ALL);
        let mut chain = Vec::new();
        for (seq, body) in (1..).zip(bodies) {
            let entry = found(keys, link(seq, body, prev));
            prev = entry.hash.unwrap();
            chain.push(entry);
        }
        chain
    }

    fn head(entry: &Found) -> Head {
        let link = entry.link.as_ref().unwrap();
        Head { seq: link.seq, hash: entry.hash.unwrap(), signature: hex(&entry.signature) }
    }

    fn follow(keys: &Keys, chain: &[Found], last: u64, seen: Option<&Head>) -> Result<(), Tampered> {
        let there = chain.len() as u64;
        let mut follower = Follower::new(keys.public().to_vec(), last, there, seen.cloned());
        chain.iter().try_for_each(|entry| follower.follow(entry))?;
        follower.end()
    }

    #[test]
    fn whoever_has_no_key_can_not_make_an_entry_even_with_all_hashes_right() {
        let (keys, mine) = (keys(1), keys(2));
        assert_eq!(follow(&keys, &chain(&keys, &["a", "b", "c"]), 3, None), Ok(()));
        let mut forged = chain(&keys, &["a", "b", "c"]);
        let b = link(2, "B", forged[0].hash.unwrap());
        forged[1] = Found { hash: Some(b.hash()), signature: forged[1].signature.clone(), link: Some(b) };
        let c = link(3, "c", forged[1].hash.unwrap());
        forged[2] = Found { hash: Some(c.hash()), signature: forged[2].signature.clone(), link: Some(c) };
        assert_eq!(follow(&keys, &forged, 3, None), Err(Tampered { seq: 2, fault: Fault::Changed }));
        let another = chain(&mine, &["a", "b", "c"]);
        assert_eq!(follow(&keys, &another, 3, None), Err(Tampered { seq: 1, fault: Fault::Changed }));
        let mut longer = chain(&keys, &["a", "b"]);
        longer.push(found(&mine, link(3, "c", longer[1].hash.unwrap())));
        assert_eq!(follow(&keys, &longer, 2, None), Err(Tampered { seq: 3, fault: Fault::Changed }));
    }

    #[test]
    fn two_pasts_of_one_ledger_are_told_apart() {
        let keys = keys(1);
        let (one, mut two) = (chain(&keys, &["a", "b", "c"]), chain(&keys, &["a", "B", "c"]));
        let seen = head(&one[2]);
        assert_eq!(follow(&keys, &one, 3, Some(&seen)), Ok(()));
        assert_eq!(follow(&keys, &two, 3, Some(&seen)), Err(Tampered { seq: 3, fault: Fault::Rewritten }));
        assert_eq!(
            follow(&keys, &two[..2], 2, Some(&seen)),
            Err(Tampered { seq: 3, fault: Fault::Truncated })
        );
        two[1] = found(&keys, link(2, "b", one[0].hash.unwrap()));
        assert_eq!(follow(&keys, &two, 3, None), Err(Tampered { seq: 3, fault: Fault::Forked }));
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let prev = Digest::from_bytes(BEFORE_ALL);
        let plain = link(1, "a", prev);
        let moved = Link { agent: None, team: plain.agent.clone(), ..plain.clone() };
        let split =
            Link { kind: "refusedmail".to_owned(), agent: Some("-clerk".to_owned()), ..plain.clone() };
        let sealed = Link { sealed: Some(Vec::new()), ..plain.clone() };
        let all: std::collections::BTreeSet<_> = [&plain, &moved, &split, &sealed].map(Link::hash).into();
        assert_eq!(all.len(), 4);
    }
}
