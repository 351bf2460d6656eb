//! `lazaret`: the command line. It talks to the daemon, and starts it when it isn't running.

mod agent;
mod apply;
mod approvals;
mod args;
mod background;
mod classify;
mod doctor;
mod failure;
mod image;
mod labels;
mod learn;
mod ledger;
mod live;
mod logins;
mod output;
mod people;
mod policy;
mod run;
mod secrets;
mod serve;
mod servers;
mod session;
mod terminal;
mod workspace;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, Parser as _};
use failure::{Failure, Outcome};

fn main() -> ExitCode {
    // The parts of a cell that are this program again. They are told apart before anything else is read or started.
    match std::env::args_os().nth(1).as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("jail") => daemon::jail_main(),
        Some("door") => return door::run(),
        Some(_) | None => {}
    }
    let cli = Cli::try_parse().unwrap_or_else(|error| without_passwords(error).exit());
    let runs_agent = matches!(cli.command, Command::Run(_) | Command::Exec(_));
    match command(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.tell();
            ExitCode::from(failure.exit_code(runs_agent))
        }
    }
}

/// What is wrong with the command line, without the passwords that somebody wrote into addresses.
fn without_passwords(mut error: clap::Error) -> clap::Error {
    let bare = |(kind, value): (ContextKind, &ContextValue)| {
        let ContextValue::String(text) = value else { return None };
        Some((kind, domain::without_user(text)?))
    };
    let said: Vec<_> = error.context().filter_map(bare).collect();
    for (kind, text) in said {
        error.insert(kind, ContextValue::String(text));
    }
    error
}

fn command(command: Command) -> Outcome {
    if let Command::Completions { shell } = command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "lazaret", &mut script);
        return output::print_lines([String::from_utf8_lossy(&script).into_owned()]);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("the runtime can't start: {e}")))?;
    let outcome = runtime.block_on(dispatch(command));
    // A read of standard input may still be blocked; it ends with the process.
    runtime.shutdown_background();
    outcome
}

async fn dispatch(command: Command) -> Outcome {
    match command {
        Command::Run(args) => run::run(args).await,
        Command::Agent { command } => agent::command(command).await,
        Command::Ps(args) => session::ps(args).await,
        Command::Logs(args) => session::logs(args).await,
        Command::Exec(args) => session::exec(args).await,
        Command::Stop(args) => session::stop(args).await,
        Command::Server { command } => servers::command(command).await,
        Command::Secret { command } => secrets::command(command).await,
        Command::Approvals(args) => approvals::list(args).await,
        Command::Approve(args) => approvals::approve(args).await,
        Command::Deny(args) => approvals::deny(args).await,
        Command::Ledger { command } => ledger::command(command).await,
        Command::Person { command } => people::person(command).await,
        Command::Labels { command } => labels::labels(command).await,
        Command::Group { command } => people::group(command).await,
        Command::Policy { command } => policy::command(command).await,
        Command::Image { command } => image::command(command).await,
        Command::Doctor { json } => doctor::doctor(json).await,
        Command::Serve(args) => serve::serve(args).await,
        Command::Demo(args) => serve::demo(args).await,
        Command::Completions { .. } | Command::Jail | Command::Door => Ok(0), // answered before
    }
}
