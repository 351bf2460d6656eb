//! Explanations: for one call, what was decided, by which rules, and what was known of each argument.

use std::fmt;

use domain::{Effects, Labels, Origin};

use crate::agent::AgentPolicy;
use crate::decide::{Call, Decision, Reason, ToolCall, Trust, decide};
use crate::origins::{Judged, Role};

/// Why a call is decided as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The answer.
    pub answer: domain::Answer,
    /// The rules behind an answer other than allow.
    pub reasons: Vec<Reason>,
    /// What the tool does; none if there is no such tool.
    pub effects: Option<Effects>,
    /// The session's labels.
    pub labels: Labels,
    /// Each argument, with what is known of it.
    pub arguments: Vec<Judged>,
    /// What the origins come to.
    pub own: String,
    pub(crate) call: String,
}

/// Explains what is decided on a call.
#[must_use]
pub fn explain(policy: &AgentPolicy, call: &Call<ToolCall>) -> Explanation {
    let (answer, reasons) = match decide(policy, call.clone()) {
        Decision::Allow(_) => (domain::Answer::Allow, Vec::new()),
        Decision::Ask(question) => (domain::Answer::Ask, question.reasons().to_vec()),
        Decision::Deny(reasons) => (domain::Answer::Deny, reasons),
    };
    let trust = Trust::of(&call.facts.origins);
    let own = match (trust.own_values && trust.own_words, trust.trusted && trust.own_words) {
        (true, _) => "the call is wholly in the person's own words",
        (false, true) => "its values have trusted origins, and its texts are the person's own words",
        (false, false) => "the call is not wholly in the person's own words",
    };
    Explanation {
        answer,
        reasons,
        effects: policy.row(&call.action.tool).map(|row| row.effects),
        labels: call.facts.labels.clone(),
        arguments: call.facts.origins.arguments.clone(),
        own: own.to_owned(),
        call: format!("{} {}", call.action.tool, crate::canonical::shown(call.action.arguments.text())),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.answer, self.call)?;
        if let Some(effects) = self.effects {
            writeln!(f, "  effects: {effects}")?;
        }
        writeln!(f, "  session: {}", self.labels)?;
        for argument in &self.arguments {
            writeln!(f, "  {argument}")?;
        }
        writeln!(f, "  {}", self.own)?;
        self.reasons.iter().try_for_each(|reason| writeln!(f, "  because {reason}"))
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value: String = self.value.chars().take(200).flat_map(char::escape_debug).collect();
        write!(f, "{} = \"{value}\": ", self.place)?;
        match &self.role {
            Role::Sensitive(kind, Origin::Unknown) => write!(f, "{kind}, of unknown origin"),
            Role::Sensitive(kind, origin) => write!(f, "{kind}, from {origin}"),
            Role::Content(true) => f.write_str("text in the person's own words"),
            Role::Content(false) => f.write_str("text that is not the person's own words"),
            Role::Refers => f.write_str("refers to content that must be shown"),
        }
    }
}
