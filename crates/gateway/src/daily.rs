//! What an agent uses up in a day, in all its sessions, and a team's tool server: the names under which the store counts it.

use std::fmt::Display;

use domain::{AgentName, ServerName, TeamName};
use store::{About, Reserved, Spend};

/// Days since 1970, in UTC.
pub(crate) fn day(now: u64) -> u32 {
    u32::try_from(now / 86_400_000).unwrap_or(u32::MAX)
}

/// Tokens of all models.
pub(crate) fn tokens(agent: &AgentName) -> String {
    format!("agent:{agent}/tokens")
}

/// What all models cost, in millionths of a US dollar.
pub(crate) fn money(agent: &AgentName) -> String {
    format!("agent:{agent}/usd-micros")
}

/// Bytes that left in requests.
pub(crate) fn bytes_out(agent: &AgentName) -> String {
    format!("agent:{agent}/bytes-out")
}

/// Bytes that left in requests of a team's cells of a tool server.
pub(crate) fn bytes_out_of_server(team: &TeamName, server: &ServerName) -> String {
    format!("server:{team}/{server}/bytes-out")
}

/// Bytes of arguments that calls of tools put on the ledger.
pub(crate) fn kept(agent: &AgentName) -> String {
    format!("agent:{agent}/kept")
}

/// Whether a budget is one of those.
pub(crate) fn is_kept(budget: &str) -> bool {
    budget.ends_with("/kept")
}

/// Calls of one tool or model.
pub(crate) fn calls(agent: &AgentName, of: &dyn Display) -> String {
    format!("agent:{agent}/calls/{of}")
}

/// One call more; there is no limit but those of policy.
pub(crate) fn one_call(about: &About, of: &dyn Display, now: u64) -> Option<Spend> {
    let budget = calls(about.agent.as_ref()?, of);
    Some(Spend { reserve: Reserved { budget, day: day(now), amount: 1 }, limit: u64::from(u32::MAX) })
}
