//! The control stream: what the daemon asks of the guest, what the guest may say, and whether it is still there.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::Instant;
use wire::frame::{self, SMALL};
use wire::guest::{ContainerSpec, FromGuest, ToGuest};
use wire::host::DoorReport;
use wire::mux::Stream;

use crate::limits::Rate;
use crate::{CutOff, DoorLimits, frames};

/// Relays the control stream until the guest is down (`Ok`) or breaks a rule.
pub(crate) struct Control {
    pub(crate) limits: DoorLimits,
    /// Counts what arrives on the channel.
    pub(crate) heard: Arc<AtomicU64>,
    /// To the daemon.
    pub(crate) reports: mpsc::Sender<DoorReport>,
    /// From the daemon.
    pub(crate) orders: mpsc::Receiver<ToGuest>,
}

/// Who asked for the guest's health.
enum Asked {
    Daemon,
    Door,
}

/// What the guest has said so far.
struct Heard {
    configured: bool,
    asked: VecDeque<Asked>,
    frames: Rate,
}

impl Control {
    pub(crate) async fn run(self, guest: Stream, container: ContainerSpec) -> Result<(), CutOff> {
        let (read, mut write) = tokio::io::split(guest);
        tell(&mut write, &ToGuest::Configure(container)).await?;
        let (say, said) = mpsc::channel(8);
        let patience = self.limits.frame;
        tokio::select! {
            never = listen(BufReader::new(read), patience, say) => match never {},
            ended = self.attend(write, said) => ended,
        }
    }

    async fn attend(
        mut self,
        mut write: WriteHalf<Stream>,
        mut said: mpsc::Receiver<Result<FromGuest, CutOff>>,
    ) -> Result<(), CutOff> {
        let frames = Rate::new(self.limits.chatter);
        let mut heard = Heard { configured: false, asked: VecDeque::new(), frames };
        let mut configured_by = Some(Instant::now() + self.limits.configure);
        let period = self.limits.silence / 3;
        let mut pulse = tokio::time::interval_at(Instant::now() + period, period);
        let mut last_heard = (self.heard.load(Ordering::Relaxed), Instant::now());
        loop {
            tokio::select! {
                said = said.recv() => {
                    if self.is_last(said.unwrap_or(Err(CutOff::Hung))?, &mut heard).await? {
                        return Ok(());
                    }
                    configured_by = configured_by.filter(|_| !heard.configured);
                }
                Some(order) = self.orders.recv() => {
                    if order == ToGuest::Health {
                        heard.asked.push_back(Asked::Daemon);
                    }
                    tell(&mut write, &order).await?;
                }
                now = pulse.tick() => {
                    let count = self.heard.load(Ordering::Relaxed);
                    if count != last_heard.0 {
                        last_heard = (count, now);
                    } else if now.duration_since(last_heard.1) >= self.limits.silence {
                        return Err(CutOff::Silent(self.limits.silence));
                    }
                    if heard.configured {
                        heard.asked.push_back(Asked::Door);
                        tell(&mut write, &ToGuest::Health).await?;
                    }
                }
                () = until(configured_by) => return Err(CutOff::Unconfigured(self.limits.configure)),
            }
        }
    }

    /// Checks and reports one frame of the guest. Whether it was the last.
    async fn is_last(&self, said: FromGuest, heard: &mut Heard) -> Result<bool, CutOff> {
        if heard.frames.is_passed() {
            return Err(CutOff::Chatter(self.limits.chatter));
        }
        let last = match &said {
            FromGuest::Configured(_) if heard.configured => {
                return Err(CutOff::Unasked("that it is configured"));
            }
            FromGuest::Configured(_) => {
                heard.configured = true;
                false
            }
            FromGuest::Health { .. } => match heard.asked.pop_front() {
                None => return Err(CutOff::Unasked("how it is")),
                Some(Asked::Door) => return Ok(false),
                Some(Asked::Daemon) => false,
            },
            FromGuest::Refused { .. } | FromGuest::Down => true,
            FromGuest::LimitHit { .. } => false,
        };
        // A daemon that has gone is seen by the door itself.
        drop(self.reports.send(DoorReport::Guest(said)).await);
        Ok(last)
    }
}

/// Reads frame after frame, and after the first that is wrong waits to be dropped.
async fn listen<R: AsyncRead + Unpin>(
    mut guest: BufReader<R>,
    patience: Duration,
    say: mpsc::Sender<Result<FromGuest, CutOff>>,
) -> Infallible {
    loop {
        let said = frames::next(&mut guest, SMALL, patience).await;
        let said = said.and_then(|said| said.ok_or(CutOff::Hung));
        let failed = said.is_err();
        if say.send(said).await.is_err() || failed {
            std::future::pending::<()>().await;
        }
    }
}

async fn tell<W: AsyncWrite + Unpin>(to: &mut WriteHalf<W>, order: &ToGuest) -> Result<(), CutOff> {
    frame::write(to, order, SMALL).await.map_err(|_| CutOff::Hung)
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Passes the daemon's orders on until it lets go of its control stream.
pub(crate) async fn take_orders<R: AsyncRead + Unpin>(
    mut daemon: ReadHalf<R>,
    orders: mpsc::Sender<ToGuest>,
) {
    while let Ok(Some(order)) = frame::read::<ToGuest, _>(&mut daemon, SMALL).await {
        if orders.send(order).await.is_err() {
            return;
        }
    }
}
