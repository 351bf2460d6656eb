//! Resources and prompts through the deciding gate: what an agent may read, what that brings, and what is on the ledger.

use domain::{Confidentiality, Integrity, SessionId};
use store::{Act, Event, Filter, Keeper};
use wire::tools::{ResourceBody, ToolFailureKind};

use super::gate::{Lab, lab_of};
use crate::tools::ToolGate;

const AGENT: &str = "name = \"clerk\"\nharness = { command = [\"true\"] }\n[tools.all]\n\
                     allow = [\"echo\", \"resources-read\", \"prompts-get\"]\n";
const TABLE: &str = "[tools.echo]\neffects = [\"read\"]\n";
/// The same, where a person has said that reading is harmless whatever is asked for.
const CLASSIFIED: &str = "[tools.echo]\neffects = [\"read\"]\n[tools.resources-read]\neffects = [\"read\"]\n\
                          [tools.prompts-get]\neffects = [\"read\"]\n";

async fn acts(lab: &Lab) -> Vec<String> {
    let entries = lab.store.tail(100, &Filter::default()).await.unwrap();
    let act = |event: Event| {
        if let Event::Committed { act: Act::Tool(tool), .. } = &event {
            return Some(tool.to_string());
        }
        let Event::Refused { act: Act::Tool(tool), .. } = event else { return None };
        Some(format!("refused {tool}"))
    };
    entries.into_iter().filter_map(|entry| act(entry.event)).collect()
}

#[tokio::test]
async fn what_is_listed_is_read_labelled_and_on_the_ledger() {
    let lab = lab_of(AGENT, TABLE, true).await;
    let listed = lab.gate.resources().await.unwrap();
    assert_eq!(listed.iter().map(|one| one.uri.as_str()).collect::<Vec<_>>(), ["all+file:///x"]);
    // To see the list is to have met what the server says.
    let session = Keeper::Session(SessionId::from_parts(1_795_000_000_000, 1));
    let labels = lab.store.labels(&session).await.unwrap();
    assert_eq!((labels.confidentiality, labels.integrity), (Confidentiality::Confidential, Integrity::Web));
    let contents = lab.gate.read("all+file:///x".to_owned()).await.unwrap();
    assert_eq!(contents[0].uri, "all+file:///x");
    assert_eq!(contents[0].body, ResourceBody::Text("in x".to_owned()));
    let prompts = lab.gate.prompts().await.unwrap();
    assert_eq!((prompts[0].name.as_str(), prompts[0].description.as_deref()), ("all__greet", None));
    let prompt = lab.gate.prompt("all__greet".to_owned(), Vec::new()).await.unwrap();
    assert_eq!(prompt.messages.len(), 1);
    assert_eq!(acts(&lab).await, ["all__resources-read", "all__prompts-get"]);
    // They are no tools.
    let names: Vec<String> = lab.gate.list().await.unwrap().into_iter().map(|tool| tool.name).collect();
    assert_eq!(names, ["lazaret__plan", "all__echo"]);
    let called = lab.call("all__resources-read", r#"{"uri":"file:///x"}"#).await;
    assert!(called.unwrap_err().message.contains("no tool"));
}

#[tokio::test]
async fn what_is_not_listed_or_takes_the_agents_words_waits_for_a_persons_table() {
    let lab = lab_of(AGENT, TABLE, true).await;
    assert!(lab.gate.templates().await.unwrap().is_empty());
    for uri in ["all+file:///y", "all+https://evil.example/?q=secret"] {
        let refused = lab.gate.read(uri.to_owned()).await.unwrap_err();
        assert_eq!(refused.kind, ToolFailureKind::Refused);
        assert!(refused.message.contains("nobody has classified `resources-read`"), "{}", refused.message);
    }
    let words = vec![("name".to_owned(), "secret".to_owned())];
    assert!(lab.gate.prompt("all__greet".to_owned(), words.clone()).await.is_err());
    for uri in ["file:///x", "other+file:///x", "", "+", "ALL+x"] {
        assert!(lab.gate.read(uri.to_owned()).await.is_err(), "{uri}");
    }
    let lab = lab_of(AGENT, CLASSIFIED, true).await;
    let failed = lab.gate.read("all+file:///y".to_owned()).await.unwrap_err();
    assert!(failed.message.contains("no such file"), "the server was asked: {}", failed.message);
    let prompt = lab.gate.prompt("all__greet".to_owned(), words).await.unwrap();
    assert_eq!(prompt.messages.len(), 1);
}

#[tokio::test]
async fn an_agent_that_was_given_only_tools_reads_nothing() {
    let agent = AGENT.replace(", \"resources-read\", \"prompts-get\"", "");
    let lab = lab_of(&agent, CLASSIFIED, true).await;
    assert!(lab.gate.resources().await.unwrap().is_empty() && lab.gate.prompts().await.unwrap().is_empty());
    assert!(lab.gate.read("all+file:///x".to_owned()).await.is_err());
    assert!(lab.gate.prompt("all__greet".to_owned(), Vec::new()).await.is_err());
    assert_eq!(acts(&lab).await, ["refused all__resources-read", "refused all__prompts-get"]);
    // Nor does one whose pins nobody approved.
    let lab = lab_of(AGENT, CLASSIFIED, false).await;
    assert!(lab.gate.read("all+file:///x".to_owned()).await.is_err());
}
