//! What can be typed.

mod people;
mod policy;
mod secrets;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use domain::{AgentName, ImageName, ModelName};

pub(crate) use people::{
    ApprovalsArgs, ApproveArgs, ClassifyArgs, DenyArgs, EntriesArgs, GroupCommand, LabelsCommand,
    LedgerCommand, LowerArgs, MailboxArgs, PersonCommand, ServerAddArgs, ServerCommand,
};
pub(crate) use policy::{PolicyArgs, PolicyCommand};
pub(crate) use secrets::{LoginAtArgs, SecretCommand, SecretFrom, SecretLoginArgs, SecretSetArgs};

const EXIT_CODES: &str = "\
Exit codes of `run` and `exec`:
  0-99   the agent's own (above 99: 99)
  124    a limit was reached
  125    Lazaret or the cell failed
  126    refused: a rule forbids it on this host
  128+n  the agent was ended by signal n
  130    stopped by a person
Other commands: 0 done, 1 failed. A wrong command line: 2.";

/// Run AI agents that nobody has to trust: each in a container inside a micro VM of its own.
#[derive(Debug, Parser)]
#[command(name = "lazaret", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a session of an agent: its answer goes to standard output, progress to standard error.
    #[command(after_help = RUN_HELP)]
    Run(RunArgs),
    /// Make, list, show and apply agents.
    Agent {
        #[command(subcommand)]
        command: AgentCommand,
    },
    /// List sessions.
    Ps(PsArgs),
    /// Show what a session printed.
    Logs(LogsArgs),
    /// Run a program in the cell of a running session.
    #[command(
        after_help = "Example:\n  lazaret exec -it fixer bash\n\nTo end a program that doesn't answer, press Ctrl-] twice."
    )]
    Exec(ExecArgs),
    /// Stop sessions, in order within 5 seconds.
    Stop(StopArgs),
    /// Add, list, show and remove tool servers.
    Server {
        #[command(subcommand)]
        command: ServerCommand,
    },
    /// Store, list, rotate and remove secrets, which agents use and never see.
    Secret {
        #[command(subcommand)]
        command: SecretCommand,
    },
    /// List the questions that wait for a person: what agents want to do and may not by themselves.
    #[command(after_help = "Example:\n  lazaret approvals --watch")]
    Approvals(ApprovalsArgs),
    /// Show a question in full, and say yes to exactly that, once.
    #[command(after_help = "Example:\n  lazaret approve 4q8z")]
    Approve(ApproveArgs),
    /// Show a question in full, and say no.
    #[command(after_help = "Example:\n  lazaret deny 4q8z --why 'we don\'t know this address'")]
    Deny(DenyArgs),
    /// Read and verify the ledger: every decision, question, answer and act.
    Ledger {
        #[command(subcommand)]
        command: LedgerCommand,
    },
    /// List, add and remove the people of this installation.
    Person {
        #[command(subcommand)]
        command: PersonCommand,
    },
    /// List and change groups of people, which policies name to answer questions.
    Group {
        #[command(subcommand)]
        command: GroupCommand,
    },
    /// List what agents' disks and tool servers hold, and lower it by a person's word.
    Labels {
        #[command(subcommand)]
        command: LabelsCommand,
    },
    /// Show, check, test, explain and compare what agents may do.
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Get, list and remove the images that cells run.
    Image {
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// Say what stands between an agent and this host: boots a VM and looks.
    Doctor {
        /// One JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Run the daemon in the foreground. Other commands start it by themselves.
    Serve(ServeArgs),
    /// Watch an agent work, one obey a stranger's mail, one try to get out. Needs no key and no account.
    Demo(DemoArgs),
    /// Print completions for a shell.
    #[command(
        after_help = "Example:\n  lazaret completions bash > ~/.local/share/bash-completion/completions/lazaret"
    )]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Part of a cell.
    #[command(hide = true)]
    Jail,
    /// Part of a cell.
    #[command(hide = true)]
    Door,
}

const RUN_HELP: &str = "\
Examples:
  lazaret run reviewer 'What does this do?' < main.rs
  git diff | lazaret run reviewer
  lazaret run fixer --workspace . 'Make the tests pass'
  lazaret run -it ./my-agent

With --workspace, the tracked files of a folder are copied into the cell (never .env files or git's own). What the
agent changed comes back as a patch that is shown, and applied only on a yes or with --apply. Files that run by
themselves later (hooks, .envrc, editor tasks, CI workflows, agent settings) need a yes of their own or --apply-active.

Ctrl-C ends the session in order within 5 seconds; a second one at once. With -t, Ctrl-C goes to the agent, and
Ctrl-] twice ends the session.

Exit codes:
  0-99 the agent's own; 124 a limit was reached; 125 Lazaret or the cell failed; 126 refused, a rule forbids it on this
  host; 128+n ended by signal n; 130 stopped by a person; 2 wrong command line.";

/// `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// An agent's name, or the folder of its agent.toml (with a `/`).
    pub(crate) agent: String,
    /// What to ask. Standard input, when it is no terminal, is input as well.
    pub(crate) prompt: Option<String>,
    /// Send standard input even when it is a terminal.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Lend the agent this terminal.
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) tty: bool,
    /// Print every event as a line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Run even where only an emulated VM is to be had, which is no security boundary.
    #[arg(long)]
    pub(crate) allow_emulation: bool,
    /// Boot a kernel of its own instead of a clone of a template: slower, and shares nothing.
    #[arg(long)]
    pub(crate) cold: bool,
    /// Which of the agent's models to use first.
    #[arg(long, value_name = "PROVIDER/MODEL")]
    pub(crate) model: Option<ModelName>,
    #[command(flatten)]
    pub(crate) workspace: WorkspaceArgs,
}

/// The workspace of `run`.
#[derive(Debug, Args)]
pub(crate) struct WorkspaceArgs {
    /// Copy the tracked files of this folder into the cell, and bring the changes back as a patch.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,
    /// Apply the patch without asking.
    #[arg(long, requires = "workspace")]
    pub(crate) apply: bool,
    /// Also apply, without asking, files that run by themselves later.
    #[arg(long, requires = "apply")]
    pub(crate) apply_active: bool,
    /// Write the patch to this file instead of standard error.
    #[arg(long, value_name = "FILE", requires = "workspace")]
    pub(crate) patch: Option<PathBuf>,
}

/// `agent`.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Make an agent: a folder with an agent.toml to edit.
    New {
        /// Its name.
        name: AgentName,
        /// What drives the model: builtin, claude-code or codex.
        #[arg(long, default_value = "builtin")]
        harness: String,
        /// Its model.
        #[arg(long, value_name = "PROVIDER/MODEL")]
        model: Option<ModelName>,
    },
    /// List the agents, examples too.
    Ls {
        /// One JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Show all that an agent's files ask for, and apply them on a yes: with tools or a way out it starts only then.
    Apply(ApplyArgs),
    /// Show what an agent may do.
    Show {
        /// Its name, or the folder of its agent.toml (with a `/`).
        agent: String,
        /// One JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
}

/// `agent apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// Its name.
    pub(crate) agent: AgentName,
    /// Don't ask. What is applied is shown all the same.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Show all of it, however long it is: what isn't shown can't be applied.
    #[arg(long)]
    pub(crate) all: bool,
    /// Only show it, as one JSON document.
    #[arg(long, conflicts_with_all = ["yes", "all"])]
    pub(crate) json: bool,
}

/// `ps`.
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Ended ones too.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// One JSON document instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// An id, its beginning, or an agent's name (then its newest session).
    pub(crate) session: String,
    /// Go on until the session ends.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Print every event as a line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Send standard input even when it is a terminal.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Lend the program this terminal.
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// A session's id, its beginning, or an agent's name.
    pub(crate) session: String,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) argv: Vec<String>,
}

/// `stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Ids, their beginnings, or agents' names.
    #[arg(required_unless_present = "daemon")]
    pub(crate) sessions: Vec<String>,
    /// At once.
    #[arg(long)]
    pub(crate) now: bool,
    /// The daemon itself, with every session.
    #[arg(long, conflicts_with_all = ["sessions", "now"])]
    pub(crate) daemon: bool,
}

/// `image`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Get an image from a registry.
    #[command(after_help = "Example:\n  lazaret image pull docker.io/library/debian:12")]
    Pull {
        /// An OCI reference.
        reference: ImageName,
    },
    /// Take an image from an OCI layout (folder or tar) or a `docker save` archive.
    Import {
        /// The folder or archive.
        path: PathBuf,
        /// What to call it.
        #[arg(long)]
        name: Option<ImageName>,
    },
    /// Build an image: base, claude-code or codex, or a package of npm or PyPI with all that it needs.
    ///
    /// A package is checked against the registry's digests. None of its scripts runs.
    #[command(
        after_help = "Examples:\n  lazaret image build npm:@modelcontextprotocol/server-filesystem@2026.8.31\n  \
        lazaret image build pypi:mcp-server-time==2026.10.19"
    )]
    Build {
        /// Which: base, claude-code, codex, npm:NAME@VERSION, or pypi:NAME==VERSION.
        name: ImageName,
    },
    /// Show the packages that an image was built of.
    Show {
        /// Which.
        name: ImageName,
    },
    /// List the images.
    Ls {
        /// One JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Remove images.
    Rm {
        /// Their names.
        #[arg(required = true)]
        names: Vec<ImageName>,
    },
}

/// `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Leave the terminal and log to a file.
    #[arg(long, hide = true)]
    pub(crate) background: bool,
}

/// `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Also try every attack against single layers: as root of the guest, and from the container.
    #[arg(long)]
    pub(crate) layers: bool,
    /// Only this act: 1 the agent at work, 2 the stranger's mail, 3 keys that the agent can't find, 4 the hostile agent.
    #[arg(long, value_name = "ACT", conflicts_with = "layers", value_parser = clap::value_parser!(u8).range(1..=i64::from(demo::ACTS)))]
    pub(crate) act: Option<u8>,
    /// One JSON document instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}
