//! What the lists of model fields promise: real requests pass, everything that would act at a provider is refused with
//! its place, and a rebuilt body holds only what a list names.

use super::{Dialect, FailureKind, Grants, ModelFailure, Rebuilt, Refusal, rebuild};
use proptest::prelude::*;
use serde_json::{Value, json};

const MESSAGES: &str = include_str!("requests/claude-code-edit.anthropic-messages.json");
const HELPER: &str = include_str!("requests/claude-code-helper.anthropic-messages.json");
const TURNS: &str = include_str!("requests/claude-code-turns.anthropic-messages.json");
const COUNT: &str = include_str!("requests/claude-code-count.anthropic-count-tokens.json");
const RESPONSES: &str = include_str!("requests/codex-edit.openai-responses.json");
const CHAT: &str = include_str!("requests/tools.openai-chat.json");

const REAL: [(Dialect, &str); 6] = [
    (Dialect::AnthropicMessages, MESSAGES),
    (Dialect::AnthropicMessages, HELPER),
    (Dialect::AnthropicMessages, TURNS),
    (Dialect::AnthropicCountTokens, COUNT),
    (Dialect::OpenAiResponses, RESPONSES),
    (Dialect::OpenAiChat, CHAT),
];

fn try_rebuild(dialect: Dialect, body: &Value) -> Result<Rebuilt, Refusal> {
    rebuild(dialect, &body.to_string(), &Grants::default())
}

fn value_of(rebuilt: &Rebuilt) -> Value {
    serde_json::from_str(&rebuilt.to_string()).unwrap()
}

/// Removes what the lists say is left out, and nulls, so that the rest can be compared.
fn without(mut value: Value, left_out: &[&str]) -> Value {
    match &mut value {
        Value::Object(map) => {
            map.retain(|key, value| !left_out.contains(&key.as_str()) && !value.is_null());
            for (key, value) in map.iter_mut() {
                if !matches!(key.as_str(), "input_schema" | "parameters") {
                    *value = without(value.take(), left_out);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| *value = without(value.take(), left_out)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    value
}

#[test]
fn real_requests_pass_and_keep_all_that_matters() {
    for (dialect, text) in REAL {
        let rebuilt = rebuild(dialect, text, &Grants::default()).unwrap();
        let left_out: &[&str] = match dialect {
            Dialect::OpenAiResponses => &["id", "client_metadata"],
            Dialect::OpenAiChat => &["store"],
            Dialect::AnthropicMessages | Dialect::AnthropicCountTokens => &[],
        };
        let sent: Value = serde_json::from_str(text).unwrap();
        assert_eq!(value_of(&rebuilt), without(sent, left_out), "{dialect:?}");
    }
}

/// A minimal body, with `extra` in it.
fn body(dialect: Dialect, extra: Value) -> Value {
    let mut body = match dialect {
        Dialect::AnthropicMessages => json!({"model": "m", "max_tokens": 9, "messages": []}),
        Dialect::AnthropicCountTokens => json!({"model": "m", "messages": []}),
        Dialect::OpenAiResponses => json!({"model": "m", "input": []}),
        Dialect::OpenAiChat => json!({"model": "m", "messages": []}),
    };
    if let Value::Object(extra) = extra {
        body.as_object_mut().unwrap().extend(extra);
    }
    body
}

fn is_refused(dialect: Dialect, extra: Value, path: &str) {
    let shown = extra.to_string();
    match try_rebuild(dialect, &body(dialect, extra)) {
        Err(Refusal::NotGranted { path: found, .. }) => assert_eq!(found, path, "{shown}"),
        Ok(_) | Err(_) => panic!("{shown} was not refused as not granted"),
    }
}

/// What it costs would not be what the price table says.
#[test]
fn no_request_asks_for_a_dearer_tier() {
    for dialect in [Dialect::OpenAiResponses, Dialect::OpenAiChat] {
        for (tier, taken) in [("priority", false), ("auto", false), ("default", true), ("flex", true)] {
            let asked = try_rebuild(dialect, &body(dialect, json!({"service_tier": tier})));
            assert_eq!(asked.is_ok(), taken, "{tier}");
        }
    }
}

#[test]
fn what_would_act_or_fetch_at_anthropic_is_refused() {
    use Dialect::{AnthropicCountTokens, AnthropicMessages};
    for dialect in [AnthropicMessages, AnthropicCountTokens] {
        for tool in [
            "web_search_20250305",
            "web_fetch_20250910",
            "code_execution_20250825",
            "computer_20251124",
            "mcp_toolset",
            "tool_search_tool_bm25_20251119",
            "advisor_20260301",
            "web_search_20991231",
        ] {
            is_refused(dialect, json!({"tools": [{"type": tool, "name": "x"}]}), "$.tools[0].type");
        }
        is_refused(dialect, json!({"mcp_servers": [{"type": "url", "url": "https://x"}]}), "$.mcp_servers");
        is_refused(dialect, json!({"container": "c_1"}), "$.container");
        is_refused(dialect, json!({"never_heard_of": 1}), "$.never_heard_of");
        for source in
            [json!({"type": "url", "url": "https://x/y.png"}), json!({"type": "file", "file_id": "file_1"})]
        {
            for block in ["image", "document"] {
                let content = json!([{"type": block, "source": source}]);
                let path = "$.messages[0].content[0].source.type";
                is_refused(dialect, json!({"messages": [{"role": "user", "content": content}]}), path);
                let result = json!([{"type": "tool_result", "tool_use_id": "t", "content": content}]);
                let path = "$.messages[0].content[0].content[0].source.type";
                is_refused(dialect, json!({"messages": [{"role": "user", "content": result}]}), path);
            }
        }
        for block in ["server_tool_use", "mcp_tool_use", "container_upload", "unknown_block"] {
            let extra = json!({"messages": [{"role": "user", "content": [{"type": block}]}]});
            is_refused(dialect, extra, "$.messages[0].content[0].type");
        }
    }
    let tool =
        json!({"tools": [{"name": "x", "input_schema": {}, "allowed_callers": ["code_execution_20250825"]}]});
    is_refused(AnthropicMessages, tool, "$.tools[0].allowed_callers[0]");
}

#[test]
fn what_would_act_fetch_or_be_stored_at_openai_responses_is_refused() {
    let refused = |extra: Value, path: &str| is_refused(Dialect::OpenAiResponses, extra, path);
    for tool in [
        "web_search",
        "web_search_preview",
        "file_search",
        "code_interpreter",
        "image_generation",
        "computer_use_preview",
        "mcp",
        "shell",
        "unknown_tool",
    ] {
        refused(json!({"tools": [{"type": tool}]}), "$.tools[0].type");
        let nested = json!({"tools": [{"type": "namespace", "name": "n", "tools": [{"type": tool}]}]});
        refused(nested, "$.tools[0].tools[0].type");
        refused(json!({"tool_choice": {"type": tool}}), "$.tool_choice.type");
    }
    refused(json!({"previous_response_id": "resp_1"}), "$.previous_response_id");
    refused(json!({"conversation": "conv_1"}), "$.conversation");
    refused(json!({"prompt": {"id": "pmpt_1"}}), "$.prompt");
    refused(json!({"background": true}), "$.background");
    refused(json!({"include": ["web_search_call.action.sources"]}), "$.include[0]");
    refused(json!({"input": [{"type": "item_reference", "id": "msg_1"}]}), "$.input[0].type");
    refused(json!({"input": [{"type": "mcp_call"}]}), "$.input[0].type");
    let part = |part: Value| json!({"input": [{"role": "user", "content": [part]}]});
    refused(
        part(json!({"type": "input_image", "image_url": "https://x/y.png"})),
        "$.input[0].content[0].image_url",
    );
    refused(part(json!({"type": "input_image", "file_id": "file_1"})), "$.input[0].content[0].file_id");
    refused(part(json!({"type": "input_file", "file_id": "file_1"})), "$.input[0].content[0].file_id");
    refused(part(json!({"type": "input_file", "file_url": "https://x"})), "$.input[0].content[0].file_url");
    let search = json!({"tools": [{"type": "tool_search", "execution": "server"}]});
    refused(search, "$.tools[0].execution");
}

#[test]
fn what_would_act_or_fetch_at_openai_chat_is_refused() {
    let refused = |extra: Value, path: &str| is_refused(Dialect::OpenAiChat, extra, path);
    refused(json!({"web_search_options": {}}), "$.web_search_options");
    refused(json!({"audio": {"voice": "alloy"}}), "$.audio");
    refused(json!({"tools": [{"type": "web_search"}]}), "$.tools[0].type");
    refused(json!({"functions": []}), "$.functions");
    let part = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    refused(
        part(json!({"type": "image_url", "image_url": {"url": "HTTP://x/y.png"}})),
        "$.messages[0].content[0].image_url.url",
    );
    refused(
        part(json!({"type": "file", "file": {"file_id": "file_1"}})),
        "$.messages[0].content[0].file.file_id",
    );
    let spoken = json!({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]});
    refused(spoken, "$.messages[0].audio");
}

#[test]
fn nothing_is_stored_at_the_provider() {
    for store in [json!({}), json!({"store": true}), json!({"store": null}), json!({"store": "yes"})] {
        let rebuilt = try_rebuild(Dialect::OpenAiResponses, &body(Dialect::OpenAiResponses, store)).unwrap();
        assert_eq!(value_of(&rebuilt)["store"], json!(false));
    }
    let rebuilt =
        try_rebuild(Dialect::OpenAiChat, &body(Dialect::OpenAiChat, json!({"store": true}))).unwrap();
    assert_eq!(value_of(&rebuilt).get("store"), None);
}

#[test]
fn what_is_malformed_is_told_apart_from_what_is_not_granted() {
    for (extra, why) in [
        (json!({"messages": "hello"}), "`$.messages` can't be a text"),
        (json!({"max_tokens": 0}), "`$.max_tokens` is 0 where 1 to 10000000 is allowed"),
        (json!({"messages": [{"role": "user"}]}), "`$.messages[0]` has no `content`"),
        (json!({"model": null}), "`$` has no `model`"),
        (json!({"model": "m".repeat(300)}), "`$.model` has 300 bytes where at most 256 are allowed"),
        (
            json!({"messages": [{"role": "user", "content": [{}]}]}),
            "`$.messages[0].content[0]` has no `type`",
        ),
    ] {
        let failure: ModelFailure =
            try_rebuild(Dialect::AnthropicMessages, &body(Dialect::AnthropicMessages, extra))
                .unwrap_err()
                .into();
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Malformed, why));
    }
    assert!(matches!(rebuild(Dialect::OpenAiChat, "[]", &Grants::default()), Err(Refusal::Malformed { .. })));
    assert!(matches!(rebuild(Dialect::OpenAiChat, "{", &Grants::default()), Err(Refusal::NotJson(_))));
}

#[test]
fn a_strangers_key_is_shown_short_and_printable() {
    let key = format!("\u{1b}[2J{}", "x".repeat(5000));
    let refusal = try_rebuild(Dialect::OpenAiChat, &body(Dialect::OpenAiChat, json!({key: 1}))).unwrap_err();
    let text = refusal.to_string();
    assert!(text.len() < 300 && text.chars().all(|c| !c.is_control()), "{text}");
}

#[test]
fn the_gateway_can_set_the_model_and_ask_for_usage() {
    let mut rebuilt = rebuild(Dialect::OpenAiChat, CHAT, &Grants::default()).unwrap();
    assert_eq!((rebuilt.model(), rebuilt.streams(), rebuilt.max_output()), ("qwen3:8b", true, Some(4096)));
    rebuilt.set_model("other");
    rebuilt.ask_for_usage();
    assert_eq!(rebuilt.model(), "other");
    assert_eq!(value_of(&rebuilt)["stream_options"], json!({"include_usage": true}));
    let plain = json!({"stream": true, "max_tokens": 5, "max_completion_tokens": 7});
    let mut plain = try_rebuild(Dialect::OpenAiChat, &body(Dialect::OpenAiChat, plain)).unwrap();
    plain.ask_for_usage();
    assert_eq!(value_of(&plain)["stream_options"], json!({"include_usage": true}));
    assert_eq!(plain.max_output(), Some(7));
}

/// Any JSON, small.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z_]{0,12}".prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map("[a-z_]{1,12}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Puts `graft` in place of the value that is the `at`-th of the body, counted in its own order.
fn graft(value: &mut Value, at: &mut usize, graft_key: &str, graft: &Value) {
    if *at == 0 {
        match value {
            Value::Object(map) => drop(map.insert(graft_key.to_owned(), graft.clone())),
            Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                *value = graft.clone()
            }
        }
        *at = usize::MAX;
        return;
    }
    *at = at.saturating_sub(1);
    match value {
        Value::Object(map) => map.values_mut().for_each(|value| self::graft(value, at, graft_key, graft)),
        Value::Array(list) => list.iter_mut().for_each(|value| self::graft(value, at, graft_key, graft)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

proptest! {
    /// Real requests with something foreign somewhere: what passes is a fixed point, so nothing unlisted is in it.
    #[test]
    fn a_rebuilt_body_is_rebuilt_to_itself(
        which in 0..REAL.len(), at in 0..400_usize, key in "[a-z_]{1,12}", foreign in any_json()
    ) {
        let (dialect, text) = REAL[which];
        let mut value: Value = serde_json::from_str(text).unwrap();
        graft(&mut value, &mut { at }, &key, &foreign);
        if let Ok(once) = try_rebuild(dialect, &value) {
            let twice = rebuild(dialect, &once.to_string(), &Grants::default()).unwrap();
            prop_assert_eq!(once.to_string(), twice.to_string());
        }
    }

    /// A key that no list has never comes through outside of schemas and arguments.
    #[test]
    fn a_key_on_no_list_never_comes_through(which in 0..REAL.len(), at in 0..400_usize, foreign in any_json()) {
        let (dialect, text) = REAL[which];
        let mut value: Value = serde_json::from_str(text).unwrap();
        graft(&mut value, &mut { at }, "unheard_of", &foreign);
        if let Ok(rebuilt) = try_rebuild(dialect, &value) {
            prop_assert!(!outside_free_json(&value_of(&rebuilt)));
        }
    }

    /// Any text at all is answered, not crashed on.
    #[test]
    fn any_text_is_answered(text in "\\PC{0,64}", json in any_json()) {
        for dialect in Dialect::ALL {
            drop(rebuild(dialect, &text, &Grants::default()));
            drop(rebuild(dialect, &json.to_string(), &Grants::default()));
        }
    }
}

fn outside_free_json(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, value)| {
            key == "unheard_of"
                || (!matches!(key.as_str(), "input_schema" | "parameters" | "input" | "schema" | "arguments")
                    || value.is_array())
                    && outside_free_json(value)
        }),
        Value::Array(list) => list.iter().any(outside_free_json),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
