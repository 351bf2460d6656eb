//! `lazaret run`: one session, from the agent's name to the patch.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use api::{AgentFiles, AgentRef, Client, NewSession, StartOptions};
use domain::{AgentFile, EndReason, SessionId};
use policy::MAX_CEDAR;

use crate::args::{RunArgs, WorkspaceArgs};
use crate::background;
use crate::failure::{Failure, Outcome, note};
use crate::live::{End, How, Interrupt, live};
use crate::terminal::{escape, size};
use crate::workspace::{self, Changes, Collected, Root, Tree};

/// Runs one session.
pub(crate) async fn run(args: RunArgs) -> Outcome {
    let agent = agent(&args.agent)?;
    let collected = args.workspace.workspace.as_deref().map(collect).transpose()?;
    let how = How { json: args.json, tty: args.tty, stdin: args.interactive || !io::stdin().is_terminal() };
    let request = NewSession {
        agent,
        prompt: args.prompt,
        terminal: how.tty.then(size),
        stdin: how.stdin || how.tty,
        workspace: collected.is_some(),
        options: StartOptions {
            allow_emulation: args.allow_emulation,
            cold: args.cold,
            model: args.model,
            guest_root: false,
        },
    };
    let client = background::client().await?;
    let session = client.start(&request).await?;
    let attachment = client.attach(session.id, true).await?;
    if let Some(collected) = &collected {
        client.put_workspace(session.id, collected.tree.to_tar()?).await?;
    }
    let end = live(attachment, how, Interrupt::Session(client.clone(), session.id)).await?;
    tell_end(&end);
    if let (Some(collected), Some(folder)) = (collected, &args.workspace.workspace)
        && !matches!(end.reason, EndReason::Refused { .. } | EndReason::CellFailed { .. })
    {
        bring_back(&client, session.id, &collected.tree, folder, &args.workspace).await?;
    }
    Ok(end.exit_code)
}

fn tell_end(end: &End) {
    match &end.reason {
        EndReason::Finished { code: 0 } => {}
        EndReason::Refused { why, hint } => Failure::new(why).hint(hint).tell(),
        EndReason::Finished { .. }
        | EndReason::Signalled { .. }
        | EndReason::Limit { .. }
        | EndReason::Stopped
        | EndReason::CellFailed { .. } => note(&end.reason),
    }
}

/// The agent of this name, or of the files in this folder.
pub(crate) fn agent(text: &str) -> Result<AgentRef, Failure> {
    if !text.contains('/') && text != "." {
        return text.parse().map(AgentRef::Name).map_err(|e| {
            Failure::new(format!("`{text}` names no agent: {e}"))
                .hint("`lazaret agent ls` lists the agents; a folder is written with a `/`")
        });
    }
    let path = Path::new(text).join("agent.toml");
    let failed = |path: &Path, e: io::Error| Failure::new(format!("`{}`: {e}", path.display()));
    let file = read(&path, AgentFile::MAX_BYTES).map_err(|e| failed(&path, e))?;
    if let Err(error) = AgentFile::parse(&file) {
        let failure = Failure::new(format!("`{}`: {error}", path.display()));
        return Err(match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        });
    }
    let path = path.with_file_name("policy.cedar");
    let cedar = match read(&path, MAX_CEDAR) {
        Ok(cedar) => Some(cedar),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(&path, error)),
    };
    Ok(AgentRef::Files(AgentFiles { text: file, cedar }))
}

/// A file of an agent's, up to where it is too long.
fn read(path: &Path, most: usize) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take((most as u64).saturating_add(1)).read_to_string(&mut text)?;
    Ok(text)
}

fn collect(folder: &Path) -> Result<Collected, Failure> {
    let collected = workspace::collect(folder)?;
    for (path, why) in &collected.left_out {
        note(format!("`{path}` stays out: {why}"));
    }
    if collected.untracked > 0 {
        note(format!("{} untracked files stay out; `git add` takes them in", collected.untracked));
    }
    if collected.tree.0.is_empty() {
        return Err(Failure::new(format!("`{}` has no file to copy", folder.display()))
            .hint("git decides what is tracked: `git add` first"));
    }
    Ok(collected)
}

async fn bring_back(
    client: &Client,
    id: SessionId,
    before: &Tree,
    folder: &Path,
    args: &WorkspaceArgs,
) -> Result<(), Failure> {
    let archive = client.get_workspace(id).await?;
    let (after, left_out) = Tree::from_tar(&archive)?;
    for (path, why) in &left_out {
        note(format!("`{path}` stays in the cell: {why}"));
    }
    let held_back: Vec<String> = left_out.into_iter().map(|(path, _)| path).collect();
    let changes = workspace::changes(before, &after, &held_back);
    if changes.ignored > 0 {
        note(format!("{} new files stay in the cell: the workspace ignores them", changes.ignored));
    }
    if changes.is_empty() {
        note("no file of the workspace was changed");
        return Ok(());
    }
    show_patch(&changes, args.patch.as_deref())?;
    let accepted = accept(&changes, args)?;
    if accepted.is_empty() {
        return Ok(());
    }
    let root = Root::open(folder)?;
    // Unique enough beside the exclusive creation that it names.
    let nonce = u64::from(std::process::id());
    match workspace::apply(&root, &accepted, nonce) {
        Ok(()) => {
            note(format!("applied {} changes to `{}`", accepted.len(), folder.display()));
            Ok(())
        }
        Err(error) => Err(keep(&changes, Failure::from(error))),
    }
}

/// The whole patch as text.
fn patch(changes: &Changes) -> String {
    let plain = changes.plain.iter().map(|(path, change)| workspace::render(path, change));
    let active = changes.active.iter().map(|(path, (change, _))| workspace::render(path, change));
    plain.chain(active).collect()
}

fn show_patch(changes: &Changes, to: Option<&Path>) -> Result<(), Failure> {
    let patch = patch(changes);
    if let Some(path) = to {
        return std::fs::write(path, patch).map_err(|e| Failure::new(format!("`{}`: {e}", path.display())));
    }
    let colour = crate::terminal::colour();
    let mut err = io::stderr().lock();
    for line in patch.lines() {
        let (start, end) = match line.chars().next() {
            Some('+') if colour => ("\x1b[32m", "\x1b[0m"),
            Some('-') if colour => ("\x1b[31m", "\x1b[0m"),
            Some('@') if colour => ("\x1b[36m", "\x1b[0m"),
            Some(_) | None => ("", ""),
        };
        writeln!(err, "{start}{}{end}", escape(line))?;
    }
    Ok(())
}

/// What the person says yes to: by flag, or at the terminal.
fn accept(
    changes: &Changes,
    args: &WorkspaceArgs,
) -> Result<BTreeMap<workspace::RelPath, workspace::Change>, Failure> {
    let mut accepted = BTreeMap::new();
    let mut refused = 0_usize;
    if !changes.plain.is_empty() {
        let question = format!("Apply these {} changes?", changes.plain.len());
        if args.apply || ask(&question)? {
            accepted.extend(changes.plain.iter().map(|(path, change)| (path.clone(), change.clone())));
        } else {
            refused = changes.plain.len();
        }
    }
    if !changes.active.is_empty() {
        for (path, (_, what)) in &changes.active {
            note(format!("`{path}` runs by itself later: {what}"));
        }
        let question =
            format!("Apply these {} files that run by themselves later, too?", changes.active.len());
        if args.apply_active || (!args.apply && ask(&question)?) {
            let active = changes.active.iter().map(|(path, (change, _))| (path.clone(), change.clone()));
            accepted.extend(active);
        } else {
            refused = refused.saturating_add(changes.active.len());
        }
    }
    if refused > 0 {
        let what = Failure::new(format!("{refused} changes were not applied"));
        let hint = if args.apply {
            "--apply-active applies files that run by themselves later"
        } else {
            "--apply applies without asking"
        };
        keep(changes, what.hint(hint)).tell();
    }
    Ok(accepted)
}

/// Asks at the terminal, which need not be standard input. Without one, the answer is no.
fn ask(question: &str) -> Result<bool, Failure> {
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") else {
        return Ok(false);
    };
    let mut answer = String::new();
    let mut out = &terminal;
    write!(out, "{question} [y/N] ")?;
    io::BufReader::new(&terminal).read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Keeps the patch of what was not applied, so that no work is lost.
fn keep(changes: &Changes, failure: Failure) -> Failure {
    let kept = background::folders().and_then(|folders| {
        let folder = folders.state.join("patches");
        std::fs::create_dir_all(&folder)?;
        let path: PathBuf = folder.join(format!("{}.patch", std::process::id()));
        std::fs::write(&path, patch(changes))?;
        Ok(path)
    });
    match kept {
        Ok(path) => failure.and(format!("the whole patch is kept in `{}`", path.display())),
        Err(error) => {
            error.tell();
            failure
        }
    }
}
