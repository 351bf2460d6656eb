//! The endpoints: listeners on the container's loopback, each of whose connections becomes a stream to the door.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wire::frame;
use wire::guest::GuestOpens;
use wire::mux::Opener;

use crate::fault::{During, Fault};
use crate::machine;

/// Connections at once to one endpoint; more wait in the kernel's queue.
const CONNECTIONS: usize = 32;

/// Listens on these ports of `127.0.0.1` in the network namespace of this process, and relays from now on.
pub(crate) fn listen(process: i32, endpoints: &[(u16, GuestOpens)], opener: &Opener) -> Result<(), Fault> {
    let ports: Vec<u16> = endpoints.iter().map(|(port, _)| *port).collect();
    // Only a thread of its own can change its namespace and leave the rest of the program where it is.
    let listeners = thread::spawn(move || bind(process, &ports))
        .join()
        .map_err(|_| Fault::new("the thread that opens the endpoints failed"))??;
    for (listener, (_, service)) in listeners.into_iter().zip(endpoints) {
        listener.set_nonblocking(true).during("preparing an endpoint")?;
        let listener = TcpListener::from_std(listener).during("watching an endpoint")?;
        tokio::task::spawn_local(relay(listener, *service, opener.clone()));
    }
    Ok(())
}

fn bind(process: i32, ports: &[u16]) -> Result<Vec<StdListener>, Fault> {
    let namespace =
        File::open(format!("/proc/{process}/ns/net")).during("opening the container's network")?;
    setns(namespace, CloneFlags::CLONE_NEWNET).during("entering the container's network")?;
    sys::loopback::bring_up().during("bringing loopback up")?;
    let listen = |port: &u16| {
        StdListener::bind((Ipv4Addr::LOCALHOST, *port)).during(format_args!("listening on 127.0.0.1:{port}"))
    };
    ports.iter().map(listen).collect()
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
    drop(copy_bidirectional(&mut connection, &mut stream).await);
}
