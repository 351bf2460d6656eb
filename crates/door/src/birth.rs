//! The channel before it is a mux: the guest gets its seed, the time and its name, and says that it is born.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_bytes::ByteArray;
use tokio::io::{AsyncRead, AsyncWrite};
use wire::early::{Answer, Birth, Question, VERSION};
use wire::frame::{self, SMALL};

use crate::{CutOff, DoorError};

/// Most bytes of a boot id, which is a UUID as text.
const MAX_BOOT_ID: usize = 64;

/// Gives the guest its birth and waits for its answer: its boot id.
pub(crate) async fn bear<Io>(
    channel: &mut Io,
    host_name: String,
    patience: Duration,
) -> Result<String, DoorError>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let unix_nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let birth = Birth {
        seed: ByteArray::new(random()?),
        unix_nanos: u64::try_from(unix_nanos).unwrap_or(u64::MAX),
        machine_id: ByteArray::new(random()?),
        host_name,
    };
    let exchange = async {
        frame::write(channel, &Question::Birth(birth), SMALL)
            .await
            .map_err(|error| CutOff::Unborn(error.to_string()))?;
        frame::read::<Answer, _>(channel, SMALL).await.map_err(|error| CutOff::Unborn(error.to_string()))
    };
    let answer = tokio::time::timeout(patience, exchange)
        .await
        .map_err(|_elapsed| CutOff::Unborn(format!("no answer within {} s", patience.as_secs_f32())))??;
    match answer {
        Some(Answer::Born { version: VERSION, boot_id }) if is_boot_id(&boot_id) => Ok(boot_id),
        Some(Answer::Born { version, .. }) if version != VERSION => Err(CutOff::Unborn(format!(
            "it speaks version {version} where {VERSION} is spoken here: guest and host must come from one build"
        ))
        .into()),
        Some(Answer::Born { .. }) => Err(CutOff::Unborn("its boot id is not one".to_owned()).into()),
        Some(Answer::Failed { why }) => Err(CutOff::Unborn(why).into()),
        Some(Answer::Hello { .. }) => Err(CutOff::Unborn("it answered another question".to_owned()).into()),
        None => Err(CutOff::Unborn("the channel closed".to_owned()).into()),
    }
}

fn is_boot_id(text: &str) -> bool {
    text.len() <= MAX_BOOT_ID && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// Fresh bytes from the kernel, by system call: there is no file system here.
fn random<const N: usize>() -> Result<[u8; N], DoorError> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())
            .map_err(std::io::Error::from)?;
    }
    Ok(bytes)
}
