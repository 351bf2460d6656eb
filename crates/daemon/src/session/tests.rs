//! Sessions against a host whose cells are a task: the order of steps, stops, limits, turns, workspaces.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use api::{AgentFiles, DoctorReport, Event, ImageRequest, ImageView, Stamped, StartOptions};
use domain::{Confidentiality, EndReason, ImageName, Integrity, Isolation};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use wire::frame::{self, SMALL};
use wire::guest::{FilesDone, FromGuest, GuestLimit, Protections, ToGuest};
use wire::host::{DaemonOpens, DoorReport, FileEntry};
use wire::mux::{MuxLimits, Side, Stream, mux};
use wire::process::{Exit, FromProcess, ProcessSpec};

use super::*;

/// Cells that are a task of this process. What a harness does is its first argument.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) at_once: Arc<AtomicUsize>,
    pub(crate) most: Arc<AtomicUsize>,
    pub(crate) refuse: bool,
}

struct FakeCell {
    door: JoinSet<()>,
    at_once: Arc<AtomicUsize>,
}

impl Drop for FakeCell {
    fn drop(&mut self) {
        self.at_once.fetch_sub(1, Ordering::SeqCst);
    }
}

impl LiveCell for FakeCell {
    fn born(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }

    fn ended(&mut self) -> BoxFuture<'_, String> {
        async {
            self.door.join_next().await;
            "the door process ended".to_owned()
        }
        .boxed()
    }

    fn stop(mut self: Box<Self>, _: Duration) -> BoxFuture<'static, ()> {
        async move { self.door.shutdown().await }.boxed()
    }
}

impl Host for Fake {
    fn image(&self, _: ImageName, tell: Tell) -> BoxFuture<'_, Result<Image, Problem>> {
        tell("an image".to_owned());
        std::future::ready(Ok(Image { path: PathBuf::new(), env: Vec::new().into() })).boxed()
    }

    fn start(&self, _: Wanted, _: Tell) -> BoxFuture<'_, Result<Started, StartFailure>> {
        if self.refuse {
            let failure = StartFailure::Refused { why: "emulated".to_owned(), hint: "allow it".to_owned() };
            return std::future::ready(Err(failure)).boxed();
        }
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let (link, far) = UnixStream::pair().unwrap();
        let mut door = JoinSet::new();
        door.spawn(serve_door(far));
        let cell = Box::new(FakeCell { door, at_once: Arc::clone(&self.at_once) });
        std::future::ready(Ok(Started { isolation: Isolation::Emulated, link, cell })).boxed()
    }

    fn examine(&self, _: Tell) -> BoxFuture<'_, Result<DoctorReport, Problem>> {
        std::future::ready(Ok(DoctorReport { isolation: None, checks: Vec::new() })).boxed()
    }

    fn images(&self) -> BoxFuture<'_, Result<Vec<ImageView>, Problem>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn add_image(&self, _: ImageRequest, _: Tell) -> BoxFuture<'_, Result<ImageView, Problem>> {
        std::future::ready(Err(Problem::new(ProblemKind::Invalid, "no"))).boxed()
    }

    fn remove_image(&self, _: ImageName) -> BoxFuture<'_, Result<(), Problem>> {
        std::future::ready(Ok(())).boxed()
    }
}

async fn serve_door(far: UnixStream) {
    let (_opener, mut incoming, driver) = mux(far, Side::Guest, MuxLimits::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(driver.run().await) });
    let (report, mut reports) = tokio::sync::mpsc::channel::<DoorReport>(4);
    let kept: Arc<Mutex<Vec<u8>>> = Arc::default();
    let torn = Arc::new(AtomicBool::new(false));
    let mut control = None;
    loop {
        let mut stream = tokio::select! {
            Some(stream) = incoming.next() => stream,
            Some(told) = reports.recv() => {
                if let Some(control) = &mut control {
                    frame::write(control, &told, SMALL).await.unwrap();
                }
                if let DoorReport::CutOff { .. } = told {
                    // Like the real one it stays until the daemon has hung up.
                    std::future::pending::<()>().await;
                }
                continue;
            }
            else => return,
        };
        match frame::read::<DaemonOpens, _>(&mut stream, SMALL).await.unwrap().unwrap() {
            DaemonOpens::Control { .. } => {
                let (mut read, mut write) = tokio::io::split(stream);
                let configured = FromGuest::Configured(Protections::default());
                for told in [DoorReport::Born { boot_id: "b".to_owned() }, DoorReport::Guest(configured)] {
                    frame::write(&mut write, &told, SMALL).await.unwrap();
                }
                control = Some(write);
                let (report, torn) = (report.clone(), Arc::clone(&torn));
                tasks.spawn(async move {
                    while let Ok(Some(asked)) = frame::read(&mut read, SMALL).await {
                        if torn.load(Ordering::SeqCst) {
                            report.send(DoorReport::CutOff { why: "lied".to_owned() }).await.unwrap();
                            return;
                        }
                        let answer = match asked {
                            ToGuest::Shutdown { .. } => FromGuest::Down,
                            ToGuest::Health => FromGuest::Health { pids: 0, memory: 0, disk_free: 0 },
                            ToGuest::Configure(_) => continue,
                        };
                        report.send(DoorReport::Guest(answer)).await.unwrap();
                    }
                });
            }
            // The stream of its process ends before the daemon hears why.
            DaemonOpens::Process(spec) if spec.argv == ["torn"] => torn.store(true, Ordering::SeqCst),
            DaemonOpens::Process(spec) => {
                let report = report.clone();
                tasks.spawn(async move { harness(stream, spec, report).await });
            }
            DaemonOpens::PutFiles { .. } => {
                let mut archive = Vec::new();
                stream.read_to_end(&mut archive).await.unwrap();
                *kept.lock().unwrap() = archive;
                frame::write(&mut stream, &FilesDone::Ok, SMALL).await.unwrap();
            }
            DaemonOpens::GetFiles { .. } => {
                let length = kept.lock().unwrap().len() as u64;
                for entry in kept_files(length) {
                    frame::write(&mut stream, &entry, SMALL).await.unwrap();
                }
            }
        }
    }
}

/// The files of the harness, with the length of what was put before.
fn kept_files(length: u64) -> [FileEntry; 5] {
    [
        FileEntry::Folder { path: "d".to_owned() },
        FileEntry::File { path: "d/f".to_owned(), executable: true, size: 2 },
        FileEntry::Content(b"hi".to_vec()),
        FileEntry::Symlink { path: "l".to_owned(), target: length.to_string() },
        FileEntry::End,
    ]
}

async fn harness(mut stream: Stream, spec: ProcessSpec, report: tokio::sync::mpsc::Sender<DoorReport>) {
    let mut say = Vec::new();
    let mut exit = Some(Exit::Code(0));
    match spec.argv[0].as_str() {
        "hello" => say.push(FromProcess::Stdout(b"hello".to_vec())),
        "fail" => exit = Some(Exit::Code(7)),
        "flood" => {
            say = vec![FromProcess::Stdout(vec![b'x'; 1000]); 20];
            exit = None;
        }
        "drip" => {
            say = vec![FromProcess::Stdout(vec![b'x']); 20_000];
            exit = None;
        }
        "oom" => {
            report.send(DoorReport::Guest(FromGuest::LimitHit { limit: GuestLimit::Memory })).await.unwrap();
            exit = Some(Exit::Signal(9));
        }
        "cut" => {
            report.send(DoorReport::CutOff { why: "lied".to_owned() }).await.unwrap();
            exit = None;
        }
        "echo" => {
            while let Ok(Some(ToProcess::Stdin(bytes))) = frame::read(&mut stream, SMALL).await {
                frame::write(&mut stream, &FromProcess::Stdout(bytes), SMALL).await.unwrap();
            }
        }
        "mcp" => exit = Some(tool_server(&mut stream).await),
        _ => exit = None,
    }
    frame::write(&mut stream, &FromProcess::Started, SMALL).await.unwrap();
    for message in say {
        frame::write(&mut stream, &message, SMALL).await.unwrap();
    }
    let exit = match exit {
        Some(exit) => exit,
        // Until it is told to end. "deaf" never listens.
        None => loop {
            match frame::read::<ToProcess, _>(&mut stream, SMALL).await {
                Ok(Some(ToProcess::Signal(15))) if spec.argv[0] != "deaf" => break Exit::Signal(15),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
        },
    };
    frame::write(&mut stream, &FromProcess::Exited(exit), SMALL).await.unwrap();
}

/// A tool server without tools. It dies of whatever it is asked beyond the greeting.
async fn tool_server(stream: &mut Stream) -> Exit {
    loop {
        let bytes = match frame::read(stream, SMALL).await {
            Ok(Some(ToProcess::Stdin(bytes))) => bytes,
            Ok(Some(ToProcess::Resize(_))) => continue,
            Ok(Some(ToProcess::StdinEnd | ToProcess::Signal(_)) | None) | Err(_) => return Exit::Code(0),
        };
        let message: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let id = &message["id"];
        let answer = match message["method"].as_str().unwrap() {
            "notifications/initialized" => continue,
            "server/discover" => {
                let error = serde_json::json!({"code": -32601, "message": "no such method"});
                serde_json::json!({"jsonrpc": "2.0", "id": id, "error": error})
            }
            "initialize" => {
                let info = serde_json::json!({"name": "x", "version": "1"});
                let capabilities = serde_json::json!({"tools": {}});
                let result = serde_json::json!({
                    "protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": info,
                });
                serde_json::json!({"jsonrpc": "2.0", "id": id, "result": result})
            }
            _ => return Exit::Code(3),
        };
        let line = format!("{answer}\n").into_bytes();
        frame::write(stream, &FromProcess::Stdout(line), SMALL).await.unwrap();
    }
}

struct Lab {
    sessions: Arc<Sessions>,
    most: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
}

async fn lab(fake: Fake) -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let folders =
        Folders { config: at("c"), data: at("d"), cache: at("h"), state: at("s"), runtime: at("r") };
    let most = Arc::clone(&fake.most);
    let store = crate::keeping::open(&at("s").join("store")).await.unwrap();
    let nobody = crate::secrets::Passphrase { file: None, command: None, ask: &|| None };
    let vault = Arc::new(crate::secrets::open(&at("s").join("vault"), nobody).await.unwrap());
    let dialer = crate::outside::dialer(&Config::default(), &vault).unwrap();
    let lender = crate::keeping::lender(vault, &dialer, &store);
    let models = crate::models::service(&Config::default(), &lender, &dialer, |_| None).unwrap();
    let outside = crate::outside::outside(&Config::default(), dialer, &lender);
    let kept = Kept { store, lender };
    let sessions =
        Sessions::open(&folders, Config::default(), Arc::new(fake), (models, outside), kept).unwrap();
    Lab { sessions: Arc::new(sessions), most, _folder: folder }
}

/// Sessions whose cells are tasks, and the folder that they live in.
pub(crate) async fn sessions_for_tests() -> (Arc<Sessions>, tempfile::TempDir) {
    let Lab { sessions, _folder, .. } = lab(Fake::default()).await;
    (sessions, _folder)
}

fn agent(does: &str, limits: &str) -> String {
    format!("name = \"a\"\nharness = {{ command = [\"{does}\"] }}\n[limits]\n{limits}\n")
}

fn request(file: String) -> NewSession {
    NewSession {
        agent: AgentRef::Files(AgentFiles { text: file, cedar: None }),
        prompt: None,
        terminal: None,
        stdin: false,
        workspace: false,
        options: StartOptions::default(),
    }
}

impl Lab {
    async fn start(&self, does: &str, limits: &str) -> SessionId {
        self.sessions.start(request(agent(does, limits)), None).await.unwrap().id
    }

    async fn all(&self, id: SessionId) -> Vec<Event> {
        let mut lines = self.sessions.journals(id).unwrap().read().await.unwrap();
        let mut events = Vec::new();
        while let Some(line) = lines.next(true).await.unwrap() {
            events.push(serde_json::from_slice::<Stamped>(&line).unwrap().event);
        }
        events
    }

    async fn end(&self, id: SessionId) -> EndReason {
        match self.all(id).await.pop() {
            Some(Event::Ended { reason, .. }) => reason,
            other => panic!("the last event is {other:?}"),
        }
    }

    async fn until(&self, id: SessionId, wanted: impl Fn(&Event) -> bool) {
        let mut lines = self.sessions.journals(id).unwrap().read().await.unwrap();
        while let Some(line) = lines.next(true).await.unwrap() {
            if wanted(&serde_json::from_slice::<Stamped>(&line).unwrap().event) {
                return;
            }
        }
        panic!("it never came");
    }
}

fn started(event: &Event) -> bool {
    matches!(event, Event::Started { .. })
}

#[tokio::test]
async fn a_session_tells_its_steps_its_output_and_its_end() {
    let lab = lab(Fake::default()).await;
    let id = lab.start("hello", "").await;
    let events = lab.all(id).await;
    assert!(matches!(&events[0], Event::Progress { message } if message == "an image"), "{events:?}");
    assert!(events.contains(&Event::Started { isolation: Isolation::Emulated }));
    let said = events.iter().any(|e| matches!(e, Event::Output { data, .. } if data.0 == b"hello"));
    assert!(said, "{events:?}");
    assert_eq!(lab.end(id).await, EndReason::Finished { code: 0 });
    let view = lab.sessions.view(id).unwrap();
    assert_eq!((view.state, view.ended), (SessionState::Ended, Some(EndReason::Finished { code: 0 })));
    let id = lab.start("fail", "").await;
    assert_eq!(lab.end(id).await.exit_code().0, 7);
}

#[tokio::test]
async fn each_limit_of_the_host_stops_a_runaway_and_says_which() {
    let lab = lab(Fake::default()).await;
    for (does, limits, what) in [
        ("sleep", "wall_clock = \"1s\"", "wall clock of 1s"),
        ("flood", "output = \"4KiB\"", "output of 4KiB"),
        ("oom", "memory = \"256MiB\"", "memory of 256MiB"),
    ] {
        let id = lab.start(does, limits).await;
        assert_eq!(lab.end(id).await, EndReason::Limit { what: what.to_owned() });
    }
    let id = lab.start("flood", "output = \"4KiB\"").await;
    let printed: usize = lab
        .all(id)
        .await
        .iter()
        .map(|e| match e {
            Event::Output { data, .. } => data.0.len(),
            Event::Progress { .. } | Event::Started { .. } | Event::Limit { .. } | Event::Ended { .. } => 0,
        })
        .sum();
    assert_eq!(printed, 4096);
    let id = lab.start("drip", "output = \"64KiB\"").await;
    let EndReason::Limit { what } = lab.end(id).await else { panic!("not ended") };
    assert!(what.starts_with("output of 64KiB: in pieces so small"), "{what}");
    let kept = lab.sessions.shelf.events(id).metadata().unwrap().len();
    assert!(kept < (1 << 20) + (128 << 10) + 4096, "{kept}");
    let id = lab.start("hello", "disk = \"64MiB\"").await;
    let full = Event::Limit { what: "disk of 64MiB: it is full".to_owned() };
    assert!(lab.all(id).await.contains(&full), "a disk that is full at the end is told");
}

#[tokio::test]
async fn a_stop_ends_it_in_order_even_when_the_harness_is_deaf_and_a_second_one_at_once() {
    let lab = lab(Fake::default()).await;
    for does in ["sleep", "deaf"] {
        let id = lab.start(does, "").await;
        lab.until(id, started).await;
        let begun = std::time::Instant::now();
        lab.sessions.running(id).unwrap().stop(false);
        assert_eq!(lab.end(id).await, EndReason::Stopped);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    let id = lab.start("deaf", "").await;
    lab.until(id, started).await;
    let begun = std::time::Instant::now();
    lab.sessions.running(id).unwrap().stop(true);
    assert_eq!(lab.end(id).await, EndReason::Stopped);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_cell_that_fails_or_is_refused_ends_its_session_alone() {
    let lab_one = lab(Fake::default()).await;
    let other = lab_one.start("sleep", "").await;
    lab_one.until(other, started).await;
    for how in ["cut", "torn"] {
        let id = lab_one.start(how, "").await;
        let why = "the door cut the guest off: lied".to_owned();
        assert_eq!(lab_one.end(id).await, EndReason::CellFailed { why }, "{how}");
    }
    assert!(lab_one.sessions.running(other).is_ok());
    lab_one.sessions.stop_all().await;
    assert_eq!(lab_one.end(other).await, EndReason::Stopped);

    let lab_two = lab(Fake { refuse: true, ..Fake::default() }).await;
    let id = lab_two.start("hello", "").await;
    assert_eq!(lab_two.end(id).await.exit_code().0, 126);
}

#[tokio::test]
async fn input_reaches_the_harness_and_a_workspace_goes_in_and_comes_out() {
    let lab = lab(Fake::default()).await;
    let session = NewSession { stdin: true, workspace: true, ..request(agent("echo", "")) };
    let id = lab.sessions.start(session, None).await.unwrap().id;
    let live = lab.sessions.running(id).unwrap();
    live.input().send(ToProcess::Stdin(b"ping".to_vec())).await.unwrap();
    live.input().send(ToProcess::StdinEnd).await.unwrap();
    live.workspace().unwrap().send(vec![0; 1024]).unwrap();
    assert!(live.workspace().is_none(), "only once");
    assert_eq!(lab.end(id).await, EndReason::Finished { code: 0 });
    let archive = std::fs::read(lab.sessions.shelf.workspace(id)).unwrap();
    let names: Vec<PathBuf> = tar::Archive::new(archive.as_slice())
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().into_owned())
        .collect();
    assert_eq!(names, [Path::new("d/f"), Path::new("l")]);
}

#[tokio::test]
async fn what_is_piped_in_or_lent_is_anybodys_words() {
    let lab = lab(Fake::default()).await;
    for (stdin, workspace, confidentiality, integrity) in [
        (false, false, Confidentiality::Public, Integrity::Person),
        (true, false, Confidentiality::Internal, Integrity::Web),
        (false, true, Confidentiality::Confidential, Integrity::Web),
    ] {
        let session = NewSession { stdin, workspace, ..request(agent("hello", "")) };
        let id = lab.sessions.start(session, None).await.unwrap().id;
        let live = lab.sessions.running(id).unwrap();
        if workspace {
            live.workspace().unwrap().send(vec![0; 1024]).unwrap();
        }
        if stdin {
            live.input().send(ToProcess::StdinEnd).await.unwrap();
        }
        assert_eq!(lab.end(id).await, EndReason::Finished { code: 0 });
        let met = lab.sessions.store().labels(&store::Keeper::Session(id)).await.unwrap();
        assert_eq!((met.confidentiality, met.integrity), (confidentiality, integrity), "{stdin} {workspace}");
    }
}

#[tokio::test]
async fn the_sessions_of_one_agent_take_turns() {
    let fake = Fake::default();
    let lab = lab(fake).await;
    let folder = lab._folder.path().join("c/agents/a");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("agent.toml"), agent("hello", "")).unwrap();
    let mut ids = Vec::new();
    for _ in 0..4 {
        let named = NewSession { agent: AgentRef::Name("a".parse().unwrap()), ..request(String::new()) };
        ids.push(lab.sessions.start(named, None).await.unwrap().id);
    }
    for id in ids {
        assert_eq!(lab.end(id).await, EndReason::Finished { code: 0 });
    }
    assert_eq!(lab.most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_an_agent_may_not_use_is_refused_before_anything_starts() {
    let lab = lab(Fake::default()).await;
    let with =
        |models: &str| format!("name = \"a\"\nharness = {{ command = [\"hello\"] }}\nmodels = {models}\n");
    let unknown = lab.sessions.start(request(with("[\"nobody/m\"]")), None).await.unwrap_err();
    assert!(unknown.message.contains("`nobody` is no provider"), "{unknown}");
    let mut other = request(with("[]"));
    other.options.model = Some("anthropic/x".parse().unwrap());
    assert_eq!(lab.sessions.start(other, None).await.unwrap_err().kind, ProblemKind::Refused);
    let mut long = request(with("[]"));
    long.prompt = Some("x".repeat(MAX_PROMPT + 1));
    assert_eq!(lab.sessions.start(long, None).await.unwrap_err().kind, ProblemKind::Invalid);
    assert_eq!(lab.sessions.count(), 0);
}
