//! The difference between two tables `[egress]`, rule by rule: a rule that allows, and that wasn't there, is wider,
//! whatever else is. So no request is overlooked that became possible; now and then a change counts as wider that isn't.

use domain::{Answer, Egress, EgressPattern, EgressRule};

/// A request that the newer table allows or asks about, and the older didn't; as a person is told it.
pub(super) fn gained(old: Option<&Egress>, new: Option<&Egress>, verb: [&str; 2]) -> Option<String> {
    let none = Egress::default();
    let (from, to) = (old.unwrap_or(&none), new.unwrap_or(&none));
    let [was, is] = verb;
    let answered = |rule: &EgressRule, before: &str, after: &str| {
        Some(format!("{} {was} {before}, {is} {after}", rule.pattern.example()))
    };
    for rule in &to.rules {
        let pattern = &rule.pattern;
        match rule.answer {
            Answer::Allow if !allows(from, pattern) => {
                let asked = has(from, Answer::Ask, pattern)
                    || from.rules.iter().any(|rule| rule.pattern.with_no_ci().as_ref() == Some(pattern));
                let after = match (pattern.may_run(), pattern.runs_nothing()) {
                    (true, _) => "asked",
                    (_, true) => "allowed, and taken to run nothing at the host (`no-ci`)",
                    (false, false) => "allowed",
                };
                return answered(rule, if asked { "asked" } else { "denied" }, after);
            }
            Answer::Ask if !has(from, Answer::Ask, pattern) && !has(from, Answer::Allow, pattern) => {
                return answered(rule, "denied", "asked");
            }
            Answer::Allow | Answer::Ask | Answer::Deny => {}
        }
    }
    for rule in &from.rules {
        // What made others stricter is gone: that matters where others are.
        let others = |answers: &[Answer]| {
            to.rules.iter().any(|other| answers.contains(&other.answer) && may_meet(rule, other))
        };
        let gone = !has(to, rule.answer, &rule.pattern) && !has(to, Answer::Deny, &rule.pattern);
        match rule.answer {
            Answer::Ask if gone && others(&[Answer::Allow]) => return answered(rule, "asked", "allowed"),
            Answer::Deny if gone && others(&[Answer::Allow, Answer::Ask]) => {
                return answered(rule, "denied", "perhaps not");
            }
            Answer::Allow | Answer::Ask | Answer::Deny => {}
        }
    }
    let (Some(from), Some(to)) = (old, new) else { return None };
    let more = [
        (to.body > from.body, "body", from.body.to_string(), to.body.to_string()),
        (
            to.requests_per_minute > from.requests_per_minute,
            "requests_per_minute",
            from.requests_per_minute.to_string(),
            to.requests_per_minute.to_string(),
        ),
        (
            to.bytes_out_per_day > from.bytes_out_per_day,
            "bytes_out_per_day",
            from.bytes_out_per_day.to_string(),
            to.bytes_out_per_day.to_string(),
        ),
    ];
    more.into_iter()
        .find(|(more, ..)| *more)
        .map(|(_, what, before, after)| format!("[egress] `{what}` {was} {before}, {is} {after}"))
}

fn has(table: &Egress, answer: Answer, pattern: &EgressPattern) -> bool {
    table.rules.iter().any(|rule| rule.answer == answer && rule.pattern == *pattern)
}

/// Whether it is allowed so, or even without a question.
fn allows(table: &Egress, pattern: &EgressPattern) -> bool {
    let more = pattern.with_no_ci().is_some_and(|more| has(table, Answer::Allow, &more));
    more || has(table, Answer::Allow, pattern)
}

/// Whether two rules could name the same host.
fn may_meet(one: &EgressRule, other: &EgressRule) -> bool {
    let (one, other) = (one.pattern.host(), other.pattern.host());
    let below = |a: &domain::HostPattern, b: &domain::HostPattern| {
        a.names(b.below().map_or(b.as_str(), |suffix| suffix))
            || a.below().zip(b.below()).is_some_and(|(a, b)| a == b || b.ends_with(&format!(".{a}")))
    };
    below(one, other) || below(other, one)
}
