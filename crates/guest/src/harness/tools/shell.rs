//! The tool that runs a command: bounded in time and output, and nothing of its process group outlives it.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a command may run when the model doesn't say.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest that the model may allow.
pub(super) const MAX_TIMEOUT: Duration = Duration::from_secs(1800);
/// How long output is still read when the command has ended but something holds its pipe.
const LINGER: Duration = Duration::from_millis(500);
/// Most bytes kept of each end of the output.
const KEEP: usize = 16 * 1024;

/// Runs `command` in `folder` and gives its output, standard output and error as they came, and how it ended.
pub(super) async fn run(command: &str, folder: &Path, limit: Duration) -> Result<String, String> {
    let (child, mut from) = start(command, folder).map_err(|e| format!("can't run a shell: {e}"))?;
    let mut group = Group::of(child);
    let mut output = Output::default();
    let ended = {
        let reading = output.read(&mut from);
        tokio::pin!(reading);
        let waiting = async {
            tokio::select! {
                status = group.child.wait() => status,
                // The pipe closed first: what is left is to wait.
                _end = &mut reading => group.child.wait().await,
            }
        };
        timeout(limit, waiting).await
    };
    group.kill();
    // What the group wrote last is still in the pipe; who left the group may hold it open.
    let _lingered = timeout(LINGER, output.read(&mut from)).await.is_err();
    match ended {
        Ok(Ok(status)) => Ok(output.with(&outcome(status))),
        Ok(Err(e)) => Err(output.with(&format!("waiting for it failed: {e}"))),
        Err(_elapsed) => Err(output.with(&format!("killed: it ran longer than {} s", limit.as_secs()))),
    }
}

fn start(command: &str, folder: &Path) -> io::Result<(Child, pipe::Receiver)> {
    let (from, to) = io::pipe()?;
    let child = Command::new("/bin/sh")
        .args(["-c", command])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(to.try_clone()?)
        .stderr(to)
        .process_group(0)
        .spawn()?;
    Ok((child, pipe::Receiver::from_owned_fd(from.into())?))
}

fn outcome(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// A running command and its process group, which is killed when this is dropped.
struct Group {
    child: Child,
    group: Option<Pid>,
}

impl Group {
    fn of(child: Child) -> Self {
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Self { child, group }
    }

    /// Kills what is left of the group. The number can't belong to another group yet: while a member lives it is
    /// taken, and when none does there is a moment's chance only.
    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            match killpg(group, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(e) => super::super::progress(&format!("can't kill a command's process group: {e}")),
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Both ends of what a command printed.
#[derive(Default)]
struct Output {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    left_out: usize,
}

impl Output {
    /// Reads to the end. May be dropped and called again: nothing read is lost.
    async fn read(&mut self, from: &mut pipe::Receiver) -> io::Result<()> {
        let mut buffer = [0_u8; 8192];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            self.take(buffer.get(..read).unwrap_or_default());
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = KEEP.saturating_sub(self.head.len()).min(bytes.len());
        let (head, rest) = bytes.split_at(room);
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(KEEP);
        self.tail.drain(..over);
        self.left_out = self.left_out.saturating_add(over);
    }

    /// The output with a last line.
    fn with(mut self, last: &str) -> String {
        let mut text = String::from_utf8_lossy(&self.head).into_owned();
        if self.left_out > 0 {
            text.push_str(&format!("\n[… {} bytes left out …]\n", self.left_out));
        }
        text.push_str(&String::from_utf8_lossy(self.tail.make_contiguous()));
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&format!("[{last}]"));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(command: &str, limit: Duration) -> Result<String, String> {
        run(command, Path::new("/"), limit).await
    }

    #[tokio::test]
    async fn output_and_exit_code_are_given() {
        let out = sh("echo one; echo two >&2; exit 3", DEFAULT_TIMEOUT).await;
        assert_eq!(out, Ok("one\ntwo\n[exit code 3]".to_owned()));
        assert_eq!(sh("kill -9 $$", DEFAULT_TIMEOUT).await, Ok("[ended by signal 9]".to_owned()));
    }

    #[tokio::test]
    async fn a_command_that_runs_too_long_is_killed_with_its_children() {
        let out = sh("sleep 1000 & echo $!; wait", Duration::from_millis(300)).await.expect_err("a timeout");
        assert!(out.contains("killed: it ran longer"), "{out}");
        let pid: i32 = out.lines().next().and_then(|l| l.parse().ok()).expect("a pid");
        assert!(is_gone(pid), "{pid} still runs");
    }

    #[tokio::test]
    async fn what_a_command_leaves_in_the_background_is_killed() {
        let out = sh("sleep 1000 & echo $!", DEFAULT_TIMEOUT).await.expect("output");
        let pid: i32 = out.lines().next().and_then(|l| l.parse().ok()).expect("a pid");
        assert!(is_gone(pid), "{pid} still runs");
    }

    #[tokio::test]
    async fn an_interrupted_call_kills_its_command() {
        let file = std::env::temp_dir().join(format!("lazaret-shell-{}", std::process::id()));
        let command = format!("echo $$ > {}; sleep 1000", file.display());
        assert!(timeout(Duration::from_millis(500), sh(&command, DEFAULT_TIMEOUT)).await.is_err());
        let pid: i32 = std::fs::read_to_string(&file).expect("a file").trim().parse().expect("a pid");
        std::fs::remove_file(&file).expect("removed");
        assert!(is_gone(pid), "{pid} still runs");
    }

    #[tokio::test]
    async fn only_the_ends_of_a_long_output_are_kept() {
        let out = sh("echo start; head -c 3000000 /dev/zero | tr '\\0' x; echo end", DEFAULT_TIMEOUT).await;
        let out = out.expect("output");
        assert!(out.starts_with("start") && out.contains("left out") && out.contains("end\n[exit code 0]"));
        assert!(out.len() < 3 * KEEP);
    }

    /// Whether the process is gone or a zombie that waits for its parent.
    fn is_gone(pid: i32) -> bool {
        (0..200).any(|_| {
            std::thread::yield_now();
            match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
                Err(_) => true,
                Ok(stat) => {
                    let dead = stat.contains(") Z ") || stat.contains(") X ");
                    if !dead {
                        std::thread::park_timeout(Duration::from_millis(10));
                    }
                    dead
                }
            }
        })
    }
}
