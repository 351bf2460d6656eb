//! The headers of a model request that change what it means. All others stay at the door; the host writes its own.

use super::Dialect;

/// Most bytes of one header's value.
pub const MAX_HEADER: usize = 4096;

const VERSIONS: &[&str] = &["2023-06-01"];

/// Betas of Anthropic's API that change how a model answers. Those that would make the provider act, fetch or store
/// (web search, code execution, files, MCP, batches, agents) are missing on purpose.
const BETAS: &[&str] = &[
    "advanced-tool-use-2025-11-20",
    "claude-code-20250219",
    "context-1m-2025-08-07",
    "context-management-2025-06-27",
    "effort-2025-11-24",
    "extended-cache-ttl-2025-04-11",
    "fine-grained-tool-streaming-2025-05-14",
    "inline-tools-2026-09-15",
    "interleaved-thinking-2025-05-14",
    "mid-conversation-system-2026-04-07",
    "mid-conversation-tool-changes-2026-07-01",
    "per-turn-control-2026-07-01",
    "prompt-caching-scope-2026-01-05",
    "redact-thinking-2026-02-12",
    "structured-outputs-2025-11-13",
    "structured-outputs-2025-12-15",
    "task-budgets-2026-03-13",
    "thinking-token-count-2026-05-13",
    "token-counting-2024-11-01",
];

/// The header as it is passed on: name in lower case, value reduced to what the list names. `None`: it stays here.
///
/// A beta that is not on the list is left out, not refused: it only offers fields, and those have their own list.
#[must_use]
pub fn pass_header(dialect: Dialect, name: &str, value: &str) -> Option<(String, String)> {
    let anthropic = match dialect {
        Dialect::AnthropicMessages | Dialect::AnthropicCountTokens => true,
        Dialect::OpenAiResponses | Dialect::OpenAiChat => false,
    };
    if !anthropic || value.len() > MAX_HEADER {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let value = match name.as_str() {
        "anthropic-version" => VERSIONS.iter().find(|known| **known == value.trim())?.to_string(),
        "anthropic-beta" => {
            let known = value.split(',').map(str::trim).filter(|beta| BETAS.contains(beta));
            known.collect::<Vec<_>>().join(",")
        }
        _ => return None,
    };
    (!value.is_empty()).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_headers_and_betas_pass() {
        let pass = |name: &str, value: &str| pass_header(Dialect::AnthropicMessages, name, value);
        let betas = "claude-code-20250219, web-search-2025-03-05,code-execution-2025-05-22,effort-2025-11-24";
        assert_eq!(
            pass("Anthropic-Beta", betas),
            Some(("anthropic-beta".into(), "claude-code-20250219,effort-2025-11-24".into()))
        );
        assert_eq!(pass("anthropic-beta", "files-api-2025-04-14"), None);
        assert_eq!(
            pass("anthropic-version", "2023-06-01"),
            Some(("anthropic-version".into(), "2023-06-01".into()))
        );
        for (name, value) in [
            ("anthropic-version", "2099-01-01"),
            ("x-api-key", "placeholder"),
            ("authorization", "Bearer x"),
            ("host", "evil.example"),
            ("x-app", "cli"),
        ] {
            assert_eq!(pass(name, value), None);
        }
        assert_eq!(pass_header(Dialect::OpenAiResponses, "anthropic-beta", "effort-2025-11-24"), None);
    }
}
