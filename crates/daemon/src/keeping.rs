//! The store of this installation: opened at start, with its owner, and with what a crash left without an outcome.

use std::io;
use std::path::Path;
use std::sync::Arc;

use dial::Dialer;
use domain::PersonName;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use gateway::egress::Authority;
use oauth::{LendError, Lender, Means, Renewal, Witness};
use store::{About, Event, Outcome, PeopleError, Place, Randomness, Store};
use vault::Vault;

use crate::error::DaemonError;
use crate::folders::private;
use crate::journal::now;

/// Who lends the secrets of the vault. What it renews is on the ledger.
pub(crate) fn lender(vault: Arc<Vault>, dialer: &Dialer, store: &Store) -> Arc<Lender> {
    let means = Means { now: Arc::new(now), random: |buffer| System.fill(buffer) };
    Lender::new(vault, dialer.clone(), means, Arc::new(OnLedger(store.clone())))
}

/// Puts the renewals of log-ins on the ledger.
struct OnLedger(Store);

impl Witness for OnLedger {
    fn renewed(&self, renewal: Renewal) -> BoxFuture<'_, ()> {
        let Renewal { secret, issuer, failed } = renewal;
        let revoked = match &failed {
            Some(LendError::Replaced { revoked: Some(revoked), .. }) => {
                let failed = revoked.as_ref().err().map(ToString::to_string);
                Some(Event::LoginRevoked { secret: secret.clone(), issuer: issuer.clone(), failed })
            }
            Some(_) | None => None,
        };
        let event = match failed {
            Some(ended @ LendError::Ended { .. }) => {
                Event::LoginEnded { secret, issuer, why: ended.to_string() }
            }
            failed => Event::SecretRenewed { secret, issuer, failed: failed.map(|error| error.to_string()) },
        };
        async move {
            for event in [Some(event), revoked].into_iter().flatten() {
                // It is renewed by now, and what is asked next has its own entries.
                if let Err(error) = self.0.record(&About::default(), &event, None, now()).await {
                    tracing::error!(%error, "a renewal is not on the ledger: {event:?}");
                }
            }
        }
        .boxed()
    }
}

/// Random bytes of the system.
pub(crate) struct System;

impl Randomness for System {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        let mut left = buffer;
        while !left.is_empty() {
            let filled = rustix::rand::getrandom(&mut *left, rustix::rand::GetRandomFlags::empty())?;
            left = left.get_mut(filled..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Opens the store in its folder. The first time, whoever runs the daemon becomes the owner.
pub(crate) async fn open(folder: &Path) -> Result<Store, DaemonError> {
    private(folder)?;
    let place = Place::File(folder.join("store.db"));
    let store = Store::open(&place, &folder.join("store.key"), Arc::new(System)).await?;
    let uid = rustix::process::geteuid().as_raw();
    match store.install_owner(&owner_name(uid), uid, now()).await {
        Ok(()) | Err(PeopleError::NotFirst) => {}
        Err(error) => return Err(DaemonError::Store(error.to_string())),
    }
    conclude(&store).await?;
    let started = Event::DaemonStarted { version: env!("CARGO_PKG_VERSION").to_owned() };
    store.record(&About::default(), &started, None, now()).await?;
    Ok(store)
}

/// The authority whose certificates doors show to their cells.
pub(crate) fn authority(folder: &Path) -> Result<Authority, DaemonError> {
    private(folder)?;
    Authority::open(&folder.join("authority.key")).map_err(|error| DaemonError::Cells(error.to_string()))
}

/// Acts that were committed to and have no outcome: the daemon died in between. They are never done again by themselves.
async fn conclude(store: &Store) -> Result<(), DaemonError> {
    for act in store.unfinished().await? {
        let why = "the daemon ended between the commit and the outcome".to_owned();
        tracing::warn!(act = %act.act, entry = act.entry, "an act's outcome is unknown: {why}");
        store.outcome(act.id, &Outcome::Unknown { why }, &[], None, now()).await?;
    }
    Ok(())
}

/// The name of the system's user, where that is a name here too.
fn owner_name(uid: u32) -> PersonName {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    });
    let name = name.unwrap_or_else(|| format!("user-{uid}"));
    let plain: String =
        name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    plain.parse().or_else(|_| format!("user-{uid}").parse()).unwrap_or_else(|_: domain::NameError| unnamed())
}

#[expect(clippy::unwrap_used, reason = "this text is a name")]
fn unnamed() -> PersonName {
    "owner".parse().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_installs_is_the_owner_and_a_second_start_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("store");
        let store = open(&place).await.unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let owner = store.person_of_uid(uid).await.unwrap().unwrap();
        assert_eq!(owner.role, domain::Role::Owner);
        store.close().await;
        let store = open(&place).await.unwrap();
        assert_eq!(store.people().await.unwrap(), [owner]);
        assert!(store.verify(None).await.is_ok());
    }

    #[test]
    fn any_uid_has_a_name() {
        assert_eq!(owner_name(0).as_str(), "root");
        assert_eq!(owner_name(4_000_000_000).as_str(), "user-4000000000");
    }
}
