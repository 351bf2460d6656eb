//! What rules in Cedar name and nothing that is known of the agent is called: mistakes, perhaps, by which a rule forbids nothing.

use std::collections::BTreeSet;
use std::fmt;

use cedar_policy::EntityUid;

use super::Statement;

/// What a rule names, and nothing that is known here is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnknownName {
    /// The file that the rule stands in.
    pub file: String,
    /// The line that the rule begins on, counted from 1.
    pub line: usize,
    /// The name, as Cedar writes it.
    pub name: String,
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, name } = self;
        write!(
            f,
            "{file}:{line}: nothing that is known here of this agent is called {name}: is it spelled so?"
        )
    }
}

/// The names in these rules that aren't among the known ones of their kind. Hosts have no list.
pub(super) fn unknown<'s>(
    rules: impl Iterator<Item = &'s Statement>,
    known: &BTreeSet<EntityUid>,
) -> Vec<UnknownName> {
    let named = |rule: &'s Statement| {
        let listed = |name: &EntityUid| !matches!(name.type_name().basename(), super::HOST | "Action");
        let names = rule.policy.entity_literals().into_iter();
        names.filter(move |name| listed(name) && !known.contains(name)).map(|name| UnknownName {
            file: rule.rule.file.clone(),
            line: rule.rule.line.unwrap_or_default(),
            name: name.to_string(),
        })
    };
    rules.flat_map(named).collect::<BTreeSet<_>>().into_iter().collect()
}
