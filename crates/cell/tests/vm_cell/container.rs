//! The container in a real machine: its protections as told from inside, processes, files, limits, the end in order.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests, which fail by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cell::{Cell, CellHost, StartMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use wire::frame::{self, SMALL};
use wire::guest::{ContainerSpec, DoorOpens, FilesDone, FromGuest, GuestLimit, GuestOpens, ToGuest};
use wire::mux::{Incoming, MuxLimits, Opener, Side, Stream, mux};
use wire::process::{Exit, FromProcess, Place, ProcessSpec, ToProcess, TtySize};

use crate::common::{born, host, spec};

/// Long enough for one step in an emulated machine on a busy host.
const STEP: Duration = Duration::from_secs(120);

/// What the container must prove before anything runs in it.
const PROTECTIONS: [&str; 15] = [
    "user",
    "capabilities",
    "no_new_privs",
    "seccomp",
    "landlock",
    "pid namespace",
    "mounts",
    "kernel files",
    "devices",
    "network",
    "identity",
    "namespaces",
    "root",
    "cgroup",
    "limits",
];

/// A machine that is born, with the door's side of its channel in the test's hands.
struct Guest {
    cell: Cell,
    _host: CellHost,
    opener: Opener,
    incoming: Incoming,
    from: ReadHalf<Stream>,
    to: WriteHalf<Stream>,
}

impl Guest {
    async fn start(scratch: &Path) -> Self {
        let host = host(scratch);
        let image = image_with_programs(scratch);
        let mut cell = host.start(spec(&image, scratch.join("disk"), StartMode::Clone)).await.unwrap();
        let (_, link) = born(&mut cell, 1).await;
        let (opener, incoming, driver) = mux(link, Side::Host, MuxLimits::default());
        tokio::spawn(async move { eprintln!("the channel ended: {:?}", driver.run().await) });
        let mut control = opener.open().await.unwrap();
        frame::write(&mut control, &DoorOpens::Control, SMALL).await.unwrap();
        let (from, to) = tokio::io::split(control);
        Self { cell, _host: host, opener, incoming, from, to }
    }

    async fn tell(&mut self, message: ToGuest) {
        frame::write(&mut self.to, &message, SMALL).await.unwrap();
    }

    /// The next message of the guest, limits aside.
    async fn hear(&mut self) -> FromGuest {
        loop {
            let message = tokio::time::timeout(STEP, frame::read(&mut self.from, SMALL)).await;
            match message.expect("the guest says nothing").unwrap().expect("the control stream ended") {
                FromGuest::LimitHit { .. } => {}
                other => return other,
            }
        }
    }

    /// Waits until the guest has met this limit.
    async fn meets(&mut self, wanted: GuestLimit) {
        loop {
            let message = tokio::time::timeout(STEP, frame::read(&mut self.from, SMALL)).await;
            match message.expect("the guest says nothing").unwrap().expect("the control stream ended") {
                FromGuest::LimitHit { limit } if limit == wanted => return,
                FromGuest::LimitHit { .. } => {}
                other => panic!("{other:?} instead of the limit {wanted:?}"),
            }
        }
    }

    async fn process(&self, spec: ProcessSpec) -> Stream {
        let mut stream = self.opener.open().await.unwrap();
        frame::write(&mut stream, &DoorOpens::Process(spec), SMALL).await.unwrap();
        stream
    }

    /// Runs a shell to its end: what it printed and how it ended.
    async fn shell(&self, script: &str) -> (String, Exit) {
        finish(self.process(shell(script)).await).await
    }
}

fn shell(script: &str) -> ProcessSpec {
    ProcessSpec {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        cwd: "/workspace".to_owned(),
        tty: None,
        place: Place::Container,
    }
}

async fn finish(mut stream: Stream) -> (String, Exit) {
    let mut printed = Vec::new();
    let ended = async {
        loop {
            match frame::read(&mut stream, SMALL).await.unwrap().expect("the stream ended too early") {
                FromProcess::Started => {}
                FromProcess::Stdout(bytes) | FromProcess::Stderr(bytes) => printed.extend(bytes),
                FromProcess::Exited(exit) => return exit,
                FromProcess::Failed { why } => panic!("{why}"),
            }
        }
    };
    let exit = tokio::time::timeout(STEP, ended).await.expect("the process doesn't end");
    (String::from_utf8(printed).unwrap(), exit)
}

fn limits() -> ContainerSpec {
    ContainerSpec {
        memory: 96 << 20,
        cpu_millis: 1000,
        pids: 24,
        model_port: 8181,
        tools_port: 8182,
        egress: None,
        allow_guest_root: false,
    }
}

/// An image with the few programs of this machine that the tests use, and the libraries that these need.
fn image_with_programs(scratch: &Path) -> PathBuf {
    let (tree, image) = (scratch.join("programs"), scratch.join("programs.squashfs"));
    for folder in ["etc", "home", "tmp", "proc", "sys", "dev", "run", "var"] {
        std::fs::create_dir_all(tree.join(folder)).unwrap();
    }
    for program in ["sh", "cat", "id", "ls", "dd", "stty", "sleep", "mkdir", "tail", "unshare"] {
        let path = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(program));
        let path = path.iter().find(|path| path.exists()).unwrap();
        copy(path, &tree.join("bin").join(program));
        let listed = Command::new("ldd").arg(path).output().unwrap();
        for library in String::from_utf8(listed.stdout).unwrap().split_whitespace() {
            if library.starts_with('/') {
                copy(Path::new(library), &tree.join(library.trim_start_matches('/')));
            }
        }
    }
    let made = Command::new("mksquashfs")
        .arg(&tree)
        .arg(&image)
        .args(["-all-root", "-noappend", "-quiet", "-no-progress"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    image
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(from, to).unwrap();
}

/// One machine, many promises: a boot is dear.
#[tokio::test]
async fn a_container_keeps_its_promises() {
    let scratch = tempfile::tempdir().unwrap();
    let mut guest = Guest::start(scratch.path()).await;
    guest.tell(ToGuest::Configure(limits())).await;
    let FromGuest::Configured(protections) = guest.hear().await else { panic!("the container was refused") };
    let names: Vec<_> = protections.verified.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, PROTECTIONS);

    every_process_is_confined(&guest).await;
    streams_signals_and_terminals_work(&guest).await;
    files_go_in_and_out_with_the_agents_rights(&guest).await;
    the_model_endpoint_opens_a_stream(&mut guest).await;
    a_runaway_meets_each_limit(&mut guest).await;
    processes_outside_are_refused(&guest).await;
    a_stream_that_is_dropped_kills_its_process(&mut guest).await;
    the_end_is_in_order(guest, scratch.path()).await;
}

async fn every_process_is_confined(guest: &Guest) {
    let (printed, _) = guest.shell("id -u; id -G; cat /proc/self/status").await;
    assert!(printed.starts_with("1000\n1000\n"), "{printed}");
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(printed.contains(line), "{line} is missing in {printed}");
    }
    let (printed, exit) = guest.shell("unshare -U id; unshare -r id; ls /dev; cat /proc/net/dev").await;
    assert_eq!(printed.matches("Operation not permitted").count(), 2, "{printed}");
    assert!(!printed.contains("vport") && !printed.contains("vda") && !printed.contains("eth"), "{printed}");
    assert_eq!(exit, Exit::Code(0));
    // Only Landlock keeps the agent from writing to a folder of its own.
    let (_, exit) = guest.shell("echo x > /.lazaret/probe/x").await;
    assert_ne!(exit, Exit::Code(0));
    let (_, exit) = guest.shell("echo x > /workspace/x && echo x > /tmp/x && echo x > /home/agent/x").await;
    assert_eq!(exit, Exit::Code(0));
    // Its init is the last that is killed for memory.
    let (printed, _) = guest.shell("cat /proc/self/oom_score_adj /proc/1/oom_score_adj").await;
    assert_eq!(printed, "300\n0\n");
    let (printed, _) = guest.shell("cat /proc/1/environ; echo x > /proc/sys/kernel/core_pattern").await;
    assert!(printed.contains("Permission denied") && printed.contains("Read-only"), "{printed}");
}

async fn streams_signals_and_terminals_work(guest: &Guest) {
    let mut stream = guest.process(shell("cat; echo err >&2; exit 3")).await;
    frame::write(&mut stream, &ToProcess::Stdin(b"in\n".to_vec()), SMALL).await.unwrap();
    frame::write(&mut stream, &ToProcess::StdinEnd, SMALL).await.unwrap();
    assert_eq!(finish(stream).await, ("in\nerr\n".to_owned(), Exit::Code(3)));

    let mut stream = guest.process(shell("echo ready; sleep 1000")).await;
    loop {
        if let Some(FromProcess::Stdout(_)) = frame::read(&mut stream, SMALL).await.unwrap() {
            break;
        }
    }
    frame::write(&mut stream, &ToProcess::Signal(15), SMALL).await.unwrap();
    assert_eq!(finish(stream).await.1, Exit::Signal(15));

    let terminal = ProcessSpec { tty: Some(TtySize { rows: 30, columns: 90 }), ..shell("stty size; exit 7") };
    let (printed, exit) = finish(guest.process(terminal).await).await;
    assert_eq!((printed.as_str(), exit), ("30 90\r\n", Exit::Code(7)));

    let missing = ProcessSpec { argv: vec!["/no/such/program".to_owned()], ..shell("") };
    let mut stream = guest.process(missing).await;
    let answer = frame::read(&mut stream, SMALL).await.unwrap();
    assert!(
        matches!(&answer, Some(FromProcess::Failed { why }) if why.contains("/no/such/program")),
        "{answer:?}"
    );

    let (printed, _) = guest.shell("dd if=/dev/zero bs=64k count=32 2>/dev/null").await;
    assert_eq!(printed.len(), 2 << 20);
}

async fn files_go_in_and_out_with_the_agents_rights(guest: &Guest) {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    archive.append_data(&mut header, "a/file", b"hello".as_slice()).unwrap();
    let archive = archive.into_inner().unwrap();
    assert_eq!(put(guest, "/workspace/in", &archive).await, FilesDone::Ok);
    let refused = put(guest, "/etc", &archive).await;
    assert!(matches!(&refused, FilesDone::Failed { why } if why.contains("ermission")), "{refused:?}");
    // A link that the agent has laid leads nowhere but where the agent may go.
    guest.shell("cd /workspace; ln -s / root || true; mkdir -p t").await;

    let mut stream = guest.opener.open().await.unwrap();
    let head = DoorOpens::GetFiles { folder: "/workspace/in".to_owned() };
    frame::write(&mut stream, &head, SMALL).await.unwrap();
    let mut packed = Vec::new();
    tokio::time::timeout(STEP, stream.read_to_end(&mut packed)).await.unwrap().unwrap();
    let mut packed = tar::Archive::new(packed.as_slice());
    let names: Vec<_> =
        packed.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
    assert_eq!(names, ["a", "a/file"]);
}

async fn put(guest: &Guest, folder: &str, archive: &[u8]) -> FilesDone {
    let mut stream = guest.opener.open().await.unwrap();
    frame::write(&mut stream, &DoorOpens::PutFiles { folder: folder.to_owned() }, SMALL).await.unwrap();
    stream.write_all(archive).await.unwrap();
    stream.shutdown().await.unwrap();
    tokio::time::timeout(STEP, frame::read(&mut stream, SMALL)).await.unwrap().unwrap().unwrap()
}

/// The built-in harness asks the endpoint for a model: its connection must arrive as a stream of the named service.
async fn the_model_endpoint_opens_a_stream(guest: &mut Guest) {
    let env = [
        ("LAZARET_MODEL", "test/model"),
        ("LAZARET_MODEL_API", "anthropic"),
        ("LAZARET_MODEL_URL", "http://127.0.0.1:8181"),
        ("HOME", "/home/agent"),
    ];
    let harness = ProcessSpec {
        argv: vec!["lazaret-builtin".to_owned(), "hello".to_owned()],
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..shell("")
    };
    let mut process = guest.process(harness).await;
    frame::write(&mut process, &ToProcess::StdinEnd, SMALL).await.unwrap();
    let mut stream = tokio::time::timeout(STEP, guest.incoming.next()).await.expect("no stream").unwrap();
    let head = frame::read(&mut stream, SMALL).await.unwrap();
    assert_eq!(head, Some(GuestOpens::Model));
    let mut start = [0; 18];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"POST /v1/messages ");
}

async fn a_runaway_meets_each_limit(guest: &mut Guest) {
    // Where the kernel still lacks memory after the first victim, the shell is the second.
    let (_, exit) = guest.shell("tail /dev/zero").await;
    assert!([Exit::Code(137), Exit::Signal(9)].contains(&exit), "{exit:?}");
    guest.meets(GuestLimit::Memory).await;

    let bomb = guest
        .process(shell("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 60 | sleep 60 | sleep 60 & done"))
        .await;
    guest.meets(GuestLimit::Pids).await;
    drop(bomb);
    let alone = async {
        loop {
            guest.tell(ToGuest::Health).await;
            if matches!(guest.hear().await, FromGuest::Health { pids: 1, .. }) {
                return;
            }
        }
    };
    tokio::time::timeout(STEP, alone).await.expect("the bomb goes on");

    let (printed, _) = guest.shell("dd if=/dev/zero of=/workspace/full bs=1M").await;
    assert!(printed.contains("No space left"), "{printed}");
    guest.meets(GuestLimit::Disk).await;
}

async fn processes_outside_are_refused(guest: &Guest) {
    let outside = ProcessSpec { place: Place::GuestRoot, ..shell("id") };
    let mut stream = guest.process(outside).await;
    let answer = frame::read(&mut stream, SMALL).await.unwrap();
    assert!(matches!(answer, Some(FromProcess::Failed { .. })), "{answer:?}");
}

async fn a_stream_that_is_dropped_kills_its_process(guest: &mut Guest) {
    let mut stream = guest.process(shell("sleep 1000")).await;
    assert_eq!(frame::read(&mut stream, SMALL).await.unwrap(), Some(FromProcess::Started));
    drop(stream);
    let gone = async { while guest.shell("cat /proc/[0-9]*/cmdline").await.0.contains("sleep\u{0}1000") {} };
    tokio::time::timeout(STEP, gone).await.expect("the process lives on");
}

async fn the_end_is_in_order(mut guest: Guest, scratch: &Path) {
    let patient =
        shell("trap 'echo bye > /workspace/bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done");
    let mut stream = guest.process(patient).await;
    assert_eq!(frame::read(&mut stream, SMALL).await.unwrap(), Some(FromProcess::Started));
    assert!(matches!(frame::read(&mut stream, SMALL).await.unwrap(), Some(FromProcess::Stdout(_))));
    guest.tell(ToGuest::Shutdown { grace_ms: 30_000 }).await;
    assert_eq!(finish(stream).await.1, Exit::Code(0));
    assert_eq!(guest.hear().await, FromGuest::Down);
    let ended = tokio::time::timeout(STEP, guest.cell.ended()).await;
    ended.expect("the machine doesn't power off");
    let checked = Command::new("e2fsck").arg("-fn").arg(scratch.join("disk")).output().unwrap();
    assert!(checked.status.success(), "the disk is not clean: {checked:?}");
}

#[tokio::test]
async fn a_container_that_can_not_be_as_asked_is_refused_and_the_machine_ends() {
    let scratch = tempfile::tempdir().unwrap();
    let mut guest = Guest::start(scratch.path()).await;
    let early = guest.process(shell("id")).await;
    let refused = tokio::time::timeout(STEP, frame::read(&mut { early }, SMALL)).await.unwrap().unwrap();
    assert!(matches!(refused, Some(FromProcess::Failed { .. })), "{refused:?}");
    guest.tell(ToGuest::Configure(ContainerSpec { pids: 0, ..limits() })).await;
    let answer = guest.hear().await;
    assert!(matches!(&answer, FromGuest::Refused { why } if why.contains("`pids`")), "{answer:?}");
    tokio::time::timeout(STEP, guest.cell.ended()).await.expect("the machine doesn't power off");
}
