//! A test's way into a born cell: it speaks with the guest as the door does.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which fail by panicking")]

use tokio::net::UnixStream;
use wire::frame;
use wire::guest::{ContainerSpec, DoorOpens, FromGuest, ToGuest};
use wire::mux::{MuxLimits, Opener, Side, Stream, mux};
use wire::process::{Exit, FromProcess, Place, ProcessSpec, ToProcess};

/// A cell whose container stands.
pub(crate) struct Inside {
    opener: Opener,
    _control: Stream,
}

impl Inside {
    /// Sets the container up over the link of a cell that was just born.
    pub(crate) async fn enter(link: UnixStream) -> Self {
        let (opener, _, driver) = mux(link, Side::Host, MuxLimits::default());
        tokio::spawn(driver.run());
        let mut control = opener.open().await.unwrap();
        frame::write(&mut control, &DoorOpens::Control, frame::SMALL).await.unwrap();
        let spec = ContainerSpec {
            memory: 96 << 20,
            cpu_millis: 1_000,
            pids: 32,
            model_port: 8181,
            tools_port: 8182,
            egress: None,
            allow_guest_root: false,
        };
        frame::write(&mut control, &ToGuest::Configure(spec), frame::SMALL).await.unwrap();
        match frame::read(&mut control, frame::SMALL).await.unwrap() {
            Some(FromGuest::Configured(_)) => Self { opener, _control: control },
            other => panic!("{other:?}"),
        }
    }

    /// What a program in the container prints.
    pub(crate) async fn run(&self, argv: &[&str]) -> Vec<u8> {
        let mut stream = self.opener.open().await.unwrap();
        let spec = ProcessSpec {
            argv: argv.iter().map(|part| (*part).to_owned()).collect(),
            env: vec![("PATH".into(), "/usr/bin".into())],
            cwd: "/".into(),
            tty: None,
            place: Place::Container,
        };
        frame::write(&mut stream, &DoorOpens::Process(spec), frame::SMALL).await.unwrap();
        frame::write(&mut stream, &ToProcess::StdinEnd, frame::SMALL).await.unwrap();
        let mut printed = Vec::new();
        loop {
            match frame::read(&mut stream, frame::SMALL).await.unwrap() {
                Some(FromProcess::Started) => {}
                Some(FromProcess::Stdout(bytes)) => printed.extend(bytes),
                Some(FromProcess::Exited(Exit::Code(0))) => return printed,
                other => panic!("{argv:?}: {other:?}"),
            }
        }
    }
}
