//! Addresses that say who asks, as in `https://ada:word@host/`: none is taken, and no error repeats what is before the `@`.

/// An address holds a user's name or a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an address with a user's name or a password in it isn't taken: write `{0}`, and store a secret by `lazaret secret set`"
)]
pub struct UserInAddress(String);

/// Refuses an address with a user's name or a password, whatever else is wrong with it.
///
/// # Errors
/// It has one. What is told of it is the rest.
pub fn refuse_user(text: &str) -> Result<(), UserInAddress> {
    match without_user(text) {
        None => Ok(()),
        Some(bare) => Err(UserInAddress(bare.chars().take(80).flat_map(char::escape_debug).collect())),
    }
}

/// A text without the user's name and password of the address in it; none if it has none.
#[must_use]
pub fn without_user(text: &str) -> Option<String> {
    let begin = text.find("://").map_or(0, |at| at.saturating_add(3));
    let (before, rest) = text.split_at_checked(begin)?;
    let ends = |c: char| matches!(c, '/' | '?' | '#' | '\\') || c.is_whitespace();
    let authority = rest.get(..rest.find(ends).unwrap_or(rest.len()))?;
    let user = authority.rfind('@')?.saturating_add(1);
    Some(format!("{before}{}", rest.get(user..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_without_who_asks() {
        for (text, bare) in [
            ("https://ada:word@host/", "https://host/"),
            ("https://word@host:8443/a@b", "https://host:8443/a@b"),
            ("GET https://ada:wo@rd@host/**", "GET https://host/**"),
            ("https://ada:word@", "https://"),
            ("ada:word@host", "host"),
            ("imaps://ada:wörd@host", "imaps://host"),
        ] {
            assert_eq!(without_user(text).as_deref(), Some(bare));
            assert!(!refuse_user(text).unwrap_err().to_string().contains("ada"));
        }
        for text in ["https://host/@scope/a", "https://host?a@b", "host", "", "GET https://host/ a@b"] {
            assert_eq!(without_user(text), None, "{text}");
        }
    }

    #[test]
    fn no_parser_repeats_a_password() {
        use crate::{Destination, EgressPattern, EgressTarget, HostPattern, NamedHost};
        fn told<T: std::str::FromStr<Err: ToString> + std::fmt::Debug>(text: &str) -> String {
            text.parse::<T>().unwrap_err().to_string()
        }
        for told in [
            told::<Destination>("https://ada:word@host/"),
            told::<Destination>("ftp://ada:word@host/"),
            told::<EgressPattern>("GET https://ada:word@host/**"),
            told::<EgressPattern>("https://ada:word@host/**"),
            told::<EgressPattern>("PUSH https://ada:word@host/app refs/heads/*"),
            told::<EgressTarget>("GET https://ada:word@host/"),
            told::<HostPattern>("ada:word@host"),
            told::<NamedHost>("https://ada:word@host:443"),
        ] {
            assert!(
                told.contains("isn't taken") && !told.contains("word@") && !told.contains("ada"),
                "{told}"
            );
        }
    }
}
