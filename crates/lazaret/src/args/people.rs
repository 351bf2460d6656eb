//! What can be typed of the people's side: questions, the ledger, who is who.

use std::path::PathBuf;

use api::PasswordIn;
use clap::{ArgGroup, Args, Subcommand};
use domain::{
    AgentName, Confidentiality, GroupName, ImageName, Integrity, PersonName, Role, SecretName, ServerName,
    TeamName,
};

/// `approvals`.
#[derive(Debug, Args)]
pub(crate) struct ApprovalsArgs {
    /// Go on, and show questions as they are asked.
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// One JSON document; with --watch, one a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `approve`.
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// The question's id, or its last four letters or more.
    pub(crate) question: String,
    /// Also the same again in this session. Only for what can be undone.
    #[arg(long)]
    pub(crate) session: bool,
    /// Show all of it, however long it is: what isn't shown whole is not approved.
    #[arg(long)]
    pub(crate) all: bool,
    /// Don't ask once more. The question is shown all the same.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// `deny`.
#[derive(Debug, Args)]
pub(crate) struct DenyArgs {
    /// The question's id, or its last four letters or more.
    pub(crate) question: String,
    /// Why. The agent reads it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: Option<String>,
}

/// Which entries of the ledger.
#[derive(Debug, Args)]
pub(crate) struct EntriesArgs {
    /// Of this agent only.
    #[arg(long)]
    pub(crate) agent: Option<AgentName>,
    /// Of this session only: its id.
    #[arg(long)]
    pub(crate) session: Option<domain::SessionId>,
    /// Of this kind only, such as asked, answered, committed, refused.
    #[arg(long)]
    pub(crate) kind: Option<String>,
}

/// `ledger`.
#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Show the newest entries.
    Tail {
        /// How many.
        #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
        #[command(flatten)]
        which: EntriesArgs,
        /// One JSON document instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Show one entry whole, what is sealed in it too.
    Show {
        /// Its number.
        seq: u64,
    },
    /// Verify that no entry was changed, removed, moved or cut off.
    #[command(
        after_help = "The newest entry is remembered in Lazaret's state folder, and verified against the next time. To \
                      catch whoever can write there too, keep it elsewhere:\n  lazaret ledger verify --json > head.json\n  \
                      lazaret ledger verify --seen head.json"
    )]
    Verify {
        /// Against the newest entry of this earlier answer.
        #[arg(long, value_name = "FILE")]
        seen: Option<PathBuf>,
        /// One JSON document instead of a line.
        #[arg(long)]
        json: bool,
    },
    /// Make what is sealed in an entry unreadable for good: arguments, what a question showed, why somebody said no.
    #[command(
        after_help = "The entry stays, and the ledger still verifies; who erased it and why is an entry of its own. What a call \
                      said may stand in several entries: its question, its commit."
    )]
    Erase {
        /// Its number.
        seq: u64,
        /// Why, for the ledger.
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// Print every entry, one JSON document a line.
    Export {
        #[command(flatten)]
        which: EntriesArgs,
    },
}

/// `person`.
#[derive(Debug, Subcommand)]
pub(crate) enum PersonCommand {
    /// List everybody.
    Ls {
        /// One JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Add somebody, or change what they may do.
    Add {
        /// Their name here.
        name: PersonName,
        /// What they may do: viewer, approver or owner.
        #[arg(long, default_value = "approver")]
        role: Role,
        /// The user of this machine that they are: its number.
        #[arg(long)]
        uid: Option<u32>,
    },
    /// Remove somebody.
    Rm {
        /// Their name.
        name: PersonName,
    },
}

/// `labels`.
#[derive(Debug, Subcommand)]
pub(crate) enum LabelsCommand {
    /// List what agents' disks and tool servers hold.
    Ls {
        /// Sessions, too.
        #[arg(long)]
        sessions: bool,
        /// One JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Say that something holds no more than this. What reads it joins these labels from then on.
    #[command(
        after_help = "Example:\n  lazaret labels lower disk:mail-clerk --confidentiality internal --integrity organisation \\\n    --why 'wiped it'"
    )]
    Lower(LowerArgs),
}

/// `labels lower`.
#[derive(Debug, Args)]
pub(crate) struct LowerArgs {
    /// What: disk:AGENT or server:TEAM/NAME, as they are listed.
    pub(crate) what: String,
    /// The most confidential that it holds: public, internal, confidential or secret.
    #[arg(long)]
    pub(crate) confidentiality: Confidentiality,
    /// The least trusted whose words it holds: person, organisation, third-party or web.
    #[arg(long)]
    pub(crate) integrity: Integrity,
    /// A team whose data it still holds; may be given again.
    #[arg(long = "team")]
    pub(crate) teams: Vec<TeamName>,
    /// Why, for the ledger.
    #[arg(long)]
    pub(crate) why: String,
}

/// `group`.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List the groups.
    Ls {
        /// One JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Put people into a group.
    Add {
        /// The group.
        group: GroupName,
        /// Who.
        #[arg(required = true)]
        people: Vec<PersonName>,
    },
    /// Take people out of a group.
    Rm {
        /// The group.
        group: GroupName,
        /// Who.
        #[arg(required = true)]
        people: Vec<PersonName>,
    },
}

const SERVER_ADD_HELP: &str = "\
Examples:
  lazaret server add mail --url http://127.0.0.1:9000/mcp --table mail
  lazaret server add crm --url https://mcp.example.com/mcp --secret crm
  lazaret server add files --table filesystem --image npm:@modelcontextprotocol/server-filesystem@2026.8.31 -- \
mcp-server-filesystem /workspace
  lazaret server add mail --imap imaps://imap.example.com --smtp smtps://smtp.example.com --user ada@example.com \
--password secret:mail

A program after `--` speaks MCP over its standard streams. It never runs on this host: each team that uses it gets a
cell of its own for it, with a disk that lasts, without models or tools, and without network but for what --egress names. Its limits are in servers.toml.

A server that is changed keeps its table if it has the same address, is a mailbox still, is the same package and program of it (of any
version), or the same other image (of any tag) with the same command; what stays and what is dropped is said.";

/// `server add`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("where").required(true).args(["url", "image", "imap"])))]
pub(crate) struct ServerAddArgs {
    /// What agents call it.
    pub(crate) name: ServerName,
    /// Where it listens: an MCP endpoint over HTTP.
    #[arg(long, conflicts_with_all = ["command", "allow_emulation"])]
    pub(crate) url: Option<String>,
    /// The image of its cells.
    #[arg(long, requires = "command", conflicts_with = "secret")]
    pub(crate) image: Option<ImageName>,
    /// The mailbox for which the daemon answers.
    #[command(flatten)]
    pub(crate) mailbox: MailboxArgs,
    /// The table that says what its tools do: filesystem, everything, github, hubspot, mail, or a file beside servers.toml.
    #[arg(long)]
    pub(crate) table: Option<String>,
    /// A team whose agents may be given its tools; may be given more than once. Without it: every team.
    #[arg(long = "team")]
    pub(crate) teams: Vec<TeamName>,
    /// The secret of the vault that it is shown: `lazaret secret set NAME --to URL` stores it.
    #[arg(long, value_name = "NAME")]
    pub(crate) secret: Option<SecretName>,
    /// Run its cells even where only an emulated VM is to be had, which is no security boundary.
    #[arg(long)]
    pub(crate) allow_emulation: bool,
    /// A request that may leave its cells, METHODS URL as in an agent's file; may be given more than once.
    #[arg(long, value_name = "RULE", requires = "image")]
    pub(crate) egress: Vec<String>,
    /// A secret of the vault that such requests carry, and where; may be given more than once.
    #[arg(long, value_name = "NAME=PLACE", value_parser = lent, requires = "egress")]
    pub(crate) lend: Vec<(SecretName, String)>,
    /// The program in its cells and its arguments.
    #[arg(last = true, requires = "image")]
    pub(crate) command: Vec<String>,
}

/// Reads `NAME=PLACE`.
fn lent(text: &str) -> Result<(SecretName, String), String> {
    let (name, place) =
        text.split_once('=').ok_or("write it as NAME=PLACE, such as api=https://api.example.com")?;
    Ok((name.parse().map_err(|e| format!("{e}"))?, place.to_owned()))
}

/// A mailbox, of `server add`.
#[derive(Debug, Args)]
pub(crate) struct MailboxArgs {
    /// Where the mail is: imaps://HOST or imaps://HOST:PORT. The daemon itself answers for a mailbox.
    #[arg(long, value_name = "ADDRESS", requires_all = ["smtp", "user", "password"], conflicts_with = "secret")]
    pub(crate) imap: Option<String>,
    /// Where mail is sent: smtps://HOST or smtps://HOST:PORT; smtp:// for STARTTLS.
    #[arg(long, value_name = "ADDRESS", requires = "imap")]
    pub(crate) smtp: Option<String>,
    /// Who signs in at both.
    #[arg(long, requires = "imap")]
    pub(crate) user: Option<String>,
    /// Whom mail is from. Without it: the user.
    #[arg(long, value_name = "ADDRESS", requires = "imap")]
    pub(crate) from: Option<String>,
    /// Where the password is: secret:NAME in the vault, perhaps a log-in, or env:VARIABLE of the daemon's environment.
    #[arg(long, value_name = "WHERE", requires = "imap")]
    pub(crate) password: Option<PasswordIn>,
}

const CLASSIFY_HELP: &str = "\
Without --suggest or --from, asks at the terminal, tool by tool, what nobody has said yet.

Examples:
  lazaret server classify crm
  lazaret server classify crm --suggest > crm.toml
  lazaret server classify crm --from crm.toml";

/// `server classify`.
#[derive(Debug, Args)]
pub(crate) struct ClassifyArgs {
    /// The server.
    pub(crate) name: ServerName,
    /// The team whose connection is meant. Without it: the first that may use it.
    #[arg(long)]
    pub(crate) team: Option<TeamName>,
    /// Print a table to edit, with what the server itself says as suggestions.
    #[arg(long, conflicts_with = "from")]
    pub(crate) suggest: bool,
    /// Take the table in this file.
    #[arg(long)]
    pub(crate) from: Option<PathBuf>,
}

/// `server`.
#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Add a tool server, or change one: teams and limits stay unless they are given anew, and the table while it is the same program.
    #[command(after_help = SERVER_ADD_HELP)]
    Add(Box<ServerAddArgs>),
    /// Show what is known of a tool server: where it is, and its tools as it lists them now.
    Show {
        /// Its name.
        name: ServerName,
        /// The team whose connection is meant. Without it: the first that may use it.
        #[arg(long)]
        team: Option<TeamName>,
        /// One JSON document instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Say what a server's tools do. Until a person has, the worst is assumed of each.
    #[command(after_help = CLASSIFY_HELP)]
    Classify(ClassifyArgs),
    /// List the tool servers.
    Ls {
        /// One JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Remove a tool server.
    Rm {
        /// Its name.
        name: ServerName,
    },
}
