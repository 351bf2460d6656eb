//! Calls that are open while what the agent may do changes, at a tool server that answers when it is called off.

use std::sync::Arc;
use std::time::Duration;

use domain::{Confidentiality, Integrity, Labels};
use store::{Answer, Event, Outcome};
use wire::frame;
use wire::tools::{MAX_REPLY, ToolFailureKind, ToolsAnswer, ToolsAsk};

use super::gate::{Lab, NOW, lab_of, lab_under};
use crate::tools::ToolEvent;

const TABLE: &str = "[tools.slow]\neffects = [\"read\"]\n[tools.numbers]\neffects = [\"read\"]\n";

/// An agent whose rules for `slow` are these.
fn agent(rules: &str) -> String {
    format!(
        "name = \"clerk\"\nteam = \"sales\"\nharness = {{ command = [\"true\"] }}\n[tools.all]\n{rules}\n"
    )
}

/// How calls came out, as the ledger tells it.
async fn outcomes(lab: &Lab) -> Vec<Outcome> {
    let ended = |event| if let Event::Ended { outcome, .. } = event { Some(outcome) } else { None };
    lab.ledger().await.into_iter().filter_map(ended).collect()
}

/// Long enough for all that is ready to be done.
async fn settled() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn a_narrower_policy_ends_a_call_that_is_open() {
    let allows = agent("allow = [\"slow\", \"numbers\"]");
    let mut took = Vec::new();
    let forbids = "forbid (principal, action, resource == Tool::\"all__slow\");";
    for (rules, own) in [
        (agent("allow = [\"numbers\"]\ndeny = [\"slow\"]"), None),
        (agent("allow = [\"numbers\"]\nask = [\"slow\"]"), None),
        (agent("allow = [\"numbers\"]"), None),
        (allows.clone(), Some(forbids)),
    ] {
        let lab = lab_of(&allows, TABLE, true).await;
        let made = lab.made("all__slow", "{}");
        lab.server.begun.notified().await;
        // What still lets it, and what the session learns, are no reason.
        lab.applies(&agent("allow = [\"slow\"]"), None).await;
        let rises = Labels {
            confidentiality: Confidentiality::Secret,
            integrity: Integrity::Web,
            ..Labels::default()
        };
        lab.gate.met(&rises).await.unwrap();
        lab.applies(&allows, None).await;
        settled().await;
        assert!(!made.is_finished() && outcomes(&lab).await.is_empty());

        let since = tokio::time::Instant::now();
        lab.applies(&rules, own).await;
        let told = made.await.unwrap().unwrap_err();
        took.push(since.elapsed());
        assert_eq!(told.kind, ToolFailureKind::Refused, "{told:?}");
        assert!(
            told.message.starts_with("cut: ")
                && told.hint.as_ref().is_some_and(|hint| hint.contains("nobody knows"))
        );
        lab.server.cancelled.notified().await;
        let came = outcomes(&lab).await;
        let [Outcome::Unknown { why }] = came.as_slice() else { panic!("{came:?}") };
        assert_eq!(*why, told.message);
        assert!(lab.store.unfinished().await.unwrap().is_empty());
    }
    // A busy machine adds to most of them, and hardly to all.
    assert!(took.iter().min() < Some(&Duration::from_secs(1)), "{took:?}");
}

/// A program that doesn't read what it is told keeps nothing open.
#[tokio::test]
async fn a_narrower_policy_ends_a_call_whose_progress_nobody_reads() {
    let lab = lab_of(&agent("allow = [\"slow\"]"), TABLE, true).await;
    let (mut door, daemon) = tokio::io::duplex(256);
    let ask =
        ToolsAsk::Call { tool: "all__slow".to_owned(), arguments: "{}".to_owned(), wants_progress: true };
    let gate = Arc::clone(&lab.gate);
    let served = tokio::spawn(async move { crate::tools::serve(ask, daemon, gate.as_ref()).await });
    lab.server.begun.notified().await;
    settled().await;
    lab.applies(&agent("deny = [\"slow\"]"), None).await;
    tokio::time::timeout(Duration::from_secs(20), lab.server.cancelled.notified()).await.unwrap();
    // It reads after all.
    let last = loop {
        let answer: ToolsAnswer = frame::read(&mut door, MAX_REPLY).await.unwrap().unwrap();
        if !matches!(answer, ToolsAnswer::Progress(_)) {
            break answer;
        }
    };
    assert!(matches!(&last, ToolsAnswer::Failed(told) if told.message.starts_with("cut: ")), "{last:?}");
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_people_approved_is_ended_by_a_no_alone() {
    let mut lab = lab_of(&agent("ask = [\"slow\"]"), TABLE, true).await;
    let made = lab.made("all__slow", "{}");
    let Some(ToolEvent::Waits { approval, .. }) = lab.events.recv().await else { panic!("no question") };
    let yes = Answer { person: lab.owner.clone(), yes: true, for_session: false, why: None };
    lab.store.answer(approval, &yes, NOW).await.unwrap();
    lab.server.begun.notified().await;
    lab.applies(&agent("allow = [\"numbers\"]\nask = [\"slow\"]"), None).await;
    settled().await;
    assert!(!made.is_finished());
    lab.applies(&agent("deny = [\"slow\"]"), None).await;
    assert_eq!(made.await.unwrap().unwrap_err().kind, ToolFailureKind::Refused);
}

#[tokio::test]
async fn a_call_that_is_open_is_not_ended_by_those_that_came_after_it() {
    let rules = agent("allow = [\"slow\", \"numbers\"]");
    for counted in ["calls", "calls_today"] {
        let limit = format!("forbid (principal, action, resource) when {{ context.{counted} > 1 }};");
        let lab = lab_under(&rules, TABLE, Some(&limit), true).await;
        let first = lab.made("all__slow", "{}");
        lab.server.begun.notified().await;
        let second = lab.made("all__slow", "{}");
        lab.server.begun.notified().await;
        // The first was the first, also when one may be called once.
        lab.applies(&rules, Some(&limit.replace("> 1", "> 0"))).await;
        assert!(second.await.unwrap().unwrap_err().message.contains("cut: "), "{counted}");
        settled().await;
        assert!(!first.is_finished(), "{counted}");
        first.abort();
    }
}

#[tokio::test]
async fn a_limit_of_a_day_that_is_new_knows_of_the_calls_before() {
    let rules = agent("allow = [\"slow\", \"numbers\"]");
    let lab = lab_of(&rules, TABLE, true).await;
    let first = lab.made("all__slow", "{}");
    lab.server.begun.notified().await;
    let limit =
        |most| format!("forbid (principal, action, resource) when {{ context.calls_today > {most} }};");
    lab.applies(&rules, Some(&limit(0))).await;
    settled().await;
    assert!(!first.is_finished(), "it is not counted itself");
    lab.applies(&rules, None).await;
    let second = lab.made("all__slow", "{}");
    lab.server.begun.notified().await;
    first.abort();
    lab.applies(&rules, Some(&limit(0))).await;
    assert!(second.await.unwrap().unwrap_err().message.contains("cut: "));
}

/// With the last of its progress, or with its result where nobody wanted any.
#[tokio::test]
async fn a_call_is_answered_whether_or_not_progress_is_wanted() {
    let lab = lab_of(&agent("allow = [\"numbers\"]"), TABLE, true).await;
    for wants_progress in [false, true] {
        let (mut door, daemon) = tokio::io::duplex(1 << 16);
        let ask =
            ToolsAsk::Call { tool: "all__numbers".to_owned(), arguments: "{}".to_owned(), wants_progress };
        let gate = Arc::clone(&lab.gate);
        let served = tokio::spawn(async move { crate::tools::serve(ask, daemon, gate.as_ref()).await });
        let answer = tokio::time::timeout(Duration::from_secs(20), frame::read(&mut door, MAX_REPLY)).await;
        let answer: Option<ToolsAnswer> = answer.expect("an answer in time").unwrap();
        assert!(matches!(answer, Some(ToolsAnswer::Reply(_))), "{answer:?}");
        served.await.unwrap().unwrap();
    }
}
