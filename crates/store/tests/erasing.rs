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
