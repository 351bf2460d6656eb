//! What the store promises, on SQLite and on PostgreSQL: one suite for both.

mod support;

use domain::ApprovalState;
use store::{
    ApprovalError, Asking, ByRight, CommitError, Event, Fault, Filter, Outcome, Private, Sealed, VerifyError,
};
use support::{Cluster, Lab, about, act, approval_id, commit, commit_id, person, question, yes};

/// Each case as a test of its own on SQLite, and all of them, one after another, on one PostgreSQL server.
macro_rules! suite {
    ($($case:ident),+ $(,)?) => {
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    super::$case(super::Lab::sqlite().await).await;
                }
            )+
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn the_whole_suite_passes_on_postgresql() {
            let Some(cluster) = Cluster::start() else { return };
            $(
                eprintln!("on PostgreSQL: {}", stringify!($case));
                $case(Lab::postgres(&cluster, stringify!($case)).await).await;
            )+
        }
    };
}

suite! {
    what_is_recorded_reads_back,
    erased_arguments_are_gone_and_the_chain_still_verifies,
    a_question_is_asked_answered_and_its_right_used_once,
}

async fn what_is_recorded_reads_back(lab: Lab) {
    let arguments = Private::new(r#"{"a":1}"#.to_owned());
    let refused = Event::Refused { act: act(), why: "the tool changed".to_owned() };
    assert_eq!(lab.store.record(&about(1), &refused, Some(&arguments), 5).await.unwrap(), 1);
    let started = Event::DaemonStarted { version: "1".to_owned() };
    assert_eq!(lab.store.record(&store::About::default(), &started, None, 6).await.unwrap(), 2);

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
}

async fn erased_arguments_are_gone_and_the_chain_still_verifies(lab: Lab) {
    let arguments = Private::new("the secret plan".to_owned());
    let event = Event::Refused { act: act(), why: "no".to_owned() };
    for _ in 0..3 {
        lab.store.record(&about(1), &event, Some(&arguments), 5).await.unwrap();
    }
    lab.store.erase(2, &person("ada"), "asked for by its subject", 9).await.unwrap();
    assert_eq!(lab.store.entry(2).await.unwrap().sealed, Sealed::Gone);
    assert_eq!(lab.store.entry(3).await.unwrap().sealed, Sealed::Open(arguments));
    assert_eq!(lab.store.verify(None).await.unwrap().erased, 1);
    assert!(lab.store.erase(2, &person("ada"), "again", 10).await.is_err());

    lab.tamper("DELETE FROM record_keys WHERE seq = 3").await;
    let Err(VerifyError::Tampered(found)) = lab.store.verify(None).await else { panic!("not found") };
    assert_eq!((found.seq, found.fault), (3, Fault::KeyLost));
}

async fn a_question_is_asked_answered_and_its_right_used_once(lab: Lab) {
    let lab = lab.with_people().await;
    let id = approval_id(1);
    assert_eq!(lab.store.ask(id, &question(7), 10).await.unwrap(), Asking::New(id));
    let again = lab.store.ask(approval_id(2), &question(7), 11).await.unwrap();
    assert_eq!(again, Asking::Merged(id, ApprovalState::Pending));
    let pending = lab.store.pending(Some(&person("bob")), 12).await.unwrap();
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].shown, Some(question(7).shown));

    let right = ByRight::Approval(id);
    let early = lab.store.commit(&commit(1, 7, right), 13).await;
    assert!(matches!(early, Err(CommitError::Right(_))), "{early:?}");
    let life = lab.store.answer(id, &yes("bob"), 14).await.unwrap();
    assert_eq!(life.state, ApprovalState::Approved);
    let altered = lab.store.commit(&commit(1, 8, right), 15).await;
    assert!(matches!(altered, Err(CommitError::Foreign)), "{altered:?}");
    lab.store.commit(&commit(1, 7, right), 16).await.unwrap();
    let replayed = lab.store.commit(&commit(2, 7, right), 17).await;
    assert!(matches!(replayed, Err(CommitError::Right(_))), "{replayed:?}");
    let late = lab.store.answer(id, &yes("cleo"), 18).await;
    assert!(matches!(late, Err(ApprovalError::Answer(_))), "{late:?}");

    assert_eq!(lab.store.unfinished().await.unwrap().len(), 1);
    lab.store.outcome(commit_id(1), &Outcome::Done, &[], None, 19).await.unwrap();
    assert_eq!(lab.store.unfinished().await.unwrap(), []);
    assert!(lab.store.outcome(commit_id(1), &Outcome::Done, &[], None, 20).await.is_err());
    assert_eq!(lab.count("committed").await, 1);
    assert_eq!(lab.count("commit-refused").await, 3);
    assert_eq!(lab.count("answer-refused").await, 1);
    lab.store.verify(None).await.unwrap();
}
