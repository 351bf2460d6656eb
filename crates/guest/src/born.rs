//! PID 1 after birth: one task moves the mux, the others serve its streams, until the host goes or says so.

use std::cell::{Cell, OnceCell};
use std::fs::{self, File};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::LocalSet;
use wire::early::{Answer, VERSION};
use wire::frame;
use wire::guest::DoorOpens;
use wire::mux::{MuxLimits, Opener, Side, Stream, mux};

use crate::async_file::AsyncFile;
use crate::container::Container;
use crate::fault::{During, Fault};
use crate::reaper::Reaper;
use crate::{control, early, end, files, machine, process};

/// How long a stream may take to say what it is for.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// How long the host may take to hang up at the end.
const HANG_UP: Duration = Duration::from_secs(1);

/// What the tasks share.
pub(crate) struct Guest {
    /// Opens streams to the door.
    pub(crate) opener: Opener,
    /// Starts and collects children of PID 1.
    pub(crate) reaper: Reaper,
    /// The container, once it stands.
    pub(crate) container: OnceCell<Container>,
    /// Whether the host allows processes outside the container.
    pub(crate) guest_root: Cell<bool>,
    /// Whether a control stream was opened: there is only one.
    pub(crate) controlled: Cell<bool>,
    /// Rings when the machine is to power off.
    pub(crate) over: Notify,
}

/// Says [`Answer::Born`], then serves the mux to its end.
pub(crate) fn run() -> Result<(), Fault> {
    machine::power_off_on_panic();
    let mut port = inherited_channel()?;
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").during("reading the boot id")?;
    early::say(&mut port, &Answer::Born { version: VERSION, boot_id: boot_id.trim_end().to_owned() })?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().during("starting the runtime")?;
    LocalSet::new().block_on(&runtime, serve(port))
}

/// The channel, whose number is the second argument.
fn inherited_channel() -> Result<File, Fault> {
    let number = std::env::args().nth(2).and_then(|number| number.parse().ok());
    let number = number.ok_or_else(|| Fault::new("started without the channel's descriptor"))?;
    sys::descriptors::inherited(number).map(File::from).during("taking the channel over")
}

async fn serve(port: File) -> Result<(), Fault> {
    let port = AsyncFile::new(port).during("watching the channel")?;
    let (opener, mut incoming, driver) = mux(port, Side::Guest, MuxLimits::default());
    let guest = Rc::new(Guest {
        opener,
        reaper: Reaper::default(),
        container: OnceCell::new(),
        guest_root: Cell::new(false),
        controlled: Cell::new(false),
        over: Notify::new(),
    });
    let reaping = tokio::task::spawn_local(guest.reaper.clone().run());
    let streams = async {
        while let Some(stream) = incoming.next().await {
            tokio::task::spawn_local(serve_stream(stream, Rc::clone(&guest)));
        }
    };
    let mut moving = std::pin::pin!(driver.run());
    let result = tokio::select! {
        ended = &mut moving => ended.during("the channel"),
        ended = reaping => ended.during("collecting ended children").and_then(|result| result),
        () = streams => Ok(()),
        () = guest.over.notified() => {
            // What was said last is still on its way; the host hangs up when it has heard it.
            tokio::time::timeout(HANG_UP, moving).await.unwrap_or(Ok(())).during("the channel")
        }
    };
    end::kill_everything(&guest).await;
    result
}

async fn serve_stream(mut stream: Stream, guest: Rc<Guest>) {
    let head = tokio::time::timeout(HEAD_PATIENCE, frame::read(&mut stream, frame::SMALL)).await;
    // A stream that says nothing sensible is dropped, which resets it.
    let Ok(Ok(Some(head))) = head else { return };
    match head {
        DoorOpens::Control if guest.controlled.replace(true) => {}
        DoorOpens::Control => control::serve(stream, guest).await,
        DoorOpens::Process(spec) => process::serve(stream, spec, &guest).await,
        DoorOpens::PutFiles { folder } => files::put(stream, folder, &guest).await,
        DoorOpens::GetFiles { folder } => files::get(stream, folder, &guest).await,
    }
}
