//! What is erased is in no file of SQLite's any more, and who can't be sure of that is told.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[expect(dead_code, reason = "each test program uses a part of it")]
mod support;

use sqlx::Row;
use store::{Event, Private, Sealed, StoreError};
use support::{Empty, Lab, about, act, person};

/// What opens the sealed part of an entry, together with the key file.
async fn key(lab: &Lab, entry: i64) -> Vec<u8> {
    let row = sqlx::query("SELECT secret FROM record_keys WHERE seq = $1").bind(entry);
    row.fetch_one(&lab.raw).await.unwrap().get("secret")
}

/// In which of the database's files the bytes are.
fn files_with(lab: &Lab, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(lab.folder.path().join("db")).unwrap() {
        let path = entry.unwrap().path();
        if std::fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes) {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found
}

async fn with_entries() -> Lab {
    let lab = Empty::sqlite().await.open().await;
    let event = Event::Refused { act: act(), why: "no".to_owned() };
    for _ in 0..3 {
        let private = Private::new("the secret plan".to_owned());
        lab.store.record(&about(1), &event, Some(&private), 5).await.unwrap();
    }
    lab
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_is_in_no_file() {
    let lab = with_entries().await;
    let (second, third) = (key(&lab, 2).await, key(&lab, 3).await);
    assert_eq!(files_with(&lab, &second), ["lazaret.db-wal"]);
    lab.store.erase(2, &person("ada"), "asked for by its subject", 9).await.unwrap();
    assert!(files_with(&lab, &second).is_empty());
    assert_eq!(files_with(&lab, &third), ["lazaret.db"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_erases_while_others_read_is_told_and_may_do_it_again() {
    let lab = with_entries().await;
    let second = key(&lab, 2).await;
    let mut reading = lab.raw.begin().await.unwrap();
    sqlx::query("SELECT seq FROM ledger").fetch_all(&mut *reading).await.unwrap();

    let told = lab.store.erase(2, &person("ada"), "asked for", 9).await.unwrap_err();
    assert!(matches!(told, StoreError::StillInLog(2)), "{told}");
    assert_eq!(lab.store.entry(2).await.unwrap().sealed, Sealed::Gone);
    assert_eq!(files_with(&lab, &second).len(), 1);

    let told = lab.store.erase(2, &person("ada"), "again", 10).await.unwrap_err();
    assert!(matches!(told, StoreError::StillInLog(2)), "{told}");

    reading.rollback().await.unwrap();
    lab.store.erase(2, &person("ada"), "again", 11).await.unwrap();
    assert!(files_with(&lab, &second).is_empty());
    assert_eq!(lab.count("erased").await, 1, "it is erased once, and then forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_erases_again_is_heard_however_much_was_erased_since() {
    let lab = with_entries().await;
    lab.store.erase(2, &person("ada"), "asked for", 9).await.unwrap();
    // More than a page of them.
    let why = "x".repeat(60 << 10);
    let event = Event::Refused { act: act(), why: "no".to_owned() };
    for _ in 0..40 {
        let private = Private::new("another plan".to_owned());
        let seq = lab.store.record(&about(1), &event, Some(&private), 10).await.unwrap();
        lab.store.erase(seq, &person("ada"), &why, 11).await.unwrap();
    }
    lab.store.erase(2, &person("ada"), "again", 12).await.unwrap();
    let row = sqlx::query("SELECT count(*) AS n FROM ledger WHERE kind = 'erased'").fetch_one(&lab.raw).await;
    assert_eq!(row.unwrap().get::<i64, _>("n"), 41, "it is erased once");
    for nothing in [1_000, u64::MAX] {
        let told = lab.store.erase(nothing, &person("ada"), "not there", 13).await.unwrap_err();
        assert!(matches!(told, StoreError::Unknown { .. }), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_lost_otherwise_is_in_no_file_once_it_is_asked_about() {
    let lab = with_entries().await;
    let second = key(&lab, 2).await;
    let mut other = lab.raw.acquire().await.unwrap();
    for change in ["PRAGMA secure_delete = ON", "DELETE FROM record_keys WHERE seq = 2"] {
        sqlx::query(change).execute(&mut *other).await.unwrap();
    }
    assert_eq!(files_with(&lab, &second), ["lazaret.db-wal"]);
    let told = lab.store.erase(2, &person("ada"), "asked for", 9).await.unwrap_err();
    assert!(matches!(told, StoreError::Unknown { .. }), "{told}");
    assert!(files_with(&lab, &second).is_empty());
}
