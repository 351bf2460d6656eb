//! The API of the daemon: its types, where its socket lies, and its client. HTTP/1.1 over a Unix socket, paths under
//! `/v1`, JSON bodies; a live session is a WebSocket.
//!
//! | method and path | in | out |
//! |---|---|---|
//! | `GET /v1/status` | | [`Status`] |
//! | `POST /v1/shutdown` | | |
//! | `GET /v1/agents`, `GET /v1/agents/{name}` | | [`AgentView`] list, [`AgentDetails`] |
//! | `POST /v1/sessions` | [`NewSession`] | [`SessionView`] |
//! | `GET /v1/sessions`, `GET /v1/sessions/{id}` | | [`SessionView`] (a list, one) |
//! | `PUT /v1/sessions/{id}/workspace` | a tar archive | |
//! | `GET /v1/sessions/{id}/workspace` | | a tar archive, once the harness has ended |
//! | `GET /v1/sessions/{id}/attach?owner=bool` | WebSocket: [`Input`] | [`Stamped`] events from the start, to the end |
//! | `GET /v1/sessions/{id}/events?follow=bool` | | [`Stamped`] events, one a line |
//! | `GET /v1/sessions/{id}/exec` | WebSocket: one [`ExecRequest`], then [`Input`] | [`Stamped`] events of the process |
//! | `POST /v1/sessions/{id}/stop` | [`StopRequest`] | |
//! | `POST /v1/doctor` | | [`Step`]s of a [`DoctorReport`], one a line |
//! | `GET /v1/images` | | [`ImageView`] list |
//! | `POST /v1/images` | [`ImageRequest`] | [`Step`]s of an [`ImageView`], one a line |
//! | `DELETE /v1/images?name=…` | | |
//! | `GET /v1/whoami` | | [`PersonView`] |
//! | `GET /v1/approvals` | | [`ApprovalView`]s of those that wait, one a line |
//! | `GET /v1/approvals/{id}` | | [`ApprovalView`] |
//! | `GET /v1/approvals/watch` | | [`ApprovalView`]s as they are asked, one a line |
//! | `POST /v1/approvals/{id}/answer` | [`AnswerRequest`] | [`ApprovalView`] |
//! | `POST /v1/ledger/entries` | [`LedgerQuery`] | [`LedgerEntry`] list, as many as fit into one answer |
//! | `POST /v1/ledger/verify` | a head seen before, or null | [`LedgerVerdict`] |
//! | `POST /v1/ledger/erase` | [`EraseRequest`] | |
//! | `GET /v1/people` | | [`PersonView`] list |
//! | `PUT /v1/people/{name}`, `DELETE /v1/people/{name}` | [`PersonView`] | |
//! | `GET /v1/groups` | | [`GroupView`] list |
//! | `GET /v1/servers` | | [`ServerView`] list |
//! | `GET /v1/servers/{name}?team=…` | | [`ServerDetails`] |
//! | `GET /v1/cells` | | [`RunningServer`] list |
//! | `PUT /v1/servers/{name}` | [`ServerView`]; teams, table and limits that it doesn't say stay, where they can | [`ServerPut`] |
//! | `DELETE /v1/servers/{name}` | | |
//! | `GET /v1/agents/{name}/tools` | | [`AgentTools`] |
//! | `POST /v1/agents/{name}/apply` | [`ApplyRequest`] | |
//! | `GET /v1/secrets` | | [`SecretView`] list |
//! | `PUT /v1/secrets/{name}` | [`NewSecret`] | [`Revocation`] |
//! | `POST /v1/secrets/{name}/rotate` | [`RotateRequest`] | |
//! | `POST /v1/secrets/{name}/login` | [`LoginRequest`] | [`Step`]s, then [`LoginEnd`] |
//! | `POST /v1/secrets/{name}/login/paste` | [`PasteRequest`] | |
//! | `DELETE /v1/secrets/{name}` | | [`Revocation`] |
//! | `PUT /v1/groups/{group}/{name}`, `DELETE /v1/groups/{group}/{name}` | | |
//!
//! A failure is a status of 400 or more with a [`Problem`].

mod approval;
mod client;
mod data;
mod folders;
mod host;
mod labels;
mod ledger;
mod people;
mod problem;
mod secrets;
mod session;
mod text;
mod tools;

pub use approval::{AnswerRequest, AnswerView, ApprovalView, MAX_WHY, ShownView, Standing};
pub use client::{Attachment, Client, ClientError, EventStream, InputSink, Lines, Steps};
pub use data::Data;
pub use folders::{FolderError, Folders};
pub use host::{Check, CheckStatus, DoctorReport, ImageRequest, ImageView, PackageView, Status, Step};
pub use labels::{LabelsView, LowerRequest};
pub use ledger::{EraseRequest, LedgerEntry, LedgerQuery, LedgerVerdict, MAX_ENTRIES, MAX_LEDGER};
pub use people::{GroupView, PersonView};
pub use problem::{Problem, ProblemKind};
pub use secrets::{
    LoginAt, LoginEnd, LoginParty, LoginRequest, LoginView, LoginWay, NewSecret, PasteRequest, Revocation,
    RotateRequest, SecretText, SecretView,
};
pub use session::{
    AgentFiles, AgentRef, AgentView, Event, ExecRequest, Input, NewSession, OutputStream, SessionView,
    Stamped, StartOptions, StopRequest, TerminalSize,
};

pub use tools::{
    AgentDetails, AgentTools, ApplyRequest, CallsView, ChangeView, Earlier, FilesCount, PasswordIn, PinState,
    RunningServer, ServerCell, ServerDetails, ServerLimits, ServerMailbox, ServerPart, ServerPut,
    ServerState, ServerTool, ServerView, ToolView,
};

/// The version in every path.
pub const VERSION: &str = "v1";

/// Most bytes of a JSON request or answer.
pub const MAX_JSON: usize = 4 << 20;

/// Most bytes of one WebSocket message or one line of events.
pub const MAX_MESSAGE: usize = 256 << 10;

/// Most bytes of input in one [`Input::Stdin`].
pub const MAX_CHUNK: usize = 32 << 10;

/// Most bytes of a session's prompt; longer input goes to standard input.
pub const MAX_PROMPT: usize = 24 << 10;

/// Most bytes of a workspace, as a tar archive, in either direction.
pub const MAX_WORKSPACE: u64 = 256 << 20;

/// Most entries of a workspace, in either direction.
pub const MAX_WORKSPACE_ENTRIES: u32 = 50_000;
