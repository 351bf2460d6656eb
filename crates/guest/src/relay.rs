//! The endpoints: listeners on the container's loopback, each of whose connections becomes a stream to the door.

use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::sync::Arc;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wire::frame::{self, CHUNK};
use wire::guest::GuestOpens;
use wire::mux::Opener;

use crate::container::network;
use crate::fault::{During, Fault};
use crate::machine;

/// Connections at once to one endpoint; more wait in the kernel's queue.
const CONNECTIONS: usize = 32;

/// Listens on these ports of `127.0.0.1` in the container's network, and relays from now on.
pub(crate) fn listen(endpoints: &[(u16, GuestOpens)], opener: &Opener) -> Result<(), Fault> {
    let bind = |port: u16| {
        StdListener::bind((Ipv4Addr::LOCALHOST, port)).during(format_args!("listening on 127.0.0.1:{port}"))
    };
    let listeners: Vec<_> =
        network::within(|| endpoints.iter().map(|(port, _)| bind(*port)).collect::<Result<_, _>>())?;
    for (listener, (_, service)) in listeners.into_iter().zip(endpoints) {
        listener.set_nonblocking(true).during("preparing an endpoint")?;
        let listener = TcpListener::from_std(listener).during("watching an endpoint")?;
        tokio::task::spawn_local(relay(listener, *service, opener.clone()));
    }
    Ok(())
}

async fn relay(listener: TcpListener, service: GuestOpens, opener: Opener) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((connection, _)) => {
                tokio::task::spawn_local(carry(connection, service, opener.clone(), slot));
            }
            Err(error) => return machine::log(&format!("the endpoint of {service:?}: {error}")),
        }
    }
}

/// Carries one connection to its end. What goes wrong is for its two ends to see.
async fn carry(mut connection: TcpStream, service: GuestOpens, opener: Opener, _slot: OwnedSemaphorePermit) {
    let Ok(mut stream) = opener.open().await else { return };
    if frame::write(&mut stream, &service, frame::SMALL).await.is_err() {
        return;
    }
    drop(copy_bidirectional_with_sizes(&mut connection, &mut stream, CHUNK, CHUNK).await);
}
