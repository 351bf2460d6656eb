//! Folders: which there are, what they are for, and opening one.

use imap_proto::{MailboxDatum, NameAttribute, Response, ResponseCode};

use super::{Answer, Imap, Piece};
use crate::failure::{Failure, Reason};
use crate::folder::{MAX_NAME, MailId, from_wire, to_wire};

/// Most folders that are told.
const MAX_FOLDERS: usize = 500;

/// What a folder is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    Drafts,
    Sent,
    Trash,
}

/// A folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) name: String,
    pub(crate) special: Option<Special>,
}

impl Special {
    /// Its names where a server says nothing of what folders are for.
    fn usual(self) -> &'static [&'static str] {
        match self {
            Self::Drafts => &["Drafts", "INBOX.Drafts", "INBOX/Drafts"],
            Self::Sent => &["Sent", "INBOX.Sent", "INBOX/Sent", "Sent Items", "Sent Messages"],
            Self::Trash => &["Trash", "INBOX.Trash", "INBOX/Trash", "Deleted Items", "Deleted Messages"],
        }
    }
}

impl Imap<'_> {
    /// The folders that can hold mail.
    pub(crate) async fn folders(&mut self) -> Result<Vec<Folder>, Failure> {
        let told = self.can("SPECIAL-USE") && self.can("LIST-EXTENDED");
        let list = if told { "LIST \"\" \"*\" RETURN (SPECIAL-USE)" } else { "LIST \"\" \"*\"" };
        let answer = self.command(&[Piece::Word(list)]).await?;
        let mut folders: Vec<Folder> = answer.untagged.into_iter().filter_map(folder).collect();
        if folders.len() > MAX_FOLDERS {
            let why = format!("the mailbox has more than {MAX_FOLDERS} folders");
            return Err(Failure::new(Reason::TooLarge, why));
        }
        for special in [Special::Drafts, Special::Sent, Special::Trash] {
            if folders.iter().any(|folder| folder.special == Some(special)) {
                continue;
            }
            let usual = |folder: &&mut Folder| special.usual().contains(&folder.name.as_str());
            if let Some(folder) = folders.iter_mut().find(usual) {
                folder.special = Some(special);
            }
        }
        Ok(folders)
    }

    /// The folder for something.
    pub(crate) async fn special(&mut self, special: Special) -> Result<Option<String>, Failure> {
        let folders = self.folders().await?;
        Ok(folders.into_iter().find(|folder| folder.special == Some(special)).map(|folder| folder.name))
    }

    /// Opens a folder, to look or to change; its UIDVALIDITY.
    pub(crate) async fn enter(&mut self, folder: &str, changes: bool) -> Result<u32, Failure> {
        let wire = to_wire(folder);
        let word = if changes { "SELECT " } else { "EXAMINE " };
        let answer = self.command(&[Piece::Word(word), Piece::Text(&wire)]).await.map_err(|failure| {
            let why = format!("the folder `{folder}` can't be opened: {}", failure.message);
            Failure { reason: Reason::NotFound, message: why, acted: crate::Acted::No }
        })?;
        validity(&answer).ok_or_else(|| {
            Failure::server("the mail server doesn't number its mails, so that none can be named")
        })
    }

    /// Opens the folder of a mail, which must still be numbered as it was.
    pub(crate) async fn enter_for(&mut self, id: &MailId, changes: bool) -> Result<(), Failure> {
        if self.enter(&id.folder, changes).await? == id.validity {
            return Ok(());
        }
        let why = format!("the folder `{}` was numbered anew: `search` has the mail's id of now", id.folder);
        Err(Failure::new(Reason::NotFound, why))
    }
}

fn validity(answer: &Answer) -> Option<u32> {
    answer.untagged.iter().find_map(|response| {
        let Response::Data { code: Some(ResponseCode::UidValidity(validity)), .. } = response else {
            return None;
        };
        Some(*validity)
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what else a folder may be grows with the library")]
fn folder(response: Response<'static>) -> Option<Folder> {
    let Response::MailboxData(MailboxDatum::List { name_attributes, name, .. }) = response else {
        return None;
    };
    let mut special = None;
    for attribute in name_attributes {
        match attribute {
            NameAttribute::NoSelect => return None,
            NameAttribute::Drafts => special = Some(Special::Drafts),
            NameAttribute::Sent => special = Some(Special::Sent),
            NameAttribute::Trash => special = Some(Special::Trash),
            _other => {}
        }
    }
    let name = from_wire(&name);
    (name.len() <= MAX_NAME).then_some(Folder { name, special })
}
