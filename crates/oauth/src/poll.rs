//! Asking again and again whether a person has logged in elsewhere, as RFC 8628 (section 3.5) has it: less often when the
//! server says so or can't be asked, and until the code that the person types is good no longer.

use std::time::Duration;

use tokio::time::Instant;

use crate::OauthError;

/// Between two questions, where nothing is said; at least, and at most.
const USUAL: Duration = Duration::from_secs(5);
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);
/// The longest that a server has us wait once (`retry-after`).
const MOST_TOLD: Duration = Duration::from_secs(5 * 60);
/// Between two words to the person about a server that can't be asked.
const QUIET: Duration = Duration::from_secs(60);

/// Tells a person.
pub(crate) type Tell<'a> = &'a (dyn Fn(String) + Send + Sync);

/// Why there is no answer yet, though there may be one later.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Later {
    /// What went wrong.
    pub(crate) why: OauthError,
    /// Whether it is asked too often.
    pub(crate) too_often: bool,
    /// After how many seconds it may be asked again, where it says so.
    pub(crate) after: Option<u64>,
}

/// When the next question is due.
pub(crate) struct Polling<'a> {
    tell: Tell<'a>,
    good_for: Duration,
    end: Instant,
    between: Duration,
    /// How many questions had no answer since one had, and what was wrong with the last one.
    failed: u32,
    last: Option<OauthError>,
    /// What it said itself of when to ask again.
    told: Duration,
    /// When the person was last told that it can't be asked, and whether they were since it could be.
    noted: Option<Instant>,
    is_noted: bool,
}

impl<'a> Polling<'a> {
    /// Begins now, for a code that is good for so long, with so many seconds between two questions as the server says.
    pub(crate) fn new(good_for: Duration, said: Option<u64>, tell: Tell<'a>) -> Self {
        let between = said.map_or(USUAL, Duration::from_secs).clamp(LEAST, MOST);
        let end = Instant::now() + good_for;
        Self {
            tell,
            good_for,
            end,
            between,
            failed: 0,
            last: None,
            told: Duration::ZERO,
            noted: None,
            is_noted: false,
        }
    }

    /// Waits until the next question is due.
    ///
    /// # Errors
    /// The code has expired.
    pub(crate) async fn due(&mut self) -> Result<(), OauthError> {
        let grown = self.between.saturating_mul(1_u32.checked_shl(self.failed).unwrap_or(u32::MAX));
        let next = Instant::now() + grown.min(MOST).max(self.told);
        // However long that is, it is asked once more before the end.
        let last = self.end.checked_sub(LEAST).unwrap_or(self.end);
        if Instant::now() < last {
            tokio::time::sleep_until(next.min(last)).await;
            return Ok(());
        }
        let minutes = self.good_for.as_secs().div_ceil(60);
        Err(OauthError::Late { minutes, last: self.last.take().map(Box::new) })
    }

    /// Nobody has logged in yet.
    pub(crate) fn not_yet(&mut self) {
        (self.failed, self.last, self.told, self.is_noted) = (0, None, Duration::ZERO, false);
    }

    /// Nobody has, and it is asked too often: less often from now on.
    pub(crate) fn too_often(&mut self) {
        self.not_yet();
        self.slow_down();
    }

    /// It couldn't be asked, or didn't answer.
    pub(crate) fn failed(&mut self, Later { why, too_often, after }: Later) {
        let quiet = self.noted.is_some_and(|noted| noted.elapsed() < QUIET);
        // Once for each time that it can't be asked, however long that is.
        if !self.is_noted && !quiet {
            self.is_noted = true;
            (self.tell)(format!("{why}; it is asked on until the code expires"));
            self.noted = Some(Instant::now());
        }
        if too_often {
            self.slow_down();
        } else {
            self.failed = self.failed.saturating_add(1);
        }
        self.told = after.map_or(Duration::ZERO, Duration::from_secs).min(MOST_TOLD);
        self.last = Some(why);
    }

    fn slow_down(&mut self) {
        self.between = self.between.saturating_add(USUAL).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn later(too_often: bool, after: Option<u64>) -> Later {
        let why = OauthError::Metadata { url: "https://a".to_owned(), why: "answers HTTP 503".to_owned() };
        Later { why, too_often, after }
    }

    /// Seconds until the next question.
    async fn waited(polling: &mut Polling<'_>) -> u64 {
        let before = Instant::now();
        polling.due().await.unwrap();
        before.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_can_not_be_asked_is_asked_less_often_until_it_answers() {
        let tell = |_: String| {};
        let mut polling = Polling::new(Duration::from_secs(1800), Some(5), &tell);
        assert_eq!(waited(&mut polling).await, 5);
        let mut waits = Vec::new();
        for _ in 0..6 {
            polling.failed(later(false, None));
            waits.push(waited(&mut polling).await);
        }
        assert_eq!(waits, [10, 20, 40, 60, 60, 60]);
        polling.not_yet();
        assert_eq!(waited(&mut polling).await, 5);
        // Who says that it is asked too often is asked less often for good.
        polling.too_often();
        assert_eq!(waited(&mut polling).await, 10);
        polling.failed(later(true, None));
        assert_eq!(waited(&mut polling).await, 15);
        polling.not_yet();
        assert_eq!(waited(&mut polling).await, 15);
    }

    #[tokio::test(start_paused = true)]
    async fn what_it_says_of_when_to_ask_again_counts_within_limits() {
        let tell = |_: String| {};
        for (after, expected) in [(0, 10), (7, 10), (90, 90), (u64::MAX, 300)] {
            let mut polling = Polling::new(Duration::from_secs(1800), None, &tell);
            polling.failed(later(false, Some(after)));
            assert_eq!(waited(&mut polling).await, expected, "{after}");
            polling.not_yet();
            assert_eq!(waited(&mut polling).await, 5, "it was said once");
        }
        for (said, expected) in [(0, 1), (2, 2), (u64::MAX, 60)] {
            let mut polling = Polling::new(Duration::from_secs(1800), Some(said), &tell);
            assert_eq!(waited(&mut polling).await, expected, "{said}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_the_code_and_says_what_was_wrong_last() {
        let tell = |_: String| {};
        let begun = Instant::now();
        let mut polling = Polling::new(Duration::from_secs(70), None, &tell);
        polling.failed(later(false, Some(90)));
        // Once more before the end, however long it was to be waited.
        polling.due().await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 69);
        let late = polling.due().await.unwrap_err().to_string();
        assert_eq!(
            late,
            "nobody logged in within 2 minutes (the last time it was asked: `https://a` answers HTTP 503): try again"
        );
        let mut polling = Polling::new(Duration::from_secs(3), None, &tell);
        polling.failed(later(false, None));
        polling.not_yet();
        polling.due().await.unwrap();
        assert_eq!(
            polling.due().await.unwrap_err().to_string(),
            "nobody logged in within 1 minutes: try again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_person_is_told_once_of_each_time_that_it_can_not_be_asked() {
        let told = Mutex::new(Vec::new());
        let tell = |text: String| told.lock().unwrap().push(text);
        let mut polling = Polling::new(Duration::from_secs(1800), Some(1), &tell);
        for _ in 0..5 {
            polling.failed(later(false, None));
            polling.due().await.unwrap();
        }
        // It comes and goes: no more than a word a minute.
        for _ in 0..28 {
            polling.not_yet();
            polling.due().await.unwrap();
            polling.failed(later(false, None));
        }
        assert_eq!(told.lock().unwrap().len(), 2, "{told:?}");
        // One that begins within that minute, and lasts, is told when it is over.
        polling.not_yet();
        tokio::time::sleep(QUIET).await;
        polling.failed(later(false, None));
        polling.not_yet();
        for _ in 0..7 {
            polling.failed(later(false, None));
            polling.due().await.unwrap();
        }
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 4, "{told:?}");
        assert_eq!(told[0], "`https://a` answers HTTP 503; it is asked on until the code expires");
    }
}
