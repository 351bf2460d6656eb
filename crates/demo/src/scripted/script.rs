//! Scripts are data: steps that a model takes one after the other, written once for every harness.

use serde_json::{Value, json};

/// What a scripted model says and does, step by step. Every tool result leads to the next step; a new prompt starts over.
#[derive(Debug, Clone)]
pub struct Script {
    /// Its name, which is the name of the model that follows it.
    pub name: String,
    /// The steps. After the last one, the model says that it is done.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// What the last tool result must hold for the script to go on; otherwise the model says what it saw, and ends.
    pub after: Option<String>,
    /// What it does.
    pub action: Action,
}

/// What a model can do, in the words of no particular harness.
#[derive(Debug, Clone)]
pub enum Action {
    /// Read a file.
    Read {
        /// Relative to the workspace.
        path: String,
    },
    /// Exchange a text that occurs once in a file.
    Edit {
        /// Relative to the workspace.
        path: String,
        /// Whole lines that are there.
        old: String,
        /// Whole lines instead.
        new: String,
    },
    /// Write a new file.
    Write {
        /// Relative to the workspace.
        path: String,
        /// Its content.
        content: String,
    },
    /// Call a tool of the host's.
    Tool {
        /// `server__tool`.
        name: String,
        /// Its arguments.
        arguments: Value,
    },
    /// Run a command in a shell.
    Shell {
        /// The command.
        command: String,
    },
    /// Answer, and end the turn.
    Say {
        /// The answer.
        text: String,
    },
    /// Answer with a review of the change that is in the prompt.
    Review,
}

/// A call of a tool, in the words of the harness that offered it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) input: Value,
}

/// Whose tools a request offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Toolset {
    Builtin,
    ClaudeCode,
    Codex,
}

impl Toolset {
    /// Tells harnesses apart by the tools they offer.
    pub(super) fn of(tools: &[String]) -> Option<Self> {
        let has = |name: &str| tools.iter().any(|tool| tool == name);
        if has("shell") && has("edit") {
            Some(Self::Builtin)
        } else if has("Bash") && has("Edit") {
            Some(Self::ClaudeCode)
        } else if has("exec_command") {
            Some(Self::Codex)
        } else {
            None
        }
    }
}

impl Script {
    /// A script without steps.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), steps: Vec::new() }
    }

    /// Adds a step that is taken whatever came before.
    #[must_use]
    pub fn then(mut self, action: Action) -> Self {
        self.steps.push(Step { after: None, action });
        self
    }

    /// Adds a step that is taken when the last tool result holds `text`.
    #[must_use]
    pub fn after(mut self, text: &str, action: Action) -> Self {
        self.steps.push(Step { after: Some(text.to_owned()), action });
        self
    }
}

impl Action {
    /// The call that does this with the own tools of a harness; `None` for what needs none of them.
    pub(super) fn call(&self, tools: Toolset) -> Option<Call> {
        use Toolset::{Builtin, ClaudeCode, Codex};
        let call = |name: &str, input: Value| Some(Call { name: name.to_owned(), input });
        // Codex takes this word of a shell for its own tool, whatever tools the model's name makes it offer.
        let patch =
            |patch: String| call("exec_command", json!({"cmd": format!("apply_patch <<'EOF'\n{patch}EOF")}));
        match (self, tools) {
            (Self::Read { path }, Builtin) => call("read", json!({"path": path})),
            (Self::Read { path }, ClaudeCode) => call("Read", json!({"file_path": path})),
            (Self::Read { path }, Codex) => call("exec_command", json!({"cmd": format!("cat '{path}'")})),
            (Self::Edit { path, old, new }, Builtin) => {
                call("edit", json!({"path": path, "old": old, "new": new}))
            }
            (Self::Edit { path, old, new }, ClaudeCode) => {
                call("Edit", json!({"file_path": path, "old_string": old, "new_string": new}))
            }
            (Self::Edit { path, old, new }, Codex) => {
                let lines = prefixed('-', old) + &prefixed('+', new);
                patch(format!("*** Begin Patch\n*** Update File: {path}\n@@\n{lines}*** End Patch\n"))
            }
            (Self::Write { path, content }, Builtin) => {
                call("write", json!({"path": path, "content": content}))
            }
            (Self::Write { path, content }, ClaudeCode) => {
                call("Write", json!({"file_path": path, "content": content}))
            }
            (Self::Write { path, content }, Codex) => {
                let lines = prefixed('+', content);
                patch(format!("*** Begin Patch\n*** Add File: {path}\n{lines}*** End Patch\n"))
            }
            (Self::Shell { command }, Builtin) => call("shell", json!({"command": command})),
            (Self::Shell { command }, ClaudeCode) => {
                call("Bash", json!({"command": command, "description": "Runs a command"}))
            }
            (Self::Shell { command }, Codex) => call("exec_command", json!({"cmd": command})),
            (Self::Tool { .. } | Self::Say { .. } | Self::Review, _) => None,
        }
    }
}

fn prefixed(sign: char, text: &str) -> String {
    text.lines().map(|line| format!("{sign}{line}\n")).collect()
}
