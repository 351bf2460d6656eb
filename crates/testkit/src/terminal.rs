//! A terminal of its own for a shell's commands, as a person has one: what is on it, and keys.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::Lab;

/// A terminal on which a command runs.
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    seen: Arc<Mutex<Vec<u8>>>,
    watcher: JoinHandle<()>,
}

impl Terminal {
    /// Runs this line of a shell, in the lab's environment.
    ///
    /// # Panics
    /// When it can't be run: it is for tests.
    #[must_use]
    pub fn run(lab: &Lab, line: &str) -> Self {
        // script(1) makes the terminal.
        let mut command = Command::new("script");
        command.args(["-qfec", line, "/dev/null"]).env_clear();
        let lab = lab.command(&[]);
        command.envs(lab.get_envs().filter_map(|(name, value)| value.map(|value| (name, value))));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script runs");
        let keys = child.stdin.take().expect("its input");
        let mut screen = child.stdout.take().expect("its output");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let watching = Arc::clone(&seen);
        let watcher = thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut piece) {
                let mut seen = watching.lock().unwrap_or_else(PoisonError::into_inner);
                seen.extend_from_slice(piece.get(..read).unwrap_or_default());
            }
        });
        Self { child, keys, seen, watcher }
    }

    /// All that was sent to it so far.
    #[must_use]
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Types.
    ///
    /// # Panics
    /// When nobody reads.
    pub fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("somebody reads the keys");
    }

    /// Waits for the end, and gives all that was sent to it.
    ///
    /// # Panics
    /// When it can't be waited for.
    #[must_use]
    pub fn end(mut self) -> String {
        self.child.wait().expect("it ends");
        drop(self.keys);
        self.watcher.join().expect("the screen is read");
        String::from_utf8_lossy(&self.seen.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}
