//! What an agent's files say, line by line, as whoever accepts them is shown it: all that counts, which lines are new, and
//! what is easily overlooked.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{AgentFile, Answer, ApprovalRule, Harness, SecretUse, ServerRules};
use crate::{Egress, EgressPattern, EgressRule, Limits, Preset};

/// One line of an agent's files. Its text is from there, and may hold anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// Where it stands: a key or table of `agent.toml` such as `[egress]`, or `policy.cedar`.
    pub place: String,
    /// What it says.
    pub says: String,
    /// What whoever accepts it should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beware: Option<String>,
    /// Whether it was there before.
    pub mark: Mark,
}

/// How a line compares with an earlier version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// It was there, too.
    Kept,
    /// It wasn't there.
    New,
    /// It was there, and is no more.
    Gone,
}

impl Term {
    /// The file of rules in Cedar, as `place` names it.
    pub const CEDAR: &'static str = "policy.cedar";
    /// What the agent is told, as `place` names it.
    pub const INSTRUCTIONS: &'static str = "instructions";
    const HARNESS: &'static str = "harness";

    /// Whether the order of the lines at this place has a meaning.
    fn in_order(place: &str) -> bool {
        [Self::CEDAR, Self::INSTRUCTIONS, Self::HARNESS].contains(&place)
    }
}

impl AgentFile {
    /// All that the file, and the `policy.cedar` beside it, let the agent do, each line as a new one.
    #[must_use]
    pub fn terms(&self, cedar: Option<&str>) -> Vec<Term> {
        let mut terms = Terms(Vec::new());
        let Self {
            name: _,
            team,
            harness,
            models,
            image,
            instructions,
            limits,
            tools,
            egress,
            approvals,
            secrets,
        } = self;
        terms.add("team", team.to_string());
        terms.harness(harness);
        terms.add("image", image.to_string());
        for model in models {
            terms.add("models", model.to_string());
        }
        terms.text(Term::INSTRUCTIONS, instructions);
        terms.limits(limits);
        terms.cedar(cedar.unwrap_or_default());
        terms.add("[approvals]", format!("asked are {approvals}"));
        for server in tools {
            terms.server(server, approvals);
        }
        if let Some(egress) = egress {
            terms.egress(egress, approvals);
        }
        for used in secrets {
            terms.secret(used);
        }
        terms.0
    }

    /// The same, held against an earlier version: what is gone stands where it stood, after what is there.
    #[must_use]
    pub fn terms_since(&self, cedar: Option<&str>, before: (&Self, Option<&str>)) -> Vec<Term> {
        compared(self.terms(cedar), before.0.terms(before.1))
    }
}

/// The lines that were collected.
struct Terms(Vec<Term>);

impl Terms {
    fn add(&mut self, place: &str, says: String) {
        self.warn(place, says, None);
    }

    fn warn(&mut self, place: &str, says: String, beware: Option<&str>) {
        let beware = beware.map(str::to_owned);
        self.0.push(Term { place: place.to_owned(), says, beware, mark: Mark::New });
    }

    /// Line by line; empty ones say nothing.
    fn text(&mut self, place: &str, text: &str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            self.add(place, line.to_owned());
        }
    }

    fn harness(&mut self, harness: &Harness) {
        let (kind, argv) = match harness {
            Harness::Builtin | Harness::ClaudeCode | Harness::Codex => {
                return self.add(Term::HARNESS, harness.to_string());
            }
            Harness::Acp(argv) => ("acp", argv),
            Harness::Command(argv) => ("command", argv),
        };
        // Each argument by itself: joined, one could be taken for two.
        for (at, argument) in argv.iter().enumerate() {
            let lines = argument.lines().filter(|line| !line.trim().is_empty());
            let mut told: Vec<String> = lines.map(|line| format!("{kind} {at}: {line}")).collect();
            if told.is_empty() {
                told.push(format!("{kind} {at}: (empty)"));
            }
            told.into_iter().for_each(|says| self.add(Term::HARNESS, says));
        }
    }

    fn limits(&mut self, limits: &Limits) {
        for (name, value) in limits.told() {
            self.add("[limits]", format!("{name} {value}"));
        }
    }

    fn cedar(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let permits = line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "permit");
            let beware = "what it permits needs no line in agent.toml";
            self.warn(Term::CEDAR, line.to_owned(), permits.then_some(beware));
        }
    }

    fn server(&mut self, server: &ServerRules, usual: &ApprovalRule) {
        let place = format!("[tools.{}]", server.server);
        for rule in &server.rules {
            self.add(&place, format!("{:<5} {}", rule.answer.as_str(), rule.pattern));
        }
        if server.rules.is_empty() {
            self.add(&place, "no rule: none of its tools may be called".to_owned());
        }
        if server.approvals != *usual {
            self.add(&place, format!("asked are {}", server.approvals));
        }
    }

    fn egress(&mut self, egress: &Egress, usual: &ApprovalRule) {
        const PLACE: &str = "[egress]";
        let mut presets = BTreeSet::new();
        for rule in &egress.rules {
            match rule.preset.as_deref() {
                None => {
                    let beware = (rule.answer == Answer::Allow).then(|| about(&rule.pattern)).flatten();
                    self.warn(PLACE, format!("{:<5} {}", rule.answer.as_str(), rule.pattern), beware);
                }
                Some(name) if presets.insert(name) => self.preset(PLACE, name, &egress.rules),
                Some(_) => {}
            }
        }
        if egress.rules.is_empty() {
            self.add(PLACE, "no rule: nothing leaves".to_owned());
        }
        self.add(PLACE, format!("body {} of one request", egress.body));
        self.add(PLACE, format!("requests_per_minute {} of one session", egress.requests_per_minute));
        self.add(PLACE, format!("bytes_out_per_day {} of all sessions", egress.bytes_out_per_day));
        if egress.approvals != *usual {
            self.add(PLACE, format!("asked are {}", egress.approvals));
        }
    }

    /// A preset's rules were reviewed, and have a name.
    fn preset(&mut self, place: &str, name: &str, rules: &[EgressRule]) {
        let mine = || rules.iter().filter(|rule| rule.preset.as_deref() == Some(name));
        let count = |answer| mine().filter(|rule| rule.answer == answer).count();
        let for_what = Preset::named(name).map(|preset| preset.about).unwrap_or_default();
        let speaks = mine().any(|rule| rule.answer == Answer::Allow && rule.pattern.speaks());
        let [allow, ask, deny] = Answer::ALL.map(count);
        let says =
            format!("preset {name}: {for_what} ({allow} rules that allow, {ask} that ask, {deny} that deny)");
        self.warn(place, says, speaks.then_some(SPEAKS));
    }

    fn secret(&mut self, used: &SecretUse) {
        for to in &used.to {
            let beware = "what the secret opens there, the agent may use, as far as [egress] lets it";
            self.warn("[secrets]", format!("{} goes to {to}", used.secret), Some(beware));
        }
        if let Some(variable) = &used.variable {
            self.add(
                "[secrets]",
                format!("{} has its placeholder in the variable {}", used.secret, variable.as_str()),
            );
        }
    }
}

const SPEAKS: &str = "it lets the agent say what it likes there, and nobody is shown it";

/// What a rule that allows comes to, where that is easily overlooked.
fn about(pattern: &EgressPattern) -> Option<&'static str> {
    if pattern.runs_nothing() {
        Some(
            "no-ci: your word that nothing runs at the host on such a push; nobody is asked, nor shown what is pushed",
        )
    } else if pattern.may_run() {
        Some("each such push asks a person, since hosts run things on what is pushed")
    } else {
        pattern.speaks().then_some(SPEAKS)
    }
}

/// Marks what is new, and adds what is gone.
fn compared(now: Vec<Term>, before: Vec<Term>) -> Vec<Term> {
    let mut places: Vec<String> = Vec::new();
    for term in now.iter().chain(&before) {
        if places.last() != Some(&term.place) && !places.contains(&term.place) {
            places.push(term.place.clone());
        }
    }
    let (mut now, mut before) = (Groups::of(now), Groups::of(before));
    places
        .iter()
        .flat_map(|place| {
            let (now, before) = (now.take(place), before.take(place));
            if Term::in_order(place) { in_order(now, before) } else { in_any_order(now, before) }
        })
        .collect()
}

/// Lines by their place.
struct Groups(BTreeMap<String, Vec<Term>>);

impl Groups {
    fn of(terms: Vec<Term>) -> Self {
        let mut groups = BTreeMap::<_, Vec<Term>>::new();
        for term in terms {
            groups.entry(term.place.clone()).or_default().push(term);
        }
        Self(groups)
    }

    fn take(&mut self, place: &str) -> Vec<Term> {
        self.0.remove(place).unwrap_or_default()
    }
}

/// Of lines whose order has no meaning, one is kept if it stood anywhere.
fn in_any_order(now: Vec<Term>, before: Vec<Term>) -> Vec<Term> {
    let says = |terms: &[Term]| terms.iter().map(|term| term.says.clone()).collect::<BTreeSet<_>>();
    let (stood, stands) = (says(&before), says(&now));
    let now = now.into_iter().map(|term| {
        let mark = if stood.contains(&term.says) { Mark::Kept } else { Mark::New };
        Term { mark, ..term }
    });
    let gone = before.into_iter().filter(|term| !stands.contains(&term.says));
    now.chain(gone.map(|term| Term { mark: Mark::Gone, ..term })).collect()
}

/// Of lines whose order has a meaning, those are kept that both begin with, and those that both end with.
fn in_order(now: Vec<Term>, before: Vec<Term>) -> Vec<Term> {
    let same = |(one, other): &(&Term, &Term)| one.says == other.says;
    let head = now.iter().zip(&before).take_while(same).count();
    let room = now.len().min(before.len()).saturating_sub(head);
    let tail = now.iter().rev().zip(before.iter().rev()).take(room).take_while(same).count();
    let (end, stood) = (now.len().saturating_sub(tail), before.len().saturating_sub(tail));
    let gone: Vec<Term> = before.into_iter().take(stood).skip(head).collect();
    let mut terms = Vec::new();
    let mut rest = Vec::new();
    for (at, term) in now.into_iter().enumerate() {
        let kept = at < head || at >= end;
        let mark = if kept { Mark::Kept } else { Mark::New };
        if at < end { &mut terms } else { &mut rest }.push(Term { mark, ..term });
    }
    terms.extend(gone.into_iter().map(|term| Term { mark: Mark::Gone, ..term }));
    terms.extend(rest);
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "name = \"courier\"\nharness = { command = [\"python3\", \"-c\", '''\nimport os\nos.abort()\n'''] }\n\
                        models = [\"a/b\"]\ninstructions = \"Mend it.\"\n\
                        [tools.mail]\nallow = [\"read\"]\nask = [\"send_*\"]\napprovals = { need = 2 }\n\
                        [egress]\npresets = [\"npm\", \"github\"]\n\
                        allow = [\"GET https://a.example/x\", \"POST https://a.example/y\", \"GET https://a.example/z?*\", \
                        \"PUSH https://git.example/app refs/heads/agent/* no-ci\", \"PUSH https://git.example/app refs/heads/x\"]\n\
                        deny = [\"* https://a.example/x/secret\"]\n\
                        [secrets]\napp = { to = [\"https://git.example/app\"], variable = \"APP_TOKEN\" }\n";

    fn file(text: &str) -> AgentFile {
        AgentFile::parse(text).unwrap()
    }

    fn lines(terms: &[Term]) -> Vec<String> {
        let sign = |mark| match mark {
            Mark::Kept => " ",
            Mark::New => "+",
            Mark::Gone => "-",
        };
        let beware = |term: &Term| term.beware.as_ref().map(|what| format!(" ! {what}")).unwrap_or_default();
        terms
            .iter()
            .map(|term| format!("{} {} {}{}", sign(term.mark), term.place, term.says, beware(term)))
            .collect()
    }

    #[test]
    fn all_that_an_agents_files_say_is_told() {
        let cedar = "// small\n\npermit (principal, action == Action::\"mail__x\", resource);\n";
        let told = lines(&file(FILE).terms(Some(cedar))).join("\n");
        for line in [
            "+ team default",
            "+ harness command 0: python3",
            "+ harness command 2: import os\n+ harness command 2: os.abort()",
            "+ image base",
            "+ models a/b",
            "+ instructions Mend it.",
            "+ [limits] memory 512MiB",
            "+ [limits] tokens_per_day 20000000",
            "+ [limits] usd_per_day not limited",
            "+ policy.cedar // small",
            "resource); ! what it permits needs no line in agent.toml",
            "+ [approvals] asked are 1 of the owners within 4h",
            "+ [tools.mail] allow read",
            "+ [tools.mail] ask   send_*",
            "+ [tools.mail] asked are 2 of the owners within 4h",
            "+ [egress] allow GET https://a.example/x\n",
            "+ [egress] allow POST https://a.example/y ! it lets the agent say what it likes there",
            "+ [egress] allow GET https://a.example/z?* ! it lets the agent say what it likes there",
            "refs/heads/agent/* no-ci ! no-ci: your word that nothing runs at the host",
            "refs/heads/x ! each such push asks a person",
            "+ [egress] deny  * https://a.example/x/secret\n",
            "+ [egress] preset npm: packages of the public registry: reading; no publishing, no tokens (4 rules that allow, 0 \
             that ask, 6 that deny)\n",
            "+ [egress] preset github: GitHub's API: reading repositories, with queries",
            "+ [egress] body 1MiB of one request",
            "+ [secrets] app goes to https://git.example/app ! ",
            "+ [secrets] app has its placeholder in the variable APP_TOKEN",
        ] {
            assert!(told.contains(line), "{line}\n{told}");
        }
        assert_eq!(told.matches("preset npm").count(), 1);
    }

    #[test]
    fn what_is_new_and_what_is_gone_is_marked_in_a_stable_order() {
        let old = file(FILE);
        let since = |new: &str, cedar, before| {
            let terms = file(new).terms_since(cedar, (&old, before));
            let changed: Vec<Term> = terms.into_iter().filter(|term| term.mark != Mark::Kept).collect();
            lines(&changed)
        };
        assert_eq!(since(FILE, None, None), Vec::<String>::new());
        let moved = FILE
            .replace("[\"GET https://a.example/x\", ", "[")
            .replace("refs/heads/x\"", "refs/heads/x\", \"GET https://a.example/x\"");
        assert_ne!(moved, FILE);
        assert_eq!(since(&moved, None, None), Vec::<String>::new(), "the order of rules has no meaning");
        let edited = FILE
            .replace("ask = [\"send_*\"]", "allow_ = []")
            .replace("allow = [\"read\"]\nallow_ = []", "allow = [\"read\", \"send_*\"]")
            .replace("[\"npm\", ", "[\"npm\", \"pip\", ")
            .replace("import os\n", "import sys\n")
            .replace("[\"https://git.example/app\"]", "[\"https://git.example\"]");
        let found = since(&edited, Some("a\nb\nc"), Some("a\nc"));
        let starts = [
            "+ harness command 2: import sys",
            "- harness command 2: import os",
            "+ policy.cedar b",
            "+ [tools.mail] allow send_*",
            "- [tools.mail] ask   send_*",
            "+ [egress] preset pip: ",
            "+ [secrets] app goes to https://git.example !",
            "- [secrets] app goes to https://git.example/app !",
        ];
        assert_eq!(found.len(), starts.len(), "{found:#?}");
        for (line, start) in found.iter().zip(starts) {
            assert!(line.starts_with(start), "{line} / {start}");
        }
        let without = FILE.split("[egress]").next().unwrap();
        let gone = since(without, None, None);
        assert!(gone.iter().all(|line| line.starts_with("- [egress]") || line.starts_with("- [secrets]")));
        assert!(gone.len() > 8, "{gone:#?}");
    }

    #[test]
    fn a_line_that_moves_within_rules_in_cedar_counts_as_another() {
        let terms = file(FILE).terms_since(Some("x\nwhen\ny"), (&file(FILE), Some("x\ny\nwhen")));
        let cedar: Vec<Term> = terms.into_iter().filter(|term| term.place == Term::CEDAR).collect();
        let marks: Vec<(Mark, &str)> = cedar.iter().map(|term| (term.mark, term.says.as_str())).collect();
        let expected = [
            (Mark::Kept, "x"),
            (Mark::New, "when"),
            (Mark::New, "y"),
            (Mark::Gone, "y"),
            (Mark::Gone, "when"),
        ];
        assert_eq!(marks, expected);
    }
}
