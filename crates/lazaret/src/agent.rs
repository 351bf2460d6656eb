//! `lazaret agent`: make, list and show agents.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;

use api::{AgentRef, AgentView};
use domain::{AgentFile, AgentName, ModelName};

use crate::args::AgentCommand;
use crate::background;
use crate::failure::{Failure, Outcome, note};
use crate::output::{print_json, print_table};
use crate::run;
use crate::servers;

/// One of them.
pub(crate) async fn command(command: AgentCommand) -> Outcome {
    match command {
        AgentCommand::New { name, harness, model } => new(&name, &harness, model.as_ref()),
        AgentCommand::Ls { json } => ls(json).await,
        AgentCommand::Apply { agent, yes, json } => servers::apply(&agent, yes, json).await,
        AgentCommand::Show { agent, json } => show(&agent, json).await,
    }
}

fn new(name: &AgentName, harness: &str, model: Option<&ModelName>) -> Outcome {
    let usual = if harness == "codex" { "openai/gpt-5.5" } else { "anthropic/claude-sonnet-4-5" };
    let model = model.map_or_else(|| usual.to_owned(), ModelName::to_string);
    let text = format!(
        "name    = \"{name}\"\nharness = \"{}\"\nmodels  = [\"{model}\"]\n\n# Standing instructions; never a security \
         control.\ninstructions = \"\"\"\n\"\"\"\n\n[limits]\nmemory     = \"512MiB\"\ncpus       = 1\ndisk       = \
         \"4GiB\"\nwall_clock = \"1h\"\ntokens     = 2_000_000\n",
        harness.escape_default()
    );
    if let Err(error) = AgentFile::parse(&text) {
        let failure = Failure::new(error.message);
        return Err(match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        });
    }
    let folder = background::folders()?.config.join("agents").join(name.as_str());
    let path = folder.join("agent.toml");
    let failed = |e: std::io::Error| Failure::new(format!("`{}`: {e}", path.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
    let mut file = File::create_new(&path).map_err(|error| {
        if error.kind() != ErrorKind::AlreadyExists {
            return failed(error);
        }
        Failure::new(format!("there is an agent `{name}` already"))
            .hint(format!("edit `{}`, or choose another name", path.display()))
    })?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    note(format!("made `{}`; edit it, then: lazaret run {name} 'What can you do?'", path.display()));
    Ok(0)
}

async fn ls(json: bool) -> Outcome {
    let agents = background::client().await?.agents().await?;
    if json {
        return print_json(&agents);
    }
    let rows = agents.into_iter().map(|agent| {
        let models: Vec<String> = agent.models.iter().map(ModelName::to_string).collect();
        [agent.name.to_string(), agent.team.to_string(), agent.harness, models.join(" "), agent.source]
    });
    print_table(["AGENT", "TEAM", "HARNESS", "MODELS", "FILE"], &rows.collect::<Vec<_>>())
}

async fn show(agent: &str, json: bool) -> Outcome {
    let view = match run::agent(agent)? {
        AgentRef::Name(name) => background::client().await?.agent(&name).await?,
        AgentRef::File(text) => {
            let file = AgentFile::parse(&text).map_err(|e| Failure::new(e.to_string()))?;
            AgentView::new(file, format!("{agent}/agent.toml"))
        }
    };
    if json {
        return print_json(&view);
    }
    let models: Vec<String> = view.models.iter().map(ModelName::to_string).collect();
    let limits = &view.limits;
    let row = |key: &str, value: String| [key.to_owned(), value];
    print_table(
        ["AGENT", view.name.as_str()],
        &[
            row("team", view.team.to_string()),
            row("harness", view.harness.clone()),
            row("models", models.join(" ")),
            row("image", view.image.to_string()),
            row("memory", limits.memory.to_string()),
            row("cpus", limits.cpus.to_string()),
            row("disk", limits.disk.to_string()),
            row("pids", limits.pids.to_string()),
            row("wall_clock", limits.wall_clock.to_string()),
            row("output", limits.output.to_string()),
            row("tokens", limits.tokens.to_string()),
            row("usd_per_day", limits.usd_per_day.map_or_else(|| "-".to_owned(), |usd| usd.to_string())),
            row("file", view.source.clone()),
        ],
    )
}
