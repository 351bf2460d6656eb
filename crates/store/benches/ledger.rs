//! How fast the store records and commits, on each engine with its durability as in use. `cargo bench -p store`

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measurement prints, and may panic"
)]

#[expect(dead_code, reason = "each program uses a part of it")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use store::{ByRight, Event, Outcome, Private, Store};
use support::{Cluster, Empty, about, act, commit, commit_id};

const COUNT: u128 = 500;
const TASKS: u128 = 16;

fn tell(engine: &str, what: &str, count: u128, took: Duration) {
    let each = took.as_secs_f64() / count as f64;
    println!("{engine:<11} {what:<44} {:>9.3} ms each {:>8.0} /s", each * 1e3, 1.0 / each);
}

async fn record(store: &Store, private: &Private) {
    let event = Event::Refused { act: act(), why: "agent.toml:7: deny".to_owned() };
    store.record(&about(1), &event, Some(private), 1).await.unwrap();
}

async fn measure(engine: &str, empty: Empty) {
    let lab = empty.open().await;
    let private = Private::new("x".repeat(1000));
    let start = Instant::now();
    for _ in 0..COUNT {
        record(&lab.store, &private).await;
    }
    tell(engine, "append, one after another", COUNT, start.elapsed());

    let start = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (store, private) = (lab.store.clone(), private.clone());
            tokio::spawn(async move {
                for _ in 0..COUNT / TASKS {
                    record(&store, &private).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    tell(engine, "append, 16 at once", COUNT / TASKS * TASKS, start.elapsed());

    let start = Instant::now();
    let event = Event::Refused { act: act(), why: "agent.toml:7: deny".to_owned() };
    lab.store.record_all(&vec![(about(1), event); COUNT as usize], 1).await.unwrap();
    tell(engine, "append, all in one transaction", COUNT, start.elapsed());

    let start = Instant::now();
    for n in 0..COUNT {
        lab.store.commit(&commit(n, 7, ByRight::Policy), 1).await.unwrap();
        lab.store.outcome(commit_id(n), &Outcome::Done, &[], None, 1).await.unwrap();
    }
    tell(engine, "commit and outcome", COUNT, start.elapsed());

    let start = Instant::now();
    let entries = lab.store.verify(None).await.unwrap().entries;
    tell(engine, "verify, per entry", entries.into(), start.elapsed());
}

#[tokio::main]
async fn main() {
    measure("SQLite", Empty::sqlite().await).await;
    if let Some(cluster) = Cluster::start_durable() {
        measure("PostgreSQL", Empty::postgres(&cluster, "bench").await).await;
    }
}
