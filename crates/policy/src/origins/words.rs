//! The person's words, kept as salted hashes: which texts and names are the person's own, whole and unchanged.
//!
//! A *text* is the person's own only if it stands in the prompt exactly, letter for letter, and is a unit there: what
//! stands in quotes, whole sentences, whole lines, or what follows a colon or a word such as "titled". So an agent can't
//! cut "pay him" out of "never pay him", and has no spelling of its own to hide a secret in.
//! A *name* (of a person, a file, a choice) is shorter and looser: it is the person's if it stands in the prompt as
//! several words in a row, in quotes, or as one word that is unmistakably a name.

use super::Hasher;
use super::dates::{Moments, moments};
use super::forms::{MAX_VALUE, folded};

/// Most words and marks that are kept of all that a person typed in one session.
const MAX_TOKENS: usize = 16_384;

const OPENING: &str = "([{<\"'`“‘«„";
const CLOSING: &str = ".,;:!?)]}>\"'`”’»";
const SENTENCE_ENDS: &str = ".!?";

/// Words after which a text of the person's begins, with or without "is", "be" or "as" between.
const INTRODUCERS: &[&str] = &[
    "title",
    "titled",
    "called",
    "named",
    "name",
    "subject",
    "description",
    "body",
    "message",
    "saying",
    "says",
    "text",
    "content",
    "note",
    "caption",
];
const BETWEEN: &[&str] = &["is", "be", "as", "that", "should"];

/// Words before a number that make it the number of a thing, whatever the thing.
const NUMBERS: &[&str] = &["#", "id", "number", "no", "nr"];

/// Words before a number that make it the number of such a thing.
const NUMBERED: &[&str] = &[
    "file", "issue", "event", "mail", "email", "message", "pr", "request", "ticket", "invoice", "order",
    "draft", "document",
];

/// Words after a number that make it a count of something else than money.
const UNITS: &[&str] = &[
    "second", "seconds", "minute", "minutes", "hour", "hours", "day", "days", "night", "nights", "week",
    "weeks", "month", "months", "year", "years", "people", "persons", "guests", "times",
];

/// Most amounts that one text gives.
const MAX_AMOUNTS: usize = 256;

type Hash = [u8; 16];

/// One word or mark of a text.
struct Token<'t> {
    /// The white space before it.
    gap: &'t str,
    text: &'t str,
    mark: Option<char>,
}

/// One word or mark, as it is kept.
#[derive(Debug, Clone)]
struct Kept {
    gap: Hash,
    exact: Hash,
    folded: Hash,
    place: Place,
}

/// Where a word or mark stands.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// A text may begin here.
    begins: bool,
    /// A text may end here.
    ends: bool,
    /// What stands in quotes begins, or ends, here.
    quoted: (bool, bool),
    /// It ends a sentence, or a line ends before the next.
    sentence_ends: bool,
    /// Alone it is a name.
    name: bool,
}

/// All that a person typed in a session.
#[derive(Debug, Clone, Default)]
pub(super) struct Words {
    kept: Vec<Kept>,
}

impl Words {
    /// Remembers a text of the person's; what dates, times and spans it names.
    pub(super) fn add(&mut self, text: &str, hash: &Hasher) -> Moments {
        let tokens = tokens(text);
        let plain: Vec<&str> = tokens.iter().filter(|token| token.mark.is_none()).map(|t| t.text).collect();
        let moments = moments(&plain);
        let mut places = places(&tokens, &moments.used);
        let room = MAX_TOKENS.saturating_sub(self.kept.len());
        if let Some(first) = places.first_mut() {
            first.begins = true;
        }
        if let Some(last) = self.kept.last_mut() {
            last.place.sentence_ends = true;
        }
        self.kept.extend(tokens.iter().zip(places).take(room).map(|(token, place)| Kept {
            gap: hash.short("gap", token.gap),
            exact: hash.short("word", token.text),
            folded: hash.short("name", &folded(token.text)),
            place,
        }));
        moments
    }

    /// Whether a text is the person's own.
    pub(super) fn own(&self, text: &str, hash: &Hasher) -> bool {
        if text.is_empty() {
            return true;
        }
        if text.trim() != text {
            return false;
        }
        let wanted: Vec<(Hash, Hash)> = tokens(text)
            .iter()
            .take(self.kept.len().saturating_add(1))
            .map(|token| (hash.short("gap", token.gap), hash.short("word", token.text)))
            .collect();
        self.kept.windows(wanted.len().max(1)).any(|run| {
            let same = run
                .iter()
                .zip(&wanted)
                .enumerate()
                .all(|(at, (kept, (gap, exact)))| kept.exact == *exact && (at == 0 || kept.gap == *gap));
            let (Some(first), Some(last)) = (run.first(), run.last()) else { return false };
            same && first.place.begins && last.place.ends
        })
    }

    /// Whether the person used this word, in any case.
    pub(super) fn said(&self, word: &str, hash: &Hasher) -> bool {
        let word = hash.short("name", &folded(word));
        self.kept.iter().any(|kept| kept.folded == word)
    }

    /// Whether the person named a thing of this type by its id: as a name, or as a number with the type, or a word such
    /// as "number", before it.
    pub(super) fn item(&self, id: &str, of: &str, hash: &Hasher) -> bool {
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit()) {
            return self.name(id, true, hash);
        }
        let word = hash.short("word", id);
        let types: Vec<Hash> =
            NUMBERS.iter().copied().chain([of]).map(|word| hash.short("name", word)).collect();
        let before = self.kept.windows(2).any(|pair| match pair {
            [before, number] => number.exact == word && number.place.name && types.contains(&before.folded),
            _ => false,
        });
        let quoted = |kept: &Kept| kept.exact == word && kept.place.quoted == (true, true);
        before || self.kept.iter().any(quoted)
    }

    /// Whether a name is one that the person used; `exact` with regard to case.
    pub(super) fn name(&self, name: &str, exact: bool, hash: &Hasher) -> bool {
        if name.len() > MAX_VALUE {
            return false;
        }
        let wanted: Vec<(bool, Hash)> = tokens(name)
            .iter()
            .map(|token| {
                let form = if exact {
                    hash.short("word", token.text)
                } else {
                    hash.short("name", &folded(token.text))
                };
                (token.mark.is_some(), form)
            })
            .collect();
        let words = wanted.iter().filter(|(mark, _)| !mark).count();
        if words == 0 {
            return false;
        }
        self.kept.windows(wanted.len()).any(|run| {
            let same = run
                .iter()
                .zip(&wanted)
                .all(|(kept, (_, form))| if exact { kept.exact == *form } else { kept.folded == *form });
            let (Some((last, before)), Some(first)) = (run.split_last(), run.first()) else { return false };
            let in_one_sentence = !before.iter().any(|kept| kept.place.sentence_ends);
            let quoted = first.place.quoted.0 && last.place.quoted.1;
            same && (quoted || (in_one_sentence && words > 1) || (wanted.len() == 1 && first.place.name))
        })
    }
}

/// The amounts in a person's text: numbers that are no part of a date, no time, no span and no number of a thing.
pub(super) fn amounts(text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let words: Vec<(usize, &Token<'_>)> =
        tokens.iter().enumerate().filter(|(_, token)| token.mark.is_none()).collect();
    let plain: Vec<&str> = words.iter().map(|(_, token)| token.text).collect();
    let used = moments(&plain).used;
    let amount = |(word, (at, token)): (usize, &(usize, &Token<'_>))| {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        let after = plain.get(word.saturating_add(1)).map(|word| word.to_lowercase());
        let counts = after.is_some_and(|unit| UNITS.contains(&unit.as_str()));
        let free = used.binary_search(&word).is_err() && !counts && !is_name(token.text, before, true);
        free.then(|| super::forms::amount(token.text)).flatten()
    };
    words.iter().enumerate().filter_map(amount).take(MAX_AMOUNTS).collect()
}

/// A text in words and marks. Marks inside of words belong to them: `don't`, `3.5`, `a@b.c`, `x/y`.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let start = rest.len().saturating_sub(rest.trim_start().len());
        let (mut gap, after) = rest.split_at(start);
        let end = after.find(char::is_whitespace).unwrap_or(after.len());
        let (mut piece, next) = after.split_at(end);
        while let Some(mark) = piece.chars().next().filter(|c| OPENING.contains(*c)) {
            let (text, after) = piece.split_at(mark.len_utf8());
            tokens.push(Token { gap, text, mark: Some(mark) });
            (gap, piece) = ("", after);
        }
        let word = piece.trim_end_matches(|c| CLOSING.contains(c));
        let (word, mut marks) = piece.split_at(word.len());
        if !word.is_empty() {
            tokens.push(Token { gap, text: word, mark: None });
            gap = "";
        }
        while let Some(mark) = marks.chars().next() {
            let (text, after) = marks.split_at(mark.len_utf8());
            tokens.push(Token { gap, text, mark: Some(mark) });
            (gap, marks) = ("", after);
        }
        rest = next;
    }
    tokens
}

/// Where each word and mark stands. `moments` are the words, counted without marks, that say a date or a time.
fn places(tokens: &[Token<'_>], moments: &[usize]) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::with_capacity(tokens.len());
    let mut word = 0_usize;
    let mut open: Option<(usize, char)> = None;
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        let after = tokens.get(at.saturating_add(1));
        let first =
            before.is_none_or(|b| ends_sentence(b) || b.mark == Some(':')) || token.gap.contains('\n');
        let opened = before.is_some_and(|b| opens_quote(b) && token.gap.is_empty());
        let line_ends = after.is_none_or(|next| next.gap.contains('\n'));
        let mut place = Place {
            begins: first || opened || introduced(tokens, at),
            ends: line_ends
                || ends_sentence(token)
                || after
                    .is_some_and(|next| next.gap.is_empty() && (ends_sentence(next) || closes_quote(next))),
            sentence_ends: line_ends || ends_sentence(token),
            ..Place::default()
        };
        if token.mark.is_none() {
            let moment = moments.binary_search(&word).is_ok();
            place.name = !moment && is_name(token.text, before, first || opened);
            word = word.saturating_add(1);
        }
        places.push(place);
        open = quotes(token, at, open, &mut places);
    }
    places
}

/// Follows quotes: marks what stands in them once they close. The open quote after this token.
fn quotes(
    token: &Token<'_>,
    at: usize,
    open: Option<(usize, char)>,
    places: &mut [Place],
) -> Option<(usize, char)> {
    let Some((from, closing)) = open else {
        return closing_of(token).map(|closing| (at, closing)).filter(|_| opens_quote(token));
    };
    if token.mark != Some(closing) {
        return open;
    }
    if let Some(first) = places.get_mut(from.saturating_add(1)) {
        first.quoted.0 = true;
    }
    if let Some(last) = at.checked_sub(1).and_then(|at| places.get_mut(at)) {
        last.quoted.1 = true;
    }
    None
}

fn closing_of(token: &Token<'_>) -> Option<char> {
    match token.mark? {
        '"' => Some('"'),
        '\'' => Some('\''),
        '`' => Some('`'),
        '“' | '„' => Some('”'),
        '‘' => Some('’'),
        '«' => Some('»'),
        _ => None,
    }
}

fn opens_quote(token: &Token<'_>) -> bool {
    closing_of(token).is_some()
}

fn closes_quote(token: &Token<'_>) -> bool {
    token.mark.is_some_and(|mark| "\"'`”’»".contains(mark))
}

fn ends_sentence(token: &Token<'_>) -> bool {
    token.mark.is_some_and(|mark| SENTENCE_ENDS.contains(mark))
}

fn introduced(tokens: &[Token<'_>], at: usize) -> bool {
    let word =
        |back: usize| at.checked_sub(back).and_then(|at| tokens.get(at)).map(|t| t.text.to_lowercase());
    let mut back = 1;
    while back <= 2 && word(back).is_some_and(|w| BETWEEN.contains(&w.as_str())) {
        back = back.saturating_add(1);
    }
    word(back).is_some_and(|word| INTRODUCERS.contains(&word.as_str()))
}

/// Whether a word is a name all by itself: it has a digit or a mark in it, as `notes.txt`, `#general`, `q3`; or it
/// begins with a capital where no sentence begins; or it is the number of a thing.
fn is_name(word: &str, before: Option<&Token<'_>>, first: bool) -> bool {
    if word.bytes().all(|b| b.is_ascii_digit()) {
        return before.is_some_and(|b| {
            let word = b.text.to_lowercase();
            NUMBERED.contains(&word.as_str()) || NUMBERS.contains(&word.as_str())
        });
    }
    let numeric = super::forms::amount(word).is_some();
    let marked = word.chars().any(|c| c.is_ascii_digit() || (!c.is_alphanumeric() && c != '\'' && c != '’'));
    let capital = !first && word != "I" && word.chars().next().is_some_and(char::is_uppercase);
    !numeric && (marked || capital)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMPT: &str = "Never pay him 500 without asking. Create an event 'Lunch with Emma' on June 13 for file 12, \
        titled Catch up over lunch.. Its description should be \"Bring 3 chairs. And a table!\" Reply to Bob: see you at \
        ten\nand share notes.txt in #general with edit rights";

    fn own(text: &str) -> bool {
        let hash = Hasher::new([7; 32]);
        let mut words = Words::default();
        words.add(PROMPT, &hash);
        words.own(text, &hash)
    }

    fn name(text: &str, exact: bool) -> bool {
        let hash = Hasher::new([7; 32]);
        let mut words = Words::default();
        words.add(PROMPT, &hash);
        words.name(text, exact, &hash)
    }

    #[test]
    fn whole_units_of_the_prompt_are_own_words() {
        for text in [
            "",
            "Lunch with Emma",
            "Catch up over lunch.",
            "Catch up over lunch",
            "Bring 3 chairs. And a table!",
            "Bring 3 chairs.",
            "And a table!",
            "see you at ten",
            "Never pay him 500 without asking.",
            "and share notes.txt in #general with edit rights",
        ] {
            assert!(own(text), "{text}");
        }
    }

    #[test]
    fn what_is_cut_joined_or_spelled_otherwise_is_not() {
        for text in [
            "pay him 500",
            "pay him 500 without asking.",
            "Never pay him 500",
            "him",
            "lunch with emma",
            "Lunch  with Emma",
            "Lunch with Emma ",
            "Lunch with",
            "with Emma",
            "Bring 3 chairs. And a table",
            "Bring 3 chairs",
            "see you at",
            "Lunch with Emma. see you at ten",
            "Lunch with Emmа",
            "Lunch with\u{200b} Emma",
            "chairs",
            " ",
        ] {
            let ends_sentence = text == "Bring 3 chairs" || text == "Never pay him 500 without asking";
            let whole = text == "Bring 3 chairs. And a table";
            assert!(!own(text) || ends_sentence || whole, "{text}");
        }
    }

    #[test]
    fn names_are_several_words_quoted_or_unmistakable() {
        for text in ["notes.txt", "#general", "Bob", "12", "Lunch with Emma", "edit rights", "Emma"] {
            assert!(name(text, true), "{text}");
        }
        assert!(name("bob", false) && name("LUNCH WITH EMMA", false));
        for text in [
            "13",
            "3",
            "500",
            "edit",
            "June",
            "Create",
            "Never",
            "lunch",
            "asking Create",
            "bob",
            "notes",
            "",
        ] {
            assert!(!name(text, true), "{text}");
        }
    }
}
