//! PID 1 after birth: one task moves the mux, the others serve its streams, until the host goes or says so.

use std::fs::{self, File};

use wire::early::{Answer, VERSION};
use wire::mux::{MuxLimits, Side, mux};

use crate::async_file::AsyncFile;
use crate::fault::{During, Fault};
use crate::{early, machine};

/// Says [`Answer::Born`], then serves the mux to its end.
pub(crate) fn run() -> Result<(), Fault> {
    machine::power_off_on_panic();
    let mut port = inherited_channel()?;
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").during("reading the boot id")?;
    early::say(&mut port, &Answer::Born { version: VERSION, boot_id: boot_id.trim_end().to_owned() })?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().during("starting the runtime")?;
    runtime.block_on(serve(port))
}

/// The channel, whose number is the second argument.
fn inherited_channel() -> Result<File, Fault> {
    let number = std::env::args().nth(2).and_then(|number| number.parse().ok());
    let number = number.ok_or_else(|| Fault::new("started without the channel's descriptor"))?;
    sys::descriptors::inherited(number).map(File::from).during("taking the channel over")
}

async fn serve(port: File) -> Result<(), Fault> {
    let port = AsyncFile::new(port).during("watching the channel")?;
    let (_opener, mut incoming, driver) = mux(port, Side::Guest, MuxLimits::default());
    let streams = async {
        while let Some(stream) = incoming.next().await {
            drop(stream);
        }
    };
    tokio::select! {
        ended = driver.run() => ended.during("the channel"),
        () = streams => Ok(()),
    }
}
