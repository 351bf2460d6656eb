//! The composition root: agents, sessions, and the API that serves them.
//!
//! One task owns each session ([`session`]); requests ([`routes`]) send it messages. All that is known of a session is
//! in its folder ([`journal`], [`shelf`]), so what was shown can be shown again, and a later daemon knows it too.

mod agents;
mod applied;
mod cells;
mod config;
mod error;
mod folders;
mod harness;
mod journal;
mod keeping;
mod listener;
mod mailbox;
mod models;
mod narrowing;
mod outside;
mod reach;
mod routes;
mod secrets;
mod server_cells;
mod servers;
mod session;
mod shelf;

pub use agents::example;
pub use cell::jail_main;
pub use error::DaemonError;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::Folders;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cells::Cells;
use crate::config::Config;
use crate::folders::Held;
use crate::session::{Kept, Sessions};

/// How long sessions may take to stop, and requests to finish, once the daemon is told to end.
const DRAIN_WITHIN: Duration = Duration::from_secs(8);

/// Runs the daemon until SIGTERM or SIGINT: hides its memory, takes the lock, clears up after a crash, listens, serves,
/// stops sessions in order, drains. A vault that wants a passphrase, and finds none in the environment, has it asked
/// for.
///
/// # Errors
/// When it can't start: another daemon runs, the configuration has a mistake, a folder can't be used.
pub async fn serve(folders: Folders, ask_passphrase: fn() -> Option<String>) -> Result<(), DaemonError> {
    secrets::hide_memory()?;
    let mut held = Held::take(&folders)?;
    let config = Config::read(&folders.config)?;
    let file = std::env::var_os(secrets::PASSPHRASE_FILE).map(PathBuf::from);
    let command = config.vault.passphrase_command.as_deref();
    let passphrase = secrets::Passphrase { file: file.as_deref(), command, ask: &ask_passphrase };
    let vault = Arc::new(secrets::open(&folders.state.join("vault"), passphrase).await?);
    let dialer = outside::dialer(&config, &vault)?;
    let host = Arc::new(Cells::open(&folders, &config, dialer.clone())?);
    let store = keeping::open(&folders.state.join("store")).await?;
    let lender = keeping::lender(vault, &dialer, &store);
    let outside = outside::outside(&config, dialer.clone(), &lender);
    let models = models::service(&config, &lender, &dialer, |name| std::env::var(name).ok())?;
    let shared = config.shared_socket.clone();
    let sessions =
        Arc::new(Sessions::open(&folders, config, host, (models, outside), Kept { store, lender })?);
    sessions.know_people().await?;
    let mut listeners = vec![held.listen(sessions.people())?];
    if let Some(shared) = &shared {
        listeners.push(held.share(shared, sessions.people())?);
        tracing::info!(socket = %shared.display(), "listening for the host's other people");
    }
    tracing::info!(socket = %held.socket().display(), version = env!("CARGO_PKG_VERSION"), "listening");

    let stop = CancellationToken::new();
    let mut servers = JoinSet::new();
    for listener in listeners {
        let router = routes::router(&sessions).into_make_service_with_connect_info::<routes::Peer>();
        let server = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        servers.spawn(std::future::IntoFuture::into_future(server));
    }
    let resting = tokio::spawn(Arc::clone(&sessions).rest_servers());
    told_to_end(&sessions.end).await?;

    tracing::info!("ending: stopping sessions");
    let drained = async {
        sessions.stop_all().await;
        stop.cancel();
        if let Err(panicked) = resting.await {
            tracing::error!(%panicked, "idle tool servers were not looked after");
        }
        while let Some(ended) = servers.join_next().await {
            match ended {
                Ok(outcome) => outcome?,
                Err(panicked) => tracing::error!(%panicked, "a server failed"),
            }
        }
        Ok::<(), std::io::Error>(())
    };
    match tokio::time::timeout(DRAIN_WITHIN, drained).await {
        Ok(outcome) => outcome?,
        Err(_) => tracing::warn!("some sessions or requests did not end in time; the next start clears up"),
    }
    // Nobody is listened to any more, also where that was not come to.
    stop.cancel();
    sessions.close().await?;
    tracing::info!("ended");
    drop(held);
    Ok(())
}

async fn told_to_end(asked: &CancellationToken) -> Result<(), DaemonError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = asked.cancelled() => {}
    }
    Ok(())
}
