//! What the MCP conformance suite is pointed at: a tool server that has what its server scenarios want, behind the real
//! door, gate, policy and store; and our client of tool servers, for its client scenarios, with log-ins where those want them.
//!
//! `conformance serve` writes the endpoint's address to standard output, and ends when its standard input does, with 0 if
//! the ledger verifies. `conformance client URL` lists the tools there and calls each; it ends with 0 if all that worked.

mod signing_in;
mod upstream;

use gateway::tools::ProgressSink;
use gateway::tools::upstream::{Upstream, UpstreamLimits};
use gateway::{BaseUrl, Credential};
use policy::Table;
use serde_json::{Map, Value, json};
use testkit::cell_less::{CellLess, Given, at, dialer};
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wire::tools::ToolFailure;

const AGENT: &str = "name = \"clerk\"\nteam = \"office\"\nharness = { command = [\"true\"] }\n\
                     [tools.env]\nallow = [\"*\"]\n";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve"] => serve().await,
        ["client", url] => client(url).await.expect("the server's tools can be used"),
        _ => panic!("usage: conformance serve | conformance client URL"),
    }
}

async fn serve() {
    let mut tasks = JoinSet::new();
    let server = upstream::serve(&mut tasks).await;
    let tools = upstream::TOOLS.iter().chain(&["resources-read", "prompts-get"]);
    let table: String = tools.map(|tool| format!("[tools.{tool}]\neffects = [\"read\"]\n")).collect();
    let table = Table::parse(&table).expect("a table");
    let given = Given { server: at(&server), table, agent: AGENT, prompt: "Try each tool.", year: 2026 };
    let session = CellLess::open(given).await;
    println!("{}", session.endpoint);
    tokio::io::stdin().read_to_end(&mut Vec::new()).await.expect("standard input");
    session.store.verify(None).await.expect("the ledger verifies");
    session.close().await;
}

async fn connected(url: &str, credential: Credential) -> Result<Upstream, ToolFailure> {
    let address = BaseUrl::parse(url, false).expect("an address of this machine");
    Upstream::over_http(&dialer(), &address, credential, UpstreamLimits::default()).await
}

/// Lists a server's tools, and calls each with arguments that its schema wants.
async fn client(url: &str) -> Result<(), ToolFailure> {
    let signs_in =
        std::env::var("MCP_CONFORMANCE_SCENARIO").is_ok_and(|scenario| scenario.starts_with("auth/"));
    let given = if signs_in { Some(signing_in::key(url).await.expect("a log-in")) } else { None };
    let credential = given.as_ref().map_or(Credential::None, |(key, _)| Credential::Vault(key.clone()));
    let upstream = connected(url, credential).await?;
    let list = upstream.list().await?;
    for withheld in &list.withheld {
        println!("withheld: {}: {}", withheld.name, withheld.why);
    }
    for tool in &list.tools {
        let schema: Value = serde_json::from_str(&tool.input_schema).expect("a schema that was read");
        let arguments = wanted(&schema).to_string();
        let cancelled = CancellationToken::new();
        let called = upstream.call(&tool.name, &arguments, ProgressSink::NONE, &cancelled).await;
        let result = called.map_err(|failed| failed.failure)?;
        println!("{} {arguments}: {result:?}", tool.name);
    }
    upstream.close().await;
    Ok(())
}

/// A value for each property that a schema requires.
fn wanted(schema: &Value) -> Value {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let value = |name: &str| match schema["properties"][name]["type"].as_str() {
        Some("number" | "integer") => json!(7),
        Some("boolean") => json!(true),
        Some("object") => wanted(&schema["properties"][name]),
        Some("array") => json!([]),
        _ => json!("text"),
    };
    Value::Object(required.map(|name| (name.to_owned(), value(name))).collect::<Map<_, _>>())
}
