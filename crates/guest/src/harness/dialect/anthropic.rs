//! Anthropic Messages, streamed.

use serde_json::{Value, json};

use super::{Ask, Building, MAX_ANSWER_TOKENS, TurnError, error_message, grow, text};
use crate::harness::conversation::Entry;

pub(super) fn body(ask: &Ask) -> Value {
    let tools: Vec<Value> = ask
        .tools
        .iter()
        .map(|t| json!({"name": t.name, "description": t.description, "input_schema": t.schema}))
        .collect();
    json!({
        "model": ask.model,
        "max_tokens": MAX_ANSWER_TOKENS,
        "stream": true,
        "system": ask.system,
        "messages": ask.entries.iter().map(message).collect::<Vec<_>>(),
        "tools": tools,
    })
}

fn message(entry: &Entry) -> Value {
    match entry {
        Entry::Person(said) => json!({"role": "user", "content": said}),
        Entry::Model(turn) => {
            let mut content = Vec::new();
            if !turn.text.trim().is_empty() {
                content.push(json!({"type": "text", "text": turn.text}));
            }
            // Arguments that are not an object were answered with an error; the protocol wants an object all the same.
            content.extend(turn.calls.iter().map(|call| {
                let input = call.object().unwrap_or_default();
                json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input})
            }));
            json!({"role": "assistant", "content": content})
        }
        Entry::Results(results) => {
            let content: Vec<Value> = results
                .iter()
                .map(|r| {
                    json!({"type": "tool_result", "tool_use_id": r.id, "content": r.text, "is_error": r.is_error})
                })
                .collect();
            json!({"role": "user", "content": content})
        }
    }
}

pub(super) fn take(event: &Value, turn: &mut Building) -> Result<(), TurnError> {
    let index = || event.pointer("/index").map(Value::to_string).unwrap_or_default();
    match text(event, "/type").unwrap_or_default() {
        "content_block_start" if text(event, "/content_block/type") == Some("tool_use") => {
            let call = turn.call(&index())?;
            text(event, "/content_block/id").unwrap_or_default().clone_into(&mut call.id);
            text(event, "/content_block/name").unwrap_or_default().clone_into(&mut call.name);
        }
        "content_block_delta" => match text(event, "/delta/type").unwrap_or_default() {
            "text_delta" => turn.add_text(text(event, "/delta/text").unwrap_or_default())?,
            "input_json_delta" => grow(
                &mut turn.call(&index())?.arguments,
                text(event, "/delta/partial_json").unwrap_or_default(),
            )?,
            _other_delta => {}
        },
        "message_delta" => turn.cut_off |= text(event, "/delta/stop_reason") == Some("max_tokens"),
        "message_stop" => turn.complete = true,
        "error" => return Err(TurnError::Provider(error_message(event))),
        _other_event => {}
    }
    Ok(())
}
