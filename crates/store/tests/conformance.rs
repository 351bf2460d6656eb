//! What the store promises, on SQLite and on PostgreSQL: one suite for both.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

#[expect(dead_code, reason = "each test program uses a part of it")]
mod support;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::task::Poll;
use std::time::Duration;

use domain::{ApprovalState, Confidentiality, Integrity, Labels, Role, ToolRef};
use store::{
    About, ApprovalError, Asking, ByRight, CommitError, Definition, Event, Fault, Filter, Head, Keeper,
    LowerError, MAX_BODY, MAX_DEFINITIONS, MAX_OPEN, MAX_PAGE, MAX_SEALED, MAX_SHOWN, Outcome, PeopleError,
    Person, Place, Private, Reserved, Sealed, Spend, Store, StoreError, Tampered, Uses, VerifyError,
};
use support::{
    Cluster, Empty, about, act, agent, approval_id, commit, commit_id, digest, grant, grant_id, no, person,
    question, random, session, undoable, yes,
};

/// Each case as a test of its own on SQLite, and all of them, one after another, on one PostgreSQL server.
macro_rules! suite {
    ($($case:ident),+ $(,)?) => {
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    super::$case(super::Empty::sqlite().await).await;
                }
            )+
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn the_whole_suite_passes_on_postgresql() {
            let Some(cluster) = Cluster::start() else { return };
            $(
                eprintln!("on PostgreSQL: {}", stringify!($case));
                $case(Empty::postgres(&cluster, stringify!($case)).await).await;
            )+
        }
    };
}

suite! {
    what_is_recorded_reads_back,
    entries_that_come_at_once_are_all_recorded,
    nothing_too_large_is_recorded,
    large_entries_are_read_page_by_page,
    erased_arguments_are_gone_and_the_chain_still_verifies,
    tampering_is_found_and_named,
    a_question_is_asked_answered_and_its_right_used_once,
    late_doubled_and_foreign_answers_change_nothing_and_are_recorded,
    the_same_question_is_merged_and_open_ones_are_few,
    a_question_survives_a_restart_and_its_answer_wakes_who_waits,
    what_runs_out_or_is_called_off_gives_no_right,
    a_plans_grants_are_used_as_often_as_they_say_by_one_session,
    a_grant_is_used_and_an_outcome_told_once_by_those_who_come_at_once,
    a_grant_for_a_session_is_only_for_what_can_be_undone,
    many_at_once_use_a_right_once_and_a_budget_never_beyond,
    an_outcome_that_nobody_waits_for_is_written_before_what_comes_next,
    who_gives_up_leaves_no_act_behind_and_takes_nobody_with_them,
    what_was_reserved_and_not_spent_is_given_back,
    a_session_above_the_ceiling_uses_no_right,
    labels_only_rise_but_by_an_owner,
    a_tools_definitions_are_kept_few_and_pins_hold_who_approved,
    people_groups_and_teams_and_always_an_owner,
    a_newer_database_and_other_keys_are_refused,
    a_database_of_each_landed_schema_is_migrated,
}

async fn what_is_recorded_reads_back(empty: Empty) {
    let lab = empty.open().await;
    let arguments = Private::new(r#"{"a":1}"#.to_owned());
    let refused = Event::Refused { act: act(), why: "the tool changed".to_owned() };
    assert_eq!(lab.store.record(&about(1), &refused, Some(&arguments), 5).await.unwrap(), 1);
    let started = Event::DaemonStarted { version: "1".to_owned() };
    assert_eq!(lab.store.record(&About::default(), &started, None, 6).await.unwrap(), 2);

    let entries = lab.store.tail(10, &Filter::default()).await.unwrap();
    assert_eq!(entries.iter().map(|e| (e.seq, e.at)).collect::<Vec<_>>(), [(1, 5), (2, 6)]);
    assert_eq!(entries[0].event, refused);
    assert_eq!(entries[0].about, about(1));
    assert_eq!(entries[0].sealed, Sealed::Open(arguments));
    assert_eq!(entries[1].sealed, Sealed::None);
    assert_eq!(lab.store.entry(2).await.unwrap(), entries[1]);
    assert!(lab.store.entry(3).await.is_err());
    let of_agent = Filter { agent: about(1).agent, ..Filter::default() };
    assert_eq!(lab.store.tail(10, &of_agent).await.unwrap().len(), 1);
    assert_eq!(lab.store.entries_after(1, 10, &Filter::default()).await.unwrap(), entries[1..]);
    let verified = lab.store.verify(None).await.unwrap();
    assert_eq!((verified.entries, verified.head), (2, lab.store.head().await.unwrap()));
    let line = serde_json::to_string(&entries[0]).unwrap();
    assert!(line.contains(r#""sealed":"open","private":"{\"a\":1}""#), "{line}");
}

async fn entries_that_come_at_once_are_all_recorded(empty: Empty) {
    let lab = empty.open().await;
    let another = lab.another().await;
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..60 {
        let store = if at % 3 == 0 { another.clone() } else { lab.store.clone() };
        tasks.spawn(async move {
            let event = Event::Refused { act: act(), why: at.to_string() };
            (store.record(&about(1), &event, Some(&Private::new(at.to_string())), at).await.unwrap(), at)
        });
        if at % 10 == 9 {
            // Somebody gives up in the middle.
            let store = lab.store.clone();
            tokio::spawn(async move { store.record(&about(2), &Event::DaemonStopped {}, None, at).await })
                .abort();
        }
    }
    for (seq, at) in tasks.join_all().await {
        let entry = lab.store.entry(seq).await.unwrap();
        assert_eq!((entry.at, entry.sealed), (at, Sealed::Open(Private::new(at.to_string()))));
    }
    assert_eq!(lab.count("refused").await, 60);
    lab.store.verify(None).await.unwrap();
    another.close().await;
}

async fn nothing_too_large_is_recorded(empty: Empty) {
    let lab = empty.open().await;
    let large = Event::Refused { act: act(), why: "x".repeat(MAX_BODY) };
    let refused = lab.store.record(&about(1), &large, None, 1).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    let small = Event::Refused { act: act(), why: "no".to_owned() };
    let sealed = Private::new("x".repeat(MAX_SEALED + 1));
    assert!(lab.store.record(&about(1), &small, Some(&sealed), 1).await.is_err());
    assert_eq!(lab.store.record(&about(1), &small, None, 1).await.unwrap(), 1);
    lab.store.verify(None).await.unwrap();
}

async fn large_entries_are_read_page_by_page(empty: Empty) {
    let lab = empty.open().await.with_people().await;
    let refused = Event::Refused { act: act(), why: "no".to_owned() };
    for bytes in [700 << 10, 700 << 10, 700 << 10, MAX_SEALED, 1, 1] {
        let private = Private::new("x".repeat(bytes));
        lab.store.record(&about(1), &refused, Some(&private), 5).await.unwrap();
    }
    let of_kind = Filter { kind: Some("refused".to_owned()), ..Filter::default() };
    let numbers = |page: &[store::Entry]| page.iter().map(|entry| entry.seq).collect::<Vec<_>>();
    let (mut on, mut back) = (Vec::new(), Vec::new());
    let (mut after, mut before) = (0, u64::MAX);
    loop {
        let page = lab.store.entries_after(after, 1_000, &of_kind).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.seq;
        on.push(numbers(&page));
    }
    loop {
        let page = lab.store.entries_before(before, 1_000, &of_kind).await.unwrap();
        let Some(first) = page.first() else { break };
        before = first.seq;
        back.push(numbers(&page));
    }
    // Those of people come first.
    assert_eq!(on, [vec![5, 6], vec![7], vec![8], vec![9, 10]]);
    assert_eq!(back, [vec![9, 10], vec![8], vec![6, 7], vec![5]]);
    assert_eq!(numbers(&lab.store.tail(1, &of_kind).await.unwrap()), [10]);
    assert_eq!(lab.store.verify(None).await.unwrap().entries, 10);

    let mut large = question(7);
    large.shown.content = Private::new("\u{1}".repeat(MAX_SHOWN / 6));
    let refused = lab.store.ask(approval_id(1), &large, 10).await.unwrap_err().to_string();
    assert!(refused.contains("what people would be shown has"), "{refused}");
    const { assert!(MAX_SHOWN < MAX_SEALED && MAX_PAGE < MAX_SEALED) };
}

fn tampered<T: std::fmt::Debug>(result: Result<T, VerifyError>) -> Tampered {
    match result {
        Err(VerifyError::Tampered(found)) => found,
        other => panic!("not found: {other:?}"),
    }
}

async fn erased_arguments_are_gone_and_the_chain_still_verifies(empty: Empty) {
    let lab = empty.open().await;
    let arguments = Private::new("the secret plan".to_owned());
    let event = Event::Refused { act: act(), why: "no".to_owned() };
    for _ in 0..3 {
        lab.store.record(&about(1), &event, Some(&arguments), 5).await.unwrap();
    }
    lab.store.erase(2, &person("ada"), "asked for by its subject", 9).await.unwrap();
    assert_eq!(lab.store.entry(2).await.unwrap().sealed, Sealed::Gone);
    assert_eq!(lab.store.entry(3).await.unwrap().sealed, Sealed::Open(arguments));
    assert_eq!(lab.store.verify(None).await.unwrap().erased, 1);
    lab.store.erase(2, &person("ada"), "again", 10).await.unwrap();
    assert_eq!(lab.count("erased").await, 1);
    for nothing_sealed in [4, 5] {
        let told = lab.store.erase(nothing_sealed, &person("ada"), "mistaken", 11).await.unwrap_err();
        assert!(matches!(told, StoreError::Unknown { .. }), "{told}");
    }

    lab.tamper("DELETE FROM record_keys WHERE seq = 3").await;
    assert_eq!(tampered(lab.store.verify(None).await), Tampered { seq: 3, fault: Fault::KeyLost });
}

/// From the last entry to the first, since the first wrong one is what is named.
async fn tampering_is_found_and_named(empty: Empty) {
    let lab = empty.open().await;
    let event = Event::Refused { act: act(), why: "no".to_owned() };
    for at in 0..9 {
        lab.store.record(&about(1), &event, Some(&Private::new("x".to_owned())), at).await.unwrap();
    }
    let head: Head = lab.store.head().await.unwrap().unwrap();
    let found = async |sql: &str| {
        assert!(lab.tamper(sql).await > 0, "{sql}");
        let Tampered { seq, fault } = tampered(lab.store.verify(None).await);
        (seq, fault)
    };
    let forged = "INSERT INTO ledger SELECT 10, at, kind, agent, team, session, body, sealed, prev, hash, signature \
                  FROM ledger WHERE seq = 9";
    assert_eq!(found(forged).await, (10, Fault::Moved { from: 9 }));
    lab.tamper("DELETE FROM ledger WHERE seq = 10").await;
    assert_eq!(found("DELETE FROM ledger WHERE seq = 9").await, (9, Fault::Truncated));
    let raised = "UPDATE ledger_head SET seq = 9000000000000000000";
    assert_eq!(found(raised).await, (9, Fault::Truncated));
    lab.tamper("UPDATE ledger_head SET seq = 8").await;
    lab.store.verify(None).await.unwrap();
    assert_eq!(tampered(lab.store.verify(Some(&head)).await), Tampered { seq: 9, fault: Fault::Truncated });
    let forged = Head { seq: 8, ..head.clone() };
    assert_eq!(tampered(lab.store.verify(Some(&forged)).await).fault, Fault::ForeignHead);

    let body = "UPDATE ledger SET body = REPLACE(body, '\"no\"', '\"ok\"') WHERE seq = 8";
    assert_eq!(found(body).await, (8, Fault::Changed));
    // Nothing that can be raised makes it look for ever.
    assert_eq!(found(raised).await, (8, Fault::Changed));
    lab.tamper("UPDATE ledger_head SET seq = 8").await;
    assert_eq!(found("UPDATE ledger SET agent = NULL WHERE seq = 7").await, (7, Fault::Changed));
    assert_eq!(found("UPDATE ledger SET at = at + 1 WHERE seq = 6").await, (6, Fault::Changed));
    assert_eq!(found("UPDATE ledger SET sealed = NULL WHERE seq = 5").await, (5, Fault::Changed));
    assert_eq!(found("DELETE FROM ledger WHERE seq = 4").await, (4, Fault::Removed));
    let swap = "UPDATE ledger SET seq = 99 WHERE seq = 2; UPDATE ledger SET seq = 2 WHERE seq = 3; \
                UPDATE ledger SET seq = 3 WHERE seq = 99;";
    assert_eq!(found(swap).await, (2, Fault::Moved { from: 3 }));
    assert_eq!(found("DELETE FROM ledger WHERE seq >= 1").await, (1, Fault::Truncated));
}

async fn a_question_is_asked_answered_and_its_right_used_once(empty: Empty) {
    let lab = empty.open().await.with_people().await;
    let id = approval_id(1);
    assert_eq!(lab.store.ask(id, &question(7), 10).await.unwrap(), Asking::New(id));
    assert_eq!(lab.store.pending(Some(&person("bob")), 12).await.unwrap(), [id]);
    let asked = lab.store.approval(id, 12).await.unwrap();
    assert_eq!((asked.shown, asked.about), (Some(question(7).shown), about(1)));
    assert!(lab.store.pending(Some(&person("eve")), 12).await.unwrap().is_empty());
    let of = async |about: About| lab.store.pending_of(about.session.unwrap(), 12).await.unwrap();
    assert_eq!((of(about(1)).await, of(about(2)).await), (vec![id], vec![]));

    let right = ByRight::Approval(id);
    let early = lab.store.commit(&commit(1, 7, right), 13).await;
    assert!(matches!(early, Err(CommitError::Right(_))), "{early:?}");
    let life = lab.store.answer(id, &yes("bob"), 14).await.unwrap();
    assert_eq!(life.state, ApprovalState::Approved);
    let altered = lab.store.commit(&commit(1, 8, right), 15).await;
    assert!(matches!(altered, Err(CommitError::Foreign)), "{altered:?}");
    let mut foreign = commit(1, 7, right);
    foreign.about.agent = Some("another".parse().unwrap());
    assert!(matches!(lab.store.commit(&foreign, 15).await, Err(CommitError::Foreign)));
    lab.store.commit(&commit(1, 7, right), 16).await.unwrap();
    let replayed = lab.store.commit(&commit(2, 7, right), 17).await;
    assert!(matches!(replayed, Err(CommitError::Right(_))), "{replayed:?}");

    let unfinished = lab.store.unfinished().await.unwrap();
    assert_eq!(
        unfinished.iter().map(|u| (u.id, u.idempotent, u.at)).collect::<Vec<_>>(),
        [(commit_id(1), false, 16)]
    );
    lab.store.outcome(commit_id(1), &Outcome::Done, &[], None, 19).await.unwrap();
    assert_eq!(lab.store.unfinished().await.unwrap(), []);
    assert!(lab.store.outcome(commit_id(1), &Outcome::Done, &[], None, 20).await.is_err());
    assert_eq!((lab.count("committed").await, lab.count("commit-refused").await), (1, 4));
    lab.store.verify(None).await.unwrap();
}

async fn late_doubled_and_foreign_answers_change_nothing_and_are_recorded(empty: Empty) {
    let lab = empty.open().await.with_people().await;
    let (id, mut two) = (approval_id(1), question(7));
    two.quorum.need = 2;
    two.quorum.excluded = [person("cleo")].into();
    lab.store.ask(id, &two, 10).await.unwrap();
    lab.store.answer(id, &yes("bob"), 11).await.unwrap();
    let after_one = lab.store.approval(id, 12).await.unwrap();
    for (who, why) in [
        ("bob", "said yes already"),
        ("cleo", "wrote the prompt"),
        ("vic", "not known"),
        ("eve", "not known"),
    ] {
        let refused = lab.store.answer(id, &yes(who), 13).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{who}: {refused}");
    }
    let wide = store::Answer { for_session: true, ..yes("ada") };
    assert!(matches!(lab.store.answer(id, &wide, 13).await, Err(ApprovalError::NotUndoable)));
    assert_eq!(lab.store.approval(id, 14).await.unwrap(), after_one);

    lab.store.remove_person(&person("bob"), &person("ada"), 15).await.unwrap();
    assert!(lab.store.answer(id, &no("bob"), 16).await.is_err());
    let denied = lab.store.answer(id, &no("ada"), 17).await.unwrap();
    assert_eq!(denied.state, ApprovalState::Denied);
    let approval = lab.store.approval(id, 18).await.unwrap();
    assert_eq!(approval.answers.last().unwrap().why.as_ref().unwrap().reveal(), "not to her");
    assert!(lab.store.answer(id, &yes("ada"), 19).await.is_err());
    assert_eq!((lab.count("answered").await, lab.count("answer-refused").await), (2, 7));

    lab.store.ask(approval_id(2), &question(8), 20).await.unwrap();
    let late = lab.store.answer(approval_id(2), &yes("ada"), 1_000).await;
    assert!(matches!(late, Err(ApprovalError::Answer(_))), "{late:?}");
    assert_eq!(lab.count("expired").await, 1);
    assert!(lab.store.answer(approval_id(3), &yes("ada"), 21).await.is_err());
}

async fn the_same_question_is_merged_and_open_ones_are_few(empty: Empty) {
    let lab = empty.open().await.with_people().await;
    let id = approval_id(1);
    lab.store.ask(id, &question(1), 10).await.unwrap();
    let again = lab.store.ask(approval_id(2), &question(1), 11).await.unwrap();
    assert_eq!(again, Asking::Merged(id, ApprovalState::Pending));
    lab.store.answer(id, &yes("ada"), 12).await.unwrap();
    let again = lab.store.ask(approval_id(2), &question(1), 13).await.unwrap();
    assert_eq!(again, Asking::Merged(id, ApprovalState::Approved));
    let mut other_agent = question(1);
    other_agent.agent = "another".parse().unwrap();
    assert_eq!(lab.store.ask(approval_id(3), &other_agent, 13).await.unwrap(), Asking::New(approval_id(3)));
    let mut above = question(1);
    above.ceiling.integrity = Integrity::Web;
    assert_eq!(lab.store.ask(approval_id(4), &above, 13).await.unwrap(), Asking::New(approval_id(4)));
    // A yes that bob gave to what ada's prompt led to is none to what his own leads to.
    for (n, author) in [(5, "ada"), (6, "bob")] {
        let mut of_author = question(2);
        of_author.quorum.excluded = [person(author)].into();
        let asked = lab.store.ask(approval_id(n), &of_author, 13).await.unwrap();
        assert_eq!(asked, Asking::New(approval_id(n)), "{author}");
        let again = lab.store.ask(approval_id(9), &of_author, 13).await.unwrap();
        assert_eq!(again.id(), approval_id(n), "{author}");
        let own = lab.store.answer(approval_id(n), &yes(author), 13).await.unwrap_err().to_string();
        assert!(own.contains("wrote the prompt"), "{own}");
        lab.store
            .answer(approval_id(n), &yes(if author == "ada" { "bob" } else { "cleo" }), 13)
            .await
            .unwrap();
    }
    lab.store.commit(&commit(1, 1, ByRight::Approval(id)), 14).await.unwrap();
    assert_eq!(lab.count("asked-again").await, 4);

    for n in 0..MAX_OPEN - 3 {
        let n = u8::try_from(n).unwrap();
        lab.store.ask(approval_id(100 + u128::from(n)), &question(100 + n), 20).await.unwrap();
    }
    let one_more = lab.store.ask(approval_id(99), &question(99), 21).await;
    assert!(matches!(one_more, Err(ApprovalError::TooMany(_))), "{one_more:?}");
    lab.store.ask(approval_id(99), &question(99), 1_000).await.unwrap();
}

async fn a_question_survives_a_restart_and_its_answer_wakes_who_waits(empty: Empty) {
    let lab = empty.open().await.with_people().await;
    let id = approval_id(1);
    lab.store.ask(id, &question(7), 10).await.unwrap();
    let waiting = tokio::spawn({
        let store = lab.store.clone();
        async move { store.wait(id, || 20).await }
    });
    let another = lab.another().await;
    assert_eq!(another.approval(id, 11).await.unwrap().shown, Some(question(7).shown));
    another.answer(id, &yes("bob"), 12).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().state, ApprovalState::Approved);
    lab.store.ask(approval_id(2), &question(8), 10).await.unwrap();
    assert_eq!(lab.store.wait(approval_id(2), || 1_000).await.unwrap().state, ApprovalState::Expired);
    another.close().await;
}

async fn what_runs_out_or_is_called_off_gives_no_right(empty: Empty) {
    let lab = empty.open().await.with_people().await;
    for n in 1..=3 {
        lab.store.ask(approval_id(n), &question(n as u8), 10).await.unwrap();
        lab.store.answer(approval_id(n), &yes("ada"), 11).await.unwrap();
    }
    lab.store.cancel(approval_id(1), Some(&person("ada")), "changed my mind", 12).await.unwrap();
    assert!(lab.store.cancel(approval_id(1), None, "again", 12).await.is_err());
    let cancelled = lab.store.commit(&commit(1, 1, ByRight::Approval(approval_id(1))), 13).await;
    assert!(matches!(cancelled, Err(CommitError::Right(_))), "{cancelled:?}");
    let late = lab.store.commit(&commit(2, 2, ByRight::Approval(approval_id(2))), 1_000).await;
    assert!(matches!(late, Err(CommitError::Right(_))), "{late:?}");
    assert_eq!(lab.store.expire(1_000).await.unwrap(), 2);
    assert_eq!(lab.store.expire(1_001).await.unwrap(), 0);
    assert_eq!(lab.store.approval(approval_id(3), 1).await.unwrap().life.state, ApprovalState::Expired);
    assert_eq!((lab.count("expired").await, lab.count("cancelled").await), (2, 1));
    assert_eq!(lab.count("commit-refused").await, 2);
}

async fn a_plans_grants_are_used_as_often_as_they_say_by_one_session(empty: Empty) {
    let lab = empty.open().await.with_people().await;
    let id = approval_id(1);
    let grants = [grant(1, 21, Uses::Times(2)), grant(2, 22, Uses::Times(1))];
    lab.store.ask(id, &question(7), 10).await.unwrap();
    assert!(lab.store.grant(id, &digest(7), &grants, &about(1), 11).await.is_err());
    lab.store.answer(id, &yes("ada"), 12).await.unwrap();
    let altered = lab.store.grant(id, &digest(8), &grants, &about(1), 13).await;
    assert!(matches!(altered, Err(ApprovalError::Foreign)), "{altered:?}");
    lab.store.grant(id, &digest(7), &grants, &about(1), 14).await.unwrap();
    assert!(lab.store.grant(id, &digest(7), &grants, &about(1), 15).await.is_err());
    assert!(lab.store.commit(&commit(9, 7, ByRight::Approval(id)), 15).await.is_err());

    let right = ByRight::Grant(grant_id(1));
    assert_eq!(lab.store.find_grant(session(1), &digest(21), 16).await.unwrap(), Some(grant_id(1)));
    assert_eq!(lab.store.find_grant(session(2), &digest(21), 16).await.unwrap(), None);
    let mut foreign = commit(3, 21, right);
    foreign.about.session = Some(session(2));
    assert!(matches!(lab.store.commit(&foreign, 16).await, Err(CommitError::Foreign)));
    assert!(matches!(lab.store.commit(&commit(3, 22, right), 16).await, Err(CommitError::Foreign)));
    lab.store.commit(&commit(1, 21, right), 16).await.unwrap();
    lab.store.commit(&commit(2, 21, right), 17).await.unwrap();
    assert!(matches!(lab.store.commit(&commit(3, 21, right), 18).await, Err(CommitError::NoGrant)));
    assert_eq!(lab.store.find_grant(session(1), &digest(21), 18).await.unwrap(), None);
    let late = lab.store.commit(&commit(3, 22, ByRight::Grant(grant_id(2))), 900).await;
    assert!(matches!(late, Err(CommitError::NoGrant)), "{late:?}");
    assert_eq!(lab.store.end_grants(session(1), "its session ended", &about(1), 20).await.unwrap(), 2);
    assert!(lab.store.commit(&commit(3, 22, ByRight::Grant(grant_id(2))), 21).await.is_err());
}

/// Those that come at once are written together, and still one after the other.
async fn a_grant_is_used_and_an_outcome_told_once_by_those_who_come_at_once(empty: Empty) {
    let lab = empty.open().await.with_people().await;
    let id = approval_id(1);
    lab.store.ask(id, &question(7), 10).await.unwrap();
    lab.store.answer(id, &yes("ada"), 12).await.unwrap();
    lab.store.grant(id, &digest(7), &[grant(1, 21, Uses::Times(2))], &about(1), 14).await.unwrap();
    let commits: Vec<_> = (0..12).map(|n| commit(n, 21, ByRight::Grant(grant_id(1)))).collect();
    let together = commits.iter().map(|commit| lab.store.commit(commit, 16));
    let used = futures::future::join_all(together).await;
    assert_eq!(used.iter().filter(|used| used.is_ok()).count(), 2, "{used:?}");
    assert!(used.iter().all(|used| matches!(used, Ok(_) | Err(CommitError::NoGrant))), "{used:?}");
    assert_eq!(lab.count("commit-refused").await, 10);

    let mut costly = commit(50, 7, ByRight::Policy);
    costly.spend = vec![spend(30, 100)];
    lab.store.commit(&costly, 17).await.unwrap();
    let spent = [spend(10, 0).reserve];
    let told = (0..6).map(|_| lab.store.outcome(commit_id(50), &Outcome::Done, &spent, None, 18));
    let told = futures::future::join_all(told).await;
    assert_eq!(told.iter().filter(|told| told.is_ok()).count(), 1, "{told:?}");
    assert_eq!(lab.store.used("agent:mail-clerk/tokens", 3).await.unwrap(), 10);
    assert_eq!(lab.count("ended").await, 1);
    lab.store.verify(None).await.unwrap();
}

async fn a_grant_for_a_session_is_only_for_what_can_be_undone(empty: Empty) {
    let lab = empty.open().await.with_people().await;
    let mut can_be_undone = question(7);
    can_be_undone.effects = undoable();
    let for_session = store::Answer { for_session: true, ..yes("ada") };
    lab.store.ask(approval_id(1), &can_be_undone, 10).await.unwrap();
    lab.store.answer(approval_id(1), &for_session, 11).await.unwrap();
    assert!(lab.store.approval(approval_id(1), 12).await.unwrap().is_for_session());
    let whole = [grant(1, 21, Uses::Session)];
    lab.store.grant(approval_id(1), &digest(7), &whole, &about(1), 12).await.unwrap();
    for n in 0..4 {
        lab.store.commit(&commit(n, 21, ByRight::Grant(grant_id(1))), 13).await.unwrap();
    }
    lab.store.ask(approval_id(2), &question(8), 14).await.unwrap();
    lab.store.answer(approval_id(2), &yes("ada"), 15).await.unwrap();
    let refused =
        lab.store.grant(approval_id(2), &digest(8), &[grant(2, 8, Uses::Session)], &about(1), 16).await;
    assert!(matches!(refused, Err(ApprovalError::NotUndoable)), "{refused:?}");
    assert_eq!(lab.count("grant-refused").await, 1);
}

fn spend(amount: u64, limit: u64) -> Spend {
    Spend { reserve: Reserved { budget: "agent:mail-clerk/tokens".to_owned(), day: 3, amount }, limit }
}

async fn many_at_once_use_a_right_once_and_a_budget_never_beyond(empty: Empty) {
    let lab = empty.open().await.with_people().await;
    lab.store.ask(approval_id(1), &question(7), 10).await.unwrap();
    lab.store.answer(approval_id(1), &yes("ada"), 11).await.unwrap();
    let another = lab.another().await;
    let mut tries = Vec::new();
    for n in 0..16_u128 {
        let store = if n % 2 == 0 { lab.store.clone() } else { another.clone() };
        tries.push(tokio::spawn(async move {
            let by_right = store.commit(&commit(n, 7, ByRight::Approval(approval_id(1))), 12).await.is_ok();
            let mut costly = commit(100 + n, 7, ByRight::Policy);
            costly.spend = vec![spend(30, 100)];
            (by_right, store.commit(&costly, 12).await.is_ok())
        }));
    }
    let (mut by_right, mut by_budget) = (0, 0);
    for one in tries {
        let (right, budget) = one.await.unwrap();
        by_right += u32::from(right);
        by_budget += u32::from(budget);
    }
    assert_eq!((by_right, by_budget), (1, 3));
    assert_eq!(lab.store.used("agent:mail-clerk/tokens", 3).await.unwrap(), 90);
    assert_eq!(lab.count("committed").await, 4);
    lab.store.verify(None).await.unwrap();
    another.close().await;
}

/// It is written with the next commit, or by itself.
async fn an_outcome_that_nobody_waits_for_is_written_before_what_comes_next(empty: Empty) {
    let lab = empty.open().await;
    for n in 0..3 {
        lab.store.commit(&commit(n, 7, ByRight::Policy), 10).await.unwrap();
        drop(lab.store.outcome_soon(commit_id(n), &Outcome::Done, &[], 11));
    }
    lab.store.commit(&commit(3, 7, ByRight::Policy), 12).await.unwrap();
    assert_eq!((lab.count("ended").await, lab.store.unfinished().await.unwrap().len()), (3, 1));
    lab.store.outcome_soon(commit_id(3), &Outcome::Done, &[], 13).await.unwrap();
    assert!(lab.store.outcome_soon(commit_id(3), &Outcome::Done, &[], 14).await.is_err());
    assert!(lab.store.unfinished().await.unwrap().is_empty());
    lab.store.verify(None).await.unwrap();
}

async fn who_gives_up_leaves_no_act_behind_and_takes_nobody_with_them(empty: Empty) {
    let lab = empty.open().await;
    // One whose answer is there, but not taken.
    let mut given_up = commit(500, 7, ByRight::Policy);
    given_up.spend = vec![spend(1, 100)];
    let mut asked = Box::pin(lab.store.commit(&given_up, 9));
    let begun = std::future::poll_fn(|context| Poll::Ready(asked.as_mut().poll(context).is_pending()));
    assert!(begun.await);
    lab.store.record(&about(1), &Event::GrantsEnded { count: 0, why: String::new() }, None, 9).await.unwrap();
    drop(asked);
    let mut others = Vec::new();
    for n in 0..32_u128 {
        let mut given_up = commit(n, 7, ByRight::Policy);
        given_up.spend = vec![spend(1, 100)];
        let asked = lab.store.commit(&given_up, 10);
        let patience = Duration::from_micros(200 * u64::try_from(n % 8).unwrap());
        if let Ok(committed) = tokio::time::timeout(patience, asked).await {
            let (nothing, why) = (spend(0, 0).reserve, "too early".to_owned());
            let not_done = Outcome::NotDone { why };
            lab.store.outcome(committed.unwrap(), &not_done, &[nothing], None, 11).await.unwrap();
        }
        let store = lab.store.clone();
        others.push(tokio::spawn(async move {
            store.commit(&commit(1000 + n, 7, ByRight::Policy), 10).await.unwrap();
            store.outcome(commit_id(1000 + n), &Outcome::Done, &[], None, 11).await.unwrap();
        }));
    }
    for other in others {
        other.await.unwrap();
    }
    // An entry after them all: what is to be said of those that were given up is written by then, or next to it.
    for _ in 0..2 {
        lab.store
            .record(&about(1), &Event::GrantsEnded { count: 0, why: String::new() }, None, 12)
            .await
            .unwrap();
    }
    assert_eq!(lab.store.unfinished().await.unwrap(), []);
    let kept = lab.store.tail(1000, &Filter::default()).await.unwrap();
    let done = |entry: &store::Entry| matches!(&entry.event, Event::Ended { outcome: Outcome::Done, .. });
    let used = lab.store.used("agent:mail-clerk/tokens", 3).await.unwrap();
    assert_eq!((kept.iter().filter(|entry| done(entry)).count(), used), (32, 0));
    lab.store.verify(None).await.unwrap();
}

async fn what_was_reserved_and_not_spent_is_given_back(empty: Empty) {
    let lab = empty.open().await;
    let mut costly = commit(1, 7, ByRight::Policy);
    costly.spend = vec![spend(60, 100)];
    lab.store.commit(&costly, 10).await.unwrap();
    costly.id = commit_id(2);
    let refused = lab.store.commit(&costly, 11).await;
    assert!(matches!(refused, Err(CommitError::Budget { left: 40, wanted: 60, .. })), "{refused:?}");
    let spent = Reserved { amount: 25, ..spend(0, 0).reserve };
    lab.store.outcome(commit_id(1), &Outcome::Done, &[spent], None, 12).await.unwrap();
    assert_eq!(lab.store.used("agent:mail-clerk/tokens", 3).await.unwrap(), 25);
    lab.store.commit(&costly, 13).await.unwrap();
    let unknown = Outcome::Unknown { why: "the daemon was killed".to_owned() };
    lab.store.outcome(commit_id(2), &unknown, &[], None, 14).await.unwrap();
    assert_eq!(lab.store.used("agent:mail-clerk/tokens", 3).await.unwrap(), 85);
    assert_eq!(lab.store.used("agent:mail-clerk/tokens", 4).await.unwrap(), 0);
}

async fn a_session_above_the_ceiling_uses_no_right(empty: Empty) {
    let lab = empty.open().await.with_people().await;
    lab.store.ask(approval_id(1), &question(7), 10).await.unwrap();
    lab.store.answer(approval_id(1), &yes("ada"), 11).await.unwrap();
    let mut above = commit(1, 7, ByRight::Approval(approval_id(1)));
    above.labels.integrity = Integrity::Web;
    let refused = lab.store.commit(&above, 12).await;
    assert!(matches!(refused, Err(CommitError::AboveCeiling { .. })), "{refused:?}");
    lab.store.commit(&commit(1, 7, ByRight::Approval(approval_id(1))), 13).await.unwrap();
}

async fn labels_only_rise_but_by_an_owner(empty: Empty) {
    let lab = empty.open().await.with_people().await;
    let disk = Keeper::Disk(agent());
    let secret = Labels { confidentiality: Confidentiality::Secret, ..Labels::default() };
    let web = Labels { integrity: Integrity::Web, ..Labels::default() };
    assert_eq!(lab.store.labels(&disk).await.unwrap(), Labels::default());
    lab.store.raise(&disk, &secret, &about(1), 10).await.unwrap();
    assert_eq!(lab.store.raise(&disk, &web, &about(1), 11).await.unwrap(), secret.join(&web));
    lab.store.raise(&disk, &Labels::default(), &about(1), 12).await.unwrap();
    assert_eq!(lab.another().await.labels(&disk).await.unwrap(), secret.join(&web));
    assert_eq!(lab.count("labels-raised").await, 2);
    let refused = lab.store.lower(&disk, &web, &person("bob"), "looked at it", 13).await;
    assert!(matches!(refused, Err(LowerError::NotOwner(_))), "{refused:?}");
    let org = Labels { integrity: Integrity::Organisation, ..Labels::default() };
    let higher = Labels { compartments: ["sales".parse().unwrap()].into(), ..web.clone() };
    let refused = lab.store.lower(&disk, &higher, &person("ada"), "looked at it", 13).await;
    assert!(matches!(refused, Err(LowerError::NotLower { .. })), "{refused:?}");
    lab.store.lower(&disk, &web, &person("ada"), "looked at it", 14).await.unwrap();
    let notes = Keeper::Server("sales".parse().unwrap(), "notes".parse().unwrap());
    lab.store.raise(&notes, &org, &about(1), 14).await.unwrap();
    let all = lab.store.all_labels().await.unwrap();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), [(disk.clone(), web.clone()), (notes, org)]);
    assert_eq!(lab.store.labels(&disk).await.unwrap(), web);
    assert_eq!(lab.count("labels-lowered").await, 1);
    for text in ["disk:mail-clerk", "server:sales/notes", &Keeper::Session(session(1)).to_string()] {
        assert_eq!(text.parse::<Keeper>().unwrap().to_string(), text);
    }
    assert!("disk:".parse::<Keeper>().is_err());
}

async fn a_tools_definitions_are_kept_few_and_pins_hold_who_approved(empty: Empty) {
    let lab = empty.open().await.with_people().await;
    let tool: ToolRef = "mail__send".parse().unwrap();
    let offered =
        |n: u8| Definition { digest: digest(n), text: format!("sends, {n}"), seen_at: u64::from(n) };
    assert!(lab.store.see(&tool, &offered(1)).await.unwrap());
    assert!(!lab.store.see(&tool, &offered(1)).await.unwrap());
    let pins = BTreeMap::from([(tool.clone(), digest(1))]);
    lab.store.pin(&agent(), &pins, &person("ada"), 50).await.unwrap();
    for n in 2..40 {
        lab.store.see(&tool, &offered(n)).await.unwrap();
    }
    let kept = lab.store.definitions(&tool).await.unwrap();
    assert_eq!(kept.len(), usize::try_from(MAX_DEFINITIONS).unwrap() + 1);
    assert_eq!((&kept[0], kept.last().unwrap()), (&offered(39), &offered(1)));
    let pinned = lab.store.pins(&agent()).await.unwrap();
    assert_eq!((pinned[&tool].digest, &pinned[&tool].by, pinned[&tool].at), (digest(1), &person("ada"), 50));
    assert!(lab.store.pins(&"another".parse().unwrap()).await.unwrap().is_empty());
    assert!(lab.store.unpin(&agent(), &tool, &person("ada"), 51).await.unwrap());
    assert!(!lab.store.unpin(&agent(), &tool, &person("ada"), 52).await.unwrap());
    assert_eq!((lab.count("tool-pinned").await, lab.count("tool-unpinned").await), (1, 1));
}

async fn people_groups_and_teams_and_always_an_owner(empty: Empty) {
    let lab = empty.open().await.with_people().await;
    let (ada, bob) = (person("ada"), person("bob"));
    assert!(matches!(lab.store.install_owner(&bob, 1001, 5).await, Err(PeopleError::NotFirst)));
    assert_eq!(lab.store.person_of_uid(1000).await.unwrap().unwrap().name, ada);
    assert_eq!(lab.store.person_of_uid(1001).await.unwrap(), None);
    let demoted = Person { name: ada.clone(), uid: Some(1000), role: Role::Viewer };
    assert!(matches!(lab.store.put_person(&demoted, &ada, 6).await, Err(PeopleError::LastOwner(_))));
    assert!(matches!(lab.store.remove_person(&ada, &ada, 6).await, Err(PeopleError::LastOwner(_))));
    let taken = Person { name: bob.clone(), uid: Some(1000), role: Role::Owner };
    assert!(matches!(lab.store.put_person(&taken, &ada, 6).await, Err(PeopleError::UidTaken { .. })));
    let promoted = Person { name: bob.clone(), uid: Some(1001), role: Role::Owner };
    lab.store.put_person(&promoted, &ada, 7).await.unwrap();

    let (leads, sales) = ("sales-leads".parse().unwrap(), "sales".parse().unwrap());
    lab.store.set_in_group(&leads, &bob, true, &ada, 8).await.unwrap();
    lab.store.set_in_group(&leads, &bob, true, &ada, 8).await.unwrap();
    lab.store.set_in_group(&leads, &ada, true, &ada, 8).await.unwrap();
    lab.store.set_in_team(&sales, &bob, true, &ada, 8).await.unwrap();
    assert!(lab.store.set_in_group(&leads, &person("eve"), true, &ada, 8).await.is_err());
    assert_eq!(lab.store.group(&leads).await.unwrap(), [ada.clone(), bob.clone()].into());
    assert_eq!(lab.store.groups().await.unwrap(), [leads.clone()].into());
    lab.store.set_in_group(&leads, &ada, false, &ada, 9).await.unwrap();
    lab.store.remove_person(&bob, &ada, 10).await.unwrap();
    assert!(lab.store.group(&leads).await.unwrap().is_empty());
    assert!(lab.store.team(&sales).await.unwrap().is_empty());
    assert_eq!(lab.store.people().await.unwrap().len(), 3);
    assert_eq!((lab.count("group-changed").await, lab.count("team-changed").await), (3, 1));
}

async fn a_newer_database_and_other_keys_are_refused(empty: Empty) {
    let lab = empty.open().await.with_people().await;
    let other = lab.folder.path().join("other-keys");
    let opened = Store::open(&lab.place, &other, random(3)).await;
    assert!(matches!(opened, Err(StoreError::File { .. })), "{opened:?}");
    assert!(!other.exists());
    fs::write(&other, format!("lazaret store keys 1\n{}\n", digest(9))).unwrap();
    fs::set_permissions(&other, Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Store::open(&lab.place, &other, random(3)).await, Err(StoreError::Exposed { .. })));
    fs::set_permissions(&other, Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(Store::open(&lab.place, &other, random(3)).await, Err(StoreError::OtherKeys)));
    lab.tamper("INSERT INTO lazaret_schema (version) VALUES (999)").await;
    let newer = Store::open(&lab.place, &lab.keys, random(3)).await.unwrap_err().to_string();
    assert!(newer.contains("schema 999"), "{newer}");
    if let Place::File(file) = &lab.place {
        fs::set_permissions(file, Permissions::from_mode(0o640)).unwrap();
        let exposed = Store::open(&lab.place, &lab.keys, random(3)).await.unwrap_err().to_string();
        assert!(exposed.contains("chmod 600"), "{exposed}");
    }
}

/// One folder per schema that has landed: the dump of a database, its keys, and its ledger's head.
const LANDED: &[&str] = &["v1"];

async fn a_database_of_each_landed_schema_is_migrated(empty: Empty) {
    let place = empty.place.clone();
    let raw = empty.raw.clone();
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let [version] = LANDED else { panic!("one database per schema is needed here") };
    let dump = fs::read_to_string(fixtures.join(version).join("database.sql")).unwrap();
    let dump = match place {
        Place::File(_) => dump,
        Place::Server(_) => dump.replace(" BLOB", " BYTEA").replace("X'", "'\\x"),
    };
    sqlx::raw_sql(sqlx::AssertSqlSafe(dump)).execute(&raw).await.unwrap();
    fs::copy(fixtures.join(version).join("keys"), &empty.keys).unwrap();
    fs::set_permissions(&empty.keys, Permissions::from_mode(0o600)).unwrap();
    let lab = empty.open().await;
    let head: Head =
        serde_json::from_slice(&fs::read(fixtures.join(version).join("head.json")).unwrap()).unwrap();
    assert_eq!(lab.store.verify(Some(&head)).await.unwrap().entries, head.seq);
    let all = lab.store.entries_after(0, 1_000, &Filter::default()).await.unwrap();
    assert_eq!(all.len() as u64, head.seq);
    let approval = lab.store.approval(approval_id(1), 12).await.unwrap();
    assert_eq!((approval.shown, approval.life.yes.len()), (Some(question(7).shown), 1));
    assert_eq!(lab.store.people().await.unwrap().len(), 4);
    assert_eq!(lab.store.unfinished().await.unwrap().len(), 1);
    lab.store.answer(approval_id(1), &yes("bob"), 30).await.unwrap();
    lab.store.commit(&commit(5, 7, ByRight::Approval(approval_id(1))), 31).await.unwrap();
    lab.store.verify(Some(&head)).await.unwrap();
    if let Place::File(_) = lab.place {
        let fresh = Empty::sqlite().await.open().await;
        assert_eq!(support::schema(&lab.raw).await, support::schema(&fresh.raw).await);
    }
}

/// Writes the newest schema's fixture: only before that schema lands, never after.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by hand before a new schema lands: writes the fixture that a test above migrates"]
async fn write_fixture() {
    let lab = Empty::sqlite().await.open().await.with_people().await;
    let mut two = question(7);
    two.quorum.need = 2;
    lab.store.ask(approval_id(1), &two, 10).await.unwrap();
    lab.store.answer(approval_id(1), &yes("ada"), 11).await.unwrap();
    lab.store.ask(approval_id(2), &question(8), 12).await.unwrap();
    lab.store.answer(approval_id(2), &no("bob"), 13).await.unwrap();
    let mut costly = commit(1, 7, ByRight::Policy);
    costly.spend = vec![spend(60, 100)];
    lab.store.commit(&costly, 14).await.unwrap();
    lab.store.commit(&commit(2, 7, ByRight::Policy), 15).await.unwrap();
    lab.store.outcome(commit_id(2), &Outcome::Done, &[], None, 16).await.unwrap();
    let web = Labels { integrity: Integrity::Web, ..Labels::default() };
    lab.store.raise(&Keeper::Disk(agent()), &web, &about(1), 17).await.unwrap();
    let tool: ToolRef = "mail__send".parse().unwrap();
    let seen = Definition { digest: digest(1), text: "sends".to_owned(), seen_at: 18 };
    lab.store.see(&tool, &seen).await.unwrap();
    lab.store.pin(&agent(), &[(tool, digest(1))].into(), &person("ada"), 19).await.unwrap();
    lab.store
        .set_in_group(&"leads".parse().unwrap(), &person("bob"), true, &person("ada"), 20)
        .await
        .unwrap();
    lab.store.set_in_team(&"sales".parse().unwrap(), &person("bob"), true, &person("ada"), 21).await.unwrap();
    lab.store.erase(7, &person("ada"), "a fixture", 22).await.unwrap();

    let to = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(LANDED[LANDED.len() - 1]);
    fs::create_dir_all(&to).unwrap();
    fs::copy(&lab.keys, to.join("keys")).unwrap();
    fs::write(to.join("head.json"), serde_json::to_string(&lab.store.head().await.unwrap()).unwrap() + "\n")
        .unwrap();
    fs::write(to.join("database.sql"), support::dump(&lab.raw).await).unwrap();
}
