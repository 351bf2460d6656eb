//! A door between a daemon and a guest that both do what a test says.

mod channel;
mod egress;
mod files;
mod http;

use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use wire::early::{Answer, Question, VERSION};
use wire::frame::{self, SMALL};
use wire::guest::{ContainerSpec, DoorOpens, FromGuest, Protections, ToGuest};
use wire::host::{DaemonOpens, DoorReport};
use wire::mux::{Incoming, MuxLimits, Opener, Side, Stream, mux};

use crate::{CutOff, DoorError, DoorLimits, serve};

/// The daemon's end of a door.
struct Daemon {
    door: JoinHandle<Result<(), DoorError>>,
    opener: Opener,
    incoming: Incoming,
    control: BufReader<Stream>,
}

/// The guest's end, after its birth.
struct Guest {
    opener: Opener,
    incoming: Incoming,
    control: Stream,
    driver: JoinHandle<()>,
    /// Keeps the channel open when nobody drives it any more.
    still_open: std::os::unix::net::UnixStream,
}

const CONTAINER: ContainerSpec = ContainerSpec {
    memory: 1,
    cpu_millis: 1,
    pids: 1,
    model_port: 8181,
    tools_port: 8182,
    egress: None,
    allow_guest_root: false,
};

/// A door that runs, and the bare channel on its other side.
async fn door(limits: DoorLimits) -> (Daemon, UnixStream) {
    let (channel, guest) = UnixStream::pair().unwrap();
    let (doors, daemons) = UnixStream::pair().unwrap();
    let door = tokio::spawn(serve(channel, doors, limits));
    let (opener, incoming, driver) = mux(daemons, Side::Host, MuxLimits { streams: 256, backlog: 64 });
    tokio::spawn(driver.run());
    let mut control = opener.open().await.unwrap();
    let head = DaemonOpens::Control { host_name: "cell".into(), container: CONTAINER };
    frame::write(&mut control, &head, SMALL).await.unwrap();
    (Daemon { door, opener, incoming, control: BufReader::new(control) }, guest)
}

/// A door whose guest is born, configured, and does as it should so far.
async fn born(limits: DoorLimits) -> (Daemon, Guest) {
    let (mut daemon, mut channel) = door(limits).await;
    let asked: Question = frame::read(&mut channel, SMALL).await.unwrap().unwrap();
    assert!(
        matches!(asked, Question::Birth(birth) if birth.host_name == "cell" && birth.seed.iter().any(|b| *b > 0))
    );
    frame::write(&mut channel, &Answer::Born { version: VERSION, boot_id: "0a-1b".into() }, SMALL)
        .await
        .unwrap();
    let channel = channel.into_std().unwrap();
    let still_open = channel.try_clone().unwrap();
    let channel = UnixStream::from_std(channel).unwrap();
    let (opener, mut incoming, driver) =
        mux(channel, Side::Guest, MuxLimits { streams: 20_000, backlog: 64 });
    let driver = tokio::spawn(async move { drop(driver.run().await) });
    let mut control = incoming.next().await.unwrap();
    let head: DoorOpens = frame::read(&mut control, SMALL).await.unwrap().unwrap();
    assert_eq!(head, DoorOpens::Control);
    let order: ToGuest = frame::read(&mut control, SMALL).await.unwrap().unwrap();
    assert_eq!(order, ToGuest::Configure(CONTAINER));
    let configured = FromGuest::Configured(Protections::default());
    frame::write(&mut control, &configured, SMALL).await.unwrap();
    assert_eq!(daemon.report().await, DoorReport::Born { boot_id: "0a-1b".into() });
    assert_eq!(daemon.report().await, DoorReport::Guest(configured));
    (daemon, Guest { opener, incoming, control, driver, still_open })
}

impl Daemon {
    async fn report(&mut self) -> DoorReport {
        frame::read(&mut self.control, SMALL).await.unwrap().unwrap()
    }

    async fn order(&mut self, order: ToGuest) {
        frame::write(self.control.get_mut(), &order, SMALL).await.unwrap();
    }

    async fn open(&self, head: &DaemonOpens) -> Stream {
        let mut stream = self.opener.open().await.unwrap();
        frame::write(&mut stream, head, SMALL).await.unwrap();
        stream
    }

    /// Waits for the door to cut its guest off; the daemon must have been told the same reason.
    async fn cut_off(mut self) -> CutOff {
        let why = loop {
            match self.report().await {
                DoorReport::CutOff { why } => break why,
                DoorReport::Born { .. } | DoorReport::Guest(_) => {}
            }
        };
        // The door stays until the daemon hangs up, so that its reason can't be lost.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!self.door.is_finished());
        drop((self.opener, self.incoming, self.control));
        match self.door.await.unwrap() {
            Err(DoorError::CutOff(reason)) => {
                assert_eq!(reason.to_string(), why);
                reason
            }
            other => panic!("the door ended with {other:?}"),
        }
    }
}

/// A span that passes for nothing in a test that waits for it to be over.
const SHORT: Duration = Duration::from_millis(300);
