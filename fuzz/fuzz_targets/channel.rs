//! The door's end of the channel on any bytes of a guest: it ends, without a panic.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::mux::{MuxLimits, Side, mux};

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("runtime");
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let (opener, mut incoming, driver) = mux(near, Side::Host, MuxLimits { streams: 16, backlog: 4 });
        let serve = async {
            let outgoing = opener.open().await;
            while let Some(mut stream) = incoming.next().await {
                let mut some = [0_u8; 512];
                if stream.read(&mut some).await.is_err() {
                    break;
                }
            }
            drop(outgoing);
        };
        let feed = async {
            let sent = far.write_all(bytes).await;
            drop((sent, far));
        };
        let all = async { tokio::join!(driver.run(), serve, feed) };
        tokio::time::timeout(Duration::from_secs(5), all).await.ok();
    });
});
