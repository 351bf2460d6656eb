//! Frames: a little-endian `u32` length, then so many bytes of one postcard value. Every reader names its own limit.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Most bytes in a frame of small messages (heads, control).
pub const SMALL: usize = 64 * 1024;

/// Most bytes of payload in one frame of a data stream (standard streams, file content).
pub const CHUNK: usize = 32 * 1024;

/// Most bytes in a frame that carries a model request.
pub const LARGE: usize = 32 * 1024 * 1024;

/// Why a frame could not be read or written. The peer is at fault unless it is `Io`.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed or ended in mid-frame.
    #[error("the stream ended or failed in mid-frame")]
    Io(#[from] std::io::Error),
    /// The length at the front passes the reader's limit, or is zero.
    #[error("a frame of {found} bytes where 1 to {max} are allowed")]
    Length {
        /// Bytes announced.
        found: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The bytes are not the expected message.
    #[error("a frame that is not a {expected}: {why}")]
    Malformed {
        /// The Rust name of the message expected, for logs.
        expected: &'static str,
        /// What the decoder said.
        why: String,
    },
}

/// Decodes one message from exactly these bytes: rest bytes are an error.
///
/// # Errors
/// [`FrameError::Malformed`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    let malformed = |why: String| FrameError::Malformed { expected: std::any::type_name::<T>(), why };
    let (message, rest) = postcard::take_from_bytes(bytes).map_err(|e| malformed(e.to_string()))?;
    if rest.is_empty() { Ok(message) } else { Err(malformed(format!("{} bytes too many", rest.len()))) }
}

/// Encodes one message with its length in front.
///
/// # Errors
/// When it would be longer than `max`.
pub fn encode<T: Serialize>(message: &T, max: usize) -> Result<Vec<u8>, FrameError> {
    let out = postcard::to_extend(message, vec![0_u8; 4])
        .map_err(|e| FrameError::Malformed { expected: std::any::type_name::<T>(), why: e.to_string() })?;
    let found = out.len().saturating_sub(4);
    let length =
        u32::try_from(found).ok().filter(|_| found <= max).ok_or(FrameError::Length { found, max })?;
    let mut out = out;
    for (to, from) in out.iter_mut().zip(length.to_le_bytes()) {
        *to = from;
    }
    Ok(out)
}

/// Reads one frame; `None` when the stream ended before its first byte.
///
/// # Errors
/// As [`FrameError`] says. Memory grows with what has arrived, never with what was announced.
pub async fn read<T, R>(from: &mut R, max: usize) -> Result<Option<T>, FrameError>
where
    T: DeserializeOwned,
    R: AsyncRead + Unpin + ?Sized,
{
    read_by_kind(from, max, |_| max).await
}

/// Reads one frame of an enum. None may be longer than `longest`; how long this one may be is said by its first byte, the
/// number of its variant.
///
/// # Errors
/// As [`read`].
pub async fn read_by_kind<T, R>(
    from: &mut R,
    longest: usize,
    max: impl FnOnce(u8) -> usize + Send,
) -> Result<Option<T>, FrameError>
where
    T: DeserializeOwned,
    R: AsyncRead + Unpin + ?Sized,
{
    let mut length = [0_u8; 4];
    if from.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut length[1..]).await?;
    let found = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if found == 0 || found > longest {
        return Err(FrameError::Length { found, max: longest });
    }
    let kind = from.read_u8().await?;
    let max = max(kind);
    if found > max {
        return Err(FrameError::Length { found, max });
    }
    let mut body = Vec::with_capacity(found.min(SMALL));
    body.push(kind);
    let rest = found.saturating_sub(1);
    let read = from.take(rest as u64).read_to_end(&mut body).await?;
    if read < rest {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    decode(&body).map(Some)
}

/// Writes one frame and flushes.
///
/// # Errors
/// As [`FrameError`] says.
pub async fn write<T, W>(to: &mut W, message: &T, max: usize) -> Result<(), FrameError>
where
    T: Serialize,
    W: AsyncWrite + Unpin + ?Sized,
{
    to.write_all(&encode(message, max)?).await?;
    to.flush().await?;
    Ok(())
}
