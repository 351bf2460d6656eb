//! The list for Anthropic Messages and its token counting: what is passed on, and what is refused by name.
//!
//! Source: the provider's API reference and what Claude Code 2.1 was seen to send (`requests/`).

use super::MAX_BYTES;
use super::shape::{Case, Field, Shape, Tagged, left_out, optional, refused, required};

const HOSTED: &str = "runs at the provider, which then acts or fetches by itself";
const FILE: &str = "names a file that is stored at the provider";
const URL: &str = "would make the provider fetch a URL; send the content itself as base64";

static BODY: Shape = Shape::Text(MAX_BYTES);
static NAME: Shape = Shape::Text(256);
static BOOL: Shape = Shape::Bool;
static ANY: Shape = Shape::Any;
static NUMBER: Shape = Shape::Number;
static COUNT: Shape = Shape::Integer(0, 10_000_000);

/// `POST /v1/messages`.
pub(super) static MESSAGES: Shape = Shape::Object(&[
    required("model", &NAME),
    required("messages", &Shape::List(&MESSAGE, 100_000)),
    required("max_tokens", &Shape::Integer(1, 10_000_000)),
    optional("system", &TEXT_OR_BLOCKS),
    optional("tools", &Shape::List(&TOOL, 2_000)),
    optional("tool_choice", &TOOL_CHOICE),
    optional("stream", &BOOL),
    optional("thinking", &THINKING),
    optional("output_config", &OUTPUT_CONFIG),
    optional("output_format", &OUTPUT_FORMAT),
    optional("context_management", &CONTEXT_MANAGEMENT),
    optional("cache_control", &CACHE_CONTROL),
    optional("metadata", &Shape::Object(&[optional("user_id", &Shape::Text(4096))])),
    optional("temperature", &NUMBER),
    optional("top_p", &NUMBER),
    optional("top_k", &COUNT),
    optional("stop_sequences", &Shape::List(&NAME, 64)),
    optional("service_tier", &Shape::Word(&["auto", "standard_only"])),
    left_out("diagnostics"),
    refused("mcp_servers", "would connect the provider to tool servers elsewhere"),
    refused("container", "names a container at the provider, where code runs"),
]);

/// `POST /v1/messages/count_tokens`.
pub(super) static COUNT_TOKENS: Shape = Shape::Object(&[
    required("model", &NAME),
    required("messages", &Shape::List(&MESSAGE, 100_000)),
    optional("system", &TEXT_OR_BLOCKS),
    optional("tools", &Shape::List(&TOOL, 2_000)),
    optional("tool_choice", &TOOL_CHOICE),
    optional("thinking", &THINKING),
    optional("output_config", &OUTPUT_CONFIG),
    optional("output_format", &OUTPUT_FORMAT),
    optional("context_management", &CONTEXT_MANAGEMENT),
    optional("cache_control", &CACHE_CONTROL),
    refused("mcp_servers", "would connect the provider to tool servers elsewhere"),
    refused("container", "names a container at the provider, where code runs"),
]);

static MESSAGE: Shape = Shape::Object(&[
    required("role", &Shape::Word(&["user", "assistant", "system"])),
    required("content", &TEXT_OR_BLOCKS),
    optional("output_config", &Shape::Object(&[optional("effort", &EFFORT)])),
]);

static TEXT_OR_BLOCKS: Shape = Shape::Either(&[Shape::Text(MAX_BYTES), Shape::List(&BLOCK, 100_000)]);

static BLOCK: Shape = Shape::Tagged(&Tagged {
    tag: "type",
    absent: None,
    cases: &[
        ("text", Case::Fields(TEXT)),
        ("image", Case::Fields(IMAGE)),
        ("document", Case::Fields(DOCUMENT)),
        ("search_result", Case::Fields(SEARCH_RESULT)),
        ("thinking", Case::Fields(&[required("thinking", &BODY), required("signature", &BODY)])),
        ("redacted_thinking", Case::Fields(&[required("data", &BODY)])),
        ("tool_use", Case::Fields(TOOL_USE)),
        ("tool_result", Case::Fields(TOOL_RESULT)),
        (
            "tool_reference",
            Case::Fields(&[required("tool_name", &NAME), optional("cache_control", &CACHE_CONTROL)]),
        ),
        ("tool_addition", Case::Fields(TOOL_CHANGE)),
        ("tool_removal", Case::Fields(TOOL_CHANGE)),
        ("server_tool_use", Case::Refused(HOSTED)),
        ("web_search_tool_result", Case::Refused(HOSTED)),
        ("web_fetch_tool_result", Case::Refused(HOSTED)),
        ("code_execution_tool_result", Case::Refused(HOSTED)),
        ("bash_code_execution_tool_result", Case::Refused(HOSTED)),
        ("text_editor_code_execution_tool_result", Case::Refused(HOSTED)),
        ("tool_search_tool_result", Case::Refused(HOSTED)),
        ("mcp_tool_use", Case::Refused(HOSTED)),
        ("mcp_tool_result", Case::Refused(HOSTED)),
        ("container_upload", Case::Refused(FILE)),
    ],
});

static TEXT: &[Field] = &[
    required("text", &BODY),
    optional("cache_control", &CACHE_CONTROL),
    optional("citations", &Shape::List(&CITATION, 10_000)),
];

static IMAGE: &[Field] = &[required("source", &IMAGE_SOURCE), optional("cache_control", &CACHE_CONTROL)];

static DOCUMENT: &[Field] = &[
    required("source", &DOCUMENT_SOURCE),
    optional("title", &BODY),
    optional("context", &BODY),
    optional("citations", &CITATIONS_SWITCH),
    optional("cache_control", &CACHE_CONTROL),
];

static SEARCH_RESULT: &[Field] = &[
    required("source", &BODY),
    required("title", &BODY),
    required("content", &Shape::List(&BLOCK, 10_000)),
    optional("citations", &CITATIONS_SWITCH),
    optional("cache_control", &CACHE_CONTROL),
];

static TOOL_USE: &[Field] = &[
    required("id", &NAME),
    required("name", &NAME),
    required("input", &ANY),
    optional("caller", &Shape::Object(&[required("type", &Shape::Word(&["direct"]))])),
    optional("cache_control", &CACHE_CONTROL),
];

static TOOL_RESULT: &[Field] = &[
    required("tool_use_id", &NAME),
    optional("content", &TEXT_OR_BLOCKS),
    optional("is_error", &BOOL),
    optional("cache_control", &CACHE_CONTROL),
];

static TOOL_CHANGE: &[Field] = &[required("tool", &CHANGED_TOOL), optional("cache_control", &CACHE_CONTROL)];

static CHANGED_TOOL: Shape = Shape::Tagged(&Tagged {
    tag: "type",
    absent: None,
    cases: &[
        ("tool_reference", Case::Fields(&[required("name", &NAME)])),
        ("tool_definition", Case::Fields(&[required("definition", &TOOL)])),
    ],
});

static IMAGE_SOURCE: Shape = Shape::Tagged(&Tagged {
    tag: "type",
    absent: None,
    cases: &[
        ("base64", Case::Fields(&[required("media_type", &NAME), required("data", &BODY)])),
        ("url", Case::Refused(URL)),
        ("file", Case::Refused(FILE)),
    ],
});

static DOCUMENT_SOURCE: Shape = Shape::Tagged(&Tagged {
    tag: "type",
    absent: None,
    cases: &[
        ("base64", Case::Fields(&[required("media_type", &NAME), required("data", &BODY)])),
        ("text", Case::Fields(&[required("media_type", &NAME), required("data", &BODY)])),
        ("content", Case::Fields(&[required("content", &TEXT_OR_BLOCKS)])),
        ("url", Case::Refused(URL)),
        ("file", Case::Refused(FILE)),
    ],
});

static CITATIONS_SWITCH: Shape = Shape::Object(&[optional("enabled", &BOOL)]);

static CITATION: Shape = Shape::Tagged(&Tagged {
    tag: "type",
    absent: None,
    cases: &[
        ("char_location", Case::Fields(CITED_DOCUMENT)),
        ("page_location", Case::Fields(CITED_DOCUMENT)),
        ("content_block_location", Case::Fields(CITED_DOCUMENT)),
        ("search_result_location", Case::Fields(CITED_DOCUMENT)),
        ("web_search_result_location", Case::Refused(HOSTED)),
    ],
});

static CITED_DOCUMENT: &[Field] = &[
    optional("cited_text", &BODY),
    optional("title", &BODY),
    optional("source", &BODY),
    optional("document_index", &COUNT),
    optional("document_title", &BODY),
    optional("search_result_index", &COUNT),
    optional("start_char_index", &COUNT),
    optional("end_char_index", &COUNT),
    optional("start_page_number", &COUNT),
    optional("end_page_number", &COUNT),
    optional("start_block_index", &COUNT),
    optional("end_block_index", &COUNT),
    left_out("file_id"),
];

static CACHE_CONTROL: Shape = Shape::Object(&[
    required("type", &Shape::Word(&["ephemeral"])),
    optional("ttl", &Shape::Word(&["5m", "1h"])),
    optional("scope", &Shape::Word(&["global", "organization"])),
]);

static TOOL: Shape = Shape::Tagged(&Tagged {
    tag: "type",
    absent: Some("custom"),
    cases: &[
        ("custom", Case::Fields(OWN_TOOL)),
        // The provider only describes these; the harness runs them.
        ("bash_20250124", Case::Fields(DESCRIBED_TOOL)),
        ("text_editor_20250124", Case::Fields(DESCRIBED_TOOL)),
        ("text_editor_20250429", Case::Fields(DESCRIBED_TOOL)),
        ("text_editor_20250728", Case::Fields(DESCRIBED_TOOL)),
        ("memory_20250818", Case::Fields(DESCRIBED_TOOL)),
        ("web_search_20250305", Case::Refused(HOSTED)),
        ("web_fetch_20250910", Case::Refused(HOSTED)),
        ("code_execution_20250522", Case::Refused(HOSTED)),
        ("code_execution_20250825", Case::Refused(HOSTED)),
        ("tool_search_tool_regex_20251119", Case::Refused(HOSTED)),
        ("tool_search_tool_bm25_20251119", Case::Refused(HOSTED)),
        ("advisor_20260301", Case::Refused(HOSTED)),
        ("mcp_toolset", Case::Refused("would connect the provider to tool servers elsewhere")),
        ("computer_20250124", Case::Refused("is computer use, which no agent is granted")),
        ("computer_20251124", Case::Refused("is computer use, which no agent is granted")),
    ],
});

static OWN_TOOL: &[Field] = &[
    required("name", &NAME),
    required("input_schema", &ANY),
    optional("description", &BODY),
    optional("cache_control", &CACHE_CONTROL),
    optional("strict", &BOOL),
    optional("defer_loading", &BOOL),
    optional("eager_input_streaming", &BOOL),
    optional("input_examples", &ANY),
    optional("allowed_callers", &Shape::List(&Shape::Word(&["direct"]), 4)),
];

static DESCRIBED_TOOL: &[Field] = &[
    required("name", &NAME),
    optional("max_characters", &COUNT),
    optional("cache_control", &CACHE_CONTROL),
    optional("defer_loading", &BOOL),
    optional("strict", &BOOL),
];

static TOOL_CHOICE: Shape = Shape::Tagged(&Tagged {
    tag: "type",
    absent: None,
    cases: &[
        ("auto", Case::Fields(&[optional("disable_parallel_tool_use", &BOOL)])),
        ("any", Case::Fields(&[optional("disable_parallel_tool_use", &BOOL)])),
        ("none", Case::Fields(&[])),
        ("tool", Case::Fields(&[required("name", &NAME), optional("disable_parallel_tool_use", &BOOL)])),
    ],
});

static THINKING: Shape = Shape::Object(&[
    required("type", &Shape::Word(&["enabled", "adaptive", "disabled"])),
    optional("budget_tokens", &COUNT),
    optional("display", &Shape::Word(&["summarized", "omitted", "full", "updates"])),
]);

static EFFORT: Shape = Shape::Word(&["low", "medium", "high", "xhigh", "max"]);

static OUTPUT_CONFIG: Shape = Shape::Object(&[
    optional("effort", &EFFORT),
    optional("format", &OUTPUT_FORMAT),
    optional("task_budget", &TASK_BUDGET),
]);

static TASK_BUDGET: Shape = Shape::Object(&[
    required("type", &Shape::Word(&["tokens"])),
    required("total", &COUNT),
    optional("remaining", &COUNT),
]);

static OUTPUT_FORMAT: Shape =
    Shape::Object(&[required("type", &Shape::Word(&["json_schema"])), required("schema", &ANY)]);

static CONTEXT_MANAGEMENT: Shape = Shape::Object(&[optional("edits", &Shape::List(&CONTEXT_EDIT, 16))]);

static CONTEXT_EDIT: Shape = Shape::Tagged(&Tagged {
    tag: "type",
    absent: None,
    cases: &[
        ("clear_thinking_20251015", Case::Fields(&[optional("keep", &AMOUNT_OR_ALL)])),
        (
            "clear_tool_uses_20250919",
            Case::Fields(&[
                optional("trigger", &AMOUNT_OR_ALL),
                optional("keep", &AMOUNT_OR_ALL),
                optional("clear_at_least", &AMOUNT_OR_ALL),
                optional("exclude_tools", &Shape::List(&NAME, 2_000)),
                optional("clear_tool_inputs", &Shape::Either(&[Shape::Bool, Shape::List(&NAME, 2_000)])),
            ]),
        ),
    ],
});

static AMOUNT_OR_ALL: Shape = Shape::Either(&[
    Shape::Word(&["all"]),
    Shape::Object(&[
        required("type", &Shape::Word(&["tool_uses", "input_tokens", "thinking_turns"])),
        required("value", &COUNT),
    ]),
]);
