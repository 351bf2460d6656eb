//! What happened in a session, one event a line in a file. One task writes; whoever wants to see reads from the start
//! and follows, so nothing is lost before somebody looks, and nobody who looks slowly holds the session up.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use api::{Event, Stamped};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

/// Most bytes that a line with output has beside it.
const LINE: u64 = 96;
/// Bytes read from the file at a time.
const BLOCK: usize = 64 * 1024;
/// Most bytes of one note, and of all notes of a session.
const MAX_NOTE: usize = 2 << 10;
const MAX_NOTES: usize = 1 << 20;

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Most bytes that a journal takes for a session that may print so many: what is printed in small pieces, or has control
/// characters in it, takes many times its own bytes.
pub(crate) fn room(output: u64) -> u64 {
    output.saturating_mul(2).saturating_add(1 << 20)
}

/// Most bytes that a piece of output takes.
pub(crate) fn taken(piece: &[u8]) -> u64 {
    let escaped = |byte: &u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    let as_text: u64 = piece.iter().map(escaped).sum();
    let in_base64 = (piece.len() as u64).div_ceil(3).saturating_mul(4);
    LINE.saturating_add(as_text.max(in_base64))
}

/// How far the file is written, and whether more will come.
#[derive(Debug, Clone, Copy)]
struct Extent {
    bytes: u64,
    ended: bool,
}

/// The writing end. Its session owns it.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    extent: watch::Sender<Extent>,
    /// Bytes of the last character of each stream that have come without their rest, so that text stays text.
    halves: [Vec<u8>; 2],
    /// Bytes of notes that may still come.
    notes: usize,
}

impl Journal {
    /// A new journal in this file.
    pub(crate) async fn create(path: &Path) -> std::io::Result<(Self, Journals)> {
        let mut options = tokio::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path).await?;
        let (extent, seen) = watch::channel(Extent { bytes: 0, ended: false });
        let journals = Journals { path: path.to_owned(), extent: Some(seen) };
        Ok((Self { file, extent, halves: [Vec::new(), Vec::new()], notes: MAX_NOTES }, journals))
    }

    /// Records an event that happens now. After [`Event::Ended`], readers end.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub(crate) async fn push(&mut self, event: Event) -> std::io::Result<()> {
        let ended = matches!(event, Event::Ended { .. });
        let event = match event {
            Event::Output { stream, data: api::Data(bytes) } => {
                let whole = self.whole_characters(stream, bytes);
                if whole.is_empty() {
                    return Ok(());
                }
                Event::Output { stream, data: api::Data(whole) }
            }
            Event::Ended { .. } => {
                for stream in [api::OutputStream::Stdout, api::OutputStream::Stderr] {
                    let rest = std::mem::take(self.half(stream));
                    if !rest.is_empty() {
                        self.write(Event::Output { stream, data: api::Data(rest) }, false).await?;
                    }
                }
                event
            }
            Event::Progress { message } => match self.noted(message) {
                Some(message) => Event::Progress { message },
                None => return Ok(()),
            },
            // The guest says how often.
            Event::Limit { what } => match self.noted(what) {
                Some(what) => Event::Limit { what },
                None => return Ok(()),
            },
            Event::Started { .. } => event,
        };
        self.write(event, ended).await
    }

    /// A note as it is kept: an agent that is refused in a loop fills no disk.
    fn noted(&mut self, mut message: String) -> Option<String> {
        if self.notes == 0 {
            return None;
        }
        if message.len() > MAX_NOTE {
            message.truncate(message.floor_char_boundary(MAX_NOTE));
            message.push('…');
        }
        self.notes = self.notes.saturating_sub(message.len().max(64));
        if self.notes == 0 {
            message.push_str(" (no further notes of this session are kept; the ledger has what was decided)");
        }
        Some(message)
    }

    async fn write(&mut self, event: Event, ended: bool) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(&Stamped { at: now(), event })?;
        line.push(b'\n');
        self.file.write_all(&line).await?;
        self.file.flush().await?;
        self.extent.send_modify(|extent| {
            extent.bytes = extent.bytes.saturating_add(line.len() as u64);
            extent.ended = ended;
        });
        Ok(())
    }

    fn half(&mut self, stream: api::OutputStream) -> &mut Vec<u8> {
        let [out, err] = &mut self.halves;
        match stream {
            api::OutputStream::Stdout => out,
            api::OutputStream::Stderr => err,
        }
    }

    fn whole_characters(&mut self, stream: api::OutputStream, bytes: Vec<u8>) -> Vec<u8> {
        let half = self.half(stream);
        let mut all = std::mem::take(half);
        all.extend(bytes);
        if let Err(error) = std::str::from_utf8(&all)
            && error.error_len().is_none()
        {
            *half = all.split_off(error.valid_up_to());
        }
        all
    }
}

/// Where a session's events can be read. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Journals {
    path: PathBuf,
    extent: Option<watch::Receiver<Extent>>,
}

impl Journals {
    /// Those of a session that is over.
    pub(crate) fn past(path: PathBuf) -> Self {
        Self { path, extent: None }
    }

    /// Reads from the start.
    pub(crate) async fn read(&self) -> std::io::Result<Lines> {
        let file = File::open(&self.path).await?;
        let length = file.metadata().await?.len();
        let extent = self.extent.clone();
        Ok(Lines { file, extent, length, position: 0, buffer: Vec::new() })
    }
}

/// The lines of a journal, in order.
#[derive(Debug)]
pub(crate) struct Lines {
    file: File,
    extent: Option<watch::Receiver<Extent>>,
    length: u64,
    position: u64,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line with its line feed. At the end of what is written: with `follow`, waits for more until the session
    /// has ended. Not safe to cancel.
    pub(crate) async fn next(&mut self, follow: bool) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(at.saturating_add(1));
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            if self.position >= self.length && !self.more(follow).await {
                return Ok(None);
            }
            let want = self.length.saturating_sub(self.position).min(BLOCK as u64);
            self.file.seek(SeekFrom::Start(self.position)).await?;
            let before = self.buffer.len();
            (&mut self.file).take(want).read_to_end(&mut self.buffer).await?;
            let read = self.buffer.len().saturating_sub(before) as u64;
            if read == 0 {
                return Ok(None); // shorter than it was: removed meanwhile
            }
            self.position = self.position.saturating_add(read);
        }
    }

    /// Whether more is written than was known.
    async fn more(&mut self, follow: bool) -> bool {
        let Some(extent) = &mut self.extent else { return false };
        loop {
            let Extent { bytes, ended } = *extent.borrow_and_update();
            if bytes > self.length {
                self.length = bytes;
                return true;
            }
            if ended || !follow || extent.changed().await.is_err() {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{Data, OutputStream};
    use domain::EndReason;

    fn output(text: &[u8]) -> Event {
        Event::Output { stream: OutputStream::Stdout, data: Data(text.to_vec()) }
    }

    #[tokio::test]
    async fn a_reader_sees_all_from_the_start_and_ends_with_the_session() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let (mut journal, journals) = Journal::create(&path).await.unwrap();
        journal.push(output(b"one")).await.unwrap();
        let mut lines = journals.read().await.unwrap();
        let reader = tokio::spawn(async move {
            let mut seen = Vec::new();
            while let Some(line) = lines.next(true).await.unwrap() {
                seen.push(serde_json::from_slice::<Stamped>(&line).unwrap().event);
            }
            seen
        });
        journal.push(output(b"two")).await.unwrap();
        let end = Event::Ended { reason: EndReason::Stopped, exit_code: 130 };
        journal.push(end.clone()).await.unwrap();
        assert_eq!(reader.await.unwrap(), [output(b"one"), output(b"two"), end]);
        let mut past = Journals::past(path).read().await.unwrap();
        let mut count = 0;
        while past.next(true).await.unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 3);
    }

    #[tokio::test]
    async fn notes_fill_no_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let (mut journal, _) = Journal::create(&path).await.unwrap();
        for _ in 0..2000 {
            journal.push(Event::Progress { message: "é".repeat(20_000) }).await.unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap();
        assert!(
            kept.lines().count() > 500 && kept.lines().all(|line| line.len() < 2 * MAX_NOTE),
            "each is cut"
        );
        journal.push(output(b"one")).await.unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written.len() < 2 * MAX_NOTES, "{}", written.len());
        let lines: Vec<&str> = written.lines().rev().take(2).collect();
        assert!(lines[1].contains("no further notes") && !lines[0].contains("note"), "{lines:?}");
        journal.push(Event::Limit { what: "memory".to_owned() }).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), written);

        let path = folder.path().join("limits");
        let (mut journal, _) = Journal::create(&path).await.unwrap();
        for _ in 0..20_000 {
            journal.push(Event::Limit { what: "memory".to_owned() }).await.unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(kept.lines().count(), MAX_NOTES / 64);
    }

    #[tokio::test]
    async fn a_piece_of_output_takes_no_more_than_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let (mut journal, _) = Journal::create(&path).await.unwrap();
        let mut half = [1_u8; 1000];
        half[999] = 0xc3;
        let all: Vec<u8> = (0..=255).collect();
        for piece in [
            b"x".as_slice(),
            &[1; 1000],
            &half,
            b"\x84 and more",
            &[0xff; 1000],
            &all,
            b"\"\\\n\r\t\x08\x0c\x7f",
        ] {
            let before = path.metadata().unwrap().len();
            journal.push(output(piece)).await.unwrap();
            let took = path.metadata().unwrap().len() - before;
            assert!(took <= taken(piece), "{took} {}", piece.escape_ascii());
        }
    }

    #[tokio::test]
    async fn a_character_that_comes_in_two_pieces_stays_text() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, journals) = Journal::create(&folder.path().join("events")).await.unwrap();
        let bytes = "aé".as_bytes();
        journal.push(output(&bytes[..2])).await.unwrap();
        journal.push(output(&bytes[2..])).await.unwrap();
        journal.push(output(&bytes[1..2])).await.unwrap();
        journal.push(Event::Ended { reason: EndReason::Stopped, exit_code: 130 }).await.unwrap();
        let mut lines = journals.read().await.unwrap();
        let mut text = String::new();
        while let Some(line) = lines.next(false).await.unwrap() {
            text.push_str(std::str::from_utf8(&line).unwrap());
        }
        assert!(text.contains(r#"{"text":"a"}"#) && text.contains(r#"{"text":"é"}"#), "{text}");
        assert!(text.contains(r#"{"base64":"ww=="}"#), "{text}");
    }
}
