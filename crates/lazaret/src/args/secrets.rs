//! What can be typed of secrets.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use domain::{Destination, How, SecretName, Subscription};

const SET_HELP: &str = "\
Examples:
  lazaret secret set github --to https://api.github.com --method GET
  pass show anthropic | lazaret secret set anthropic --to https://api.anthropic.com --as header:x-api-key
  lazaret secret set npm --to https://registry.npmjs.org --from-command 'op read op://team/npm/token'
  lazaret secret set corp-proxy --to https://proxy.example.com:3129 --as proxy:ann
  lazaret secret set mail --to imaps://imap.example.com --to smtps://smtp.example.com --as password

An agent may use it only where its agent.toml says so too:
  [secrets]
  github = [\"https://api.github.com/repos/acme\"]

It takes the place of a secret of the same name. Its bytes never enter a cell, and are never shown again.";

const LOGIN_HELP: &str = "\
Examples:
  lazaret secret login claude --subscription claude
  lazaret secret login claude --subscription claude --paste       # any browser; what it ends with is pasted
  lazaret secret login chatgpt --subscription chatgpt --device
  lazaret secret login crm --server https://mcp.example.com/mcp
  lazaret secret login wiki --issuer https://id.example.com --client lazaret --to https://wiki.example.com
  lazaret secret login ci --issuer https://id.example.com --client lazaret --device \\
    --to https://ci.example.com
  lazaret secret login mail --issuer https://id.example.com --client lazaret --scope mail \\
    --to imaps://imap.example.com --to smtps://smtp.example.com
  lazaret secret login wiki --server https://wiki.example.com/mcp --trust https://id.example.com
  lazaret secret login bot --token-url https://id.example.com/token --client lazaret \\
    --to https://ci.example.com --refresh-token --from-command 'pass show bot-refresh'
  lazaret secret login crm     # once more, as before

Without --device or --paste, a browser on this machine comes back to a port of it that listens for this one
log-in. Of a subscription all else is known: its token goes to its vendor only, once config.toml says
  [providers.anthropic]
  key = \"secret:claude\"
(chatgpt: [providers.chatgpt]). Whether yours may be used so is for the vendor's terms to say.

The token is a secret like others: bound to where it may go, and used by agents only where their agent.toml
says so.";

/// `secret`.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Store a secret, and say where it may go. It is asked for, or read from standard input.
    #[command(after_help = SET_HELP)]
    Set(SecretSetArgs),
    /// Log in somewhere (OAuth), and store the token as a secret that is renewed by itself.
    #[command(after_help = LOGIN_HELP)]
    Login(Box<SecretLoginArgs>),
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
    /// How: bearer, basic:USER, header:NAME, password for mail, or proxy:USER at the outer proxy.
    #[arg(long = "as", value_name = "HOW", default_value = "bearer")]
    pub(crate) how: How,
    /// Only with these methods, such as GET,HEAD.
    #[arg(long = "method", value_name = "METHOD", value_delimiter = ',')]
    pub(crate) methods: Vec<String>,
    #[command(flatten)]
    pub(crate) from: SecretFrom,
}

/// `secret login`.
#[derive(Debug, Args)]
pub(crate) struct SecretLoginArgs {
    /// Its name.
    pub(crate) name: SecretName,
    #[command(flatten)]
    pub(crate) at: LoginAtArgs,
    /// Where the token may go; without it, to the tool server. May be given again.
    #[arg(long, value_name = "URL")]
    pub(crate) to: Vec<Destination>,
    /// How: bearer, or header:NAME.
    #[arg(long = "as", value_name = "HOW", default_value = "bearer")]
    pub(crate) how: How,
    /// The client's name at the authorization server. Without it: registers one, where that is offered.
    #[arg(long, value_name = "NAME")]
    pub(crate) client: Option<String>,
    /// The file with the client's secret.
    #[arg(long, value_name = "FILE", requires = "client")]
    pub(crate) client_secret_file: Option<PathBuf>,
    /// What the token shall allow. Without it: what the tool server asks for.
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    pub(crate) scopes: Vec<String>,
    /// Show a code to type at any browser, instead of waiting for one on this machine.
    #[arg(long, conflicts_with = "refresh_token")]
    pub(crate) device: bool,
    /// Log in with any browser, and paste what it ends with: the code of its page, or its address.
    #[arg(long, conflicts_with_all = ["device", "refresh_token"])]
    pub(crate) paste: bool,
    /// A host that takes part in the log-in beside the one where it begins, without a question. May be given again.
    #[arg(long, value_name = "URL")]
    pub(crate) trust: Vec<String>,
    /// Take a refresh token that was given elsewhere. It is asked for, or read from standard input.
    #[arg(long)]
    pub(crate) refresh_token: bool,
    #[command(flatten)]
    pub(crate) from: SecretFrom,
}

/// Where a log-in begins; without any: where it did before.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct LoginAtArgs {
    /// The vendor of a subscription to models: claude or chatgpt.
    #[arg(long, value_name = "WHOSE", conflicts_with_all = ["client", "to", "how", "scopes", "trust"])]
    pub(crate) subscription: Option<Subscription>,
    /// A tool server, which says who gives tokens for it.
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// An authorization server.
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: Option<String>,
    /// A token endpoint, of a server that doesn't say where it is.
    #[arg(long, value_name = "URL", requires_all = ["refresh_token", "client"], conflicts_with_all = ["device", "paste"])]
    pub(crate) token_url: Option<String>,
}

/// Where its bytes come from, if nobody is asked.
#[derive(Debug, Clone, Args)]
pub(crate) struct SecretFrom {
    /// Read it from this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) from_file: Option<PathBuf>,
    /// Read it from what this command prints.
    #[arg(long, value_name = "COMMAND", conflicts_with = "from_file")]
    pub(crate) from_command: Option<String>,
}
