//! Answers of a scripted model in the three dialects, whole or as server-sent events.

use serde_json::{Value, json};
use wire::model::Dialect;

use super::script::Call;

/// What the model answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    Text(String),
    Call(Call),
}

/// An answer with its surroundings.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// Unique in the server's life.
    pub(super) number: u64,
    pub(super) model: String,
    pub(super) reply: Reply,
    pub(super) input_tokens: u64,
}

impl Answer {
    /// About four bytes make a token, as with real models.
    fn output_tokens(&self) -> u64 {
        let bytes = match &self.reply {
            Reply::Text(text) => text.len(),
            Reply::Call(call) => call.input.to_string().len(),
        };
        (bytes as u64).div_ceil(4)
    }

    /// The whole answer as one JSON value.
    pub(super) fn whole(&self, dialect: Dialect) -> Value {
        match dialect {
            Dialect::AnthropicCountTokens => json!({"input_tokens": self.input_tokens}),
            Dialect::AnthropicMessages => {
                let (block, why) = match &self.reply {
                    Reply::Text(text) => (json!({"type": "text", "text": text}), "end_turn"),
                    Reply::Call(call) => (self.tool_use(call, &call.input), "tool_use"),
                };
                let usage = json!({"input_tokens": self.input_tokens, "output_tokens": self.output_tokens()});
                self.message(&json!([block]), Some(why), &usage)
            }
            Dialect::OpenAiResponses => self.response("completed", &json!([self.item()]), true),
            Dialect::OpenAiChat => {
                let (message, why) = match &self.reply {
                    Reply::Text(text) => (json!({"role": "assistant", "content": text}), "stop"),
                    Reply::Call(call) => {
                        let calls = json!([self.tool_call(call)]);
                        (json!({"role": "assistant", "content": null, "tool_calls": calls}), "tool_calls")
                    }
                };
                let choice = json!({"index": 0, "message": message, "finish_reason": why});
                self.completion("chat.completion", &json!([choice]), true)
            }
        }
    }

    /// The answer as server-sent events, each a whole block of text.
    pub(super) fn events(&self, dialect: Dialect) -> Vec<String> {
        match dialect {
            Dialect::AnthropicMessages | Dialect::AnthropicCountTokens => self.anthropic_events(),
            Dialect::OpenAiResponses => self.response_events(),
            Dialect::OpenAiChat => self.chat_events(),
        }
    }

    fn tool_use(&self, call: &Call, input: &Value) -> Value {
        json!({"type": "tool_use", "id": format!("toolu_{}", self.number), "name": call.name, "input": input})
    }

    fn message(&self, content: &Value, why: Option<&str>, usage: &Value) -> Value {
        json!({
            "id": format!("msg_{}", self.number), "type": "message", "role": "assistant", "model": self.model,
            "content": content, "stop_reason": why, "stop_sequence": null, "usage": usage,
        })
    }

    fn anthropic_events(&self) -> Vec<String> {
        let usage = json!({"input_tokens": self.input_tokens, "output_tokens": 1});
        let start = json!({"type": "message_start", "message": self.message(&json!([]), None, &usage)});
        let (block, deltas, why) = match &self.reply {
            Reply::Text(text) => {
                let deltas = pieces(text).map(|piece| json!({"type": "text_delta", "text": piece})).collect();
                (json!({"type": "text", "text": ""}), deltas, "end_turn")
            }
            Reply::Call(call) => {
                let input = call.input.to_string();
                let delta = json!({"type": "input_json_delta", "partial_json": input});
                (self.tool_use(call, &json!({})), vec![delta], "tool_use")
            }
        };
        let mut events =
            vec![start, json!({"type": "content_block_start", "index": 0, "content_block": block})];
        let deltas: Vec<Value> = deltas;
        events.extend(
            deltas
                .into_iter()
                .map(|delta| json!({"type": "content_block_delta", "index": 0, "delta": delta})),
        );
        events.push(json!({"type": "content_block_stop", "index": 0}));
        events.push(json!({
            "type": "message_delta", "delta": {"stop_reason": why, "stop_sequence": null},
            "usage": {"output_tokens": self.output_tokens()},
        }));
        events.push(json!({"type": "message_stop"}));
        events.iter().map(named_event).collect()
    }

    /// The one output item of a Response.
    fn item(&self) -> Value {
        match &self.reply {
            Reply::Text(text) => json!({
                "type": "message", "id": format!("msg_{}", self.number), "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": text, "annotations": []}],
            }),
            Reply::Call(call) => json!({
                "type": "function_call", "id": format!("fc_{}", self.number),
                "call_id": format!("call_{}", self.number), "name": call.name, "status": "completed",
                "arguments": call.input.to_string(),
            }),
        }
    }

    fn response(&self, status: &str, output: &Value, finished: bool) -> Value {
        let (input, written) = (self.input_tokens, self.output_tokens());
        let usage = finished.then(|| {
            json!({
                "input_tokens": input, "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": written, "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": input + written,
            })
        });
        json!({
            "id": format!("resp_{}", self.number), "object": "response", "created_at": 0, "status": status,
            "model": self.model, "output": output, "usage": usage, "error": null,
        })
    }

    fn response_events(&self) -> Vec<String> {
        let item = self.item();
        let id = item.get("id").cloned().unwrap_or_default();
        let mut events = vec![
            json!({"type": "response.created", "response": self.response("in_progress", &json!([]), false)}),
            json!({"type": "response.output_item.added", "output_index": 0, "item": item}),
        ];
        if let Reply::Text(text) = &self.reply {
            events.extend(pieces(text).map(|piece| {
                json!({
                    "type": "response.output_text.delta", "item_id": id, "output_index": 0, "content_index": 0,
                    "delta": piece,
                })
            }));
            events.push(json!({
                "type": "response.output_text.done", "item_id": id, "output_index": 0, "content_index": 0,
                "text": text,
            }));
        }
        events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": item}));
        let whole = self.response("completed", &json!([item]), true);
        events.push(json!({"type": "response.completed", "response": whole}));
        events.iter().map(named_event).collect()
    }

    fn tool_call(&self, call: &Call) -> Value {
        json!({
            "index": 0, "id": format!("call_{}", self.number), "type": "function",
            "function": {"name": call.name, "arguments": call.input.to_string()},
        })
    }

    fn completion(&self, object: &str, choices: &Value, finished: bool) -> Value {
        let (input, written) = (self.input_tokens, self.output_tokens());
        let usage = finished.then(
            || json!({"prompt_tokens": input, "completion_tokens": written, "total_tokens": input + written}),
        );
        json!({
            "id": format!("chatcmpl-{}", self.number), "object": object, "created": 0, "model": self.model,
            "choices": choices, "usage": usage,
        })
    }

    fn chat_events(&self) -> Vec<String> {
        let chunk = |delta: Value, why: Option<&str>| {
            let choice = json!({"index": 0, "delta": delta, "finish_reason": why});
            self.completion("chat.completion.chunk", &json!([choice]), false)
        };
        let mut chunks = vec![chunk(json!({"role": "assistant", "content": ""}), None)];
        let why = match &self.reply {
            Reply::Text(text) => {
                chunks.extend(pieces(text).map(|piece| chunk(json!({"content": piece}), None)));
                "stop"
            }
            Reply::Call(call) => {
                chunks.push(chunk(json!({"tool_calls": [self.tool_call(call)]}), None));
                "tool_calls"
            }
        };
        chunks.push(chunk(json!({}), Some(why)));
        chunks.push(self.completion("chat.completion.chunk", &json!([]), true));
        let mut events: Vec<_> = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
        events.push("data: [DONE]\n\n".to_owned());
        events
    }
}

fn named_event(event: &Value) -> String {
    let name = event.get("type").and_then(Value::as_str).unwrap_or("message");
    format!("event: {name}\ndata: {event}\n\n")
}

/// A text word by word, as models write.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(' ')
}
