//! Takes secrets out of what a server answers, while it streams: as they are, in base64 at any alignment and in either
//! alphabet, in hex, with the escapes of URLs, JSON and HTML, and in UTF-16 and UTF-32, also where they are split over chunks.
//!
//! What is held back at the end of a chunk is no more than what may be the beginning of a secret, so that streams of
//! events are not delayed. An answer in which the secret was changed in other ways (compressed, reversed, spelled out) is
//! not recognised: this is against servers that echo what they were sent, not against ones that conspire with the agent.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem::Finder;
use secrecy::zeroize::Zeroizing;

use crate::secret::Secret;
use crate::views::{Escape, View};

/// What stands where a secret was.
pub const REDACTED: &str = "[redacted]";

/// Most letters that are read otherwise by whoever begins within an escape: from its end on, both read the same, but in a row of
/// backslashes. Nobody's secret begins with so many.
const MAX_OTHERWISE: usize = 64;

/// Reads a stream, and gives it back without secrets.
pub struct Scrubber {
    needles: Vec<Needle>,
    /// What was read and not given back yet.
    held: Zeroizing<Vec<u8>>,
    /// Where the held bytes begin, counted from the start of the stream.
    offset: u64,
    /// Where the last secret that was found ends.
    covered: u64,
}

/// One form of a secret.
struct Needle {
    bytes: Zeroizing<Vec<u8>>,
    /// For each beginning, how long its longest own beginning is that is also its end (Knuth, Morris and Pratt).
    borders: Vec<u32>,
}

/// What is at a place.
enum Stands {
    /// Something else.
    No,
    /// The needle, up to here.
    UpTo(usize),
    /// What may be its beginning.
    Perhaps,
}

impl Scrubber {
    /// Looks for these secrets.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut forms: Vec<Zeroizing<Vec<u8>>> = secrets
            .into_iter()
            // Shorter ones would be found in any text.
            .filter(|secret| secret.reveal().len() >= Secret::MIN)
            .flat_map(forms)
            .collect();
        forms.sort_by(|one, other| one.as_slice().cmp(other.as_slice()));
        forms.dedup();
        let needles = forms.into_iter().filter(|form| !form.is_empty()).map(Needle::new).collect();
        Self { needles, held: Zeroizing::default(), offset: 0, covered: 0 }
    }

    /// Reads on; gives what can be given.
    #[must_use]
    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(chunk);
        self.pass(false)
    }

    /// The stream has ended; gives the rest.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        self.pass(true)
    }

    /// A whole text, such as a header's value, without secrets.
    #[must_use]
    pub fn whole(&self, text: &[u8]) -> Vec<u8> {
        let needles = self.needles.iter().map(|needle| Needle::new(needle.bytes.clone())).collect();
        let mut fresh = Self { needles, held: Zeroizing::new(text.to_vec()), offset: 0, covered: 0 };
        fresh.finish()
    }

    fn pass(&mut self, last: bool) -> Vec<u8> {
        let held = &self.held;
        let mut found: Vec<(usize, usize)> = Vec::new();
        let mut keep = self.held.len();
        let views = [View::percent(held, last), View::json(held, last), View::html(held, last)];
        let views: Vec<View<'_>> =
            [Some(View::plain(held)), View::narrow(held)].into_iter().chain(views).flatten().collect();
        for view in &views {
            for needle in &self.needles {
                needle.find(view, &mut found);
                if !last {
                    keep = keep.min(view.source(needle.begun(&view.bytes)));
                }
            }
            let begun = self.find_in_escapes(view, &mut found);
            if !last {
                keep = keep.min(begun).min(view.end());
            }
        }
        // Not within an escape: the rest would be read otherwise than it is now.
        while let Some(earlier) =
            views.iter().map(|view| view.whole_before(keep)).min().filter(|at| *at < keep)
        {
            keep = earlier;
        }
        found.retain(|(start, _)| *start < keep);
        found.sort_unstable();
        let given = self.give(&found, keep);
        self.held.drain(..keep);
        self.offset = self.offset.saturating_add(keep as u64);
        given
    }

    /// Every place within an escape where a secret begins: what stands before it takes its first letters for an escape of its own, as
    /// `%` takes those of `ab%2F`, `\u00` those of `ab\/`, `&#` those of `1;&amp;`. Gives where at the end of the buffer one may have
    /// begun.
    fn find_in_escapes(&self, view: &View<'_>, found: &mut Vec<(usize, usize)>) -> usize {
        let mut keep = self.held.len();
        let mut begins = [false; 256];
        for first in self.needles.iter().filter_map(|needle| needle.bytes.first()) {
            begins.get_mut(usize::from(*first)).into_iter().for_each(|begins| *begins = true);
        }
        for escape in view.escapes() {
            for place in view.within(&escape, &begins) {
                let Some(letter) = view.letter(place) else {
                    keep = keep.min(place);
                    continue;
                };
                let may = |first: &&u8| begins.get(usize::from(**first)) == Some(&true);
                let Some(first) = letter.bytes().first().filter(may) else { continue };
                let begun = |needle: &&Needle| needle.bytes.first() == Some(first);
                for needle in self.needles.iter().filter(begun) {
                    match needle.stands_at(view, &escape, place) {
                        Stands::No => {}
                        Stands::UpTo(end) => found.push((place, end)),
                        Stands::Perhaps => keep = keep.min(place),
                    }
                }
            }
        }
        keep
    }

    /// The first bytes of what is held, with a mark for each stretch that secrets cover.
    fn give(&mut self, found: &[(usize, usize)], keep: usize) -> Vec<u8> {
        let mut given = Vec::with_capacity(keep);
        let mut at = self.offset;
        let (held, offset) = (&self.held, self.offset);
        let between = |from: u64, to: u64| {
            let place =
                |absolute: u64| usize::try_from(absolute.saturating_sub(offset)).unwrap_or(usize::MAX);
            held.get(place(from)..place(to)).unwrap_or_default()
        };
        for (start, end) in found {
            let (start, end) = (offset.saturating_add(*start as u64), offset.saturating_add(*end as u64));
            given.extend_from_slice(between(at.max(self.covered), start));
            at = at.max(start);
            if start >= self.covered {
                given.extend_from_slice(REDACTED.as_bytes());
            }
            self.covered = self.covered.max(end);
        }
        given.extend_from_slice(between(at.max(self.covered), offset.saturating_add(keep as u64)));
        given
    }
}

impl Needle {
    fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        let mut borders = Vec::with_capacity(bytes.len());
        let mut border = 0_u32;
        for (at, byte) in bytes.iter().enumerate() {
            if at > 0 {
                border = step(&bytes, &borders, border, *byte);
            }
            borders.push(border);
        }
        Self { bytes, borders }
    }

    /// Every place in the buffer where it is found in this reading.
    fn find(&self, view: &View<'_>, found: &mut Vec<(usize, usize)>) {
        found.extend(self.places(view).map(|(start, end)| (view.source(start), view.source_end(end))));
    }

    /// Whether it stands at this place of the buffer, within an escape of this reading.
    fn stands_at(&self, view: &View<'_>, escape: &Escape, place: usize) -> Stands {
        let (mut rest, mut at) = (self.bytes.as_slice(), place);
        for _letter in 0..MAX_OTHERWISE {
            if rest.is_empty() {
                return Stands::UpTo(at);
            }
            // From here on, both read the same.
            if let Some(from) = view.rest(escape, at) {
                let read = view.bytes.get(from..).unwrap_or_default();
                return match read.starts_with(rest) {
                    true => Stands::UpTo(view.source_end(from.saturating_add(rest.len()))),
                    false if rest.starts_with(read) => Stands::Perhaps,
                    false => Stands::No,
                };
            }
            let Some(letter) = view.letter(at) else { return Stands::Perhaps };
            let Some(after) = rest.strip_prefix(letter.bytes()) else { return Stands::No };
            (rest, at) = (after, at.saturating_add(letter.length));
        }
        Stands::No
    }

    /// Every place in this reading where it is found, and where it ends there.
    fn places<'v>(&'v self, view: &'v View<'_>) -> impl Iterator<Item = (usize, usize)> {
        let finder = Finder::new(self.bytes.as_slice());
        // It can't be found again before its period is over.
        let border = self.borders.last().copied().unwrap_or_default() as usize;
        let period = self.bytes.len().saturating_sub(border).max(1);
        let mut from = 0_usize;
        std::iter::from_fn(move || {
            let start = from.saturating_add(finder.find(view.bytes.get(from..)?)?);
            from = start.saturating_add(period);
            Some((start, start.saturating_add(self.bytes.len())))
        })
    }

    /// Where at the end of a text it may have begun.
    fn begun(&self, text: &[u8]) -> usize {
        let most = self.bytes.len().saturating_sub(1).min(text.len());
        let tail = text.get(text.len().saturating_sub(most)..).unwrap_or_default();
        let matched = tail.iter().fold(0, |border, byte| step(&self.bytes, &self.borders, border, *byte));
        text.len().saturating_sub(matched as usize)
    }
}

/// How much of the bytes the text ends with, once it goes on with this byte.
fn step(bytes: &[u8], borders: &[u32], mut border: u32, byte: u8) -> u32 {
    loop {
        if bytes.get(border as usize) == Some(&byte) {
            return border.saturating_add(1);
        }
        let Some(shorter) = border.checked_sub(1) else { return 0 };
        border = borders.get(shorter as usize).copied().unwrap_or_default();
    }
}

/// The letters of a charset of single bytes that aren't those of the first 256 of Unicode, by their bytes.
type Charset = &'static [(char, u8)];

const LATIN_1: Charset = &[];
const ISO_8859_15: Charset =
    &[('€', 0xa4), ('Š', 0xa6), ('š', 0xa8), ('Ž', 0xb4), ('ž', 0xb8), ('Œ', 0xbc), ('œ', 0xbd), ('Ÿ', 0xbe)];
const WINDOWS_1252: Charset = &[
    ('€', 0x80),
    ('‚', 0x82),
    ('ƒ', 0x83),
    ('„', 0x84),
    ('…', 0x85),
    ('†', 0x86),
    ('‡', 0x87),
    ('ˆ', 0x88),
    ('‰', 0x89),
    ('Š', 0x8a),
    ('‹', 0x8b),
    ('Œ', 0x8c),
    ('Ž', 0x8e),
    ('‘', 0x91),
    ('’', 0x92),
    ('“', 0x93),
    ('”', 0x94),
    ('•', 0x95),
    ('–', 0x96),
    ('—', 0x97),
    ('˜', 0x98),
    ('™', 0x99),
    ('š', 0x9a),
    ('›', 0x9b),
    ('œ', 0x9c),
    ('ž', 0x9e),
    ('Ÿ', 0x9f),
];

/// A text in such a charset; none if that lacks one of its letters.
fn in_charset(text: &str, charset: Charset) -> Option<Zeroizing<Vec<u8>>> {
    let byte = |letter: char| {
        let own = charset.iter().find(|(own, _)| *own == letter).map(|(_, byte)| *byte);
        own.or_else(|| u8::try_from(letter).ok())
    };
    // Of the right size from the start: nothing is left behind where it would have grown.
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    for letter in text.chars() {
        bytes.push(byte(letter)?);
    }
    Some(bytes)
}

/// All that a secret may look like.
fn forms(secret: &Secret) -> Vec<Zeroizing<Vec<u8>>> {
    let bytes = secret.reveal();
    let mut forms = vec![
        Zeroizing::new(bytes.to_vec()),
        Zeroizing::new(hex::encode(bytes).into_bytes()),
        Zeroizing::new(hex::encode_upper(bytes).into_bytes()),
        // As forms write spaces.
        Zeroizing::new(bytes.iter().map(|byte| if *byte == b' ' { b'+' } else { *byte }).collect()),
    ];
    if let Some(text) = secret.reveal_text().filter(|text| !text.is_ascii()) {
        // In other charsets such letters are other bytes.
        let wide = |bytes: fn(u16) -> [u8; 2]| Zeroizing::new(text.encode_utf16().flat_map(bytes).collect());
        forms.extend([wide(u16::to_le_bytes), wide(u16::to_be_bytes)]);
        forms.extend(
            [LATIN_1, WINDOWS_1252, ISO_8859_15].iter().filter_map(|charset| in_charset(text, charset)),
        );
    }
    for before in 0..3 {
        let mut shifted = Zeroizing::new(vec![0; before]);
        shifted.reserve_exact(bytes.len());
        shifted.extend_from_slice(bytes);
        // Of what is encoded, the digits that the secret alone decides.
        let first = before.saturating_mul(8).div_ceil(6);
        let end = shifted.len().saturating_mul(8) / 6;
        for alphabet in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let encoded = Zeroizing::new(alphabet.encode(shifted.as_slice()));
            forms.push(Zeroizing::new(encoded.as_bytes().get(first..end).unwrap_or_default().to_vec()));
        }
    }
    forms
}

#[cfg(test)]
mod tests;
