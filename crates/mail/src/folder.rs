//! Names of folders: in IMAP's own UTF-7 on the wire (RFC 3501, 5.1.3), as people write them elsewhere; and ids of mails.

use base64::Engine as _;
use base64::alphabet::Alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::failure::Failure;

/// Most bytes of a folder's name.
pub(crate) const MAX_NAME: usize = 512;

/// Base64 with a comma for the slash, without padding.
fn engine() -> Option<GeneralPurpose> {
    let alphabet = Alphabet::new("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").ok()?;
    let config = GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone);
    Some(GeneralPurpose::new(&alphabet, config))
}

/// A folder's name as the server has it.
pub(crate) fn to_wire(name: &str) -> String {
    let (mut wire, mut rest) = (String::new(), String::new());
    let close = |wire: &mut String, rest: &mut String| {
        if rest.is_empty() {
            return;
        }
        let bytes: Vec<u8> = rest.encode_utf16().flat_map(u16::to_be_bytes).collect();
        wire.push('&');
        wire.push_str(&engine().map(|engine| engine.encode(bytes)).unwrap_or_default());
        wire.push('-');
        rest.clear();
    };
    for c in name.chars() {
        if c.is_ascii() && !c.is_ascii_control() {
            close(&mut wire, &mut rest);
            wire.push(c);
            if c == '&' {
                wire.push('-');
            }
        } else {
            rest.push(c);
        }
    }
    close(&mut wire, &mut rest);
    wire
}

/// A folder's name as people write it; as it came where it is no such name.
pub(crate) fn from_wire(wire: &str) -> String {
    decoded(wire).filter(|name| !name.chars().any(char::is_control)).unwrap_or_else(|| wire.to_owned())
}

fn decoded(wire: &str) -> Option<String> {
    let (mut name, mut rest) = (String::new(), wire);
    while let Some((before, after)) = rest.split_once('&') {
        let (inside, next) = after.split_once('-')?;
        name.push_str(before);
        if inside.is_empty() {
            name.push('&');
        } else {
            let bytes = engine()?.decode(inside).ok()?;
            let (units, odd) = bytes.as_chunks::<2>();
            if !odd.is_empty() {
                return None;
            }
            let units: Vec<u16> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
            name.push_str(&String::from_utf16(&units).ok()?);
        }
        rest = next;
    }
    name.push_str(rest);
    Some(name)
}

/// Which mail: its folder, and its number there while the folder isn't numbered anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MailId {
    pub(crate) folder: String,
    pub(crate) validity: u32,
    pub(crate) uid: u32,
}

impl MailId {
    /// Reads `FOLDER:VALIDITY:UID`.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let mut parts = text.rsplitn(3, ':');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).filter(|number| *number > 0);
        let (uid, validity) = (number(), number());
        match (parts.next(), validity, uid) {
            (Some(folder), Some(validity), Some(uid)) => {
                Ok(Self { folder: checked(folder)?.to_owned(), validity, uid })
            }
            _ => Err(Failure::invalid(
                "this is no id of a mail: they are as `search` and the drafts' tools give them",
            )),
        }
    }
}

impl std::fmt::Display for MailId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.folder, self.validity, self.uid)
    }
}

/// Refuses what is no folder's name.
pub(crate) fn checked(name: &str) -> Result<&str, Failure> {
    // `*` and `%` mean many folders to a server.
    if name.is_empty()
        || name.len() > MAX_NAME
        || name.chars().any(|c| c.is_control() || c == '*' || c == '%')
    {
        return Err(Failure::invalid("this is no folder's name: `list_folders` has them"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_as_people_write_them() {
        for (name, wire) in [
            ("INBOX", "INBOX"),
            ("Entwürfe", "Entw&APw-rfe"),
            ("R&D", "R&-D"),
            ("台北", "&U,BTFw-"),
            ("a😀b", "a&2D3eAA-b"),
        ] {
            assert_eq!((to_wire(name).as_str(), from_wire(wire).as_str()), (wire, name));
        }
        for odd in ["a&", "a&?-", "a&AA-", "&2D0-", "&AA0-"] {
            assert_eq!(from_wire(odd), odd);
        }
    }

    #[test]
    fn an_id_is_one_mail_in_one_folder() {
        let id = MailId::parse("Work: 2026:7:42").unwrap();
        assert_eq!(id, MailId { folder: "Work: 2026".to_owned(), validity: 7, uid: 42 });
        assert_eq!(id.to_string(), "Work: 2026:7:42");
        for bad in
            ["", "42", "7:42", "INBOX:7:0", "INBOX:7:1:*", "INBOX:7:42,43", "a*:7:42", "a\r\nb:7:42", ":7:42"]
        {
            assert!(MailId::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in "\\PC{1,40}") {
            prop_assert_eq!(from_wire(&to_wire(&name)), name);
        }
    }
}
