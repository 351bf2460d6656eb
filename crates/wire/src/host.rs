//! The socket pair's streams: what door process and daemon say to each other. The daemon trusts nothing of it.

use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use crate::egress::{EgressRequest, MAX_REQUEST};
use crate::frame::{self, FrameError, LARGE, SMALL};
use crate::guest::ContainerSpec;
use crate::model::{ModelFailure, ModelRequest};
use crate::process::ProcessSpec;
use crate::tools::{MAX_ASK, ToolsAsk};

/// The head of a stream that the daemon opens to the door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DaemonOpens {
    /// The one control stream: then [`crate::guest::ToGuest`] frames one way and [`DoorReport`] the other. The door
    /// gives the guest its birth when this stream opens.
    Control {
        /// The host name in the cell.
        host_name: String,
        /// What the container is to be.
        container: ContainerSpec,
    },
    /// A process: then [`crate::process::ToProcess`] and [`crate::process::FromProcess`] frames. The daemon keeps its
    /// side of the stream open for as long as it wants the process: when that ends, the door lets go of the guest's
    /// stream, and the guest kills the process.
    Process(ProcessSpec),
    /// Files for the container, as in [`crate::guest::DoorOpens::PutFiles`].
    PutFiles {
        /// Absolute path of the folder in the container.
        folder: String,
    },
    /// Files from the container: the door answers with [`FileEntry`] frames that it read from the guest's archive.
    GetFiles {
        /// Absolute path of the folder in the container.
        folder: String,
        /// Most bytes of all files together.
        max_bytes: u64,
        /// Most entries.
        max_entries: u32,
    },
}

/// On the control stream, from the door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DoorReport {
    /// The guest is born.
    Born {
        /// The kernel's boot id, for tests.
        boot_id: String,
    },
    /// What the guest said on its control stream, decoded and encoded anew.
    Guest(crate::guest::FromGuest),
    /// The door cut the guest off, and ends.
    CutOff {
        /// Why, for people and the log.
        why: String,
    },
}

/// One entry of a folder of the guest, in the order of the archive. A file's content follows in `Content` frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileEntry {
    /// A folder: its path relative to the one asked for, `/` between parts, no `.` or `..` part.
    Folder {
        /// Relative path.
        path: String,
    },
    /// A regular file.
    File {
        /// Relative path.
        path: String,
        /// Whether its owner may execute it.
        executable: bool,
        /// Bytes of content that follow.
        size: u64,
    },
    /// The next bytes of the last file; at most [`crate::frame::CHUNK`].
    Content(#[serde(with = "serde_bytes")] Vec<u8>),
    /// A symbolic link, as text; nothing follows it.
    Symlink {
        /// Relative path.
        path: String,
        /// What it says.
        target: String,
    },
    /// An entry that is none of these (device, socket, hard link, bad path) was left out.
    LeftOut {
        /// Its name as far as it can be shown.
        path: String,
        /// Why.
        why: String,
    },
    /// The end of the archive; without it, the copy failed.
    End,
    /// The copy failed.
    Failed {
        /// Why, for people.
        why: String,
    },
}

/// The head of a stream that the door opens to the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum DoorOpens {
    /// One model request, at most [`crate::frame::LARGE`]; the daemon answers with [`ModelAnswer`] frames. The door
    /// keeps its side of the stream open for as long as somebody waits for the answer: when it ends, the daemon gives
    /// the request up.
    Model(ModelRequest),
    /// Which models are there? Answered with [`ModelAnswer`] frames that hold a list of the agent's models.
    Models,
    /// One question about tools, at most [`crate::tools::MAX_ASK`]; the daemon answers with
    /// [`crate::tools::ToolsAnswer`] frames. The door keeps its side of the stream open for as long as somebody waits
    /// for the answer: when it ends, the question is cancelled.
    Tools(ToolsAsk),
    /// One request that is to leave, at most [`crate::egress::MAX_REQUEST`]; see [`crate::egress`].
    Egress(EgressRequest),
    /// A certificate for a name, so that the door can end TLS: answered with one [`crate::egress::LeafAnswer`].
    Leaf {
        /// A host as in [`EgressRequest::host`].
        host: String,
    },
}

impl DoorOpens {
    /// Reads the head of a stream that a door opened, at most as long as its kind may be.
    ///
    /// # Errors
    /// As [`frame::read`].
    pub async fn read<R>(from: &mut R) -> Result<Option<Self>, FrameError>
    where
        R: AsyncRead + Unpin + ?Sized,
    {
        frame::read_by_kind(from, LARGE, Self::longest).await
    }

    /// Most bytes of a frame, by the number of its variant.
    fn longest(kind: u8) -> usize {
        match kind {
            0 => LARGE,
            2 => MAX_ASK,
            3 => MAX_REQUEST.saturating_add(16),
            _ => SMALL,
        }
    }
}

/// From the daemon, in answer to [`DoorOpens::Model`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ModelAnswer {
    /// Refused or failed before the first byte; the door tells the harness in its own protocol.
    Failed(ModelFailure),
    /// The response's status and its content type; then `Body` frames.
    Head {
        /// HTTP status.
        status: u16,
        /// `content-type`, one of those the daemon lets through.
        content_type: String,
        /// Other headers that the daemon lets through (request id, rate limits).
        headers: Vec<(String, String)>,
    },
    /// The next bytes of the body; at most [`crate::frame::CHUNK`].
    Body(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The body ended in order. A stream that ends without it was cut.
    End,
}
