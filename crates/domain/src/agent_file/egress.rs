//! The table `[egress]` of `agent.toml`: which requests may leave a cell.

use std::ops::RangeInclusive;

use super::{Check, Item, nearest, short};
use crate::{
    Answer, ApprovalRule, ByteSize, Egress, EgressError, EgressPattern, EgressRule, PRESETS, Preset,
};

const KEYS: &[&str] =
    &["presets", "allow", "ask", "deny", "body", "requests_per_minute", "bytes_out_per_day", "approvals"];
const MAX_RULES: usize = 256;
const BODY: RangeInclusive<ByteSize> = ByteSize::bytes(0)..=ByteSize::mib(4096);
const PER_MINUTE: RangeInclusive<u64> = 1..=100_000;
const OUT: RangeInclusive<ByteSize> = ByteSize::bytes(0)..=ByteSize::mib(1 << 20);

impl Default for Egress {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            body: ByteSize::mib(1),
            requests_per_minute: 600,
            bytes_out_per_day: ByteSize::mib(64),
            approvals: ApprovalRule::default(),
        }
    }
}

impl Check<'_> {
    pub(super) fn egress(&mut self, item: Item<'_, '_>, approvals: &ApprovalRule) -> Option<Egress> {
        let table = self.table(item, "egress", "write [egress] and allow, ask or deny below it")?;
        self.keys(table, KEYS, &[], "[egress]");
        let mut egress = Egress { approvals: approvals.clone(), ..Egress::default() };
        for answer in Answer::ALL {
            if let Some(item) = table.get(answer.as_str()) {
                self.targets(item, answer, &mut egress.rules)?;
            }
        }
        egress.rules.sort_by_key(|rule| rule.line);
        if let Some(item) = table.get("presets") {
            self.presets(item, &mut egress.rules)?;
        }
        if let Some(item) = table.get("body") {
            egress.body = self.quantity(item, "body", &BODY)?;
        }
        if let Some(item) = table.get("requests_per_minute") {
            let number = self.number(item, "requests_per_minute", &PER_MINUTE)?;
            egress.requests_per_minute = u32::try_from(number).ok()?;
        }
        if let Some(item) = table.get("bytes_out_per_day") {
            egress.bytes_out_per_day = self.quantity(item, "bytes_out_per_day", &OUT)?;
        }
        if let Some(item) = table.get("approvals") {
            egress.approvals = self.approvals(item, approvals)?;
        }
        Some(egress)
    }

    fn targets(&mut self, item: Item<'_, '_>, answer: Answer, rules: &mut Vec<EgressRule>) -> Option<()> {
        let mut sound = true;
        for (text, at) in self.strings(item, answer.as_str(), MAX_RULES)? {
            let pattern = text.parse::<EgressPattern>().and_then(|pattern| match answer {
                Answer::Allow | Answer::Ask if pattern.is_every_method() => Err(EgressError::EveryMethod),
                Answer::Ask | Answer::Deny if pattern.runs_nothing() => Err(EgressError::NoCi),
                Answer::Allow | Answer::Ask | Answer::Deny => Ok(pattern),
            });
            match pattern {
                Ok(pattern) if rules.iter().any(|rule| rule.answer == answer && rule.pattern == pattern) => {
                    self.problem(&at, format!("`{pattern}` is named twice"), None);
                }
                Ok(pattern) => {
                    let line = self.line(at.start);
                    rules.push(EgressRule { answer, pattern, line, preset: None });
                }
                Err(error) => {
                    sound = false;
                    self.problem(&at, error.to_string(), None);
                }
            }
        }
        sound.then_some(())
    }

    /// Adds the rules of the presets that are named.
    fn presets(&mut self, item: Item<'_, '_>, rules: &mut Vec<EgressRule>) -> Option<()> {
        let mut sound = true;
        for (name, at) in self.strings(item, "presets", PRESETS.len())? {
            let Some(preset) = Preset::named(&name) else {
                let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
                let hint = nearest(&name, &names).map_or_else(
                    || format!("there are {}", names.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                self.problem(&at, format!("there is no preset `{}`", short(&name)), Some(hint));
                sound = false;
                continue;
            };
            let line = self.line(at.start);
            for (answer, patterns) in
                [(Answer::Allow, preset.allow), (Answer::Ask, preset.ask), (Answer::Deny, preset.deny)]
            {
                for pattern in patterns.iter().filter_map(|text| text.parse().ok()) {
                    rules.push(EgressRule { answer, pattern, line, preset: Some(preset.name.to_owned()) });
                }
            }
        }
        sound.then_some(())
    }
}
