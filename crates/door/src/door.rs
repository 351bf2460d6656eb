//! One door from birth to end: two muxes, who may open which stream, and why a guest is cut off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use wire::frame::{self, FrameError, SMALL};
use wire::guest::{ContainerSpec, DoorOpens, GuestOpens};
use wire::host::{DaemonOpens, DoorReport};
use wire::mux::{Incoming, MuxError, MuxLimits, Opener, Side, Stream, mux};

use crate::control::{Control, take_orders};
use crate::egress::EgressEndpoint;
use crate::endpoint::Bodies;
use crate::limits::Rate;
use crate::model::ModelEndpoint;
use crate::tools::ToolsEndpoint;
use crate::{DoorLimits, birth, files, process};

/// Why a guest was cut off. Each is its own doing: the text is for people and the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CutOff {
    /// It was not born.
    #[error("the guest was not born: {0}")]
    Unborn(String),
    /// Its container did not stand in time.
    #[error("the guest did not set its container up within {} s", .0.as_secs_f32())]
    Unconfigured(Duration),
    /// It broke the multiplexer's protocol, or had too many streams, or the channel itself failed.
    #[error("the channel to the guest failed: {0}")]
    Channel(String),
    /// It opened connections without end.
    #[error("the guest opened more than {0} connections in 10 s that there was no room for")]
    Flood(u32),
    /// It sent a frame that is none, or one of the wrong length.
    #[error("the guest sent {0}")]
    Frame(String),
    /// A stream ended in the middle of a frame.
    #[error("the guest stopped in the middle of a frame")]
    MidFrame,
    /// A frame began and did not end in time.
    #[error("the guest began a frame and did not end it within {} s", .0.as_secs_f32())]
    SlowFrame(Duration),
    /// It opened a stream and did not say for what.
    #[error("the guest opened a stream and did not say what for within {} s", .0.as_secs_f32())]
    Nameless(Duration),
    /// It answered what nobody asked.
    #[error("the guest said {0} without being asked")]
    Unasked(&'static str),
    /// It sent control frames without end.
    #[error("the guest sent more than {0} control frames in 10 s")]
    Chatter(u32),
    /// It said nothing at all for too long.
    #[error("the guest has been silent for {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// It did not take the bytes of a copy.
    #[error("the guest let a copy of files wait for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// It closed the channel or its control stream without saying that it is down.
    #[error("the guest's machine ended without a word")]
    Hung,
}

/// Why a door failed.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The guest was at fault. The daemon was told.
    #[error("{0}")]
    CutOff(#[from] CutOff),
    /// The daemon did not speak as agreed.
    #[error("the daemon can't be understood: {0}")]
    Daemon(#[from] FrameError),
    /// The daemon did not open its control stream first.
    #[error("the daemon opened no control stream")]
    NoControl,
    /// The operating system refused.
    #[error("the door can't work: {0}")]
    Io(#[from] io::Error),
}

/// How long the last words to the daemon may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long the channel's own end may come after that of a stream on it.
const SETTLE: Duration = Duration::from_millis(200);

/// Serves one guest until it is down or the daemon lets go (`Ok`), or it is cut off. The daemon hears of a cut on the
/// control stream before this returns.
///
/// # Errors
/// As [`DoorError`] says.
pub async fn serve<C, D>(channel: C, daemon: D, limits: DoorLimits) -> Result<(), DoorError>
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (opener, mut streams, driver) = mux(daemon, Side::Guest, MuxLimits { streams: 256, backlog: 64 });
    let mut driver = tokio::spawn(driver.run());
    let Some(mut control) = streams.next().await else {
        return Err(DoorError::NoControl);
    };
    let Some(DaemonOpens::Control { host_name, container }) = frame::read(&mut control, SMALL).await? else {
        return Err(DoorError::NoControl);
    };
    let (read, mut reports) = tokio::io::split(control);
    // The link to the daemon closes when every opener is gone, and the last words need it.
    let open = opener.clone();
    let (order, orders) = mpsc::channel(8);
    let served = tokio::select! {
        served = async {
            let door = Door { limits, opener, streams, reports: &mut reports };
            let boot = Boot { host_name, container, orders };
            tokio::select! {
                served = door.serve(channel, boot) => served,
                // The daemon's word ends the session.
                () = take_orders(read, order) => Ok(()),
            }
        } => served,
        _gone = &mut driver => return Ok(()),
    };
    let cut = if let Err(DoorError::CutOff(why)) = &served {
        drop(frame::write(&mut reports, &DoorReport::CutOff { why: why.to_string() }, SMALL).await);
        true
    } else {
        false
    };
    drop(reports.shutdown().await);
    // The daemon hangs up when it has heard of a cut. A link that closed before would cost it the reason, if it was just
    // writing: then it reads no more.
    let open = cut.then_some(open);
    drop(tokio::time::timeout(LAST_WORDS, driver).await);
    drop((reports, open));
    served
}

/// What the guest may open streams to.
#[derive(Clone)]
struct Endpoints {
    model: ModelEndpoint,
    tools: ToolsEndpoint,
    egress: EgressEndpoint,
}

impl Endpoints {
    fn new(daemon: &Opener, limits: DoorLimits) -> Self {
        let bodies = Bodies::new(&limits);
        let model = ModelEndpoint::new(daemon.clone(), bodies.clone(), limits);
        let egress = EgressEndpoint::new(daemon.clone(), limits);
        Self { model, tools: ToolsEndpoint::new(daemon.clone(), bodies, limits), egress }
    }
}

/// What the guest gets to start with.
struct Boot {
    host_name: String,
    container: ContainerSpec,
    orders: mpsc::Receiver<wire::guest::ToGuest>,
}

struct Door<'a, W> {
    limits: DoorLimits,
    opener: Opener,
    streams: Incoming,
    reports: &'a mut WriteHalf<W>,
}

impl<W: AsyncWrite> Door<'_, W> {
    async fn serve<C>(mut self, mut channel: C, boot: Boot) -> Result<(), DoorError>
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.limits;
        let boot_id = birth::bear(&mut channel, boot.host_name, limits.birth).await?;
        frame::write(self.reports, &DoorReport::Born { boot_id }, SMALL).await?;

        let heard = Arc::new(AtomicU64::new(0));
        let channel = Counted { inner: channel, heard: Arc::clone(&heard) };
        let (guests, mut from_guest, driver) = mux(channel, Side::Host, MuxLimits::default());
        // Whoever ends with an error ends the door; dropping the set ends all the others.
        let mut tasks: JoinSet<Result<(), CutOff>> = JoinSet::new();
        let mut channel_end = tokio::spawn(driver.run());
        let control = match open_control(&guests).await {
            Ok(control) => control,
            Err(cut) => return Err(settled(cut, channel_end).await.into()),
        };
        let (report, mut reports) = mpsc::channel(8);
        let control_task = Control { limits, heard, reports: report, orders: boot.orders };
        let control_task = control_task.run(control, boot.container);
        tokio::pin!(control_task);
        let endpoints = Endpoints::new(&self.opener, limits);
        let connections = Arc::new(Semaphore::new(limits.connections));
        let mut turned_away = Rate::new(limits.turned_away);
        let ended = loop {
            tokio::select! {
                // In this order: what the guest said before it went down is passed on first.
                biased;
                Some(report) = reports.recv() => frame::write(self.reports, &report, SMALL).await?,
                ended = &mut control_task => break ended,
                Some(ended) = tasks.join_next() => match ended.map_err(io::Error::other)? {
                    Ok(()) => {}
                    Err(cut) => break Err(cut),
                },
                Some(stream) = from_guest.next() => match Arc::clone(&connections).try_acquire_owned() {
                    Ok(room) => drop(tasks.spawn(named_service(stream, endpoints.clone(), room, limits))),
                    // No room: the connection is closed by dropping it.
                    Err(_full) if turned_away.is_passed() => break Err(CutOff::Flood(limits.turned_away)),
                    Err(_full) => {}
                },
                Some(stream) = self.streams.next() => {
                    tasks.spawn(daemons_stream(stream, guests.clone(), limits));
                }
                ended = &mut channel_end => {
                    self.pass_on(&mut reports).await?;
                    return Err(end_of_channel(ended).into());
                }
            }
        };
        let Err(cut) = ended else {
            self.pass_on(&mut reports).await?;
            return Ok(());
        };
        let cut = settled(cut, channel_end).await;
        self.pass_on(&mut reports).await?;
        Err(cut.into())
    }

    /// What the guest said before the end.
    async fn pass_on(&mut self, reports: &mut mpsc::Receiver<DoorReport>) -> Result<(), FrameError> {
        while let Ok(report) = reports.try_recv() {
            frame::write(self.reports, &report, SMALL).await?;
        }
        Ok(())
    }
}

async fn open_control(guests: &Opener) -> Result<Stream, CutOff> {
    let mut control = guests.open().await.map_err(broken)?;
    frame::write(&mut control, &DoorOpens::Control, SMALL).await.map_err(|_| CutOff::Hung)?;
    Ok(control)
}

/// When the channel has failed, everything on it has: its own reason is the one that tells.
async fn settled(cut: CutOff, channel_end: JoinHandle<Result<(), MuxError>>) -> CutOff {
    tokio::time::timeout(SETTLE, channel_end).await.map_or(cut, end_of_channel)
}

fn end_of_channel(ended: Result<Result<(), MuxError>, JoinError>) -> CutOff {
    match ended {
        Ok(Ok(())) => CutOff::Hung,
        Ok(Err(error)) => broken(error),
        Err(error) => CutOff::Channel(error.to_string()),
    }
}

/// Serves a stream that the daemon opened.
async fn daemons_stream(mut stream: Stream, guests: Opener, limits: DoorLimits) -> Result<(), CutOff> {
    match frame::read(&mut stream, SMALL).await {
        Ok(Some(DaemonOpens::Process(spec))) => process::relay(stream, spec, guests, limits).await,
        Ok(Some(DaemonOpens::PutFiles { folder })) => files::put(stream, folder, guests, limits).await,
        Ok(Some(DaemonOpens::GetFiles { folder, max_bytes, max_entries })) => {
            let bounds = files::Bounds { bytes: max_bytes, entries: max_entries };
            files::get(stream, folder, bounds, guests, limits).await
        }
        // The daemon let go of it, or opened a second control stream: there is only one.
        Ok(Some(DaemonOpens::Control { .. }) | None) | Err(_) => Ok(()),
    }
}

/// Serves a stream that the guest opened.
async fn named_service(
    mut stream: Stream,
    endpoints: Endpoints,
    room: OwnedSemaphorePermit,
    limits: DoorLimits,
) -> Result<(), CutOff> {
    let head = tokio::time::timeout(limits.frame, frame::read::<GuestOpens, _>(&mut stream, SMALL)).await;
    match head.map_err(|_elapsed| CutOff::Nameless(limits.frame))? {
        Ok(Some(GuestOpens::Model)) => endpoints.model.serve(stream).await,
        Ok(Some(GuestOpens::Tools)) => endpoints.tools.serve(stream).await,
        Ok(Some(GuestOpens::Egress)) => endpoints.egress.serve(stream).await,
        Ok(None) => {}
        Err(FrameError::Io(_)) => return Err(CutOff::MidFrame),
        Err(error @ (FrameError::Length { .. } | FrameError::Malformed { .. })) => {
            return Err(CutOff::Frame(error.to_string()));
        }
    }
    drop(room);
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function from error to error")]
fn broken(error: MuxError) -> CutOff {
    CutOff::Channel(error.to_string())
}

/// The channel, with a count of the bytes that the guest has sent.
struct Counted<C> {
    inner: C,
    heard: Arc<AtomicU64>,
}

impl<C: AsyncRead + Unpin> AsyncRead for Counted<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let poll = Pin::new(&mut self.inner).poll_read(context, into);
        let read = into.filled().len().saturating_sub(before);
        self.heard.fetch_add(read as u64, Ordering::Relaxed);
        poll
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Counted<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
