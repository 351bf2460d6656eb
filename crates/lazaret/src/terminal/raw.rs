//! A terminal in raw mode, given back on every way out, a panic included.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;

use api::TerminalSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::safe::Safe;

/// The person's terminal, lent to an agent while this lives.
pub(crate) struct RawTerminal {
    terminal: File,
    before: Termios,
}

impl RawTerminal {
    /// Lends the terminal that standard input is.
    ///
    /// # Errors
    /// When standard input or output is no terminal.
    pub(crate) fn enter() -> io::Result<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "standard input and output are no terminal",
            ));
        }
        let terminal = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Flush, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let mut out = io::stdout();
        let shown = out.write_all(Safe::RESET).and_then(|()| out.flush());
        // What came in late (a mouse report, a pasted line) is not for the shell: flushed with the change.
        let restored = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
        if shown.is_err() || restored.is_err() {
            eprintln!("lazaret: the terminal could not be restored: type `reset`");
        }
    }
}

/// The terminal's size, or the usual one where it can't be told.
pub(crate) fn size() -> TerminalSize {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            TerminalSize { rows: size.ws_row, columns: size.ws_col }
        }
        Ok(_) | Err(_) => TerminalSize { rows: 24, columns: 80 },
    }
}
