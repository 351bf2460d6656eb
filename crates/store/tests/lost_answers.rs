//! What PostgreSQL may have done, though its answer was lost on the way, isn't done once more.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

#[expect(dead_code, reason = "each test program uses a part of it")]
mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use store::{ByRight, Event, Filter, Place, Store};
use support::{Cluster, about, commit, random};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// The simple query `COMMIT` as a client sends it: its kind, its length, and the text (PostgreSQL's protocol, "Query").
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
/// The name of a server's socket within the folder that its URL names.
const SOCKET: &str = ".s.PGSQL.5432";

/// Passes on what client and server say, until it is to lose the answer to a commit: then it ends the connection.
struct Relay {
    folder: TempDir,
    loses: Arc<AtomicBool>,
}

impl Relay {
    fn start(server: PathBuf) -> Self {
        let (folder, loses) = (TempDir::new().unwrap(), Arc::new(AtomicBool::new(false)));
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let losing = Arc::clone(&loses);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&server).await.unwrap();
                tokio::spawn(relay(client, server, Arc::clone(&losing)));
            }
        });
        Self { folder, loses }
    }

    /// The place of the database as it is reached through here.
    fn place(&self, url: &str, server: &str) -> Place {
        let here = self.folder.path().display().to_string().replace('/', "%2F");
        Place::Server(url.replace(server, &here).into())
    }
}

async fn relay(client: UnixStream, server: UnixStream, loses: Arc<AtomicBool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            count = from_client.read(&mut asked) => {
                let Ok(count @ 1..) = count else { return };
                to_server.write_all(&asked[..count]).await.unwrap();
                if &asked[..count] == COMMIT && loses.load(Ordering::Relaxed) {
                    // It is done when it is answered.
                    assert!(from_server.read(&mut answered).await.unwrap() > 0);
                    return;
                }
            }
            count = from_server.read(&mut answered) => {
                let Ok(count @ 1..) = count else { return };
                if to_client.write_all(&answered[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_did_without_saying_so_is_told_as_failed_and_not_done_again() {
    let Some(cluster) = Cluster::start() else { return };
    let url = cluster.create("lost");
    let (_, place) = url.split_once('@').unwrap();
    let (folder, _) = place.split_once('/').unwrap();
    let relay = Relay::start(Path::new(&folder.replace("%2F", "/")).join(SOCKET));
    let keys = TempDir::new().unwrap();
    let open = async |place: &Place, seed| {
        Store::open(place, &keys.path().join("keys"), random(seed)).await.unwrap()
    };
    let (far, near) = (relay.place(&url, folder), Place::Server(url.clone().into()));
    let (far, near) = (open(&far, 1).await, open(&near, 2).await);
    let event = Event::GrantsEnded { count: 0, why: "lost".to_owned() };
    far.record(&about(1), &event, None, 5).await.unwrap();

    relay.loses.store(true, Ordering::Relaxed);
    assert!(far.record(&about(1), &event, None, 6).await.is_err());
    let policy = ByRight::Policy;
    assert!(far.commit(&commit(1, 7, policy), 7).await.is_err());
    relay.loses.store(false, Ordering::Relaxed);

    let filter = Filter { kind: Some("grants-ended".to_owned()), ..Filter::default() };
    assert_eq!(near.tail(10, &filter).await.unwrap().len(), 2);
    // The act is known to have no outcome: whoever wanted it was told that it can't be done.
    assert_eq!(near.unfinished().await.unwrap().len(), 1);
    near.verify(None).await.unwrap();
    far.record(&about(1), &event, None, 8).await.unwrap();
}
