//! A mail that is written here: a plain text whose every part was an argument. Drafts are read back as such, or refused.

use std::time::SystemTime;

use lettre::Message;
use lettre::message::header::ContentType;

use crate::address::Address;
use crate::failure::{Failure, Reason};
use crate::reading::{Party, Reading};

/// Most recipients of one mail.
const MAX_RECIPIENTS: usize = 50;
/// Most bytes of a subject and of a body. A person is shown all of it.
const MAX_SUBJECT: usize = 500;
pub(crate) const MAX_BODY: usize = 128 << 10;
/// Most bytes of another mail's Message-ID.
const MAX_MESSAGE_ID: usize = 250;

/// A mail to be sent or kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Mail {
    pub(crate) to: Vec<Address>,
    pub(crate) cc: Vec<Address>,
    pub(crate) bcc: Vec<Address>,
    pub(crate) subject: String,
    pub(crate) body: String,
    /// The Message-ID of the mail that this one answers.
    pub(crate) answers: Option<String>,
}

/// A mail as bytes.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) bytes: Vec<u8>,
    pub(crate) message_id: String,
}

impl Mail {
    /// Refuses what is too large, and texts that would end a header early.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let too_large = |what: String| Err(Failure::new(Reason::TooLarge, what));
        if self.recipients().len() > MAX_RECIPIENTS {
            return too_large(format!("a mail has at most {MAX_RECIPIENTS} recipients"));
        }
        if self.subject.len() > MAX_SUBJECT || self.body.len() > MAX_BODY {
            return too_large(format!("a subject has at most {MAX_SUBJECT} bytes, a body {MAX_BODY}"));
        }
        if self.subject.chars().any(char::is_control) {
            return Err(Failure::invalid("a subject is one line, without control characters"));
        }
        // Every mail program would decode it, and show other words than the person was shown.
        if self.subject.contains("=?") {
            return Err(Failure::invalid(
                "a subject is plain text, without `=?`, which mail programs decode",
            ));
        }
        if self.body.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err(Failure::invalid(
                "a body is plain text: of control characters, only line feeds and tabs",
            ));
        }
        Ok(())
    }

    /// All whom it goes to.
    pub(crate) fn recipients(&self) -> Vec<&Address> {
        self.to.iter().chain(&self.cc).chain(&self.bcc).collect()
    }

    /// Its bytes. What goes out names no hidden recipient; what is kept does.
    pub(crate) fn write(
        &self,
        from: &Address,
        now: SystemTime,
        unique: u128,
        keeps_bcc: bool,
    ) -> Result<Written, Failure> {
        let message_id = format!("<{unique:032x}@{}>", from.host());
        let mailbox = |address: &Address| {
            let parsed = address.as_str().parse();
            parsed
                .map_err(|e| Failure::invalid(format!("`{address}` can't be written: {e}")))
                .map(|email| lettre::message::Mailbox::new(None, email))
        };
        let mut builder = Message::builder()
            .from(mailbox(from)?)
            .date(now)
            .message_id(Some(message_id.clone()))
            .subject(self.subject.clone())
            .header(ContentType::TEXT_PLAIN);
        for address in &self.to {
            builder = builder.to(mailbox(address)?);
        }
        for address in &self.cc {
            builder = builder.cc(mailbox(address)?);
        }
        for address in self.bcc.iter().filter(|_| keeps_bcc) {
            builder = builder.bcc(mailbox(address)?);
        }
        if let Some(id) = &self.answers {
            builder = builder.in_reply_to(id.clone()).references(id.clone());
        }
        if keeps_bcc {
            builder = builder.keep_bcc();
        }
        // A draft may be to nobody yet; the library wants an envelope, which only the way of sending reads.
        let nobody = self.recipients().first().map_or_else(|| from.clone(), |first| (*first).clone());
        let envelope = lettre::address::Envelope::new(None, vec![mailbox(&nobody)?.email]);
        let envelope = envelope.map_err(|e| Failure::invalid(format!("the mail can't be written: {e}")))?;
        // The library would put in each carriage return by moving all that follows.
        let message = builder
            .envelope(envelope)
            .body(self.body.replace('\n', "\r\n"))
            .map_err(|e| Failure::invalid(format!("the mail can't be written: {e}")))?;
        Ok(Written { bytes: message.formatted(), message_id })
    }

    /// Whether these bytes, which name no hidden recipient, are read by others as the mail that people were shown.
    pub(crate) fn arrives_in(&self, bytes: &[u8], from: &Address) -> bool {
        let read = Reading::of(bytes, false);
        let same = |parties: &[Party], addresses: &[Address]| {
            let pairs = || parties.iter().zip(addresses);
            parties.len() == addresses.len()
                && pairs().all(|(party, address)| party.name.is_none() && party.address == address.as_str())
        };
        // A line that is folded in between may lose one of two spaces.
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        read.plain
            && !read.cut
            && read.attachments.is_empty()
            && read.head.reply_to.is_empty()
            && read.head.bcc.is_empty()
            && same(&read.head.from, std::slice::from_ref(from))
            && same(&read.head.to, &self.to)
            && same(&read.head.cc, &self.cc)
            && words(&read.head.subject) == words(&self.subject)
            && read.body == self.body
    }

    /// The mail that a draft is, if all of it can be shown to a person and sent as shown.
    pub(crate) fn of_draft(draft: &Reading, from: &Address) -> Result<Self, Failure> {
        let refuse = |why: &str| {
            let hint = "a person does that in a mail program, or it is written anew with `draft_create`";
            Err(Failure::invalid(format!("this draft can't be sent or changed from here: {why}; {hint}")))
        };
        if draft.cut || !draft.attachments.is_empty() || !draft.plain {
            return refuse("it is more than one plain text");
        }
        let ours = [Party { name: None, address: from.to_string() }];
        if draft.head.from != ours || !draft.head.reply_to.is_empty() {
            return refuse("it is from somebody else, or wants its answers elsewhere");
        }
        let addresses = |parties: &[Party]| {
            let address = |party: &Party| match party.name {
                None => party.address.parse::<Address>().map_err(|e| Failure::invalid(e.to_string())),
                Some(_) => {
                    Err(Failure::invalid("this draft has names beside addresses; only addresses are sent to"))
                }
            };
            parties.iter().map(address).collect::<Result<Vec<_>, _>>()
        };
        let mail = Self {
            to: addresses(&draft.head.to)?,
            cc: addresses(&draft.head.cc)?,
            bcc: addresses(&draft.head.bcc)?,
            subject: draft.head.subject.clone(),
            body: draft.body.clone(),
            answers: draft.head.in_reply_to.as_deref().and_then(message_id),
        };
        mail.check()?;
        // What goes out is read once more, and must be what was shown.
        let written = mail.write(from, SystemTime::UNIX_EPOCH, 0, true)?;
        if !Reading::of(&written.bytes, false).shows_same(draft) {
            return refuse("it would not arrive as it is shown");
        }
        Ok(mail)
    }
}

/// A stranger's Message-ID, if it is one: it becomes a part of our headers.
pub(crate) fn message_id(text: &str) -> Option<String> {
    let inside = text.trim().trim_start_matches('<').trim_end_matches('>');
    let plain = |b: u8| b.is_ascii_graphic() && b != b'<' && b != b'>';
    let good =
        (3..=MAX_MESSAGE_ID).contains(&inside.len()) && inside.contains('@') && inside.bytes().all(plain);
    good.then(|| format!("<{inside}>"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn from() -> Address {
        "ada@acme.example".parse().unwrap()
    }

    fn mail(subject: &str, body: &str) -> Mail {
        Mail {
            to: vec!["bob@acme.example".parse().unwrap()],
            bcc: vec!["eve@acme.example".parse().unwrap()],
            subject: subject.to_owned(),
            body: body.to_owned(),
            answers: Some("<1@acme.example>".to_owned()),
            ..Mail::default()
        }
    }

    #[test]
    fn no_text_becomes_a_header() {
        for subject in ["a\r\nBcc: eve@evil.example", "a\nb", "a\0", "a\u{85}b"] {
            assert!(mail(subject, "").check().is_err(), "{subject:?}");
        }
        assert!(mail("", "a\rb").check().is_err() && mail("", "a\u{1b}[2J").check().is_err());
        assert!(
            mail(&"s".repeat(501), "").check().is_err()
                && mail("", &"b".repeat(MAX_BODY + 1)).check().is_err()
        );
        let many = Mail { cc: vec![from(); 60], ..mail("", "") };
        assert!(many.check().is_err());
        for id in ["a@b\r\nBcc: eve@evil.example", "a b@c", "nothing", "", "<>"] {
            assert_eq!(message_id(id), None, "{id:?}");
        }
        assert_eq!(message_id(" <a@b> ").as_deref(), Some("<a@b>"));
    }

    #[test]
    fn no_subject_is_other_words_to_who_reads_it() {
        for subject in ["=?utf-8?b?WWVz?=", "Lunch =?utf-8?q?Yes?=", "Grüße =?utf-8?q?=59es?= x", "a=?b"] {
            let mail = mail(subject, "hi");
            assert!(mail.check().is_err(), "{subject}");
            let sent = mail.write(&from(), SystemTime::UNIX_EPOCH, 1, false).unwrap();
            assert!(subject == "a=?b" || !mail.arrives_in(&sent.bytes, &from()), "{subject}");
        }
        let long = "Grüße und  ein langer Betreff, der über mehrere Zeilen geht, ".repeat(5);
        for subject in ["", "x", "Is 1=1? Yes", "Grüße", "日本語 and more", &long, " spaced "] {
            for body in [
                "",
                "hi",
                "\n",
                ".\n.\n",
                "Grüße\n\n",
                "tab\t \n",
                " x ",
                &"é".repeat(5000),
                &"\n".repeat(MAX_BODY),
            ] {
                let mail = mail(subject, body);
                mail.check().unwrap();
                let sent = mail.write(&from(), SystemTime::UNIX_EPOCH, 1, false).unwrap();
                assert!(mail.arrives_in(&sent.bytes, &from()), "{subject:?}: {:.20?}", body);
            }
        }
        let other = mail("x", "hi").write(&from(), SystemTime::UNIX_EPOCH, 1, false).unwrap();
        let more = Mail { cc: vec![from()], ..mail("x", "hi") };
        for shown in [mail("y", "hi"), mail("x", "ho"), more] {
            assert!(!shown.arrives_in(&other.bytes, &from()));
        }
    }

    #[test]
    fn what_goes_out_names_no_hidden_recipient() {
        let sent = mail("Hello", "Text").write(&from(), SystemTime::UNIX_EPOCH, 7, false).unwrap();
        let text = String::from_utf8(sent.bytes).unwrap();
        assert!(!text.contains("eve@") && text.contains("In-Reply-To: <1@acme.example>"), "{text}");
        assert_eq!(sent.message_id, "<00000000000000000000000000000007@acme.example>");
        let kept = mail("Hello", "Text").write(&from(), SystemTime::UNIX_EPOCH, 7, true).unwrap();
        assert!(String::from_utf8(kept.bytes).unwrap().contains("Bcc: eve@acme.example"));
    }

    #[test]
    fn a_draft_that_would_look_different_is_not_sent() {
        let head = "From: ada@acme.example\r\nTo: bob@acme.example\r\nSubject: x\r\n";
        let reading = |text: &str| Reading::of(text.as_bytes(), false);
        assert!(Mail::of_draft(&reading(&format!("{head}\r\nhello\r\n")), &from()).is_ok());
        for draft in [
            format!("{head}Content-Type: text/html\r\n\r\n<b>hello</b>"),
            format!(
                "{head}Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\nContent-Disposition: attachment\r\n\r\nx\r\n--b--\r\n"
            ),
            format!("{head}Reply-To: eve@evil.example\r\n\r\nhello"),
            format!("{head}From: eve@evil.example\r\n\r\nhello"),
            format!("{head}Cc: Bob <bob@acme.example>\r\n\r\nhello"),
            format!("{head}Cc: bob@acme。example\r\n\r\nhello"),
            format!("{head}Content-Disposition: attachment\r\n\r\nhello"),
            head.replace("ada@", "bob@"),
            "\r\n".to_owned(),
        ] {
            assert!(Mail::of_draft(&reading(&draft), &from()).is_err(), "{draft}");
        }
    }

    proptest! {
        #[test]
        fn a_draft_is_sent_as_it_is_shown(subject in "\\PC{0,80}", body in "(\\PC|\n|\t){0,400}") {
            let mail = mail(subject.trim(), &body);
            prop_assume!(mail.check().is_ok());
            let kept = mail.write(&from(), SystemTime::UNIX_EPOCH, 1, true).unwrap();
            // Some texts change on the way, such as spaces at ends: those are refused, never changed.
            if let Ok(read) = Mail::of_draft(&Reading::of(&kept.bytes, false), &from()) {
                prop_assert_eq!(&read.recipients(), &mail.recipients());
                let again = read.write(&from(), SystemTime::UNIX_EPOCH, 1, true).unwrap();
                prop_assert!(Reading::of(&again.bytes, false).shows_same(&Reading::of(&kept.bytes, false)));
            }
        }
    }
}
