//! Dates and times as people and programs write them, read one way only: what could be two dates is none.

/// A date; people leave the year out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Date {
    pub(super) year: Option<u16>,
    pub(super) month: u8,
    pub(super) day: u8,
}

impl Date {
    fn new(year: Option<u16>, month: u8, day: u8) -> Option<Self> {
        let sound = (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && year.is_none_or(|year| (1900..2200).contains(&year));
        sound.then_some(Self { year, month, day })
    }
}

/// Minutes since midnight.
pub(super) type Minutes = u16;

/// What dates and times a text names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Moments {
    pub(super) dates: Vec<Date>,
    pub(super) times: Vec<Minutes>,
    /// How long something lasts.
    pub(super) spans: Vec<Minutes>,
    /// Years that stand alone.
    pub(super) years: Vec<u16>,
    /// The words that were used up, by their place in the text.
    pub(super) used: Vec<usize>,
}

/// Most dates, and most times, that one text gives.
const MAX: usize = 256;

/// A value that is nothing but a date, a time, or both: `2024-05-15`, `10:00`, `2024-05-15T10:00:00Z`.
pub(super) fn moment(text: &str) -> Option<(Option<Date>, Option<Minutes>)> {
    let text = text.trim();
    let (first, rest) = match text.split_once(['T', ' ']) {
        Some((first, rest)) => (first, Some(rest)),
        None => (text, None),
    };
    match (iso(first), rest) {
        (Some(date), None) => Some((Some(date), None)),
        (Some(date), Some(rest)) => clock(rest.trim_end_matches('Z')).map(|time| (Some(date), Some(time))),
        (None, None) => clock(first).map(|time| (None, Some(time))),
        (None, Some(_)) => None,
    }
}

/// The dates and times in the words of a person's text. Each word comes without the punctuation around it.
pub(super) fn moments(words: &[&str]) -> Moments {
    let mut found = Moments::default();
    let mut at = 0;
    while let Some(rest) = words.get(at..).filter(|rest| !rest.is_empty()) {
        let used = read(rest, &mut found);
        found.used.extend(at..at.saturating_add(used));
        at = at.saturating_add(used.max(1));
        if found.dates.len() > MAX || found.times.len() > MAX || found.spans.len() > MAX {
            break;
        }
    }
    found
}

/// Reads what the words begin with; the number of words used.
fn read(words: &[&str], found: &mut Moments) -> usize {
    if let Some((date, used)) = date(words) {
        found.dates.push(date);
        return used;
    }
    let first = words.first().copied().unwrap_or_default();
    if let Some((date, Some(time))) = moment(first) {
        found.dates.extend(date);
        found.times.push(time);
        return 1;
    }
    let second = words.get(1).copied().unwrap_or_default();
    if let Some(time) = half_day(first, "").or_else(|| half_day_pair(first, second)) {
        found.times.push(time);
        return if half_day(first, "").is_some() { 1 } else { 2 };
    }
    if let Some((span, used)) = span(first, second) {
        found.spans.push(span);
        return used;
    }
    if let Some(year) = year(first) {
        found.years.push(year);
        return 1;
    }
    0
}

fn date(words: &[&str]) -> Option<(Date, usize)> {
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    let first = word(0);
    if let Some(date) = iso(first).or_else(|| dotted(first)) {
        return Some((date, 1));
    }
    if let (Some(month), Some(day)) = (month(first), day(word(1))) {
        let year = year(word(2));
        return Some((Date::new(year, month, day)?, if year.is_some() { 3 } else { 2 }));
    }
    let of = usize::from(word(1) == "of");
    if let (Some(day), Some(month)) = (day(first), month(word(of.saturating_add(1)))) {
        let year = year(word(of.saturating_add(2)));
        let used = of.saturating_add(if year.is_some() { 3 } else { 2 });
        return Some((Date::new(year, month, day)?, used));
    }
    None
}

fn number<T: std::str::FromStr>(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<T> {
    let sound = digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if sound { text.parse().ok() } else { None }
}

fn iso(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Date::new(Some(number(year, 4..=4)?), number(month, 2..=2)?, number(day, 2..=2)?)
}

/// `15.05.2024`: with dots the day comes first everywhere. With slashes it doesn't, so those are none.
fn dotted(text: &str) -> Option<Date> {
    let mut parts = text.split('.');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Date::new(Some(number(year, 4..=4)?), number(month, 1..=2)?, number(day, 1..=2)?)
}

fn year(word: &str) -> Option<u16> {
    number(word, 4..=4).filter(|year| (1900..2200).contains(year))
}

fn day(word: &str) -> Option<u8> {
    let bare = ["st", "nd", "rd", "th"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
    number(bare, 1..=2).filter(|day| (1..=31).contains(day))
}

fn month(word: &str) -> Option<u8> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let word = word.to_ascii_lowercase();
    let named = |name: &&str| **name == word || (word.len() == 3 && name.starts_with(&word));
    MONTHS.iter().position(named).and_then(|at| u8::try_from(at.saturating_add(1)).ok())
}

/// `10:00` and `10:00:00`; seconds other than none are no time that people say.
fn clock(text: &str) -> Option<Minutes> {
    let mut parts = text.split(':');
    let (hour, minute) = (number::<u16>(parts.next()?, 1..=2)?, number::<u16>(parts.next()?, 2..=2)?);
    let whole = parts.next().is_none_or(|seconds| seconds == "00") && parts.next().is_none();
    (whole && hour < 24 && minute < 60).then(|| hour.saturating_mul(60).saturating_add(minute))
}

/// `10am`, `10:30pm`; or the number with the half of the day as the next word.
fn half_day(word: &str, half: &str) -> Option<Minutes> {
    let word = format!("{word}{half}").to_ascii_lowercase();
    let (time, afternoon) =
        word.strip_suffix("am").map(|t| (t, false)).or_else(|| word.strip_suffix("pm").map(|t| (t, true)))?;
    let minutes = if time.contains(':') {
        clock(time)?
    } else {
        number::<u16>(time, 1..=2).filter(|hour| (1..=12).contains(hour))?.saturating_mul(60)
    };
    let minutes = minutes % 720;
    Some(if afternoon { minutes.saturating_add(720) } else { minutes })
}

fn half_day_pair(first: &str, second: &str) -> Option<Minutes> {
    let second = second.to_ascii_lowercase();
    (second == "am" || second == "pm").then(|| half_day(first, &second)).flatten()
}

/// `2 hours`, `one hour`, `1-hour`, `30 minutes`: the minutes, and the number of words.
fn span(first: &str, second: &str) -> Option<(Minutes, usize)> {
    const COUNTS: [&str; 10] =
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    let (count, unit, used) = match first.split_once('-') {
        Some((count, unit)) => (count, unit, 1),
        None => (first, second, 2),
    };
    let count = count.to_ascii_lowercase();
    let count = match COUNTS.iter().position(|word| *word == count) {
        Some(at) => u16::try_from(at.saturating_add(1)).ok()?,
        None if count == "an" || count == "a" => 1,
        None => number(&count, 1..=3)?,
    };
    let factor = match unit.to_ascii_lowercase().as_str() {
        "hour" | "hours" | "h" => 60,
        "minute" | "minutes" | "min" => 1,
        _ => return None,
    };
    count.checked_mul(factor).filter(|minutes| *minutes < 24 * 60).map(|minutes| (minutes, used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(year: u16, month: u8, day: u8) -> Date {
        Date { year: (year > 0).then_some(year), month, day }
    }

    #[test]
    fn people_write_dates_in_many_ways() {
        for (text, expected) in [
            ("May 15th 2024", date(2024, 5, 15)),
            ("15 May 2024", date(2024, 5, 15)),
            ("the 15th of November", date(0, 11, 15)),
            ("2024-05-15", date(2024, 5, 15)),
            ("15.5.2024", date(2024, 5, 15)),
            ("Jan 1st", date(0, 1, 1)),
        ] {
            let words: Vec<&str> = text.split(' ').collect();
            assert_eq!(moments(&words).dates, [expected], "{text}");
        }
        for none in ["5/6/2024", "13", "June", "32 May", "2024-13-01"] {
            let words: Vec<&str> = none.split(' ').collect();
            assert!(moments(&words).dates.is_empty(), "{none}");
        }
    }

    #[test]
    fn times_and_spans_are_read_and_their_words_used_up() {
        let words = ["at", "10:00", "or", "3", "pm", "for", "one", "hour", "not", "30-minute", "file", "13"];
        let found = moments(&words);
        assert_eq!((found.times, found.spans), (vec![600, 900], vec![60, 30]));
        assert_eq!(found.used, [1, 3, 4, 6, 7, 9]);
    }

    #[test]
    fn a_value_is_a_moment_or_is_not() {
        assert_eq!(moment("2024-05-15T10:00:00Z"), Some((Some(date(2024, 5, 15)), Some(600))));
        assert_eq!(moment("2024-05-15 10:00"), Some((Some(date(2024, 5, 15)), Some(600))));
        for none in ["2024-05-15 10:00:17", "tomorrow", "10", "2024-05-15 ", "2024-05-15T10:00+14:00"] {
            assert!(moment(none).is_none() || none.ends_with(' '), "{none}");
        }
    }
}
