//! `ps`, `logs`, `exec`, `stop`: sessions that are there already.

use std::io::{self, IsTerminal as _};
use std::time::{SystemTime, UNIX_EPOCH};

use api::{Client, ClientError, ExecRequest, SessionView, StopRequest};
use domain::{SessionId, SessionState};

use crate::args::{ExecArgs, LogsArgs, PsArgs, StopArgs};
use crate::background;
use crate::failure::{Failure, Outcome, note};
use crate::live::{How, Interrupt, Screen, live};
use crate::output::{print_json, print_table};
use crate::servers::state_of;
use crate::terminal::size;

/// Lists sessions, and the cells of tool servers.
pub(crate) async fn ps(args: PsArgs) -> Outcome {
    let client = background::client().await?;
    let mut sessions = client.sessions().await?;
    sessions.retain(|session| args.all || session.state != SessionState::Ended);
    if args.json {
        return print_json(&sessions);
    }
    let rows = sessions.iter().map(|session| {
        let state = match (&session.state, &session.ended) {
            (_, Some(reason)) => reason.to_string(),
            (SessionState::Queued, None) => "queued".to_owned(),
            (SessionState::Running, None) => "running".to_owned(),
            (SessionState::Ended, None) => "ended".to_owned(),
        };
        let isolation = session.isolation.map_or_else(|| "-".to_owned(), |isolation| isolation.to_string());
        [session.id.to_string(), session.agent.to_string(), age(session.created), isolation, state]
    });
    let cells = client.server_cells().await?;
    let servers = cells.iter().map(|cell| {
        let isolation = cell.isolation.map_or_else(|| "-".to_owned(), |isolation| isolation.to_string());
        let whose = format!("server {} of {}", cell.server, cell.team);
        [cell.id.to_string(), whose, age(cell.since), isolation, state_of(cell).to_owned()]
    });
    let rows: Vec<_> = rows.chain(servers).collect();
    print_table(["SESSION", "AGENT", "AGE", "ISOLATION", "STATE"], &rows)
}

/// Shows what a session printed.
pub(crate) async fn logs(args: LogsArgs) -> Outcome {
    let client = background::client().await?;
    let session = find(&client, &args.session, true).await?;
    let mut events = client.events(session.id, args.follow).await?;
    let mut screen = Screen::new(false);
    while let Some(event) = events.next().await? {
        if let Some(end) = screen.show(event, args.json).await? {
            if end.exit_code != 0 {
                note(end.reason);
            }
            break;
        }
    }
    Ok(0)
}

/// Runs a program in the cell of a running session.
pub(crate) async fn exec(args: ExecArgs) -> Outcome {
    let client = background::client().await?;
    let session = find(&client, &args.session, false).await?;
    let how = How { json: false, tty: args.tty, stdin: args.interactive || !io::stdin().is_terminal() };
    let request = ExecRequest { argv: args.argv, terminal: how.tty.then(size), guest_root: false };
    let attachment = client.exec(session.id, &request).await?;
    let end = live(attachment, how, Interrupt::Process).await?;
    Ok(end.exit_code)
}

/// Stops sessions.
pub(crate) async fn stop(args: StopArgs) -> Outcome {
    if args.daemon {
        return stop_daemon().await;
    }
    let client = background::client().await?;
    for text in &args.sessions {
        let session = find(&client, text, false).await?;
        client.stop(session.id, StopRequest { now: args.now }).await?;
        note(format!("session {} of `{}` stopped", session.id, session.agent));
    }
    Ok(0)
}

/// Stops the daemon, if one runs.
async fn stop_daemon() -> Outcome {
    let client = background::unstarted()?;
    match client.shut_down().await {
        Ok(()) => note("the daemon ended"),
        Err(ClientError::Unreachable { .. }) => note("no daemon runs"),
        Err(error) => return Err(error.into()),
    }
    Ok(0)
}

/// The one session that is meant: by id, by its beginning, or by its agent. `ended`: an ended one will do, and an
/// agent's newest is meant.
async fn find(client: &Client, text: &str, ended: bool) -> Result<SessionView, Failure> {
    if let Ok(id) = text.parse::<SessionId>() {
        return Ok(client.session(id).await?);
    }
    let mut found = client.sessions().await?;
    found.retain(|session| {
        let named = session.agent.as_str() == text;
        let begins = text.len() >= 4 && session.id.to_string().starts_with(text);
        (named || begins) && (ended || session.state != SessionState::Ended)
    });
    let newest = found.pop();
    let running = if ended { "" } else { "running " };
    match newest {
        Some(session) if found.is_empty() || (ended && session.agent.as_str() == text) => Ok(session),
        Some(_) => {
            Err(Failure::new(format!("`{text}` means {} {running}sessions", found.len().saturating_add(1)))
                .hint("`lazaret ps` lists their ids"))
        }
        None => Err(Failure::new(format!("`{text}` means no {running}session"))
            .hint("`lazaret ps -a` lists them all")),
    }
}

fn age(created: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match now.saturating_sub(created / 1000) {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
