//! One process of the container: its streams, decoded and encoded anew in both directions.

use tokio::io::{AsyncWriteExt, BufReader};
use wire::frame::{self, CHUNK, SMALL};
use wire::guest::DoorOpens;
use wire::mux::{Opener, Stream};
use wire::process::{FromProcess, ProcessSpec, ToProcess};

use crate::{CutOff, DoorLimits, frames};

/// Relays one process until it has ended, or the daemon lets go of it.
pub(crate) async fn relay(
    daemon: Stream,
    spec: ProcessSpec,
    guests: Opener,
    limits: DoorLimits,
) -> Result<(), CutOff> {
    let (mut from_daemon, mut to_daemon) = tokio::io::split(daemon);
    let guest = match open(&guests, spec).await {
        Ok(guest) => guest,
        Err(why) => {
            // A daemon that has gone needs no answer.
            drop(frame::write(&mut to_daemon, &FromProcess::Failed { why }, CHUNK).await);
            drop(to_daemon.shutdown().await);
            return Ok(());
        }
    };
    let (from_guest, mut to_guest) = tokio::io::split(guest);
    let mut from_guest = BufReader::new(from_guest);
    let down = async {
        while let Ok(Some(message)) = frame::read::<ToProcess, _>(&mut from_daemon, frames::CHUNK_FRAME).await
        {
            if frame::write(&mut to_guest, &message, frames::CHUNK_FRAME).await.is_err() {
                // The process has ended; its last words are still to be read.
                std::future::pending::<()>().await;
            }
        }
    };
    let up = async {
        while let Some(message) = frames::next(&mut from_guest, frames::CHUNK_FRAME, limits.frame).await? {
            let last = is_last(&message)?;
            if frame::write(&mut to_daemon, &message, frames::CHUNK_FRAME).await.is_err() || last {
                break;
            }
        }
        drop(to_daemon.shutdown().await);
        Ok(())
    };
    tokio::select! {
        ended = up => ended,
        () = down => Ok(()),
    }
}

async fn open(guests: &Opener, spec: ProcessSpec) -> Result<Stream, String> {
    let head = frame::encode(&DoorOpens::Process(spec), SMALL)
        .map_err(|error| format!("the process can't be described to the guest: {error}"))?;
    let mut guest = guests.open().await.map_err(|error| error.to_string())?;
    guest.write_all(&head).await.map_err(|error| error.to_string())?;
    guest.flush().await.map_err(|error| error.to_string())?;
    Ok(guest)
}

fn is_last(message: &FromProcess) -> Result<bool, CutOff> {
    match message {
        FromProcess::Stdout(bytes) | FromProcess::Stderr(bytes) if bytes.len() > CHUNK => {
            Err(CutOff::Frame(format!("a chunk of {} bytes where {CHUNK} are allowed", bytes.len())))
        }
        FromProcess::Started | FromProcess::Stdout(_) | FromProcess::Stderr(_) => Ok(false),
        FromProcess::Exited(_) | FromProcess::Failed { .. } => Ok(true),
    }
}
