//! `approvals`, `approve`, `deny`: what agents want to do and may not without a person, shown in full, and answered.

use std::fs::File;
use std::io::{self, BufRead as _, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use api::{AnswerRequest, ApprovalView, Client, ShownView};
use domain::{ApprovalId, ApprovalState, Origin};
use serde_json::{Map, Value};

use crate::args::{ApprovalsArgs, ApproveArgs, DenyArgs};
use crate::background;
use crate::failure::{Failure, Outcome, note};
use crate::output::{print_json, print_lines};
use crate::terminal::escape;

/// Most lines of an argument or of content shown of one; `approve --all` and `--json` show all of any length.
const MAX_LINES: usize = 400;

/// What is shown of a question.
#[derive(Default)]
struct Sheet {
    lines: Vec<String>,
    /// Most lines of one block.
    most: usize,
    /// How many lines there is no room for.
    left_out: usize,
}

/// Lists the questions that wait, and with `--watch` those to come.
pub(crate) async fn list(args: ApprovalsArgs) -> Outcome {
    let client = background::client().await?;
    if args.watch {
        let mut asked = client.watch_approvals().await?;
        while let Some(question) = asked.next().await? {
            if args.json {
                print_lines([serde_json::to_string(&question).map_err(|e| Failure::new(e.to_string()))?])?;
            } else {
                print_lines(sheet(&question, MAX_LINES).lines)?;
            }
        }
        return Ok(0);
    }
    let mut waiting = client.approvals().await?;
    let (mut any, mut all) = (false, Vec::new());
    while let Some(question) = waiting.next().await? {
        any = true;
        if args.json {
            all.push(question);
        } else {
            print_lines(sheet(&question, MAX_LINES).lines)?;
        }
    }
    if args.json {
        return print_json(&all);
    }
    if !any {
        note("no question waits");
    }
    Ok(0)
}

/// Says yes.
pub(crate) async fn approve(args: ApproveArgs) -> Outcome {
    let client = background::client().await?;
    let question = find(&client, &args.question).await?;
    let sheet = sheet(&question, if args.all { usize::MAX } else { MAX_LINES });
    let pending = question.standing.state == ApprovalState::Pending;
    let whole = sheet.whole(&args.question);
    print_lines(sheet.lines)?;
    if pending {
        whole?;
        if !args.yes && !ask("Approve exactly this?")? {
            note("not answered");
            return Ok(1);
        }
    }
    let answer = AnswerRequest { yes: true, for_session: args.session, why: None };
    tell(&client.answer(question.id, &answer).await?)
}

/// Says no.
pub(crate) async fn deny(args: DenyArgs) -> Outcome {
    let client = background::client().await?;
    let question = find(&client, &args.question).await?;
    print_lines(sheet(&question, MAX_LINES).lines)?;
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

/// The one question that is meant: by its id, or by the end of the id of one that waits.
async fn find(client: &Client, text: &str) -> Result<ApprovalView, Failure> {
    if let Ok(id) = text.parse::<ApprovalId>() {
        return Ok(client.approval(id).await?);
    }
    let wanted = text.to_ascii_lowercase();
    let (mut waiting, mut found) = (client.approvals().await?, Vec::new());
    while let Some(question) = waiting.next().await? {
        if wanted.len() >= 4 && question.id.to_string().ends_with(&wanted) {
            found.push(question);
        }
    }
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
fn sheet(question: &ApprovalView, most: usize) -> Sheet {
    let nobody = || "nobody".to_owned();
    let agent = question.agent.as_ref().map_or_else(nobody, ToString::to_string);
    let standing = &question.standing;
    let people: Vec<&str> = standing.quorum.people.iter().map(domain::PersonName::as_str).collect();
    let mut sheet = Sheet { most, ..Sheet::default() };
    sheet.lines.push(format!("{}  {}", question.id, standing.state));
    sheet.lines.push(format!("  agent    {agent} wants {} ({})", escape(&question.act), question.effects));
    match &question.shown {
        Some(shown) => sheet.shown(&question.act, shown),
        None => sheet.lines.push("  what it showed was erased".to_owned()),
    }
    let lines = &mut sheet.lines;
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
    sheet
}

impl Sheet {
    /// What would be done: what matters most first, so that nothing longer pushes it out of sight.
    fn shown(&mut self, act: &str, shown: &ShownView) {
        self.lines.extend(shown.consequences.iter().map(|what| format!("  effect   {}", escape(what))));
        let arguments: Option<Value> = serde_json::from_str(&shown.arguments).ok();
        let request =
            arguments.as_ref().and_then(Value::as_object).and_then(|fields| Request::of(act, fields));
        match (request, &arguments) {
            (Some(request), _) => self.request(&request),
            (None, Some(value)) => {
                let pretty = serde_json::to_string_pretty(value);
                self.block("arguments", pretty.as_deref().unwrap_or(&shown.arguments));
            }
            (None, None) => self.block("arguments", &shown.arguments),
        }
        for (path, origin) in &shown.origins {
            let path = if path.is_empty() { "/" } else { path };
            self.lines.push(format!("  origin   {}: {}", escape(path), escape(&describe(origin))));
        }
        if !shown.content.is_empty() {
            self.block("content", &readable(&shown.content));
        }
    }

    fn request(&mut self, request: &Request<'_>) {
        self.lines.push(format!("  request  {} {}", escape(request.method), escape(request.url)));
        for change in &request.push {
            self.lines.push(format!("  pushes   {}", escape(change)));
        }
        if let Some(bytes) = request.pack {
            self.lines.push(format!("  pack     {bytes} bytes, told by the names of its commits"));
        }
        if let Some(bytes) = request.up_to {
            self.lines.push(format!("  body     up to {bytes} bytes that are not shown"));
        }
        if let Some(body) = request.body {
            self.block("body", body);
        }
        for (name, value) in &request.headers {
            self.lines.push(format!("  header   {}: {}", escape(name), escape(value)));
        }
    }

    fn block(&mut self, title: &str, text: &str) {
        self.lines.push(format!("  {title}"));
        self.lines.extend(text.lines().take(self.most).map(|line| format!("    | {}", escape(line))));
        let more = text.lines().count().saturating_sub(self.most);
        if more > 0 {
            self.lines.push(format!("    … {more} more lines: `lazaret approve … --all` shows them"));
            self.left_out = self.left_out.saturating_add(more);
        }
    }

    /// Nobody approves what they were not shown.
    fn whole(&self, question: &str) -> Result<(), Failure> {
        if self.left_out == 0 {
            return Ok(());
        }
        let why = format!("{} lines of it were not shown, and so it can't be approved", self.left_out);
        Err(Failure::new(why).hint(format!("see all of it: lazaret approve {} --all", escape(question))))
    }
}

/// A request that is to leave, as its arguments tell of it.
struct Request<'a> {
    method: &'a str,
    url: &'a str,
    /// Each change of a ref.
    push: Vec<&'a str>,
    pack: Option<u64>,
    up_to: Option<u64>,
    body: Option<&'a str>,
    headers: Vec<(&'a str, &'a str)>,
}

impl<'a> Request<'a> {
    /// None where there is anything that wouldn't be shown.
    fn of(act: &str, fields: &'a Map<String, Value>) -> Option<Self> {
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let (method, url) = (text("method")?, text("url")?);
        let mut request =
            Self { method, url, push: Vec::new(), pack: None, up_to: None, body: None, headers: Vec::new() };
        for (name, value) in fields {
            match name.as_str() {
                "method" | "url" => {}
                "push" => {
                    request.push = value.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?
                }
                "pack_bytes" => request.pack = Some(value.as_u64()?),
                "body_up_to" => request.up_to = Some(value.as_u64()?),
                "body" => request.body = Some(value.as_str()?),
                "headers" => request.headers = value.as_array()?.iter().map(pair).collect::<Option<_>>()?,
                _ => return None,
            }
        }
        // Arguments of a tool are another thing, whatever they are called.
        act.strip_prefix(method)?.starts_with(' ').then_some(request)
    }
}

fn pair(value: &Value) -> Option<(&str, &str)> {
    match value.as_array()?.as_slice() {
        [name, value] => Some((name.as_str()?, value.as_str()?)),
        _other => None,
    }
}

/// Content as a person reads it: what is a record is shown field by field, each line of a text in it as a line, which
/// begins so that it can't be taken for another field.
fn readable(content: &str) -> String {
    let line = |line: &str| match serde_json::from_str(line) {
        Ok(Value::Object(record)) => record.iter().map(field).collect::<Vec<_>>().join("\n"),
        Ok(_) | Err(_) => line.to_owned(),
    };
    content.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn field((name, value): (&String, &Value)) -> String {
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
    use serde_json::json;

    fn shown(act: &str, arguments: &Value, most: usize) -> Sheet {
        let shown = ShownView {
            arguments: arguments.to_string(),
            content: String::new(),
            origins: Vec::new(),
            consequences: Vec::new(),
        };
        let mut sheet = Sheet { most, ..Sheet::default() };
        sheet.shown(act, &shown);
        sheet
    }

    #[test]
    fn headers_push_neither_refs_nor_body_out_of_sight() {
        let headers: Vec<[String; 2]> = (0..64).map(|n| [format!("x-{n}"), "y".to_owned()]).collect();
        let asked = json!({
            "method": "POST", "url": "https://git.example/a", "headers": headers,
            "push": ["refs/heads/main: 1 -> 2"], "body": "one\ntwo",
        });
        let sheet = shown("POST https://git.example", &asked, 400);
        let starts =
            ["  request  POST https://git.example/a", "  pushes   refs/heads/main: 1 -> 2", "  body"];
        assert_eq!(sheet.lines.get(..3).unwrap(), starts);
        assert_eq!(sheet.lines.get(3..5).unwrap(), ["    | one", "    | two"]);
        assert_eq!((sheet.lines.len(), sheet.left_out), (5 + 64, 0), "a line for each header");
        // What a tool is asked for, and what has more in it than that, is shown as it is.
        for (act, more) in [("crm.post", json!({})), ("POST https://git.example", json!({"hidden": 1}))] {
            let mut asked = asked.clone();
            asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            assert_eq!(shown(act, &asked, 400).lines[0], "  arguments", "{act}");
        }
    }

    #[test]
    fn nothing_of_a_request_is_a_command_to_the_terminal() {
        let text = "a\u{1b}[2Jb\u{202e}c";
        let asked = json!({
            "method": "POST", "url": format!("https://git.example/{text}"), "headers": [[text, text]],
            "push": [text], "body": text,
        });
        for act in ["POST https://git.example", "crm.post"] {
            let sheet = shown(act, &asked, 400).lines.join("\n");
            assert!(sheet.contains("[2J") && !sheet.contains(['\u{1b}', '\u{202e}']), "{act}: {sheet:?}");
        }
    }

    #[test]
    fn what_is_not_shown_whole_is_not_approved() {
        let body = "line\n".repeat(500) + "and send it to eve";
        let asked = json!({"method": "POST", "url": "https://a.example/", "body": body});
        let cut = shown("POST https://a.example", &asked, MAX_LINES);
        let told = format!("{:?}", cut.whole("4q8z").unwrap_err());
        assert!(told.contains("101 lines of it were not shown"), "{told}");
        let whole = shown("POST https://a.example", &asked, usize::MAX);
        assert!(whole.whole("4q8z").is_ok() && whole.lines.iter().any(|line| line.ends_with("to eve")));
    }

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
