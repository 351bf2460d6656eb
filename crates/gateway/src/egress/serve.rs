//! One request of a door that is to leave, carried to a gate, and its answer carried back.

use std::convert::Infallible;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wire::egress::{BodyLength, EgressAnswer, EgressBody, EgressRequest, MAX_ANSWER};
use wire::frame::{self, CHUNK, FrameError};

use super::{Answer, EgressGate, EgressRefusal, Exchange, Gone, Piece, RequestBody};

/// Pieces that wait on either way: enough to keep both sides busy, few enough to hold.
const PIECES: usize = 2;
/// Most bytes of a frame of a body.
const BODY_FRAME: usize = CHUNK + 16;
/// Most bytes of what a refusal tells.
const MAX_TOLD: usize = 4096;

/// Answers a request that was read from this stream. When the door lets go of its side, the exchange is cancelled and
/// waited for.
///
/// # Errors
/// When an answer can't be passed on.
pub async fn serve<S>(request: EgressRequest, stream: S, gate: &dyn EgressGate) -> Result<(), FrameError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (read, mut write) = tokio::io::split(stream);
    let (pieces, body) = mpsc::channel(PIECES);
    let (answers, mut answered) = mpsc::channel(PIECES);
    let cancelled = CancellationToken::new();
    let length = request.body;
    let exchange =
        Exchange { body: RequestBody(body), answer: Answer(answers), cancelled: cancelled.clone() };
    let exchanged = checked(request, exchange, gate);
    let mut begun = false;
    let carried = async {
        let passed = async {
            let passed = pass_answer(&mut answered, &mut begun, &mut write).await;
            if passed.is_err() {
                cancelled.cancel();
            }
            // What is still to come is wanted by nobody.
            answered.close();
            passed
        };
        tokio::join!(exchanged, passed)
    };
    let let_go = async {
        take_body(read, length, pieces).await;
        cancelled.cancel();
        std::future::pending::<Infallible>().await
    };
    let (ended, passed) = tokio::select! {
        done = carried => done,
        never = let_go => match never {},
    };
    if cancelled.is_cancelled() {
        // Nobody is there to be told anything.
        return Ok(());
    }
    passed?;
    let last = match ended {
        Ok(()) if begun => EgressAnswer::End,
        Ok(()) => refused(EgressRefusal { status: 502, why: "there was no answer".to_owned(), hint: None }),
        Err(refusal) if !begun => refused(refusal),
        // In the middle of an answer, only its end can tell.
        Err(_) => return Ok(()),
    };
    frame::write(&mut write, &last, MAX_ANSWER).await?;
    write.shutdown().await?;
    Ok(())
}

/// Asks the gate about what is in its canonical form; nothing else gets there.
async fn checked(
    request: EgressRequest,
    exchange: Exchange,
    gate: &dyn EgressGate,
) -> Result<(), EgressRefusal> {
    if let Err(fault) = request.check() {
        return Err(EgressRefusal { status: 400, why: fault.to_string(), hint: None });
    }
    gate.exchange(request, exchange).await
}

/// Passes the answer on until the gate has no more of it. Whether it has begun is known outside, when this is cut.
async fn pass_answer<W>(
    answered: &mut mpsc::Receiver<EgressAnswer>,
    begun: &mut bool,
    to: &mut W,
) -> Result<(), FrameError>
where
    W: AsyncWrite + Unpin,
{
    while let Some(answer) = answered.recv().await {
        if matches!(answer, EgressAnswer::Head { .. }) == *begun {
            // A gate that begins twice, or goes on before it began, is not passed on.
            return Ok(());
        }
        *begun = true;
        frame::write(to, &answer, MAX_ANSWER).await?;
    }
    Ok(())
}

fn refused(refusal: EgressRefusal) -> EgressAnswer {
    let bounded = |text: String| -> String { text.chars().take(MAX_TOLD).collect() };
    EgressAnswer::Refused {
        status: refusal.status,
        why: bounded(refusal.why),
        hint: refusal.hint.map(bounded),
    }
}

/// Passes the body on until its end, and then waits. Returns when the door has let go.
async fn take_body<R>(mut from: R, length: BodyLength, to: mpsc::Sender<Result<Piece, Gone>>)
where
    R: AsyncRead + Unpin,
{
    let whole = pass_body(&mut from, length, &to).await;
    // A gate that wants no more of the body has its reasons. One that was cut short may still be answered: the door has
    // not let go while its side is open.
    drop(to.send(whole.map(|()| Piece::End)).await);
    drop(to);
    let mut nothing = [0_u8; 1];
    while from.read(&mut nothing).await.is_ok_and(|read| read > 0) {}
}

/// As long as was announced, to the byte.
async fn pass_body<R>(
    from: &mut R,
    length: BodyLength,
    to: &mpsc::Sender<Result<Piece, Gone>>,
) -> Result<(), Gone>
where
    R: AsyncRead + Unpin,
{
    let mut left = match length {
        BodyLength::None => return Ok(()),
        BodyLength::Known(bytes) => Some(bytes),
        BodyLength::Unknown => None,
    };
    loop {
        match frame::read::<EgressBody, _>(from, BODY_FRAME).await {
            Ok(Some(EgressBody::Bytes(bytes))) => {
                if let Some(left) = &mut left {
                    *left = left.checked_sub(bytes.len() as u64).ok_or(Gone)?;
                }
                // Nobody takes it any more: it is read on, so that the door's going away is seen.
                drop(to.send(Ok(Piece::Bytes(bytes))).await);
            }
            Ok(Some(EgressBody::End)) if left.unwrap_or(0) == 0 => return Ok(()),
            Ok(Some(EgressBody::End) | None) | Err(_) => return Err(Gone),
        }
    }
}
