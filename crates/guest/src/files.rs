//! Files into and out of the container, each by a process inside it: what a path means there is decided there, with the
//! agent's rights, so no symlink leads anywhere else.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::frame;
use wire::guest::FilesDone;
use wire::mux::Stream;
use wire::process::{Exit, Place, ProcessSpec};

use crate::born::Guest;
use crate::container::plan::PROGRAM;
use crate::machine;
use crate::process::{self, Process};

/// Most bytes of what the process says when it fails.
const REASON: u64 = 4096;

/// Unpacks the archive that follows on the stream.
pub(crate) async fn put(mut stream: Stream, folder: String, guest: &Guest) {
    let done = match unpack(&mut stream, folder, guest).await {
        Ok(()) => FilesDone::Ok,
        Err(why) => FilesDone::Failed { why },
    };
    let answered = async {
        frame::write(&mut stream, &done, frame::SMALL).await?;
        stream.shutdown().await.map_err(frame::FrameError::from)
    };
    if let Err(error) = answered.await {
        machine::log(&format!("answering for files: {error}"));
    }
}

async fn unpack(stream: &mut Stream, folder: String, guest: &Guest) -> Result<(), String> {
    let mut process = packer("put", folder, guest).await?;
    if let Some(mut stdin) = process.stdin.take() {
        // A packer that fails stops reading, and says why below.
        drop(tokio::io::copy(stream, &mut stdin).await);
    }
    outcome(process).await
}

/// Packs the folder onto the stream. An archive that could not be made whole lacks its end.
pub(crate) async fn get(mut stream: Stream, folder: String, guest: &Guest) {
    let packed = async {
        let mut process = packer("get", folder, guest).await?;
        process.stdin = None;
        if let Some(mut stdout) = process.stdout.take() {
            tokio::io::copy(&mut stdout, &mut stream).await.map_err(|error| error.to_string())?;
        }
        outcome(process).await?;
        stream.shutdown().await.map_err(|error| error.to_string())
    };
    if let Err(why) = packed.await {
        machine::log(&format!("packing files: {why}"));
    }
}

async fn packer(what: &str, folder: String, guest: &Guest) -> Result<Process, String> {
    let spec = ProcessSpec {
        argv: vec![PROGRAM.to_owned(), what.to_owned(), folder],
        env: Vec::new(),
        cwd: "/".to_owned(),
        tty: None,
        place: Place::Container,
    };
    process::start(spec, guest).await
}

async fn outcome(mut process: Process) -> Result<(), String> {
    let mut why = Vec::new();
    if let Some(stderr) = process.stderr.take() {
        stderr.take(REASON).read_to_end(&mut why).await.map_err(|error| error.to_string())?;
    }
    match process.exited().await {
        Exit::Code(0) => Ok(()),
        Exit::Code(_) => Err(String::from_utf8_lossy(&why).trim_end().to_owned()),
        Exit::Signal(signal) => Err(format!("the program that handles files was killed by signal {signal}")),
    }
}
