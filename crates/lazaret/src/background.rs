//! The daemon, started when it isn't running.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use api::{Client, ClientError, Folders};

use crate::failure::{Failure, note};

/// How long a daemon may take until it answers. It first clears up after cells that a crash left behind, and may wait for a person
/// who unlocks a keyring: for that there are 60 s.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// After how long it is said that it is waited for.
const TOLD_AFTER: Duration = Duration::from_secs(5);
const LOG_LINES: usize = 12;

/// Lazaret's folders for this user.
pub(crate) fn folders() -> Result<Folders, Failure> {
    Ok(Folders::from_env(|name| std::env::var_os(name))?)
}

/// Names the socket of somebody else's daemon, which has `shared_socket` in its configuration.
const SOCKET: &str = "LAZARET_SOCKET";

/// The socket of somebody else's daemon, if one is named.
fn shared() -> Result<Option<PathBuf>, Failure> {
    match std::env::var_os(SOCKET).map(PathBuf::from) {
        Some(socket) if socket.is_absolute() => Ok(Some(socket)),
        Some(socket) => {
            Err(Failure::new(format!("{SOCKET} is `{}`, which is no absolute path", socket.display()))
                .hint("unset it to use your own daemon"))
        }
        None => Ok(None),
    }
}

/// A client of the daemon, whether it runs or not.
pub(crate) fn unstarted() -> Result<Client, Failure> {
    Ok(Client::new(match shared()? {
        Some(socket) => socket,
        None => folders()?.socket(),
    }))
}

/// A client of the running daemon, which is started if need be. Somebody else's is not.
pub(crate) async fn client() -> Result<Client, Failure> {
    let client = unstarted()?;
    if shared()?.is_some() {
        return match client.status().await {
            Ok(_) => Ok(client),
            Err(error @ ClientError::Unreachable { .. }) => Err(Failure::new(error.to_string())
                .hint(format!("whoever owns that daemon starts it; unset {SOCKET} to use your own"))),
            Err(error) => Err(error.into()),
        };
    }
    let folders = folders()?;
    match client.status().await {
        Ok(status) if status.version == env!("CARGO_PKG_VERSION") => Ok(client),
        Ok(status) => {
            note(format!(
                "the running daemon is version {}, this is {}",
                status.version,
                env!("CARGO_PKG_VERSION")
            ));
            Ok(client)
        }
        Err(ClientError::Unreachable { .. }) => {
            let (child, log) = start(&folders)?;
            ready(&client, child, &log).await?;
            Ok(client)
        }
        Err(error) => Err(error.into()),
    }
}

/// The daemon's log, from where this daemon's part begins.
struct Log {
    path: PathBuf,
    from: u64,
}

fn start(folders: &Folders) -> Result<(Child, Log), Failure> {
    let log = folders.daemon_log();
    let failed = |e: std::io::Error| {
        Failure::new(format!("the daemon can't be started: `{}`: {e}", log.display()))
            .hint("`lazaret serve` runs it in the foreground and shows what it says")
    };
    DirBuilder::new().recursive(true).mode(0o700).create(&folders.state).map_err(failed)?;
    let out = OpenOptions::new().create(true).append(true).mode(0o600).open(&log).map_err(failed)?;
    let errors = out.try_clone().map_err(failed)?;
    let from = out.metadata().map_err(failed)?.len();
    let program = std::env::current_exe().map_err(failed)?;
    let child = Command::new(program)
        .args(["serve", "--background"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(errors)
        .spawn()
        .map_err(failed)?;
    Ok((child, Log { path: log, from }))
}

async fn ready(client: &Client, mut child: Child, log: &Log) -> Result<(), Failure> {
    let start = Instant::now();
    let mut told = false;
    loop {
        if !told && start.elapsed() > TOLD_AFTER {
            told = true;
            note(format!("waiting for the daemon to start; its log is `{}`", log.path.display()));
        }
        if client.status().await.is_ok() {
            return Ok(());
        }
        let exited = child.try_wait()?;
        // Another command may have started one at the same time: then this one's lost the race for the lock.
        if exited.is_some() && client.status().await.is_ok() {
            return Ok(());
        }
        if let Some(status) = exited {
            return Err(not_ready(&format!("the daemon didn't start ({status})"), log));
        }
        if start.elapsed() > READY_WITHIN {
            return Err(not_ready(
                &format!("the daemon doesn't answer within {} s", READY_WITHIN.as_secs()),
                log,
            ));
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

fn not_ready(what: &str, log: &Log) -> Failure {
    let last = last_lines(log).unwrap_or_else(|e| format!("(its log can't be read: {e})"));
    Failure::new(format!("{what}; its log ends with\n{last}"))
        .hint(format!("the whole log is `{}`", log.path.display()))
}

fn last_lines(log: &Log) -> std::io::Result<String> {
    let mut file = std::fs::File::open(&log.path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096).max(log.from)))?;
    let mut bytes = Vec::new();
    file.take(4096).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n"))
}
