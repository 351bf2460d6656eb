//! `lazaret agent`: make, list and show agents.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;

use api::{AgentDetails, AgentFiles, AgentRef, AgentView, FilesCount};
use domain::{AgentFile, AgentName, Mark, ModelName, Term};

use crate::apply::{self, Shown};
use crate::args::AgentCommand;
use crate::background;
use crate::failure::{Failure, Outcome, note};
use crate::output::{print_json, print_lines, print_table};
use crate::run;
use crate::terminal::escape;

/// One of them.
pub(crate) async fn command(command: AgentCommand) -> Outcome {
    match command {
        AgentCommand::New { name, harness, model } => new(&name, &harness, model.as_ref()),
        AgentCommand::Ls { json } => ls(json).await,
        AgentCommand::Apply(args) => apply::apply(args).await,
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
    let details = match run::agent(agent)? {
        AgentRef::Name(name) => background::client().await?.agent(&name).await?,
        AgentRef::Files(AgentFiles { text, cedar }) => {
            let file = AgentFile::parse(&text).map_err(|e| Failure::new(e.to_string()))?;
            let counts = if file.is_given_nothing() { FilesCount::Freely } else { FilesCount::NeverApplied };
            let terms = file.terms(cedar.as_deref());
            let agent = AgentView::new(file, format!("{agent}/agent.toml"));
            AgentDetails { agent, counts, terms, approved: BTreeSet::new() }
        }
    };
    if json {
        return print_json(&details);
    }
    print_lines(described(&details))
}

/// What counts of an agent's files.
fn described(details: &AgentDetails) -> Vec<String> {
    let AgentDetails { agent, counts, terms, approved } = details;
    // Until the files of now are applied, what is new in them is not what it may do, and what is gone still is.
    let waits = *counts == FilesCount::Waiting;
    let not = if waits { Mark::New } else { Mark::Gone };
    let terms = terms.iter().filter(|term| term.mark != not);
    let terms: Vec<Term> = terms.map(|term| Term { mark: Mark::Kept, ..term.clone() }).collect();
    let stands = match counts {
        FilesCount::Freely => {
            "its files count as they are: they give it neither tools nor a way out".to_owned()
        }
        FilesCount::Applied => "its files were applied".to_owned(),
        FilesCount::Narrower => {
            "its files allow no more than those that were applied, and so they count".to_owned()
        }
        FilesCount::NeverApplied => {
            format!("NOT applied: it doesn't start until an owner says lazaret agent apply {}", agent.name)
        }
        FilesCount::Waiting => format!(
            "its files were CHANGED: unless they allow no more, it doesn't start until an owner says lazaret agent apply {}; applied last was",
            agent.name
        ),
    };
    let mut lines = vec![agent.name.to_string()];
    lines.push(format!("  {:<14} {}", "file", escape(&agent.source)));
    lines.push(format!("  {:<14} {stands}", "counts"));
    if waits && terms.is_empty() {
        lines.push(format!("  {:<14} what isn't known here any more", ""));
    } else {
        lines.extend(Shown::terms(&terms, usize::MAX).lines);
    }
    lines.extend(approved.iter().enumerate().map(|(at, tool)| {
        let title = if at == 0 { "approved" } else { "" };
        format!("  {title:<14} {}", escape(&tool.to_string()))
    }));
    lines
}
