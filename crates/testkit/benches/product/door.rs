//! The way through the door: guest's relay, channel, door process, daemon; against the bare virtio-serial channel, which
//! is what is left when everything of ours is taken away.

use std::time::{Duration, Instant};

use cell::StartMode;
use tokio::io::AsyncWriteExt;
use wire::frame::{self, CHUNK, LARGE, SMALL};
use wire::host::{DoorOpens, ModelAnswer};
use wire::mux::{Incoming, Stream};

use crate::Result;
use crate::bare::{BLOCK, Bare};
use crate::cells::{ENDPOINT, Ground, ReadyCell};
use crate::inside::Took;
use crate::report::{Number, median};

const ROUNDS: usize = 5;
/// Round trips in a round.
const TRIPS: usize = 100;
/// Bytes of a bare round trip: about what the smallest question has as an HTTP request.
const QUESTION: usize = 60;
/// What is moved in a round, each way.
const BLOCKS: usize = 512;
const MOVED: usize = BLOCKS * BLOCK;

pub async fn run(ground: &mut Ground) -> Result<Vec<Number>> {
    let isolation = ground.ready().await?;
    let mut cell = ground.cell(StartMode::Clone).await?;
    let daemon = tokio::spawn(serve(cell.asked()?));
    let channel = "bare channel";

    let mut echo = Bare::boot(ground, isolation).await?.echo().await?;
    let (mut trips, mut bare) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        eprintln!("bench: round trips {round}/{ROUNDS}");
        trips.push(trip(&cell).await?);
        let mut times = Vec::new();
        for _ in 0..TRIPS {
            times.push(echo.round_trip(QUESTION).await?.as_secs_f64() * 1e6);
        }
        bare.push(median(times));
    }
    echo.stop().await?;
    let mut numbers =
        vec![Number::against("smallest question and its answer", "µs", median(trips), channel, median(bare))];

    let mut machine = Bare::boot(ground, isolation).await?;
    let (mut down, mut up, mut bare_down, mut bare_up) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        eprintln!("bench: throughput {round}/{ROUNDS}");
        down.push(answer(&cell).await?);
        bare_down.push(speed(machine.take(BLOCKS).await?));
        up.push(output(&cell).await?);
        bare_up.push(speed(machine.send(BLOCKS).await?));
    }
    machine.stop().await?;
    daemon.abort();
    cell.stop().await;
    let number = |name, ours, bare| Number::against(name, "MB/s", median(ours), channel, median(bare));
    numbers.push(number("an answer, into the cell", down, bare_down));
    numbers.push(number("a program's output, out of it", up, bare_up));
    Ok(numbers)
}

fn speed(time: Duration) -> f64 {
    MOVED as f64 / 1e6 / time.as_secs_f64()
}

/// What the smallest question takes, asked again and again on one connection, µs.
async fn trip(cell: &ReadyCell) -> Result<f64> {
    let count = TRIPS.to_string();
    let printed = cell.client(&["get", ENDPOINT, "/v1/models", &count]).await?.printed().await?;
    Ok(median(Took::parse(&printed)?.into_iter().map(|took| took.whole).collect()))
}

/// How fast a large answer comes, MB/s, as seen from inside.
async fn answer(cell: &ReadyCell) -> Result<f64> {
    let client = cell.client(&["post", ENDPOINT, "/v1/messages", "any", "0"]).await?;
    let took = Took::parse(&client.printed().await?)?;
    Ok(took.iter().map(|took| took.bytes / (took.whole - took.first)).sum())
}

/// How fast the daemon gets what a program prints, MB/s, from its first bytes on.
async fn output(cell: &ReadyCell) -> Result<f64> {
    let mut client = cell.client(&["print", &MOVED.to_string()]).await?;
    client.next().await?;
    let began = Instant::now();
    while client.next().await?.is_some() {}
    Ok(speed(began.elapsed()))
}

/// The daemon's side, with answers that cost nothing to make.
async fn serve(mut asked: Incoming) {
    while let Some(stream) = asked.next().await {
        tokio::spawn(async move {
            if let Err(error) = reply(stream).await {
                eprintln!("bench: a question was not answered: {error}");
            }
        });
    }
}

async fn reply(mut stream: Stream) -> Result<()> {
    let blocks = match frame::read::<DoorOpens, _>(&mut stream, LARGE).await? {
        Some(DoorOpens::Models) => vec![b"{}".to_vec()],
        Some(DoorOpens::Model(_)) => vec![vec![b'x'; CHUNK]; MOVED / CHUNK],
        // No tools are measured here.
        Some(DoorOpens::Tools(_) | DoorOpens::Egress(_) | DoorOpens::Leaf { .. }) | None => return Ok(()),
    };
    let head =
        ModelAnswer::Head { status: 200, content_type: "application/json".to_owned(), headers: Vec::new() };
    frame::write(&mut stream, &head, SMALL).await?;
    for block in blocks {
        frame::write(&mut stream, &ModelAnswer::Body(block), SMALL).await?;
    }
    frame::write(&mut stream, &ModelAnswer::End, SMALL).await?;
    Ok(stream.shutdown().await?)
}
