//! What egress costs: the same requests made straight, through a door and its gate, through squid and through mitmproxy,
//! all of which end TLS, look at the request and begin TLS anew. Ours also decides, and writes each request and what came of
//! it to the ledger. The machine in between is left out.

mod bare;
mod client;
mod origin;
mod proxies;

use std::time::Instant;

use dial::Network;
use testkit::way_out::WayOut;
use tokio::task::JoinSet;

use crate::Result;
use crate::report::{Number, median};
use bare::Bare;
use client::Way;
use origin::{LARGE, Origin, PACED};
pub use proxies::lacks;

/// Small requests one after the other, on one connection.
const ONE_BY_ONE: usize = 1500;
/// Connections at once, and small requests on each.
const AT_ONCE: usize = 8;
const EACH: usize = 250;
/// How much longer a streamed body may take than straight.
const STREAMED: f64 = 1.5;
/// Rounds; each way is measured in each.
const ROUNDS: usize = 3;

/// What one way came to.
#[derive(Default)]
struct Measured {
    /// ms.
    p50: Vec<f64>,
    /// ms.
    p99: Vec<f64>,
    /// µs of time for each request, all connections together.
    each: Vec<f64>,
    /// ms for a megabyte.
    megabyte: Vec<f64>,
    /// The same, at the pace of a line.
    paced: Vec<f64>,
}

pub async fn run() -> Result<Vec<Number>> {
    // Somebody else may have been quicker, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let origin = Origin::start().await?;
    let folders = (tempfile::tempdir()?, tempfile::tempdir()?);
    let squid = proxies::squid(folders.0.path(), &origin.authority).await?;
    let mitmproxy = proxies::mitmproxy(folders.1.path(), &origin.authority).await?;
    let folder = tempfile::tempdir()?;
    let trusted = folder.path().join("origin.pem");
    std::fs::write(&trusted, &origin.authority.certificate)?;
    let network = Network {
        private: vec![format!("localhost:{}", origin.port).parse()?],
        ca: Some(trusted),
        ..Network::default()
    };
    let agent = format!(
        "name = \"bench\"\nharness = {{ command = [\"true\"] }}\n[egress]\n\
         allow = [\"GET https://localhost:{}/*\"]\nrequests_per_minute = 100000\nbytes_out_per_day = \"1TiB\"\n",
        origin.port
    );
    let ours = WayOut::open(&agent, network).await;
    let straight = Way::new(origin.port, None, &origin.authority.certificate)?;
    let bare = Bare::start(straight.clone()).await?;
    let ways = [
        ("straight", straight),
        ("bare", Way::new(origin.port, Some(bare.port), &bare.vouches)?),
        ("ours", Way::new(origin.port, Some(ours.proxy.port()), &ours.authority)?),
        ("squid", Way::new(origin.port, Some(squid.port), &squid.vouches)?),
        ("mitmproxy", Way::new(origin.port, Some(mitmproxy.port), &mitmproxy.vouches)?),
    ];
    let mut measured: Vec<Measured> = ways.iter().map(|_| Measured::default()).collect();
    for round in 1..=ROUNDS {
        for ((name, way), into) in ways.iter().zip(&mut measured) {
            eprintln!("bench: egress, {name}, round {round}");
            one_by_one(way, into).await?;
            at_once(way, into).await?;
            into.megabyte.push(streamed(way, ("/large", LARGE)).await?);
            into.paced.push(streamed(way, ("/paced", PACED)).await?);
        }
    }
    let [straight, bare, ours, squid, mitmproxy] = measured.as_slice() else {
        return Err("a way is missing".into());
    };
    let others = [("squid", squid), ("mitmproxy", mitmproxy)];
    Ok(numbers(straight, ours, others).into_iter().chain(bare_numbers(straight, bare, ours)).collect())
}

async fn one_by_one(way: &Way, into: &mut Measured) -> Result<()> {
    let mut connection = way.open().await?;
    let mut took = Vec::with_capacity(ONE_BY_ONE);
    connection.get("/small").await?;
    for _ in 0..ONE_BY_ONE {
        let start = Instant::now();
        connection.get("/small").await?;
        took.push(start.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or_default();
    into.p50.push(at(50));
    into.p99.push(at(99));
    Ok(())
}

async fn at_once(way: &Way, into: &mut Measured) -> Result<()> {
    let mut connections = Vec::new();
    for _ in 0..AT_ONCE {
        connections.push(way.open().await?);
    }
    let start = Instant::now();
    let mut asking = JoinSet::new();
    for mut connection in connections {
        asking.spawn(async move {
            for _ in 0..EACH {
                connection.get("/small").await?;
            }
            Ok::<_, crate::Failure>(())
        });
    }
    while let Some(ended) = asking.join_next().await {
        ended??;
    }
    into.each.push(start.elapsed().as_secs_f64() * 1e6 / (AT_ONCE * EACH) as f64);
    Ok(())
}

/// What a megabyte of an answer took, in ms.
async fn streamed(way: &Way, (path, length): (&str, usize)) -> Result<f64> {
    let mut connection = way.open().await?;
    let start = Instant::now();
    if connection.get(path).await? != length {
        return Err(format!("the answer to {path} was cut").into());
    }
    Ok(start.elapsed().as_secs_f64() * 1e3 / (length as f64 / 1e6))
}

fn middle(times: &[f64]) -> f64 {
    median(times.to_vec())
}

/// Ours against what only ends TLS and begins it anew; and that against straight, which says how far ours could come.
fn bare_numbers(straight: &Measured, bare: &Measured, ours: &Measured) -> Vec<Number> {
    let against = |what: &str, unit, of: &[f64], name, other: &[f64]| {
        Number::against(what, unit, middle(of), name, middle(other))
    };
    let line = "a streamed megabyte, at 1 Gbit/s";
    vec![
        against(line, "ms", &ours.paced, "straight", &straight.paced).at_most(STREAMED),
        against("a streamed megabyte", "ms", &ours.megabyte, "TLS ended and begun, no more", &bare.megabyte),
        against(
            "TLS ended and begun, no more: a streamed megabyte",
            "ms",
            &bare.megabyte,
            "straight",
            &straight.megabyte,
        ),
        against("a small request, p50", "ms", &ours.p50, "TLS ended and begun, no more", &bare.p50),
    ]
}

/// Ours against each of the others; what a request takes longer than straight; and bodies against straight.
fn numbers(straight: &Measured, ours: &Measured, others: [(&'static str, &Measured); 2]) -> Vec<Number> {
    let added =
        |of: &Measured| (middle(&of.p50) - middle(&straight.p50), middle(&of.p99) - middle(&straight.p99));
    let (p50, p99) = added(ours);
    let mut numbers = vec![
        Number::against(
            "each of many small requests at once",
            "µs",
            middle(&ours.each),
            "straight",
            middle(&straight.each),
        ),
        Number::against(
            "a streamed megabyte",
            "ms",
            middle(&ours.megabyte),
            "straight",
            middle(&straight.megabyte),
        )
        .at_most(STREAMED),
    ];
    for (name, of) in others {
        let (their_p50, their_p99) = added(of);
        let against =
            |what: &str, unit, ours, theirs| Number::against(what, unit, ours, name, theirs).at_most(1.0);
        numbers.push(against("added to a small request, p50", "ms", p50, their_p50));
        numbers.push(against("added to a small request, p99", "ms", p99, their_p99));
        numbers.push(against(
            "each of many small requests at once",
            "µs",
            middle(&ours.each),
            middle(&of.each),
        ));
        numbers.push(against("a streamed megabyte", "ms", middle(&ours.megabyte), middle(&of.megabyte)));
    }
    numbers
}
