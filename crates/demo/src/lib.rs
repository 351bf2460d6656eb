//! The acts of `lazaret demo`: an agent that repairs a program, one that obeys a stranger's mail, one with keys that it
//! can't find, and one that tries to get out. None needs a key or an account, since the model behind them is [`scripted`], and so is the mailbox.
//!
//! Everything happens as it would for a person: in folders of the demo's own, a daemon is started from the `lazaret`
//! program, and each act is a `lazaret run`. Only kernels, images and templates are shared with the person's own.

pub mod report;
pub mod scripted;

mod aftermath;
mod attack;
#[cfg(test)]
mod breaches;
mod courier;
mod fixer;
mod git_host;
mod layers;
mod mail;
mod mail_host;
mod mailbox;
mod outside;
mod stage;
mod table;
mod tls;

use std::path::PathBuf;

pub use courier::{Attempt, Errand, Fate};
pub use git_host::{GitHost, HOST as GIT_HOST, USER as GIT_USER};
pub use layers::{Ground, guest_root};
pub use mail::Stopped;
pub use mailbox::Mailbox;
use report::{Outcome, Report};
use serde::Serialize;
use stage::{Stage, Voice};

/// How many acts there are without those for single layers.
pub const ACTS: u8 = 4;

/// How the demo is played.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `lazaret` program; `lazaret-hostile` lies beside it.
    pub program: PathBuf,
    /// Also try the attacks against single layers.
    pub layers: bool,
    /// Only this act, from 1 to [`ACTS`].
    pub act: Option<u8>,
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
    pub patch: Option<String>,
    /// How a mail that asks for the inbox was stopped.
    pub mail: Option<Stopped>,
    /// What an agent did with keys that it can't find, and how it was kept from more.
    pub errand: Option<Errand>,
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
    let plays = |act: u8| options.act.is_none_or(|only| only == act);
    let (mut patch, mut mail, mut errand, mut attacks) = (None, None, None, Vec::new());
    if plays(1) {
        stage.voice.title("1. An agent at work")?;
        patch = Some(fixer::play(stage).await?);
    }
    if plays(2) {
        stage.voice.title("2. A mail that asks for the inbox")?;
        mail = Some(mail::play(stage).await?);
    }
    if plays(3) {
        stage.voice.title("3. Keys that the agent can't find")?;
        errand = Some(courier::play(stage).await?);
    }
    if plays(4) {
        stage.voice.title("4. A hostile agent")?;
        attacks.push(attack::play(stage, "container", "in the container, against everything").await?);
    }
    if options.layers {
        stage.voice.title("5. The container alone: from the container against the guest")?;
        attacks.push(attack::play(stage, "from-container", "in the container, against the guest").await?);
        stage.voice.title("6. The VM and the door alone: as root of the guest")?;
        attacks.push(layers::play(stage).await?);
    }
    if attacks.is_empty() {
        return Ok(Shown { patch, mail, errand, attacks, contained: true });
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
    Ok(Shown { patch, mail, errand, attacks, contained })
}
