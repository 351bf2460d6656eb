//! The difference between two tables `[egress]`, rule by rule: a rule that allows, and that wasn't there, is wider,
//! whatever else is. So no request is overlooked that became possible; now and then a change counts as wider that isn't.

use domain::{Answer, Egress, EgressPattern, EgressRule};

/// Requests that the newer table allows or asks about, and the older didn't; each as a person is told it, in the order of
/// the tables.
pub(super) fn gained(old: Option<&Egress>, new: Option<&Egress>, verb: [&str; 2]) -> Vec<String> {
    let none = Egress::default();
    let (from, to) = (old.unwrap_or(&none), new.unwrap_or(&none));
    let mut gains = Gains { verb, list: Vec::new() };
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
                gains.add(rule, from, [if asked { "asked" } else { "denied" }, after]);
            }
            Answer::Ask if !has(from, Answer::Ask, pattern) && !has(from, Answer::Allow, pattern) => {
                gains.add(rule, from, ["denied", "asked"]);
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
            Answer::Ask if gone && others(&[Answer::Allow]) => gains.add(rule, &none, ["asked", "allowed"]),
            Answer::Deny if gone && others(&[Answer::Allow, Answer::Ask]) => {
                gains.add(rule, &none, ["denied", "perhaps not"]);
            }
            Answer::Allow | Answer::Ask | Answer::Deny => {}
        }
    }
    let mut told: Vec<String> = gains.list.into_iter().map(Gain::told).collect();
    if let (Some(from), Some(to)) = (old, new) {
        told.extend(more(from, to, verb));
    }
    told
}

/// The limits that are higher in the newer.
fn more(from: &Egress, to: &Egress, verb: [&str; 2]) -> impl Iterator<Item = String> {
    let [was, is] = verb;
    let per_minute = |table: &Egress| table.requests_per_minute.to_string();
    let more = [
        (to.body > from.body, "body", from.body.to_string(), to.body.to_string()),
        (
            to.requests_per_minute > from.requests_per_minute,
            "requests_per_minute",
            per_minute(from),
            per_minute(to),
        ),
        (
            to.bytes_out_per_day > from.bytes_out_per_day,
            "bytes_out_per_day",
            from.bytes_out_per_day.to_string(),
            to.bytes_out_per_day.to_string(),
        ),
    ];
    let higher = more.into_iter().filter(|(higher, ..)| *higher);
    higher.map(move |(_, what, before, after)| format!("[egress] `{what}` {was} {before}, {is} {after}"))
}

/// What is gained, in order.
struct Gains<'a> {
    verb: [&'a str; 2],
    list: Vec<Gain>,
}

/// One rule's gain, or that of several of one preset.
struct Gain {
    preset: Option<String>,
    step: String,
    told: String,
    others: usize,
}

impl Gains<'_> {
    /// Adds what a rule does, with an example that the other table doesn't allow, if there is one. Of a preset, whose rules
    /// are known by its name, one rule is told for all that take the same step.
    fn add(&mut self, rule: &EgressRule, other: &Egress, step: [&str; 2]) {
        let ([was, is], [before, after]) = (self.verb, step);
        let step = format!("{was} {before}, {is} {after}");
        let same =
            |gain: &&mut Gain| gain.preset.is_some() && gain.preset == rule.preset && gain.step == step;
        if let Some(gain) = self.list.iter_mut().find(same) {
            gain.others = gain.others.saturating_add(1);
            return;
        }
        let pattern = &rule.pattern;
        let open = |target: &domain::EgressTarget| {
            other.rules.iter().any(|rule| rule.answer == Answer::Allow && rule.names(target))
        };
        let example = pattern.examples().into_iter().find(|target| !open(target));
        let example = example.unwrap_or_else(|| pattern.example()).to_string();
        let by = if example == pattern.as_str() { String::new() } else { format!(", by `{pattern}`") };
        let told = format!("{example} {step}{by}");
        self.list.push(Gain { preset: rule.preset.clone(), step, told, others: 0 });
    }
}

impl Gain {
    fn told(self) -> String {
        match (self.preset, self.others) {
            (None, _) => self.told,
            (Some(preset), 0) => format!("{} (preset {preset})", self.told),
            (Some(preset), others) => {
                format!("{} (preset {preset}, and {others} more of its rules)", self.told)
            }
        }
    }
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
