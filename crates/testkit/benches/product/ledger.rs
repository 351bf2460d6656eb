//! What the ledger costs, on each engine with its durability as in use: an entry, and a commit with its outcome, against as
//! many bytes appended to a file and waited for.

#[path = "../../../store/tests/support/postgres.rs"]
#[expect(dead_code, reason = "the store's tests use more of it")]
mod postgres;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use domain::{AgentName, CommitId, Digest, Labels, SessionId, ToolRef};
use postgres::Cluster;
use store::{About, Act, ByRight, Commit, Event, Outcome, Place, Private, Store};
use tokio::task::JoinSet;

use crate::Result;
use crate::report::Number;

const COUNT: u128 = 500;
const AT_ONCE: u128 = 16;
/// Bytes of an entry with its sealed part.
const BYTES: usize = 2048;
const FILE: &str = "a file, appended to and synced";

/// What is missing here.
pub fn lacks() -> Option<String> {
    let there = Path::new("/usr/lib/postgresql").exists();
    (!there).then(|| "the package `postgresql`".to_owned())
}

pub async fn run() -> Result<Vec<Number>> {
    let cluster = Cluster::start_durable().ok_or("PostgreSQL can't be started")?;
    let mut numbers = Vec::new();
    for engine in ["SQLite", "PostgreSQL"] {
        eprintln!("bench: the ledger on {engine}");
        let folder = tempfile::tempdir()?;
        let place = match engine {
            "SQLite" => Place::File(folder.path().join("store/lazaret.db")),
            _ => Place::Server(cluster.create("bench").into()),
        };
        let random = Arc::new(testkit::cell_less::random);
        let store = Store::open(&place, &folder.path().join("keys"), random).await?;
        let file = file(folder.path())?;
        let number =
            |what: &str, ours: f64| Number::against(format!("{engine}: {what}"), "ms", ours, FILE, file);
        numbers.push(number("an entry", entries(&store).await?));
        numbers.push(number("an entry, 16 tasks at once", entries_at_once(&store).await?));
        numbers.push(number("a commit and its outcome", commits(&store).await?));
        let start = Instant::now();
        let verified = store.verify(None).await?.entries;
        let each = start.elapsed().as_secs_f64() * 1e3 / verified as f64;
        numbers.push(Number::alone(format!("{engine}: an entry verified"), "ms", each));
        store.close().await;
    }
    Ok(numbers)
}

/// What each of so many took, in ms.
fn each(start: Instant, count: u128) -> f64 {
    start.elapsed().as_secs_f64() * 1e3 / count as f64
}

fn file(folder: &Path) -> Result<f64> {
    let mut file = File::create(folder.join("file"))?;
    let start = Instant::now();
    for _ in 0..COUNT {
        file.write_all(&[7; BYTES])?;
        file.sync_data()?;
    }
    Ok(each(start, COUNT))
}

fn about() -> Result<About> {
    let agent: AgentName = "clerk".parse()?;
    Ok(About {
        agent: Some(agent),
        team: Some("office".parse()?),
        session: Some(SessionId::from_parts(1, 1)),
    })
}

fn act() -> Result<Act> {
    let tool: ToolRef = "mail__send".parse()?;
    Ok(Act::Tool(tool))
}

async fn record(store: &Store) -> Result<()> {
    let event = Event::Refused { act: act()?, why: "agent.toml:7: deny".to_owned() };
    store.record(&about()?, &event, Some(&Private::new("x".repeat(1000))), 1).await?;
    Ok(())
}

async fn entries(store: &Store) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..COUNT {
        record(store).await?;
    }
    Ok(each(start, COUNT))
}

async fn entries_at_once(store: &Store) -> Result<f64> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..COUNT / AT_ONCE {
                record(&store).await?;
            }
            Ok::<(), crate::Failure>(())
        });
    }
    for done in tasks.join_all().await {
        done?;
    }
    Ok(each(start, COUNT / AT_ONCE * AT_ONCE))
}

async fn commits(store: &Store) -> Result<f64> {
    let start = Instant::now();
    for n in 0..COUNT {
        let commit = Commit {
            id: CommitId::from_parts(1, n),
            about: about()?,
            act: act()?,
            binding: Digest::from_bytes([7; 32]),
            by_right: ByRight::Policy,
            reasons: vec!["agent.toml:5, allow".to_owned()],
            labels: Labels::default(),
            spend: Vec::new(),
            idempotent: false,
            arguments: Private::new("x".repeat(1000)),
            also: Vec::new(),
        };
        store.commit(&commit, 1).await?;
        store.outcome(commit.id, &Outcome::Done, &[], None, 1).await?;
    }
    Ok(each(start, COUNT))
}
