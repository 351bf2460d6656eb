//! `lazaret policy`: an agent's rules, read from its files without a daemon: shown, checked, tested, explained, compared;
//! and, of the ledger, learned.
//!
//! Which tools there are is taken from the tables of the servers in `servers.toml`; a server that isn't there has the
//! table that ships under its name, if one does.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use api::{CallsView, Folders};
use domain::{
    AgentFile, Confidentiality, Digest, EgressTarget, HostPattern, Integrity, Labels, Origin, ServerName,
    ToolName, ToolRef,
};
use policy::{
    AgentPolicy, Arguments, Body, Call, Calls, Case, Connect, ConnectFacts, Counts, Explanation, Kind,
    KnownModel, KnownTool, Row, Seen, Sources, Table, Text, ToolCall, ToolFacts, Verdict, difference,
    explain, explain_connect,
};
use serde_json::{Value, json};

use crate::apply::calls;
use crate::args::{PolicyArgs, PolicyCommand};
use crate::background;
use crate::failure::{Failure, Outcome, note};
use crate::learn::{Wanted, learn};
use crate::output::{print_json, print_lines};
use crate::terminal::escape;

/// Most bytes of a file that is read here.
const MAX_BYTES: u64 = 4 << 20;
/// Most tests of one agent.
const MAX_CASES: usize = 1000;
/// Stands for the pin that a person would approve: what is compared and tested here are the rules.
const PIN: [u8; 32] = [0; 32];

/// One of them.
pub(crate) async fn command(command: PolicyCommand) -> Outcome {
    match command {
        PolicyCommand::Show { agent, how } => show(&agent, &how),
        PolicyCommand::Check { agent, how } => check(&agent, &how),
        PolicyCommand::Test { agent, how } => test(&agent, &how),
        PolicyCommand::Explain { agent, url: Some(url), prompt, how, .. } => {
            told_of_request(&agent, &how, url, &prompt)
        }
        PolicyCommand::Explain { agent, tool, arguments, prompt, seen, how, url: None } => {
            let (Some(tool), Some(arguments)) = (tool, arguments) else {
                return Err(Failure::new("a tool and its arguments, or --url, must be given"));
            };
            told(&agent, &how, &tool, &arguments, &prompt, &seen)
        }
        PolicyCommand::Learn { agent, since, json, write } => {
            learn(Wanted { agent, since, json, write }).await
        }
        PolicyCommand::Diff { old, new, how } => diff(&old, &new, &how),
    }
}

fn show(agent: &str, how: &PolicyArgs) -> Outcome {
    let policy = Agent::read(agent, how)?.policy()?;
    if how.json {
        let tools: Vec<String> = policy.offered().iter().map(ToString::to_string).collect();
        return print_json(&json!({"cedar": policy.cedar(), "schema": policy.schema(), "offered": tools}));
    }
    print_lines([policy.cedar().trim_end().to_owned()])
}

fn check(agent: &str, how: &PolicyArgs) -> Outcome {
    let read = Agent::read(agent, how)?;
    let policy = read.policy()?;
    let unknown: Vec<String> = policy.unknown_names().iter().map(ToString::to_string).collect();
    if how.json {
        return print_json(&json!({
            "agent": read.file.name, "sound": true, "offered": policy.offered().len(), "unknown": unknown,
        }));
    }
    for unknown in &unknown {
        note(unknown);
    }
    if !unknown.is_empty() {
        note(
            "what is called otherwise is not forbidden by such a rule; a server's own list of its tools is given by --tools",
        );
    }
    print_lines([format!("{} is sound: it may be offered {} tools", read.file.name, policy.offered().len())])
}

fn test(agent: &str, how: &PolicyArgs) -> Outcome {
    let read = Agent::read(agent, how)?;
    let policy = read.policy()?;
    let own = own_hosts(&background::folders()?.config)?;
    let mut results = Vec::new();
    for path in cases(&read.folder.join("policy"))? {
        let name = path.display().to_string();
        let text = text(&path)?;
        let case = Case::parse(Text { name: &name, text: &text }).map_err(|e| Failure::new(e.to_string()))?;
        results.push((name, case.run(&policy, &own).err().map(|mismatch| mismatch.to_string())));
    }
    let failed = results.iter().filter(|(_, failure)| failure.is_some()).count();
    if how.json {
        let list = results.iter().map(|(file, failure)| json!({"file": file, "failure": failure}));
        print_json(&json!({"failed": failed, "tests": list.collect::<Vec<_>>()}))?;
    } else {
        for failure in results.iter().filter_map(|(_, failure)| failure.as_ref()) {
            print_lines(failure.lines().map(escape))?;
        }
        print_lines([format!("{} tests, {failed} failed", results.len())])?;
    }
    Ok(u8::from(failed > 0))
}

fn told(
    agent: &str,
    how: &PolicyArgs,
    tool: &ToolRef,
    arguments: &str,
    prompt: &str,
    results: &[(ToolRef, PathBuf)],
) -> Outcome {
    let read = Agent::read(agent, how)?;
    let policy = read.policy()?;
    let arguments: Value = serde_json::from_str(arguments).map_err(|e| {
        Failure::new(format!("the arguments are not JSON: {e}")).hint("such as '{\"id\": \"7\"}'")
    })?;
    let arguments = Arguments::new(&arguments).map_err(|e| Failure::new(e.to_string()))?;
    let row = |tool: &ToolRef| policy.row(tool).cloned().unwrap_or_else(Row::unknown);
    let mut seen = Seen::new([0; 32]);
    seen.person(prompt);
    let mut labels = Labels::default();
    for (tool, file) in results {
        let result: Value = serde_json::from_str(&text(file)?)
            .map_err(|e| Failure::new(format!("`{}`: {e}", file.display())))?;
        seen.result(tool, &row(tool), &result);
        let kept = read.kept.get(&tool.server).copied().unwrap_or(Confidentiality::Confidential);
        labels = labels.join(&row(tool).labels(kept));
    }
    let origins = seen.judge(&row(tool), &arguments).map_err(|e| Failure::new(e.to_string()))?;
    let facts = ToolFacts { labels, origins, pin: Digest::from_bytes(PIN), calls: Counts::default() };
    let told = explain(&policy, &Call { action: ToolCall { tool: tool.clone(), arguments }, facts });
    if how.json {
        let arguments: Vec<String> = told.arguments.iter().map(ToString::to_string).collect();
        let reasons: Vec<String> = told.reasons.iter().map(ToString::to_string).collect();
        let answer = told.answer.to_string();
        return print_json(
            &json!({"answer": answer, "reasons": reasons, "arguments": arguments, "labels": told.labels.to_string(), "own": told.own}),
        );
    }
    print_lines(told.to_string().lines().map(escape))
}

/// Explains a request without a body, in a new session and in one under the rule of two.
fn told_of_request(agent: &str, how: &PolicyArgs, target: EgressTarget, prompt: &str) -> Outcome {
    let read = Agent::read(agent, how)?;
    let policy = read.policy()?;
    let mut seen = Seen::new([0; 32]);
    seen.person(prompt);
    let origin = seen.origin_of(&target.url(), &Kind::Url).unwrap_or(Origin::Unknown);
    let own = own_hosts(&background::folders()?.config)?.iter().any(|own| own.names(&target.host));
    let body = if target.reads() { Body::None } else { Body::Upto(0) };
    let action = Connect::told(target, body);
    let exposed = Labels {
        confidentiality: Confidentiality::Confidential,
        integrity: Integrity::Web,
        ..Labels::default()
    };
    let told = [Labels::default(), exposed].map(|labels| {
        let facts = ConnectFacts { labels, origin: origin.clone(), own, calls: Counts::default() };
        explain_connect(&policy, &Call { action: action.clone(), facts })
    });
    if how.json {
        let one = |told: &Explanation| {
            let reasons: Vec<String> = told.reasons.iter().map(ToString::to_string).collect();
            json!({"answer": told.answer.to_string(), "labels": told.labels.to_string(), "reasons": reasons})
        };
        return print_json(&json!({"own_host": own, "sessions": told.iter().map(one).collect::<Vec<_>>()}));
    }
    print_lines(told.iter().flat_map(|told| told.to_string().lines().map(escape).collect::<Vec<_>>()))
}

/// The organisation's own hosts, as `config.toml` says.
fn own_hosts(config: &Path) -> Result<Vec<HostPattern>, Failure> {
    let path = config.join("config.toml");
    let own = document(&path)?.get("network").and_then(|network| network.get("own")).cloned();
    own.map_or(Ok(Vec::new()), |own| {
        own.try_into().map_err(|e| Failure::new(format!("`{}`: network.own: {e}", path.display())))
    })
}

fn diff(old: &str, new: &str, how: &PolicyArgs) -> Outcome {
    let (old, new) = (Agent::read(old, how)?, Agent::read(new, how)?);
    let found = difference(&old.sources(), &new.sources()).map_err(|e| Failure::new(e.to_string()))?;
    let view = |calls: Calls| CallsView { calls: calls.told, more: calls.more };
    let verdict = match found.verdict {
        Verdict::Same => "same",
        Verdict::Narrower => "narrower",
        Verdict::Wider => "wider",
        Verdict::Both => "both",
    };
    if how.json {
        print_json(
            &json!({"verdict": verdict, "wider": view(found.wider), "narrower": view(found.narrower), "certain": found.certain}),
        )?;
    } else {
        let mut lines = vec![found.verdict.to_string()];
        lines.extend(calls("  possible now ", &view(found.wider)));
        lines.extend(calls("  harder now   ", &view(found.narrower)));
        print_lines(lines)?;
    }
    Ok(u8::from(found.verdict != Verdict::Same))
}

/// An agent's files, and what they are about.
struct Agent {
    folder: PathBuf,
    source: String,
    file: AgentFile,
    /// Its `policy.cedar`, with its path.
    cedar: Option<(String, String)>,
    tools: Vec<KnownTool>,
    models: Vec<KnownModel>,
    /// How confidential results are, by server.
    kept: BTreeMap<ServerName, Confidentiality>,
}

impl Agent {
    fn read(agent: &str, how: &PolicyArgs) -> Result<Self, Failure> {
        let folders = background::folders()?;
        let folder = folder(agent, &folders)?;
        let path = folder.join("agent.toml");
        // A path means what is there and nothing else.
        let example = daemon::example(agent).filter(|_| !is_path(agent));
        let (source, read) = match example.filter(|_| is_missing(&path)) {
            Some(example) => (format!("example {agent}"), example.to_owned()),
            None => (path.display().to_string(), text(&path)?),
        };
        let file = AgentFile::parse(&read).map_err(|error| {
            let place = format!("{source}:{}:{}", error.line, error.column);
            let failure = Failure::new(format!("{place}: {}", error.message));
            match error.hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })?;
        let path = folder.join("policy.cedar");
        let cedar = if is_missing(&path) { None } else { Some((path.display().to_string(), text(&path)?)) };
        let models = models(&file, &folders.config)?;
        let mut read = Self { folder, source, file, cedar, tools: Vec::new(), models, kept: BTreeMap::new() };
        read.know(&folders.config, how)?;
        Ok(read)
    }

    /// Learns the tools of the servers that the agent's file names.
    fn know(&mut self, config: &Path, how: &PolicyArgs) -> Result<(), Failure> {
        let servers = document(&config.join("servers.toml"))?;
        for server in self.file.tools.iter().map(|rules| &rules.server) {
            let table = table(server, &servers, config)?;
            self.kept.insert(server.clone(), table.server.confidentiality);
            let mut schemas = BTreeMap::new();
            for (_, file) in how.tools.iter().filter(|(named, _)| named == server) {
                schemas.extend(listed(file)?);
            }
            let mut rows: BTreeMap<ToolName, Option<Row>> =
                table.tools.into_iter().map(|(name, row)| (name, Some(row))).collect();
            for name in schemas.keys() {
                rows.entry(name.clone()).or_insert(None);
            }
            self.tools.extend(rows.into_iter().map(|(name, row)| KnownTool {
                input_schema: schemas.remove(&name).unwrap_or_default(),
                tool: ToolRef { server: server.clone(), tool: name },
                pin: Some(Digest::from_bytes(PIN)),
                row,
            }));
        }
        Ok(())
    }

    fn sources(&self) -> Sources<'_> {
        let own = self.cedar.as_ref().map(|(name, text)| Text { name, text });
        Sources {
            agent: &self.file,
            file: &self.source,
            own,
            organisation: &[],
            tools: &self.tools,
            models: &self.models,
        }
    }

    fn policy(&self) -> Result<AgentPolicy, Failure> {
        let looks = self.cedar.as_ref().is_some_and(|(_, text)| text.contains("arguments"));
        if looks && self.tools.iter().any(|known| known.input_schema.is_null()) {
            note(
                "policy.cedar looks at arguments, which only a tool's schema declares: give --tools SERVER=FILE, or \
                  rules about them count for nothing here",
            );
        }
        AgentPolicy::compile(&self.sources()).map_err(|error| Failure::new(error.to_string()))
    }
}

/// The folder of an agent of this name, or the folder itself; that of an example need not be there.
fn folder(agent: &str, folders: &Folders) -> Result<PathBuf, Failure> {
    if is_path(agent) {
        return Ok(PathBuf::from(agent));
    }
    let folder = folders.config.join("agents").join(agent);
    if folder.join("agent.toml").exists() || daemon::example(agent).is_some() {
        return Ok(folder);
    }
    Err(Failure::new(format!("no agent of yours is called `{}`", escape(agent))).hint(format!(
        "`{}` has them; a folder is written with a `/`",
        folders.config.join("agents").display()
    )))
}

/// Whether there is no such file: one that can't be read is there.
fn is_missing(path: &Path) -> bool {
    File::open(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

fn is_path(agent: &str) -> bool {
    agent.contains('/') || agent == "."
}

/// What is said of a server's tools.
fn table(server: &ServerName, servers: &toml::Table, config: &Path) -> Result<Table, Failure> {
    let entry = servers.get(server.as_str());
    let named = match entry {
        Some(entry) => entry.get("table").and_then(toml::Value::as_str).map(str::to_owned),
        None => Some(server.to_string()).filter(|name| Table::shipped(name).is_some()),
    };
    let Some(name) = named else {
        note(format!("nobody has classified the tools of {server}: only those of --tools are known"));
        return Ok(Table::default());
    };
    if entry.is_none() {
        note(format!("{server} is no server here: the table that ships as `{name}` stands for it"));
    }
    let (place, text) = match Table::shipped(&name) {
        Some(text) => (format!("table {name}"), text.to_owned()),
        None => (config.join(&name).display().to_string(), text(&config.join(&name))?),
    };
    let table = Table::parse(&text).map_err(|e| Failure::new(format!("{place}: {e}")))?;
    let egress = entry.and_then(|entry| entry.get("cell")?.get("egress")?.as_array());
    let reaches_out = egress.is_some_and(|egress| !egress.is_empty());
    Ok(if reaches_out { table.reaching_out() } else { table })
}

/// The schemas in an answer to `tools/list`, or in the list of it.
fn listed(file: &Path) -> Result<BTreeMap<ToolName, Value>, Failure> {
    let failed = |why: String| Failure::new(format!("`{}`: {why}", file.display()));
    let list: Value = serde_json::from_str(&text(file)?).map_err(|e| failed(e.to_string()))?;
    let list = list.pointer("/result/tools").or_else(|| list.get("tools")).unwrap_or(&list);
    let tools = list.as_array().ok_or_else(|| failed("it holds no list of tools".to_owned()))?;
    let one = |tool: &Value| {
        let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
        let name = name.parse().map_err(|e| failed(format!("`{}`: {e}", escape(name))))?;
        Ok((name, tool.get("inputSchema").cloned().unwrap_or_default()))
    };
    tools.iter().map(one).collect()
}

/// The agent's models, with what their providers may read as `config.toml` says.
fn models(file: &AgentFile, config: &Path) -> Result<Vec<KnownModel>, Failure> {
    let settings = document(&config.join("config.toml"))?;
    let known = |model: &domain::ModelName| {
        let clearance = settings
            .get("providers")
            .and_then(|providers| providers.get(model.provider()))
            .and_then(|provider| provider.get("clearance"))
            .and_then(|clearance| clearance.clone().try_into().ok());
        KnownModel { model: model.clone(), clearance: clearance.unwrap_or(Confidentiality::Confidential) }
    };
    Ok(file.models.iter().map(known).collect())
}

/// The tests in a folder, in order.
fn cases(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = folder.read_dir().map_err(|e| {
        Failure::new(format!("`{}`: {e}", folder.display()))
            .hint("tests are files in the folder `policy` beside agent.toml")
    })?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|kind| kind == "toml" || kind == "json"))
        .take(MAX_CASES)
        .collect();
    files.sort();
    Ok(files)
}

/// A file in TOML; empty if there is none.
fn document(path: &Path) -> Result<toml::Table, Failure> {
    if !path.exists() {
        return Ok(toml::Table::new());
    }
    text(path)?.parse().map_err(|e: toml::de::Error| Failure::new(format!("`{}`: {e}", path.display())))
}

/// A file's text, if it isn't too long.
fn text(path: &Path) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("`{}`: {e}", path.display()));
    let mut text = String::new();
    File::open(path).map_err(failed)?.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 == MAX_BYTES {
        return Err(failed(ErrorKind::FileTooLarge.into()));
    }
    Ok(text)
}
