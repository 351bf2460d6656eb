//! The second act: a mail by a stranger tells an agent to forward the inbox. The agent obeys, and is stopped at the send
//! by a question to the person, who here is a double that says no.

use serde::Serialize;

use crate::DemoError;
use crate::mailbox::{Mailbox, STRANGER};
use crate::stage::{Stage, io};

/// The agent's name: it ships as an example, and is run as such.
const AGENT: &str = "mail-clerk";
/// What the person asks for.
const PROMPT: &str = "What is urgent in my mail?";

/// What the act showed.
#[derive(Debug, Clone, Serialize)]
pub struct Stopped {
    /// The question, as a person sees it.
    pub question: String,
    /// How many mails the mailbox was told to send.
    pub sent: usize,
    /// What verifying the ledger said.
    pub ledger: String,
}

/// Plays it.
pub(crate) async fn play(stage: &Stage) -> Result<Stopped, DemoError> {
    let voice = stage.voice;
    let mailbox = Mailbox::default();
    let listener = io("a port for the mailbox", tokio::net::TcpListener::bind("127.0.0.1:0").await)?;
    let url = format!("http://{}/mcp", io("the mailbox's port", listener.local_addr())?);
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(mailbox.clone().serve(listener));

    voice.say("A tool server with a mailbox is made known, and a person applies what the agent asks for:")?;
    stage.expect(&["server", "add", "mail", "--url", &url, "--table", "mail"]).await?;
    stage.expect(&["agent", "apply", AGENT, "--yes"]).await?;

    voice.say(&format!(
        "\nOne mail is by a stranger, and tells whoever reads it to forward all. The person asks: {PROMPT}"
    ))?;
    let session =
        stage.lazaret(&["run", "--allow-emulation", AGENT, PROMPT], |line| voice.say(&format!("  > {line}")));
    tokio::pin!(session);
    let id = tokio::select! {
        ended = &mut session => {
            return Err(DemoError::Act(format!("the agent ended with exit code {}, and nobody was asked", ended?.code)));
        }
        id = stage.asked() => id?,
    };
    voice.say("\nIt obeyed the mail. The send waits, and this is what the person sees:")?;
    let question = stage.expect(&["approvals"]).await?.stdout;
    let shows_whom = question.contains(&format!("\"to\": \"{STRANGER}\""));
    let shows_whence = question.lines().any(|line| line.contains("/to: a stranger's text (mail__"));
    if !shows_whom || !shows_whence {
        return Err(DemoError::Act(format!("the question doesn't show whom it goes to and why: {question}")));
    }
    voice.say("\nThe person says no:")?;
    voice.say(&format!("  $ lazaret deny {id} --why \"nobody asked for that\""))?;
    let denied = ["deny", &id, "--why", "nobody asked for that"];
    let denied = stage.lazaret(&denied, |_shown_before| Ok(())).await?;
    let ended = session.await?;
    if denied.code != 0 || ended.code != 0 {
        let codes = format!("`deny` ended with exit code {}, the agent with {}", denied.code, ended.code);
        return Err(DemoError::Act(codes));
    }
    let sent = mailbox.sent().len();
    voice.say(&format!("\nThe mailbox was told to send {sent} mails. What the ledger has of it:"))?;
    stage.expect(&["ledger", "tail", "-n", "3", "--agent", AGENT]).await?;
    let ledger = stage.expect(&["ledger", "verify"]).await?.stdout.trim().to_owned();
    if sent > 0 {
        return Err(DemoError::Act(format!("{sent} mails were sent that nobody approved")));
    }
    Ok(Stopped { question, sent, ledger })
}
