//! The tools: each call is read strictly, does one thing within its time, and says what it did.

mod arguments;
mod described;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use dial::Dialer;

use crate::account::Account;
use crate::dial::Dial;
use crate::failure::{Acting, Failure, Reason};
use crate::folder::MailId;
use crate::imap::{Imap, Kept, MAX_MAIL, Special, Stored};
use crate::reading::{Head, Reading};
use crate::smtp::{self, Accepted};
use crate::writing::{Mail, Written, message_id};

use arguments::{Delete, Draft, Move, NoArguments, Read, Search, Send, SendDraft, Update, read};
pub use described::{Description, descriptions};

/// How long a call may take until what it asks for is done.
const CALL: Duration = Duration::from_secs(120);
/// How long the copy of a mail that is sent already may take.
const COPY: Duration = Duration::from_secs(30);
const FLAGS_OF_DRAFT: &str = "\\Draft \\Seen";

/// A mailbox and the way to send from it.
pub struct Mailbox {
    account: Account,
    dial: Arc<dyn Dial>,
    within: Duration,
}

/// What makes a mail of now unlike any other.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// When it is.
    pub now: SystemTime,
    /// Random.
    pub unique: u128,
}

/// What is left to do when a mail is out: nothing of it can undo that.
struct Sent {
    accepted: Accepted,
    written: Written,
    /// The draft that it was.
    draft: Option<MailId>,
}

/// What a call came to.
enum Done {
    Told(Value),
    Sent(Sent),
}

impl Mailbox {
    /// The mailbox of this account.
    #[must_use]
    pub fn new(account: Account, dialer: Dialer) -> Self {
        Self::reached(account, Arc::new(dialer), CALL)
    }

    /// The same by another way, with so much time for each call.
    #[must_use]
    pub fn reached(account: Account, dial: Arc<dyn Dial>, within: Duration) -> Self {
        Self { account, dial, within }
    }

    /// Calls a tool; its result is JSON.
    ///
    /// # Errors
    /// When it came to nothing, or when nobody knows what it came to.
    pub async fn call(
        &self,
        tool: &str,
        arguments: &str,
        stamp: Stamp,
        cancelled: &CancellationToken,
    ) -> Result<String, Failure> {
        let acting = Acting::default();
        let called = tokio::select! {
            biased;
            called = tokio::time::timeout(self.within, self.begin(tool, arguments, stamp, &acting)) => called
                .unwrap_or_else(|_elapsed| {
                    Err(Failure::server(format!("the mail server did not answer within {} s", self.within.as_secs_f32())))
                }),
            () = cancelled.cancelled() => Err(Failure::server("the call was cancelled")),
        };
        match called.map_err(|failure| acting.judge(failure))? {
            Done::Told(value) => Ok(value.to_string()),
            Done::Sent(sent) => Ok(self.file(sent).await.to_string()),
        }
    }

    async fn begin(
        &self,
        tool: &str,
        arguments: &str,
        stamp: Stamp,
        acting: &Acting,
    ) -> Result<Done, Failure> {
        match tool {
            "send" => return self.send(read(arguments)?, stamp, acting).await.map(Done::Sent),
            "send_draft" => return self.send_draft(read(arguments)?, stamp, acting).await.map(Done::Sent),
            _other => {}
        }
        // What is wrong with the arguments is told before anybody is signed in.
        let asked = Asked::read(tool, arguments)?;
        let mut imap = Imap::open(&self.account, self.dial.as_ref(), acting).await?;
        let told = match asked {
            Asked::Folders => folders(&mut imap).await?,
            Asked::Search(asked) => search(&mut imap, asked).await?,
            Asked::Read(asked) => read_mail(&mut imap, &asked.id).await?,
            Asked::Draft(asked) => self.draft_create(&mut imap, asked, stamp).await?,
            Asked::Update(asked) => self.draft_update(&mut imap, asked, stamp).await?,
            Asked::Move(asked) => move_mail(&mut imap, &asked).await?,
            Asked::Delete(asked) => delete(&mut imap, &asked.id).await?,
        };
        imap.close().await;
        Ok(Done::Told(told))
    }

    async fn draft_create(&self, imap: &mut Imap<'_>, asked: Draft, stamp: Stamp) -> Result<Value, Failure> {
        let drafts = drafts(imap).await?;
        let mut mail = asked.mail;
        mail.answers = answered(imap, asked.in_reply_to.as_ref()).await?;
        let id = self.keep(imap, &drafts, &mail, stamp).await?;
        Ok(json!({"id": id.to_string()}))
    }

    async fn draft_update(&self, imap: &mut Imap<'_>, asked: Update, stamp: Stamp) -> Result<Value, Failure> {
        let Update { id, mut mail } = asked;
        let drafts = drafts(imap).await?;
        // Only what these tools could have written: anything else is a person's own.
        mail.answers = self.own_draft(imap, &id, &drafts).await?.answers;
        let new = self.keep(imap, &drafts, &mail, stamp).await?;
        // To update is not to delete: the draft before stays where a person finds it.
        let trash = imap.special(Special::Trash).await;
        let put_away = async {
            let Some(trash) = trash? else {
                return Err(Failure::new(Reason::NotFound, "the mailbox has no folder for what is deleted"));
            };
            imap.enter_for(&id, true).await?;
            imap.shift(&id, &trash).await.map(drop)
        };
        let trouble =
            put_away.await.err().map(|failure| format!("the draft before is still there: {failure}"));
        Ok(told(json!({"id": new.to_string()}), trouble))
    }

    /// A draft that can be shown whole to a person, and written anew as shown.
    async fn own_draft(&self, imap: &mut Imap<'_>, id: &MailId, drafts: &str) -> Result<Mail, Failure> {
        let (draft, from) = (draft(imap, id, drafts).await?, self.account.place.from.clone());
        aside(move || Mail::of_draft(&draft, &from)).await?
    }

    async fn keep(
        &self,
        imap: &mut Imap<'_>,
        drafts: &str,
        mail: &Mail,
        stamp: Stamp,
    ) -> Result<MailId, Failure> {
        let Written { bytes, message_id } = self.written(mail, stamp, true).await?;
        imap.store(Stored { folder: drafts, bytes: &bytes, flags: FLAGS_OF_DRAFT, message_id: &message_id })
            .await
    }

    async fn written(&self, mail: &Mail, stamp: Stamp, keeps_bcc: bool) -> Result<Written, Failure> {
        let (mail, from) = (mail.clone(), self.account.place.from.clone());
        aside(move || mail.write(&from, stamp.now, stamp.unique, keeps_bcc)).await?
    }

    async fn send(&self, asked: Send, stamp: Stamp, acting: &Acting) -> Result<Sent, Failure> {
        let Send { mut mail, in_reply_to } = asked;
        if in_reply_to.is_some() {
            let mut imap = Imap::open(&self.account, self.dial.as_ref(), acting).await?;
            mail.answers = answered(&mut imap, in_reply_to.as_ref()).await?;
            imap.close().await;
        }
        self.go(&mail, stamp, acting, None).await
    }

    async fn send_draft(&self, asked: SendDraft, stamp: Stamp, acting: &Acting) -> Result<Sent, Failure> {
        let id = asked.id;
        let mut imap = Imap::open(&self.account, self.dial.as_ref(), acting).await?;
        let drafts = drafts(&mut imap).await?;
        let mail = self.own_draft(&mut imap, &id, &drafts).await?;
        imap.close().await;
        self.go(&mail, stamp, acting, Some(id)).await
    }

    async fn go(
        &self,
        mail: &Mail,
        stamp: Stamp,
        acting: &Acting,
        draft: Option<MailId>,
    ) -> Result<Sent, Failure> {
        let to = mail.recipients();
        if to.is_empty() {
            return Err(Failure::invalid("the mail has no recipient"));
        }
        let written = self.written(mail, stamp, false).await?;
        let (sent, bytes, from) = (mail.clone(), written.bytes.clone(), self.account.place.from.clone());
        if !aside(move || sent.arrives_in(&bytes, &from)).await? {
            let why = "the mail would not be read as it is shown here: leave out what isn't plain text in its subject and body";
            return Err(Failure::invalid(why));
        }
        let accepted = smtp::send(&self.account, self.dial.as_ref(), &to, &written.bytes, acting).await?;
        Ok(Sent { accepted, written, draft })
    }

    /// Keeps a copy of what was sent, and removes the draft that it was. What fails here is told; the mail is out.
    async fn file(&self, sent: Sent) -> Value {
        let Sent { accepted, written, draft } = sent;
        accepted.close().await;
        let acting = Acting::default();
        let filed = async {
            let mut imap = Imap::open(&self.account, self.dial.as_ref(), &acting).await?;
            let copy = match imap.special(Special::Sent).await? {
                None => None,
                Some(folder) => {
                    let (bytes, message_id) = (&written.bytes, written.message_id.as_str());
                    Some(imap.store(Stored { folder: &folder, bytes, flags: "\\Seen", message_id }).await?)
                }
            };
            if let Some(draft) = &draft {
                imap.enter_for(draft, true).await?;
                imap.remove(draft).await?;
            }
            imap.close().await;
            Ok::<_, Failure>(copy)
        };
        let late = |_elapsed| Err(Failure::server("the mail server took too long"));
        let filed = tokio::time::timeout(COPY, filed).await.unwrap_or_else(late);
        let sent = json!({"sent": true, "message_id": written.message_id});
        match filed {
            Ok(Some(copy)) => {
                told(json!({"sent": true, "message_id": written.message_id, "copy": copy.to_string()}), None)
            }
            Ok(None) => {
                told(sent, Some("there is no folder for what is sent, so no copy was kept".to_owned()))
            }
            Err(failure) => {
                let what = if draft.is_some() {
                    "its copy was kept, or its draft removed"
                } else {
                    "its copy was kept"
                };
                told(sent, Some(format!("it was sent; not all of {what}: {failure}")))
            }
        }
    }
}

/// A call, read.
enum Asked {
    Folders,
    Search(Search),
    Read(Read),
    Draft(Draft),
    Update(Update),
    Move(Move),
    Delete(Delete),
}

impl Asked {
    fn read(tool: &str, arguments: &str) -> Result<Self, Failure> {
        match tool {
            "list_folders" => read::<NoArguments>(arguments).map(|_none| Self::Folders),
            "search" => read(arguments).map(Self::Search),
            "read" => read(arguments).map(Self::Read),
            "draft_create" => read(arguments).map(Self::Draft),
            "draft_update" => read(arguments).map(Self::Update),
            "move" => read(arguments).map(Self::Move),
            "delete" => read(arguments).map(Self::Delete),
            _other => Err(Failure::new(Reason::NotFound, "mail has no such tool")),
        }
    }
}

/// Reads or writes a mail where nothing else waits: what a stranger wrote may take long to decode, and the threads of the
/// runtime carry every session.
async fn aside<T: std::marker::Send + 'static>(
    work: impl FnOnce() -> T + std::marker::Send + 'static,
) -> Result<T, Failure> {
    let failed = |_lost| Failure::server("the mail can't be read or written here; the daemon's log says why");
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

/// A result with what else is to be said of it.
fn told(mut result: Value, trouble: Option<String>) -> Value {
    if let (Some(fields), Some(trouble)) = (result.as_object_mut(), trouble) {
        fields.insert("trouble".to_owned(), trouble.into());
    }
    result
}

async fn folders(imap: &mut Imap<'_>) -> Result<Value, Failure> {
    let shown = |folder: crate::imap::Folder| {
        let special = folder.special.map(|special| match special {
            Special::Drafts => "drafts",
            Special::Sent => "sent",
            Special::Trash => "trash",
        });
        json!({"name": folder.name, "for": special})
    };
    Ok(json!({"result": imap.folders().await?.into_iter().map(shown).collect::<Vec<_>>()}))
}

async fn search(imap: &mut Imap<'_>, asked: Search) -> Result<Value, Failure> {
    let validity = imap.enter(&asked.folder, false).await?;
    let (uids, found) = imap.search(&asked.criteria, asked.limit).await?;
    let mut mails = imap.heads(&uids).await?;
    mails.retain(|kept| uids.contains(&kept.uid));
    mails.sort_unstable_by_key(|kept| std::cmp::Reverse(kept.uid));
    let folder = asked.folder;
    let shown = move |kept: Kept| {
        let Head { from, to, subject, date, .. } = Head::of(&kept.bytes);
        let id = MailId { folder: folder.clone(), validity, uid: kept.uid }.to_string();
        json!({
            "id": id, "folder": folder, "from": from, "to": to, "subject": subject, "date": date, "bytes": kept.size,
            "unread": kept.unread,
        })
    };
    let result = aside(move || mails.into_iter().map(shown).collect::<Vec<_>>()).await?;
    Ok(json!({"result": result, "found": found}))
}

async fn read_mail(imap: &mut Imap<'_>, id: &MailId) -> Result<Value, Failure> {
    let reading = fetched(imap, id).await?;
    let mut shown = serde_json::to_value(reading).map_err(|e| Failure::server(e.to_string()))?;
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("id".to_owned(), id.to_string().into());
        fields.insert("folder".to_owned(), id.folder.clone().into());
    }
    Ok(shown)
}

async fn fetched(imap: &mut Imap<'_>, id: &MailId) -> Result<Reading, Failure> {
    imap.enter_for(id, false).await?;
    let kept = imap.mail(id).await?;
    let cut = kept.bytes.len() >= MAX_MAIL || kept.size as usize > kept.bytes.len();
    aside(move || Reading::of(&kept.bytes, cut)).await
}

async fn drafts(imap: &mut Imap<'_>) -> Result<String, Failure> {
    imap.special(Special::Drafts).await?.ok_or_else(|| {
        Failure::new(Reason::NotFound, "the mailbox has no folder for drafts; a person makes one, `Drafts`")
    })
}

/// A mail that is a draft; any other can't be changed or sent as one.
async fn draft(imap: &mut Imap<'_>, id: &MailId, drafts: &str) -> Result<Reading, Failure> {
    if id.folder != drafts {
        return Err(Failure::invalid(format!("{id} is no draft: drafts are in `{drafts}`")));
    }
    fetched(imap, id).await
}

/// The Message-ID of the mail that one answers.
async fn answered(imap: &mut Imap<'_>, id: Option<&MailId>) -> Result<Option<String>, Failure> {
    let Some(id) = id else { return Ok(None) };
    imap.enter_for(id, false).await?;
    let heads = imap.heads(&[id.uid]).await?;
    let kept = heads.into_iter().find(|kept| kept.uid == id.uid);
    let kept =
        kept.ok_or_else(|| Failure::new(Reason::NotFound, format!("there is no mail {id} to answer")))?;
    let head = aside(move || Head::of(&kept.bytes)).await?;
    Ok(head.message_id.as_deref().and_then(message_id))
}

async fn move_mail(imap: &mut Imap<'_>, asked: &Move) -> Result<Value, Failure> {
    imap.enter_for(&asked.id, true).await?;
    imap.mail(&asked.id).await?;
    let new = imap.shift(&asked.id, &asked.folder).await?;
    Ok(json!({"moved": true, "id": new.map(|id| id.to_string())}))
}

async fn delete(imap: &mut Imap<'_>, id: &MailId) -> Result<Value, Failure> {
    let trash = imap.special(Special::Trash).await?;
    imap.enter_for(id, true).await?;
    imap.mail(id).await?;
    match trash.filter(|trash| *trash != id.folder) {
        Some(trash) => {
            let new = imap.shift(id, &trash).await?;
            Ok(json!({"deleted": true, "kept_in": trash, "id": new.map(|id| id.to_string())}))
        }
        None => {
            imap.remove(id).await?;
            Ok(json!({"deleted": true}))
        }
    }
}
