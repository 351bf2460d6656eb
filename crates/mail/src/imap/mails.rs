//! Mails in a folder: found, read, stored, moved, removed.

use imap_proto::{AttributeValue, MailboxDatum, Response, ResponseCode, UidSetMember};

use super::{Imap, Piece};
use crate::failure::{Failure, Reason};
use crate::folder::{MailId, to_wire};

/// Most bytes of the head of a mail that a search looks at.
const MAX_HEAD: usize = 16 << 10;
/// Most bytes of a mail that are read. What comes after, mostly attachments, is left on the server.
pub(crate) const MAX_MAIL: usize = 2 << 20;

/// What a search asks for: the protocol's words, each with a text or none.
pub(crate) type Criteria = Vec<(&'static str, Option<String>)>;

/// A mail as the server keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) uid: u32,
    /// Its bytes, or those of its head, as far as they were asked for.
    pub(crate) bytes: Vec<u8>,
    /// How many bytes it has.
    pub(crate) size: u32,
    pub(crate) unread: bool,
}

/// How a mail is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub(crate) folder: &'a str,
    pub(crate) bytes: &'a [u8],
    /// Flags as the protocol writes them.
    pub(crate) flags: &'static str,
    /// By which it is found again.
    pub(crate) message_id: &'a str,
}

impl Imap<'_> {
    /// The newest mails of the open folder that meet all criteria, newest first; and how many do.
    pub(crate) async fn search(
        &mut self,
        criteria: &Criteria,
        most: usize,
    ) -> Result<(Vec<u32>, usize), Failure> {
        let plain = criteria.iter().filter_map(|(_, text)| text.as_deref()).all(str::is_ascii);
        let mut pieces = vec![Piece::Word(if plain { "UID SEARCH" } else { "UID SEARCH CHARSET UTF-8" })];
        if criteria.is_empty() {
            pieces.push(Piece::Word(" ALL"));
        }
        for (word, text) in criteria {
            pieces.extend([Piece::Word(" "), Piece::Word(word)]);
            if let Some(text) = text {
                pieces.extend([Piece::Word(" "), Piece::Text(text)]);
            }
        }
        let answer = self.command(&pieces).await?;
        let mut uids: Vec<u32> = Vec::new();
        for response in answer.untagged {
            if let Response::MailboxData(MailboxDatum::Search(found)) = response {
                uids.extend(found);
            }
        }
        uids.sort_unstable();
        uids.dedup();
        let count = uids.len();
        uids.reverse();
        uids.truncate(most);
        Ok((uids, count))
    }

    /// The heads of mails in the open folder.
    pub(crate) async fn heads(&mut self, uids: &[u32]) -> Result<Vec<Kept>, Failure> {
        if uids.is_empty() {
            return Ok(Vec::new());
        }
        let set = uids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        self.fetch(&set, &format!("BODY.PEEK[HEADER]<0.{MAX_HEAD}>")).await
    }

    /// One mail of the open folder. To read it changes nothing, not even that it is unread.
    pub(crate) async fn mail(&mut self, id: &MailId) -> Result<Kept, Failure> {
        let set = id.uid.to_string();
        let fetched = self.fetch(&set, &format!("BODY.PEEK[]<0.{MAX_MAIL}>")).await?;
        fetched
            .into_iter()
            .find(|kept| kept.uid == id.uid)
            .ok_or_else(|| Failure::new(Reason::NotFound, format!("there is no mail {id} any more")))
    }

    async fn fetch(&mut self, set: &str, what: &str) -> Result<Vec<Kept>, Failure> {
        let fetch = format!("UID FETCH {set} (UID FLAGS RFC822.SIZE {what})");
        let answer = self.command(&[Piece::Word(&fetch)]).await?;
        Ok(answer.untagged.into_iter().filter_map(kept).collect())
    }

    /// Stores a mail; its id.
    pub(crate) async fn store(&mut self, stored: Stored<'_>) -> Result<MailId, Failure> {
        let Stored { folder, bytes, flags, message_id } = stored;
        let wire = to_wire(folder);
        let flags = format!(" ({flags}) ");
        let append = [Piece::Word("APPEND "), Piece::Text(&wire), Piece::Word(&flags), Piece::Bytes(bytes)];
        let answer = self.act(&append).await?;
        if let Some(ResponseCode::AppendUid(validity, members)) = answer.code
            && let Some(uid) = only(&members)
        {
            return Ok(MailId { folder: folder.to_owned(), validity, uid });
        }
        // A server without UIDPLUS doesn't say which it became: it is looked for.
        let found = async {
            let validity = self.enter(folder, false).await?;
            let criteria = vec![("HEADER Message-ID", Some(message_id.to_owned()))];
            let (uids, _) = self.search(&criteria, 1).await?;
            let uid = *uids.first().ok_or_else(|| Failure::server("it is not found there"))?;
            Ok(MailId { folder: folder.to_owned(), validity, uid })
        };
        found.await.map_err(|failure: Failure| {
            Failure::server(format!("the mail was stored in `{folder}`, but its id is not known: {failure}"))
                .in_part()
        })
    }

    /// Moves a mail of the open folder; its new id, where the server tells it.
    pub(crate) async fn shift(&mut self, id: &MailId, to: &str) -> Result<Option<MailId>, Failure> {
        let (uid, wire) = (id.uid.to_string(), to_wire(to));
        let moves = self.can("MOVE");
        if !moves && !self.can("UIDPLUS") {
            return Err(cannot_remove());
        }
        let word = if moves { "UID MOVE " } else { "UID COPY " };
        let answer =
            self.act(&[Piece::Word(word), Piece::Word(&uid), Piece::Word(" "), Piece::Text(&wire)]).await?;
        if !moves {
            self.remove(id).await.map_err(|failure| {
                let why = format!("it was copied to `{to}`, but it is still in `{}`: {failure}", id.folder);
                Failure::server(why).in_part()
            })?;
        }
        let told = answer.untagged.into_iter().filter_map(|response| {
            let Response::Data { code, .. } = response else { return None };
            code
        });
        Ok(answer.code.into_iter().chain(told).find_map(|code| {
            let ResponseCode::CopyUid(validity, _, members) = code else { return None };
            only(&members).map(|uid| MailId { folder: to.to_owned(), validity, uid })
        }))
    }

    /// Removes a mail of the open folder, and no other: an `EXPUNGE` without a number would take whatever is flagged.
    pub(crate) async fn remove(&mut self, id: &MailId) -> Result<(), Failure> {
        if !self.can("UIDPLUS") {
            return Err(cannot_remove());
        }
        let flag = format!("UID STORE {} +FLAGS.SILENT (\\Deleted)", id.uid);
        self.act(&[Piece::Word(&flag)]).await?;
        let expunge = format!("UID EXPUNGE {}", id.uid);
        self.act(&[Piece::Word(&expunge)]).await.map(drop)
    }
}

fn cannot_remove() -> Failure {
    Failure::server("this mail server can't remove one mail alone (it has neither MOVE nor UIDPLUS)")
}

fn only(members: &[UidSetMember]) -> Option<u32> {
    match members {
        [UidSetMember::Uid(uid)] => Some(*uid),
        [UidSetMember::UidRange(range)] if range.start() == range.end() => Some(*range.start()),
        _other => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what else a mail may have grows with the library")]
fn kept(response: Response<'static>) -> Option<Kept> {
    let Response::Fetch(_, attributes) = response else { return None };
    let (mut uid, mut bytes, mut size, mut unread) = (None, None, 0, true);
    for attribute in attributes {
        match attribute {
            AttributeValue::Uid(told) => uid = Some(told),
            AttributeValue::Rfc822Size(told) => size = told,
            AttributeValue::Flags(flags) => {
                unread = !flags.iter().any(|flag| flag.eq_ignore_ascii_case("\\Seen"))
            }
            AttributeValue::BodySection { data, .. } => bytes = data.map(std::borrow::Cow::into_owned),
            _other => {}
        }
    }
    let (uid, mut bytes) = (uid?, bytes?);
    // A server that sends more than it was asked for.
    bytes.truncate(MAX_MAIL);
    Some(Kept { uid, bytes, size, unread })
}
