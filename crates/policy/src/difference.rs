//! The difference between two versions of an agent: whether the newer is narrower, wider, both or the same, with every
//! kind of call that became possible. A wider one waits for a person; a narrower one applies at once.
//!
//! The answer comes from asking both versions about every tool, known or only matched by a pattern, in every session
//! and with every kind of origin that the built-in rules and the tables can tell apart. Rules written in Cedar can look
//! at more than that, such as an argument's value; where those differ, the answer is not certain and counts as wider.
//! Where they are the same, both versions are also asked without them, and with a permit for everything in their place.

mod calls;
mod egress;
mod rest;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

use domain::{
    AgentFile, Answer, ApprovalRule, Confidentiality, Destination, Digest, Integrity, Labels, ModelName,
    Origin, SecretName, SecretUse, ServerName, ToolName, ToolRef,
};
use serde_json::Value;

use crate::Arguments;
use crate::agent::{AgentPolicy, KnownTool, PolicyError, Sources, Text};
use crate::decide::{Call, Counts, Decision, ModelCall, ModelFacts, ToolCall, ToolFacts, decide};
use crate::origins::{Judged, Origins, Role};
use crate::table::Kind;
pub use calls::Calls;
use calls::Collected;

/// How a newer version compares with an older.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing that it allows or asks changed.
    Same,
    /// It allows less.
    Narrower,
    /// It allows more, or may: a person must agree.
    Wider,
    /// It allows more here and less there: a person must agree.
    Both,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "same",
            Self::Narrower => "narrower",
            Self::Wider => "wider",
            Self::Both => "both wider and narrower",
        })
    }
}

/// The difference between two versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which is wider.
    pub verdict: Verdict,
    /// Calls that became possible, or easier; of a tool or model one example of each step, such as from asked to allowed.
    pub wider: Calls,
    /// Calls that became impossible, or harder.
    pub narrower: Calls,
    /// False if rules in Cedar, or the tools or names that they are about, differ: these are not compared but counted as
    /// wider.
    pub certain: bool,
}

/// Compares two versions of an agent. Another image, other instructions or limits count as wider.
///
/// # Errors
/// One of them doesn't compile.
pub fn difference(old: &Sources<'_>, new: &Sources<'_>) -> Result<Difference, PolicyError> {
    let (old_tools, new_tools) = tools(old, new);
    let (old, new) = (Sources { tools: &old_tools, ..*old }, Sources { tools: &new_tools, ..*new });
    let mut found = Found::default();
    let (cedar, now) = (texts(&old), texts(&new));
    let same_subject =
        old.tools == new.tools && old.agent.name == new.agent.name && old.agent.team == new.agent.team;
    // Rules in Cedar can look at which rules of [egress] name a request.
    let same_egress =
        old.agent.egress == new.agent.egress || !cedar.iter().any(|text| text.contains("rules"));
    let certain = cedar == now && (cedar.is_empty() || (same_subject && same_egress));
    if !certain {
        let what = if cedar == now { "what the rules in Cedar are about" } else { "the rules in Cedar" };
        found.wider.add(format!("{what} changed; what they allow now can't be told"));
    }
    // What is told first is told of anything, however much there is.
    found.secrets(&old.agent.secrets, &new.agent.secrets);
    found.egress(old.agent, new.agent);
    rest::changed(old.agent, new.agent).into_iter().for_each(|what| found.wider.add(what));
    found.versions(&old, &new, "")?;
    if !cedar.is_empty() && cedar == now {
        // The same rules in Cedar add permits and forbids to both versions. Whatever those look at, a version that is
        // narrower with none of them, and with all permits that there could be, is narrower with them.
        let all = Text { name: "policy.cedar", text: "permit (principal, action, resource);" };
        for (own, how) in
            [(None, ", but for rules in Cedar"), (Some(all), ", where a rule in Cedar permits it")]
        {
            let before = Sources { own, organisation: &[], ..old };
            found.versions(&before, &Sources { own, organisation: &[], ..new }, how)?;
        }
    }
    let (wider, narrower) = (found.wider.calls(), found.narrower.calls());
    let verdict = match (wider.is_empty(), narrower.is_empty()) {
        (true, true) => Verdict::Same,
        (true, false) => Verdict::Narrower,
        (false, true) => Verdict::Wider,
        (false, false) => Verdict::Both,
    };
    Ok(Difference { verdict, wider, narrower, certain })
}

fn texts(from: &Sources<'_>) -> Vec<String> {
    from.organisation.iter().copied().chain(from.own).map(|text| text.text.to_owned()).collect()
}

#[derive(Default)]
struct Found {
    wider: Collected,
    narrower: Collected,
}

impl Found {
    /// Asks both about everything; `how` is what was assumed.
    fn versions(&mut self, old: &Sources<'_>, new: &Sources<'_>, how: &str) -> Result<(), PolicyError> {
        let (before, after) = (AgentPolicy::compile(old)?, AgentPolicy::compile(new)?);
        let names: BTreeSet<&ToolRef> = old.tools.iter().chain(new.tools).map(|known| &known.tool).collect();
        for tool in names {
            self.tool(&before, &after, tool, how);
        }
        for model in old.agent.models.iter().chain(&new.agent.models) {
            self.model(&before, &after, model, how);
        }
        Ok(())
    }

    /// Where a secret may go now and could not, and the other way round.
    fn secrets(&mut self, old: &[SecretUse], new: &[SecretUse]) {
        for (secret, to) in beyond(new, old) {
            self.wider.add(format!("the secret {secret} could not go to {to}, and now may"));
        }
        for (secret, to) in beyond(old, new) {
            self.narrower.add(format!("the secret {secret} could go to {to}, and now may not"));
        }
    }

    fn tool(&mut self, before: &AgentPolicy, after: &AgentPolicy, tool: &ToolRef, how: &str) {
        for origins in every_origin() {
            for labels in [Labels::default(), exposed()] {
                let (old, new) =
                    (ask_tool(before, tool, &origins, &labels), ask_tool(after, tool, &origins, &labels));
                self.compare(tool, [old, new], || {
                    format!("{tool} in a session that is {labels}, {}{how}", told(&origins))
                });
                if old == Answer::Ask && new == Answer::Ask {
                    self.quorum(before.approvals(tool), after.approvals(tool), tool);
                }
            }
        }
    }

    fn model(&mut self, before: &AgentPolicy, after: &AgentPolicy, model: &ModelName, how: &str) {
        for labels in every_level() {
            let ask = |policy: &AgentPolicy| {
                let facts = ModelFacts { labels: labels.clone(), calls: Counts::default() };
                answer(&decide(policy, Call { action: ModelCall { model: model.clone() }, facts }))
            };
            let answers = [ask(before), ask(after)];
            self.compare(model, answers, || format!("{model} in a session that is {labels}{how}"));
        }
    }

    fn egress(&mut self, old: &AgentFile, new: &AgentFile) {
        let (before, after) = (old.egress.as_ref(), new.egress.as_ref());
        for told in egress::gained(before, after, ["was", "is now"]) {
            self.wider.add(told);
        }
        for told in egress::gained(after, before, ["is now", "was"]) {
            self.narrower.add(told);
        }
        if let (Some(before), Some(after)) = (before, after) {
            self.quorum(Some(&before.approvals), Some(&after.approvals), &"[egress]");
        }
    }

    /// Of one subject, one example of each step is told.
    fn compare(&mut self, subject: &dyn fmt::Display, answers: [Answer; 2], call: impl Fn() -> String) {
        let [old, new] = answers;
        let to = match new.cmp(&old) {
            Ordering::Less => &mut self.wider,
            Ordering::Greater => &mut self.narrower,
            Ordering::Equal => return,
        };
        let step = format!("was {}, is now {}", past(old), past(new));
        to.add_once(format!("{subject} {step}"), || format!("{} {step}", call()));
    }

    /// Another group may be more lenient, and whether it is can't be told here: it counts as wider.
    fn quorum(&mut self, old: Option<&ApprovalRule>, new: Option<&ApprovalRule>, tool: &dyn fmt::Display) {
        let (Some(old), Some(new)) = (old, new) else { return };
        let told = || format!("{tool}: asked were {old}, now are {new}");
        let wider = new.need < old.need
            || new.within > old.within
            || new.from != old.from
            || (old.exclude_author && !new.exclude_author);
        let narrower = new.need > old.need
            || new.within < old.within
            || new.from != old.from
            || (!old.exclude_author && new.exclude_author);
        if wider {
            self.wider.add(told());
        }
        if narrower {
            self.narrower.add(told());
        }
    }
}

/// The places of some secrets' uses that are not within the others'.
fn beyond<'u>(
    uses: &'u [SecretUse],
    others: &'u [SecretUse],
) -> impl Iterator<Item = (&'u SecretName, &'u Destination)> {
    let within = |secret: &SecretName, to: &Destination| {
        let others = others.iter().filter(|other| other.secret == *secret);
        others.flat_map(|other| &other.to).any(|other| other.includes(to))
    };
    let all = uses.iter().flat_map(|used| used.to.iter().map(move |to| (&used.secret, to)));
    all.filter(move |(secret, to)| !within(secret, to))
}

fn past(answer: Answer) -> &'static str {
    match answer {
        Answer::Allow => "allowed",
        Answer::Ask => "asked",
        Answer::Deny => "denied",
    }
}

fn answer<A: crate::Act>(decision: &Decision<A>) -> Answer {
    match decision {
        Decision::Allow(_) => Answer::Allow,
        Decision::Ask(_) => Answer::Ask,
        Decision::Deny(_) => Answer::Deny,
    }
}

fn ask_tool(policy: &AgentPolicy, tool: &ToolRef, origins: &Origins, labels: &Labels) -> Answer {
    let Ok(arguments) = Arguments::new(&Value::Object(serde_json::Map::new())) else { return Answer::Deny };
    let pin = policy.pin(tool).unwrap_or(Digest::from_bytes([0; 32]));
    let facts = ToolFacts { labels: labels.clone(), origins: origins.clone(), pin, calls: Counts::default() };
    answer(&decide(policy, Call { action: ToolCall { tool: tool.clone(), arguments }, facts }))
}

/// Origins that built-in rules tell apart: the person's, the organisation's, and others; own words and not.
fn every_origin() -> Vec<Origins> {
    let values = [Origin::Person, Origin::Organisation(String::new()), Origin::Unknown];
    let one = |origin: &Origin, own| {
        let argument = |role| Judged { place: String::new(), value: "…".to_owned(), role };
        let arguments =
            vec![argument(Role::Sensitive(Kind::Recipient, origin.clone())), argument(Role::Content(own))];
        Origins { arguments, asked_for: true, by_verb: false }
    };
    values.iter().flat_map(|origin| [one(origin, true), one(origin, false)]).collect()
}

fn told(origins: &Origins) -> String {
    let told = |argument: &Judged| match &argument.role {
        Role::Sensitive(_, origin) => format!("to a recipient of {} origin", origin.kind()),
        Role::Content(true) => "in the person's own words".to_owned(),
        Role::Content(false) => "in other words".to_owned(),
        Role::Refers => "of content".to_owned(),
    };
    origins.arguments.iter().map(told).collect::<Vec<_>>().join(", ")
}

/// A session under the rule of two; the built-in rules for tools tell no more labels apart than this and a new one's.
fn exposed() -> Labels {
    Labels { confidentiality: Confidentiality::Confidential, integrity: Integrity::Web, ..Labels::default() }
}

/// The levels that clearances tell apart.
fn every_level() -> [Labels; 4] {
    let levels = [
        Confidentiality::Public,
        Confidentiality::Internal,
        Confidentiality::Confidential,
        Confidentiality::Secret,
    ];
    levels.map(|confidentiality| Labels { confidentiality, ..Labels::default() })
}

/// The tools of both versions, with those that patterns name but nobody has seen yet, so that a pattern that grew shows.
fn tools(old: &Sources<'_>, new: &Sources<'_>) -> (Vec<KnownTool>, Vec<KnownTool>) {
    let imagined: BTreeSet<ToolRef> = imagined(old.agent).chain(imagined(new.agent)).collect();
    let with = |known: &[KnownTool]| {
        let mut all = known.to_vec();
        for tool in imagined.iter().filter(|tool| known.iter().all(|known| known.tool != **tool)) {
            let pin = Some(Digest::from_bytes([0; 32]));
            all.push(KnownTool { tool: tool.clone(), pin, input_schema: Value::Null, row: None });
        }
        all
    };
    (with(old.tools), with(new.tools))
}

/// For each pattern, tools that it names: with nothing and with something for each star.
fn imagined(agent: &AgentFile) -> impl Iterator<Item = ToolRef> {
    agent.tools.iter().flat_map(|table| {
        table.rules.iter().flat_map(|rule| {
            ["", "a-tool-yet-to-come"].into_iter().filter_map(|star| {
                let name = rule.pattern.as_str().replace('*', star);
                let tool: ToolName = name.parse().ok()?;
                let server: ServerName = table.server.clone();
                Some(ToolRef { server, tool })
            })
        })
    })
}
