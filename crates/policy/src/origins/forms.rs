//! The one form of a value per kind, so that comparing is exact: case, white space, e-mail addresses, URLs, amounts. What
//! could be mistaken for another address is refused here, never repaired.

use unicode_normalization::UnicodeNormalization as _;
use url::{Host, Url};

/// Why a value is refused, whatever its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// It has characters that can't be seen or that change the direction of reading.
    #[error("it has characters that can't be seen")]
    Invisible,
    /// Compatibility forms (NFKC) would make it another host or address.
    #[error("its host or address has look-alike characters")]
    LookAlike,
    /// A host or address that can't be read one way only.
    #[error("its host or address can't be read")]
    Unreadable,
}

/// Longest value that has a form; longer ones are text.
pub(super) const MAX_VALUE: usize = 1024;

/// Whether a character shows nothing, or changes how its neighbours are read: format and filler characters, variation
/// selectors, tags, and blanks that look like a space (Unicode 16, `Default_Ignorable_Code_Point` and `White_Space`).
#[must_use]
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' | '\u{e000}'..='\u{f8ff}')
}

/// Refuses what can't be shown as it is.
pub(super) fn visible(text: &str) -> Result<(), Unclear> {
    let hidden = text.chars().any(|c| is_invisible(c) || c.is_control());
    if hidden { Err(Unclear::Invisible) } else { Ok(()) }
}

/// A name, without regard to case and white space.
pub(super) fn folded(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").nfc().flat_map(char::to_lowercase).collect()
}

/// A host in its one form. Names outside of ASCII pass only in one script that NFKC leaves alone.
pub(super) fn host(text: &str) -> Result<String, Unclear> {
    visible(text)?;
    if text.nfkc().ne(text.chars()) {
        return Err(Unclear::LookAlike);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if !text.chars().all(|c| plain(c) || c.is_alphanumeric()) || text.is_empty() {
        return Err(Unclear::Unreadable);
    }
    let mixed = text.split('.').any(|label| {
        let foreign = !label.is_ascii();
        foreign && label.chars().any(|c| c.is_ascii_alphabetic()) && !label.chars().all(is_latin)
    });
    if mixed {
        return Err(Unclear::LookAlike);
    }
    match Host::parse(text.trim_end_matches('.')) {
        Ok(host) => Ok(host.to_string()),
        Err(_) => Err(Unclear::Unreadable),
    }
}

/// Whether a character is of the Latin script as far as Europe's languages write it, or of none.
fn is_latin(c: char) -> bool {
    c.is_ascii() || matches!(c, '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}')
}

/// An e-mail address, without regard to case. A display name around it, as in `Ada <ada@x.org>`, is not part of an
/// address here: such a value has no form, since its name could say another address.
pub(super) fn email(text: &str) -> Result<String, Unclear> {
    visible(text)?;
    let (local, domain) = text.rsplit_once('@').ok_or(Unclear::Unreadable)?;
    let domain = host(domain)?;
    if local.nfkc().ne(local.chars()) || !local.is_ascii() {
        return Err(Unclear::LookAlike);
    }
    let sound = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    if local.is_empty() || !local.chars().all(sound) || !domain.contains('.') {
        return Err(Unclear::Unreadable);
    }
    Ok(format!("{}@{domain}", local.to_ascii_lowercase()))
}

/// A URL in its canonical form: scheme and host in lower case, no default port, `.` and `..` resolved. Fragments stay,
/// for pages read them.
pub(super) fn url(text: &str) -> Result<String, Unclear> {
    visible(text)?;
    if text.contains(char::is_whitespace) || text.contains('\\') {
        return Err(Unclear::Unreadable);
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(Unclear::LookAlike); // what stands before it looks like a host
    }
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => authority,
    };
    host(name)?;
    let parsed = Url::parse(&format!("{scheme}://{rest}")).map_err(|_| Unclear::Unreadable)?;
    if parsed.host().is_none() {
        return Err(Unclear::Unreadable);
    }
    Ok(parsed.to_string())
}

/// An amount as plain decimals: `1,200.50`, `€1200.5`, `1200.50 EUR` are one; `10`, `10.0` and `10.00` are another.
pub(super) fn amount(text: &str) -> Option<String> {
    let bare = text.trim_matches(|c: char| c.is_whitespace() || "$€£¥₹".contains(c));
    let (sign, bare) = bare.strip_prefix('-').map_or(("", bare), |rest| ("-", rest));
    let (whole, fraction) = bare.split_once('.').unwrap_or((bare, ""));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !(fraction.is_empty() || digits(fraction)) || bare.ends_with('.') {
        return None;
    }
    let whole = if whole.contains(',') {
        let mut groups = whole.split(',');
        let first = groups.next().filter(|first| digits(first) && first.len() <= 3)?;
        if !groups.clone().all(|group| digits(group) && group.len() == 3) {
            return None;
        }
        groups.fold(first.to_owned(), |all, group| all + group)
    } else {
        whole.to_owned()
    };
    if !digits(&whole) || whole.len() > 30 || fraction.len() > 30 {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = fraction.trim_end_matches('0');
    let zero = whole == "0" && fraction.is_empty();
    let sign = if zero { "" } else { sign };
    Some(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

/// The addresses and URLs in a text, in their forms; unclear ones are passed over, so nothing can come from them.
pub(super) fn addresses(text: &str) -> impl Iterator<Item = String> {
    let apart = |c: char| c.is_whitespace() || "<>()[]{}\"'`,;|«»“”‘’".contains(c);
    text.split(apart).filter_map(|piece| {
        let piece = piece.trim_end_matches(['.', '!', '?', ':']);
        if piece.len() > MAX_VALUE {
            return None;
        }
        if piece.contains("://") {
            return url(piece).ok().map(|url| format!("u:{url}"));
        }
        let piece = piece.strip_prefix("mailto:").unwrap_or(piece);
        piece.contains('@').then(|| email(piece).ok()).flatten().map(|email| format!("e:{email}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_form_or_are_refused() {
        assert_eq!(email("Ada@Example.ORG").unwrap(), "ada@example.org");
        for bad in [
            "a@exаmple.org",
            "a@example。org",
            "a@ｅxample.org",
            "a b@x.org",
            "ada@x.org\u{200b}",
            "a@x",
            "Ada <a@x.org>",
        ] {
            assert!(email(bad).is_err(), "{bad}");
        }
        assert_eq!(host("BÜCHER.de").unwrap(), host("bücher.de").unwrap());
        assert_eq!(host("corp.com／.evil.com"), Err(Unclear::LookAlike));
    }

    #[test]
    fn urls_have_one_form_or_are_refused() {
        let one = url("HTTPS://Example.com:443/a/../b?x=1").unwrap();
        assert_eq!(one, "https://example.com/b?x=1");
        assert_eq!(url("example.com/b?x=1").unwrap(), one);
        assert_ne!(url("https://example.com/b?x=1#y").unwrap(), one);
        for bad in [
            "https://corp.com／.evil.com/",
            "https://corp.com@evil.com/",
            "https://a b/",
            "https://x\\y/",
            "javascript:alert(1)",
            "https://ⓔvil.com",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn amounts_have_one_form() {
        for (text, form) in
            [("10", "10"), ("10.0", "10"), ("$1,200.50", "1200.5"), ("-0.0", "0"), ("007", "7"), ("€ 5", "5")]
        {
            assert_eq!(amount(text).as_deref(), Some(form), "{text}");
        }
        for none in ["", "1.", "1,20", "1.200,50", "13th", "1e3", "5%", "--1"] {
            assert_eq!(amount(none), None, "{none}");
        }
    }
}
