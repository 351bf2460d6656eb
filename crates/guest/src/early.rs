//! The early questions, answered one by one over the bare channel until the machine is born.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use wire::early::{Answer, Question, VERSION};
use wire::frame;

use crate::fault::{During, Fault};
use crate::{PROGRAM, birth, channel};

/// Answers probes; at birth, makes the machine a cell of its own and executes this program anew, which inherits the
/// channel and says [`Answer::Born`]. Returns only if something failed, which the host is told.
pub(crate) fn answer(mut port: File) -> Result<(), Fault> {
    loop {
        match ask(&mut port)? {
            Question::Probe => say(&mut port, &Answer::Hello { version: VERSION })?,
            Question::Birth(birth) => {
                let fault = birth::apply(&birth).and_then(|()| again(&port)).err();
                return fault.map_or(Ok(()), |fault| {
                    say(&mut port, &Answer::Failed { why: fault.to_string() })?;
                    Err(fault)
                });
            }
        }
    }
}

/// Writes one answer.
pub(crate) fn say(port: &mut File, answer: &Answer) -> Result<(), Fault> {
    let bytes = frame::encode(answer, frame::SMALL).during("encoding an answer")?;
    port.write_all(&bytes).during("writing to the channel")
}

fn ask(port: &mut File) -> Result<Question, Fault> {
    let mut length = [0_u8; 4];
    channel::read_exact(port, &mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length == 0 || length > frame::SMALL {
        return Err(Fault::new(format!(
            "a question of {length} bytes where 1 to {} are allowed",
            frame::SMALL
        )));
    }
    let mut body = vec![0_u8; length];
    channel::read_exact(port, &mut body)?;
    frame::decode(&body).during("decoding a question")
}

/// A fresh image of this program: a clone must not share its template's memory layout, stack canary and hash keys.
fn again(port: &File) -> Result<(), Fault> {
    fcntl(port.as_fd(), FcntlArg::F_SETFD(FdFlag::empty())).during("passing the channel on")?;
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(port).to_string();
    Err(Command::new(PROGRAM).args(["born", &descriptor]).env_clear().exec())
        .during("executing this program anew")
}
