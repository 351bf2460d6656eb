//! The arguments of the tools, from JSON to what can be done.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::address::Address;
use crate::failure::Failure;
use crate::folder::{MailId, checked};
use crate::imap::Criteria;
use crate::writing::Mail;

/// Most mails that a search tells, and how many where it isn't said.
const MAX_FOUND: usize = 50;
const USUAL_FOUND: usize = 20;
/// Most bytes of a text that is searched for.
const MAX_SOUGHT: usize = 200;

/// Reads arguments.
pub(super) fn read<T: DeserializeOwned>(arguments: &str) -> Result<T, Failure> {
    serde_json::from_str(arguments)
        .map_err(|e| Failure::invalid(format!("the arguments can't be taken: {e}")))
}

/// Of a tool without arguments.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoArguments {}

/// What is searched for.
#[derive(Debug, Deserialize)]
#[serde(try_from = "SearchText")]
pub(super) struct Search {
    pub(super) folder: String,
    pub(super) criteria: Criteria,
    pub(super) limit: usize,
}

/// Which mail.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    pub(super) id: MailId,
}

pub(super) type Delete = Read;
pub(super) type SendDraft = Read;

/// Which mail goes where.
#[derive(Debug, Deserialize)]
#[serde(try_from = "MoveText")]
pub(super) struct Move {
    pub(super) id: MailId,
    pub(super) folder: String,
}

/// A mail, and perhaps the one that it answers.
#[derive(Debug, Deserialize)]
#[serde(try_from = "MailText")]
pub(super) struct Draft {
    pub(super) mail: Mail,
    pub(super) in_reply_to: Option<MailId>,
}

pub(super) type Send = Draft;

/// What a draft becomes.
#[derive(Debug, Deserialize)]
#[serde(try_from = "UpdateText")]
pub(super) struct Update {
    pub(super) id: MailId,
    pub(super) mail: Mail,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchText {
    folder: Option<String>,
    from: Option<String>,
    to: Option<String>,
    subject: Option<String>,
    text: Option<String>,
    since: Option<String>,
    before: Option<String>,
    #[serde(default)]
    unread: bool,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveText {
    id: MailId,
    folder: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MailText {
    #[serde(default)]
    to: Vec<Address>,
    #[serde(default)]
    cc: Vec<Address>,
    #[serde(default)]
    bcc: Vec<Address>,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    body: String,
    in_reply_to: Option<MailId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdateText {
    id: MailId,
    #[serde(default)]
    to: Vec<Address>,
    #[serde(default)]
    cc: Vec<Address>,
    #[serde(default)]
    bcc: Vec<Address>,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    body: String,
}

impl<'de> Deserialize<'de> for MailId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl TryFrom<SearchText> for Search {
    type Error = Failure;
    fn try_from(text: SearchText) -> Result<Self, Failure> {
        let folder = text.folder.unwrap_or_else(|| "INBOX".to_owned());
        checked(&folder)?;
        let mut criteria: Criteria = Vec::new();
        let words = [("FROM", text.from), ("TO", text.to), ("SUBJECT", text.subject), ("TEXT", text.text)];
        for (word, sought) in words {
            let Some(sought) = sought else { continue };
            if sought.is_empty() || sought.len() > MAX_SOUGHT || sought.chars().any(char::is_control) {
                let why = format!("what is searched for is 1 to {MAX_SOUGHT} bytes on one line");
                return Err(Failure::invalid(why));
            }
            criteria.push((word, Some(sought)));
        }
        for (word, date) in [("SINCE", text.since), ("BEFORE", text.before)] {
            if let Some(date) = date {
                criteria.push((word, Some(day(&date)?)));
            }
        }
        if text.unread {
            criteria.push(("UNSEEN", None));
        }
        let limit = text.limit.unwrap_or(USUAL_FOUND).clamp(1, MAX_FOUND);
        Ok(Self { folder, criteria, limit })
    }
}

impl TryFrom<MoveText> for Move {
    type Error = Failure;
    fn try_from(text: MoveText) -> Result<Self, Failure> {
        checked(&text.folder)?;
        Ok(Self { id: text.id, folder: text.folder })
    }
}

impl TryFrom<MailText> for Draft {
    type Error = Failure;
    fn try_from(text: MailText) -> Result<Self, Failure> {
        let MailText { to, cc, bcc, subject, body, in_reply_to } = text;
        let mail = Mail { to, cc, bcc, subject, body: body.replace("\r\n", "\n"), answers: None };
        mail.check()?;
        Ok(Self { mail, in_reply_to })
    }
}

impl TryFrom<UpdateText> for Update {
    type Error = Failure;
    fn try_from(text: UpdateText) -> Result<Self, Failure> {
        let UpdateText { id, to, cc, bcc, subject, body } = text;
        let draft = Draft::try_from(MailText { to, cc, bcc, subject, body, in_reply_to: None })?;
        Ok(Self { id, mail: draft.mail })
    }
}

/// `2026-11-28` as IMAP writes it.
fn day(date: &str) -> Result<String, Failure> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let number = |part: Option<&str>, digits: usize| {
        part.filter(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))?
            .parse::<usize>()
            .ok()
    };
    let mut parts = date.split('-');
    let (year, month, day) = (number(parts.next(), 4), number(parts.next(), 2), number(parts.next(), 2));
    let month = month.and_then(|month| MONTHS.get(month.checked_sub(1)?));
    match (year, month, day.filter(|day| (1..=31).contains(day)), parts.next()) {
        (Some(year), Some(month), Some(day), None) => Ok(format!("{day:02}-{month}-{year:04}")),
        _ => Err(Failure::invalid("a day is written 2026-11-28")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_read_strictly() {
        let search: Search =
            read(r#"{"from": "ada", "since": "2026-02-03", "unread": true, "limit": 1000}"#).unwrap();
        let expected: Criteria = vec![
            ("FROM", Some("ada".to_owned())),
            ("SINCE", Some("03-Feb-2026".to_owned())),
            ("UNSEEN", None),
        ];
        assert_eq!((search.folder.as_str(), search.criteria, search.limit), ("INBOX", expected, MAX_FOUND));
        for bad in [
            r#"{"from": "a\r\nL9 DELETE INBOX"}"#,
            r#"{"since": "yesterday"}"#,
            r#"{"since": "2026-13-01"}"#,
            r#"{"before": "2026-01-01-01"}"#,
            r#"{"folder": "*"}"#,
            r#"{"folder": "a\nb"}"#,
            r#"{"text": ""}"#,
            r#"{"raw": "ALL"}"#,
            "[]",
            "{",
        ] {
            assert!(read::<Search>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mail_is_read_strictly() {
        let draft: Draft = read(r#"{"to": ["bob@acme.example"], "subject": "x", "body": "a\r\nb"}"#).unwrap();
        assert_eq!(draft.mail.body, "a\nb");
        for bad in [
            r#"{"to": "bob@acme.example"}"#,
            r#"{"to": ["bob@acme.example\r\nBcc: eve@evil.example"]}"#,
            r#"{"to": ["bob@acme。example"]}"#,
            r#"{"subject": "a\r\nBcc: eve@evil.example"}"#,
            r#"{"headers": {}}"#,
            r#"{"from": "boss@acme.example"}"#,
            r#"{"in_reply_to": "42"}"#,
        ] {
            assert!(read::<Draft>(bad).is_err(), "{bad}");
        }
        assert!(read::<Update>(r#"{"id": "Drafts:1:2", "in_reply_to": "INBOX:1:2"}"#).is_err());
        assert!(read::<NoArguments>(r#"{"a": 1}"#).is_err());
    }
}
