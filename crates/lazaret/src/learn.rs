//! `policy learn`: what an agent's requests were refused for, and rules that a person could add.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::Path;

use api::{LedgerEntry, LedgerQuery, MAX_ENTRIES};
use domain::{AgentFile, AgentName, Answer, EgressTarget, Span};
use policy::{Learned, Proposal, propose};
use serde_json::{Value, json};

use crate::background;
use crate::failure::{Failure, Outcome, note};
use crate::output::{print_json, print_lines};
use crate::terminal::escape;

/// Most rules that are proposed at once.
const MAX_PROPOSED: usize = 100;

/// What was typed.
pub(crate) struct Wanted {
    pub(crate) agent: AgentName,
    pub(crate) since: Span,
    pub(crate) json: bool,
    pub(crate) write: bool,
}

/// `lazaret policy learn`.
pub(crate) async fn learn(wanted: Wanted) -> Outcome {
    let path = background::folders()?.config.join("agents").join(wanted.agent.as_str()).join("agent.toml");
    let text = match (fs::read_to_string(&path), daemon::example(wanted.agent.as_str())) {
        (Ok(text), _) => text,
        (Err(error), Some(example)) if error.kind() == ErrorKind::NotFound && !wanted.write => {
            example.to_owned()
        }
        (Err(error), example) => {
            let failure = Failure::new(format!("`{}`: {error}", path.display()));
            return Err(match example {
                Some(_) => failure.hint("an example can't be changed: put an agent.toml of your own there"),
                None => failure.hint("`lazaret agent ls` lists the agents; `lazaret agent new` makes one"),
            });
        }
    };
    let file = read(&text, &path)?;
    let Refused { targets, unnamed } = refused(&wanted).await?;
    let Learned { mut proposals, left_out } = propose(&targets, file.egress.as_ref());
    let left_out: Vec<String> = left_out.iter().map(ToString::to_string).chain(unnamed).collect();
    if proposals.len() > MAX_PROPOSED {
        note(format!("{} rules would be needed; the first {MAX_PROPOSED} are shown", proposals.len()));
        proposals.truncate(MAX_PROPOSED);
    }
    if wanted.json {
        let one = |p: &Proposal| json!({ "rule": p.rule, "refused": p.times, "speaks": p.speaks });
        let left_out: Vec<&String> = left_out.iter().take(MAX_PROPOSED).collect();
        let proposed: Vec<Value> = proposals.iter().map(one).collect();
        return print_json(&json!({ "proposed": proposed, "left_out": left_out }));
    }
    tell_left_out(&left_out);
    if proposals.is_empty() && !left_out.is_empty() {
        note("nothing else was refused that its rules don't name");
        return Ok(0);
    }
    if proposals.is_empty() {
        note(format!("no request of {} was refused that its rules don't name", wanted.agent));
        return Ok(0);
    }
    print_lines(proposals.iter().map(line))?;
    if !wanted.write {
        note("nothing is changed: add what is meant to `allow` or `ask` of [egress], or run it with --write");
        return Ok(0);
    }
    write(&text, &path, &proposals, &wanted.agent)
}

/// Says what no rule is proposed for, so that nobody looks for it.
fn tell_left_out(left_out: &[String]) {
    let Some(first) = left_out.first() else { return };
    let first: String = escape(first).chars().take(200).collect();
    note(format!(
        "{} refused requests are left out, such as {first}: no rule can name a request with a `*` in its URL, a ref with a \
         comma, or a method called as a rule about git, without naming others",
        left_out.len()
    ));
}

fn line(proposal: &Proposal) -> String {
    let speaks = if proposal.speaks { "   (lets the agent say what it likes)" } else { "" };
    format!("{:>5} times  {}{speaks}", proposal.times, escape(&proposal.rule))
}

/// What was refused.
#[derive(Default)]
struct Refused {
    targets: Vec<EgressTarget>,
    /// What is no request that a rule could name, as text.
    unnamed: Vec<String>,
}

/// The requests that the ledger says were refused, as long ago as is wanted.
async fn refused(wanted: &Wanted) -> Result<Refused, Failure> {
    let client = background::client().await?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let from = now.saturating_sub(wanted.since.as_duration()).as_millis();
    let mut all = Refused::default();
    for kind in ["decided", "refused"] {
        let agent = Some(wanted.agent.clone());
        let query = LedgerQuery {
            count: MAX_ENTRIES,
            after: None,
            before: None,
            agent,
            session: None,
            kind: Some(kind.to_owned()),
        };
        let recent = |entry: &LedgerEntry| {
            entry.get("at").and_then(Value::as_u64).is_some_and(|at| u128::from(at) >= from)
        };
        let wanted = |entry: LedgerEntry| recent(&entry).then(|| target(&entry)).flatten();
        for found in client.newest(&query, wanted).await?.into_iter().flatten() {
            match found {
                Ok(target) => all.targets.push(target),
                Err(text) => all.unnamed.push(text),
            }
        }
    }
    Ok(all)
}

/// The request of an entry about one that was denied; its text where no rule can name it. What people were asked about has
/// its rule.
fn target(entry: &LedgerEntry) -> Option<Result<EgressTarget, String>> {
    entry.pointer("/event/act/connect")?;
    if entry.pointer("/event/verdict").is_some_and(|verdict| verdict != "deny") {
        return None;
    }
    let sealed: Value = serde_json::from_str(entry.get("private")?.as_str()?).ok()?;
    let text = |name: &str| sealed.get(name).and_then(Value::as_str);
    // A push's changes begin with the names of their refs.
    let changes =
        sealed.get("push").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let refs: Vec<String> =
        changes.filter_map(|change| change.split_once(':').map(|(name, _)| name.to_owned())).collect();
    let request = format!("{} {}", text("method")?, text("url")?);
    let whole = if refs.is_empty() { request.clone() } else { format!("{request} {}", refs.join(" ")) };
    // A ref's name is taken whole: one with a comma is no two refs.
    Some(request.parse().and_then(|target: EgressTarget| target.pushing(refs)).map_err(|_unnamed| whole))
}

/// Writes rules into the file, if a person agrees. They count when an owner applies the agent.
fn write(text: &str, path: &Path, proposals: &[Proposal], agent: &AgentName) -> Outcome {
    let newer = added(text, proposals);
    let file = read(&newer, path)?;
    let there = |rule: &str| {
        let rules = file.egress.iter().flat_map(|egress| &egress.rules);
        rules.into_iter().any(|found| found.answer == Answer::Allow && found.pattern.as_str() == rule)
    };
    if !proposals.iter().all(|proposal| there(&proposal.rule)) {
        return Err(Failure::new(format!(
            "`{}` is written in a way that can't be added to here",
            path.display()
        ))
        .hint("add the rules to `allow` of [egress] yourself"));
    }
    let terminal = File::options().read(true).write(true).open("/dev/tty").map_err(|_| {
        Failure::new("there is no terminal to ask at").hint("add the rules that are meant yourself")
    })?;
    let asked = write!(&terminal, "add these {} rules to `{}`? [y/N] ", proposals.len(), path.display());
    asked.map_err(|e| Failure::new(e.to_string()))?;
    let mut said = String::new();
    BufReader::new(&terminal).read_line(&mut said).map_err(|e| Failure::new(e.to_string()))?;
    if !matches!(said.trim(), "y" | "yes") {
        note("nothing is changed");
        return Ok(1);
    }
    replace(path, text, &newer)?;
    note(format!("they count when an owner has looked at them: lazaret agent apply {agent}"));
    Ok(0)
}

/// Writes the file anew, if it is still as it was when it was read: whoever is asked may take long to answer.
fn replace(path: &Path, before: &str, newer: &str) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("`{}`: {e}", path.display()));
    if fs::read_to_string(path).map_err(failed)? != before {
        let why = format!("`{}` was changed meanwhile, so nothing is written", path.display());
        return Err(Failure::new(why).hint("run it again, which reads the file as it is now"));
    }
    let new = path.with_extension("toml.new");
    fs::write(&new, newer).and_then(|()| fs::rename(&new, path)).map_err(failed)
}

/// The file with rules at the start of `allow` of `[egress]`.
fn added(text: &str, proposals: &[Proposal]) -> String {
    // The agent chose what its refs are called.
    let quoted = |rule: &str| Value::from(rule).to_string();
    let rules: String =
        proposals.iter().map(|proposal| format!("    {},\n", quoted(&proposal.rule))).collect();
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let Some(table) = lines.iter().position(|line| line.trim() == "[egress]") else {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        return format!("{text}{end}\n[egress]\nallow = [\n{rules}]\n");
    };
    let after = lines.iter().enumerate().skip(table.saturating_add(1));
    let here = after.take_while(|(_, line)| !line.trim_start().starts_with('['));
    let is_allow = |line: &str| line.split('=').next().is_some_and(|key| key.trim() == "allow");
    let allow = here.into_iter().find(|(_, line)| is_allow(line)).map(|(at, _)| at);
    let grown;
    match allow.and_then(|at| lines.get_mut(at).map(|line| (line.split_once('['), line))) {
        Some((Some((before, rest)), line)) => {
            grown = format!("{before}[\n{rules}{rest}");
            *line = &grown;
        }
        Some((None, _)) => {}
        None => {
            grown = format!("allow = [\n{rules}]\n");
            lines.insert(table.saturating_add(1), &grown);
        }
    }
    lines.concat()
}

fn read(text: &str, path: &Path) -> Result<AgentFile, Failure> {
    AgentFile::parse(text).map_err(|error| {
        Failure::new(format!("{}:{}:{}: {}", path.display(), error.line, error.column, error.message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "{\"method\":\"GET\",\"url\":\"https://a.example/x\"}";
    const HEAD: &str = "name = \"a\"\nharness = { command = [\"x\"] }\n";

    #[test]
    fn rules_are_added_where_rules_are() {
        let proposals = ["GET https://a.example/x", "GET https://b.example/*"].map(|rule| Proposal {
            rule: rule.to_owned(),
            times: 1,
            speaks: false,
        });
        for egress in [
            "",
            "\n[egress]\nbody = \"1MiB\"\n",
            "\n[egress]\nallow = [\"GET https://old.example/\"]\n\n[limits]\npids = 64\n",
            "\n[egress]\nask = []\nallow = [\n    \"GET https://old.example/\", # kept\n]\n",
            "\n[egress]\nallow = []",
        ] {
            let text = format!("{HEAD}{egress}");
            let newer = added(&text, &proposals);
            let rules = AgentFile::parse(&newer).unwrap().egress.unwrap().rules;
            let old = usize::from(egress.contains("old"));
            assert_eq!(rules.len(), 2 + old, "{newer}");
            assert!(!egress.contains("kept") || newer.contains("# kept"));
        }
    }

    #[test]
    fn a_rule_is_written_as_the_text_that_it_is() {
        let rule = r#"PUSH https://g.example/app refs/heads/",x"#;
        let quotes = "PUSH https://g.example/app refs/heads/a\"b'c";
        let proposal = |rule: &str| Proposal { rule: rule.to_owned(), times: 1, speaks: true };
        let newer = added(HEAD, &[proposal(quotes)]);
        let rules = AgentFile::parse(&newer).unwrap().egress.unwrap().rules;
        assert_eq!((rules.len(), rules[0].pattern.as_str()), (1, quotes), "{newer}");
        let newer: toml::Table = added(HEAD, &[proposal(rule)]).parse().unwrap();
        assert_eq!(newer["egress"]["allow"][0].as_str(), Some(rule));
    }

    #[test]
    fn a_file_that_changed_while_somebody_was_asked_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        fs::write(&path, "edited").unwrap();
        assert!(replace(&path, "as it was", "newer").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "edited");
        replace(&path, "edited", "newer").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "newer");
    }

    #[test]
    fn what_was_refused_is_learned_from_or_told() {
        let entry = |method: &str, url: &str, push: &[&str]| {
            let private = json!({ "method": method, "url": url, "push": push }).to_string();
            let event = json!({ "kind": "refused", "act": { "connect": "x" } });
            target(&json!({ "at": 1, "event": event, "sealed": "open", "private": private })).unwrap()
        };
        let url = "https://a.example/x?u=https%3A%2F%2Fb";
        assert_eq!(entry("GET", url, &[]).unwrap().url(), url);
        let repository = "https://g.example/app/git-receive-pack";
        let pushed =
            entry("POST", repository, &["refs/heads/a\"b: new, at 1", "refs/heads/b: deleted, was 2"]);
        assert_eq!(pushed.unwrap().refs, ["refs/heads/a\"b", "refs/heads/b"]);
        let comma = entry("POST", repository, &["refs/heads/x,refs/heads/main: new, at 1"]).unwrap_err();
        assert_eq!(comma, format!("POST {repository} refs/heads/x,refs/heads/main"));
    }

    #[test]
    fn only_denied_requests_are_learned_from() {
        let entry = |event: Value| json!({ "at": 1, "event": event, "sealed": "open", "private": REQUEST });
        let connect = json!({ "connect": "GET https://a.example" });
        for (event, learned) in [
            (json!({ "kind": "decided", "act": connect, "verdict": "deny" }), true),
            (json!({ "kind": "decided", "act": connect, "verdict": "ask" }), false),
            (json!({ "kind": "refused", "act": connect }), true),
            (json!({ "kind": "refused", "act": { "tool": "a__b" } }), false),
        ] {
            assert_eq!(target(&entry(event)).is_some(), learned);
        }
    }
}
