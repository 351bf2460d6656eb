//! `lazaret serve` and `lazaret demo`: the parts of this program that are no client.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::args::{DemoArgs, ServeArgs};
use crate::background;
use crate::failure::{Failure, Outcome};
use crate::secrets;

/// Runs the daemon until it is told to stop.
pub(crate) async fn serve(args: ServeArgs) -> Outcome {
    if args.background {
        // Away from the terminal, so that its Ctrl-C and hang-up don't end every session.
        rustix::process::setsid().map_err(|e| Failure::new(format!("no session of its own: {e}")))?;
    }
    let filter = EnvFilter::try_from_env("LAZARET_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    daemon::serve(background::folders()?, ask_passphrase).await.map_err(|error| {
        let failure = Failure::new(error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    Ok(0)
}

/// The vault's passphrase, from the terminal; none without one.
fn ask_passphrase() -> Option<String> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    let typed = secrets::typed("passphrase of the vault: ").ok()?;
    Some(typed.trim_end_matches(['\r', '\n']).to_owned())
}

/// Plays the acts of the demo; ends with 0 when every attack was stopped.
pub(crate) async fn demo(args: DemoArgs) -> Outcome {
    let options = demo::Options {
        program: std::env::current_exe()?,
        layers: args.layers,
        act: args.act,
        json: args.json,
    };
    match demo::run(&options).await {
        Ok(all_stopped) => Ok(u8::from(!all_stopped)),
        Err(error) => Err(Failure::new(error.to_string())),
    }
}
