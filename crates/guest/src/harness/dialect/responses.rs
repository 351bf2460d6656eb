//! OpenAI Responses, streamed. Nothing is stored at the provider: each request carries the whole conversation.

use serde_json::{Value, json};

use super::{Ask, Building, MAX_ANSWER_TOKENS, TurnError, error_message, grow, text};
use crate::harness::conversation::Entry;

pub(super) fn body(ask: &Ask) -> Value {
    let tools: Vec<Value> = ask
        .tools
        .iter()
        .map(|t| {
            json!({"type": "function", "name": t.name, "description": t.description, "parameters": t.schema, "strict": false})
        })
        .collect();
    json!({
        "model": ask.model,
        "max_output_tokens": MAX_ANSWER_TOKENS,
        "stream": true,
        "store": false,
        "instructions": ask.system,
        "input": ask.entries.iter().flat_map(items).collect::<Vec<_>>(),
        "tools": tools,
    })
}

fn items(entry: &Entry) -> Vec<Value> {
    match entry {
        Entry::Person(said) => vec![json!({"type": "message", "role": "user", "content": said})],
        Entry::Model(turn) => {
            let said = (!turn.text.trim().is_empty())
                .then(|| json!({"type": "message", "role": "assistant", "content": turn.text}));
            let calls = turn.calls.iter().map(|call| {
                json!({"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments})
            });
            said.into_iter().chain(calls).collect()
        }
        Entry::Results(results) => results
            .iter()
            .map(|r| {
                let output = if r.is_error { format!("error: {}", r.text) } else { r.text.clone() };
                json!({"type": "function_call_output", "call_id": r.id, "output": output})
            })
            .collect(),
    }
}

pub(super) fn take(event: &Value, turn: &mut Building) -> Result<(), TurnError> {
    let index = || event.pointer("/output_index").map(Value::to_string).unwrap_or_default();
    match text(event, "/type").unwrap_or_default() {
        "response.output_text.delta" => turn.add_text(text(event, "/delta").unwrap_or_default())?,
        kind @ ("response.output_item.added" | "response.output_item.done")
            if text(event, "/item/type") == Some("function_call") =>
        {
            let call = turn.call(&index())?;
            text(event, "/item/call_id").unwrap_or_default().clone_into(&mut call.id);
            text(event, "/item/name").unwrap_or_default().clone_into(&mut call.name);
            // The finished item carries the arguments whole, whatever parts came before.
            if kind == "response.output_item.done" {
                call.arguments.clear();
                grow(&mut call.arguments, text(event, "/item/arguments").unwrap_or_default())?;
            }
        }
        "response.function_call_arguments.delta" => {
            grow(&mut turn.call(&index())?.arguments, text(event, "/delta").unwrap_or_default())?;
        }
        "response.completed" => turn.complete = true,
        "response.incomplete" => {
            turn.cut_off = true;
            turn.complete = true;
        }
        "response.failed" | "error" => return Err(TurnError::Provider(error_message(event))),
        _other_event => {}
    }
    Ok(())
}
