//! A mail clerk and its mail server, for tests of decisions.

use std::collections::BTreeMap;

use domain::{AgentFile, Confidentiality, Digest, Integrity, Labels, ToolRef};
use policy::{
    AgentPolicy, Arguments, Call, Counts, Decision, KnownModel, KnownTool, Origins, Pin, PolicyError, Seen,
    Sources, Table, Text, ToolCall, ToolFacts, decide,
};
use serde_json::{Value, json};

pub(crate) const CLERK: &str = r#"name = "mail-clerk"
team = "sales"
models = ["scripted/model"]

[tools.mail]
allow = ["search", "read", "list_folders", "draft_*", "send", "send_draft", "delete"]
ask = ["move"]
deny = ["send_raw"]

[approvals]
from = "sales-leads"
need = 2
"#;

pub(crate) fn tool(name: &str) -> ToolRef {
    format!("mail__{name}").parse().unwrap()
}

pub(crate) fn pin(tool: &ToolRef) -> Digest {
    let schema = input_schema(tool);
    let effects = domain::Effects::UNKNOWN;
    Pin { tool: tool.clone(), description: String::new(), input_schema: schema, effects }.digest().unwrap()
}

fn input_schema(tool: &ToolRef) -> Value {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let text = json!({"type": "string"});
    match tool.tool.as_str() {
        "send" | "draft_create" => {
            json!({"properties": {"to": texts, "cc": texts, "subject": text, "body": text}})
        }
        "search" => json!({"properties": {"query": text, "most": {"type": "integer"}}}),
        "empty_trash" => json!({"properties": {}}),
        _ => json!({"properties": {"id": text, "folder": text}}),
    }
}

pub(crate) fn table() -> Table {
    Table::parse(policy::SHIPPED.iter().find(|(name, _)| *name == "mail").unwrap().1).unwrap()
}

pub(crate) fn known() -> Vec<KnownTool> {
    let mut rows: BTreeMap<String, Option<policy::Row>> =
        table().tools.into_iter().map(|(name, row)| (name.to_string(), Some(row))).collect();
    rows.insert("send_raw".to_owned(), rows["send"].clone());
    rows.insert("new_tool".to_owned(), None);
    rows.insert("empty_trash".to_owned(), Some(toml::from_str("effects = [\"irreversible\"]").unwrap()));
    rows.into_iter()
        .map(|(name, row)| {
            let tool = tool(&name);
            KnownTool { pin: Some(pin(&tool)), input_schema: input_schema(&tool), tool, row }
        })
        .collect()
}

pub(crate) fn compile(
    agent: &str,
    own: Option<&str>,
    organisation: &[Text<'_>],
) -> Result<AgentPolicy, PolicyError> {
    let file = AgentFile::parse(agent).unwrap();
    let models =
        [KnownModel { model: "scripted/model".parse().unwrap(), clearance: Confidentiality::Confidential }];
    let own = own.map(|text| Text { name: "policy.cedar", text });
    let tools = known();
    AgentPolicy::compile(&Sources {
        agent: &file,
        file: "agent.toml",
        own,
        organisation,
        tools: &tools,
        models: &models,
    })
}

pub(crate) fn clerk() -> AgentPolicy {
    compile(CLERK, None, &[]).unwrap()
}

pub(crate) fn labelled() -> Labels {
    Labels { confidentiality: Confidentiality::Confidential, integrity: Integrity::Web, ..Labels::default() }
}

pub(crate) fn call(name: &str, arguments: &Value, labels: Labels, origins: Origins) -> Call<ToolCall> {
    let tool = tool(name);
    let facts = ToolFacts { labels, origins, pin: pin(&tool), calls: Counts::default() };
    Call { action: ToolCall { tool, arguments: Arguments::new(arguments).unwrap() }, facts }
}

/// A session of the clerk.
pub(crate) struct Session {
    pub(crate) policy: AgentPolicy,
    pub(crate) seen: Seen,
    pub(crate) labels: Labels,
}

impl Session {
    pub(crate) fn new(prompt: &str) -> Self {
        let mut seen = Seen::new([1; 32]);
        seen.person(prompt);
        Self { policy: clerk(), seen, labels: labelled() }
    }

    pub(crate) fn result(&mut self, name: &str, value: &Value) {
        let row = self.policy.row(&tool(name)).unwrap().clone();
        self.seen.result(&tool(name), &row, value);
    }

    pub(crate) fn decide(&mut self, name: &str, arguments: &Value) -> Decision<ToolCall> {
        let row = self.policy.row(&tool(name)).unwrap().clone();
        let origins = self.seen.judge(&row, &Arguments::new(arguments).unwrap()).unwrap();
        decide(&self.policy, call(name, arguments, self.labels.clone(), origins))
    }

    pub(crate) fn answer(&mut self, name: &str, arguments: &Value) -> &'static str {
        word(&self.decide(name, arguments))
    }
}

pub(crate) fn word(decision: &Decision<ToolCall>) -> &'static str {
    match decision {
        Decision::Allow(_) => "allow",
        Decision::Ask(_) => "ask",
        Decision::Deny(_) => "deny",
    }
}
