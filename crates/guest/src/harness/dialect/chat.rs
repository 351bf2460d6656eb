//! OpenAI Chat Completions, streamed.

use serde_json::{Value, json};

use super::{Ask, Building, MAX_ANSWER_TOKENS, TurnError, error_message, grow, text};
use crate::harness::conversation::Entry;

pub(super) fn body(ask: &Ask) -> Value {
    let tools: Vec<Value> = ask
        .tools
        .iter()
        .map(|t| {
            let function = json!({"name": t.name, "description": t.description, "parameters": t.schema});
            json!({"type": "function", "function": function})
        })
        .collect();
    let system = json!({"role": "system", "content": ask.system});
    let messages: Vec<Value> = std::iter::once(system).chain(ask.entries.iter().flat_map(messages)).collect();
    json!({
        "model": ask.model,
        "max_tokens": MAX_ANSWER_TOKENS,
        "stream": true,
        "stream_options": {"include_usage": true},
        "messages": messages,
        "tools": tools,
    })
}

fn messages(entry: &Entry) -> Vec<Value> {
    match entry {
        Entry::Person(said) => vec![json!({"role": "user", "content": said})],
        Entry::Model(turn) => {
            let mut message = json!({"role": "assistant", "content": turn.text});
            if !turn.calls.is_empty() {
                let calls: Vec<Value> = turn
                    .calls
                    .iter()
                    .map(|call| {
                        let function = json!({"name": call.name, "arguments": call.arguments});
                        json!({"id": call.id, "type": "function", "function": function})
                    })
                    .collect();
                if let Some(map) = message.as_object_mut() {
                    map.insert("tool_calls".to_owned(), Value::Array(calls));
                }
            }
            vec![message]
        }
        Entry::Results(results) => results
            .iter()
            .map(|r| {
                let content = if r.is_error { format!("error: {}", r.text) } else { r.text.clone() };
                json!({"role": "tool", "tool_call_id": r.id, "content": content})
            })
            .collect(),
    }
}

/// A finish reason completes the turn: usage and `[DONE]` may follow, and some servers leave them out.
pub(super) fn take(event: &Value, turn: &mut Building) -> Result<(), TurnError> {
    if event.get("error").is_some_and(|error| !error.is_null()) {
        return Err(TurnError::Provider(error_message(event)));
    }
    turn.add_text(text(event, "/choices/0/delta/content").unwrap_or_default())?;
    let parts = event.pointer("/choices/0/delta/tool_calls").and_then(Value::as_array);
    for part in parts.into_iter().flatten() {
        let key = part.get("index").map(Value::to_string).unwrap_or_default();
        let call = turn.call(&key)?;
        if let Some(id) = text(part, "/id").filter(|id| !id.is_empty()) {
            id.clone_into(&mut call.id);
        }
        if let Some(name) = text(part, "/function/name").filter(|name| !name.is_empty()) {
            name.clone_into(&mut call.name);
        }
        grow(&mut call.arguments, text(part, "/function/arguments").unwrap_or_default())?;
    }
    if let Some(reason) = text(event, "/choices/0/finish_reason") {
        turn.complete = true;
        turn.cut_off |= reason == "length";
    }
    Ok(())
}
