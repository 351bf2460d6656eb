//! Plans: several calls, for which an agent asks people once. Each call is then bound to what was approved: its
//! arguments, but for the numbers that the plan leaves open, and how often it is made.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Digest, Effects, Labels, Origin, ToolRef};
use policy::{Decision, Question, Ranges};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{NewGrant, Private, Uses};
use wire::tools::{Content, Hints, Tool, ToolFailure, ToolFailureKind, ToolResult};

use super::asking::{Referred, Standing, consequences, digest, origins};
use super::gate::{Decided, Looked, SessionGate, internal, refused};
use super::{CallContext, ToolCall};

/// Most calls of a plan.
const MAX_PLANNED: usize = 50;

/// What an agent proposes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    calls: Vec<PlannedCall>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlannedCall {
    tool: String,
    arguments: Value,
    #[serde(default = "once")]
    times: u32,
    #[serde(default)]
    ranges: Ranges,
}

fn once() -> u32 {
    1
}

/// Whether this is the tool by which agents propose plans.
pub(super) fn is_plan(tool: &ToolRef) -> bool {
    tool.server.as_str() == "lazaret" && tool.tool.as_str() == "plan"
}

/// The tool by which agents propose plans. No server may be called `lazaret`.
pub(super) fn plan_tool() -> Tool {
    let schema = json!({
        "type": "object",
        "properties": { "calls": {
            "type": "array", "minItems": 1, "maxItems": MAX_PLANNED,
            "items": {
                "type": "object",
                "properties": {
                    "tool": { "type": "string", "description": "The tool's name, as it is listed" },
                    "arguments": { "type": "object", "description": "Its exact arguments" },
                    "times": { "type": "integer", "minimum": 1, "maximum": 100 },
                    "ranges": {
                        "type": "object", "maxProperties": Ranges::MAX,
                        "description": "Numbers that are left open: place in the arguments, as `items/0/amount` -> least and most",
                        "additionalProperties": {
                            "type": "object",
                            "properties": { "from": { "type": "number" }, "to": { "type": "number" } },
                            "required": ["from", "to"], "additionalProperties": false
                        }
                    }
                },
                "required": ["tool", "arguments"], "additionalProperties": false
            }
        } },
        "required": ["calls"], "additionalProperties": false
    });
    Tool {
        name: "lazaret__plan".to_owned(),
        title: Some("Propose a plan".to_owned()),
        description: Some(
            "Asks the person once for several tool calls that each would ask. Give the exact calls, and ranges for \
             numbers that you don't know yet; when the plan is approved, make them exactly so."
                .to_owned(),
        ),
        input_schema: schema.to_string(),
        output_schema: None,
        hints: Hints { read_only: Some(true), ..Hints::default() },
    }
}

/// A planned call, looked at as it is proposed, and with its open numbers at both ends.
struct LookedAt {
    looked: Vec<Looked>,
    referred: Referred,
    times: u32,
    ranges: Ranges,
}

/// A call of a plan that needs people.
struct Asked {
    call: policy::ToolCall,
    /// The questions that the call, and each of its ends, leads to: one at least, about the same tool.
    questions: Vec<Question<policy::ToolCall>>,
    binding: Digest,
    times: u32,
    ranges: Ranges,
}

/// What people are asked for a plan.
#[derive(Default)]
struct Needed {
    asked: Vec<Asked>,
    content: String,
}

impl SessionGate {
    /// Puts a plan to people; when they approve it, each of its calls may be made as often as it says.
    pub(super) async fn plan(
        &self,
        call: &ToolCall,
        context: &CallContext,
    ) -> Result<ToolResult, ToolFailure> {
        let plan: Plan = serde_json::from_str(&call.arguments)
            .map_err(|e| invalid(format!("the plan can't be read: {e}")))?;
        let sound = (1..=MAX_PLANNED).contains(&plan.calls.len())
            && plan.calls.iter().all(|call| (1..=100).contains(&call.times));
        if !sound {
            return Err(invalid(format!("a plan has 1 to {MAX_PLANNED} calls, each made 1 to 100 times")));
        }
        let needed = self.needed(plan).await?;
        let mut questions = needed.asked.iter().flat_map(|asked| &asked.questions);
        let Some(first) = questions.next() else {
            return Ok(text("No call of this plan needs a person: make them."));
        };
        if questions.any(|question| question.approvals() != first.approvals()) {
            let why = "different people answer for the calls of this plan: make a plan for each";
            return Err(invalid(why.to_owned()));
        }
        let first = first.clone();
        self.approve(needed, &first, &call.tool, context).await?;
        Ok(text("The plan is approved: make its calls exactly as they are in it."))
    }

    /// Looks at each call; one that is denied ends the plan.
    async fn needed(&self, plan: Plan) -> Result<Needed, ToolFailure> {
        let mut all = Vec::new();
        for planned in plan.calls {
            let looked = self.looked_at(planned).await?;
            // What its calls will bring is met now, so that the first of them doesn't void the right to the others.
            for looked in &looked.looked {
                self.meet(looked).await?;
            }
            all.push(looked);
        }
        let mut needed = Needed::default();
        for looked in all {
            self.add(looked, &mut needed).await?;
        }
        Ok(needed)
    }

    async fn looked_at(&self, planned: PlannedCall) -> Result<LookedAt, ToolFailure> {
        let PlannedCall { tool, arguments, times, ranges } = planned;
        let tool: ToolRef = tool.parse().map_err(|e| invalid(format!("`calls`: {e}")))?;
        let call = |arguments: String| ToolCall { tool: tool.clone(), arguments };
        let first = self.look(call(arguments.to_string())).await?;
        let referred = self.referred(&first).await?;
        let mut looked = vec![first];
        if !ranges.is_empty() {
            let ends = looked.first().map(|first| ranges.ends(&first.call.arguments)).transpose();
            for end in ends.map_err(|e| invalid(format!("`ranges`: {e}")))?.into_iter().flatten() {
                looked.push(self.look(call(end.text().to_owned())).await?);
            }
        }
        Ok(LookedAt { looked, referred, times, ranges })
    }

    /// Decides on a planned call and on its ends, and adds it to what people are asked.
    async fn add(&self, planned: LookedAt, needed: &mut Needed) -> Result<(), ToolFailure> {
        let LookedAt { looked, referred, times, ranges } = planned;
        let mut questions = Vec::new();
        for looked in &looked {
            let Decided { decision, turn, .. } = self.decided(looked).await?;
            // Each of its calls is decided on once more when it is made.
            drop(turn);
            match decision {
                Decision::Allow(_) => {}
                Decision::Deny(reasons) => return Err(refused(&reasons)),
                Decision::Ask(question) => questions.push(question.showing(referred.shown.clone())),
            }
        }
        let (Some(first), Some(looked)) = (questions.first(), looked.into_iter().next()) else {
            return Ok(());
        };
        let binding = first.binding_within(&ranges).map_err(|e| invalid(format!("`ranges`: {e}")))?;
        let number = needed.asked.len().saturating_add(1);
        let open: String = ranges.iter().map(|(place, range)| open(place, range, times)).collect();
        let often = if times == 1 { String::new() } else { format!(" {times} times") };
        let (tool, arguments) = (&looked.call.tool, looked.call.arguments.text());
        needed.content.push_str(&format!("{number}. {tool}{often} {arguments}\n{open}{}", referred.text));
        needed.asked.push(Asked { call: looked.call, questions, binding, times, ranges });
        Ok(())
    }

    async fn approve(
        &self,
        needed: Needed,
        first: &Question<policy::ToolCall>,
        tool: &ToolRef,
        context: &CallContext,
    ) -> Result<(), ToolFailure> {
        let about = self.session.about.clone();
        let (Some(agent), Some(session)) = (about.agent.clone(), about.session) else {
            return Err(internal("a plan without agent or session"));
        };
        self.counts_question(&store::Act::Plan)?;
        let binding = binding(&needed.asked);
        let questions = || needed.asked.iter().flat_map(|asked| &asked.questions);
        let ceiling = questions().fold(Labels::default(), |all, q| all.join(q.labels()));
        let effects =
            questions().filter_map(Question::effects).reduce(Effects::and).unwrap_or(Effects::UNKNOWN);
        let reasons: BTreeSet<String> =
            questions().flat_map(|q| q.reasons().iter().map(ToString::to_string)).collect();
        let (now, id) = self.servers.approval_id().map_err(internal)?;
        let quorum = self.quorum(first.approvals(), now).await?;
        let (until, excluded) = (quorum.until, quorum.excluded.clone());
        let question = store::Question {
            agent,
            about: about.clone(),
            act: store::Act::Plan,
            binding,
            shown: store::Shown {
                arguments: Private::new(calls(&needed.asked)),
                origins: [numbered(&needed.asked), self.addresses_in(&needed.content).await].concat(),
                content: Private::new(needed.content.clone()),
                consequences: consequences(effects),
            },
            effects,
            ceiling,
            reasons: reasons.into_iter().collect(),
            quorum,
        };
        let store = self.servers.store();
        let approval = store.ask(id, &question, now).await.map_err(internal)?.id();
        self.tell_waits(approval, tool);
        self.answered(approval, tool, context).await?;
        let mut planned = Vec::new();
        let mut grants = Vec::new();
        for Asked { questions, binding, times, ranges, .. } in needed.asked {
            let (grant, uses) = (self.servers.grant_id().map_err(internal)?, Uses::Times(times));
            let ceiling = questions.first().map(|question| question.labels().clone()).unwrap_or_default();
            grants.push(NewGrant { id: grant, session, binding, uses, until });
            let excluded = excluded.clone();
            planned.push(Standing { approval, binding, ceiling, ranges, grant, uses, excluded });
        }
        let granted = store.grant(approval, &binding, &grants, &about, self.servers.now()).await;
        granted.map_err(|e| ToolFailure::new(ToolFailureKind::Refused, e.to_string()))?;
        self.state.lock().await.standing.extend(planned);
        Ok(())
    }
}

/// What the answer to a plan is bound to: each of its calls, and how often it is made.
fn binding(asked: &[Asked]) -> Digest {
    let part = |asked: &Asked| [asked.binding.as_bytes(), &asked.times.to_be_bytes()[..]].concat();
    let parts: Vec<Vec<u8>> = asked.iter().map(part).collect();
    let parts = std::iter::once(&b"lazaret plan 1"[..]).chain(parts.iter().map(Vec::as_slice));
    digest(&parts.collect::<Vec<_>>())
}

fn invalid(why: String) -> ToolFailure {
    ToolFailure::new(ToolFailureKind::Invalid, why)
}

/// A range as a person reads it; for calls that are made more than once, with what they may come to.
fn open(place: &str, range: policy::Range, times: u32) -> String {
    let policy::Range { from, to } = range;
    let sum = if times == 1 { String::new() } else { format!(", {} in all at most", to * f64::from(times)) };
    format!("   `{place}` may be any number from {from} to {to}{sum}\n")
}

/// The calls of a plan, as one JSON text.
fn calls(asked: &[Asked]) -> String {
    let calls = asked.iter().map(|Asked { call, times, ranges, .. }| {
        let mut shown = json!({ "tool": call.tool, "arguments": call.arguments.value(), "times": times });
        if let Some(shown) = shown.as_object_mut().filter(|_| !ranges.is_empty()) {
            let ranges = ranges.iter().map(|(place, range)| (place.to_owned(), json!(range)));
            shown.insert("ranges".to_owned(), Value::Object(ranges.collect()));
        }
        shown
    });
    Value::Array(calls.collect()).to_string()
}

/// Where each argument came from; of a number that is left open, the worst of where it and its ends came from.
fn numbered(asked: &[Asked]) -> Vec<(String, Origin)> {
    let numbered = asked.iter().enumerate().flat_map(|(number, asked)| {
        let mut worst: BTreeMap<String, Origin> = BTreeMap::new();
        for (place, origin) in asked.questions.iter().flat_map(origins) {
            let at = format!("/{number}/arguments{place}");
            let known = worst.entry(at).or_insert_with(|| origin.clone());
            *known = known.clone().max(origin);
        }
        worst
    });
    numbered.collect()
}

fn text(text: &str) -> ToolResult {
    ToolResult { content: vec![Content::Text(text.to_owned())], structured: None, is_error: false }
}
