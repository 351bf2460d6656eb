//! Questions to people, as the API shows them, and how they are answered.

use domain::{
    AgentName, ApprovalId, ApprovalState, Effects, Labels, Origin, PersonName, Quorum, SessionId, TeamName,
};
use serde::{Deserialize, Serialize};

/// Most bytes of the reason that a person gives with an answer.
pub const MAX_WHY: usize = 4096;

/// A question, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalView {
    /// Its id.
    pub id: ApprovalId,
    /// Who wants to act.
    pub agent: Option<AgentName>,
    /// The agent's team.
    pub team: Option<TeamName>,
    /// In which session.
    pub session: Option<SessionId>,
    /// What would be done: a tool's full name, or in words.
    pub act: String,
    /// What kind of thing it is.
    pub effects: Effects,
    /// Why it is asked: rules, with file and line.
    pub reasons: Vec<String>,
    /// What it shows; none if that was erased.
    pub shown: Option<ShownView>,
    /// What the session has been exposed to.
    pub labels: Labels,
    /// Where it stands, and who answers until when.
    #[serde(flatten)]
    pub standing: Standing,
}

/// Where a question stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its state.
    pub state: ApprovalState,
    /// Who answers, how many, until when.
    pub quorum: Quorum,
    /// When it was asked, in milliseconds since 1970.
    pub asked: u64,
    /// The answers that counted, the oldest first.
    pub answers: Vec<AnswerView>,
}

/// What a question shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownView {
    /// The exact arguments, as canonical JSON (RFC 8785).
    pub arguments: String,
    /// The content that they refer to; empty if there is none.
    pub content: String,
    /// Where arguments came from: the path of each (RFC 6901), and its origin.
    pub origins: Vec<(String, Origin)>,
    /// What can't be undone about it, and whom it reaches, in words.
    pub consequences: Vec<String>,
}

/// An answer that counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerView {
    /// Whose.
    pub person: PersonName,
    /// Yes or no.
    pub yes: bool,
    /// Yes to the same again in the session.
    pub for_session: bool,
    /// Why, in their words.
    pub why: Option<String>,
}

/// A person's answer to a question. The daemon knows who they are by the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerRequest {
    /// Yes or no.
    pub yes: bool,
    /// Yes to the same again in the session; only for what can be undone.
    #[serde(default)]
    pub for_session: bool,
    /// Why; the agent reads it with a no.
    #[serde(default)]
    pub why: Option<String>,
}
