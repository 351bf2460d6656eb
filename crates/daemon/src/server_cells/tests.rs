//! Cells of tool servers against a host whose cells are a task: started when wanted, gone when not, waited for when they fail.

use std::sync::atomic::Ordering;

use api::{ServerLimits, ServerState};
use domain::{Labels, Origin};
use policy::{Body, Call, Connect, ConnectFacts, Counts, Decision, decide};
use wire::tools::ToolFailureKind;

use super::*;
use crate::config::Config;
use crate::session::Fake;

fn cell(program: &str) -> ServerCell {
    ServerCell {
        image: "base".parse().unwrap(),
        command: vec![program.to_owned()],
        allow_emulation: true,
        egress: Vec::new(),
        secrets: BTreeMap::new(),
        limits: ServerLimits::default(),
    }
}

struct Lab {
    cells: ServerCells,
    at_once: Arc<std::sync::atomic::AtomicUsize>,
    _folder: tempfile::TempDir,
}

async fn lab(fake: Fake) -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let at_once = Arc::clone(&fake.at_once);
    let store = crate::keeping::open(&at("store")).await.unwrap();
    let nobody = crate::secrets::Passphrase { file: None, command: None, ask: &|| None };
    let vault = Arc::new(crate::secrets::open(&at("vault"), nobody).await.unwrap());
    let dialer = crate::outside::dialer(&Config::default(), &vault).unwrap();
    let lender = crate::keeping::lender(vault, &dialer, &store);
    let outside = crate::outside::outside(&Config::default(), dialer, &lender);
    let authority = Arc::new(crate::keeping::authority(&at("egress")).unwrap());
    let ways = Ways::new(outside, authority, store);
    let cells = ServerCells::new(Arc::new(fake), ways, false, at("servers"));
    Lab { cells, at_once, _folder: folder }
}

impl Lab {
    async fn connect(&self, team: &str, program: &str) -> Result<Upstream, ToolFailure> {
        self.cells.connect(&team.parse().unwrap(), &"x".parse().unwrap(), &cell(program)).await
    }

    async fn until(&self, cells: usize) {
        while self.at_once.load(Ordering::SeqCst) != cells || self.cells.running().len() != cells {
            tokio::task::yield_now().await;
        }
    }
}

/// The way out of a team's cell of a server; it tells why nothing leaves by it to `https://api.example`, if nothing does.
pub(crate) async fn way(
    cells: &ServerCells,
    team: &TeamName,
    server: &ServerName,
    wanted: &ServerCell,
) -> impl Fn() -> Option<String> {
    let made = cells.ways.make(team, server, wanted).await.unwrap().unwrap();
    move || {
        let target = "GET https://api.example/x".parse().unwrap();
        let action = Connect { target, headers: Vec::new(), push: None, body: Body::None };
        let (labels, origin, calls) = (Labels::default(), Origin::Unknown, Counts::default());
        let facts = ConnectFacts { labels, origin, own: false, calls };
        match decide(&made.policy(), Call { action, facts }) {
            Decision::Allow(_) => None,
            Decision::Ask(question) => Some(question.reasons()[0].to_string()),
            Decision::Deny(reasons) => Some(reasons[0].to_string()),
        }
    }
}

/// What a call that still runs lets out is what the entry says now.
#[tokio::test]
async fn an_entry_that_changes_lets_nothing_more_out_of_its_cells() {
    let lab = lab(Fake::default()).await;
    let wanted = ServerCell { egress: vec!["GET https://api.example/**".to_owned()], ..cell("mcp") };
    let (team, server, other) = ("sales".parse().unwrap(), "x".parse().unwrap(), "y".parse().unwrap());
    let made = way(&lab.cells, &team, &server, &wanted).await;
    let kept = way(&lab.cells, &team, &other, &wanted).await;
    assert_eq!((made(), kept()), (None, None));
    lab.cells.close_ways(&server);
    assert!(made().unwrap().contains("tool server x was changed or removed"));
    assert_eq!(kept(), None);
}

#[tokio::test]
async fn each_team_has_a_cell_of_its_own_that_goes_when_its_connection_does() {
    let lab = lab(Fake::default()).await;
    let sales = lab.connect("sales", "mcp").await.unwrap();
    let support = lab.connect("support", "mcp").await.unwrap();
    let running = lab.cells.running();
    let teams: Vec<&str> = running.iter().map(|cell| cell.team.as_str()).collect();
    assert_eq!(teams, ["sales", "support"]);
    assert!(running.iter().all(|cell| cell.state == ServerState::Running));
    drop(sales);
    lab.until(1).await;
    lab.cells.stop_all().await;
    lab.until(0).await;
    assert!(support.list().await.is_err());
    assert!(lab.connect("sales", "mcp").await.is_err(), "nothing starts while the daemon ends");
    lab.until(0).await;
}

#[tokio::test]
async fn one_that_dies_is_started_anew_and_one_that_always_does_is_waited_for() {
    let lab = lab(Fake::default()).await;
    let first = lab.connect("sales", "mcp").await.unwrap();
    assert!(first.list().await.is_err());
    lab.until(0).await;
    let again = lab.connect("sales", "mcp").await.unwrap();
    assert!(again.broken().is_none(), "the first failure costs no wait");
    drop(again);
    for _ in 0..2 {
        assert!(lab.connect("support", "fail").await.is_err());
    }
    let waits = {
        let place = lab.cells.place(&"support".parse().unwrap(), &"x".parse().unwrap());
        let mut turn = place.turn.lock().await;
        (0..5).for_each(|_| turn.restarts.failed(Instant::now(), Duration::ZERO));
        turn.restarts.failures()
    };
    assert_eq!(waits, 7);
    let told = lab.connect("support", "mcp").await.err().unwrap();
    assert!(told.message.contains("failed 7 times in a row"), "{}", told.message);
    assert!(told.hint.is_some_and(|hint| hint.contains("lazaret server show x")));
    lab.until(0).await;
    assert!(
        lab.cells.last_words(&"support".parse().unwrap(), &"x".parse().unwrap())[0].contains("exit code 7")
    );
}

#[tokio::test]
async fn there_is_room_for_so_many_cells_and_no_more() {
    let lab = lab(Fake::default()).await;
    let mut held = Vec::new();
    for team in 0..MAX_CELLS {
        held.push(lab.connect(&format!("team-{team}"), "mcp").await.unwrap());
    }
    let told = lab.connect("sales", "mcp").await.err().unwrap();
    assert!(told.message.contains("32 cells of tool servers are up already"), "{}", told.message);
    held.pop();
    lab.until(MAX_CELLS - 1).await;
    while lab.cells.room.available_permits() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(lab.connect("sales", "mcp").await.is_ok());
}

#[tokio::test]
async fn a_host_that_may_not_run_it_says_why_and_what_to_do() {
    let lab = lab(Fake { refuse: true, ..Fake::default() }).await;
    let told = lab.connect("sales", "mcp").await.err().unwrap();
    assert_eq!((told.kind, told.message.as_str()), (ToolFailureKind::Refused, "emulated"));
    assert_eq!(told.hint.as_deref(), Some("allow it"));
    assert!(lab.cells.running().is_empty());
}
