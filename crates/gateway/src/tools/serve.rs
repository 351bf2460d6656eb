//! One question of a door about tools, answered by a gate.

use futures::FutureExt as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wire::frame::{self, FrameError};
use wire::tools::{MAX_REPLY, Progress, ToolFailure, ToolFailureKind, ToolsAnswer, ToolsAsk, ToolsReply};

use super::{CallContext, ProgressSink, ToolCall, ToolGate};

/// Answers a question that was read from this stream. When the door lets go of its side, a call is cancelled and
/// waited for, and any other question given up.
///
/// # Errors
/// When the door has gone.
pub async fn serve<S>(ask: ToolsAsk, stream: S, gate: &dyn ToolGate) -> Result<(), FrameError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut read, mut write) = tokio::io::split(stream);
    let answer = if let Err(why) = ask.check() {
        Err(ToolFailure::new(ToolFailureKind::Invalid, why.to_string()))
    } else if let ToolsAsk::Call { tool, arguments, wants_progress } = ask {
        let call = Call { gate, arguments, wants_progress };
        let Some(answer) = call.make(&tool, &mut read, &mut write).await? else { return Ok(()) };
        answer
    } else {
        tokio::select! {
            answer = look_up(ask, gate) => answer,
            () = let_go(&mut read) => return Ok(()),
        }
    };
    let answer = match answer.and_then(checked) {
        Ok(reply) => ToolsAnswer::Reply(reply),
        Err(failure) => ToolsAnswer::Failed(failure.bounded()),
    };
    frame::write(&mut write, &answer, MAX_REPLY).await?;
    write.shutdown().await?;
    Ok(())
}

/// Holds what the gate gave against the limits of the wire.
fn checked(reply: ToolsReply) -> Result<ToolsReply, ToolFailure> {
    match reply.check() {
        Ok(()) => Ok(reply),
        Err(why) => Err(ToolFailure::new(ToolFailureKind::TooLarge, why.to_string())),
    }
}

/// Answers what is no call.
async fn look_up(ask: ToolsAsk, gate: &dyn ToolGate) -> Result<ToolsReply, ToolFailure> {
    match ask {
        ToolsAsk::List => gate.list().await.map(ToolsReply::Tools),
        ToolsAsk::ListResources => gate.resources().await.map(ToolsReply::Resources),
        ToolsAsk::ListTemplates => gate.templates().await.map(ToolsReply::Templates),
        ToolsAsk::ReadResource { uri } => gate.read(uri).await.map(ToolsReply::Contents),
        ToolsAsk::ListPrompts => gate.prompts().await.map(ToolsReply::Prompts),
        ToolsAsk::GetPrompt { name, arguments } => gate.prompt(name, arguments).await.map(ToolsReply::Prompt),
        ToolsAsk::Call { .. } => Err(ToolFailure::new(ToolFailureKind::Internal, "a call is no look-up")),
    }
}

struct Call<'a> {
    gate: &'a dyn ToolGate,
    arguments: String,
    wants_progress: bool,
}

impl Call<'_> {
    /// Makes the call; `None` when the door has let go meanwhile, so that nobody waits for the answer.
    async fn make<R, W>(
        self,
        tool: &str,
        door: &mut R,
        to: &mut W,
    ) -> Result<Option<Result<ToolsReply, ToolFailure>>, FrameError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let Ok(tool) = tool.parse() else {
            let why = format!("there is no tool `{}` for this agent", tool.escape_default());
            return Ok(Some(Err(ToolFailure::new(ToolFailureKind::NotFound, why))));
        };
        let (sink, mut progress) = ProgressSink::channel();
        let sink = if self.wants_progress {
            sink
        } else {
            // While there is one, progress is waited for.
            drop(sink);
            ProgressSink::NONE
        };
        let cancelled = CancellationToken::new();
        let context = CallContext { progress: sink, cancelled: cancelled.clone() };
        let call = ToolCall { tool, arguments: self.arguments };
        // Fused, it lets go of its sink when it is done.
        let mut made = self.gate.call(call, context).fuse();
        let mut passed = std::pin::pin!(pass(&mut progress, to));
        let (mut result, mut passed_all) = (None, false);
        // Both at once: a program that reads nothing keeps no call from ending.
        let ended = loop {
            tokio::select! {
                made = &mut made, if result.is_none() => result = Some(made),
                passed = &mut passed, if !passed_all => match passed {
                    Ok(()) => passed_all = true,
                    Err(error) => break Err(error),
                },
                () = let_go(door) => break Ok(None),
            }
            // Progress first: it came before the result.
            if passed_all && let Some(result) = result.take() {
                return Ok(Some(result.map(ToolsReply::Result)));
            }
        };
        cancelled.cancel();
        if result.is_none() {
            drop(made.await);
        }
        ended
    }
}

/// Passes progress on, until nobody tells any more.
async fn pass<W: AsyncWrite + Unpin>(
    progress: &mut mpsc::Receiver<Progress>,
    to: &mut W,
) -> Result<(), FrameError> {
    while let Some(progress) = progress.recv().await {
        if progress.check().is_ok() {
            frame::write(to, &ToolsAnswer::Progress(progress), MAX_REPLY).await?;
        }
    }
    Ok(())
}

/// Returns when the door has closed its side.
async fn let_go<R: AsyncRead + Unpin>(door: &mut R) {
    let mut nothing = [0_u8; 1];
    while door.read(&mut nothing).await.is_ok_and(|read| read > 0) {}
}
