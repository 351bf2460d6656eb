//! The control stream: sets the container up, tells how it is, reports the limits that it meets, ends it.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use wire::frame::{self, FrameError};
use wire::guest::{ContainerSpec, FromGuest, GuestLimit, GuestOpens, ToGuest};
use wire::mux::Stream;

use crate::born::Guest;
use crate::container::Container;
use crate::fault::Fault;
use crate::{end, limits, machine, relay};

/// How long the host may take to read the last word.
const LAST_WORD: Duration = Duration::from_secs(3);

/// Serves the stream. When it ends, for whatever reason, the machine powers off.
pub(crate) async fn serve(stream: Stream, guest: Rc<Guest>) {
    let (from, mut to) = tokio::io::split(stream);
    let (messages, mut heard) = mpsc::channel(4);
    let listening = tokio::task::spawn_local(listen(from, messages));
    if let Some(last) = converse(&mut heard, &mut to, &guest).await {
        let heard_out = tokio::time::timeout(LAST_WORD, say_last(&mut heard, &mut to, &last)).await;
        if !matches!(heard_out, Ok(Ok(()))) {
            machine::log("the last word on the control stream was not heard");
        }
    }
    listening.abort();
    guest.over.notify_one();
}

/// Passes on what the door says. A frame takes several reads, so it must not be cut short by other events.
async fn listen(mut from: ReadHalf<Stream>, messages: mpsc::Sender<ToGuest>) {
    loop {
        match frame::read(&mut from, frame::SMALL).await {
            Ok(Some(message)) => {
                if messages.send(message).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => return machine::log(&format!("the control stream: {error}")),
        }
    }
}

/// The conversation; its last word, if there is still someone to hear it.
async fn converse(
    heard: &mut mpsc::Receiver<ToGuest>,
    to: &mut WriteHalf<Stream>,
    guest: &Rc<Guest>,
) -> Option<FromGuest> {
    let (hits, mut hit) = mpsc::channel(8);
    loop {
        let ended = async {
            match guest.container.get() {
                Some(container) => container.link.ended().await,
                None => std::future::pending().await,
            }
        };
        let answer = tokio::select! {
            message = heard.recv() => match message? {
                ToGuest::Configure(spec) => match configure(spec, guest, &hits).await {
                    Ok(answer) => answer,
                    Err(fault) => return Some(refused(&fault)),
                },
                ToGuest::Health => health(guest),
                ToGuest::Shutdown { grace_ms } => {
                    end::shut_down(guest, Duration::from_millis(grace_ms.into())).await;
                    return Some(FromGuest::Down);
                }
            },
            Some(limit) = hit.recv() => FromGuest::LimitHit { limit },
            () = ended => return Some(refused(&Fault::new("the container's init was killed"))),
        };
        if let Err(error) = say(to, &answer).await {
            machine::log(&format!("the control stream: {error}"));
            return None;
        }
    }
}

async fn configure(
    spec: ContainerSpec,
    guest: &Rc<Guest>,
    hits: &mpsc::Sender<GuestLimit>,
) -> Result<FromGuest, Fault> {
    if guest.container.get().is_some() {
        return Err(Fault::new("the container is already configured"));
    }
    let (container, protections) = Container::start(&spec).await?;
    let mut endpoints = vec![(spec.model_port, GuestOpens::Model), (spec.tools_port, GuestOpens::Tools)];
    endpoints.extend(spec.egress.map(|proxy| (proxy.port, GuestOpens::Egress)));
    relay::listen(&endpoints, &guest.opener)?;
    limits::watch(hits.clone())?;
    guest.guest_root.set(spec.allow_guest_root);
    guest.container.set(container).map_err(|_| Fault::new("the container is already configured"))?;
    Ok(FromGuest::Configured(protections))
}

fn health(guest: &Guest) -> FromGuest {
    let container = guest.container.get();
    FromGuest::Health {
        pids: container.map_or(0, Container::processes),
        memory: container.map_or(0, Container::memory),
        disk_free: limits::disk_free().unwrap_or(0),
    }
}

fn refused(fault: &Fault) -> FromGuest {
    FromGuest::Refused { why: fault.to_string() }
}

async fn say(to: &mut WriteHalf<Stream>, message: &FromGuest) -> Result<(), FrameError> {
    frame::write(to, message, frame::SMALL).await
}

/// Says the last word and waits for the door to close its half, so that the word is out before the power is off.
async fn say_last(
    heard: &mut mpsc::Receiver<ToGuest>,
    to: &mut WriteHalf<Stream>,
    message: &FromGuest,
) -> Result<(), FrameError> {
    say(to, message).await?;
    to.shutdown().await?;
    while heard.recv().await.is_some() {}
    Ok(())
}
