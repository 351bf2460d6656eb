//! What counts of an agent: the files that a person applied, and the tools that were approved with them.

use std::collections::BTreeMap;

use api::{AgentTools, ApplyRequest, ChangeView, PinState, Problem, ProblemKind, ToolView};
use domain::{AgentFile, AgentName, Digest, PersonName, ToolRef};
use gateway::tools::{Candidate, Servers};
use policy::{AgentPolicy, Difference, KnownModel, KnownTool, Pin, Sources, Text, Verdict};
use sha2::{Digest as _, Sha256};
use store::{About, Event, Filter, Scope, Store};

use crate::agents::Found;
use crate::journal::now;
use crate::narrowing::Version;
use crate::session::Sessions;

/// An agent's files, beside what its file says.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// Of all of them.
    pub(crate) digest: Digest,
    /// Its `policy.cedar`.
    pub(crate) cedar: Option<String>,
    /// Where its file lies.
    pub(crate) source: String,
}

/// The digest of an agent's files.
pub(crate) fn digest(text: &str, cedar: Option<&str>) -> Digest {
    let mut hash = Sha256::new();
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text);
    if let Some(cedar) = cedar {
        hash.update(cedar);
    }
    Digest::from_bytes(hash.finalize().into())
}

/// The digest of the files that were applied last; none if none were.
pub(crate) async fn applied(store: &Store, agent: &AgentName) -> Result<Option<Digest>, Problem> {
    let filter = Filter { agent: Some(agent.clone()), session: None, kind: Some("agent-applied".to_owned()) };
    let last = store.tail(1, &filter).await.map_err(internal)?;
    Ok(last.into_iter().find_map(|entry| {
        let Event::AgentApplied { digest, .. } = entry.event else { return None };
        Some(digest)
    }))
}

/// The tools that an agent's file names, as its servers offer them now.
pub(crate) async fn known(servers: &Servers, file: &AgentFile) -> Result<Vec<KnownTool>, Problem> {
    let mut known = Vec::new();
    for rules in &file.tools {
        let tools = servers.known(&file.name, &file.team, &rules.server).await.map_err(|failure| {
            let message = format!("tool server {}: {}", rules.server, failure.message);
            let problem = Problem::new(ProblemKind::Refused, message);
            problem.hint(failure.hint.unwrap_or_else(|| "`lazaret server ls` lists the servers".to_owned()))
        })?;
        known.extend(tools);
    }
    Ok(known)
}

/// The agent's policy.
pub(crate) fn compile(
    file: &AgentFile,
    source: &str,
    cedar: Option<&str>,
    tools: &[KnownTool],
    models: &[KnownModel],
) -> Result<AgentPolicy, Problem> {
    let own = cedar.map(|text| Text { name: "policy.cedar", text });
    let from = Sources { agent: file, file: source, own, organisation: &[], tools, models };
    AgentPolicy::compile(&from).map_err(|e| Problem::new(ProblemKind::Invalid, e.to_string()))
}

/// What an agent's file asks for.
pub(crate) async fn view(sessions: &Sessions, found: &Found) -> Result<AgentTools, Problem> {
    let (servers, file) = (&sessions.tools, &found.file);
    let cedar = found.cedar.as_deref();
    let digest = digest(&found.text, cedar);
    let policy = compile(file, &found.source, cedar, &known(servers, file).await?, &[])?;
    let pins = servers.store().pins(&file.name).await.map_err(internal)?;
    let mut tools = Vec::new();
    for rules in &file.tools {
        let candidates = servers.candidates(&file.team, &rules.server).await;
        let candidates = candidates.map_err(|failure| Problem::new(ProblemKind::Refused, failure.message))?;
        for Candidate { pin, digest, classified } in candidates {
            let pinned = pins.get(&pin.tool).map(|pinned| pinned.digest);
            let changes = match pinned {
                Some(old) if old != digest => changes(servers.store(), &pin, old).await?,
                Some(_) | None => Vec::new(),
            };
            tools.push(ToolView {
                effects: pin.effects,
                classified,
                offered: policy.offered().contains(&&pin.tool)
                    || pinned != Some(digest) && named(file, &pin.tool),
                description: pin.description,
                digest,
                pin: match pinned {
                    None => PinState::New,
                    Some(old) if old == digest => PinState::Approved,
                    Some(_) => PinState::Changed,
                },
                changes,
                tool: pin.tool,
            });
        }
    }
    tools.retain(|tool| tool.offered);
    let applied = applied(servers.store(), &file.name).await? == Some(digest);
    let change = change(sessions, found).await?.map(|change| ChangeView {
        verdict: change.verdict.to_string(),
        wider: change.wider,
        narrower: change.narrower,
    });
    Ok(AgentTools { digest, applied, change, tools })
}

/// Whether a rule of the agent's file would let it call the tool.
fn named(file: &AgentFile, tool: &ToolRef) -> bool {
    let rules = file.tools.iter().filter(|rules| rules.server == tool.server).flat_map(|rules| &rules.rules);
    let strictest = rules.filter(|rule| rule.pattern.names(&tool.tool)).map(|rule| rule.answer).max();
    strictest.is_some_and(|answer| answer != domain::Answer::Deny)
}

async fn changes(store: &Store, pin: &Pin, old: Digest) -> Result<Vec<String>, Problem> {
    let known = store.definitions(&pin.tool).await.map_err(internal)?;
    let old = known.into_iter().find(|definition| definition.digest == old);
    let old: Option<Pin> = old.and_then(|definition| serde_json::from_str(&definition.text).ok());
    Ok(match old {
        Some(old) => pin.changes_since(&old),
        None => vec!["what was approved is no longer known".to_owned()],
    })
}

/// How an agent's files compare with those that were applied last; none if these aren't known.
pub(crate) async fn change(sessions: &Sessions, found: &Found) -> Result<Option<Difference>, Problem> {
    let name = &found.file.name;
    let Some(digest) = applied(sessions.store(), name).await? else { return Ok(None) };
    let Some(kept) = sessions.agents.applied.last(name, digest) else { return Ok(None) };
    let tools = known(&sessions.tools, &found.file).await?;
    let models = sessions.config.known(&found.file.models);
    let now = Version { file: &found.file, source: &found.source, cedar: found.cedar.as_deref() };
    kept.compare(now, &tools, &models).map(Some)
}

/// Applies the files as they were shown, and pins the tools as they were shown.
pub(crate) async fn apply(
    sessions: &Sessions,
    found: &Found,
    request: &ApplyRequest,
    by: &PersonName,
) -> Result<(), Problem> {
    let (servers, file) = (&sessions.tools, &found.file);
    let changed = |what: String| {
        Problem::new(ProblemKind::Conflict, what)
            .hint("look at it again: `lazaret agent apply` shows it as it is now")
    };
    if digest(&found.text, found.cedar.as_deref()) != request.digest {
        return Err(changed(format!("the files of {} changed since they were shown", file.name)));
    }
    let mut offered = BTreeMap::new();
    for rules in &file.tools {
        let candidates = servers.candidates(&file.team, &rules.server).await;
        let candidates = candidates.map_err(|failure| Problem::new(ProblemKind::Refused, failure.message))?;
        offered.extend(candidates.into_iter().map(|candidate| (candidate.pin.tool, candidate.digest)));
    }
    for (tool, digest) in &request.tools {
        if offered.get(tool) != Some(digest) {
            return Err(changed(format!("{tool} changed since it was shown")));
        }
    }
    let store = servers.store();
    let scope = match applied(store, &file.name).await? {
        None => Scope::New,
        // What was applied by an older version is not kept: what can't be compared may be both.
        Some(_) => change(sessions, found).await?.map_or(Scope::Both, |change| match change.verdict {
            Verdict::Same => Scope::Same,
            Verdict::Narrower => Scope::Narrower,
            Verdict::Wider => Scope::Wider,
            Verdict::Both => Scope::Both,
        }),
    };
    sessions.agents.applied.keep(&file.name, &found.text, found.cedar.as_deref())?;
    store.pin(&file.name, &request.tools, by, now()).await.map_err(internal)?;
    let about = About { agent: Some(file.name.clone()), team: Some(file.team.clone()), session: None };
    let event = Event::AgentApplied { digest: request.digest, scope, by: by.clone() };
    store.record(&about, &event, None, now()).await.map_err(internal)?;
    Ok(())
}

fn internal(error: impl std::fmt::Display) -> Problem {
    Problem::new(ProblemKind::Internal, error.to_string())
}
