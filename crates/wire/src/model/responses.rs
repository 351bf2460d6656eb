//! The list for OpenAI Responses: what is passed on, and what is refused by name. Nothing is stored at the provider, so
//! that no id of one request means anything in another: `store` is always false, and ids of items are left out.
//!
//! Source: the provider's API reference and what Codex 0.169 was seen to send (`requests/`).

use super::MAX_BYTES;
use super::shape::{Case, Field, Shape, Tagged, always, left_out, optional, refused, required};

const HOSTED: &str = "runs at the provider, which then acts or fetches by itself";
const STORED: &str = "names something that is stored at the provider; send the content itself";

static BODY: Shape = Shape::Text(MAX_BYTES);
static NAME: Shape = Shape::Text(256);
static BOOL: Shape = Shape::Bool;
static ANY: Shape = Shape::Any;
static NUMBER: Shape = Shape::Number;
static COUNT: Shape = Shape::Integer(0, 10_000_000);

/// `POST /v1/responses`.
pub(super) static RESPONSES: Shape = Shape::Object(&[
    required("model", &NAME),
    required("input", &Shape::Either(&[Shape::Text(MAX_BYTES), Shape::List(&ITEM, 100_000)])),
    optional("instructions", &BODY),
    optional("tools", &Shape::List(&TOOL, 2_000)),
    optional("tool_choice", &TOOL_CHOICE),
    optional("parallel_tool_calls", &BOOL),
    optional("max_tool_calls", &COUNT),
    optional("max_output_tokens", &Shape::Integer(1, 10_000_000)),
    optional("stream", &BOOL),
    optional("stream_options", &Shape::Object(&[optional("include_obfuscation", &BOOL)])),
    optional("reasoning", &REASONING),
    optional("text", &TEXT_FORMAT),
    optional("include", &Shape::List(&INCLUDE, 8)),
    optional("temperature", &NUMBER),
    optional("top_p", &NUMBER),
    optional("top_logprobs", &Shape::Integer(0, 20)),
    optional("truncation", &Shape::Word(&["auto", "disabled"])),
    optional("metadata", &Shape::Map(&Shape::Text(512), 16)),
    optional("user", &NAME),
    optional("safety_identifier", &NAME),
    optional("prompt_cache_key", &NAME),
    optional("prompt_cache_retention", &Shape::Word(&["in-memory", "in_memory", "24h"])),
    optional("service_tier", &Shape::Word(&["default", "flex"])),
    left_out("client_metadata"),
    always("store", false),
    optional("background", &NO_BACKGROUND),
    refused("previous_response_id", STORED),
    refused("conversation", STORED),
    refused("prompt", STORED),
]);

static NO_BACKGROUND: Shape = Shape::Never("would run in the background at the provider and be stored there");

static INCLUDE: Shape = Shape::Word(&["reasoning.encrypted_content", "message.output_text.logprobs"]);

static REASONING: Shape = Shape::Object(&[
    optional("effort", &Shape::Word(&["none", "minimal", "low", "medium", "high", "xhigh", "max"])),
    optional("summary", &Shape::Word(&["auto", "concise", "detailed", "none"])),
    optional("generate_summary", &Shape::Word(&["auto", "concise", "detailed"])),
    optional("context", &Shape::Word(&["auto", "current_turn", "all_turns"])),
]);

static TEXT_FORMAT: Shape = Shape::Object(&[
    optional("verbosity", &Shape::Word(&["low", "medium", "high"])),
    optional("format", &FORMAT),
]);

static FORMAT: Shape = Shape::Tagged(&Tagged {
    tag: "type",
    absent: None,
    cases: &[
        ("text", Case::Fields(&[])),
        ("json_object", Case::Fields(&[])),
        (
            "json_schema",
            Case::Fields(&[
                required("name", &NAME),
                required("schema", &ANY),
                optional("strict", &BOOL),
                optional("description", &BODY),
            ]),
        ),
    ],
});

static ITEM: Shape = Shape::Tagged(&Tagged {
    tag: "type",
    absent: Some("message"),
    cases: &[
        ("message", Case::Fields(MESSAGE)),
        ("reasoning", Case::Fields(REASONING_ITEM)),
        ("function_call", Case::Fields(FUNCTION_CALL)),
        ("function_call_output", Case::Fields(CALL_OUTPUT)),
        ("custom_tool_call", Case::Fields(CUSTOM_CALL)),
        ("custom_tool_call_output", Case::Fields(CALL_OUTPUT)),
        ("local_shell_call", Case::Fields(LOCAL_SHELL_CALL)),
        ("local_shell_call_output", Case::Fields(CALL_OUTPUT)),
        ("tool_search_call", Case::Fields(TOOL_SEARCH_CALL)),
        ("tool_search_output", Case::Fields(TOOL_SEARCH_OUTPUT)),
        ("compaction", Case::Fields(&[required("encrypted_content", &BODY), left_out("id")])),
        ("compaction_trigger", Case::Fields(&[])),
        ("item_reference", Case::Refused(STORED)),
        ("web_search_call", Case::Refused(HOSTED)),
        ("file_search_call", Case::Refused(HOSTED)),
        ("code_interpreter_call", Case::Refused(HOSTED)),
        ("image_generation_call", Case::Refused(HOSTED)),
        ("computer_call", Case::Refused(HOSTED)),
        ("computer_call_output", Case::Refused(HOSTED)),
        ("mcp_call", Case::Refused(HOSTED)),
        ("mcp_list_tools", Case::Refused(HOSTED)),
        ("mcp_approval_request", Case::Refused(HOSTED)),
        ("mcp_approval_response", Case::Refused(HOSTED)),
    ],
});

static MESSAGE: &[Field] = &[
    required("role", &Shape::Word(&["user", "assistant", "system", "developer"])),
    required("content", &TEXT_OR_PARTS),
    optional("status", &STATUS),
    optional("phase", &NAME),
    left_out("id"),
];

static TEXT_OR_PARTS: Shape = Shape::Either(&[Shape::Text(MAX_BYTES), Shape::List(&PART, 100_000)]);

static STATUS: Shape = Shape::Word(&["in_progress", "completed", "incomplete", "failed"]);

static PART: Shape = Shape::Tagged(&Tagged {
    tag: "type",
    absent: None,
    cases: &[
        ("input_text", Case::Fields(&[required("text", &BODY)])),
        (
            "output_text",
            Case::Fields(&[required("text", &BODY), left_out("annotations"), left_out("logprobs")]),
        ),
        ("refusal", Case::Fields(&[required("refusal", &BODY)])),
        (
            "input_image",
            Case::Fields(&[
                required("image_url", &Shape::DataUrl),
                optional("detail", &Shape::Word(&["auto", "low", "high", "original"])),
                refused("file_id", STORED),
            ]),
        ),
        (
            "input_file",
            Case::Fields(&[
                required("file_data", &Shape::DataUrl),
                optional("filename", &NAME),
                refused("file_id", STORED),
                refused("file_url", "would make the provider fetch a URL; send the content as `file_data`"),
            ]),
        ),
    ],
});

static REASONING_ITEM: &[Field] = &[
    optional("summary", &Shape::List(&REASONING_TEXT, 10_000)),
    optional("content", &Shape::List(&REASONING_TEXT, 10_000)),
    optional("encrypted_content", &BODY),
    optional("status", &STATUS),
    left_out("id"),
];

static REASONING_TEXT: Shape = Shape::Object(&[
    required("type", &Shape::Word(&["summary_text", "reasoning_text", "text"])),
    required("text", &BODY),
]);

static FUNCTION_CALL: &[Field] = &[
    required("call_id", &NAME),
    required("name", &NAME),
    required("arguments", &BODY),
    optional("namespace", &NAME),
    optional("status", &STATUS),
    left_out("id"),
];

static CUSTOM_CALL: &[Field] = &[
    required("call_id", &NAME),
    required("name", &NAME),
    required("input", &BODY),
    optional("namespace", &NAME),
    optional("status", &STATUS),
    left_out("id"),
];

static CALL_OUTPUT: &[Field] = &[
    required("call_id", &NAME),
    required("output", &TEXT_OR_PARTS),
    optional("status", &STATUS),
    left_out("name"),
    left_out("id"),
];

static LOCAL_SHELL_CALL: &[Field] = &[
    required("call_id", &NAME),
    required(
        "action",
        &Shape::Object(&[
            required("type", &Shape::Word(&["exec"])),
            required("command", &Shape::List(&BODY, 10_000)),
            optional("env", &Shape::Map(&BODY, 1_000)),
            optional("timeout_ms", &COUNT),
            optional("working_directory", &BODY),
            optional("user", &NAME),
        ]),
    ),
    optional("status", &STATUS),
    left_out("id"),
];

static TOOL_SEARCH_CALL: &[Field] = &[
    optional("call_id", &NAME),
    required("execution", &CLIENT),
    required("arguments", &ANY),
    optional("status", &STATUS),
    left_out("id"),
];

static TOOL_SEARCH_OUTPUT: &[Field] = &[
    optional("call_id", &NAME),
    required("execution", &CLIENT),
    required("tools", &Shape::List(&TOOL, 2_000)),
    optional("status", &STATUS),
    left_out("id"),
];

static CLIENT: Shape = Shape::Word(&["client"]);

static TOOL: Shape = Shape::Tagged(&Tagged {
    tag: "type",
    absent: None,
    cases: &[
        ("function", Case::Fields(FUNCTION)),
        ("custom", Case::Fields(CUSTOM)),
        (
            "namespace",
            Case::Fields(&[
                required("name", &NAME),
                optional("description", &BODY),
                required("tools", &Shape::List(&TOOL, 2_000)),
            ]),
        ),
        (
            "tool_search",
            Case::Fields(&[
                required("execution", &CLIENT),
                optional("description", &BODY),
                optional("parameters", &ANY),
            ]),
        ),
        ("local_shell", Case::Fields(&[])),
        ("web_search", Case::Refused(HOSTED)),
        ("web_search_preview", Case::Refused(HOSTED)),
        ("file_search", Case::Refused(HOSTED)),
        ("code_interpreter", Case::Refused(HOSTED)),
        ("image_generation", Case::Refused(HOSTED)),
        ("computer_use_preview", Case::Refused(HOSTED)),
        ("computer", Case::Refused(HOSTED)),
        ("shell", Case::Refused(HOSTED)),
        ("mcp", Case::Refused("would connect the provider to tool servers elsewhere")),
    ],
});

static FUNCTION: &[Field] = &[
    required("name", &NAME),
    optional("description", &BODY),
    optional("parameters", &ANY),
    optional("strict", &BOOL),
    optional("defer_loading", &BOOL),
];

static CUSTOM: &[Field] = &[
    required("name", &NAME),
    optional("description", &BODY),
    optional("format", &CUSTOM_FORMAT),
    optional("defer_loading", &BOOL),
];

static CUSTOM_FORMAT: Shape = Shape::Tagged(&Tagged {
    tag: "type",
    absent: None,
    cases: &[
        ("text", Case::Fields(&[])),
        (
            "grammar",
            Case::Fields(&[
                required("syntax", &Shape::Word(&["lark", "regex"])),
                required("definition", &BODY),
            ]),
        ),
    ],
});

static TOOL_CHOICE: Shape =
    Shape::Either(&[Shape::Word(&["none", "auto", "required"]), Shape::Tagged(&CHOSEN_TOOL)]);

static CHOSEN_TOOL: Tagged = Tagged {
    tag: "type",
    absent: None,
    cases: &[
        ("function", Case::Fields(&[required("name", &NAME)])),
        ("custom", Case::Fields(&[required("name", &NAME)])),
        (
            "allowed_tools",
            Case::Fields(&[
                required("mode", &Shape::Word(&["auto", "required"])),
                required("tools", &Shape::List(&Shape::Tagged(&CHOSEN_TOOL), 2_000)),
            ]),
        ),
    ],
};
