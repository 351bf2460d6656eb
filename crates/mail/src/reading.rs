//! A stranger's mail as bounded plain text. Its parts are told apart here, to a fixed depth; the library decodes one part at
//! a time. Nothing that it refers to is loaded, attachments are named and not opened.

use mail_parser::decoders::html::html_to_text;
use mail_parser::{Address as Parsed, HeaderValue, Message, MessageParser, MimeHeaders as _, PartType};
use serde::Serialize;

use crate::parts::{Part, split_parts};

/// Most characters that are shown of a field.
const MAX_FIELD: usize = 1000;
/// Most addresses of one kind that are shown.
const MAX_PARTIES: usize = 100;
/// How deep parts nest, and how many there are.
const MAX_DEPTH: usize = 8;
const MAX_PARTS: usize = 200;
/// Most bytes of text that are shown.
pub(crate) const MAX_TEXT: usize = 160 << 10;

/// A mail as it is read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Reading {
    #[serde(flatten)]
    pub(crate) head: Head,
    pub(crate) body: String,
    pub(crate) attachments: Vec<Attachment>,
    /// Whether a part of the mail is left out of what is shown.
    pub(crate) cut: bool,
    /// Whether it is one plain text and nothing else.
    #[serde(skip)]
    pub(crate) plain: bool,
}

/// What stands above a mail.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Head {
    pub(crate) from: Vec<Party>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) reply_to: Vec<Party>,
    pub(crate) to: Vec<Party>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cc: Vec<Party>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) bcc: Vec<Party>,
    pub(crate) subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) in_reply_to: Option<String>,
    #[serde(skip)]
    pub(crate) message_id: Option<String>,
}

/// Whom a mail is from or to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Party {
    /// What they call themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) address: String,
}

/// A part that is no text to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Attachment {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) bytes: usize,
}

impl Reading {
    /// Reads a mail, of which the end may be missing.
    pub(crate) fn of(bytes: &[u8], cut: bool) -> Self {
        let whole = Part::of(bytes);
        let mut reading = Self { head: Head::of_part(&whole), cut, ..Self::default() };
        let mut parts = 0;
        reading.part(&whole, 0, &mut parts);
        reading.plain = parts == 1 && is_plain(&whole);
        reading
    }

    /// Whether a person sees the same in both, but for when they were written.
    pub(crate) fn shows_same(&self, other: &Self) -> bool {
        let undated = |head: &Head| Head { date: None, message_id: None, ..head.clone() };
        undated(&self.head) == undated(&other.head)
            && (&self.body, &self.attachments, self.cut) == (&other.body, &other.attachments, other.cut)
    }

    fn part(&mut self, part: &Part<'_>, depth: usize, parts: &mut usize) {
        *parts += 1;
        self.cut |= part.cut;
        let Some(body) = part.body else { return };
        let parsed = MessageParser::new().parse_headers(&part.head);
        let kind = parsed.as_ref().map_or_else(plain_text, kind);
        let attribute = |name| parsed.as_ref().and_then(|head| head.content_type()?.attribute(name));
        let coding =
            parsed.as_ref().and_then(|head| head.content_transfer_encoding()).map(str::to_ascii_lowercase);
        let attached = parsed.as_ref().is_some_and(is_attached);
        match (kind.split_once('/'), attribute("boundary")) {
            (Some(("multipart", how)), Some(boundary)) if depth < MAX_DEPTH => {
                let inner = split_parts(body, boundary.as_bytes(), MAX_PARTS.saturating_sub(*parts));
                self.cut |= inner.cut;
                let inner = inner.parts.into_iter().map(Part::of).collect();
                for part in if how == "alternative" { chosen(inner) } else { inner } {
                    self.part(&part, depth + 1, parts);
                }
            }
            (Some(("text", "plain" | "html")), _) if !attached => {
                self.text(&own_head(&kind, attribute("charset"), coding.as_deref()), body);
            }
            (part, _) => {
                self.cut |= part.is_some_and(|(kind, _)| kind == "multipart");
                let name =
                    parsed.as_ref().and_then(|head| head.attachment_name().map(short)).unwrap_or_default();
                let bytes = if coding.as_deref() == Some("base64") { body.len() / 4 * 3 } else { body.len() };
                self.attachments.push(Attachment { name, kind, bytes });
            }
        }
    }

    /// Adds the text of a part, of which the library sees a head of ours: it finds no other parts than we did.
    fn text(&mut self, own_head: &str, body: &[u8]) {
        let bytes = [own_head.as_bytes(), body].concat();
        let Some(message) = MessageParser::new().parse(&bytes) else { return };
        for part in &message.parts {
            let text = match &part.body {
                PartType::Text(text) => text.to_string(),
                PartType::Html(html) => html_to_text(html),
                PartType::Binary(_)
                | PartType::InlineBinary(_)
                | PartType::Message(_)
                | PartType::Multipart(_) => {
                    continue;
                }
            };
            if !self.body.is_empty() {
                self.body.push_str("\n\n");
            }
            let text = text.replace("\r\n", "\n");
            self.body.extend(text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')));
        }
        if self.body.len() > MAX_TEXT {
            let end = (0..=MAX_TEXT).rev().find(|at| self.body.is_char_boundary(*at)).unwrap_or(0);
            self.body.truncate(end);
            self.cut = true;
        }
    }
}

impl Head {
    /// Reads the head of a mail.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::of_part(&Part::of(bytes))
    }

    fn of_part(part: &Part<'_>) -> Self {
        let Some(head) = MessageParser::new().parse_headers(&part.head) else {
            return Self::default();
        };
        Self {
            from: parties(head.from()),
            reply_to: parties(head.reply_to()),
            to: head.all_to().flat_map(|to| parties(Some(to))).take(MAX_PARTIES).collect(),
            cc: head.all_cc().flat_map(|cc| parties(Some(cc))).take(MAX_PARTIES).collect(),
            bcc: head.all_bcc().flat_map(|bcc| parties(Some(bcc))).take(MAX_PARTIES).collect(),
            subject: head.subject().map(short).unwrap_or_default(),
            date: head.date().filter(|date| date.is_valid()).map(mail_parser::DateTime::to_rfc3339),
            in_reply_to: first(head.in_reply_to()),
            message_id: head.message_id().map(short),
        }
    }
}

fn first(value: &HeaderValue<'_>) -> Option<String> {
    value.as_text().or_else(|| value.as_text_list()?.first().map(AsRef::as_ref)).map(short)
}

fn parties(parsed: Option<&Parsed<'_>>) -> Vec<Party> {
    let parties = parsed.into_iter().flat_map(Parsed::iter).map(|party| Party {
        name: party.name().map(short).filter(|name| !name.is_empty()),
        address: party.address().map(short).unwrap_or_default(),
    });
    parties.take(MAX_PARTIES).collect()
}

/// A text on one line, as far as it is shown.
fn short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_FIELD).collect()
}

fn plain_text() -> String {
    "text/plain".to_owned()
}

fn kind(head: &Message<'_>) -> String {
    head.content_type().map_or_else(plain_text, |kind| {
        let kind = format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("plain"));
        kind.chars().filter(char::is_ascii_graphic).take(100).collect::<String>().to_ascii_lowercase()
    })
}

fn is_attached(head: &Message<'_>) -> bool {
    head.content_disposition().is_some_and(|how| how.ctype().eq_ignore_ascii_case("attachment"))
}

fn is_plain(part: &Part<'_>) -> bool {
    let head = MessageParser::new().parse_headers(&part.head);
    head.is_some_and(|head| kind(&head) == "text/plain" && !is_attached(&head))
}

/// A head that says how a text is written, and nothing else.
fn own_head(kind: &str, charset: Option<&str>, coding: Option<&str>) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.:+".contains(&c);
    let charset = charset
        .filter(|name| name.bytes().all(plain))
        .map(|name| format!("; charset=\"{name}\""))
        .unwrap_or_default();
    let coding = coding
        .filter(|coding| ["base64", "quoted-printable"].contains(coding))
        .map(|coding| format!("Content-Transfer-Encoding: {coding}\r\n"))
        .unwrap_or_default();
    format!("Content-Type: {kind}{charset}\r\n{coding}\r\n")
}

/// Of several forms of one text: the plain one, or else the last, which is the richest.
fn chosen(mut parts: Vec<Part<'_>>) -> Vec<Part<'_>> {
    let plain = parts.iter().position(|part| part.head.is_empty() || is_plain(part));
    let chosen = plain.or_else(|| parts.len().checked_sub(1));
    chosen.map(|at| parts.swap_remove(at)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Reading {
        Reading::of(text.replace('\n', "\r\n").as_bytes(), false)
    }

    #[test]
    fn a_mail_is_read_as_plain_text() {
        let mail = read(
            "From: =?utf-8?q?J=C3=BCrgen?= <j@acme.example>\nTo: ada@acme.example, \"B, C\" <b@acme.example>\nSubject: =?iso-8859-1?q?Gr=FC=DFe?=\nDate: Sat, 28 Nov 2026 12:00:00 +0100\nContent-Type: multipart/mixed; boundary=\"=o\"\n\npreamble\n--=o\nContent-Type: multipart/alternative; boundary=i\n\n--i\nContent-Type: text/html\n\n<b>rich</b>\n--i\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nGr=FC=DFe aus K=F6ln\n--i--\n--=o\nContent-Type: application/pdf; name=\"x.pdf\"\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment\n\nAAAA\n--=o--\nepilogue\n",
        );
        assert_eq!((mail.head.subject.as_str(), mail.body.as_str()), ("Grüße", "Grüße aus Köln"));
        assert_eq!(
            mail.head.from,
            [Party { name: Some("Jürgen".to_owned()), address: "j@acme.example".to_owned() }]
        );
        assert_eq!(mail.head.to.len(), 2);
        assert_eq!(mail.head.date.as_deref(), Some("2026-11-28T12:00:00+01:00"));
        let pdf = Attachment { name: "x.pdf".to_owned(), kind: "application/pdf".to_owned(), bytes: 3 };
        assert_eq!((mail.attachments, mail.cut, mail.plain), (vec![pdf], false, false));
    }

    #[test]
    fn html_becomes_text_and_nothing_is_loaded() {
        let mail = read(
            "Subject: x\nContent-Type: text/html\n\n<style>p{}</style><script>alert(1)</script><p>Hello <img src=\"http://127.0.0.1:9/pixel\">there</p>",
        );
        assert!(mail.body.contains("Hello") && mail.body.contains("there"), "{}", mail.body);
        assert!(!mail.body.contains("pixel") && !mail.body.contains("alert"), "{}", mail.body);
    }

    #[test]
    fn a_mail_in_a_mail_is_an_attachment_that_is_not_opened() {
        let nested = "Content-Type: message/rfc822\n\n".repeat(40_000);
        let mail = read(&format!("Subject: x\n{nested}Subject: inner\n\nhidden"));
        assert_eq!((mail.body.as_str(), mail.attachments.len()), ("", 1));
    }

    #[test]
    fn a_part_is_read_as_what_it_was_taken_for_or_not_at_all() {
        let nested = "Content-Type: message/rfc822\n\n".repeat(57_000);
        for long in [3_800, 1_000, 100] {
            let head = format!("X: {}\n", "a".repeat(70)).repeat(long);
            let mail = read(&format!(
                "Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n{head}{nested}hidden\n--b--\n"
            ));
            assert_eq!((mail.head.subject.as_str(), mail.body.as_str()), ("x", ""));
            // Where the head of the mail within has an end in sight, it is known to be one.
            assert_eq!((mail.cut, mail.attachments.len()), if long == 100 { (false, 1) } else { (true, 0) });
        }
        let mail = read(&format!("Subject: x\n{}\nhidden", "X: a\n".repeat(60_000)));
        assert_eq!((mail.head.subject.as_str(), mail.body.as_str(), mail.cut), ("x", "", true));
        // Nor does the library look for parts where none were looked for.
        let deep = "--b\nContent-Type: multipart/mixed; boundary=b\n\n".repeat(20);
        let mail = read(&format!("Content-Type: text/plain; boundary=b\n\n{deep}text"));
        assert_eq!(mail.body, format!("{deep}text"));
    }

    #[test]
    fn parts_are_bounded_in_depth_and_number() {
        let mut deep = String::from("Subject: deep\n");
        for level in 0..5000 {
            deep.push_str(&format!("Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n"));
        }
        let mail = read(&format!("{deep}\nbottom\n"));
        assert!(!mail.body.contains("bottom") && mail.cut);
        let many = "--b\n\nx\n".repeat(5000);
        let mail =
            read(&format!("Subject: many\nContent-Type: multipart/mixed; boundary=b\n\n{many}--b--\n"));
        assert!(mail.cut && mail.body.len() < 5000, "{}", mail.body.len());
        let same = read(&format!(
            "Content-Type: multipart/mixed; boundary=b\n\n{}",
            "--b\nContent-Type: multipart/mixed; boundary=b\n\n".repeat(5000)
        ));
        assert!(same.attachments.len() <= MAX_PARTS);
    }

    #[test]
    fn texts_are_cut_and_say_so() {
        let mail = read(&format!("Subject: {}\n\n{}", "s".repeat(5000), "é".repeat(MAX_TEXT)));
        assert!(mail.cut && mail.body.len() <= MAX_TEXT && mail.head.subject.len() == MAX_FIELD);
        let mail = read(&format!("Subject: x\nTo: {}a@b.example\n\n", "a@b.example, ".repeat(5000)));
        assert_eq!(mail.head.to.len(), MAX_PARTIES);
        let mail = read("Subject: a\u{7}b\n\nline\u{1b}[2J\n");
        assert_eq!((mail.head.subject.as_str(), mail.body.trim_end()), ("a b", "line[2J"));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let reading = Reading::of(&bytes, false);
            prop_assert!(reading.body.len() <= MAX_TEXT);
        }

        #[test]
        fn no_html_is_too_strange(html in "(<[!/]?[a-z\u{e4}]{0,8}|-->|<!--|>|&[#x0-9a-f\u{e9}]{0,8};?|\\PC|\n| ){0,120}") {
            let reading = Reading::of(format!("Content-Type: text/html; charset=utf-8\r\n\r\n{html}").as_bytes(), false);
            prop_assert!(reading.body.len() <= MAX_TEXT);
        }

        #[test]
        fn no_parts_are_too_strange(text in "(--b|--|\r\n|\n|Content-Type: multipart/mixed; boundary=b|Content-Type: text/html|Content-Transfer-Encoding: base64|:|x){0,80}") {
            drop(Reading::of(format!("Content-Type: multipart/alternative; boundary=b\r\n\r\n{text}").as_bytes(), false));
        }
    }
}
