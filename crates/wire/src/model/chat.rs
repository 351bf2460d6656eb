//! The list for OpenAI Chat Completions, as the provider and compatible local servers (vLLM, Ollama) take it: what is
//! passed on, and what is refused by name.
//!
//! Source: the provider's API reference.

use super::MAX_BYTES;
use super::shape::{Case, Field, Shape, Tagged, left_out, optional, refused, required};

const STORED: &str = "names something that is stored at the provider; send the content itself";

static BODY: Shape = Shape::Text(MAX_BYTES);
static NAME: Shape = Shape::Text(256);
static BOOL: Shape = Shape::Bool;
static ANY: Shape = Shape::Any;
static NUMBER: Shape = Shape::Number;

/// `POST /v1/chat/completions`.
pub(super) static CHAT: Shape = Shape::Object(&[
    required("model", &NAME),
    required("messages", &Shape::List(&MESSAGE, 100_000)),
    optional("tools", &Shape::List(&TOOL, 2_000)),
    optional("tool_choice", &TOOL_CHOICE),
    optional("parallel_tool_calls", &BOOL),
    optional("max_tokens", &Shape::Integer(1, 10_000_000)),
    optional("max_completion_tokens", &Shape::Integer(1, 10_000_000)),
    optional("stream", &BOOL),
    optional(
        "stream_options",
        &Shape::Object(&[optional("include_usage", &BOOL), optional("include_obfuscation", &BOOL)]),
    ),
    // One answer: the token limit counts on it.
    optional("n", &Shape::Integer(1, 1)),
    optional("temperature", &NUMBER),
    optional("top_p", &NUMBER),
    optional("top_k", &NUMBER),
    optional("min_p", &NUMBER),
    optional("repetition_penalty", &NUMBER),
    optional("presence_penalty", &NUMBER),
    optional("frequency_penalty", &NUMBER),
    optional("logit_bias", &Shape::Map(&NUMBER, 1_024)),
    optional("logprobs", &BOOL),
    optional("top_logprobs", &Shape::Integer(0, 20)),
    optional("seed", &NUMBER),
    optional("stop", &Shape::Either(&[Shape::Text(256), Shape::List(&NAME, 64)])),
    optional("response_format", &RESPONSE_FORMAT),
    optional("prediction", &PREDICTION),
    optional("reasoning_effort", &Shape::Word(&["none", "minimal", "low", "medium", "high", "xhigh", "max"])),
    optional("verbosity", &Shape::Word(&["low", "medium", "high"])),
    optional("modalities", &Shape::List(&Shape::Word(&["text"]), 1)),
    optional("user", &NAME),
    optional("safety_identifier", &NAME),
    optional("prompt_cache_key", &NAME),
    optional("prompt_cache_retention", &Shape::Word(&["in-memory", "in_memory", "24h"])),
    optional("service_tier", &Shape::Word(&["default", "flex"])),
    // Only matter for what is stored, and nothing is.
    left_out("store"),
    left_out("metadata"),
    refused("audio", "asks for spoken answers, which are not passed on"),
    refused("web_search_options", "would make the provider search the web"),
]);

static MESSAGE: Shape = Shape::Tagged(&Tagged {
    tag: "role",
    absent: None,
    cases: &[
        ("system", Case::Fields(SPOKEN)),
        ("developer", Case::Fields(SPOKEN)),
        ("user", Case::Fields(SPOKEN)),
        (
            "assistant",
            Case::Fields(&[
                optional("content", &TEXT_OR_PARTS),
                optional("name", &NAME),
                optional("refusal", &BODY),
                optional("reasoning", &BODY),
                optional("reasoning_content", &BODY),
                optional("tool_calls", &Shape::List(&TOOL_CALL, 10_000)),
                left_out("annotations"),
                left_out("function_call"),
                refused("audio", STORED),
            ]),
        ),
        (
            "tool",
            Case::Fields(&[
                required("tool_call_id", &NAME),
                required("content", &TEXT_OR_PARTS),
                optional("name", &NAME),
            ]),
        ),
    ],
});

static SPOKEN: &[Field] = &[required("content", &TEXT_OR_PARTS), optional("name", &NAME)];

static TEXT_OR_PARTS: Shape = Shape::Either(&[Shape::Text(MAX_BYTES), Shape::List(&PART, 100_000)]);

static PART: Shape = Shape::Tagged(&Tagged {
    tag: "type",
    absent: None,
    cases: &[
        ("text", Case::Fields(&[required("text", &BODY)])),
        ("refusal", Case::Fields(&[required("refusal", &BODY)])),
        (
            "image_url",
            Case::Fields(&[required(
                "image_url",
                &Shape::Object(&[
                    required("url", &Shape::DataUrl),
                    optional("detail", &Shape::Word(&["auto", "low", "high"])),
                ]),
            )]),
        ),
        (
            "input_audio",
            Case::Fields(&[required(
                "input_audio",
                &Shape::Object(&[required("data", &BODY), required("format", &Shape::Word(&["wav", "mp3"]))]),
            )]),
        ),
        (
            "file",
            Case::Fields(&[required(
                "file",
                &Shape::Object(&[
                    required("file_data", &Shape::DataUrl),
                    optional("filename", &NAME),
                    refused("file_id", STORED),
                ]),
            )]),
        ),
    ],
});

static TOOL_CALL: Shape = Shape::Tagged(&Tagged {
    tag: "type",
    absent: Some("function"),
    cases: &[
        (
            "function",
            Case::Fields(&[
                required("id", &NAME),
                required(
                    "function",
                    &Shape::Object(&[required("name", &NAME), required("arguments", &BODY)]),
                ),
                left_out("index"),
            ]),
        ),
        (
            "custom",
            Case::Fields(&[
                required("id", &NAME),
                required("custom", &Shape::Object(&[required("name", &NAME), required("input", &BODY)])),
                left_out("index"),
            ]),
        ),
    ],
});

static TOOL: Shape = Shape::Tagged(&Tagged {
    tag: "type",
    absent: None,
    cases: &[
        (
            "function",
            Case::Fields(&[required(
                "function",
                &Shape::Object(&[
                    required("name", &NAME),
                    optional("description", &BODY),
                    optional("parameters", &ANY),
                    optional("strict", &BOOL),
                ]),
            )]),
        ),
        (
            "custom",
            Case::Fields(&[required(
                "custom",
                &Shape::Object(&[
                    required("name", &NAME),
                    optional("description", &BODY),
                    optional("format", &ANY),
                ]),
            )]),
        ),
    ],
});

static TOOL_CHOICE: Shape = Shape::Either(&[
    Shape::Word(&["none", "auto", "required"]),
    Shape::Tagged(&Tagged {
        tag: "type",
        absent: None,
        cases: &[
            ("function", Case::Fields(&[required("function", &CHOSEN)])),
            ("custom", Case::Fields(&[required("custom", &CHOSEN)])),
        ],
    }),
]);

static CHOSEN: Shape = Shape::Object(&[required("name", &NAME)]);

static RESPONSE_FORMAT: Shape = Shape::Tagged(&Tagged {
    tag: "type",
    absent: None,
    cases: &[
        ("text", Case::Fields(&[])),
        ("json_object", Case::Fields(&[])),
        (
            "json_schema",
            Case::Fields(&[required(
                "json_schema",
                &Shape::Object(&[
                    required("name", &NAME),
                    optional("description", &BODY),
                    optional("schema", &ANY),
                    optional("strict", &BOOL),
                ]),
            )]),
        ),
    ],
});

static PREDICTION: Shape =
    Shape::Object(&[required("type", &Shape::Word(&["content"])), required("content", &TEXT_OR_PARTS)]);
