//! What PID 1 and the container's init say to each other: one message a packet, with descriptors beside it.
//!
//! The init is confined like any process of the agent, so PID 1 takes its messages for hostile.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wire::frame;
use wire::process::{Exit, ProcessSpec};

/// Most descriptors beside one message.
const DESCRIPTORS: usize = 3;

/// To the init.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToInit {
    /// Start a process. Beside it: its three standard streams, unless it gets a terminal.
    Start {
        /// What the answers call it.
        id: u32,
        /// What to start.
        spec: ProcessSpec,
    },
    /// A signal for the process group of a process.
    Signal {
        /// Of which process.
        id: u32,
        /// Its number.
        signal: u8,
    },
}

/// From the init.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromInit {
    /// Every protection was seen to stand; the init waits for work. Comes first, and once.
    Ready {
        /// Name of each protection, and what was seen.
        verified: Vec<(String, String)>,
    },
    /// A protection is missing. The init ends.
    Unprotected {
        /// Which, and what was seen instead.
        why: String,
    },
    /// A process runs. Beside it: the near end of its terminal, if it has one.
    Started {
        /// Which.
        id: u32,
    },
    /// A process could not be started.
    Failed {
        /// Which.
        id: u32,
        /// What failed.
        why: String,
    },
    /// A process ended.
    Exited {
        /// Which.
        id: u32,
        /// How.
        exit: Exit,
    },
}

/// Sends one message.
pub(crate) fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = frame::encode(message, frame::SMALL).map_err(io::Error::other)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors beside one message"));
    }
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message; `None` when the other end is gone.
pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0_u8; frame::SMALL + 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = beside
        .drain()
        .filter_map(|message| {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message { Some(descriptors) } else { None }
        })
        .flatten()
        .collect();
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is too long"));
    }
    let message = bytes.get(4..received.bytes).unwrap_or_default();
    let message =
        frame::decode(message).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some((message, descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::fs::File;
    use std::io::Read;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (near, far) = pair();
        let (read, write) = nix::unistd::pipe().unwrap();
        send(&near, &ToInit::Signal { id: 7, signal: 15 }, &[write.as_fd()]).unwrap();
        drop(write);
        let (message, descriptors) = receive::<ToInit>(&far).unwrap().unwrap();
        assert!(matches!(message, ToInit::Signal { id: 7, signal: 15 }));
        assert_eq!(descriptors.len(), 1);
        drop(descriptors);
        let mut rest = Vec::new();
        File::from(read).read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
    }

    #[test]
    fn nonsense_is_an_error_and_a_closed_end_is_the_end() {
        let (near, far) = pair();
        nix::unistd::write(&near, &[255; 40]).unwrap();
        assert!(receive::<ToInit>(&far).is_err());
        drop(near);
        assert!(receive::<ToInit>(&far).unwrap().is_none());
    }
}
