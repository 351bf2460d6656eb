//! What a text may mean to whoever reads it: as it stands, percent-decoded, with the escapes of JSON or of HTML undone, and
//! without the zero bytes that UTF-16 and UTF-32 put between letters. A secret is searched in all of them, so that it is
//! found however it was written.

use std::borrow::Cow;
use std::ops::Range;

/// Most zero bytes that stand between two letters of one text: in UTF-32.
const MAX_ZEROS: usize = 3;
/// Most digits of a reference to a character of HTML, with the zeros that may stand before them.
const MAX_DIGITS: usize = 12;
/// The characters of HTML that have names in every writer, and their names.
const NAMED: &[(&[u8], u8)] =
    &[(b"amp;", b'&'), (b"lt;", b'<'), (b"gt;", b'>'), (b"quot;", b'"'), (b"apos;", b'\'')];

/// A reading of a buffer, with the place in the buffer where each byte of it comes from.
pub(crate) struct View<'b> {
    buffer: &'b [u8],
    pub(crate) bytes: Cow<'b, [u8]>,
    /// Where each byte's unit (itself, or its escape) begins in the buffer; none if each is its own.
    starts: Option<Vec<usize>>,
    /// Whether each unit is one byte of the buffer, though some are left out.
    single: bool,
    /// Where the reading ends: the end of the buffer, or an escape that isn't whole yet.
    end: usize,
    /// How it reads escapes; none if it knows none.
    escapes: Option<Escapes>,
    /// What the reading goes on with behind each that there is.
    found: Vec<usize>,
}

/// One escape.
pub(crate) struct Escape {
    /// Where it is in the buffer.
    place: Range<usize>,
    /// What the reading goes on with behind it.
    next: usize,
}

/// How escapes are read.
struct Escapes {
    /// What each begins with.
    mark: u8,
    /// Reads what follows the mark.
    unit: fn(&[u8]) -> Unit,
    /// Whether nothing more will follow.
    last: bool,
}

/// A letter of a reading, and how many bytes of the buffer mean it.
pub(crate) struct Letter {
    pub(crate) length: usize,
    bytes: [u8; 4],
    count: usize,
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
        Self::new(buffer, Cow::Borrowed(buffer), None)
    }

    fn new(buffer: &'b [u8], bytes: Cow<'b, [u8]>, starts: Option<Vec<usize>>) -> Self {
        Self { buffer, bytes, starts, single: true, end: buffer.len(), escapes: None, found: Vec::new() }
    }

    /// Percent-decoded (RFC 3986, section 2.1); none if that is the same.
    pub(crate) fn percent(buffer: &'b [u8], last: bool) -> Option<Self> {
        Self::decoded(buffer, Escapes { mark: b'%', unit: percent, last })
    }

    /// With the escapes of JSON strings undone (RFC 8259, section 7); none if that is the same.
    pub(crate) fn json(buffer: &'b [u8], last: bool) -> Option<Self> {
        Self::decoded(buffer, Escapes { mark: b'\\', unit: json, last })
    }

    /// With the references to characters of HTML and XML undone; none if that is the same.
    pub(crate) fn html(buffer: &'b [u8], last: bool) -> Option<Self> {
        Self::decoded(buffer, Escapes { mark: b'&', unit: html, last })
    }

    /// Without the zero bytes of UTF-16 and UTF-32, in either order; none if there are none. More of them than stand
    /// between two letters part what they stand between.
    pub(crate) fn narrow(buffer: &'b [u8]) -> Option<Self> {
        memchr::memchr(0, buffer)?;
        let (mut read, mut starts) = (Vec::with_capacity(buffer.len()), Vec::with_capacity(buffer.len()));
        let mut zeros = 0_usize;
        for (at, byte) in buffer.iter().enumerate() {
            zeros = if *byte == 0 { zeros.saturating_add(1) } else { 0 };
            if !(1..=MAX_ZEROS).contains(&zeros) {
                read.push(*byte);
                starts.push(at);
            }
        }
        Some(Self::new(buffer, Cow::Owned(read), Some(starts)))
    }

    /// With escapes undone; none if there is no mark of one.
    fn decoded(buffer: &'b [u8], escapes: Escapes) -> Option<Self> {
        memchr::memchr(escapes.mark, buffer)?;
        let (mut read, mut starts) = (Vec::with_capacity(buffer.len()), Vec::with_capacity(buffer.len()));
        let (mut at, mut found) = (0_usize, Vec::new());
        while let Some(&byte) = buffer.get(at) {
            // By far the most.
            if byte != escapes.mark {
                read.push(byte);
                starts.push(at);
                at = at.saturating_add(1);
                continue;
            }
            let Some(letter) = escapes.read(buffer.get(at..).unwrap_or_default()) else { break };
            read.extend_from_slice(letter.bytes());
            starts.extend(std::iter::repeat_n(at, letter.bytes().len()));
            at = at.saturating_add(letter.length);
            if letter.length > 1 {
                found.push(read.len());
            }
        }
        let view = Self::new(buffer, Cow::Owned(read), Some(starts));
        Some(Self { single: false, end: at, escapes: Some(escapes), found, ..view })
    }

    /// Where the byte at this place of the reading begins in the buffer.
    pub(crate) fn source(&self, at: usize) -> usize {
        match &self.starts {
            Some(starts) => starts.get(at).copied().unwrap_or(self.end),
            None => at.min(self.end),
        }
    }

    /// Where the unit before this place of the reading ends in the buffer.
    pub(crate) fn source_end(&self, at: usize) -> usize {
        match at.checked_sub(1) {
            Some(before) if self.single => self.source(before).saturating_add(1).min(self.end),
            Some(_) | None => self.source(at),
        }
    }

    /// The escapes in it.
    pub(crate) fn escapes(&self) -> impl Iterator<Item = Escape> {
        let place = |next: usize| self.source(next.saturating_sub(1))..self.source(next);
        self.found.iter().map(move |next| Escape { place: place(*next), next: *next })
    }

    /// The places within an escape where letters stand that may be meant: whoever begins to read there reads otherwise.
    pub(crate) fn within(&self, escape: &Escape, may: &[bool; 256]) -> impl Iterator<Item = usize> {
        let mark = self.escapes.as_ref().map(|escapes| escapes.mark);
        let place = escape.place.start.saturating_add(1)..escape.place.end;
        let bytes = self.buffer.get(place.clone()).unwrap_or_default();
        let is_one =
            move |byte: u8| Some(byte) == mark || may.get(usize::from(byte)).copied().unwrap_or(true);
        place.zip(bytes).filter(move |(_, byte)| is_one(**byte)).map(|(at, _)| at)
    }

    /// What whoever begins at this place of the buffer reads first; none if that will show.
    pub(crate) fn letter(&self, source: usize) -> Option<Letter> {
        self.escapes.as_ref()?.read(self.buffer.get(source..)?)
    }

    /// What this reading goes on with from this place of the buffer on, which is at an escape or behind; none within one.
    pub(crate) fn rest(&self, escape: &Escape, source: usize) -> Option<usize> {
        if source <= escape.place.end {
            return (source == escape.place.end).then_some(escape.next);
        }
        let starts = self.starts.as_ref()?;
        let at = starts.partition_point(|start| *start < source);
        (starts.get(at).copied().unwrap_or(self.end) == source).then_some(at)
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
        let Some(starts) = self.starts.as_ref().filter(|_| !self.single) else { return source };
        let after = starts.partition_point(|start| *start <= source);
        after.checked_sub(1).and_then(|at| starts.get(at)).copied().unwrap_or_default()
    }
}

impl Escapes {
    /// What a text begins with; none at its end, or if that will show.
    fn read(&self, text: &[u8]) -> Option<Letter> {
        let (&byte, after) = text.split_first()?;
        match if byte == self.mark { (self.unit)(after) } else { Unit::Itself } {
            Unit::Unfinished if !self.last => None,
            Unit::Means(length, bytes, count) => {
                Some(Letter { length: length.saturating_add(1), bytes, count })
            }
            Unit::Itself | Unit::Unfinished => Some(Letter { length: 1, bytes: [byte, 0, 0, 0], count: 1 }),
        }
    }
}

impl Letter {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.count).unwrap_or_default()
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

/// `&#43;`, `&#x3D;`, `&amp;`: what browsers read, and what writers of templates write.
fn html(after: &[u8]) -> Unit {
    let Some(number) = after.strip_prefix(b"#") else {
        let named = NAMED.iter().find(|(name, _)| after.starts_with(name));
        let begun = NAMED.iter().any(|(name, _)| name.starts_with(after));
        return match named {
            Some((name, byte)) => one(name.len(), *byte),
            None if begun => Unit::Unfinished,
            None => Unit::Itself,
        };
    };
    let (mark, radix, digits) = match number {
        [b'x' | b'X', digits @ ..] => (2_usize, 16, digits),
        digits => (1, 10, digits),
    };
    let mut code = 0_u32;
    for (count, byte) in digits.iter().enumerate().take(MAX_DIGITS.saturating_add(1)) {
        if let Some(digit) = char::from(*byte).to_digit(radix) {
            code = code.saturating_mul(radix).saturating_add(digit);
            continue;
        }
        return match char::from_u32(code) {
            Some(letter) if *byte == b';' && count > 0 => {
                let mut bytes = [0; 4];
                let length = letter.encode_utf8(&mut bytes).len();
                Unit::Means(mark.saturating_add(count).saturating_add(1), bytes, length)
            }
            Some(_) | None => Unit::Itself,
        };
    }
    if digits.len() > MAX_DIGITS { Unit::Itself } else { Unit::Unfinished }
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
        let html = |text: &str| View::html(text.as_bytes(), true).unwrap().bytes.into_owned();
        assert_eq!(html("a&#43;&#x3D;&#X3d;&#00047;&amp;&quot;&#233;"), "a+==/&\"é".as_bytes());
        let none = "&#;&#x;&#xg;&nbsp;&#99999999999;&#xd800;&#0000000000043;& &#4";
        assert_eq!(html(none), none.as_bytes());
        assert!(View::percent(b"plain", true).is_none() && View::json(b"plain", true).is_none());
        assert!(View::html(b"plain", true).is_none() && View::narrow(b"plain").is_none());
    }

    #[test]
    fn an_escape_that_is_not_whole_is_waited_for() {
        for (text, end) in [("ab%", 2), ("ab%4", 2), ("ab%zz", 5), ("ab%z", 4)] {
            assert_eq!(View::percent(text.as_bytes(), false).unwrap().end(), end, "{text}");
        }
        for (text, end) in [("ab\\", 2), ("ab\\u00", 2), ("ab\\ux", 5), ("ab\\n", 4)] {
            assert_eq!(View::json(text.as_bytes(), false).unwrap().end(), end, "{text}");
        }
        for (text, end) in
            [("ab&", 2), ("ab&#", 2), ("ab&#x4", 2), ("ab&quo", 2), ("ab&x", 4), ("ab&#0000000000000", 17)]
        {
            assert_eq!(View::html(text.as_bytes(), false).unwrap().end(), end, "{text}");
        }
    }

    #[test]
    fn zeros_between_letters_are_left_out_and_longer_runs_are_not() {
        let narrow = |bytes: &[u8]| View::narrow(bytes).unwrap().bytes.into_owned();
        assert_eq!(narrow(b"a\0b\0"), b"ab");
        assert_eq!(narrow(b"\0\0\0a\0\0\0b"), b"ab");
        assert_eq!(narrow(b"a\0\0\0\0b"), b"a\0b");
        let view = View::narrow(b"\0a\0b\0").unwrap();
        assert_eq!((view.source(0), view.source(1), view.source_end(2)), (1, 3, 4));
        assert_eq!(view.whole_before(2), 2);
    }

    #[test]
    fn places_lead_back_to_the_buffer() {
        let view = View::percent(b"a%2Fb", true).unwrap();
        assert_eq!([0, 1, 2, 3].map(|at| view.source(at)), [0, 1, 4, 5]);
        assert_eq!([0, 1, 2, 3, 4, 5].map(|at| view.whole_before(at)), [0, 1, 1, 1, 4, 5]);
    }
}
