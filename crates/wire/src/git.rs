//! What a `git push` asks for: the commands at the start of a request to `git-receive-pack`, read out of their pkt-lines by
//! the door and written anew by the daemon, so that what was decided on is what the server hears.
//!
//! Source: gitprotocol-pack and gitprotocol-common of git's documentation. Signed pushes are refused: their commands stand
//! in a certificate, and a server may read them differently. So are options, since they order a host to do what no ref
//! says: to merge, to set variables of its tests, to show a repository to everybody.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most bytes before the pack: commands and shallow lines.
pub const MAX_COMMANDS: usize = 48 << 10;
/// Most changes of one push.
pub const MAX_CHANGES: usize = 64;
/// Most bytes of a ref's name.
pub const MAX_REF: usize = 255;
const MAX_SHALLOW: usize = 256;
const MAX_LINE: usize = 4096;
/// The content type of a push's request.
pub const CONTENT_TYPE: &str = "application/x-git-receive-pack-request";

/// A push, but for its pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// What it changes, in its order; empty for the request by which git tries out whether it may push at all.
    pub changes: Vec<RefChange>,
    /// What client and server agreed on, in the order of the client.
    pub capabilities: Vec<String>,
    /// Commits whose parents the client doesn't have.
    pub shallow: Vec<ObjectId>,
}

/// One ref, and where it is to point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefChange {
    /// Where the client thinks that it points now; all zeros: nowhere.
    pub old: ObjectId,
    /// Where it is to point; all zeros: it is deleted.
    pub new: ObjectId,
    /// Its full name, such as `refs/heads/main`.
    pub name: RefName,
}

/// The name of an object: 40 or 64 digits, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId(String);

/// A ref's full name as `git check-ref-format` allows it, in ASCII.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RefName(String);

/// Why a push is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// Its start is no list of commands.
    #[error("the push can't be read: {0}")]
    Malformed(&'static str),
    /// It changes nothing, and says something all the same.
    #[error("a push that changes nothing has nothing after that")]
    MoreThanNothing,
    /// There is too much of something.
    #[error("the push has more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How much there may be.
        max: usize,
    },
    /// It is signed.
    #[error("signed pushes are not passed on: push without --signed")]
    Signed,
    /// It has options.
    #[error(
        "options of a push are not passed on: push without -o, and without `push.pushOption` in git's settings"
    )]
    Options,
    /// A ref's name is none.
    #[error("`{0}` is no name of a ref that is passed on")]
    Name(String),
}

/// What the start of a request's body holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Not all of the commands yet.
    More,
    /// The push, and how many bytes of the body it took; the pack follows.
    Whole(Push, usize),
}

impl ObjectId {
    /// Whether it names nothing.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.bytes().all(|digit| digit == b'0')
    }
}

impl TryFrom<String> for ObjectId {
    type Error = PushError;
    fn try_from(text: String) -> Result<Self, PushError> {
        let digits = text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let whole = digits && matches!(text.len(), 40 | 64);
        whole.then_some(Self(text)).ok_or(PushError::Malformed("an object's name is not 40 or 64 digits"))
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> Self {
        id.0
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl RefName {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RefName {
    type Error = PushError;
    fn try_from(text: String) -> Result<Self, PushError> {
        let sound = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '~' | '^' | ':' | '?' | '*' | '[' | '\\');
        let whole = text.starts_with("refs/")
            && text.len() <= MAX_REF
            && text.chars().all(plain)
            && text.split('/').count() > 2
            && text.split('/').all(sound)
            && !text.contains("..")
            && !text.contains("@{")
            && !text.ends_with('.');
        if whole { Ok(Self(text)) } else { Err(PushError::Name(shown(&text))) }
    }
}

impl From<RefName> for String {
    fn from(name: RefName) -> Self {
        name.0
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn shown(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_default).collect()
}

/// One pkt-line.
enum Line<'b> {
    Flush,
    Text(&'b str),
}

impl Push {
    /// Reads the start of a request's body; the bytes are those that have come so far.
    ///
    /// # Errors
    /// It is no push that can be passed on.
    pub fn read(body: &[u8]) -> Result<Start, PushError> {
        let mut reader = Reader { rest: body };
        let mut push = Self { changes: vec![], capabilities: vec![], shallow: vec![] };
        match push.take(&mut reader) {
            Ok(true) => {
                let used = body.len().saturating_sub(reader.rest.len());
                if used > MAX_COMMANDS {
                    return Err(too_many("bytes of commands", MAX_COMMANDS));
                }
                Ok(Start::Whole(push, used))
            }
            Ok(false) if body.len() > MAX_COMMANDS => Err(too_many("bytes of commands", MAX_COMMANDS)),
            Ok(false) => Ok(Start::More),
            Err(error) => Err(error),
        }
    }

    /// Takes the commands. False: they are not all there yet.
    fn take(&mut self, reader: &mut Reader<'_>) -> Result<bool, PushError> {
        loop {
            match reader.line()? {
                None => return Ok(false),
                Some(Line::Flush) if self.changes.is_empty() && !self.shallow.is_empty() => {
                    return Err(PushError::Malformed("shallow lines come with no command"));
                }
                Some(Line::Flush) => return Ok(true),
                Some(Line::Text(text)) => self.command(text)?,
            }
        }
    }

    fn command(&mut self, line: &str) -> Result<(), PushError> {
        if line.starts_with("push-cert") {
            return Err(PushError::Signed);
        }
        if let Some(id) = line.strip_prefix("shallow ") {
            if self.shallow.len() == MAX_SHALLOW {
                return Err(too_many("shallow commits", MAX_SHALLOW));
            }
            if !self.changes.is_empty() {
                return Err(PushError::Malformed("a shallow line comes after a command"));
            }
            self.shallow.push(id.to_owned().try_into()?);
            return Ok(());
        }
        if self.changes.len() == MAX_CHANGES {
            return Err(too_many("changes of refs", MAX_CHANGES));
        }
        let (command, capabilities) = match line.split_once('\0') {
            Some((command, capabilities)) if self.changes.is_empty() => (command, capabilities),
            None if !self.changes.is_empty() => (line, ""),
            Some(_) | None => return Err(PushError::Malformed("capabilities are not at the first command")),
        };
        for name in capabilities.split(' ').filter(|name| !name.is_empty()) {
            let claim = name.split('=').next().unwrap_or_default();
            if claim.eq_ignore_ascii_case("push-cert") {
                return Err(PushError::Signed);
            }
            if claim.eq_ignore_ascii_case("push-options") {
                return Err(PushError::Options);
            }
            self.capabilities.push(plain(name)?.to_owned());
        }
        let mut parts = command.splitn(3, ' ');
        let (Some(old), Some(new), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(PushError::Malformed("a command is not `old new name`"));
        };
        let (old, new): (ObjectId, ObjectId) = (old.to_owned().try_into()?, new.to_owned().try_into()?);
        let name: RefName = name.to_owned().try_into()?;
        if self.changes.iter().any(|change| change.name == name) {
            return Err(PushError::Malformed("a ref is changed twice"));
        }
        self.changes.push(RefChange { old, new, name });
        Ok(())
    }

    /// The pkt-lines that say this: they come before the pack.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = String::new();
        for id in &self.shallow {
            line(&mut text, &format!("shallow {id}"));
        }
        for (number, RefChange { old, new, name }) in self.changes.iter().enumerate() {
            let command = format!("{old} {new} {name}");
            let capabilities = format!("\0 {}", self.capabilities.join(" "));
            line(&mut text, &(command + if number == 0 { &capabilities } else { "" }));
        }
        text.push_str("0000");
        text.into_bytes()
    }

    /// Holds it against all that holds for one that was read: the daemon looks again at what a door says.
    ///
    /// # Errors
    /// It is none that [`Push::read`] could have given.
    pub fn check(&self) -> Result<(), PushError> {
        let bytes = self.to_bytes();
        match Self::read(&bytes)? {
            Start::Whole(read, used) if read == *self && used == bytes.len() => Ok(()),
            Start::Whole(..) | Start::More => {
                Err(PushError::Malformed("it would be heard otherwise than it was read"))
            }
        }
    }
}

fn line(into: &mut String, text: &str) {
    into.push_str(&format!("{:04x}{text}", text.len().saturating_add(4)));
}

fn too_many(what: &'static str, max: usize) -> PushError {
    PushError::TooMany { what, max }
}

fn plain(text: &str) -> Result<&str, PushError> {
    let sound =
        !text.is_empty() && text.len() <= 512 && text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    sound.then_some(text).ok_or(PushError::Malformed("a capability is not plain text"))
}

struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    /// The next line without its line feed; none: it is not all there yet.
    fn line(&mut self) -> Result<Option<Line<'b>>, PushError> {
        let Some((digits, after)) = self.rest.split_at_checked(4) else { return Ok(None) };
        let length =
            std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let length = length.and_then(|text| usize::from_str_radix(text, 16).ok());
        match length {
            None => Err(PushError::Malformed("a line does not begin with its length")),
            Some(0) => {
                self.rest = after;
                Ok(Some(Line::Flush))
            }
            Some(length @ 5..=MAX_LINE) => {
                let Some((text, after)) = after.split_at_checked(length.saturating_sub(4)) else {
                    return Ok(None);
                };
                let text =
                    std::str::from_utf8(text).map_err(|_| PushError::Malformed("a line is not text"))?;
                self.rest = after;
                Ok(Some(Line::Text(text.strip_suffix('\n').unwrap_or(text))))
            }
            Some(_) => Err(PushError::Malformed("a line has a length that none has here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: &str = "1111111111111111111111111111111111111111";
    const NONE: &str = "0000000000000000000000000000000000000000";

    fn packet(text: &str) -> String {
        format!("{:04x}{text}", text.len() + 4)
    }

    fn read(lines: &[&str]) -> Result<Start, PushError> {
        let body: String = lines.iter().map(|line| packet(line)).collect();
        Push::read((body + "0000PACK").as_bytes())
    }

    fn first(name: &str) -> String {
        format!("{NONE} {OLD} {name}\0 report-status side-band-64k agent=git/2.39")
    }

    #[test]
    fn a_push_is_read_however_its_bytes_come() {
        let second = format!("{OLD} {NONE} refs/heads/old\n");
        let body = packet(&first("refs/heads/agent/a")) + &packet(&second) + "0000PACK....";
        let whole = body.len() - "PACK....".len();
        for cut in 0..whole {
            assert_eq!(Push::read(&body.as_bytes()[..cut]), Ok(Start::More), "{cut}");
        }
        let Ok(Start::Whole(push, used)) = Push::read(body.as_bytes()) else { panic!("it is whole") };
        assert_eq!(used, whole);
        assert_eq!(push.capabilities, ["report-status", "side-band-64k", "agent=git/2.39"]);
        let names: Vec<&str> = push.changes.iter().map(|change| change.name.as_str()).collect();
        assert_eq!(names, ["refs/heads/agent/a", "refs/heads/old"]);
        assert!(push.changes[0].old.is_zero() && push.changes[1].new.is_zero());
        assert_eq!(
            Push::read(b"0000"),
            Ok(Start::Whole(Push { changes: vec![], capabilities: vec![], ..push }, 4))
        );
    }

    #[test]
    fn what_servers_could_read_differently_is_refused() {
        for name in [
            "HEAD",
            "refs/heads",
            "refs/heads/",
            "refs//a",
            "refs/heads/../a",
            "refs/heads/a..b",
            "refs/heads/.a",
            "refs/heads/a.lock",
            "refs/heads/a b",
            "refs/heads/a~1",
            "refs/heads/ä",
            "refs/heads/a\nb",
            "refs/heads/a@{1",
            "refs/heads/a.",
            "refs/heads/*",
        ] {
            assert!(matches!(read(&[&first(name)]), Err(PushError::Name(_))), "{name:?}");
        }
        let second = format!("{OLD} {NONE} refs/heads/b");
        for (lines, why) in [
            (vec![second.clone()], "no capabilities at the first"),
            (vec![first("refs/heads/a"), first("refs/heads/b")], "capabilities at the second"),
            (vec![first("refs/heads/b"), second.clone()], "the same ref twice"),
            (vec![format!("{OLD} {OLD}\0 quiet")], "no name"),
            (vec![format!("XYZ {OLD} refs/heads/a\0 quiet")], "no object"),
            (vec![first("refs/heads/a"), format!("shallow {OLD}")], "shallow too late"),
            (vec![format!("shallow {OLD}")], "shallow for nothing"),
        ] {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            assert!(matches!(read(&lines), Err(PushError::Malformed(_))), "{why}");
        }
        assert_eq!(read(&["push-cert\0 quiet\n"]), Err(PushError::Signed));
        assert_eq!(read(&[&format!("{OLD} {OLD} refs/heads/a\0push-cert=x")]), Err(PushError::Signed));
        for claim in ["push-options", "push-options=1", "Push-Options"] {
            let line = format!("{OLD} {OLD} refs/heads/a\0 quiet {claim}");
            assert_eq!(read(&[&line]), Err(PushError::Options), "{claim}");
        }
        for bad in ["zzzz", "0001", "0002", "0004", "ffff", "+005", "\u{e9}\u{e9}"] {
            assert!(matches!(Push::read(bad.as_bytes()), Err(PushError::Malformed(_))), "{bad}");
        }
        let many: Vec<String> = (0..=MAX_CHANGES)
            .map(|n| if n == 0 { first("refs/heads/0") } else { format!("{OLD} {NONE} refs/heads/{n}") })
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(matches!(read(&many), Err(PushError::TooMany { max: MAX_CHANGES, .. })));
    }

    fn names() -> impl Strategy<Value = RefName> {
        "refs/heads/[a-z]{1,8}(/[a-z0-9-]{1,8}){0,2}".prop_filter_map("a name", |name| name.try_into().ok())
    }

    prop_compose! {
        fn pushes()(
            ids in proptest::collection::vec(("[0-9a-f]{40}", "[0-9a-f]{64}"), 1..5),
            names in proptest::collection::btree_set(names(), 1..5),
            capabilities in proptest::collection::vec("[a-z]{1,12}(=[a-z0-9/.]{1,9})?", 1..5),
        ) -> Push {
            let id = |text: &String| ObjectId::try_from(text.clone()).unwrap();
            let changes = ids.iter().zip(names).map(|((old, new), name)| RefChange { old: id(old), new: id(new), name });
            let changes = changes.collect();
            Push { changes, capabilities, shallow: vec![id(&ids[0].0)] }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_anew_says_the_same(push in pushes(), pack in proptest::collection::vec(any::<u8>(), 0..40)) {
            let bytes = push.to_bytes();
            let found = Push::read(&[bytes.clone(), pack].concat());
            prop_assert_eq!(found, Ok(Start::Whole(push, bytes.len())));
        }

        #[test]
        fn any_bytes_are_a_push_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Start::Whole(push, used)) = Push::read(&bytes) {
                prop_assert!(used <= bytes.len());
                let again = push.to_bytes();
                prop_assert_eq!(Push::read(&again), Ok(Start::Whole(push, again.len())));
            }
        }
    }
}
