//! Archives of a guest: what is read of them, what is left out, and where reading stops.

use tar::{Builder, EntryType, Header};
use tokio::io::AsyncWriteExt;
use wire::frame::CHUNK;
use wire::host::FileEntry;

use super::*;

/// An entry with a name that `tar` itself would refuse to write.
fn raw(kind: EntryType, name: &[u8], target: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    raw(EntryType::Regular, name.as_bytes(), b"", content)
}

fn ended(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut archive = parts.concat();
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// What the daemon gets for an archive.
async fn got(archive: Vec<u8>, max_bytes: u64, max_entries: u32, limits: DoorLimits) -> Vec<FileEntry> {
    let (daemon, mut guest) = born(limits).await;
    let head = DaemonOpens::GetFiles { folder: "/workspace".into(), max_bytes, max_entries };
    let mut near = daemon.open(&head).await;
    let mut far = guest.incoming.next().await.unwrap();
    let head: DoorOpens = frame::read(&mut far, SMALL).await.unwrap().unwrap();
    assert_eq!(head, DoorOpens::GetFiles { folder: "/workspace".into() });
    let send = tokio::spawn(async move {
        // The door may stop reading.
        drop(far.write_all(&archive).await);
        drop(far.flush().await);
        if archive.len() >= 1024 {
            drop(far.shutdown().await);
        }
        far
    });
    let mut entries = Vec::new();
    while let Some(entry) = frame::read(&mut near, SMALL).await.unwrap() {
        entries.push(entry);
    }
    drop(send.await);
    entries
}

async fn read(parts: &[Vec<u8>]) -> Vec<FileEntry> {
    got(ended(parts), 1 << 30, 1000, DoorLimits::default()).await
}

#[tokio::test]
async fn files_folders_and_links_come_out_in_order() {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(CHUNK as u64 + 5);
    header.set_mode(0o755);
    builder.append_data(&mut header, "./bin/run", &vec![7; CHUNK + 5][..]).unwrap();
    header.set_size(0);
    header.set_mode(0o644);
    builder.append_data(&mut header, &long, &b""[..]).unwrap();
    header.set_entry_type(EntryType::Symlink);
    builder.append_link(&mut header, "link", "../../etc/passwd").unwrap();
    let archive = builder.into_inner().unwrap();
    let parts =
        [raw(EntryType::Directory, b"./", b"", b""), raw(EntryType::Directory, b"bin/", b"", b""), archive];
    let entries = got(parts.concat(), 1 << 30, 1000, DoorLimits::default()).await;
    let expected = [
        FileEntry::Folder { path: "bin".into() },
        FileEntry::File { path: "bin/run".into(), executable: true, size: CHUNK as u64 + 5 },
        FileEntry::Content(vec![7; CHUNK]),
        FileEntry::Content(vec![7; 5]),
        FileEntry::File { path: long, executable: false, size: 0 },
        FileEntry::Symlink { path: "link".into(), target: "../../etc/passwd".into() },
        FileEntry::End,
    ];
    assert_eq!(entries, expected);
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_left_out() {
    for (entry, why) in [
        (file("../up", b"x"), "leads out"),
        (file("a/../../up", b"x"), "leads out"),
        (file("/etc/passwd", b"x"), "absolute"),
        (raw(EntryType::Regular, b"\xff\xfe", b"", b"x"), "UTF-8"),
        (raw(EntryType::Link, b"hard", b"/etc/passwd", b""), "neither"),
        (raw(EntryType::Char, b"null", b"", b""), "neither"),
        (raw(EntryType::Block, b"sda", b"", b""), "neither"),
        (raw(EntryType::Fifo, b"pipe", b"", b""), "neither"),
        (raw(EntryType::Symlink, b"link", b"\xff", b""), "not text"),
        (raw(EntryType::Symlink, b"link", b"", b""), "not text"),
    ] {
        let entries = read(&[entry, file("good", b"")]).await;
        assert!(
            matches!(&entries[0], FileEntry::LeftOut { why: told, .. } if told.contains(why)),
            "{entries:?}"
        );
        assert!(matches!(&entries[1], FileEntry::File { path, .. } if path == "good"), "{entries:?}");
    }
}

#[tokio::test]
async fn nothing_is_written_twice_or_through_a_link() {
    let link = raw(EntryType::Symlink, b"link", b"/etc", b"");
    for parts in [
        [link.clone(), file("link/passwd", b"x")],
        [link, file("link", b"x")],
        [file("a", b""), file("./a", b"")],
    ] {
        let entries = read(&parts).await;
        assert!(matches!(entries[1], FileEntry::LeftOut { .. }), "{entries:?}");
        assert_eq!(entries[2], FileEntry::End);
    }
    let entries = read(&[file("a/b", b""), raw(EntryType::Symlink, b"a", b"/etc", b"")]).await;
    assert!(matches!(entries.last(), Some(FileEntry::Failed { .. })), "{entries:?}");
}

#[tokio::test]
async fn bounds_and_lies_end_the_copy() {
    let mut lying = file("a", b"x");
    lying[0] = b'b';
    let mut pax = raw(EntryType::XHeader, b"x", b"", b"21 size=999999999999\n");
    pax.extend(file("a", b"x"));
    let mut long = Header::new_gnu();
    long.set_entry_type(EntryType::GNULongName);
    long.set_size(u64::from(u32::MAX));
    long.set_cksum();
    for (parts, bytes, entries, why) in [
        (vec![file("a", b"12345"), file("b", b"6")], 5, 9, "more bytes"),
        (vec![file("a", b""), file("b", b"")], 9, 1, "more entries"),
        (vec![lying], 9, 9, "checksum"),
        (vec![pax], 1 << 30, 9, "more bytes"),
        (vec![long.as_bytes().to_vec()], 9, 9, "metadata"),
        (vec![raw(EntryType::GNUSparse, b"s", b"", b"")], 9, 9, "not read here"),
    ] {
        let got = got(ended(&parts), bytes, entries, DoorLimits::default()).await;
        assert!(
            matches!(got.last(), Some(FileEntry::Failed { why: told }) if told.contains(why)),
            "{why}: {got:?}"
        );
    }
}

#[tokio::test]
async fn an_archive_that_does_not_come_on_fails() {
    let limits = DoorLimits { stall: SHORT, ..DoorLimits::default() };
    let mut half = file("a", b"123");
    half.truncate(514);
    let got = got(half, 1 << 30, 9, limits).await;
    assert!(
        matches!(got.last(), Some(FileEntry::Failed { why }) if why.contains("did not come on")),
        "{got:?}"
    );
}
