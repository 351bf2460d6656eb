//! What holds whatever happens in whatever order: no right is used beyond what it says, and no tampering goes unnoticed.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

#[expect(dead_code, reason = "each test program uses a part of it")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use sqlx::{AnyPool, AssertSqlSafe, Row};
use store::{ByRight, Event, Fault, Place, Private, Store, Uses, VerifyError};
use support::{Empty, about, act, approval_id, commit, digest, grant, grant_id, no, question, random, yes};
use tokio::runtime::Runtime;

#[derive(Debug, Clone)]
enum Step {
    Ask(u8),
    Answer(u8, &'static str, bool),
    CallOff(u8),
    Grant { approval: u8, binding: u8, times: u32 },
    Commit { approval: u8, binding: u8 },
    CommitByGrant { grant: u8, binding: u8 },
    Restart,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (n, who) = (1_u8..4, prop_oneof![Just("ada"), Just("bob"), Just("vic")]);
    prop_oneof![
        2 => n.clone().prop_map(Step::Ask),
        4 => (n.clone(), who, prop::bool::weighted(0.9)).prop_map(|(n, who, yes)| Step::Answer(n, who, yes)),
        1 => n.clone().prop_map(Step::CallOff),
        2 => (n.clone(), n.clone(), 0_u32..3)
            .prop_map(|(approval, binding, times)| Step::Grant { approval, binding, times }),
        4 => (n.clone(), n.clone()).prop_map(|(approval, binding)| Step::Commit { approval, binding }),
        4 => (n.clone(), n).prop_map(|(grant, binding)| Step::CommitByGrant { grant, binding }),
        1 => Just(Step::Restart),
        1 => (0_u64..400).prop_map(Step::Wait),
    ]
}

/// Plays the steps. How often each approval was used, and each grant, against how often it may be.
async fn play(steps: &[Step]) -> Result<(), TestCaseError> {
    let lab = Empty::sqlite().await.open().await.with_people().await;
    let (mut store, mut now) = (lab.store.clone(), 10);
    let mut used: BTreeMap<String, u32> = BTreeMap::new();
    let mut allowed: BTreeMap<String, u32> = BTreeMap::new();
    for (n, step) in steps.iter().enumerate() {
        let n = n as u128;
        now += 1;
        let right = match step {
            // What may be refused here is refused for reasons that other tests look at.
            Step::Ask(id) => {
                drop(store.ask(approval_id((*id).into()), &question(*id), now).await);
                None
            }
            Step::Answer(id, who, is_yes) => {
                let answer = if *is_yes { yes(who) } else { no(who) };
                let answered = store.answer(approval_id((*id).into()), &answer, now).await;
                prop_assert!(*who != "vic" || answered.is_err());
                None
            }
            Step::CallOff(id) => {
                drop(store.cancel(approval_id((*id).into()), None, "gone", now).await);
                None
            }
            Step::Grant { approval, binding, times } => {
                let new = grant((*approval).into(), 40 + binding, Uses::Times(*times));
                let id = approval_id((*approval).into());
                let granted = store.grant(id, &digest(*approval), &[new], &about(1), now).await.is_ok();
                if granted {
                    allowed.insert(format!("grant {approval}"), *times);
                }
                granted.then(|| (format!("approval {approval}"), true))
            }
            Step::Commit { approval, binding } => {
                let right = ByRight::Approval(approval_id((*approval).into()));
                let done = store.commit(&commit(n, *binding, right), now).await.is_ok();
                done.then(|| (format!("approval {approval}"), approval == binding))
            }
            Step::CommitByGrant { grant, binding } => {
                let right = ByRight::Grant(grant_id((*grant).into()));
                let done = store.commit(&commit(n, 40 + binding, right), now).await.is_ok();
                done.then(|| (format!("grant {grant}"), true))
            }
            Step::Restart => {
                store = lab.another().await;
                None
            }
            Step::Wait(millis) => {
                now += millis;
                None
            }
        };
        if let Some((right, is_bound)) = right {
            prop_assert!(is_bound, "{right} was used for something else");
            let times = used.entry(right.clone()).or_default();
            *times += 1;
            let most =
                if right.starts_with("approval") { 1 } else { allowed.get(&right).copied().unwrap_or(0) };
            prop_assert!(*times <= most, "{right} was used {times} times, {most} are allowed");
        }
    }
    prop_assert!(store.verify(None).await.is_ok());
    Ok(())
}

/// What somebody may do to the ledger's table.
#[derive(Debug, Clone)]
enum Tampering {
    Byte { seq: i64, column: &'static str, at: usize },
    Number { seq: i64, by: i64 },
    Delete(i64),
    Swap(i64, i64),
    Truncate { from: i64, head_too: bool },
    Key { seq: i64, at: usize },
    Copy { from: i64, to: i64 },
}

const ENTRIES: i64 = 9;

fn tampering() -> impl Strategy<Value = Tampering> {
    let seq = 1..=ENTRIES;
    let column = prop::sample::select(vec![
        "kind",
        "agent",
        "team",
        "session",
        "body",
        "sealed",
        "prev",
        "hash",
        "signature",
    ]);
    prop_oneof![
        4 => (seq.clone(), column, any::<usize>()).prop_map(|(seq, column, at)| Tampering::Byte { seq, column, at }),
        1 => (seq.clone(), 1_i64..99).prop_map(|(seq, by)| Tampering::Number { seq, by }),
        1 => seq.clone().prop_map(Tampering::Delete),
        2 => (seq.clone(), 1..ENTRIES).prop_map(|(a, by)| Tampering::Swap(a, (a - 1 + by) % ENTRIES + 1)),
        1 => (seq.clone(), any::<bool>()).prop_map(|(from, head_too)| Tampering::Truncate { from, head_too }),
        1 => (seq.clone(), any::<usize>()).prop_map(|(seq, at)| Tampering::Key { seq, at }),
        1 => (seq, 1..ENTRIES).prop_map(|(from, by)| Tampering::Copy { from, to: (from - 1 + by) % ENTRIES + 1 }),
    ]
}

async fn run(raw: &AnyPool, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(raw).await.unwrap();
}

/// Another byte for the one that is there; letters and digits stay such, so that the text stays text.
async fn change_byte(raw: &AnyPool, table: &str, column: &str, seq: i64, at: usize) {
    let select = format!("SELECT {column} FROM {table} WHERE seq = {seq}");
    let row = sqlx::query(AssertSqlSafe(select)).fetch_one(raw).await.unwrap();
    let update = AssertSqlSafe(format!("UPDATE {table} SET {column} = $1 WHERE seq = {seq}"));
    let changed = if ["sealed", "signature", "secret"].contains(&column) {
        let mut bytes: Vec<u8> = row.get(0);
        let at = at % bytes.len();
        bytes[at] ^= 1;
        sqlx::query(update).bind(bytes)
    } else {
        let mut bytes = row.get::<String, _>(0).into_bytes();
        let at = at % bytes.len();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        sqlx::query(update).bind(String::from_utf8(bytes).unwrap())
    };
    assert_eq!(changed.execute(raw).await.unwrap().rows_affected(), 1);
}

impl Tampering {
    /// Does it, and says which entry is then the first wrong one, and how.
    async fn apply(&self, raw: &AnyPool) -> (u64, Option<Fault>) {
        match self {
            Self::Byte { seq, column, at } => {
                change_byte(raw, "ledger", column, *seq, *at).await;
                (*seq as u64, Some(Fault::Changed))
            }
            Self::Number { seq, by } => {
                run(raw, format!("UPDATE ledger SET at = at + {by} WHERE seq = {seq}")).await;
                (*seq as u64, Some(Fault::Changed))
            }
            Self::Delete(seq) => {
                run(raw, format!("DELETE FROM ledger WHERE seq = {seq}")).await;
                (*seq as u64, Some(if *seq == ENTRIES { Fault::Truncated } else { Fault::Removed }))
            }
            Self::Swap(a, b) => {
                for (from, to) in [(*a, 99), (*b, *a), (99, *b)] {
                    run(raw, format!("UPDATE ledger SET seq = {to} WHERE seq = {from}")).await;
                }
                ((*a).min(*b) as u64, Some(Fault::Moved { from: (*a).max(*b) as u64 }))
            }
            Self::Truncate { from, head_too } => {
                run(raw, format!("DELETE FROM ledger WHERE seq >= {from}")).await;
                if *head_too {
                    run(raw, format!("UPDATE ledger_head SET seq = {}", from - 1)).await;
                }
                (*from as u64, Some(Fault::Truncated))
            }
            Self::Key { seq, at } => {
                change_byte(raw, "record_keys", "secret", *seq, *at).await;
                (*seq as u64, Some(Fault::KeyLost))
            }
            Self::Copy { from, to } => {
                let columns = "at, kind, agent, team, session, body, sealed, prev, hash, signature";
                run(raw, format!("DELETE FROM ledger WHERE seq = {to}")).await;
                let copy = format!(
                    "INSERT INTO ledger (seq, {columns}) SELECT {to}, {columns} FROM ledger WHERE seq = {from}"
                );
                run(raw, copy).await;
                (*to as u64, Some(Fault::Moved { from: *from as u64 }))
            }
        }
    }
}

async fn tamper(original: &Path, tampering: &Tampering) -> Result<(), TestCaseError> {
    let lab = Empty::sqlite().await;
    let Place::File(file) = &lab.place else { return Err(TestCaseError::fail("no file")) };
    fs::copy(original.join("db/lazaret.db"), file).unwrap();
    fs::copy(original.join("keys"), &lab.keys).unwrap();
    let store = Store::open(&lab.place, &lab.keys, random(1)).await.unwrap();
    let head = store.verify(None).await.unwrap().head;
    let (seq, fault) = tampering.apply(&lab.raw).await;
    match store.verify(head.as_ref()).await {
        Err(VerifyError::Tampered(found)) => {
            prop_assert_eq!(found.seq, seq, "{}", found);
            prop_assert!(fault.is_none_or(|fault| fault == found.fault), "{}", found);
        }
        other => prop_assert!(false, "not found: {:?}", other),
    }
    Ok(())
}

/// A closed database of nine sealed entries.
async fn original() -> support::Lab {
    let lab = Empty::sqlite().await.open().await;
    for n in 0..ENTRIES as u64 {
        let event = Event::Refused { act: act(), why: format!("refusal {n}") };
        lab.store
            .record(&about(1), &event, Some(&Private::new(format!("arguments {n}"))), 1000 + n)
            .await
            .unwrap();
    }
    lab.store.close().await;
    lab.raw.close().await;
    lab
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_single_use_right_is_used_twice(steps in prop::collection::vec(step(), 1..40)) {
        Runtime::new().unwrap().block_on(play(&steps))?;
    }
}

#[test]
fn any_tampering_with_the_ledger_is_found_and_named() {
    let runtime = Runtime::new().unwrap();
    let original = runtime.block_on(original());
    let config = ProptestConfig { cases: 96, ..ProptestConfig::default() };
    proptest!(config, |(tampering in tampering())| {
        runtime.block_on(tamper(original.folder.path(), &tampering))?;
    });
}
