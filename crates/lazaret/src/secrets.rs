//! `lazaret secret`: what agents may use and never see. The bytes go from here to the daemon, and come back nowhere.

use std::fs::File;
use std::io::{self, BufRead as _, IsTerminal as _, Read, Write as _};
use std::process::{Command, Stdio};

use api::{NewSecret, Revocation, RotateRequest, SecretText, SecretView};
use domain::{How, SecretBinding, SecretName};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::zeroize::Zeroizing;

use crate::args::{SecretCommand, SecretFrom, SecretSetArgs};
use crate::failure::{Failure, Outcome, note};
use crate::ledger::time;
use crate::output::{print_json, print_table};
use crate::terminal::escape;
use crate::{background, logins};

/// Most bytes that are read; the daemon takes a few less.
const MAX: u64 = 64 << 10;

/// One of them.
pub(crate) async fn command(command: SecretCommand) -> Outcome {
    match command {
        SecretCommand::Set(args) => set(args).await,
        SecretCommand::Login(args) => logins::command(*args).await,
        SecretCommand::Ls { json } => ls(json).await,
        SecretCommand::Rotate { name, from } => {
            let value = bytes(&from, name.as_str())?;
            background::client().await?.rotate_secret(&name, &RotateRequest { value }).await?;
            note(format!("{name} has new bytes; the next request carries them"));
            Ok(0)
        }
        SecretCommand::Rm { name } => {
            let before = background::client().await?.remove_secret(&name).await?;
            note(format!("{name} is removed"));
            tell(before);
            Ok(0)
        }
    }
}

async fn set(args: SecretSetArgs) -> Outcome {
    let SecretSetArgs { name, to, how, methods, from } = args;
    let bind = |to| SecretBinding { to, methods: methods.iter().cloned().collect(), how: how.clone() };
    let bindings: Vec<SecretBinding> = to.into_iter().map(bind).collect();
    // Before anybody is asked for it.
    bindings.iter().try_for_each(|binding| binding.check(false)).map_err(|e| Failure::new(e.to_string()))?;
    let value = bytes(&from, name.as_str())?;
    let before = background::client().await?.set_secret(&name, &NewSecret { value, bindings }).await?;
    note(match how {
        How::Proxy(_) => format!(
            "{name} is stored; `proxy_credential = \"secret:{name}\"` in [network] of config.toml has it used when the daemon starts"
        ),
        How::Bearer | How::Basic(_) | How::Header(_) | How::Password => {
            format!("{name} is stored; an agent may use it with [secrets] in agent.toml")
        }
    });
    tell(before);
    Ok(0)
}

/// What became of the log-in that was there before, at who gave it.
pub(crate) fn tell(before: Revocation) {
    match before {
        Revocation::None => {}
        Revocation::Done { issuer, beside } => {
            note(format!("its log-in is revoked at {}", escape(&issuer)));
            if !beside.is_empty() {
                let names: Vec<&str> = beside.iter().map(SecretName::as_str).collect();
                note(format!(
                    "of the same client there: {}; some servers end all log-ins of a client with one, so log in anew where one is refused",
                    names.join(", ")
                ));
            }
        }
        Revocation::Failed { issuer, why } => note(format!(
            "its log-in is not revoked, so end it at {} yourself if somebody may have its tokens: {}",
            escape(&issuer),
            escape(&why)
        )),
    }
}

/// Of which log-in a secret comes.
fn of_login(secret: &SecretView) -> String {
    let Some(login) = &secret.login else { return "-".to_owned() };
    let until = login.expires.map_or_else(String::new, |end| format!(", until {}", time(end)));
    let then = if login.renews { "" } else { ", not renewed" };
    escape(&format!("{} ({}){until}{then}", login.issuer, login.scopes.join(" ")))
}

async fn ls(json: bool) -> Outcome {
    let secrets = background::client().await?.secrets().await?;
    if json {
        return print_json(&secrets);
    }
    let row = |secret: &SecretView| {
        let places: Vec<String> = secret.bindings.iter().map(ToString::to_string).collect();
        [secret.name.to_string(), places.join("; "), time(secret.rotated), of_login(secret)]
    };
    print_table(["SECRET", "MAY GO TO", "CHANGED", "LOG-IN"], &secrets.iter().map(row).collect::<Vec<_>>())
}

/// The secret's bytes, without the line break that files and commands end with.
pub(crate) fn bytes(from: &SecretFrom, name: &str) -> Result<SecretText, Failure> {
    let mut text = match (&from.from_file, &from.from_command) {
        (Some(path), _) => {
            let file = File::open(path).map_err(|e| Failure::new(format!("`{}`: {e}", path.display())))?;
            read(file, &path.display().to_string())?
        }
        (None, Some(command)) => printed(command)?,
        (None, None) if io::stdin().is_terminal() => typed(&format!("{name}: "))?,
        (None, None) => read(io::stdin(), "standard input")?,
    };
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err(Failure::new("there is no secret: nothing was given")
            .hint("type it, pipe it in, or say --from-file or --from-command"));
    }
    Ok(SecretText(text))
}

fn read(from: impl Read, what: &str) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    let read = from.take(MAX.saturating_add(3)).read_to_string(&mut text);
    read.map_err(|e| Failure::new(format!("no secret can be read from {what}: {e}")))?;
    if text.len() as u64 > MAX.saturating_add(2) {
        return Err(Failure::new(format!("{what} holds more than a secret may: 64 KiB")));
    }
    Ok(text)
}

/// What a command prints, as a shell runs it. Nothing but its standard output is taken.
fn printed(command: &str) -> Result<Zeroizing<String>, Failure> {
    let failed = |why: String| Failure::new(format!("`{command}` gave no secret: {why}"));
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    let out = child.stdout.take().ok_or_else(|| failed("it has no output".to_owned()))?;
    let text = read(out, "its output")?;
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    if status.success() { Ok(text) } else { Err(failed(status.to_string())) }
}

/// A line that a person types and nobody sees.
pub(crate) fn typed(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let unseen = Unseen::enter(&terminal)?;
    let mut out = &terminal;
    write!(out, "{prompt}")?;
    let mut text = Zeroizing::new(String::with_capacity(4096));
    io::BufReader::new((&terminal).take(MAX)).read_line(&mut text)?;
    drop(unseen);
    writeln!(out)?;
    Ok(text)
}

/// A terminal that shows nothing of what is typed, while this lives.
struct Unseen<'t> {
    terminal: &'t File,
    before: Termios,
}

impl<'t> Unseen<'t> {
    fn enter(terminal: &'t File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Unseen<'_> {
    fn drop(&mut self) {
        if tcsetattr(self.terminal, OptionalActions::Flush, &self.before).is_err() {
            eprintln!("lazaret: the terminal could not be restored: type `reset`");
        }
    }
}
