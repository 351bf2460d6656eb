//! What a person is shown while an image is made.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A step of the work, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is being done, such as `unpacking packages`.
    pub what: String,
    /// How much of it is done, in bytes or pieces.
    pub done: u64,
    /// How much there is to do, where that is known.
    pub total: Option<u64>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.total {
            Some(total) if total > 0 => {
                write!(f, "{}: {} %", self.what, self.done.saturating_mul(100) / total)
            }
            _ => f.write_str(&self.what),
        }
    }
}

/// Is told of each step. Called from several threads, a few times a second at most.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(&Step) + Send + Sync>);

impl Progress {
    /// Tells `listener`.
    pub fn new(listener: impl Fn(&Step) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    /// Tells nobody.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(|_| {})
    }

    /// A step without measure.
    pub(super) fn say(&self, what: &str) {
        (self.0)(&Step { what: what.to_owned(), done: 0, total: None });
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// Reports one measured step, not more often than people can read.
pub(super) struct Reporter {
    progress: Progress,
    step: Step,
    told: Instant,
}

impl Reporter {
    const PAUSE: Duration = Duration::from_millis(250);

    /// Begins the step.
    pub(super) fn new(progress: &Progress, what: &str, total: Option<u64>) -> Self {
        let step = Step { what: what.to_owned(), done: 0, total };
        (progress.0)(&step);
        Self { progress: progress.clone(), step, told: Instant::now() }
    }

    /// So much more is done.
    pub(super) fn add(&mut self, done: u64) {
        self.step.done = self.step.done.saturating_add(done);
        if self.told.elapsed() >= Self::PAUSE {
            self.told = Instant::now();
            (self.progress.0)(&self.step);
        }
    }
}
