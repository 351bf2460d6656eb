//! Frames of a guest, read with patience that has an end.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use wire::frame::{self, FrameError};

use crate::CutOff;

/// Most bytes of a frame that carries a chunk: the chunk, and its variant and length.
pub(crate) const CHUNK_FRAME: usize = frame::CHUNK + 16;

/// The next frame of the guest: it may take any time to begin, and `patience` from its first byte to its last. `None`
/// when the stream ended between frames.
pub(crate) async fn next<T, R>(from: &mut R, max: usize, patience: Duration) -> Result<Option<T>, CutOff>
where
    T: DeserializeOwned,
    R: AsyncBufRead + Unpin,
{
    // A stream that fails before a frame begins has been reset: the guest let go of it.
    if from.fill_buf().await.map_or(true, <[u8]>::is_empty) {
        return Ok(None);
    }
    match tokio::time::timeout(patience, frame::read(from, max)).await {
        Ok(read) => read.map_err(|error| match error {
            FrameError::Io(_) => CutOff::MidFrame,
            FrameError::Length { .. } | FrameError::Malformed { .. } => CutOff::Frame(error.to_string()),
        }),
        Err(_elapsed) => Err(CutOff::SlowFrame(patience)),
    }
}
