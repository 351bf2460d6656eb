//! What a call cost, read out of the answer's bytes as they pass.

use serde_json::Value;
use wire::model::Dialect;

/// Most bytes of one event, or of an answer that is not streamed, that are looked at.
const MAX_LOOKED_AT: usize = 16 << 20;

/// Tokens of one call, each kind apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Read by the model and not cached.
    pub input: u64,
    /// Read from the provider's cache.
    pub cache_read: u64,
    /// Read and put into the provider's cache; none: the provider doesn't say, and these are among `input`.
    pub cache_write: Option<u64>,
    /// Written by the model.
    pub output: u64,
}

impl Usage {
    /// All that the model read.
    #[must_use]
    pub fn prompt(&self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_write.unwrap_or(0))
    }

    /// All tokens together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.prompt().saturating_add(self.output)
    }
}

/// Watches the bytes of one answer.
#[derive(Debug)]
pub(crate) struct UsageReader {
    dialect: Dialect,
    events: bool,
    /// The line or body so far; `None` while a line that is too long goes by.
    buffer: Option<Vec<u8>>,
    usage: Usage,
    prompt_known: bool,
    whole: bool,
}

impl UsageReader {
    pub(crate) fn new(dialect: Dialect, events: bool) -> Self {
        Self {
            dialect,
            events,
            buffer: Some(Vec::new()),
            usage: Usage::default(),
            prompt_known: false,
            whole: false,
        }
    }

    /// The usage, once the provider has told all of it.
    pub(crate) fn declared(&self) -> Option<Usage> {
        self.whole.then_some(self.usage)
    }

    /// The tokens of the prompt, as soon as the provider has told them.
    pub(crate) fn prompt(&self) -> Option<u64> {
        self.prompt_known.then(|| self.usage.prompt())
    }

    /// Looks at the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if !self.events {
            self.keep(bytes);
            return;
        }
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            self.keep(line);
            if let Some(line) = self.buffer.replace(Vec::new()) {
                self.line(&line);
            }
        }
        self.keep(rest);
    }

    /// The answer ended in order.
    pub(crate) fn end(&mut self) {
        if let Some(rest) = self.buffer.take() {
            if self.events { self.line(&rest) } else { self.look(&rest) }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        match &mut self.buffer {
            Some(buffer) if buffer.len().saturating_add(bytes.len()) <= MAX_LOOKED_AT => {
                buffer.extend_from_slice(bytes)
            }
            Some(_) | None => self.buffer = None,
        }
    }

    fn line(&mut self, line: &[u8]) {
        if let Some(data) = line.strip_prefix(b"data:") {
            self.look(data);
        }
    }

    fn look(&mut self, json: &[u8]) {
        const KEY: &[u8] = b"\"usage\"";
        if !json.windows(KEY.len()).any(|window| window == KEY) {
            return;
        }
        let Ok(value) = serde_json::from_slice::<Value>(json) else { return };
        match self.dialect {
            Dialect::AnthropicMessages => self.anthropic(&value),
            Dialect::OpenAiResponses => self.openai(
                value.get("response").unwrap_or(&value),
                ["input_tokens", "output_tokens", "input_tokens_details"],
            ),
            Dialect::OpenAiChat => {
                self.openai(&value, ["prompt_tokens", "completion_tokens", "prompt_tokens_details"]);
            }
            Dialect::AnthropicCountTokens => {}
        }
    }

    /// The first event tells the prompt, the last the output; counts are totals so far.
    fn anthropic(&mut self, value: &Value) {
        let started = value.get("message").and_then(|message| message.get("usage"));
        let Some(usage) = started.or_else(|| value.get("usage")).filter(|usage| usage.is_object()) else {
            return;
        };
        let take = |key: &str, into: &mut u64| {
            if let Some(count) = usage.get(key).and_then(Value::as_u64) {
                *into = count;
            }
        };
        take("input_tokens", &mut self.usage.input);
        take("cache_read_input_tokens", &mut self.usage.cache_read);
        let mut written = self.usage.cache_write.unwrap_or(0);
        take("cache_creation_input_tokens", &mut written);
        self.usage.cache_write = Some(written);
        take("output_tokens", &mut self.usage.output);
        self.prompt_known |= usage.get("input_tokens").is_some_and(Value::is_u64);
        self.whole |=
            started.is_none() && self.prompt_known && usage.get("output_tokens").is_some_and(Value::is_u64);
    }

    fn openai(&mut self, value: &Value, [input, output, details]: [&str; 3]) {
        let Some(usage) = value.get("usage") else { return };
        let count = |key: &str| usage.get(key).and_then(Value::as_u64);
        let (Some(input), Some(output)) = (count(input), count(output)) else { return };
        let detail =
            |key: &str| usage.get(details).and_then(|details| details.get(key)).and_then(Value::as_u64);
        let cache_read = detail("cached_tokens").unwrap_or(0).min(input);
        let input = input - cache_read;
        let cache_write = detail("cache_write_tokens").map(|written| written.min(input));
        let input = input - cache_write.unwrap_or(0);
        self.usage = Usage { input, cache_read, cache_write, output };
        self.prompt_known = true;
        self.whole = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same bytes in pieces of every size up to nine.
    fn read(dialect: Dialect, events: bool, bytes: &str) -> Vec<(Option<Usage>, Option<u64>)> {
        (1..10)
            .map(|size| {
                let mut reader = UsageReader::new(dialect, events);
                bytes.as_bytes().chunks(size).for_each(|chunk| reader.push(chunk));
                reader.end();
                (reader.declared(), reader.prompt())
            })
            .collect()
    }

    #[track_caller]
    fn all(dialect: Dialect, events: bool, bytes: &str, expected: (Option<Usage>, Option<u64>)) {
        read(dialect, events, bytes).into_iter().for_each(|found| assert_eq!(found, expected));
    }

    #[test]
    fn anthropic_tells_at_the_start_and_at_the_end() {
        let start = "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7,\
                     \"cache_read_input_tokens\":100,\"cache_creation_input_tokens\":20,\"output_tokens\":1}}}\r\n\r\n";
        all(Dialect::AnthropicMessages, true, start, (None, Some(127)));
        let end = "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":40}}\n\ndata: {\"type\":\"message_stop\"}\n\n";
        let usage = Usage { input: 7, cache_read: 100, cache_write: Some(20), output: 40 };
        all(Dialect::AnthropicMessages, true, &format!("{start}{end}"), (Some(usage), Some(127)));
        let whole = r#"{"content":[],"usage":{"input_tokens":3,"output_tokens":4}}"#;
        let usage = Usage { input: 3, cache_read: 0, cache_write: Some(0), output: 4 };
        all(Dialect::AnthropicMessages, false, whole, (Some(usage), Some(3)));
    }

    #[test]
    fn openai_tells_at_the_end() {
        let usage = Usage { input: 6, cache_read: 4, cache_write: None, output: 5 };
        let done = "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":10,\
                    \"input_tokens_details\":{\"cached_tokens\":4},\"output_tokens\":5}}}\n\n";
        all(Dialect::OpenAiResponses, true, done, (Some(usage), Some(10)));
        let chunk = "data: {\"choices\":[],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\
                     \"completion_tokens\":5,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\ndata: [DONE]\n\n";
        all(Dialect::OpenAiChat, true, chunk, (Some(usage), Some(10)));
        let wrote = Usage { input: 1, cache_read: 4, cache_write: Some(5), output: 5 };
        all(
            Dialect::OpenAiResponses,
            true,
            &done.replace("4}", "4,\"cache_write_tokens\":5}"),
            (Some(wrote), Some(10)),
        );
        let more = Usage { input: 0, cache_read: 4, cache_write: Some(6), output: 5 };
        all(
            Dialect::OpenAiChat,
            true,
            &chunk.replace("4}", "4,\"cache_write_tokens\":99}"),
            (Some(more), Some(10)),
        );
        let text = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\": 1\"}}]}\n\n";
        all(Dialect::OpenAiChat, true, text, (None, None));
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over() {
        let mut reader = UsageReader::new(Dialect::OpenAiChat, true);
        reader.push(b"data: {\"x\":\"");
        (0..MAX_LOOKED_AT / 1024 + 1).for_each(|_| reader.push(&[b'a'; 1024]));
        assert!(reader.buffer.is_none());
        reader.push(b"\"}\n\ndata: {\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n");
        assert_eq!(reader.declared().unwrap().total(), 3);
    }
}
