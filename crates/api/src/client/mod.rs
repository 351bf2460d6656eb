//! The client: one connection per request, every answer bounded, live sessions over a WebSocket.

mod people;
mod secrets;
mod tools;

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use domain::{AgentName, ImageName, SessionId};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message, protocol::WebSocketConfig};

use crate::{
    AgentDetails, AgentView, DoctorReport, ExecRequest, ImageRequest, ImageView, Input, MAX_JSON,
    MAX_MESSAGE, MAX_WORKSPACE, NewSession, Problem, SessionView, Stamped, Status, Step, StopRequest,
    VERSION,
};

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("no daemon answers on `{}`: {source}", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The daemon said no.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The connection broke in the middle.
    #[error("the connection to the daemon broke: {0}")]
    Broken(String),
    /// The answer is not what this version expects.
    #[error("the daemon's answer can't be read: {0}")]
    Unreadable(String),
}

/// A client of the daemon that listens on a Unix socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

type Result<T> = std::result::Result<T, ClientError>;

impl Client {
    /// A client of that socket; nothing is connected yet.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether the daemon is there.
    ///
    /// # Errors
    /// As [`ClientError`] says, like all that follow.
    pub async fn status(&self) -> Result<Status> {
        self.get("status").await
    }

    /// Ends the daemon: its sessions first, in order. Returns when it no longer listens.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn shut_down(&self) -> Result<()> {
        self.send::<()>(Method::POST, "shutdown", Bytes::new()).await?;
        // The daemon removes its socket last of all; until then a connection is refused or reset.
        while self.socket.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Every agent that can be run by name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn agents(&self) -> Result<Vec<AgentView>> {
        self.get("agents").await
    }

    /// One agent.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn agent(&self, name: &AgentName) -> Result<AgentDetails> {
        self.get(&format!("agents/{name}")).await
    }

    /// Starts a session.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn start(&self, session: &NewSession) -> Result<SessionView> {
        self.send(Method::POST, "sessions", json(session)?).await
    }

    /// Every session that is known.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sessions(&self) -> Result<Vec<SessionView>> {
        self.get("sessions").await
    }

    /// One session.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn session(&self, id: SessionId) -> Result<SessionView> {
        self.get(&format!("sessions/{id}")).await
    }

    /// Stops a session.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stop(&self, id: SessionId, request: StopRequest) -> Result<()> {
        self.send(Method::POST, &format!("sessions/{id}/stop"), json(&request)?).await
    }

    /// Gives a session its workspace: a tar archive of at most [`MAX_WORKSPACE`] bytes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_workspace(&self, id: SessionId, archive: Vec<u8>) -> Result<()> {
        self.send(Method::PUT, &format!("sessions/{id}/workspace"), Bytes::from(archive)).await
    }

    /// The workspace as the harness left it: a tar archive of at most [`MAX_WORKSPACE`] bytes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_workspace(&self, id: SessionId) -> Result<Bytes> {
        let answer = self.request(Method::GET, &format!("sessions/{id}/workspace"), Bytes::new()).await?;
        answer.collect(usize::try_from(MAX_WORKSPACE).unwrap_or(usize::MAX)).await
    }

    /// A session's events as they were recorded, and with `follow` also those to come.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events(&self, id: SessionId, follow: bool) -> Result<Lines<Stamped>> {
        let path = format!("sessions/{id}/events?follow={follow}");
        Ok(Lines::new(self.request(Method::GET, &path, Bytes::new()).await?))
    }

    /// Attaches to a session: its events from the start, and its input. With `owner`, the session ends when this
    /// connection does.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn attach(&self, id: SessionId, owner: bool) -> Result<Attachment> {
        self.web_socket(&format!("sessions/{id}/attach?owner={owner}")).await
    }

    /// Runs a program in the cell of a running session.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn exec(&self, id: SessionId, request: &ExecRequest) -> Result<Attachment> {
        let mut attachment = self.web_socket(&format!("sessions/{id}/exec")).await?;
        attachment.input.send_json(request).await?;
        Ok(attachment)
    }

    /// Examines the host. Boots a VM, so it takes a while.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn doctor(&self) -> Result<Steps<DoctorReport>> {
        Ok(Steps(Lines::new(self.request(Method::POST, "doctor", Bytes::new()).await?)))
    }

    /// Every image in the store.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn images(&self) -> Result<Vec<ImageView>> {
        self.get("images").await
    }

    /// Gets an image.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add_image(&self, request: &ImageRequest) -> Result<Steps<ImageView>> {
        Ok(Steps(Lines::new(self.request(Method::POST, "images", json(request)?).await?)))
    }

    /// Removes an image.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_image(&self, name: &ImageName) -> Result<()> {
        // An image's name has no character that a query would need to escape but `+`, which the daemon takes as it is.
        self.send(Method::DELETE, &format!("images?name={name}"), Bytes::new()).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    async fn send<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T> {
        self.send_for(method, path, body, MAX_JSON).await
    }

    /// The same for an answer of at most so many bytes.
    async fn send_for<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        max: usize,
    ) -> Result<T> {
        let answer = self.request(method, path, body).await?.collect(max).await?;
        let text: &[u8] = if answer.is_empty() { b"null" } else { &answer };
        serde_json::from_slice(text).map_err(|e| ClientError::Unreadable(e.to_string()))
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Answer> {
        let io = hyper_util::rt::TokioIo::new(self.connect().await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(broken)?;
        let driver = Driver(tokio::spawn(async move {
            // What went wrong is seen by the request too, which tells it.
            drop(connection.await);
        }));
        let request = Request::builder()
            .method(method)
            .uri(format!("/{VERSION}/{path}"))
            .header(http::header::HOST, "lazaret")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(broken)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let answer = Answer { body: response.into_body(), _driver: driver };
        if status.is_success() {
            return Ok(answer);
        }
        Err(problem(status, &answer.collect(MAX_JSON).await?))
    }

    async fn web_socket(&self, path: &str) -> Result<Attachment> {
        let stream = self.connect().await?;
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let url = format!("ws://lazaret/{VERSION}/{path}");
        match tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await {
            Ok((socket, _)) => {
                let (sink, events) = socket.split();
                Ok(Attachment { input: InputSink(sink), events: EventStream(events) })
            }
            Err(tungstenite::Error::Http(response)) => {
                Err(problem(response.status(), response.body().as_deref().unwrap_or_default()))
            }
            Err(error) => Err(broken(error)),
        }
    }

    async fn connect(&self) -> Result<UnixStream> {
        UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::Unreachable { socket: self.socket.clone(), source })
    }
}

fn json<T: Serialize>(value: &T) -> Result<Bytes> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|e| ClientError::Unreadable(e.to_string()))
}

fn broken(error: impl std::fmt::Display) -> ClientError {
    ClientError::Broken(error.to_string())
}

fn problem(status: StatusCode, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => ClientError::Problem(problem),
        Err(_) => ClientError::Unreadable(format!("status {status} without a problem in JSON")),
    }
}

/// Ends the connection's task with the answer.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
struct Answer {
    body: Incoming,
    _driver: Driver,
}

impl Answer {
    async fn collect(self, max: usize) -> Result<Bytes> {
        match http_body_util::Limited::new(self.body, max).collect().await {
            Ok(whole) => Ok(whole.to_bytes()),
            Err(error) => Err(broken(error)),
        }
    }
}

/// An answer of one JSON value a line.
#[derive(Debug)]
pub struct Lines<T> {
    answer: Answer,
    buffer: BytesMut,
    /// So much of it has no end of a line.
    searched: usize,
    kind: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    fn new(answer: Answer) -> Self {
        Self { answer, buffer: BytesMut::new(), searched: 0, kind: std::marker::PhantomData }
    }

    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn next(&mut self) -> Result<Option<T>> {
        loop {
            let new = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = new.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched.saturating_add(at).saturating_add(1));
                self.searched = 0;
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|e| ClientError::Unreadable(e.to_string()));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_JSON {
                return Err(ClientError::Unreadable(format!("a line of more than {MAX_JSON} bytes")));
            }
            match self.answer.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(broken(error)),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(ClientError::Broken("the answer ended in mid-line".to_owned())),
            }
        }
    }
}

/// A long answer: progress, then its end.
#[derive(Debug)]
pub struct Steps<T>(Lines<Step<T>>);

impl<T: DeserializeOwned> Steps<T> {
    /// Tells each progress, and returns the end.
    ///
    /// # Errors
    /// [`ClientError`]; the daemon's own failure is a [`ClientError::Problem`].
    pub async fn finish(mut self, mut progress: impl FnMut(&str)) -> Result<T> {
        loop {
            match self.0.next().await? {
                Some(Step::Progress(message)) => progress(&message),
                Some(Step::Done(done)) => return Ok(done),
                Some(Step::Failed(problem)) => return Err(problem.into()),
                None => return Err(ClientError::Broken("the answer ended without a result".to_owned())),
            }
        }
    }
}

/// A live session or process.
#[derive(Debug)]
pub struct Attachment {
    /// Where input goes.
    pub input: InputSink,
    /// What happens.
    pub events: EventStream,
}

/// What happens, in order.
#[derive(Debug)]
pub struct EventStream(SplitStream<WebSocketStream<UnixStream>>);

impl EventStream {
    /// The next event; `None` at the end. Safe to cancel.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn next(&mut self) -> Result<Option<Stamped>> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text)
                        .map(Some)
                        .map_err(|e| ClientError::Unreadable(e.to_string()));
                }
                Some(Ok(Message::Close(frame))) => return close_reason(frame),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Binary(_))) => {
                    return Err(ClientError::Unreadable("a binary message".to_owned()));
                }
                Some(Err(error)) => return Err(broken(error)),
                None => return Ok(None),
            }
        }
    }
}

/// A socket that closes with a problem says so in the close frame.
fn close_reason(frame: Option<tungstenite::protocol::CloseFrame>) -> Result<Option<Stamped>> {
    match frame.filter(|frame| !frame.reason.is_empty()) {
        Some(frame) => Err(ClientError::Problem(Problem::new(
            crate::ProblemKind::Conflict,
            frame.reason.as_str().to_owned(),
        ))),
        None => Ok(None),
    }
}

/// Where input goes.
#[derive(Debug)]
pub struct InputSink(SplitSink<WebSocketStream<UnixStream>, Message>);

impl InputSink {
    /// Sends one input.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send(&mut self, input: &Input) -> Result<()> {
        self.send_json(input).await
    }

    async fn send_json<T: Serialize>(&mut self, value: &T) -> Result<()> {
        let text = serde_json::to_string(value).map_err(|e| ClientError::Unreadable(e.to_string()))?;
        self.0.send(Message::text(text)).await.map_err(broken)
    }
}
