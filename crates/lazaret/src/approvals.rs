//! `approvals`, `approve`, `deny`: what agents want to do and may not without a person, shown in full, and answered.

use std::fs::File;
use std::io::{self, BufRead as _, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use api::{AnswerRequest, ApprovalView, Client, ShownView};
use domain::{ApprovalId, ApprovalState, Origin};

use crate::args::{ApprovalsArgs, ApproveArgs, DenyArgs};
use crate::background;
use crate::failure::{Failure, Outcome, note};
use crate::output::{print_json, print_lines};
use crate::terminal::escape;

/// Most lines of an argument or of content shown of one; `--json` shows all of any length.
const MAX_LINES: usize = 400;

/// Lists the questions that wait, and with `--watch` those to come.
pub(crate) async fn list(args: ApprovalsArgs) -> Outcome {
    let client = background::client().await?;
    if args.watch {
        let mut asked = client.watch_approvals().await?;
        while let Some(question) = asked.next().await? {
            if args.json {
                print_lines([serde_json::to_string(&question).map_err(|e| Failure::new(e.to_string()))?])?;
            } else {
                print_lines(lines(&question))?;
            }
        }
        return Ok(0);
    }
    let questions = client.approvals().await?;
    if args.json {
        return print_json(&questions);
    }
    if questions.is_empty() {
        note("no question waits");
    }
    print_lines(questions.iter().flat_map(lines))
}

/// Says yes.
pub(crate) async fn approve(args: ApproveArgs) -> Outcome {
    let client = background::client().await?;
    let question = find(&client, &args.question).await?;
    print_lines(lines(&question))?;
    if question.standing.state == ApprovalState::Pending && !args.yes && !ask("Approve exactly this?")? {
        note("not answered");
        return Ok(1);
    }
    let answer = AnswerRequest { yes: true, for_session: args.session, why: None };
    tell(&client.answer(question.id, &answer).await?)
}

/// Says no.
pub(crate) async fn deny(args: DenyArgs) -> Outcome {
    let client = background::client().await?;
    let question = find(&client, &args.question).await?;
    print_lines(lines(&question))?;
    let answer = AnswerRequest { yes: false, for_session: false, why: args.why };
    tell(&client.answer(question.id, &answer).await?)
}

fn tell(question: &ApprovalView) -> Outcome {
    let standing = &question.standing;
    let yes = standing.answers.iter().filter(|answer| answer.yes).count();
    match standing.state {
        ApprovalState::Pending => {
            let missing = usize::from(standing.quorum.need).saturating_sub(yes);
            note(format!("yes; {missing} more must say so"));
        }
        state @ (ApprovalState::Approved
        | ApprovalState::Denied
        | ApprovalState::Expired
        | ApprovalState::Cancelled
        | ApprovalState::Consumed) => note(format!("{} {state}", question.id)),
    }
    Ok(0)
}

/// The one question that is meant: by its id, or by the beginning of the id of one that waits.
async fn find(client: &Client, text: &str) -> Result<ApprovalView, Failure> {
    if let Ok(id) = text.parse::<ApprovalId>() {
        return Ok(client.approval(id).await?);
    }
    let wanted = text.to_ascii_lowercase();
    let mut found = client.approvals().await?;
    found.retain(|question| wanted.len() >= 4 && question.id.to_string().ends_with(&wanted));
    match found.pop() {
        Some(question) if found.is_empty() => Ok(question),
        Some(_) => Err(Failure::new(format!("`{}` means several questions", escape(text)))
            .hint("`lazaret approvals` lists their ids")),
        None => Err(Failure::new(format!("`{}` means no question that waits", escape(text)))
            .hint("`lazaret approvals` lists their ids; the last four letters of one are enough")),
    }
}

/// Asks at the terminal. Without one, the answer is no.
pub(crate) fn ask(question: &str) -> Result<bool, Failure> {
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") else {
        return Err(Failure::new("there is no terminal to ask at")
            .hint("read the question, then say --yes to approve it"));
    };
    let mut answer = String::new();
    let mut out = &terminal;
    write!(out, "{question} [y/N] ")?;
    io::BufReader::new(&terminal).read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A question in full, for people. Everything in it but its frame may be an attacker's text.
fn lines(question: &ApprovalView) -> Vec<String> {
    let nobody = || "nobody".to_owned();
    let agent = question.agent.as_ref().map_or_else(nobody, ToString::to_string);
    let standing = &question.standing;
    let people: Vec<&str> = standing.quorum.people.iter().map(domain::PersonName::as_str).collect();
    let mut lines = vec![
        format!("{}  {}", question.id, standing.state),
        format!("  agent    {agent} wants {} ({})", escape(&question.act), question.effects),
    ];
    match &question.shown {
        Some(shown) => shown_lines(shown, &mut lines),
        None => lines.push("  what it showed was erased".to_owned()),
    }
    lines.push(format!("  session  has met: {}", question.labels));
    lines.extend(question.reasons.iter().map(|reason| format!("  why      {}", escape(reason))));
    lines.push(format!(
        "  answer   {} of {}, within {}",
        standing.quorum.need,
        people.join(", "),
        left(standing.quorum.until)
    ));
    for answer in &standing.answers {
        let word = if answer.yes { "yes" } else { "no" };
        let why = answer.why.as_ref().map(|why| format!(": {}", escape(why))).unwrap_or_default();
        lines.push(format!("           {} said {word}{why}", answer.person));
    }
    lines
}

fn shown_lines(shown: &ShownView, lines: &mut Vec<String>) {
    lines.extend(shown.consequences.iter().map(|what| format!("  effect   {}", escape(what))));
    let pretty = serde_json::from_str::<serde_json::Value>(&shown.arguments)
        .ok()
        .and_then(|value| serde_json::to_string_pretty(&value).ok());
    block("arguments", pretty.as_deref().unwrap_or(&shown.arguments), lines);
    for (path, origin) in &shown.origins {
        let path = if path.is_empty() { "/" } else { path };
        lines.push(format!("  origin   {}: {}", escape(path), escape(&describe(origin))));
    }
    if !shown.content.is_empty() {
        block("content", &readable(&shown.content), lines);
    }
}

/// Content as a person reads it: what is a record is shown field by field, each line of a text in it as a line, which
/// begins so that it can't be taken for another field.
fn readable(content: &str) -> String {
    let line = |line: &str| match serde_json::from_str(line) {
        Ok(serde_json::Value::Object(record)) => record.iter().map(field).collect::<Vec<_>>().join("\n"),
        Ok(_) | Err(_) => line.to_owned(),
    };
    content.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn field((name, value): (&String, &serde_json::Value)) -> String {
    match value.as_str() {
        Some(text) if text.contains('\n') => {
            let lines: Vec<_> = text.lines().map(|line| format!("\n  | {line}")).collect();
            format!("{name}:{}", lines.concat())
        }
        Some(text) => format!("{name}: {text}"),
        None => format!("{name}: {value}"),
    }
}

fn describe(origin: &Origin) -> String {
    match origin {
        Origin::Unknown => "unknown: as far as is known, the agent made it up".to_owned(),
        known @ (Origin::Person | Origin::Named(_) | Origin::Organisation(_) | Origin::Stranger(_)) => {
            known.to_string()
        }
    }
}

fn block(title: &str, text: &str, lines: &mut Vec<String>) {
    lines.push(format!("  {title}"));
    lines.extend(text.lines().take(MAX_LINES).map(|line| format!("    | {}", escape(line))));
    let more = text.lines().count().saturating_sub(MAX_LINES);
    if more > 0 {
        lines.push(format!("    … {more} more lines: `lazaret approvals --json` shows them"));
    }
}

fn left(until: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match (until / 1000).saturating_sub(now) {
        0 => "no time".to_owned(),
        seconds @ 1..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_shown_as_it_looks_and_its_text_looks_like_no_field() {
        let mail =
            r#"{"to":[{"address":"eve@evil.example"}],"subject":"x","body":"hello\nto: ada@acme.example\n"}"#;
        let shown = readable(&format!("{mail}\nplain text\n"));
        for line in [
            r#"to: [{"address":"eve@evil.example"}]"#,
            "subject: x",
            "  | to: ada@acme.example",
            "plain text",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
        }
        assert!(!shown.lines().any(|line| line == "to: ada@acme.example"), "{shown}");
    }
}
