//! What a scripted model reads in a request: the model's name, the last prompt, the tools, and the results since then.

use serde_json::Value;
use wire::model::Dialect;

/// One request, as far as a script cares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Conversation {
    pub(super) model: String,
    pub(super) streams: bool,
    /// The last thing that a person typed, with what came on standard input.
    pub(super) prompt: String,
    /// The names of the tools that are offered.
    pub(super) tools: Vec<String>,
    /// The results of tools since the prompt, oldest first.
    pub(super) results: Vec<String>,
}

impl Conversation {
    pub(super) fn read(dialect: Dialect, body: &Value) -> Self {
        let mut read = Self {
            model: text_at(body, "model"),
            streams: body.get("stream").and_then(Value::as_bool).unwrap_or(false),
            tools: list_at(body, "tools").iter().map(tool_name).collect(),
            ..Self::default()
        };
        match dialect {
            Dialect::AnthropicMessages | Dialect::AnthropicCountTokens => {
                list_at(body, "messages").iter().for_each(|message| read.anthropic(message));
            }
            Dialect::OpenAiChat => list_at(body, "messages").iter().for_each(|message| read.chat(message)),
            Dialect::OpenAiResponses => match body.get("input") {
                Some(Value::String(prompt)) => read.prompted(prompt),
                Some(_) | None => list_at(body, "input").iter().for_each(|item| read.response_item(item)),
            },
        }
        read
    }

    /// The name by which a tool of the host's is offered: harnesses put a prefix of their own before it.
    pub(super) fn host_tool(&self, name: &str) -> Option<&str> {
        self.tools.iter().map(String::as_str).find(|offered| offered.ends_with(name))
    }

    fn anthropic(&mut self, message: &Value) {
        if text_at(message, "role") != "user" {
            return;
        }
        let Some(blocks) = message.get("content").and_then(Value::as_array) else {
            return self.prompted(&text_at(message, "content"));
        };
        let results: Vec<_> =
            blocks.iter().filter(|block| text_at(block, "type") == "tool_result").map(content).collect();
        if results.is_empty() {
            blocks.iter().for_each(|block| self.prompted(&text_at(block, "text")));
        }
        self.results.extend(results);
    }

    fn chat(&mut self, message: &Value) {
        match text_at(message, "role").as_str() {
            "user" => self.prompted(&content(message)),
            "tool" => self.results.push(content(message)),
            _other => {}
        }
    }

    fn response_item(&mut self, item: &Value) {
        match text_at(item, "type").as_str() {
            "function_call_output" | "custom_tool_call_output" => {
                self.results.push(text_of(item.get("output")))
            }
            "message" | "" if text_at(item, "role") == "user" => self.prompted(&content(item)),
            _other => {}
        }
    }

    /// A text of the user's role. What harnesses add by themselves starts with a tag, and is no prompt.
    fn prompted(&mut self, text: &str) {
        if !text.trim_start().starts_with('<') && !text.trim().is_empty() {
            text.clone_into(&mut self.prompt);
            self.results.clear();
        }
    }
}

fn text_at(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn list_at<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn tool_name(tool: &Value) -> String {
    let inner = tool.get("function").or_else(|| tool.get("custom")).unwrap_or(tool);
    text_at(inner, "name")
}

fn content(value: &Value) -> String {
    text_of(value.get("content"))
}

/// A text, or the texts of a list of blocks.
fn text_of(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(blocks)) => {
            blocks.iter().map(|block| text_at(block, "text")).collect::<Vec<_>>().join("\n")
        }
        Some(_) | None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_dialect_is_read_alike() {
        let anthropic = json!({"model": "m", "stream": true, "tools": [{"name": "read"}], "messages": [
            {"role": "user", "content": [{"type": "text", "text": "<system-reminder>x"}, {"type": "text", "text": "fix it"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "read", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "seen"}]},
                {"type": "text", "text": "a reminder"}]},
        ]});
        let chat = json!({"model": "m", "stream": true, "tools": [{"type": "function", "function": {"name": "read"}}],
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "old"}, {"role": "tool", "content": "gone"},
                {"role": "user", "content": "fix it"}, {"role": "assistant", "content": null},
                {"role": "tool", "tool_call_id": "t", "content": "seen"},
        ]});
        let responses = json!({"model": "m", "stream": true, "tools": [{"type": "function", "name": "read"}], "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "d"}]},
            {"role": "user", "content": "fix it"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<environment_context>"}]},
            {"type": "function_call", "call_id": "t", "name": "read", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "t", "output": "seen"},
        ]});
        let expected = Conversation {
            model: "m".into(),
            streams: true,
            prompt: "fix it".into(),
            tools: vec!["read".into()],
            results: vec!["seen".into()],
        };
        assert_eq!(Conversation::read(Dialect::AnthropicMessages, &anthropic), expected);
        assert_eq!(Conversation::read(Dialect::OpenAiChat, &chat), expected);
        assert_eq!(Conversation::read(Dialect::OpenAiResponses, &responses), expected);
    }
}
