//! The scripted model: a model provider over real HTTP whose answers follow a script, for the demo and the tests.
//!
//! It speaks Anthropic Messages, OpenAI Responses and Chat Completions, streamed or whole. The model's name picks the
//! [`Script`]; the script's next step follows from the conversation alone. It refuses whoever lacks its key, records
//! what it was sent, and fails in the ways that a test asks for.

mod answer;
mod conversation;
mod script;
mod scripts;
mod server;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use answer::Reply;
use conversation::Conversation;
use script::{Call, Toolset};
use wire::model::Dialect;

pub use script::{Action, Script, Step};
pub use scripts::{FIX, FIXER_REPOSITORY, all as shipped_scripts};
pub use server::serve;

/// Most requests that are remembered; older ones are forgotten.
const MAX_RECORDED: usize = 1000;

/// One provider: its key, its scripts, and what it has seen.
#[derive(Debug)]
pub struct ScriptedModel {
    key: String,
    scripts: Vec<Script>,
    aliases: Vec<(String, String)>,
    recorded: Mutex<VecDeque<Recorded>>,
    faults: Mutex<VecDeque<Fault>>,
    answers: AtomicU64,
}

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Method and path.
    pub line: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body, as far as it is text.
    pub body: String,
}

/// How one request goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An error status instead of an answer, with a `retry-after` in seconds.
    Status {
        /// HTTP status.
        status: u16,
        /// Seconds to wait, if it says so.
        retry_after: Option<u32>,
    },
    /// The connection breaks after so many events (or before a whole answer).
    CutAfter(usize),
    /// So long a pause before each event.
    Slow(Duration),
    /// So many bytes of text more than the script says, in pieces of 16 KiB.
    Huge(usize),
    /// No usage in the answer.
    NoUsage,
    /// A redirect to somewhere else.
    Redirect,
}

impl ScriptedModel {
    /// A provider with the scripts that ship, for whoever has `key`.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            scripts: scripts::all(),
            aliases: Vec::new(),
            recorded: Mutex::default(),
            faults: Mutex::default(),
            answers: AtomicU64::new(0),
        }
    }

    /// Adds a script, in front of one of the same name.
    #[must_use]
    pub fn with_script(mut self, script: Script) -> Self {
        self.scripts.insert(0, script);
        self
    }

    /// Lets the model `model` (such as `claude-sonnet-4-5`) follow the script of another name.
    #[must_use]
    pub fn with_alias(mut self, model: &str, script: &str) -> Self {
        self.aliases.push((model.to_owned(), script.to_owned()));
        self
    }

    /// What was asked so far, oldest first.
    #[must_use]
    pub fn recorded(&self) -> Vec<Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// What tools answered to this model since its last prompt, as it was told last.
    #[must_use]
    pub fn results(&self, model: &str) -> Vec<String> {
        let recorded = self.recorded();
        let read = |request: &Recorded| {
            let dialect = Dialect::of_path(request.line.split_once(' ')?.1)?;
            let conversation = Conversation::read(dialect, &serde_json::from_str(&request.body).ok()?);
            (conversation.model == model).then_some(conversation.results)
        };
        recorded.iter().rev().find_map(read).unwrap_or_default()
    }

    /// Makes a coming request go wrong; several are used up in order, one per request that has the key.
    pub fn fail_next(&self, fault: Fault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push_back(fault);
    }

    fn record(&self, request: Recorded) {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.len() == MAX_RECORDED {
            recorded.pop_front();
        }
        recorded.push_back(request);
    }

    fn next_fault(&self) -> Option<Fault> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn next_number(&self) -> u64 {
        self.answers.fetch_add(1, Ordering::Relaxed)
    }

    fn script_of(&self, model: &str) -> Option<&Script> {
        let model = model.strip_prefix("scripted/").unwrap_or(model);
        let alias = self.aliases.iter().find(|(name, _)| name == model).map(|(_, script)| script.as_str());
        let name = alias.unwrap_or(model);
        self.scripts.iter().find(|script| script.name == name)
    }
}

/// What a script says next in a conversation.
fn next_reply(script: &Script, conversation: &Conversation) -> Reply {
    let Some(step) = script.steps.get(conversation.results.len()) else {
        return Reply::Text("I am done.".to_owned());
    };
    let seen = conversation.results.last().map(String::as_str).unwrap_or_default();
    if let Some(expected) = step.after.as_deref().filter(|expected| !seen.contains(expected)) {
        return Reply::Text(format!(
            "I expected to see `{expected}`, and stop here. What I saw instead:\n{seen}"
        ));
    }
    match &step.action {
        Action::Say { text } => Reply::Text(text.clone()),
        Action::Review => Reply::Text(scripts::review(&conversation.prompt)),
        Action::Tool { name, arguments } => match conversation.host_tool(name) {
            Some(name) => Reply::Call(Call { name: name.to_owned(), input: arguments.clone() }),
            None => Reply::Text(format!("I was not offered the tool `{name}`.")),
        },
        action
        @ (Action::Read { .. } | Action::Edit { .. } | Action::Write { .. } | Action::Shell { .. }) => {
            let call = Toolset::of(&conversation.tools).and_then(|tools| action.call(tools));
            call.map_or_else(|| Reply::Text("I was offered no tools that I know.".to_owned()), Reply::Call)
        }
    }
}
