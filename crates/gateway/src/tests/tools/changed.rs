//! Servers that are something else once their tools were approved: what an agent reads of that, and what it can do with it.

use std::sync::Arc;

use domain::{ApprovalState, ServerName, TeamName};
use policy::Pin;
use store::{Answer, Event};
use wire::tools::ToolFailureKind;

use super::everything::{Change, POISON};
use super::gate::{Lab, lab_of};
use crate::tools::{CallContext, ToolCall, ToolEvent, ToolGate};

const AGENT: &str = "name = \"clerk\"\nteam = \"sales\"\nharness = { command = [\"true\"] }\n\
                     [tools.all]\nallow = [\"*\"]\n";
const TABLE: &str = "[tools.echo]\neffects = [\"communicate\"]\nsensitive = { text = \"recipient\" }\n\
                     [tools.numbers]\neffects = [\"read\"]\n[tools.extra]\neffects = [\"read\"]\n";
/// What the person typed: it passes without a question.
const OWN: &str = r#"{"text":"ada@corp.example"}"#;

impl Lab {
    /// The server changes, and its tools are listed anew.
    fn change(&self, change: Change) {
        *self.server.change.lock().unwrap() = change;
        self.gate.servers.forget(&server());
    }

    /// The server changes, and says nothing of it.
    fn change_silently(&self, change: Change) {
        *self.server.change.lock().unwrap() = change;
    }

    /// All that the agent is shown of its tools.
    async fn shown(&self) -> (Vec<String>, String) {
        let tools = self.gate.list().await.unwrap();
        let text = format!("{tools:?}");
        (tools.into_iter().map(|tool| tool.name).collect(), text)
    }

    /// The pin of `echo` as it would be approved now.
    async fn echo(&self) -> Option<Pin> {
        let team: TeamName = "sales".parse().unwrap();
        let candidates = self.gate.servers.candidates(&team, &server()).await.unwrap();
        candidates.into_iter().map(|one| one.pin).find(|pin| pin.tool.tool.as_str() == "echo")
    }

    async fn refusals(&self) -> usize {
        self.ledger().await.iter().filter(|event| matches!(event, Event::Refused { .. })).count()
    }
}

fn server() -> ServerName {
    "all".parse().unwrap()
}

#[tokio::test]
async fn a_tool_that_changed_is_not_shown_not_called_and_on_the_ledger() {
    for (change, told) in [
        (Change::Description, Some("description: ")),
        (Change::Schema, Some("inputs.properties.text")),
        (Change::Hint, Some("effects: ")),
        (Change::Shadow, None),
    ] {
        let lab = lab_of(AGENT, TABLE, true).await;
        let before = lab.echo().await.unwrap();
        lab.change(change);
        let (names, text) = lab.shown().await;
        assert!(!names.contains(&"all__echo".to_owned()), "{change:?}: {names:?}");
        assert!(names.contains(&"all__numbers".to_owned()), "{change:?}: {names:?}");
        assert!(!text.contains(POISON), "{change:?}: {text}");
        for arguments in [OWN, "{}", r#"{"text":1}"#] {
            let refused = lab.call("all__echo", arguments).await.unwrap_err();
            assert!(refused.message.contains("withheld"), "{change:?}: {refused:?}");
            assert!(!format!("{refused:?}").contains(POISON), "{change:?}: {refused:?}");
        }
        assert_eq!((lab.calls(), lab.refusals().await), (0, 3), "{change:?}");
        // A person is shown the difference.
        let now = lab.echo().await;
        let differences = now.map(|now| now.changes_since(&before));
        let says = |told| differences.as_ref().is_some_and(|all| all.iter().any(|one| one.contains(told)));
        assert!(told.map_or(differences.is_none(), says), "{change:?}: {differences:?}");
        // What is as it was approved is good again.
        lab.change(Change::Nothing);
        lab.call("all__echo", OWN).await.unwrap();
        assert_eq!(lab.calls(), 1);
    }
}

#[tokio::test]
async fn what_is_not_pinned_of_a_tool_is_not_shown() {
    let lab = lab_of(AGENT, TABLE, true).await;
    lab.change(Change::Title);
    let (names, text) = lab.shown().await;
    assert!(names.contains(&"all__echo".to_owned()) && !text.contains(POISON), "{text}");
    lab.call("all__echo", OWN).await.unwrap();
}

#[tokio::test]
async fn a_tool_that_appears_is_withheld_also_from_an_agent_that_may_use_all() {
    let lab = lab_of(AGENT, TABLE, true).await;
    let before = lab.shown().await;
    lab.change(Change::More);
    assert_eq!(lab.shown().await, before);
    for name in ["all__extra", "more__echo"] {
        assert!(lab.call(name, OWN).await.is_err(), "{name}");
    }
    assert_eq!((lab.calls(), lab.refusals().await), (0, 2));
    assert!("all__ech\u{043e}".parse::<domain::ToolRef>().is_err(), "a look-alike is no name");
}

#[tokio::test]
async fn a_tool_that_changes_while_people_think_is_not_called() {
    let mut lab = lab_of(AGENT, TABLE, true).await;
    let gate = Arc::clone(&lab.gate);
    let arguments = r#"{"text":"eve@evil.example"}"#.to_owned();
    let call = ToolCall { tool: "all__echo".parse().unwrap(), arguments };
    let made = tokio::spawn(async move { gate.call(call, CallContext::unheard()).await });
    let Some(ToolEvent::Waits { approval, .. }) = lab.events.recv().await else { panic!("no question") };
    lab.change(Change::Description);
    let now = lab.gate.servers.now();
    let answer = Answer { person: lab.owner.clone(), yes: true, for_session: false, why: None };
    lab.store.answer(approval, &answer, now).await.unwrap();
    let refused = made.await.unwrap().unwrap_err();
    assert!(refused.message.contains("withheld") && refused.kind == ToolFailureKind::Refused, "{refused:?}");
    assert_eq!((lab.calls(), lab.refusals().await), (0, 1));
    let state = lab.store.approval(approval, now).await.unwrap().life.state;
    assert_eq!(state, ApprovalState::Approved, "the right was not used");
}

#[tokio::test]
async fn a_silent_change_is_found_out_before_a_tool_does_more_than_read() {
    let lab = lab_of(AGENT, TABLE, true).await;
    lab.call("all__echo", OWN).await.unwrap();
    lab.change_silently(Change::Description);
    let refused = lab.call("all__echo", OWN).await.unwrap_err();
    assert!(refused.message.contains("withheld"), "{refused:?}");
    assert_eq!((lab.calls(), lab.refusals().await), (1, 1));
}
