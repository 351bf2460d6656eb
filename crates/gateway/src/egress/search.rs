//! What is done so that an answer can be searched for the secret that was lent to its request: the server is asked for
//! nothing that is packed, in pieces or in another charset, and what comes so all the same is refused.

use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, IF_RANGE, RANGE,
};
use http::{HeaderMap, HeaderValue};
use vault::{Injection, Scrubber};

/// Charsets whose ASCII letters are the bytes that the search knows.
const CHARSETS: &[&str] =
    &["utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1", "iso-8859-15", "windows-1252"];
/// Parameters of what a program accepts that say which version or profile, never which bytes.
const PARAMETERS: &[&str] = &["q", "version", "v", "api-version", "profile", "odata", "odata.metadata"];
/// Why an answer in another charset is refused.
const CHARSET: &str =
    "the server answered in a charset in which the answer can't be searched for a secret: ask for UTF-8";
/// How a text begins that says of itself that it is UTF-16 or UTF-32.
const WIDE: &[&[u8]] = &[b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff"];

/// Reads an answer's body, and gives it back without the secret.
pub(super) struct Search {
    scrubber: Scrubber,
    /// The first bytes, while they may be a mark of UTF-16 or UTF-32; none once they are not.
    begun: Option<Vec<u8>>,
}

impl Search {
    pub(super) fn new(lent: &Injection) -> Self {
        Self { scrubber: lent.scrubber(), begun: Some(Vec::new()) }
    }

    /// Takes it out of headers' values.
    pub(super) fn scrubber(&self) -> &Scrubber {
        &self.scrubber
    }

    /// Reads on; gives what can be given.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let Some(mut begun) = self.begun.take() else { return Ok(self.scrubber.push(bytes)) };
        begun.extend_from_slice(bytes);
        if WIDE.iter().any(|mark| begun.starts_with(mark)) {
            let why = "the answer begins as UTF-16 or UTF-32 does, and is to be searched for a secret";
            return Err(why.to_owned());
        }
        if WIDE.iter().any(|mark| mark.starts_with(&begun)) {
            self.begun = Some(begun);
            return Ok(Vec::new());
        }
        Ok(self.scrubber.push(&begun))
    }

    /// The answer has ended; gives the rest.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut rest = self.begun.take().map(|begun| self.scrubber.push(&begun)).unwrap_or_default();
        rest.extend(self.scrubber.finish());
        rest
    }
}

/// Asks for an answer that can be searched.
pub(super) fn ask_plainly(headers: &mut HeaderMap) {
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    for chosen in [ACCEPT_CHARSET, RANGE, IF_RANGE] {
        headers.remove(chosen);
    }
    if headers.contains_key(ACCEPT) {
        let ranges: Vec<String> = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(media_range)
            .collect();
        let plain = HeaderValue::from_str(&ranges.join(", ")).ok().filter(|value| !value.is_empty());
        headers.insert(ACCEPT, plain.unwrap_or(HeaderValue::from_static("*/*")));
    }
}

/// One kind of answer that a program takes, without parameters that could choose its bytes. What is quoted is left out.
fn media_range(text: &str) -> Option<String> {
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next().filter(|kind| !kind.is_empty() && !kind.contains('"'))?;
    let kept = parts.filter(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        PARAMETERS.iter().any(|known| name.trim().eq_ignore_ascii_case(known)) && !value.contains('"')
    });
    Some(std::iter::once(kind).chain(kept).collect::<Vec<_>>().join(";"))
}

/// Why an answer with this head can't be searched, in words that have nothing of it.
pub(super) fn unsearchable(head: &HeaderMap) -> Option<String> {
    if head.contains_key(CONTENT_ENCODING) {
        let why =
            "the server packed an answer that must be searched for a secret, though it was asked not to";
        return Some(why.to_owned());
    }
    let parameters = head.get_all(CONTENT_TYPE).iter().flat_map(|kind| kind.as_bytes().split(|b| *b == b';'));
    for parameter in parameters.map(String::from_utf8_lossy) {
        let Some((name, charset)) = parameter.split_once('=') else { continue };
        let charset = charset.trim().trim_matches('"');
        if name.trim().eq_ignore_ascii_case("charset")
            && !CHARSETS.iter().any(|known| charset.eq_ignore_ascii_case(known))
        {
            // Not which: it may be anything, and a part of the secret.
            return Some(CHARSET.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(name: &http::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn nothing_that_a_program_accepts_chooses_the_bytes() {
        for (accepts, sent) in [
            (&["application/json;charset=UTF-16BE"][..], "application/json"),
            (&["text/html;level=1; q=0.7, */*;q=0.1"], "text/html;q=0.7, */*;q=0.1"),
            (&["application/vnd.x+json; version=3"], "application/vnd.x+json;version=3"),
            (&["a/b;profile=\"x, c/d;charset=utf-16\""], "a/b, c/d"),
            (&["a/b", "c/d; Charset = utf-16"], "a/b, c/d"),
            (&["\"a/b\""], "*/*"),
        ] {
            let mut headers = head(&ACCEPT, accepts);
            ask_plainly(&mut headers);
            assert_eq!(headers.get_all(ACCEPT).iter().collect::<Vec<_>>(), [sent]);
        }
        let mut headers = head(&ACCEPT_CHARSET, &["utf-16"]);
        ask_plainly(&mut headers);
        assert!(!headers.contains_key(ACCEPT_CHARSET) && !headers.contains_key(ACCEPT));
    }

    #[test]
    fn an_answer_in_a_charset_that_is_not_searched_is_refused() {
        let unsearchable = |head| super::unsearchable(&head);
        for fine in ["text/html", "text/html; charset=utf-8", "a/b;charset=\"ISO-8859-1\"", "a/b; boundary=x"]
        {
            assert_eq!(unsearchable(head(&CONTENT_TYPE, &[fine])), None, "{fine}");
        }
        for unfit in [
            "text/html; charset=utf-16",
            "a/b;x=\";charset=utf-16\"",
            "a/b; CharSet = \"UTF-7\"",
            "a;charset=ibm037",
        ] {
            assert!(unsearchable(head(&CONTENT_TYPE, &[unfit])).is_some(), "{unfit}");
        }
        assert!(unsearchable(head(&CONTENT_TYPE, &["a/b", "a/b;charset=utf-16le"])).is_some());
    }

    #[test]
    fn nothing_of_a_charset_that_is_refused_is_told() {
        for written in ["canary/of+the=vault", "canary;of-the-vault", "\"canary", &"x".repeat(60 << 10)] {
            let head = head(&CONTENT_TYPE, &[&format!("text/plain; charset={written}")]);
            assert_eq!(unsearchable(&head).as_deref(), Some(CHARSET), "{written}");
        }
    }
}
