//! The tools of the built-in harness: its own act in the container, with the container's rights and no more; the host's
//! are called through the door, which decides.

mod files;
mod shell;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::conversation::{Tool, ToolCall, ToolResult};
use super::mcp::HostTools;

/// Most bytes that a tool answers to the model.
const MAX_ANSWER: usize = 32 * 1024;

/// The tools, relative to one folder, and those of the host.
#[derive(Debug)]
pub(super) struct Tools {
    root: PathBuf,
    host: Option<HostTools>,
}

impl Tools {
    /// Tools whose relative paths start at `root`, and perhaps the host's.
    pub(super) fn new(root: PathBuf, host: Option<HostTools>) -> Self {
        Self { root, host }
    }

    /// The tools of the container as the model sees them.
    pub(super) fn list() -> Vec<Tool> {
        let path = |what: &str| json!({"type": "string", "description": what});
        let schema = |properties: Value, required: &[&str]| json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
        let tool = |name: &'static str, description: &'static str, schema| Tool {
            name: name.into(),
            description: description.into(),
            schema,
        };
        vec![
            tool(
                "shell",
                "Runs a command with a POSIX shell in the workspace and gives its output and exit code. \
                 Its process group is killed when it ends or times out.",
                schema(
                    json!({
                        "command": {"type": "string"},
                        "timeout_seconds": {"type": "integer", "minimum": 1, "maximum": shell::MAX_TIMEOUT.as_secs()},
                    }),
                    &["command"],
                ),
            ),
            tool("read", "Gives the text of a file.", schema(json!({"path": path("the file")}), &["path"])),
            tool(
                "write",
                "Writes a file, replacing what was there; makes its folders.",
                schema(
                    json!({"path": path("the file"), "content": {"type": "string"}}),
                    &["path", "content"],
                ),
            ),
            tool(
                "edit",
                "Replaces the one place in a file where `old` stands by `new`.",
                schema(
                    json!({"path": path("the file"), "old": {"type": "string"}, "new": {"type": "string"}}),
                    &["path", "old", "new"],
                ),
            ),
            tool("list", "Lists a folder.", schema(json!({"path": path("the folder")}), &["path"])),
            tool(
                "search",
                "Finds the lines that contain `pattern`, as plain text, in a file or in all files below a folder.",
                schema(json!({"pattern": {"type": "string"}, "path": path("where")}), &["pattern", "path"]),
            ),
        ]
    }

    /// What a call is about, for a line of progress.
    pub(super) fn summary(call: &ToolCall) -> String {
        let arguments = call.object().unwrap_or_default();
        let of = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        match call.name.as_str() {
            "shell" => of("command"),
            "search" => format!("{} in {}", of("pattern"), of("path")),
            name if name.contains("__") => Value::Object(arguments).to_string(),
            _other => of("path"),
        }
    }

    /// Runs a call. Whatever goes wrong is told to the model.
    pub(super) async fn call(&self, call: &ToolCall) -> ToolResult {
        let host = self.host.as_ref().filter(|host| host.has(&call.name));
        let outcome = match (call.object(), host) {
            (Ok(arguments), Some(host)) => host.call(&call.name, Value::Object(arguments)).await,
            (Ok(arguments), None) => self.run(&call.name, &arguments).await,
            (Err(why), _) => Err(why),
        };
        let (text, is_error) = match outcome {
            Ok(text) => (text, false),
            Err(why) => (why, true),
        };
        ToolResult { id: call.id.clone(), text: shorten(text), is_error }
    }

    async fn run(&self, name: &str, arguments: &Map<String, Value>) -> Result<String, String> {
        let of = |name: &str| {
            arguments
                .get(name)
                .and_then(Value::as_str)
                .ok_or_else(|| format!("the argument `{name}` is missing, or is not a string"))
        };
        let path = || of("path").map(|path| self.root.join(path));
        match name {
            "shell" => {
                let timeout = match arguments.get("timeout_seconds") {
                    None | Some(Value::Null) => shell::DEFAULT_TIMEOUT,
                    Some(value) => Duration::from_secs(
                        value.as_u64().filter(|s| *s > 0).ok_or("a bad `timeout_seconds`")?,
                    ),
                };
                shell::run(of("command")?, &self.root, timeout.min(shell::MAX_TIMEOUT)).await
            }
            "read" => files::read(&path()?),
            "write" => files::write(&path()?, of("content")?),
            "edit" => files::edit(&path()?, of("old")?, of("new")?),
            "list" => files::list(&path()?),
            "search" => files::search(of("pattern")?, &path()?),
            other => Err(format!("there is no tool `{other}`")),
        }
    }
}

/// Cuts the middle out of a text that is too long: the ends of an output matter most.
fn shorten(text: String) -> String {
    if text.len() <= MAX_ANSWER {
        return text;
    }
    let boundary = |at: &usize| text.is_char_boundary(*at);
    let head = (0..=MAX_ANSWER / 2).rev().find(boundary).unwrap_or(0);
    let tail = (text.len() - MAX_ANSWER / 2..).find(boundary).unwrap_or(text.len());
    let (start, end) = (text.get(..head).unwrap_or_default(), text.get(tail..).unwrap_or_default());
    format!("{start}\n[… {} bytes left out …]\n{end}", tail - head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arguments: &Value) -> ToolCall {
        ToolCall { id: "c".into(), name: name.into(), arguments: arguments.to_string() }
    }

    #[tokio::test]
    async fn wrong_calls_are_told_to_the_model() {
        let tools = Tools::new("/".into(), None);
        for (wrong, expect) in [
            (call("fly", &json!({})), "no tool `fly`"),
            (call("read", &json!({})), "`path` is missing"),
            (call("read", &json!({"path": 3})), "`path` is missing"),
            (call("shell", &json!({"command": "true", "timeout_seconds": -1})), "timeout_seconds"),
            (
                ToolCall { arguments: "{\"path\":".into(), name: "read".into(), id: "c".into() },
                "not valid JSON",
            ),
            (call("read", &json!([])), "must be a JSON object"),
        ] {
            let result = tools.call(&wrong).await;
            assert!(result.is_error && result.text.contains(expect), "{result:?}");
        }
    }

    #[test]
    fn long_answers_lose_their_middle() {
        let text = format!("start{}end", "é".repeat(MAX_ANSWER));
        let short = shorten(text);
        assert!(short.starts_with("start") && short.ends_with("end") && short.contains("left out"));
        assert!(short.len() < MAX_ANSWER + 100);
    }

    #[test]
    fn each_tool_is_described_with_a_schema() {
        let names: Vec<_> = Tools::list().into_iter().map(|t| t.name).collect();
        assert_eq!(names, ["shell", "read", "write", "edit", "list", "search"]);
    }
}
