//! The few programs of the host that images are made with: run with a clean environment, their complaints kept.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::error::ImageError;

/// Where they are looked for, whatever the caller's PATH.
pub(super) const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// Settings of the caller that programs which use the network need.
const PROXIES: [&str; 6] = ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

/// A command with nothing of the caller's environment but its proxies; it works in the private folder `scratch`.
pub(super) fn command(tool: &str, scratch: &Path) -> Command {
    let mut command = Command::new(tool);
    command
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .env("HOME", scratch)
        .env("TMPDIR", scratch)
        .current_dir(scratch)
        .stdin(Stdio::null());
    for name in PROXIES {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Checks that a program is there before long work begins.
pub(super) fn require(tool: &'static str, package: &str) -> Result<(), ImageError> {
    if PATH.split(':').any(|folder| Path::new(folder).join(tool).is_file()) {
        return Ok(());
    }
    Err(ImageError::Tool { tool, why: format!("it is not installed: install the package `{package}`") })
}

/// The error of a program that could not be started.
pub(super) fn not_started(tool: &'static str, error: &io::Error) -> ImageError {
    ImageError::Tool { tool, why: format!("it could not be started: {error}") }
}

/// The last lines that a program wrote to its log, at most 2,000 bytes.
pub(super) fn last_words(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(2000)))?;
        let mut bytes = Vec::new();
        file.take(2000).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_else(|error| format!("(its messages can't be read: {error})"))
}

/// Ends a program that is still running, for callers that give up.
pub(super) fn end(child: &mut Child) {
    let ended = matches!(child.try_wait(), Ok(Some(_)));
    if !ended && let Err(error) = child.kill().and_then(|()| child.wait()) {
        tracing::warn!(%error, "a program that images are made with can't be ended");
    }
}
