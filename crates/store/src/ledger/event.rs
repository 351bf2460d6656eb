//! What the ledger tells: every kind of event, and whom it is about. Texts in here are kept for good: what may have to be
//! erased (arguments, content, answers) belongs into an entry's sealed part.

use std::fmt;

use domain::{
    AgentName, ApprovalId, ApprovalState, CommitId, Digest, Effects, EndReason, GrantId, GroupName,
    Isolation, Labels, ModelName, PersonName, Role, SecretName, ServerName, SessionId, TeamName, ToolRef,
};
use serde::{Deserialize, Serialize};

use crate::Keeper;

/// Whom an event is about; nobody where it is about the installation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// Its team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<TeamName>,
    /// Its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
}

/// What is decided, asked or done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// A tool is called.
    Tool(ToolRef),
    /// A model is asked.
    Model(ModelName),
    /// Several calls, proposed as one plan.
    Plan,
    /// A resource or prompt of a tool server is read.
    Resource(ServerName),
    /// A connection is opened to this host.
    Connect(String),
    /// A share of this name is published or read.
    Share(String),
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool(tool) => write!(f, "{tool}"),
            Self::Model(model) => write!(f, "model {model}"),
            Self::Plan => f.write_str("a plan"),
            Self::Resource(server) => write!(f, "a resource of {server}"),
            Self::Connect(host) => write!(f, "a connection to {host}"),
            Self::Share(share) => write!(f, "share {share}"),
        }
    }
}

/// Policy's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It may be done.
    Allow,
    /// It may be done if people say so.
    Ask,
    /// It may not be done.
    Deny,
}

/// How an act came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was tried, and the other side says that it failed.
    Failed {
        /// What the other side said, shortened.
        why: String,
    },
    /// It was not done at all: nothing left this machine.
    NotDone {
        /// Why.
        why: String,
    },
    /// Nobody knows whether it was done: the connection broke, or the daemon died.
    Unknown {
        /// What is known.
        why: String,
    },
}

/// How a change of an agent's folder changes what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The agent is new.
    New,
    /// It may do less.
    Narrower,
    /// It may do more.
    Wider,
    /// Less of one thing, more of another.
    Both,
    /// As before.
    Same,
}

/// One thing that happened. What has landed stays readable: kinds and fields are never renamed, new fields have defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "fields whose names say all; what doesn't say all has its line")]
pub enum Event {
    /// Policy decided. Reasons name rule, file and line. Sealed: the arguments and their origins.
    Decided {
        act: Act,
        verdict: Verdict,
        reasons: Vec<String>,
        labels: Labels,
    },
    /// Refused before policy was asked: a changed tool, arguments against the schema, a limit. Sealed: the arguments.
    Refused {
        act: Act,
        why: String,
    },

    /// A question was put to people. Sealed: what it shows.
    Asked {
        approval: ApprovalId,
        act: Act,
        reasons: Vec<String>,
        need: u8,
        people: Vec<PersonName>,
        until: u64,
    },
    /// The same was asked again, and waits for the same answer.
    AskedAgain {
        approval: ApprovalId,
    },
    /// A person answered. Sealed: why, in their words.
    Answered {
        approval: ApprovalId,
        person: PersonName,
        yes: bool,
        for_session: bool,
        state: ApprovalState,
    },
    /// An answer that did nothing: late, doubled, of somebody who wasn't asked.
    AnswerRefused {
        approval: ApprovalId,
        person: PersonName,
        yes: bool,
        why: String,
    },
    /// Its time ran out, before the answer or before the use.
    Expired {
        approval: ApprovalId,
    },
    /// It was called off.
    Cancelled {
        approval: ApprovalId,
        by: Option<PersonName>,
        why: String,
    },
    /// An approval left a right behind: for a session, or for one call of a plan.
    Granted {
        grant: GrantId,
        approval: ApprovalId,
        uses: Option<u32>,
        until: u64,
    },
    /// Nothing was granted: there is no right to use, or it is of something else.
    GrantRefused {
        approval: ApprovalId,
        why: String,
    },
    /// Rights ended before their time: with their session, or since the agent was quarantined.
    GrantsEnded {
        count: u64,
        why: String,
    },

    /// The act may now be done, once, and this is why; an allowed call needs no entry of its decision beside it.
    /// Sealed: its exact arguments.
    Committed {
        commit: CommitId,
        act: Act,
        by_right: ByRight,
        reasons: Vec<String>,
        labels: Labels,
        idempotent: bool,
        reserved: Vec<Reserved>,
    },
    /// The act may not be done: a right that was used, is another's or has ended; a budget that is used up.
    CommitRefused {
        act: Act,
        by_right: ByRight,
        why: String,
    },
    /// What came of it. Sealed: what it answered, where that is kept.
    Ended {
        commit: CommitId,
        outcome: Outcome,
        spent: Vec<Reserved>,
    },
    /// A model answered.
    ModelCalled {
        model: ModelName,
        tokens_in: u64,
        tokens_out: u64,
        ok: bool,
    },

    SessionStarted {
        harness: String,
        image: String,
        isolation: Isolation,
        by: Option<PersonName>,
    },
    /// A person who is none of its authors gave a session input or a workspace: they are one from then on.
    SessionSteered {
        by: PersonName,
    },
    /// A person ran a program in a session's cell, beside its harness. Sealed: its arguments.
    ProgramRun {
        by: PersonName,
    },
    SessionEnded {
        reason: EndReason,
    },
    AgentApplied {
        digest: Digest,
        scope: Scope,
        by: PersonName,
    },
    /// What is narrower in these files counts in this session, though nobody has applied them.
    AgentNarrowed {
        digest: Digest,
    },
    /// What was applied counts again in this session.
    AgentRestored {
        digest: Digest,
    },
    /// The agent's files can't be read any more: nothing is allowed in this session until they can.
    AgentUnreadable {
        why: String,
    },
    AgentQuarantined {
        by: Option<PersonName>,
        why: String,
    },

    ServerAdded {
        server: ServerName,
        by: PersonName,
    },
    ServerRemoved {
        server: ServerName,
        by: PersonName,
    },
    ToolClassified {
        tool: ToolRef,
        effects: Effects,
        by: PersonName,
    },
    /// A definition of a tool that was not seen before.
    ToolSeen {
        tool: ToolRef,
        digest: Digest,
    },
    /// A person approved this definition of a tool for the agent.
    ToolPinned {
        tool: ToolRef,
        digest: Digest,
        by: PersonName,
    },
    /// A tool is withheld: what its server offers is not what was approved.
    ToolWithheld {
        tool: ToolRef,
        pinned: Option<Digest>,
        offered: Digest,
    },
    ToolUnpinned {
        tool: ToolRef,
        by: PersonName,
    },

    /// A secret is stored, and may go to these places from now on. Never its bytes.
    SecretSet {
        secret: SecretName,
        places: Vec<String>,
        by: PersonName,
    },
    /// A secret has other bytes.
    SecretRotated {
        secret: SecretName,
        by: PersonName,
    },
    SecretRemoved {
        secret: SecretName,
        by: PersonName,
    },
    /// The token of a log-in was renewed at who gave it; or it was tried, and why it wasn't.
    SecretRenewed {
        secret: SecretName,
        issuer: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failed: Option<String>,
    },
    /// A log-in is over: nothing renews its token any more.
    LoginEnded {
        secret: SecretName,
        issuer: String,
        why: String,
    },
    /// Whoever gave a log-in was told that it is not used any more; or why they weren't.
    LoginRevoked {
        secret: SecretName,
        issuer: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failed: Option<String>,
    },
    /// The host added a secret to a request to this host.
    SecretUsed {
        secret: SecretName,
        to: String,
    },

    LabelsRaised {
        keeper: Keeper,
        labels: Labels,
    },
    LabelsLowered {
        keeper: Keeper,
        from: Labels,
        labels: Labels,
        by: PersonName,
        why: String,
    },

    /// Somebody is known from now on, or with another role or OS user.
    PersonChanged {
        person: PersonName,
        role: Role,
        uid: Option<u32>,
        by: Option<PersonName>,
    },
    PersonRemoved {
        person: PersonName,
        by: PersonName,
    },
    GroupChanged {
        group: GroupName,
        person: PersonName,
        member: bool,
        by: PersonName,
    },
    TeamChanged {
        team: TeamName,
        person: PersonName,
        member: bool,
        by: PersonName,
    },

    /// An entry's sealed part can't be opened any more.
    Erased {
        seq: u64,
        by: PersonName,
        why: String,
    },
    DaemonStarted {
        version: String,
    },
    DaemonStopped {},
}

/// By what right an act is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ByRight {
    /// Policy allows it by itself.
    Policy,
    /// People approved exactly this; used once.
    Approval(ApprovalId),
    /// An approval left this right behind.
    Grant(GrantId),
}

/// So much of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserved {
    /// Whose and of what, such as `agent:mail-clerk/tokens`.
    pub budget: String,
    /// Which day: days since 1970.
    pub day: u32,
    /// How much, in the budget's unit.
    pub amount: u64,
}
