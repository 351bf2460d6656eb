//! The points at which tests kill the program, to see that nothing is done twice or lost. Nothing outside tests.

/// Dies here, as by `kill -9`, if this is the point that the environment names.
#[cfg(test)]
pub(crate) fn point(name: &str) {
    if std::env::var("LAZARET_TEST_CRASH_AT").is_ok_and(|at| at == name) {
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
        std::thread::park();
    }
}

/// Nothing.
#[cfg(not(test))]
pub(crate) fn point(_: &str) {}
