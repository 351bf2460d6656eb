//! Addresses that mail is sent to: plain, whole and in ASCII, so that what a person reads is where it goes.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// Most bytes of an address, of the part before the `@`, and of a label of its host (RFC 5321 and 1035).
const MAX_ADDRESS: usize = 254;
const MAX_LOCAL: usize = 64;
const MAX_LABEL: usize = 63;

/// One address: `name@host`, nothing beside it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address(String);

/// The text is no such address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError(String);

impl Address {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands after the `@`.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, host)| host)
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        check(text).map(|()| Self(text.to_owned())).map_err(|why| {
            let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
            AddressError(format!("`{shown}` is no address to send to: {why}"))
        })
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AddressError {}

fn check(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_ADDRESS {
        return Err("it is too long");
    }
    // A letter of another script looks like one of ours, and is somebody else.
    if !text.is_ascii() {
        return Err("it has letters beyond ASCII, as look-alikes do; write its host in the form xn--…");
    }
    let Some((local, host)) = text.rsplit_once('@') else { return Err("it has no `@`") };
    let atom = |part: &str| !part.is_empty() && part.bytes().all(is_atom);
    if local.len() > MAX_LOCAL || !local.split('.').all(atom) {
        return Err("write name@host alone, without a name, brackets, quotes or spaces");
    }
    let mut labels = host.split('.').rev();
    let last = labels.next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) || !is_label(last) {
        return Err("its host is no name");
    }
    let (mut rest, mut several) = (labels, false);
    if !rest.all(|label| {
        several = true;
        is_label(label)
    }) || !several
    {
        return Err("its host is no whole name");
    }
    Ok(())
}

fn is_atom(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_plain_and_whole() {
        for good in
            ["ada@acme.example", "a.b+c@x-y.acme.example", "o'neil@acme.example", "a@xn--bcher-kva.example"]
        {
            assert_eq!(good.parse::<Address>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "ada",
            "@acme.example",
            "ada@",
            "ada@acme",
            "ada@acme..example",
            "ada@.acme.example",
            "a..b@acme.example",
            ".a@acme.example",
            "ada@-acme.example",
            "ada@127.0.0.1",
            "ada@[127.0.0.1]",
            "Ada <ada@acme.example>",
            "<ada@acme.example>",
            "ada@acme.example,eve@evil.example",
            "ada@acme.example\r\nBcc: eve@evil.example",
            "\"a b\"@acme.example",
            "ada@acme.example ",
            "ada@acme.example\0",
            "a@b@acme.example",
            "ada@acme_x.example",
            // Full width, Cyrillic, a dot that isn't one: what normalisation or an eye would take for another.
            "ada@ａcme.example",
            "аda@acme.example",
            "ada@acme。example",
        ] {
            let told = bad.parse::<Address>().unwrap_err().to_string();
            assert!(told.contains("is no address to send to"), "{told}");
            assert!(!told.contains(['\r', '\n', '\0']), "{told}");
        }
        let long = format!("{}@acme.example", "a".repeat(65));
        assert!(long.parse::<Address>().is_err());
        assert!(format!("a@{}example", "a.".repeat(150)).parse::<Address>().is_err());
    }
}
