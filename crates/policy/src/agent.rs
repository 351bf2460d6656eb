//! An agent's policy: `agent.toml`, the `policy.cedar` beside it, the organisation's policies and the built-in rules,
//! compiled into one small slice per tool and model, so that a decision costs the same however many agents there are.

mod names;
mod schema;
mod statements;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use cedar_policy::{
    ActionConstraint, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy, PolicyId, PolicySet,
    PrincipalConstraint, ResourceConstraint, RestrictedExpression, Schema,
};
use domain::{
    AgentFile, AgentName, Answer, ApprovalRule, ByteSize, Confidentiality, Digest, Egress, ModelName,
    SecretUse, Target, TeamName, ToolPattern, ToolRef,
};
use serde_json::Value;

use crate::canonical::digest_of;
use crate::table::Row;
pub use names::UnknownName;
pub(crate) use schema::{Types, arguments as seen_arguments};
pub use statements::MAX_CEDAR;
pub(crate) use statements::{Rule, Statement};

/// A named text.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// The file's name, as reasons give it.
    pub name: &'a str,
    /// What it says.
    pub text: &'a str,
}

/// A tool as the gateway knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownTool {
    /// Its full name.
    pub tool: ToolRef,
    /// The pin that a person approved; none: nobody has, so it is withheld.
    pub pin: Option<Digest>,
    /// The JSON Schema of its arguments, as pinned.
    pub input_schema: Value,
    /// What a person said of it; none: nobody has, so the worst is assumed.
    pub row: Option<Row>,
}

impl KnownTool {
    pub(crate) fn row(&self) -> Row {
        self.row.clone().unwrap_or_else(Row::unknown)
    }
}

/// A model as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownModel {
    /// Its full name.
    pub model: ModelName,
    /// The most confidential data that its provider may read.
    pub clearance: Confidentiality,
}

/// What a policy is compiled from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The agent's file.
    pub agent: &'a AgentFile,
    /// The agent file's name, as reasons give it.
    pub file: &'a str,
    /// The `policy.cedar` beside it.
    pub own: Option<Text<'a>>,
    /// The organisation's policies.
    pub organisation: &'a [Text<'a>],
    /// The tools of the servers that exist.
    pub tools: &'a [KnownTool],
    /// The models that exist; one that the agent's file names and that isn't here has no clearance but for public data.
    pub models: &'a [KnownModel],
}

/// Why a policy can't be compiled: nothing is allowed until it is mended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct PolicyError {
    /// The file.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, for people.
    pub message: String,
}

/// An agent's policy, ready for decisions.
#[derive(Debug, Clone)]
pub struct AgentPolicy {
    agent: AgentName,
    team: TeamName,
    file: String,
    tools: BTreeMap<ToolRef, Slice>,
    models: BTreeMap<ModelName, Slice>,
    connect: Option<(Slice, Egress)>,
    secrets: Vec<SecretUse>,
    schema: String,
    statements: Vec<Statement>,
    unknown: Vec<UnknownName>,
    counts: Counted,
    held: Held,
}

/// How often what was done its rules look at.
#[derive(Debug, Clone, Copy)]
struct Counted {
    /// In a session or in a day.
    ever: bool,
    in_days: bool,
}

/// What keeps a policy from allowing what its rules allow.
#[derive(Debug, Clone)]
pub(crate) enum Held {
    /// Nothing.
    No,
    /// It allows no more than this one.
    Within(Arc<AgentPolicy>),
    /// It allows nothing, and why.
    Closed(String),
}

/// What an agent's requests may take of `[egress]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressLimits {
    /// The body of one request.
    pub body: ByteSize,
    /// Requests in a minute.
    pub requests_per_minute: u32,
    /// Bytes that leave on a day.
    pub bytes_out_per_day: ByteSize,
}

/// What decides on one tool or model.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    pub(crate) policies: PolicySet,
    pub(crate) entities: Entities,
    /// Principal, action and resource.
    pub(crate) request: (EntityUid, EntityUid, EntityUid),
    pub(crate) rules: HashMap<PolicyId, Rule>,
    /// Of the policies, the tool's row and who is asked.
    pub(crate) digest: Digest,
    pub(crate) approvals: ApprovalRule,
    pub(crate) tool: Option<ToolSlice>,
}

/// What a slice knows of its tool.
#[derive(Debug, Clone)]
pub(crate) struct ToolSlice {
    pub(crate) row: Row,
    pub(crate) classified: bool,
    pub(crate) pin: Option<Digest>,
    pub(crate) types: Types,
}

/// The built-in rules, as Cedar.
pub const BUILT_IN: &str = include_str!("agent/builtin.cedar");

const BUILT_IN_FILE: &str = "built-in";

/// Parsed once: all agents share them in memory, so that they are in the processor's cache for each decision.
static BUILT_IN_RULES: LazyLock<Result<Vec<Statement>, PolicyError>> =
    LazyLock::new(|| statements::parse(Text { name: BUILT_IN_FILE, text: BUILT_IN }, true));

impl AgentPolicy {
    /// Compiles an agent's policy.
    ///
    /// # Errors
    /// The first mistake in the policies, with its file and line.
    pub fn compile(from: &Sources<'_>) -> Result<Self, PolicyError> {
        let schema_text = schema::schema(from.tools);
        let (schema, _) = Schema::from_cedarschema_str(&schema_text)
            .map_err(|e| internal(format!("the generated schema is wrong: {e}")))?;
        let built_in = Text { name: BUILT_IN_FILE, text: BUILT_IN };
        let mut all = BUILT_IN_RULES.clone()?;
        statements::validate(built_in, &all, &schema)?;
        for file in from.organisation.iter().copied().chain(from.own) {
            let statements = statements::parse(file, false)?;
            statements::validate(file, &statements, &schema)?;
            all.extend(statements);
        }
        let generated = generated(from)?;
        statements::validate(Text { name: from.file, text: "" }, &generated, &schema)?;
        all.extend(generated);
        let agent = Names::of(from.agent)?;
        let mut tools = BTreeMap::new();
        for known in from.tools {
            tools.insert(known.tool.clone(), agent.tool_slice(from.agent, known, &all)?);
        }
        let mut models = BTreeMap::new();
        for model in &from.agent.models {
            let clearance = from.models.iter().find(|known| known.model == *model).map(|m| m.clearance);
            let clearance = clearance.unwrap_or(Confidentiality::Public);
            models.insert(model.clone(), agent.model_slice(from.agent, model, clearance, &all)?);
        }
        let connect = match &from.agent.egress {
            Some(egress) => Some((agent.connect_slice(egress, &all)?, egress.clone())),
            None => None,
        };
        let is_own = |rule: &&Statement| from.own.is_some_and(|own| rule.rule.file == own.name);
        let unknown = names::unknown(all.iter().filter(is_own), &agent.all_of(from)?);
        Ok(Self {
            agent: from.agent.name.clone(),
            team: from.agent.team.clone(),
            file: from.file.to_owned(),
            unknown,
            tools,
            models,
            connect,
            secrets: from.agent.secrets.clone(),
            schema: schema_text,
            counts: Counted {
                ever: all.iter().any(|statement| statement.looks_at("calls")),
                in_days: all.iter().any(|statement| statement.looks_at("calls_today")),
            },
            statements: all,
            held: Held::No,
        })
    }

    /// The same, but that nothing is allowed that the other doesn't allow, and everything is asked that it asks: what is
    /// narrower in it counts, and what is wider doesn't.
    #[must_use]
    pub fn within(self, other: Arc<Self>) -> Self {
        Self { held: Held::Within(other), ..self }
    }

    /// The same, but that nothing is allowed, since nobody knows any more what was meant to be.
    #[must_use]
    pub fn closed(self, why: String) -> Self {
        Self { held: Held::Closed(why), ..self }
    }

    pub(crate) fn held(&self) -> &Held {
        &self.held
    }

    fn bound(&self) -> Option<&Self> {
        match &self.held {
            Held::Within(other) => Some(other),
            Held::No | Held::Closed(_) => None,
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.held, Held::Closed(_))
    }

    /// The agent.
    #[must_use]
    pub fn agent(&self) -> &AgentName {
        &self.agent
    }

    /// Its team.
    #[must_use]
    pub fn team(&self) -> &TeamName {
        &self.team
    }

    /// What is said of a tool; none if there is no such tool.
    #[must_use]
    pub fn row(&self, tool: &ToolRef) -> Option<&Row> {
        self.tools.get(tool).and_then(|slice| slice.tool.as_ref()).map(|tool| &tool.row)
    }

    /// The pin that a person approved of a tool; none if nobody has.
    #[must_use]
    pub fn pin(&self, tool: &ToolRef) -> Option<Digest> {
        self.tools.get(tool).and_then(|slice| slice.tool.as_ref()).and_then(|tool| tool.pin)
    }

    /// Who is asked about a tool; none if there is no such tool.
    #[must_use]
    pub fn approvals(&self, tool: &ToolRef) -> Option<&ApprovalRule> {
        self.tools.get(tool).map(|slice| &slice.approvals)
    }

    /// The tools that some call could be allowed of, with a grant or without: those that the agent is offered.
    #[must_use]
    pub fn offered(&self) -> Vec<&ToolRef> {
        let bound = self.bound().map(Self::offered);
        let own = self.tools.iter().filter(|(_, slice)| slice.may_be_offered()).map(|(tool, _)| tool);
        own.filter(|tool| !self.is_closed() && bound.as_ref().is_none_or(|bound| bound.contains(tool)))
            .collect()
    }

    /// Whether a policy looks at how often something was done today. Where none does, nobody need count it.
    #[must_use]
    pub fn counts_days(&self) -> bool {
        self.counts.in_days || self.bound().is_some_and(Self::counts_days)
    }

    /// Whether a policy looks at how often something was done, in a session or today. Where none does, what comes at once
    /// need not wait for each other.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.counts.ever || self.bound().is_some_and(Self::counts)
    }

    /// The whole policy as Cedar, for people, each rule with its file and line.
    #[must_use]
    pub fn cedar(&self) -> String {
        let mut text = String::new();
        for statement in &self.statements {
            let line = statement.rule.line.map(|line| format!(":{line}")).unwrap_or_default();
            text.push_str(&format!("// {}{line}\n{}\n\n", statement.rule.file, statement.text));
        }
        text
    }

    /// What the rules of the `policy.cedar` beside the agent name, and nothing is called that the sources know. Where they don't
    /// know all tools of a server, it may be there all the same.
    #[must_use]
    pub fn unknown_names(&self) -> &[UnknownName] {
        &self.unknown
    }

    /// The generated schema, as Cedar writes it.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn tool(&self, tool: &ToolRef) -> Option<&Slice> {
        self.tools.get(tool)
    }

    /// What `[egress]` limits requests to; without that table nothing leaves.
    #[must_use]
    pub fn egress_limits(&self) -> Option<EgressLimits> {
        let (_, egress) = self.connect.as_ref()?;
        let own = EgressLimits {
            body: egress.body,
            requests_per_minute: egress.requests_per_minute,
            bytes_out_per_day: egress.bytes_out_per_day,
        };
        let Some(bound) = self.bound() else { return Some(own) };
        let bound = bound.egress_limits()?;
        Some(EgressLimits {
            body: own.body.min(bound.body),
            requests_per_minute: own.requests_per_minute.min(bound.requests_per_minute),
            bytes_out_per_day: own.bytes_out_per_day.min(bound.bytes_out_per_day),
        })
    }

    /// The secrets that a request to this place may carry.
    #[must_use]
    pub fn secrets_for(&self, to: &Target<'_>) -> Vec<SecretUse> {
        let bound = self.bound().map(|bound| bound.secrets_for(to));
        let lent = |used: &&SecretUse| {
            !self.is_closed()
                && used.covers(to)
                && bound.as_ref().is_none_or(|bound| bound.iter().any(|other| other.secret == used.secret))
        };
        self.secrets.iter().filter(lent).cloned().collect()
    }

    pub(crate) fn connect(&self) -> Option<(&Slice, &Egress)> {
        self.connect.as_ref().map(|(slice, egress)| (slice, egress))
    }

    pub(crate) fn model(&self, model: &ModelName) -> Option<&Slice> {
        self.models.get(model)
    }
}

impl Slice {
    /// Whether a policy permits something here, no unconditional rule forbids it, and the tool is pinned.
    fn may_be_offered(&self) -> bool {
        let permitted = self.policies.policies().any(|p| p.effect() == cedar_policy::Effect::Permit);
        let denied = self
            .policies
            .policies()
            .any(|p| p.effect() == cedar_policy::Effect::Forbid && self.is_deny_rule(p.id()));
        permitted && !denied && self.tool.as_ref().is_some_and(|tool| tool.pin.is_some())
    }

    fn is_deny_rule(&self, id: &PolicyId) -> bool {
        self.rules.get(id).is_some_and(|rule| rule.name == Answer::Deny.as_str())
    }
}

fn internal(message: String) -> PolicyError {
    PolicyError { file: BUILT_IN_FILE.to_owned(), line: 1, message }
}

/// The agent file's tables as Cedar. Patterns mean the same in both.
fn generated(from: &Sources<'_>) -> Result<Vec<Statement>, PolicyError> {
    let mut statements = Vec::new();
    let agent = &from.agent.name;
    let mut add =
        |line: Option<usize>, pattern: Option<&ToolPattern>, name: &str, says: String, text: String| {
            let id = PolicyId::new(format!("{}:{}", from.file, statements.len()));
            let policy = Policy::parse(Some(id), &text).map_err(|e| internal(e.to_string()))?;
            let pattern = pattern.cloned();
            let rule = Rule { name: name.to_owned(), file: from.file.to_owned(), line, says };
            statements.push(Statement::generated(policy, rule, text, pattern));
            Ok(())
        };
    for table in &from.agent.tools {
        let scope = format!(
            "(principal == Agent::\"{agent}\", action in Action::\"tool\", resource in Server::\"{}\")",
            table.server
        );
        for rule in &table.rules {
            let (name, pattern) = (rule.answer.as_str(), &rule.pattern);
            let says = format!("`{name} = [\"{pattern}\"]` of [tools.{}]", table.server);
            let when = format!("when {{ resource.name like \"{pattern}\" }}");
            for text in answering(rule.answer, &scope, &when) {
                add(Some(rule.line), Some(pattern), name, says.clone(), text)?;
            }
        }
    }
    for model in &from.agent.models {
        let says = format!("`models` names `{model}`");
        let text = format!(
            "permit (principal == Agent::\"{agent}\", action == Action::\"model\", resource == Model::\"{model}\");"
        );
        add(None, None, "models", says, text)?;
    }
    for rule in from.agent.egress.iter().flat_map(|egress| &egress.rules) {
        let (name, pattern) = (rule.answer.as_str(), &rule.pattern);
        let says = match &rule.preset {
            Some(preset) => format!("`{name} = [\"{pattern}\"]` of the preset `{preset}`"),
            None if pattern.runs_nothing() => {
                format!("`{name} = [\"{pattern}\"]` of [egress], by which nothing runs on such pushes")
            }
            None => format!("`{name} = [\"{pattern}\"]` of [egress]"),
        };
        let scope = format!("(principal == Agent::\"{agent}\", action == Action::\"connect\", resource)");
        // Which rules name a request is found out before: Cedar's patterns know no segments of a path.
        let when = format!("when {{ context.rules.contains({}) }}", quoted(pattern.as_str()));
        for text in answering(rule.answer, &scope, &when) {
            add((rule.line > 0).then_some(rule.line), None, name, says.clone(), text)?;
        }
    }
    Ok(statements)
}

/// The policies by which a rule answers.
fn answering(answer: Answer, scope: &str, when: &str) -> Vec<String> {
    match answer {
        Answer::Allow => vec![format!("permit {scope}\n{when};")],
        Answer::Deny => vec![format!("forbid {scope}\n{when};")],
        Answer::Ask => vec![
            format!("permit {scope}\n{when};"),
            format!("forbid {scope}\n{when}\nunless {{ context.granted }};"),
        ],
    }
}

/// A text as Cedar writes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// An agent's names in Cedar.
struct Names {
    agent: EntityUid,
    team: EntityUid,
    group: EntityUid,
}

impl Names {
    fn of(agent: &AgentFile) -> Result<Self, PolicyError> {
        Ok(Self {
            agent: uid("Agent", agent.name.as_str())?,
            team: uid("Team", agent.team.as_str())?,
            group: uid("Action", "tool")?,
        })
    }

    /// All that rules can name of the agent, as far as it is known.
    fn all_of(&self, from: &Sources<'_>) -> Result<BTreeSet<EntityUid>, PolicyError> {
        let mut all = BTreeSet::from([self.agent.clone(), self.team.clone()]);
        for KnownTool { tool, .. } in from.tools {
            all.extend([uid("Tool", &tool.to_string())?, uid("Server", tool.server.as_str())?]);
        }
        for table in &from.agent.tools {
            all.insert(uid("Server", table.server.as_str())?);
        }
        for model in &from.agent.models {
            all.extend([uid("Model", &model.to_string())?, uid("Provider", model.provider())?]);
        }
        Ok(all)
    }

    fn tool_slice(
        &self,
        agent: &AgentFile,
        known: &KnownTool,
        all: &[Statement],
    ) -> Result<Slice, PolicyError> {
        let server = uid("Server", known.tool.server.as_str())?;
        let tool = uid("Tool", &known.tool.to_string())?;
        let action = uid("Action", &known.tool.to_string())?;
        let attributes = [text("name", known.tool.tool.as_str()), text("server", known.tool.server.as_str())];
        let row = known.row();
        let table = agent.tools.iter().find(|table| table.server == known.tool.server);
        let approvals = table.map_or(&agent.approvals, |table| &table.approvals).clone();
        let about = ToolSlice {
            classified: known.row.is_some(),
            pin: known.pin,
            types: schema::types(&known.input_schema),
            row,
        };
        let pinned_row = serde_json::to_value(&about.row).map_err(|e| internal(e.to_string()))?;
        let pinned_row = crate::canonical::text(&pinned_row).map_err(|e| internal(e.to_string()))?;
        let entities = vec![
            entity(&tool, attributes, &[&server])?,
            entity(&action, [], &[&self.group])?,
            entity(&self.group, [], &[])?,
            entity(&server, [], &[])?,
        ];
        self.slice((action, tool, server), entities, all, (approvals, pinned_row), Some(about))
    }

    fn model_slice(
        &self,
        agent: &AgentFile,
        model: &ModelName,
        clearance: Confidentiality,
        all: &[Statement],
    ) -> Result<Slice, PolicyError> {
        let full = model.to_string();
        let (provider, name) = full.split_once('/').unwrap_or(("", full.as_str()));
        let provider_uid = uid("Provider", provider)?;
        let model = uid("Model", &full)?;
        let clearance_level = RestrictedExpression::new_long(i64::from(clearance as u8));
        let attributes =
            [text("name", name), text("provider", provider), ("clearance".to_owned(), clearance_level)];
        let entities = vec![entity(&model, attributes, &[&provider_uid])?, entity(&provider_uid, [], &[])?];
        let action = uid("Action", "model")?;
        let about = (agent.approvals.clone(), clearance.to_string());
        self.slice((action, model, provider_uid), entities, all, about, None)
    }

    /// One slice for all hosts: there is no end of them.
    fn connect_slice(&self, egress: &Egress, all: &[Statement]) -> Result<Slice, PolicyError> {
        let (action, any) = (uid("Action", "connect")?, host_uid("")?);
        let limits = format!("{} {} {}", egress.body, egress.requests_per_minute, egress.bytes_out_per_day);
        self.slice((action, any.clone(), any), Vec::new(), all, (egress.approvals.clone(), limits), None)
    }

    fn slice(
        &self,
        (action, resource, parent): (EntityUid, EntityUid, EntityUid),
        mut entities: Vec<Entity>,
        all: &[Statement],
        (approvals, about): (ApprovalRule, String),
        tool: Option<ToolSlice>,
    ) -> Result<Slice, PolicyError> {
        entities.push(entity(&self.agent, [], &[&self.team])?);
        entities.push(entity(&self.team, [], &[])?);
        let mine: Vec<&Statement> = all
            .iter()
            .filter(|s| self.concerns(&s.policy, &action, &resource, &parent))
            .filter(|s| tool.is_none() || names_tool(s, &resource))
            .collect();
        let mut parts: Vec<String> = mine.iter().map(|s| s.text.clone()).collect();
        parts.push(about);
        parts.push(approvals.to_string());
        let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
        let policies = PolicySet::from_policies(mine.iter().map(|s| s.policy.clone()))
            .map_err(|e| internal(e.to_string()))?;
        let entities = Entities::from_entities(entities, None).map_err(|e| internal(e.to_string()))?;
        Ok(Slice {
            policies,
            entities,
            request: (self.agent.clone(), action, resource),
            rules: mine.iter().map(|s| (s.policy.id().clone(), s.rule.clone())).collect(),
            digest: digest_of(&parts),
            approvals,
            tool,
        })
    }

    /// Whether a policy's scope leaves it possible that it concerns this request.
    fn concerns(
        &self,
        policy: &Policy,
        action: &EntityUid,
        resource: &EntityUid,
        parent: &EntityUid,
    ) -> bool {
        let for_agent = match policy.principal_constraint() {
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => true,
            PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => {
                uid == self.agent || uid == self.team
            }
            PrincipalConstraint::Eq(uid) => uid == self.agent,
        };
        let is_action = |uid: &EntityUid| uid == action || (*uid == self.group && *action != self.group);
        let for_action = match policy.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::In(uids) => uids.iter().any(is_action),
            ActionConstraint::Eq(uid) => uid == *action,
        };
        let any_host = resource.type_name().basename() == HOST;
        let for_resource = match policy.resource_constraint() {
            ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) | ResourceConstraint::Eq(uid)
                if any_host =>
            {
                uid.type_name() == resource.type_name()
            }
            ResourceConstraint::Any => true,
            ResourceConstraint::Is(kind) => kind == *resource.type_name(),
            ResourceConstraint::In(uid) => uid == *resource || uid == *parent,
            ResourceConstraint::IsIn(kind, uid) => {
                kind == *resource.type_name() && (uid == *resource || uid == *parent)
            }
            ResourceConstraint::Eq(uid) => uid == *resource,
        };
        for_agent && for_action && for_resource
    }
}

/// Whether a rule of the agent's file, which names tools by a pattern, names this one; other policies may.
fn names_tool(statement: &Statement, tool: &EntityUid) -> bool {
    let full: &str = tool.id().unescaped();
    match (&statement.pattern, full.parse::<ToolRef>()) {
        (Some(pattern), Ok(tool)) => pattern.names(&tool.tool),
        (None, _) | (_, Err(_)) => true,
    }
}

/// The type of hosts in Cedar.
const HOST: &str = "Host";

/// A host's name in Cedar.
pub(crate) fn host_uid(host: &str) -> Result<EntityUid, PolicyError> {
    uid(HOST, host)
}

fn uid(kind: &str, name: &str) -> Result<EntityUid, PolicyError> {
    let kind: EntityTypeName = kind.parse().map_err(|e| internal(format!("{e}")))?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(name)))
}

fn text(name: &str, value: &str) -> (String, RestrictedExpression) {
    (name.to_owned(), RestrictedExpression::new_string(value.to_owned()))
}

fn entity(
    uid: &EntityUid,
    attributes: impl IntoIterator<Item = (String, RestrictedExpression)>,
    parents: &[&EntityUid],
) -> Result<Entity, PolicyError> {
    let parents: HashSet<EntityUid> = parents.iter().map(|uid| (*uid).clone()).collect();
    let attributes: HashMap<String, RestrictedExpression> = attributes.into_iter().collect();
    Entity::new(uid.clone(), attributes, parents).map_err(|e| internal(e.to_string()))
}
