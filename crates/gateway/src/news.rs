//! How much is written of what may not be done: whoever asks for it in a loop fills no ledger.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Most kinds of refusals of one session that are told apart.
const MAX_KINDS: usize = 256;
/// Most bytes of the arguments of a refused call that are kept.
const MAX_KEPT: usize = 4 << 10;
/// Most bytes of what is told in passing.
const MAX_SHORT: usize = 400;

/// The refusals of one session.
#[derive(Debug)]
pub(crate) struct News {
    /// Those of one kind that are written.
    most: u32,
    times: Mutex<HashMap<String, u32>>,
}

impl News {
    /// So many of each kind.
    pub(crate) fn new(most: u32) -> Self {
        Self { most, times: Mutex::default() }
    }

    /// Counts a refusal of this kind, and says whether it is written.
    pub(crate) fn is(&self, mut kind: String) -> bool {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() >= MAX_KINDS && !times.contains_key(&kind) {
            kind = String::new();
        }
        let times = times.entry(kind).or_default();
        *times = times.saturating_add(1);
        *times <= self.most
    }

    /// Whether as many refusals of this kind were written as are.
    pub(crate) fn is_old(&self, kind: &str) -> bool {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let like = if times.len() >= MAX_KINDS && !times.contains_key(kind) { "" } else { kind };
        times.get(like).is_some_and(|times| *times >= self.most)
    }
}

/// The arguments of a refused call, as they are kept.
pub(crate) fn kept(arguments: &str) -> String {
    if arguments.len() <= MAX_KEPT {
        return arguments.to_owned();
    }
    let end = arguments.floor_char_boundary(MAX_KEPT);
    let begin = arguments.get(..end).unwrap_or_default();
    serde_json::json!({ "begins": begin, "bytes": arguments.len() }).to_string()
}

/// A text as it is told in passing.
pub(crate) fn short(text: &str) -> String {
    if text.len() <= MAX_SHORT {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MAX_SHORT);
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_one_kind_are_written_a_few_times() {
        let news = News::new(4);
        assert!(!news.is_old("x"));
        assert_eq!((0..100).filter(|_| news.is("x".to_owned())).count(), 4);
        assert!(news.is_old("x") && !news.is_old("y"));
        let kinds = (0..10_000).filter(|n| news.is(n.to_string())).count();
        assert!(kinds <= 260, "{kinds}");
        assert!(news.is_old("y"), "as all that there is no room for");
    }

    #[test]
    fn of_long_arguments_the_begin_is_kept() {
        assert_eq!(kept("{}"), "{}");
        let long = kept(&format!(r#"{{"a":"{}"}}"#, "é".repeat(1 << 20)));
        assert!(long.len() < 2 * MAX_KEPT && long.contains("2097160"), "{}", long.len());
        assert!(serde_json::from_str::<serde_json::Value>(&long).is_ok());
    }
}
