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
/// Most bytes in all that a registry says of the packages of one image.
const MAX_DOCUMENTS: u64 = 512 << 20;
/// Most bytes in all archives together.
const MAX_ARCHIVES: u64 = 2 << 30;
/// Questions to a registry at a time.
const AT_A_TIME: usize = 6;
/// How long finding packages may take, and how long downloading them.
const WITHIN: Duration = Duration::from_secs(30 * 60);

/// How many bytes may still come for one image.
#[derive(Debug)]
pub(super) struct Budget {
    what: &'static str,
    most: u64,
    spent: AtomicU64,
}

impl Budget {
    /// For what the registry says.
    pub(super) fn of_documents() -> Self {
        Self { what: "the descriptions of its packages", most: MAX_DOCUMENTS, spent: AtomicU64::new(0) }
    }

    /// For archives.
    pub(super) fn of_archives() -> Self {
        Self { what: "its packages", most: MAX_ARCHIVES, spent: AtomicU64::new(0) }
    }

    /// So many bytes came.
    ///
    /// # Errors
    /// That they were too many, for people.
    pub(super) fn spend(&self, bytes: u64) -> Result<(), String> {
        let before = self.spent.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.most {
            return Err(format!("{} have more than {} MiB together", self.what, self.most >> 20));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_packages_have_together_is_bounded() {
        for (budget, most) in [(Budget::of_documents(), MAX_DOCUMENTS), (Budget::of_archives(), MAX_ARCHIVES)]
        {
            assert!(budget.spend(most - 1).is_ok() && budget.spend(1).is_ok());
            assert!(budget.spend(1).unwrap_err().contains("MiB together"));
        }
    }
}
