//! The acts of `lazaret demo`: an agent that repairs a program, and one that tries to get out. Neither needs a key or
//! an account, since the model behind them is [`scripted`].
//!
//! Everything happens as it would for a person: in folders of the demo's own, a daemon is started from the `lazaret`
//! program, and each act is a `lazaret run`. Only kernels, images and templates are shared with the person's own.

pub mod report;
pub mod scripted;

mod aftermath;
mod attack;
#[cfg(test)]
mod breaches;
mod fixer;
mod layers;
mod stage;
mod table;

use std::path::PathBuf;

pub use layers::{Ground, guest_root};
use report::{Outcome, Report};
use serde::Serialize;
use stage::{Stage, Voice};

/// How the demo is played.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `lazaret` program; `lazaret-hostile` lies beside it.
    pub program: PathBuf,
    /// Also try the attacks against single layers.
    pub layers: bool,
    /// One JSON document on standard output instead of a table.
    pub json: bool,
}

/// Why the demo could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file or process of the demo's own failed.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The daemon did not start.
    #[error("the daemon doesn't answer; the end of its log:\n{0}")]
    Daemon(String),
    /// The API failed.
    #[error(transparent)]
    Api(#[from] api::ClientError),
    /// An act ended otherwise than it must.
    #[error("{0}")]
    Act(String),
    /// It took too long.
    #[error("{0} took longer than 30 minutes")]
    TooLong(String),
    /// A person stopped it.
    #[error("stopped")]
    Interrupted,
}

/// What the demo showed.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// The patch with which the agent made the failing test pass.
    pub patch: String,
    /// What became of the attacks, by the place of the attacker.
    pub attacks: Vec<Attacks>,
    /// Whether every attack was stopped.
    pub contained: bool,
}

/// The attacks from one place.
#[derive(Debug, Clone, Serialize)]
pub struct Attacks {
    /// Where the attacker stood.
    pub place: &'static str,
    /// Each attack.
    pub reports: Vec<Report>,
}

/// Plays the demo and says whether every attack was stopped.
///
/// # Errors
/// As [`DemoError`] says. What was started is ended in every case.
pub async fn run(options: &Options) -> Result<bool, DemoError> {
    let voice = Voice { quiet: options.json };
    let stage = Stage::set(&options.program, voice).await?;
    let shown = tokio::select! {
        shown = play(&stage, options) => shown,
        _signal = tokio::signal::ctrl_c() => Err(DemoError::Interrupted),
    };
    let struck = stage.strike().await;
    let shown = shown?;
    struck?;
    if options.json {
        let text = serde_json::to_string_pretty(&shown).unwrap_or_default();
        stage::print(&text)?;
    }
    Ok(shown.contained)
}

async fn play(stage: &Stage, options: &Options) -> Result<Shown, DemoError> {
    stage.voice.title("1. An agent at work")?;
    let patch = fixer::play(stage).await?;
    stage.voice.title("2. A hostile agent")?;
    let mut attacks = vec![attack::play(stage, "container", "in the container, against everything").await?];
    if options.layers {
        stage.voice.title("3. The container alone: from the container against the guest")?;
        attacks.push(attack::play(stage, "from-container", "in the container, against the guest").await?);
        stage.voice.title("4. The VM and the door alone: as root of the guest")?;
        attacks.push(layers::play(stage).await?);
    }
    let reports = || attacks.iter().flat_map(|a| &a.reports);
    let contained = reports().all(|r| matches!(r.outcome, Outcome::Blocked | Outcome::NotApplicable));
    let count = |outcome| reports().filter(|r| r.outcome == outcome).count();
    let failed = count(Outcome::Breached) + count(Outcome::Failed) + count(Outcome::Left);
    stage.voice.say(&format!(
        "\n{} attacks blocked, {failed} not, {} can't be tried here.",
        count(Outcome::Blocked),
        count(Outcome::NotApplicable)
    ))?;
    Ok(Shown { patch, attacks, contained })
}
