//! What can be typed of policies.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use domain::{AgentName, EgressTarget, ServerName, Span, ToolRef};

/// What policies are compiled from beside the agent's files, and how the answer is printed.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// What a tool server answers to `tools/list`, as JSON: its schemas, which rules about arguments need.
    #[arg(long = "tools", value_name = "SERVER=FILE", value_parser = named::<ServerName>)]
    pub(crate) tools: Vec<(ServerName, PathBuf)>,
    /// One JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `policy`.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, for as long as the command runs")]
pub(crate) enum PolicyCommand {
    /// Print the whole policy of an agent as Cedar, each rule with its file and line.
    #[command(after_help = "Example:\n  lazaret policy show mail-clerk")]
    Show {
        /// An agent's name, or its folder, written with a `/`.
        agent: String,
        #[command(flatten)]
        how: PolicyArgs,
    },
    /// Say whether an agent's files are sound; mistakes are told with file and line.
    #[command(after_help = "Example:\n  lazaret policy check ./mail-clerk")]
    Check {
        /// An agent's name, or its folder, written with a `/`.
        #[arg(default_value = ".")]
        agent: String,
        #[command(flatten)]
        how: PolicyArgs,
    },
    /// Run the tests in the folder `policy` beside an agent's file. Ends with 1 if one fails.
    #[command(after_help = "Example:\n  lazaret policy test ./mail-clerk")]
    Test {
        /// An agent's name, or its folder, written with a `/`.
        #[arg(default_value = ".")]
        agent: String,
        #[command(flatten)]
        how: PolicyArgs,
    },
    /// Say how one call would be decided, by which rules, and where each argument came from.
    #[command(
        after_help = "Example:\n  lazaret policy explain mail-clerk mail__send '{\"to\": \"ada@example.org\"}' --prompt \
                      'write to ada@example.org'"
    )]
    Explain {
        /// An agent's name, or its folder, written with a `/`.
        agent: String,
        /// The tool: `server__tool`.
        #[arg(required_unless_present = "url")]
        tool: Option<ToolRef>,
        /// Its arguments, as JSON.
        #[arg(required_unless_present = "url")]
        arguments: Option<String>,
        /// A request that is to leave, instead of a tool: 'GET https://host/path'.
        #[arg(long, value_name = "REQUEST", conflicts_with_all = ["tool", "arguments"])]
        url: Option<EgressTarget>,
        /// What the person typed.
        #[arg(long, default_value = "")]
        prompt: String,
        /// A result that the session saw before, as JSON.
        #[arg(long, value_name = "TOOL=FILE", value_parser = named::<ToolRef>)]
        seen: Vec<(ToolRef, PathBuf)>,
        #[command(flatten)]
        how: PolicyArgs,
    },
    /// List which requests of an agent were refused, and propose the narrowest rules that would let them leave.
    #[command(after_help = "Example:\n  lazaret policy learn reviewer --since 2h --write")]
    Learn {
        /// An agent's name.
        agent: AgentName,
        /// How far back.
        #[arg(long, default_value = "1d")]
        since: Span,
        /// One JSON document.
        #[arg(long, conflicts_with = "write")]
        json: bool,
        /// Ask, and then write the rules into the agent's file; they count when an owner applies it.
        #[arg(long)]
        write: bool,
    },
    /// Say whether a newer version is narrower or wider, with a call that became possible. Ends with 0 if it is the same,
    /// else with 1.
    #[command(after_help = "Example:\n  lazaret policy diff ./old/mail-clerk ./new/mail-clerk")]
    Diff {
        /// The older: an agent's name, or its folder.
        old: String,
        /// The newer: an agent's name, or its folder.
        new: String,
        #[command(flatten)]
        how: PolicyArgs,
    },
}

/// A name, `=`, and a file.
fn named<N: std::str::FromStr>(text: &str) -> Result<(N, PathBuf), String>
where
    N::Err: std::fmt::Display,
{
    let (name, file) = text.split_once('=').ok_or("write a name, `=` and a file")?;
    Ok((name.parse().map_err(|e: N::Err| e.to_string())?, PathBuf::from(file)))
}
