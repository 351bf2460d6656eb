//! Plans: what is asked once, and what its answer is worth.

use std::sync::Arc;

use domain::Origin;
use store::{Answer, Event, Filter};
use wire::tools::{Content, ToolFailureKind};

use super::gate::{Lab, NOW, lab, lab_of};
use crate::tools::{CallContext, ToolCall, ToolEvent, ToolGate};

#[tokio::test]
async fn a_plan_is_asked_once_and_each_of_its_calls_is_good_once() {
    let mut lab = lab(true).await;
    let plan = r#"{"calls":[{"tool":"all__echo","arguments":{"text":"bob@x.example"}},
                            {"tool":"all__echo","arguments":{"text":"cleo@x.example"}}]}"#;
    let result = lab.call_answered("lazaret__plan", plan, true).await.unwrap();
    assert!(matches!(result.content.as_slice(), [Content::Text(text)] if text.contains("approved")));
    lab.call("all__echo", r#"{"text":"cleo@x.example"}"#).await.unwrap();
    lab.call("all__echo", r#"{"text":"bob@x.example"}"#).await.unwrap();
    assert_eq!(lab.calls(), 2);
    let gate = Arc::clone(&lab.gate);
    let call =
        ToolCall { tool: "all__echo".parse().unwrap(), arguments: r#"{"text":"bob@x.example"}"#.to_owned() };
    let made = tokio::spawn(async move { gate.call(call, CallContext::unheard()).await });
    assert!(matches!(lab.events.recv().await, Some(ToolEvent::Waits { .. })), "used up: it asks");
    assert_eq!(lab.calls(), 2);
    made.abort();
}

const BANK: &str = "name = \"clerk\"\nteam = \"sales\"\nharness = { command = [\"true\"] }\n\
                    [tools.all]\nallow = [\"numbers\"]\nask = [\"fails\"]\n";
const PAYMENTS: &str = "[tools.numbers]\neffects = [\"irreversible\"]\nresults = { \"\" = \"person\" }\n\
                        sensitive = { amount = \"amount\", to = \"account\" }\n\
                        [tools.fails]\neffects = [\"irreversible\"]\nsensitive = { amount = \"amount\" }\n";

const PLAN: &str = r#"{"calls":[{"tool":"all__numbers","arguments":{"to":"DE02","amount":30},"times":2,
                                 "ranges":{"amount":{"from":10,"to":50}}}]}"#;

fn pay(amount: &str) -> String {
    format!(r#"{{"to":"DE02","amount":{amount}}}"#)
}

/// That this call is asked about, and not made.
async fn asks(lab: &mut Lab, arguments: &str) {
    let (before, mut made) = (lab.calls(), lab.made("all__numbers", arguments));
    tokio::select! {
        event = lab.events.recv() => assert!(matches!(event, Some(ToolEvent::Waits { .. })), "{arguments}"),
        made = &mut made => panic!("{arguments} was not asked about: {made:?}"),
    }
    made.abort();
    assert_eq!(lab.calls(), before, "{arguments}");
}

#[tokio::test]
async fn a_plan_may_leave_a_number_open_within_a_range_that_people_see() {
    let mut lab = lab_of(BANK, PAYMENTS, true).await;
    let made = lab.made("lazaret__plan", PLAN);
    let Some(ToolEvent::Waits { approval, .. }) = lab.events.recv().await else { panic!("no question") };
    let shown = lab.store.approval(approval, NOW).await.unwrap().shown.unwrap();
    let content = shown.content.reveal();
    assert!(content.contains("`amount` may be any number from 10 to 50, 100 in all at most"), "{content}");
    assert!(shown.arguments.reveal().contains(r#""ranges":{"amount":{"from":10.0,"to":50.0}}"#));
    let answer = Answer { person: lab.owner.clone(), yes: true, for_session: false, why: None };
    lab.store.answer(approval, &answer, NOW).await.unwrap();
    made.await.unwrap().unwrap();
    // What is out of the range, or differs elsewhere, is another call.
    for other in [&pay("51"), &pay("9.99"), &pay("-30"), &pay("\"30\""), r#"{"to":"DE03","amount":30}"#] {
        asks(&mut lab, other).await;
    }
    lab.call("all__numbers", &pay("10")).await.unwrap();
    lab.call("all__numbers", &pay("49.5")).await.unwrap();
    assert_eq!(lab.calls(), 2);
    asks(&mut lab, &pay("30")).await;
}

#[tokio::test]
async fn ranges_are_refused_where_they_could_not_be_kept() {
    let lab = lab_of(BANK, PAYMENTS, true).await;
    let nine: Vec<String> = (0..9).map(|at| format!(r#""p{at}":{{"from":1,"to":2}}"#)).collect();
    let nine = nine.join(",");
    for (ranges, why) in [
        (r#""amount":{"from":50,"to":10}"#, "must not be above"),
        (r#""amount":{"from":40,"to":50}"#, "is not from 40 to 50"),
        (r#""to":{"from":1,"to":2}"#, "no number at `to`"),
        (r#""nothing":{"from":1,"to":2}"#, "no number at `nothing`"),
        (r#""":{"from":1,"to":2}"#, "no number"),
        (r#""amount":{"from":1,"to":1e300}"#, "can't be passed on exactly"),
        (r#""amount":{"from":1,"to":1e999}"#, "can't be read"),
        (r#""amount":{"from":1}"#, "missing field `to`"),
        (r#""amount":{"from":1,"to":50,"step":2}"#, "unknown field `step`"),
        (&nine, "9 ranges"),
    ] {
        let plan = format!(
            r#"{{"calls":[{{"tool":"all__numbers","arguments":{},"ranges":{{{ranges}}}}}]}}"#,
            pay("30")
        );
        let failure = lab.call("lazaret__plan", &plan).await.unwrap_err();
        assert_eq!(failure.kind, ToolFailureKind::Invalid, "{ranges}: {failure:?}");
        assert!(failure.message.contains(why), "{ranges}: {}", failure.message);
    }
    assert_eq!(lab.calls(), 0);
}

#[tokio::test]
async fn where_an_open_number_comes_from_is_the_worst_of_its_ends() {
    let mut lab = lab_of(BANK, PAYMENTS, true).await;
    lab.gate.state.lock().await.seen.person("Pay 30 to DE02.");
    let made = lab.made("lazaret__plan", PLAN);
    let Some(ToolEvent::Waits { approval, .. }) = lab.events.recv().await else { panic!("no question") };
    let shown = lab.store.approval(approval, NOW).await.unwrap().shown.unwrap();
    let origin =
        |at: &str| shown.origins.iter().find(|(place, _)| place == at).map(|(_, origin)| origin.clone());
    assert_eq!(origin("/0/arguments/to"), Some(Origin::Person));
    assert_eq!(origin("/0/arguments/amount"), Some(Origin::Unknown));
    made.abort();
}

/// Whoever proposes plans in a loop fills no ledger.
#[tokio::test]
async fn plans_in_a_loop_are_asked_about_so_often_and_no_more() {
    let lab = lab(true).await;
    let plan = r#"{"calls":[{"tool":"all__echo","arguments":{"text":"bob@x.example"}}]}"#;
    for _ in 0..490 {
        lab.gate.asks.is(format!("{:?}", store::Act::Plan));
    }
    let mut told = String::new();
    for _ in 0..20 {
        let context = CallContext::unheard();
        context.cancelled.cancel();
        let call = ToolCall { tool: "lazaret__plan".parse().unwrap(), arguments: plan.to_owned() };
        told = lab.gate.call(call, context).await.unwrap_err().message;
    }
    assert!(told.contains("has asked people 500 times"), "{told}");
    let entries = lab.store.tail(1000, &Filter::default()).await.unwrap();
    let again = entries.iter().filter(|entry| matches!(entry.event, Event::AskedAgain { .. }));
    assert_eq!(again.count(), 9, "the first one asked, and the rest was refused");
}
