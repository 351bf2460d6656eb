//! What can be typed of secrets.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use domain::{Destination, How, SecretName};

const SET_HELP: &str = "\
Examples:
  lazaret secret set github --to https://api.github.com --method GET
  pass show anthropic | lazaret secret set anthropic --to https://api.anthropic.com --as header:x-api-key
  lazaret secret set npm --to https://registry.npmjs.org --from-command 'op read op://team/npm/token'
  lazaret secret set mail --to imaps://imap.example.com --to smtps://smtp.example.com --as password

An agent may use it only where its agent.toml says so too:
  [secrets]
  github = [\"https://api.github.com/repos/acme\"]

It takes the place of a secret of the same name. Its bytes never enter a cell, and are never shown again.";

/// `secret`.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Store a secret, and say where it may go. It is asked for, or read from standard input.
    #[command(after_help = SET_HELP)]
    Set(SecretSetArgs),
    /// List the secrets and where each may go, never what they are.
    Ls {
        /// One JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Give a secret new bytes; where it may go stays. The next request carries them.
    Rotate {
        /// Its name.
        name: SecretName,
        #[command(flatten)]
        from: SecretFrom,
    },
    /// Forget a secret. Requests that carry it are cut.
    Rm {
        /// Its name.
        name: SecretName,
    },
}

/// `secret set`.
#[derive(Debug, Args)]
pub(crate) struct SecretSetArgs {
    /// Its name.
    pub(crate) name: SecretName,
    /// Where it may go: scheme, host, and perhaps how paths begin; may be given again.
    #[arg(long, required = true, value_name = "URL")]
    pub(crate) to: Vec<Destination>,
    /// How: bearer, basic:USER, header:NAME, or password for mail.
    #[arg(long = "as", value_name = "HOW", default_value = "bearer")]
    pub(crate) how: How,
    /// Only with these methods, such as GET,HEAD.
    #[arg(long = "method", value_name = "METHOD", value_delimiter = ',')]
    pub(crate) methods: Vec<String>,
    #[command(flatten)]
    pub(crate) from: SecretFrom,
}

/// Where its bytes come from, if nobody is asked.
#[derive(Debug, Args)]
pub(crate) struct SecretFrom {
    /// Read it from this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) from_file: Option<PathBuf>,
    /// Read it from what this command prints.
    #[arg(long, value_name = "COMMAND", conflicts_with = "from_file")]
    pub(crate) from_command: Option<String>,
}
