//! Creates the container: a process of its own, which ends when the container's init runs.
//!
//! PID 1 starts it with the init's end of the link as standard input, and reads the init's process id from its
//! standard output and the reason of a failure from its standard error.

use std::io::Write;
use std::process::ExitCode;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::resource::{Resource, setrlimit};

use crate::fault::{During, Fault};

/// Where the document lies that says what the container is.
pub(crate) const BUNDLE: &str = "/run/container";

/// Open files of one process: what build tools want, and no more than the guest's memory stands.
const OPEN_FILES: u64 = 8192;

/// Creates the container and starts its init.
pub(crate) fn run() -> ExitCode {
    match create() {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            // Without standard error there is nobody to tell; the exit code still says it.
            drop(write!(std::io::stderr(), "{fault}"));
            ExitCode::FAILURE
        }
    }
}

fn create() -> Result<(), Fault> {
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES).during("limiting open files")?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).during("forbidding core dumps")?;
    let builder = ContainerBuilder::new("agent".to_owned(), SyscallType::default())
        .with_root_path("/run")
        .during("preparing the container's state")?;
    let mut container =
        builder.as_init(BUNDLE).with_systemd(false).with_detach(true).build().during("creating it")?;
    let pid = container.pid().ok_or_else(|| Fault::new("the container has no first process"))?;
    container.start().during("starting it")?;
    write!(std::io::stdout(), "{pid}").during("reporting the container's first process")
}
