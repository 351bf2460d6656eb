//! `server`: the tool servers that are known, and all that is known of one.

use std::collections::BTreeMap;

use api::{
    Client, RunningServer, ServerCell, ServerDetails, ServerLimits, ServerMailbox, ServerPart, ServerPut,
    ServerState, ServerView,
};
use domain::{ServerName, TeamName};

use crate::args::{MailboxArgs, ServerAddArgs, ServerCommand};
use crate::background;
use crate::classify;
use crate::failure::{Failure, Outcome, note};
use crate::output::{print_json, print_lines, print_table};
use crate::terminal::escape;

/// `lazaret server`.
pub(crate) async fn command(command: ServerCommand) -> Outcome {
    let client = background::client().await?;
    match command {
        ServerCommand::Add(args) => add(&client, *args).await,
        ServerCommand::Show { name, team, json } => show(&client, &name, team, json).await,
        ServerCommand::Classify(args) => classify::classify(&client, args).await,
        ServerCommand::Ls { json } => {
            let servers = client.servers().await?;
            if json {
                return print_json(&servers);
            }
            let cells = client.server_cells().await?;
            let rows: Vec<_> = servers.into_iter().map(|server| row(server, &cells)).collect();
            print_table(["SERVER", "WHERE", "TABLE", "TEAMS", "CELLS"], &rows)
        }
        ServerCommand::Rm { name } => {
            client.remove_server(&name).await?;
            note(format!("{name} is removed"));
            Ok(0)
        }
    }
}

async fn add(client: &Client, args: ServerAddArgs) -> Outcome {
    let ServerAddArgs {
        name,
        url,
        image,
        mailbox,
        table,
        teams,
        secret,
        allow_emulation,
        egress,
        lend,
        command,
    } = args;
    let mut secrets = BTreeMap::<_, Vec<String>>::new();
    for (secret, place) in lend {
        secrets.entry(secret).or_default().push(place);
    }
    // What isn't said here is the daemon's to keep.
    let (limits, teams) = (ServerLimits::default(), teams.into_iter().collect());
    let cell = image.map(|image| ServerCell { image, command, allow_emulation, egress, secrets, limits });
    let server = ServerView { name, url, table, teams, secret, cell, mailbox: of_args(mailbox) };
    let put = client.put_server(&server).await?;
    note(format!(
        "{} is known; give its tools to an agent with [tools.{}] in agent.toml",
        server.name, server.name
    ));
    what_stayed(&put).into_iter().for_each(note);
    Ok(0)
}

/// What was not said anew: whether it stayed.
fn what_stayed(put: &ServerPut) -> Vec<String> {
    let part = |part: &ServerPart| match part {
        ServerPart::Teams(teams) => format!("teams {}", joined(teams.iter().map(ToString::to_string), "all")),
        ServerPart::Table(table) => format!("table {table}"),
        ServerPart::Limits => "the limits of its cells".to_owned(),
    };
    let mut told = Vec::new();
    if !put.kept.is_empty() {
        let kept = joined(put.kept.iter().map(part), "");
        told.push(format!("it keeps what was not said anew: {kept}; `server rm` first begins anew"));
    }
    told.extend(put.dropped.iter().map(|dropped| match dropped {
        ServerPart::Table(table) => format!(
            "table {table} is dropped: it says what the tools of another server or program do; `--table {table}` takes it for these, too"
        ),
        ServerPart::Teams(_) | ServerPart::Limits => format!("{} are dropped: it has no cells any more", part(dropped)),
    }));
    told
}

fn of_args(args: MailboxArgs) -> Option<ServerMailbox> {
    let MailboxArgs { imap, smtp, user, from, password } = args;
    Some(ServerMailbox { imap: imap?, smtp: smtp?, user: user?, from, password: password? })
}

fn row(server: ServerView, cells: &[RunningServer]) -> [String; 5] {
    let cells = cells.iter().filter(|cell| cell.server == server.name);
    let cells: Vec<String> = cells.map(|cell| format!("{}: {}", cell.team, state_of(cell))).collect();
    [
        server.name.to_string(),
        place(&server),
        server.table.unwrap_or_else(|| "-".to_owned()),
        joined(server.teams.iter().map(ToString::to_string), "all"),
        joined(cells.into_iter(), "-"),
    ]
}

fn place(server: &ServerView) -> String {
    let image = server.cell.as_ref().map(|cell| cell.image.to_string());
    let mailbox = server.mailbox.as_ref().map(|mailbox| mailbox.imap.clone());
    server.url.clone().or(image).or(mailbox).unwrap_or_default()
}

fn joined(words: impl Iterator<Item = String>, none: &str) -> String {
    let text = words.collect::<Vec<_>>().join(", ");
    if text.is_empty() { none.to_owned() } else { text }
}

/// How a tool server's cell is.
pub(crate) fn state_of(cell: &RunningServer) -> &'static str {
    match cell.state {
        ServerState::Starting => "starting",
        ServerState::Running => "running",
    }
}

/// All that is known of a server; 1 where it can't be asked.
async fn show(client: &Client, name: &ServerName, team: Option<TeamName>, json: bool) -> Outcome {
    let details = details(client, name, team).await?;
    let code = u8::from(details.trouble.is_some());
    if json {
        print_json(&details)?;
    } else {
        print_lines(described(&details))?;
    }
    Ok(code)
}

/// What is known of a server, asked for this team, or for the first that may use it.
pub(crate) async fn details(
    client: &Client,
    name: &ServerName,
    team: Option<TeamName>,
) -> Result<ServerDetails, Failure> {
    let known = client.servers().await?.into_iter().find(|server| server.name == *name);
    let first = known.as_ref().and_then(|server| server.teams.first().cloned());
    let team = match team.or(first) {
        Some(team) => team,
        None => "default".parse().map_err(|e| Failure::new(format!("{e}")))?,
    };
    Ok(client.server(name, &team).await?)
}

fn described(details: &ServerDetails) -> Vec<String> {
    let ServerDetails { server, team, tools, withheld, trouble, log } = details;
    let mut lines = vec![server.name.to_string()];
    if let Some(ServerMailbox { imap, smtp, user, from, password }) = &server.mailbox {
        lines.push(format!("  mail     {}, {}", escape(imap), escape(smtp)));
        let from = from.as_ref().unwrap_or(user);
        lines.push(format!("  as       {}, from {}, password in {password}", escape(user), escape(from)));
    }
    match (&server.url, &server.cell) {
        (Some(url), _) => {
            lines.push(format!("  address  {url}"));
            lines.extend(server.secret.iter().map(|secret| format!("  secret   {secret}")));
        }
        (None, Some(cell)) => {
            lines.push(format!("  image    {}", cell.image));
            lines.push(format!("  command  {}", escape(&cell.command.join(" "))));
            lines.extend(cell.egress.iter().map(|rule| format!("  egress   {}", escape(rule))));
            let lent = cell.secrets.iter().map(|(secret, places)| (secret, places.join(", ")));
            lines.extend(lent.map(|(secret, places)| format!("  lent     {secret}, to {}", escape(&places))));
            let limits = &cell.limits;
            lines.push(format!(
                "  limits   memory {}, cpus {}, disk {}, pids {}, idle {}",
                limits.memory, limits.cpus, limits.disk, limits.pids, limits.idle
            ));
            if !cell.egress.is_empty() {
                let (requests, bytes) = (limits.requests_per_minute, limits.bytes_out_per_day);
                lines.push(format!("  leaves   {requests} requests a minute, {bytes} a day for each team"));
            }
        }
        (None, None) => {}
    }
    lines.push(format!("  teams    {}", joined(server.teams.iter().map(ToString::to_string), "all")));
    lines.push(format!("  table    {}", server.table.as_deref().unwrap_or("none: the worst is assumed")));
    if let Some(why) = trouble {
        lines.push(format!("  for team {team} it can't be asked: {}", escape(why)));
        if !tools.is_empty() {
            lines.push(format!("  when it could be, it had {} tools", tools.len()));
        }
    } else {
        lines.push(format!("  for team {team} it has {} tools", tools.len()));
    }
    for tool in tools {
        let classified = if tool.classified { "" } else { ", not classified: the worst is assumed" };
        lines.push(format!("    {}  {}{classified}", tool.name, tool.effects));
        let first = tool.description.lines().next().unwrap_or_default();
        let short: String = first.chars().take(100).collect();
        lines.push(format!("      | {}  (schema: {} bytes)", escape(&short), tool.schema_bytes));
    }
    for (name, why) in withheld {
        lines.push(format!("    {}  withheld: {}", escape(name), escape(why)));
    }
    if !log.is_empty() {
        lines.push("  last words on its standard error".to_owned());
        lines.extend(log.iter().map(|line| format!("    | {}", escape(line))));
    }
    lines
}
