//! A mail taken apart, before the library sees any of it: heads of bounded size with what they stand above.

use std::borrow::Cow;

/// Most bytes of one head, and of one field of it.
const MAX_HEAD: usize = 64 << 10;
const MAX_FIELD: usize = 16 << 10;
/// Most encoded words (`=?…?=`) of one field: the library looks for the end of each up to the end of the field.
const MAX_WORDS: usize = 200;

/// A mail, or a part of one.
pub(crate) struct Part<'b> {
    /// What stands above it, as far as it is decoded.
    pub(crate) head: Cow<'b, [u8]>,
    /// What it holds. None where the head has no end in sight: then nobody knows what the rest is.
    pub(crate) body: Option<&'b [u8]>,
    /// Whether something of the head is left out.
    pub(crate) cut: bool,
}

impl<'b> Part<'b> {
    /// Tells the head from what follows.
    pub(crate) fn of(bytes: &'b [u8]) -> Self {
        let mut end = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            end += line.len();
            if end > MAX_HEAD {
                let (head, _) = decodable(bytes.get(..MAX_HEAD).unwrap_or_default());
                return Self { head, body: None, cut: true };
            }
            if matches!(line, b"\n" | b"\r\n") {
                break;
            }
        }
        let (head, body) = bytes.split_at(end);
        let (head, cut) = decodable(head);
        Self { head, body: Some(body), cut }
    }
}

/// A head whose fields are cut to their limits, and whether one was.
fn decodable(head: &[u8]) -> (Cow<'_, [u8]>, bool) {
    let (mut kept, mut cut) = (Vec::with_capacity(head.len()), false);
    for field in fields(head) {
        let words = field.windows(2).enumerate().filter(|(_, pair)| pair == b"=?").map(|(at, _)| at);
        let end = words.take(MAX_WORDS + 1).nth(MAX_WORDS).unwrap_or(field.len()).min(MAX_FIELD);
        kept.extend_from_slice(field.get(..end).unwrap_or_default());
        if end < field.len() {
            cut = true;
            kept.truncate(kept.trim_ascii_end().len());
            kept.extend_from_slice(b"\r\n");
        }
    }
    if cut { (Cow::Owned(kept), true) } else { (Cow::Borrowed(head), false) }
}

/// The fields of a head, each with the lines that continue it.
fn fields(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = head;
    std::iter::from_fn(move || {
        let mut end = 0;
        for line in rest.split_inclusive(|byte| *byte == b'\n') {
            if end > 0 && !matches!(line.first(), Some(b' ' | b'\t')) {
                break;
            }
            end += line.len();
        }
        let (field, after) = rest.split_at(end);
        rest = after;
        Some(field).filter(|field| !field.is_empty())
    })
}

/// The parts between the lines that a boundary makes.
pub(crate) struct Parts<'b> {
    pub(crate) parts: Vec<&'b [u8]>,
    /// Whether there were more.
    pub(crate) cut: bool,
}

pub(crate) fn split_parts<'b>(body: &'b [u8], boundary: &[u8], most: usize) -> Parts<'b> {
    let (mut parts, mut from, mut at) = (Vec::new(), None, 0);
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let here = at;
        at += line.len();
        let Some(rest) = line.strip_prefix(b"--").and_then(|rest| rest.strip_prefix(boundary)) else {
            continue;
        };
        let last = rest.starts_with(b"--");
        if !last && !rest.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if let Some(from) = from.take() {
            if parts.len() >= most {
                return Parts { parts, cut: true };
            }
            // The line break before a boundary belongs to the boundary.
            let part = body.get(from..here).unwrap_or_default();
            let part = part.strip_suffix(b"\n").unwrap_or(part);
            parts.push(part.strip_suffix(b"\r").unwrap_or(part));
        }
        if last {
            return Parts { parts, cut: false };
        }
        from = Some(at);
    }
    // The end is missing: what there is of the last part is shown.
    let cut = from.is_some();
    if let Some(part) = from.and_then(|from| body.get(from..)).filter(|_| parts.len() < most) {
        parts.push(part);
    }
    Parts { parts, cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_cut_where_it_would_take_long_to_decode() {
        let words = "=?aa?q?x ".repeat(20);
        let folded =
            format!("Subject: s\r\n{}To: a@b.example\r\n\r\nbody", format!(" {words}\r\n").repeat(300));
        let part = Part::of(folded.as_bytes());
        let head = String::from_utf8(part.head.into_owned()).unwrap();
        assert_eq!((part.body, part.cut, head.matches("=?").count()), (Some(&b"body"[..]), true, MAX_WORDS));
        assert!(
            head.starts_with("Subject: s\r\n =?aa") && head.ends_with("x\r\nTo: a@b.example\r\n\r\n"),
            "{head}"
        );

        let long = format!("Subject: {}\r\nTo: a@b.example\r\n\r\n", "s".repeat(20_000));
        let part = Part::of(long.as_bytes());
        assert!(
            part.cut
                && part.head.len() < MAX_FIELD + 50
                && part.head.ends_with(b"s\r\nTo: a@b.example\r\n\r\n")
        );

        let usual = "Subject: =?utf-8?q?a?=\n =?utf-8?q?b?=\n\nbody";
        let part = Part::of(usual.as_bytes());
        assert!(!part.cut && matches!(part.head, Cow::Borrowed(_)) && part.body == Some(b"body"));
    }

    #[test]
    fn a_head_without_an_end_in_sight_has_no_body() {
        for bytes in ["a".repeat(MAX_HEAD + 1), "X: a\n".repeat(MAX_HEAD), "\u{e9}\n".repeat(MAX_HEAD)] {
            let part = Part::of(bytes.as_bytes());
            assert!(part.cut && part.body.is_none() && part.head.len() <= MAX_HEAD);
        }
        // One that ends with the mail is whole.
        let part = Part::of(b"Subject: x");
        assert_eq!((part.body, part.cut), (Some(&b""[..]), false));
    }
}
