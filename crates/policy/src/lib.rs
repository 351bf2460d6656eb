//! Decisions: what an agent may do, what it must ask for, and why. Pure: no I/O, no clock, no randomness.
//!
//! The way of a tool call through this crate:
//!
//! 1. [`Pin::digest`] of the tool as its server lists it: is it what a person approved?
//! 2. [`Arguments::new`]: the one form of the arguments, which is decided, shown, recorded and executed.
//! 3. [`Seen::judge`]: where each argument came from. [`Seen`] learns what the person types and what results hold.
//! 4. [`decide()`]: allow, ask or deny, by the [`AgentPolicy`] that was compiled from `agent.toml`, `policy.cedar`, the
//!    organisation's policies and the built-in rules.
//! 5. [`Allowed`] is what a commit takes. It comes from an *allow*, or from [`Question::granted`] with the [`Grant`] that
//!    people gave to exactly that question; nothing else makes one.

mod agent;
mod canonical;
mod case;
mod connect;
mod decide;
mod difference;
mod explain;
mod learn;
mod origins;
mod pin;
mod ranges;
mod table;

pub use agent::{
    AgentPolicy, BUILT_IN, EgressLimits, KnownModel, KnownTool, MAX_CEDAR, PolicyError, Sources, Text,
    UnknownName,
};
pub use canonical::{Arguments, ArgumentsError, shown};
pub use case::{Case, CaseError, Mismatch};
pub use connect::{Body, Connect, ConnectFacts, PLAIN_HEADERS, Push, explain_connect, under_rule_of_two};
pub use decide::{
    Act, Allowed, Call, Counts, Decision, Grant, GrantError, ModelCall, ModelFacts, Question, Reason, Shown,
    ToolCall, ToolFacts, decide,
};
pub use difference::{Calls, Difference, Verdict, difference};
pub use explain::{Explanation, explain};
pub use learn::{Learned, Proposal, propose};
pub use origins::{Judged, Origins, Refused, Role, Seen, Unclear, is_invisible};
pub use pin::Pin;
pub use ranges::{Range, Ranges, RangesError};
pub use table::{About, Hints, Kind, KindError, Place, Reference, Row, SHIPPED, Source, Table, TableError};
