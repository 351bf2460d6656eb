//! A session's tools' endpoint without its cell, for measurements from outside: what it is given and the person's answers
//! are read from standard input, its address and its questions written to standard output, one JSON value a line.
//!
//! ```text
//! ← {"server": "http://127.0.0.1:4000/mcp", "table": "labels/workspace.toml", "prompt": "…", "year": 2024}
//! → {"endpoint": "http://127.0.0.1:4001/mcp", "prefix": "env__", "plan_tool": "lazaret__plan"}
//! → {"question": "01…", "calls": [{"tool": "send_email", "arguments": {…}}]}
//! ← {"answer": "01…", "yes": false}
//! ```
//! It ends when its standard input does, with 0 if the ledger verifies.

use std::path::PathBuf;

use domain::ApprovalId;
use gateway::tools::ToolEvent;
use policy::Table;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Act, Approval};
use testkit::cell_less::{CellLess, Given, SERVER, at, now};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin};

const AGENT: &str = "name = \"clerk\"\nteam = \"office\"\nharness = { command = [\"true\"] }\n\
                     [tools.env]\nallow = [\"*\"]\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opening {
    server: String,
    table: PathBuf,
    prompt: String,
    year: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    answer: ApprovalId,
    yes: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let opening = lines.next_line().await.expect("standard input").expect("an opening");
    let opening: Opening = serde_json::from_str(&opening).expect("an opening");
    let table = std::fs::read_to_string(&opening.table).expect("the table's file");
    let mut session = CellLess::open(Given {
        server: at(&opening.server),
        table: Table::parse(&table).expect("a table"),
        agent: AGENT,
        prompt: &opening.prompt,
        year: opening.year,
    })
    .await;
    let prefix = format!("{SERVER}__");
    say(&json!({"endpoint": session.endpoint, "prefix": prefix, "plan_tool": "lazaret__plan"})).await;
    answer(&mut session, &mut lines).await;
    session.store.verify(None).await.expect("the ledger verifies");
    session.close().await;
}

/// Tells each question and takes the answers, until there is no more input.
async fn answer(session: &mut CellLess, lines: &mut Lines<BufReader<Stdin>>) {
    loop {
        tokio::select! {
            event = session.events.recv() => {
                if let Some(ToolEvent::Waits { approval, .. }) = event {
                    say(&shown(&session.store.approval(approval, now()).await.expect("the question"))).await;
                }
            }
            line = lines.next_line() => {
                let Some(line) = line.expect("standard input") else { return };
                let Answer { answer, yes } = serde_json::from_str(&line).expect("an answer");
                session.answer(answer, yes).await.expect("the question is open");
            }
        }
    }
}

/// The question's calls, with the arguments as they will be executed.
fn shown(question: &Approval) -> Value {
    let shown = question.shown.as_ref().expect("nothing was erased");
    let arguments: Value = serde_json::from_str(shown.arguments.reveal()).expect("the arguments are JSON");
    let calls = match &question.act {
        Act::Tool(tool) => json!([{"tool": tool.tool, "arguments": arguments}]),
        _ => arguments.as_array().expect("a plan's calls").iter().map(planned).collect(),
    };
    json!({"question": question.id, "calls": calls})
}

fn planned(call: &Value) -> Value {
    let tool = call["tool"].as_str().expect("a tool's name");
    let tool = tool.rsplit("__").next().expect("a name has a last part");
    json!({"tool": tool, "arguments": call["arguments"]})
}

async fn say(value: &Value) {
    let mut out = tokio::io::stdout();
    out.write_all(format!("{value}\n").as_bytes()).await.expect("standard output");
    out.flush().await.expect("standard output");
}
