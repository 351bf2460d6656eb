//! Server-sent events, read as they come (HTML standard, section 9.2.6): only `data` matters to model providers.

/// An event, or a line of it, is longer than the parser takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer has an event that is too long")]
pub(super) struct EventTooLong;

/// A parser that takes bytes in any portions.
#[derive(Debug)]
pub(super) struct Parser {
    max: usize,
    line: Vec<u8>,
    data: Option<String>,
    after_cr: bool,
}

impl Parser {
    /// A parser for events of at most so many bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { max, line: Vec::new(), data: None, after_cr: false }
    }

    /// Takes the next bytes and gives the data of each event that they complete.
    ///
    /// # Errors
    /// When an event is too long.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<String>, EventTooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            let lf_of_crlf = byte == b'\n' && self.after_cr;
            self.after_cr = byte == b'\r';
            match byte {
                b'\n' if lf_of_crlf => {}
                b'\n' | b'\r' => events.extend(self.end_line()?),
                other if self.line.len() < self.max => self.line.push(other),
                _too_many => return Err(EventTooLong),
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Result<Option<String>, EventTooLong> {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        if line.is_empty() {
            return Ok(self.data.take());
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        if field != "data" {
            return Ok(None);
        }
        let value = value.strip_prefix(' ').unwrap_or(value);
        let data = match &mut self.data {
            Some(data) => {
                data.push('\n');
                data
            }
            none => none.insert(String::new()),
        };
        if data.len() + value.len() > self.max {
            return Err(EventTooLong);
        }
        data.push_str(value);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str =
        "\u{feff}: hi\nevent: a\ndata: {\"x\":1}\n\ndata: one\r\ndata:two\r\n\r\nid: 3\n\ndata\n\n";

    #[test]
    fn events_come_out_whole_however_the_bytes_are_cut() {
        let expected = vec!["{\"x\":1}".to_owned(), "one\ntwo".to_owned(), String::new()];
        for size in 1..STREAM.len() {
            let mut parser = Parser::new(4 << 20);
            let mut seen = Vec::new();
            for part in STREAM.as_bytes().chunks(size) {
                seen.extend(parser.feed(part).expect("short events"));
            }
            assert_eq!(seen, expected, "in parts of {size}");
        }
    }

    #[test]
    fn an_endless_line_or_event_is_refused() {
        let mut parser = Parser::new(4 << 20);
        let chunk = vec![b'x'; 1024 * 1024];
        assert!((0..6).any(|_| parser.feed(&chunk).is_err()), "a line");
        let mut parser = Parser::new(4 << 20);
        let mut line = b"data: ".to_vec();
        line.extend(vec![b'x'; 1024 * 1024]);
        line.push(b'\n');
        assert!((0..6).any(|_| parser.feed(&line).is_err()), "many lines");
    }
}
