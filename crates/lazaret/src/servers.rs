//! `server` and `agent apply`: tool servers, and what agents may do with their tools, shown before it counts.

use std::fs::File;
use std::io::{self, BufRead as _, Write as _};

use api::{AgentTools, ApplyRequest, PinState, ServerView, ToolView};
use domain::AgentName;

use crate::args::ServerCommand;
use crate::background;
use crate::failure::{Failure, Outcome, note};
use crate::output::{print_json, print_lines, print_table};
use crate::terminal::escape;

/// `lazaret server`.
pub(crate) async fn command(command: ServerCommand) -> Outcome {
    let client = background::client().await?;
    match command {
        ServerCommand::Add { name, url, table, teams, token_env } => {
            let server = ServerView { name, url, table, teams: teams.into_iter().collect(), token_env };
            client.put_server(&server).await?;
            note(format!(
                "{} is known; give its tools to an agent with [tools.{}] in agent.toml",
                server.name, server.name
            ));
            Ok(0)
        }
        ServerCommand::Ls { json } => {
            let servers = client.servers().await?;
            if json {
                return print_json(&servers);
            }
            let rows = servers.into_iter().map(|server| {
                let teams: Vec<String> = server.teams.iter().map(ToString::to_string).collect();
                let teams = if teams.is_empty() { "all".to_owned() } else { teams.join(" ") };
                [server.name.to_string(), server.url, server.table.unwrap_or_else(|| "-".to_owned()), teams]
            });
            print_table(["SERVER", "URL", "TABLE", "TEAMS"], &rows.collect::<Vec<_>>())
        }
        ServerCommand::Rm { name } => {
            client.remove_server(&name).await?;
            note(format!("{name} is removed"));
            Ok(0)
        }
    }
}

/// Shows what an agent's files ask for, and applies them on a yes.
pub(crate) async fn apply(agent: &AgentName, yes: bool, json: bool) -> Outcome {
    let client = background::client().await?;
    let asked = client.agent_tools(agent).await?;
    if json {
        return print_json(&asked);
    }
    print_lines(lines(agent, &asked))?;
    if asked.applied && asked.tools.iter().all(|tool| tool.pin == PinState::Approved) {
        note("applied already: nothing has changed");
        return Ok(0);
    }
    if !yes && !ask("Apply exactly this?")? {
        note("not applied");
        return Ok(1);
    }
    let tools = asked.tools.iter().map(|tool| (tool.tool.clone(), tool.digest)).collect();
    client.apply_agent(agent, &ApplyRequest { digest: asked.digest, tools }).await?;
    note(format!("{agent} is applied"));
    Ok(0)
}

fn lines(agent: &AgentName, asked: &AgentTools) -> Vec<String> {
    let mut lines = vec![format!("{agent} asks for {} tools", asked.tools.len())];
    for tool in &asked.tools {
        lines.push(format!("  {}  {}", escape(&tool.tool.to_string()), state(tool)));
        let classified =
            if tool.classified { "" } else { ", as nobody has classified it: the worst is assumed" };
        lines.push(format!("    effects: {}{classified}", tool.effects));
        let description = tool.description.lines().take(3).map(|line| format!("    | {}", escape(line)));
        lines.extend(description);
        lines.extend(tool.changes.iter().map(|change| format!("    ! {}", escape(change))));
    }
    lines
}

fn state(tool: &ToolView) -> &'static str {
    match tool.pin {
        PinState::Approved => "approved",
        PinState::New => "NEW",
        PinState::Changed => "CHANGED since it was approved",
    }
}

/// Asks at the terminal. Without one, nothing is applied.
fn ask(question: &str) -> Result<bool, Failure> {
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") else {
        return Err(
            Failure::new("there is no terminal to ask at").hint("read it, then say --yes to apply it")
        );
    };
    let mut answer = String::new();
    let mut out = &terminal;
    write!(out, "{question} [y/N] ")?;
    io::BufReader::new(&terminal).read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
