//! What counts of an agent: the files that a person applied, and the tools that were approved with them.

use std::collections::BTreeMap;

use api::{
    AgentDetails, AgentTools, AgentView, ApplyRequest, CallsView, ChangeView, Earlier, FilesCount, PinState,
    Problem, ProblemKind, ToolView,
};
use domain::{AgentFile, AgentName, Answer, Digest, Mark, PersonName, Term, ToolRef};
use gateway::tools::{Candidate, Servers};
use policy::{AgentPolicy, Calls, Difference, KnownModel, KnownTool, Pin, Sources, Text, Verdict};
use sha2::{Digest as _, Sha256};
use store::{About, Event, Filter, Scope, Store};

use crate::agents::Found;
use crate::journal::now;
use crate::narrowing::{Kept, Version};
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
    // As if all were approved: what the agent would be offered then is what a person decides on.
    let pinned = |tool| KnownTool { pin: Some(Digest::from_bytes([0; 32])), ..tool };
    let tools: Vec<KnownTool> = known(servers, file).await?.into_iter().map(pinned).collect();
    let policy = compile(file, &found.source, cedar, &tools, &[])?;
    let offered = policy.offered();
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
                offered: offered.contains(&&pin.tool),
                answer: answer(file, &pin.tool),
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
    let last = applied(servers.store(), &file.name).await?;
    let (terms, earlier) = terms(sessions, found, last);
    let change = change(sessions, found).await?.map(|change| ChangeView {
        verdict: change.verdict.to_string(),
        wider: calls(change.wider),
        narrower: calls(change.narrower),
    });
    Ok(AgentTools { digest, applied: last == Some(digest), earlier, change, terms, tools })
}

fn calls(calls: Calls) -> CallsView {
    CallsView { calls: calls.told, more: calls.more }
}

/// All that an agent's files say, held against those that were applied last, and what is known of these.
fn terms(sessions: &Sessions, found: &Found, last: Option<Digest>) -> (Vec<Term>, Earlier) {
    let cedar = found.cedar.as_deref();
    let Some(last) = last else { return (found.file.terms(cedar), Earlier::Never) };
    if last == digest(&found.text, cedar) {
        let kept = |term| Term { mark: Mark::Kept, ..term };
        return (found.file.terms(cedar).into_iter().map(kept).collect(), Earlier::Known);
    }
    let kept = sessions.agents.applied.last(&found.file.name, last);
    match kept.as_ref().and_then(|kept| Some((kept.file().ok()?, kept))) {
        Some((file, kept)) => (found.file.terms_since(cedar, (&file, kept.cedar())), Earlier::Known),
        None => (found.file.terms(cedar), Earlier::Unknown),
    }
}

/// An agent in full. No tool server is connected to or asked: whoever may only look starts nothing.
pub(crate) async fn details(sessions: &Sessions, found: Found) -> Result<AgentDetails, Problem> {
    let last = applied(sessions.store(), &found.file.name).await?;
    let (terms, _) = terms(sessions, &found, last);
    let counts = match last {
        _ if found.file.is_given_nothing() => FilesCount::Freely,
        None => FilesCount::NeverApplied,
        Some(last) if last == digest(&found.text, found.cedar.as_deref()) => FilesCount::Applied,
        // What can't be compared counts as what allows more, until a session's start or a person asks the servers.
        Some(_) => match change_by_lists_at_hand(sessions, &found).await {
            Ok(Some(change)) if narrows(&change) => FilesCount::Narrower,
            Ok(_) | Err(_) => FilesCount::Waiting,
        },
    };
    let pins = sessions.store().pins(&found.file.name).await.map_err(internal)?;
    let named = |tool: &ToolRef| found.file.tools.iter().any(|rules| rules.server == tool.server);
    let approved = pins.into_keys().filter(named).collect();
    Ok(AgentDetails { agent: AgentView::new(found.file, found.source), counts, terms, approved })
}

/// Whether a change counts without a person.
pub(crate) fn narrows(change: &Difference) -> bool {
    matches!(change.verdict, Verdict::Same | Verdict::Narrower)
}

/// What the strictest rule of the agent's file says of a tool.
fn answer(file: &AgentFile, tool: &ToolRef) -> Option<Answer> {
    let rules = file.tools.iter().filter(|rules| rules.server == tool.server).flat_map(|rules| &rules.rules);
    rules.filter(|rule| rule.pattern.names(&tool.tool)).map(|rule| rule.answer).max()
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

/// How an agent's files compare with those that were applied last; none if these aren't known, or don't go together any more
/// with the tools that there are.
pub(crate) async fn change(sessions: &Sessions, found: &Found) -> Result<Option<Difference>, Problem> {
    let Some(kept) = kept(sessions, found).await? else { return Ok(None) };
    let tools = known(&sessions.tools, &found.file).await?;
    compared(sessions, found, &kept, &tools)
}

/// The same without asking a tool server; none, too, where one's list is not at hand.
async fn change_by_lists_at_hand(sessions: &Sessions, found: &Found) -> Result<Option<Difference>, Problem> {
    let Some(kept) = kept(sessions, found).await? else { return Ok(None) };
    let (file, mut tools) = (&found.file, Vec::new());
    for rules in &file.tools {
        let known = sessions.tools.known_already(&file.name, &file.team, &rules.server).await;
        let Some(known) = known.map_err(|failure| internal(failure.message))? else { return Ok(None) };
        tools.extend(known);
    }
    compared(sessions, found, &kept, &tools)
}

/// The files that were applied last, if they are known.
async fn kept(sessions: &Sessions, found: &Found) -> Result<Option<Kept>, Problem> {
    let name = &found.file.name;
    let last = applied(sessions.store(), name).await?;
    Ok(last.and_then(|last| sessions.agents.applied.last(name, last)))
}

fn compared(
    sessions: &Sessions,
    found: &Found,
    kept: &Kept,
    tools: &[KnownTool],
) -> Result<Option<Difference>, Problem> {
    let name = &found.file.name;
    let models = sessions.config.known(&found.file.models);
    let cedar = found.cedar.as_deref();
    compile(&found.file, &found.source, cedar, tools, &models)?;
    let now = Version { file: &found.file, source: &found.source, cedar };
    match kept.compare(now, tools, &models) {
        Ok(change) => Ok(Some(change)),
        // The mistake is in what was applied: rules in Cedar about a tool that is gone, say. A person may apply another.
        Err(problem) => {
            tracing::info!(agent = %name, %problem, "what was applied can't be compared any more");
            Ok(None)
        }
    }
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
