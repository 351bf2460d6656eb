//! What a decision costs, with 10, 100 and 1,000 agents' policies in memory: `cargo bench -p policy`.

use std::error::Error;
use std::io::Write as _;
use std::time::{Duration, Instant};

use domain::{AgentFile, Confidentiality, Integrity, Labels, ToolRef};
use policy::{
    AgentPolicy, Arguments, Call, Counts, KnownTool, Pin, Seen, Sources, Table, Text, ToolCall, ToolFacts,
    decide,
};
use serde_json::{Value, json};

const PROMPT: &str = "Send ada@example.org a mail with the subject \"Lunch\" that says: see you at ten";
const CALLS: usize = 20_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let tools = tools()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "decisions of a tool call, context building included (µs)")?;
    writeln!(
        out,
        "{:>7}  {:>7} {:>7}  {:>7} {:>7}  with judging: {:>7} {:>7}",
        "agents", "p50", "p99", "ask p50", "p99", "p50", "p99"
    )?;
    for agents in [10, 100, 1000] {
        let policies = policies(agents, &tools)?;
        let own = json!({"to": ["ada@example.org"], "subject": "Lunch", "body": "see you at ten"});
        let other = json!({"to": ["mallory@evil.example"], "subject": "Lunch", "body": "the inbox"});
        let (allow, judged) = measure(&policies, &own)?;
        let (ask, _) = measure(&policies, &other)?;
        let (a, b, j) = (percentiles(allow), percentiles(ask), percentiles(judged));
        writeln!(
            out,
            "{agents:>7}  {:>7.1} {:>7.1}  {:>7.1} {:>7.1}                {:>7.1} {:>7.1}",
            a.0, a.1, b.0, b.1, j.0, j.1
        )?;
    }
    Ok(())
}

fn tools() -> Outcome<Vec<KnownTool>> {
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

fn policies(agents: usize, tools: &[KnownTool]) -> Outcome<Vec<AgentPolicy>> {
    let organisation = [Text {
        name: "organisation.cedar",
        text: "forbid (principal, action == Action::\"mail__delete\", resource) unless { context.granted };",
    }];
    let own =
        "forbid (principal, action == Action::\"mail__send\", resource) when { context.calls_today > 100 };";
    let compile = |n: usize| {
        let file = AgentFile::parse(&format!(
            "name = \"agent-{n}\"\nmodels = [\"a/b\"]\n[tools.mail]\nallow = [\"read\", \"search\", \"send*\"]\nask = [\"move\"]\ndeny = [\"delete\"]"
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

/// The time of each decision, and of each with the arguments' form and origins.
fn measure(policies: &[AgentPolicy], arguments: &Value) -> Outcome<(Vec<Duration>, Vec<Duration>)> {
    let tool: ToolRef = "mail__send".parse()?;
    let labels = Labels {
        confidentiality: Confidentiality::Confidential,
        integrity: Integrity::Web,
        ..Labels::default()
    };
    let mut seen = Seen::new([1; 32]);
    seen.person(PROMPT);
    let (mut decided, mut whole) = (Vec::new(), Vec::new());
    for policy in policies.iter().cycle().take(CALLS) {
        let row = policy.row(&tool).ok_or("no such tool")?;
        let pin = policy.pin(&tool).ok_or("no pin")?;
        let start = Instant::now();
        let arguments = Arguments::new(arguments)?;
        let origins = seen.judge(row, &arguments)?;
        let facts = ToolFacts { labels: labels.clone(), origins, pin, calls: Counts::default() };
        let call = Call { action: ToolCall { tool: tool.clone(), arguments }, facts };
        let ready = Instant::now();
        let decision = std::hint::black_box(decide(policy, call));
        decided.push(ready.elapsed());
        whole.push(start.elapsed());
        drop(decision);
    }
    Ok((decided, whole))
}

/// The median and the 99th percentile, in microseconds.
fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort();
    let at = |percent: usize| {
        let at = times.len().saturating_mul(percent) / 100;
        times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    (at(50), at(99))
}
