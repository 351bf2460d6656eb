//! Resources and prompts: to pins, policy, labels and the ledger, to read one is to call a tool of its server that only
//! reads, [`RESOURCE`] or [`PROMPT`]. So an agent reads what `agent.toml` lets it, and no rule is written twice.
//!
//! An agent chooses the words of what it asks for. Where nobody has classified the two, it may name only what the server
//! lists, without words of its own; a row in the server's table says what more does.

use domain::{Effect, Effects, ServerName, TeamName, ToolName, ToolRef};
use policy::Row;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wire::tools::{
    Content, Contents, Hints, Prompt, PromptText, Resource, ResourceTemplate, ToolFailure, ToolFailureKind,
    ToolResult,
};

use super::gate::{SessionGate, internal};
use super::servers::FRESH;
use super::upstream::{Acted, CallFailed, ToolDescription, ToolList, Upstream, Withheld};
use super::{CallContext, ToolCall};

/// Reads a resource.
pub(super) const RESOURCE: &str = "resources-read";
/// Fills a prompt in.
pub(super) const PROMPT: &str = "prompts-get";

/// Whether a tool is one of the two. No server's own can be: they are withheld.
pub(super) fn is_reading(tool: &ToolName) -> bool {
    [RESOURCE, PROMPT].contains(&tool.as_str())
}

/// What is said of the two where a server's table says nothing.
pub(super) fn row(tool: &ToolName) -> Option<Row> {
    let effects = Effects::of(&[Effect::Read])?;
    is_reading(tool).then(|| Row { effects, sensitive: [].into(), ..Row::unknown() })
}

/// Puts the two on a server's list, as far as it has resources or prompts, and withholds what it offers of their names.
pub(super) fn offer(upstream: &Upstream, list: &mut ToolList) {
    let (own, others) = std::mem::take(&mut list.tools).into_iter().partition(|tool| is_reading(&tool.name));
    list.tools = others;
    let why = "this name is the gateway's, for resources and prompts";
    let withhold = |tool: ToolDescription| Withheld { name: tool.name.to_string(), why: why.to_owned() };
    list.withheld.extend(Vec::into_iter(own).map(withhold));
    let (resources, prompts) = upstream.readable();
    let string = json!({"type": "string"});
    if resources {
        let properties = json!({"uri": string});
        list.tools.extend(described(RESOURCE, "Reads a resource of this server.", &properties, &["uri"]));
    }
    if prompts {
        let properties =
            json!({"name": string, "arguments": {"type": "object", "additionalProperties": string}});
        list.tools.extend(described(PROMPT, "Gets a prompt of this server.", &properties, &["name"]));
    }
}

fn described(name: &str, says: &str, properties: &Value, required: &[&str]) -> Option<ToolDescription> {
    let schema = json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false
    });
    Some(ToolDescription {
        name: name.parse().ok()?,
        title: None,
        description: Some(says.to_owned()),
        input_schema: schema.to_string(),
        output_schema: None,
        hints: Hints { read_only: Some(true), ..Hints::default() },
    })
}

/// Does what one of the two stands for.
pub(super) async fn call(
    upstream: &Upstream,
    tool: &ToolName,
    arguments: &str,
    cancelled: &CancellationToken,
) -> Result<ToolResult, CallFailed> {
    let failed = |failure| {
        let acted = if cancelled.is_cancelled() { Acted::Unknown } else { Acted::Failed };
        CallFailed { failure, acted }
    };
    let arguments: Value = serde_json::from_str(arguments).map_err(|error| {
        let why = format!("the arguments can't be read: {error}");
        CallFailed { failure: ToolFailure::new(ToolFailureKind::Invalid, why), acted: Acted::No }
    })?;
    let text = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    if tool.as_str() == RESOURCE {
        let contents = upstream.read(&text("uri"), cancelled).await.map_err(failed)?;
        let content = contents.into_iter().map(Content::Resource).collect();
        return Ok(ToolResult { content, structured: None, is_error: false });
    }
    let filled = arguments.get("arguments").and_then(Value::as_object).into_iter().flatten();
    let filled = filled.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
    let prompt = upstream.prompt(&text("name"), filled.collect(), cancelled).await.map_err(failed)?;
    let structured = serde_json::to_string(&prompt).map_err(|error| failed(internal(error)))?;
    let content = prompt.messages.into_iter().map(|message| message.content).collect();
    Ok(ToolResult { content, structured: Some(structured), is_error: false })
}

/// A resource's URI as agents know it: its server's name, and what the server calls it.
fn outer(server: &ServerName, uri: &str) -> String {
    format!("{server}+{uri}")
}

fn split(text: &str, by: &str, what: &str) -> Result<(ServerName, String), ToolFailure> {
    let parts = text.split_once(by).and_then(|(server, rest)| Some((server.parse().ok()?, rest.to_owned())));
    parts.ok_or_else(|| {
        let why =
            format!("there is no such {what} for this agent: it is written SERVER{by}…, as it is listed");
        ToolFailure::new(ToolFailureKind::NotFound, why)
    })
}

impl SessionGate {
    /// The servers of which the agent may use one of the two. The session meets what their lists may say.
    async fn readable(&self, tool: &str) -> Result<Vec<ServerName>, ToolFailure> {
        let policy = std::sync::Arc::clone(&self.policy.borrow());
        let mut servers = Vec::new();
        for offered in policy.offered().into_iter().filter(|offered| offered.tool.as_str() == tool) {
            // One that is withheld or whose server is down is left out, as with tools.
            if self.servers.tool(policy.team(), offered, policy.pin(offered), FRESH).await.is_ok() {
                self.meet_tool(offered).await?;
                servers.push(offered.server.clone());
            }
        }
        Ok(servers)
    }

    pub(super) async fn list_resources(&self) -> Result<Vec<Resource>, ToolFailure> {
        let mut all = Vec::new();
        for server in self.readable(RESOURCE).await? {
            let listed = self.servers.resources(&self.team(), &server).await?;
            // What nobody pinned tells the agent no more than it needs to choose.
            all.extend(listed.into_iter().map(|listed| Resource {
                uri: outer(&server, &listed.uri),
                title: None,
                description: None,
                ..listed
            }));
        }
        Ok(all)
    }

    pub(super) async fn list_templates(&self) -> Result<Vec<ResourceTemplate>, ToolFailure> {
        let mut all = Vec::new();
        for server in self.readable(RESOURCE).await? {
            if !self.servers.is_classified(&server, RESOURCE) {
                continue;
            }
            let listed = self.servers.templates(&self.team(), &server).await?;
            all.extend(listed.into_iter().map(|listed| ResourceTemplate {
                uri_template: outer(&server, &listed.uri_template),
                title: None,
                description: None,
                ..listed
            }));
        }
        Ok(all)
    }

    pub(super) async fn read_resource(&self, uri: &str) -> Result<Vec<Contents>, ToolFailure> {
        let (server, inner) = split(uri, "+", "resource")?;
        if !self.servers.is_classified(&server, RESOURCE) {
            let listed = self.list_resources().await?;
            if !listed.iter().any(|listed| listed.uri == uri) {
                return Err(not_listed(&server, RESOURCE, "what it lists"));
            }
        }
        let result = self.reading(&server, RESOURCE, &json!({"uri": inner})).await?;
        let contents = result.content.into_iter().filter_map(|content| match content {
            Content::Resource(contents) => Some(Contents { uri: outer(&server, &contents.uri), ..contents }),
            Content::Text(_) | Content::Image { .. } | Content::Audio { .. } | Content::Link(_) => None,
        });
        Ok(contents.collect())
    }

    pub(super) async fn list_prompts(&self) -> Result<Vec<Prompt>, ToolFailure> {
        let mut all = Vec::new();
        for server in self.readable(PROMPT).await? {
            let listed = self.servers.prompts(&self.team(), &server).await?;
            all.extend(listed.into_iter().map(|listed| Prompt {
                name: format!("{server}__{}", listed.name),
                title: None,
                description: None,
                ..listed
            }));
        }
        Ok(all)
    }

    pub(super) async fn get_prompt(
        &self,
        name: &str,
        arguments: Vec<(String, String)>,
    ) -> Result<PromptText, ToolFailure> {
        let (server, inner) = split(name, "__", "prompt")?;
        if !self.servers.is_classified(&server, PROMPT) {
            let known = self.list_prompts().await?.iter().any(|listed| listed.name == name);
            if !known || !arguments.is_empty() {
                return Err(not_listed(&server, PROMPT, "what it lists, without arguments"));
            }
        }
        let arguments: serde_json::Map<String, Value> =
            arguments.into_iter().map(|(name, value)| (name, value.into())).collect();
        let result = self.reading(&server, PROMPT, &json!({"name": inner, "arguments": arguments})).await?;
        serde_json::from_str(&result.structured.unwrap_or_default()).map_err(internal)
    }

    fn team(&self) -> TeamName {
        self.policy.borrow().team().clone()
    }

    async fn reading(
        &self,
        server: &ServerName,
        tool: &str,
        arguments: &Value,
    ) -> Result<ToolResult, ToolFailure> {
        let tool = ToolRef { server: server.clone(), tool: tool.parse().map_err(internal)? };
        self.make(ToolCall { tool, arguments: arguments.to_string() }, &CallContext::unheard()).await
    }
}

fn not_listed(server: &ServerName, tool: &str, what: &str) -> ToolFailure {
    let why = format!("of {server}, an agent may read only {what}: nobody has classified `{tool}`");
    ToolFailure::new(ToolFailureKind::Refused, why)
        .hint(format!("an owner says what it does in the server's table: `[tools.{tool}]`"))
}
