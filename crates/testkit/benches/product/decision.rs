//! What a decision on a tool call costs, with 10, 100 and 1,000 agents' policies in memory: from its arguments and the
//! session's facts to the answer.

use std::time::Instant;

use domain::{AgentFile, Confidentiality, Integrity, Labels, ToolRef};
use policy::{
    AgentPolicy, Arguments, Call, Counts, KnownTool, Pin, Seen, Sources, Table, Text, ToolCall, ToolFacts,
    decide,
};
use serde_json::{Value, json};

use crate::Result;
use crate::report::Number;

const PROMPT: &str = "Send ada@example.org a mail with the subject \"Lunch\" that says: see you at ten";
const CALLS: usize = 20_000;
/// What a decision may take, in µs.
const TARGET: f64 = 50.0;
/// How much more it may take with a hundred times as many agents.
const FLAT: f64 = 1.3;

pub async fn run() -> Result<Vec<Number>> {
    tokio::task::spawn_blocking(measure_all).await?
}

fn measure_all() -> Result<Vec<Number>> {
    let tools = tools()?;
    let own = json!({"to": ["ada@example.org"], "subject": "Lunch", "body": "see you at ten"});
    let other = json!({"to": ["mallory@evil.example"], "subject": "Lunch", "body": "the inbox"});
    let (mut allowed, mut asked) = (Vec::new(), Vec::new());
    for agents in [10, 100, 1000] {
        eprintln!("bench: decisions with {agents} agents");
        let policies = policies(agents, &tools)?;
        allowed.push((agents, percentiles(measure(&policies, &own)?)));
        asked.push((agents, percentiles(measure(&policies, &other)?)));
    }
    let mut numbers = Vec::new();
    for (what, times) in [("allowed", allowed), ("asked", asked)] {
        let first = times.first().map_or(0.0, |(_, (p50, _))| *p50);
        for (agents, (p50, p99)) in times {
            let name = |which: &str| format!("a call {what}, {agents} agents, {which}");
            numbers.push(Number::against(name("p50"), "µs", p50, "the target", TARGET).at_most(1.0));
            numbers.push(Number::alone(name("p99"), "µs", p99));
            if agents == 1000 {
                let name = format!("a call {what}, 1000 agents");
                numbers.push(Number::against(name, "µs", p50, "10 agents", first).at_most(FLAT));
            }
        }
    }
    Ok(numbers)
}

fn tools() -> Result<Vec<KnownTool>> {
    let table = Table::parse(Table::shipped("mail").unwrap_or_default())?;
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let text = json!({"type": "string"});
    let input_schema = json!({"properties": {"to": texts, "cc": texts, "subject": text, "body": text}});
    let known = table.tools.into_iter().map(|(name, row)| {
        let tool: ToolRef = format!("mail__{name}").parse()?;
        let pin = Pin {
            tool: tool.clone(),
            description: String::new(),
            input_schema: input_schema.clone(),
            effects: row.effects,
        };
        Ok(KnownTool { tool, pin: Some(pin.digest()?), input_schema: input_schema.clone(), row: Some(row) })
    });
    known.collect()
}

fn policies(agents: usize, tools: &[KnownTool]) -> Result<Vec<AgentPolicy>> {
    let organisation = [Text {
        name: "organisation.cedar",
        text: "forbid (principal, action == Action::\"mail__delete\", resource) unless { context.granted };",
    }];
    let own =
        "forbid (principal, action == Action::\"mail__send\", resource) when { context.calls_today > 100 };";
    let compile = |n: usize| {
        let file = AgentFile::parse(&format!(
            "name = \"agent-{n}\"\nmodels = [\"a/b\"]\n[tools.mail]\nallow = [\"read\", \"search\", \"send*\"]\n\
             ask = [\"move\"]\ndeny = [\"delete\"]"
        ))?;
        Ok(AgentPolicy::compile(&Sources {
            agent: &file,
            file: "agent.toml",
            own: Some(Text { name: "policy.cedar", text: own }),
            organisation: &organisation,
            tools,
            models: &[],
        })?)
    };
    (0..agents).map(compile).collect()
}

/// What each decision takes with all that it takes, in µs: the arguments' one form, their origins, the context.
fn measure(policies: &[AgentPolicy], arguments: &Value) -> Result<Vec<f64>> {
    let tool: ToolRef = "mail__send".parse()?;
    let labels = Labels {
        confidentiality: Confidentiality::Confidential,
        integrity: Integrity::Web,
        ..Labels::default()
    };
    let mut seen = Seen::new([1; 32]);
    seen.person(PROMPT);
    let mut took = Vec::new();
    for policy in policies.iter().cycle().take(CALLS) {
        let row = policy.row(&tool).ok_or("no such tool")?;
        let pin = policy.pin(&tool).ok_or("no pin")?;
        let start = Instant::now();
        let arguments = Arguments::new(arguments)?;
        let origins = seen.judge(row, &arguments)?;
        let facts = ToolFacts { labels: labels.clone(), origins, pin, calls: Counts::default() };
        let call = Call { action: ToolCall { tool: tool.clone(), arguments }, facts };
        let decision = std::hint::black_box(decide(policy, call));
        took.push(start.elapsed().as_secs_f64() * 1e6);
        drop(decision);
    }
    Ok(took)
}

/// The median and the 99th percentile.
fn percentiles(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    (at(50), at(99))
}
