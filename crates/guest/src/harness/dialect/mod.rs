//! The three protocols in which a model is spoken to: how a conversation is written, and how a streamed turn is read.

mod anthropic;
mod chat;
mod responses;

use serde_json::Value;

use super::conversation::{Entry, Tool, ToolCall, Turn};

/// Most tokens that one answer may have.
const MAX_ANSWER_TOKENS: u32 = 8192;

/// Most bytes of text, and of one call's arguments, in one turn.
const MAX_TEXT: usize = 4 * 1024 * 1024;

/// Most tool calls in one turn.
const MAX_CALLS: usize = 64;

/// The protocol of the model endpoint, as `LAZARET_MODEL_API` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Responses.
    Responses,
    /// OpenAI Chat Completions, which most local servers speak too.
    Chat,
}

impl std::str::FromStr for Api {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "anthropic" => Ok(Self::Anthropic),
            "responses" => Ok(Self::Responses),
            "chat" => Ok(Self::Chat),
            other => Err(format!("`{other}` is not a model API: use anthropic, responses or chat")),
        }
    }
}

/// What a request asks of the model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    /// The model's name.
    pub(super) model: &'a str,
    /// The system prompt.
    pub(super) system: &'a str,
    /// The conversation so far.
    pub(super) entries: &'a [Entry],
    /// The tools offered.
    pub(super) tools: &'a [Tool],
}

impl Api {
    /// The path of the endpoint.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Anthropic => "/v1/messages",
            Self::Responses => "/v1/responses",
            Self::Chat => "/v1/chat/completions",
        }
    }

    /// The request's body.
    pub(super) fn body(self, ask: &Ask) -> Value {
        match self {
            Self::Anthropic => anthropic::body(ask),
            Self::Responses => responses::body(ask),
            Self::Chat => chat::body(ask),
        }
    }

    /// Puts one streamed event into the turn.
    ///
    /// # Errors
    /// When the provider reports a failure, or the turn grows past its limits.
    pub(super) fn take(self, event: &str, turn: &mut Building) -> Result<(), TurnError> {
        if event == "[DONE]" {
            turn.complete = true;
            return Ok(());
        }
        let event: Value = serde_json::from_str(event).map_err(|e| TurnError::Malformed(e.to_string()))?;
        match self {
            Self::Anthropic => anthropic::take(&event, turn),
            Self::Responses => responses::take(&event, turn),
            Self::Chat => chat::take(&event, turn),
        }
    }
}

/// Why a streamed turn came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TurnError {
    /// An event is not what the protocol says.
    #[error("the model's answer is malformed: {0}")]
    Malformed(String),
    /// The provider broke off.
    #[error("the model broke off: {0}")]
    Provider(String),
    /// The turn is too large.
    #[error("the model's answer is too large: more than {0}")]
    TooLarge(&'static str),
}

/// A turn that is still arriving: the calls by the index or id under which the provider sends their parts.
#[derive(Debug, Default)]
pub(super) struct Building {
    text: String,
    calls: Vec<(String, ToolCall)>,
    cut_off: bool,
    complete: bool,
}

impl Building {
    /// Whether the provider said that the turn is at its end; a stream that ends before that was cut.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// The turn, when it is complete.
    pub(super) fn finish(self) -> Turn {
        Turn {
            text: self.text,
            calls: self.calls.into_iter().map(|(_, call)| call).collect(),
            cut_off: self.cut_off,
        }
    }

    fn add_text(&mut self, text: &str) -> Result<(), TurnError> {
        grow(&mut self.text, text)
    }

    /// The call with this key, made if it is new.
    fn call(&mut self, key: &str) -> Result<&mut ToolCall, TurnError> {
        let at = match self.calls.iter().position(|(known, _)| known == key) {
            Some(at) => at,
            None if self.calls.len() < MAX_CALLS => {
                self.calls.push((key.to_owned(), ToolCall::default()));
                self.calls.len() - 1
            }
            None => return Err(TurnError::TooLarge("64 tool calls")),
        };
        self.calls.get_mut(at).map(|(_, call)| call).ok_or(TurnError::TooLarge("64 tool calls"))
    }
}

fn grow(text: &mut String, more: &str) -> Result<(), TurnError> {
    if text.len() + more.len() > MAX_TEXT {
        return Err(TurnError::TooLarge("4 MiB of text"));
    }
    text.push_str(more);
    Ok(())
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// The message of an error object, in any of the protocols.
pub(super) fn error_message(value: &Value) -> String {
    ["/error/message", "/response/error/message", "/message", "/error"]
        .iter()
        .find_map(|at| text(value, at))
        .map_or_else(|| "no reason was given".to_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::conversation::ToolResult;
    use serde_json::json;

    fn read(api: Api, events: &[Value]) -> Result<Turn, TurnError> {
        let mut turn = Building::default();
        for event in events {
            api.take(&event.to_string(), &mut turn)?;
        }
        Ok(turn.finish())
    }

    fn expected() -> Turn {
        Turn {
            text: "Let me look.".to_owned(),
            calls: vec![
                ToolCall { id: "c1".into(), name: "list".into(), arguments: r#"{"path":"."}"#.into() },
                ToolCall { id: "c2".into(), name: "read".into(), arguments: r#"{"path":"a"}"#.into() },
            ],
            cut_off: false,
        }
    }

    #[test]
    fn anthropic_turns_are_read() {
        let events = [
            json!({"type":"message_start","message":{"usage":{"input_tokens":3}}}),
            json!({"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}),
            json!({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Let me "}}),
            json!({"type":"ping"}),
            json!({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"look."}}),
            json!({"type":"content_block_stop","index":0}),
            json!({"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"c1","name":"list","input":{}}}),
            json!({"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"path\":"}}),
            json!({"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"\".\"}"}}),
            json!({"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"c2","name":"read","input":{}}}),
            json!({"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"path\":\"a\"}"}}),
            json!({"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9}}),
            json!({"type":"message_stop"}),
        ];
        assert_eq!(read(Api::Anthropic, &events), Ok(expected()));
        let mut cut = Building::default();
        for event in events.iter().take(11) {
            Api::Anthropic.take(&event.to_string(), &mut cut).expect("an event");
        }
        assert!(!cut.is_complete());
    }

    #[test]
    fn responses_turns_are_read() {
        let events = [
            json!({"type":"response.created","response":{"id":"r"}}),
            json!({"type":"response.output_text.delta","output_index":0,"delta":"Let me "}),
            json!({"type":"response.output_text.delta","output_index":0,"delta":"look."}),
            json!({"type":"response.output_item.added","output_index":1,"item":{"type":"function_call","id":"i1","call_id":"c1","name":"list","arguments":""}}),
            json!({"type":"response.function_call_arguments.delta","output_index":1,"delta":"{\"path\""}),
            json!({"type":"response.function_call_arguments.delta","output_index":1,"delta":":\".\"}"}),
            json!({"type":"response.output_item.done","output_index":1,"item":{"type":"function_call","call_id":"c1","name":"list","arguments":"{\"path\":\".\"}"}}),
            json!({"type":"response.output_item.done","output_index":2,"item":{"type":"function_call","call_id":"c2","name":"read","arguments":"{\"path\":\"a\"}"}}),
            json!({"type":"response.completed","response":{"status":"completed"}}),
        ];
        assert_eq!(read(Api::Responses, &events), Ok(expected()));
    }

    #[test]
    fn chat_turns_are_read() {
        let events = [
            json!({"choices":[{"index":0,"delta":{"role":"assistant","content":"Let me "}}]}),
            json!({"choices":[{"index":0,"delta":{"content":"look."}}]}),
            json!({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"list","arguments":""}}]}}]}),
            json!({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"path\":\".\"}"}}]}}]}),
            json!({"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"c2","type":"function","function":{"name":"read","arguments":"{\"path\":\"a\"}"}}]}}]}),
            json!({"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}),
            json!({"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}),
        ];
        assert_eq!(read(Api::Chat, &events), Ok(expected()));
    }

    #[test]
    fn failures_in_the_stream_are_told_in_each_protocol() {
        let cases = [
            (Api::Anthropic, json!({"type":"error","error":{"type":"overloaded_error","message":"busy"}})),
            (Api::Responses, json!({"type":"response.failed","response":{"error":{"message":"busy"}}})),
            (Api::Responses, json!({"type":"error","message":"busy"})),
            (Api::Chat, json!({"error":{"message":"busy"}})),
        ];
        for (api, event) in cases {
            assert_eq!(read(api, &[event]), Err(TurnError::Provider("busy".to_owned())));
        }
    }

    #[test]
    fn answers_cut_off_at_the_limit_are_marked() {
        let cases = [
            (Api::Anthropic, json!({"type":"message_delta","delta":{"stop_reason":"max_tokens"}})),
            (Api::Responses, json!({"type":"response.incomplete","response":{"status":"incomplete"}})),
            (Api::Chat, json!({"choices":[{"delta":{},"finish_reason":"length"}]})),
        ];
        for (api, event) in cases {
            assert!(read(api, &[event]).is_ok_and(|turn| turn.cut_off), "{api:?}");
        }
    }

    #[test]
    fn a_turn_has_limits() {
        let mut turn = Building::default();
        assert!((0..=MAX_CALLS).any(|n| turn.call(&n.to_string()).is_err()));
        let chunk = "x".repeat(MAX_TEXT / 2 + 1);
        assert!(turn.add_text(&chunk).is_ok());
        assert!(turn.add_text(&chunk).is_err());
    }

    #[test]
    fn a_conversation_is_written_in_each_protocol() {
        let entries = [
            Entry::Person("fix it".into()),
            Entry::Model(expected()),
            Entry::Results(vec![
                ToolResult { id: "c1".into(), text: "a".into(), is_error: false },
                ToolResult { id: "c2".into(), text: "no such file".into(), is_error: true },
            ]),
        ];
        let tools =
            [Tool { name: "list".into(), description: "Lists.".into(), schema: json!({"type":"object"}) }];
        let ask = Ask { model: "p/m", system: "be brief", entries: &entries, tools: &tools };
        let body = Api::Anthropic.body(&ask);
        assert_eq!(text(&body, "/messages/1/content/1/id"), Some("c1"));
        assert_eq!(body.pointer("/messages/1/content/1/input/path"), Some(&json!(".")));
        assert_eq!(body.pointer("/messages/2/content/1/is_error"), Some(&json!(true)));
        assert_eq!(text(&body, "/tools/0/name"), Some("list"));
        let body = Api::Responses.body(&ask);
        assert_eq!(text(&body, "/input/2/call_id"), Some("c1"));
        assert_eq!(text(&body, "/input/5/output"), Some("error: no such file"));
        assert_eq!(body.pointer("/store"), Some(&json!(false)));
        let body = Api::Chat.body(&ask);
        assert_eq!(text(&body, "/messages/2/tool_calls/1/function/arguments"), Some(r#"{"path":"a"}"#));
        assert_eq!(text(&body, "/messages/4/tool_call_id"), Some("c2"));
    }
}
