//! What images of packages have in common, whichever registry the packages come from: their limits, and several questions at a
//! time.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt as _, TryStreamExt as _};

use super::error::ImageError;
use super::progress::{Progress, Reporter};

/// Most bytes in what a registry says of one package.
pub(super) const MAX_DOCUMENT: u64 = 32 << 20;
/// Most bytes in the archive of one package.
pub(super) const MAX_ARCHIVE: u64 = 256 << 20;
/// Most bytes in all archives together.
const MAX_ARCHIVES: u64 = 2 << 30;
/// Questions to a registry at a time.
const AT_A_TIME: usize = 6;
/// How long finding packages may take, and how long downloading them.
const WITHIN: Duration = Duration::from_secs(30 * 60);

/// What the archives of one image may still have, in bytes.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicU64);

impl Budget {
    /// An archive of so many bytes came.
    ///
    /// # Errors
    /// That it was one too many, for people.
    pub(super) fn spend(&self, bytes: u64) -> Result<(), String> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > MAX_ARCHIVES {
            return Err(format!("its packages have more than {} MiB together", MAX_ARCHIVES >> 20));
        }
        Ok(())
    }
}

/// Long work that does not go on for ever.
pub(super) async fn in_time<T>(
    work: impl Future<Output = Result<T, ImageError>>,
    refuse: impl FnOnce(String) -> ImageError,
) -> Result<T, ImageError> {
    let late = || refuse(format!("it was not here within {} min", WITHIN.as_secs() / 60));
    tokio::time::timeout(WITHIN, work).await.map_err(|_| late())?
}

/// Asks several questions at a time, and gives all answers.
pub(super) async fn answers<T>(
    asked: Vec<impl Future<Output = Result<T, ImageError>>>,
) -> Result<Vec<T>, ImageError> {
    few_at_a_time(asked).try_collect().await
}

/// Downloads several packages at a time.
pub(super) async fn download(
    asked: Vec<impl Future<Output = Result<(), ImageError>>>,
    progress: &Progress,
) -> Result<(), ImageError> {
    let mut reporter = Reporter::new(progress, "downloading packages", Some(asked.len() as u64));
    let mut done = pin!(few_at_a_time(asked));
    while let Some(one) = done.next().await {
        one?;
        reporter.add(1);
    }
    Ok(())
}

fn few_at_a_time<F: Future>(asked: Vec<F>) -> impl Stream<Item = F::Output> {
    futures::stream::iter(asked).buffer_unordered(AT_A_TIME)
}
