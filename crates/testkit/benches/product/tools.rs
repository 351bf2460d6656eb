//! What a tool call costs on its way through door, gate, policy, store and ledger, against the same call made directly: an
//! MCP client over HTTP on both ways, and the demo's mailbox as the tool server.

use std::time::Instant;

use demo::Mailbox;
use domain::ToolName;
use gateway::tools::ProgressSink;
use gateway::tools::upstream::{Upstream, UpstreamLimits};
use gateway::{BaseUrl, Credential};
use policy::Table;
use testkit::cell_less::{CellLess, Given, SERVER, at, dialer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::report::{Number, median};

const CALLS: usize = 200;
const AGENT: &str =
    "name = \"clerk\"\nharness = { command = [\"true\"] }\n[tools.env]\nallow = [\"search\"]\n";

pub async fn run() -> Result<Vec<Number>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = format!("http://{}/mcp", listener.local_addr()?);
    let mut serving = JoinSet::new();
    serving.spawn(Mailbox::default().serve(listener));
    let table = Table::parse(Table::shipped("mail").ok_or("no table of mail")?)?;
    let given = Given { server: at(&server), table, agent: AGENT, prompt: "What is new?", year: 2026 };
    let session = CellLess::open(given).await;
    let (direct, through) = (client(&server).await?, client(&session.endpoint).await?);
    let (search, prefixed): (ToolName, ToolName) = ("search".parse()?, format!("{SERVER}__search").parse()?);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        bare.push(call(&direct, &search).await?);
        ours.push(call(&through, &prefixed).await?);
    }
    let (ours, bare) = (median(ours), median(bare));
    session.close().await;
    Ok(vec![
        Number::against("a call of a tool that reads", "ms", ours, "the same call, made directly", bare),
        Number::alone("what the gateway adds to it", "ms", ours - bare),
    ])
}

async fn client(url: &str) -> Result<Upstream> {
    let address = BaseUrl::parse(url, false)?;
    let dialer = dialer();
    let connected = Upstream::over_http(&dialer, &address, Credential::None, UpstreamLimits::default());
    connected.await.map_err(|failure| failure.message.into())
}

/// What one call takes, in ms.
async fn call(client: &Upstream, tool: &ToolName) -> Result<f64> {
    let (never, start) = (CancellationToken::new(), Instant::now());
    let called = client.call(tool, r#"{"query":"urgent"}"#, ProgressSink::NONE, &never);
    let result = called.await.map_err(|failed| failed.failure.message)?;
    if result.is_error {
        return Err(format!("the call failed: {:?}", result.content).into());
    }
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
