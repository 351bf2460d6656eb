//! What a text may mean to whoever reads it: as it stands, percent-decoded, and with JSON's escapes undone. A secret is
//! searched in all three, so that it is found however it was escaped.

use std::borrow::Cow;

/// A reading of a buffer, with the place in the buffer where each byte of it comes from.
pub(crate) struct View<'b> {
    pub(crate) bytes: Cow<'b, [u8]>,
    /// Where each byte's unit (itself, or its escape) begins in the buffer; none if each is its own.
    starts: Option<Vec<usize>>,
    /// Where the reading ends: the end of the buffer, or an escape that isn't whole yet.
    end: usize,
}

/// What is at the front of a text.
enum Unit {
    /// So many bytes of the text mean these.
    Means(usize, [u8; 4], usize),
    /// It stands for itself.
    Itself,
    /// Whether it is an escape will show.
    Unfinished,
}

impl<'b> View<'b> {
    /// As it stands.
    pub(crate) fn plain(buffer: &'b [u8]) -> Self {
        Self { bytes: Cow::Borrowed(buffer), starts: None, end: buffer.len() }
    }

    /// Percent-decoded (RFC 3986, section 2.1); none if that is the same.
    pub(crate) fn percent(buffer: &[u8], last: bool) -> Option<Self> {
        memchr::memchr(b'%', buffer)?;
        Some(Self::decoded(buffer, b'%', last, percent))
    }

    /// With the escapes of JSON strings undone (RFC 8259, section 7); none if that is the same.
    pub(crate) fn json(buffer: &[u8], last: bool) -> Option<Self> {
        memchr::memchr(b'\\', buffer)?;
        Some(Self::decoded(buffer, b'\\', last, json))
    }

    fn decoded(buffer: &[u8], mark: u8, last: bool, unit: fn(&[u8]) -> Unit) -> Self {
        let (mut read, mut starts) = (Vec::with_capacity(buffer.len()), Vec::with_capacity(buffer.len()));
        let mut at = 0_usize;
        while let Some((&byte, after)) = buffer.get(at..).and_then(<[u8]>::split_first) {
            let found = if byte == mark { unit(after) } else { Unit::Itself };
            match found {
                Unit::Unfinished if !last => break,
                Unit::Means(length, bytes, count) => {
                    let bytes = bytes.get(..count).unwrap_or_default();
                    read.extend_from_slice(bytes);
                    starts.extend(std::iter::repeat_n(at, bytes.len()));
                    at = at.saturating_add(length).saturating_add(1);
                }
                Unit::Itself | Unit::Unfinished => {
                    read.push(byte);
                    starts.push(at);
                    at = at.saturating_add(1);
                }
            }
        }
        Self { bytes: Cow::Owned(read), starts: Some(starts), end: at }
    }

    /// Where the byte at this place of the reading begins in the buffer.
    pub(crate) fn source(&self, at: usize) -> usize {
        match &self.starts {
            Some(starts) => starts.get(at).copied().unwrap_or(self.end),
            None => at.min(self.end),
        }
    }

    /// Where the reading ends in the buffer.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// The last place at or before this one where a unit begins: a buffer that is cut there reads on as it would have.
    pub(crate) fn whole_before(&self, source: usize) -> usize {
        if source >= self.end {
            return self.end;
        }
        let Some(starts) = &self.starts else { return source };
        let after = starts.partition_point(|start| *start <= source);
        after.checked_sub(1).and_then(|at| starts.get(at)).copied().unwrap_or_default()
    }
}

fn percent(after: &[u8]) -> Unit {
    match after {
        [a, b, ..] => match (digit(*a), digit(*b)) {
            (Some(a), Some(b)) => one(2, a << 4 | b),
            (Some(_) | None, _) => Unit::Itself,
        },
        [a] if digit(*a).is_none() => Unit::Itself,
        [] | [_] => Unit::Unfinished,
    }
}

fn json(after: &[u8]) -> Unit {
    let Some((&kind, after)) = after.split_first() else { return Unit::Unfinished };
    match kind {
        b'"' | b'\\' | b'/' => one(1, kind),
        b'n' => one(1, b'\n'),
        b'r' => one(1, b'\r'),
        b't' => one(1, b'\t'),
        b'b' => one(1, 8),
        b'f' => one(1, 12),
        b'u' => {
            let digits = after.get(..after.len().min(4)).unwrap_or_default();
            let mut code = 0_u32;
            for byte in digits {
                let Some(digit) = digit(*byte) else { return Unit::Itself };
                code = code << 4 | u32::from(digit);
            }
            match char::from_u32(code) {
                _ if digits.len() < 4 => Unit::Unfinished,
                Some(letter) => {
                    let mut bytes = [0; 4];
                    let count = letter.encode_utf8(&mut bytes).len();
                    Unit::Means(5, bytes, count)
                }
                // Half of a pair: no key is written so.
                None => Unit::Itself,
            }
        }
        _other => Unit::Itself,
    }
}

fn one(length: usize, byte: u8) -> Unit {
    Unit::Means(length, [byte, 0, 0, 0], 1)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_what_is_none_stays() {
        let percent = |text: &str| View::percent(text.as_bytes(), true).unwrap().bytes.into_owned();
        assert_eq!(percent("a%2fb%2F%zz%4"), b"a/b/%zz%4");
        assert_eq!(percent("%%41"), b"%A");
        let json = |text: &str| View::json(text.as_bytes(), true).unwrap().bytes.into_owned();
        assert_eq!(json(r#"a\/b\u002f\"\\\x\u00e9\ud83d\u12"#), "a/b/\"\\\\xé\\ud83d\\u12".as_bytes());
        assert!(View::percent(b"plain", true).is_none() && View::json(b"plain", true).is_none());
    }

    #[test]
    fn an_escape_that_is_not_whole_is_waited_for() {
        for (text, end) in [("ab%", 2), ("ab%4", 2), ("ab%zz", 5), ("ab%z", 4)] {
            assert_eq!(View::percent(text.as_bytes(), false).unwrap().end(), end, "{text}");
        }
        for (text, end) in [("ab\\", 2), ("ab\\u00", 2), ("ab\\ux", 5), ("ab\\n", 4)] {
            assert_eq!(View::json(text.as_bytes(), false).unwrap().end(), end, "{text}");
        }
    }

    #[test]
    fn places_lead_back_to_the_buffer() {
        let view = View::percent(b"a%2Fb", true).unwrap();
        assert_eq!([0, 1, 2, 3].map(|at| view.source(at)), [0, 1, 4, 5]);
        assert_eq!([0, 1, 2, 3, 4, 5].map(|at| view.whole_before(at)), [0, 1, 1, 1, 4, 5]);
    }
}
