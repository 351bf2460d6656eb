//! The deciding gate against a real tool server and a real store: what is asked, what an answer is worth, and what is on
//! the ledger.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use domain::{AgentFile, AgentName, ApprovalState, Labels, PersonName, ServerName, TeamName};
use futures::future::BoxFuture;
use policy::{AgentPolicy, Seen, Sources, Table, Text};
use store::{About, Answer, Event, Filter, Keeper, Place, Private, Store};
use tokio::sync::{mpsc, watch};
use wire::tools::{ToolFailure, ToolFailureKind, ToolResult};

use super::everything::Everything;
use crate::tools::upstream::{Upstream, UpstreamLimits};
use crate::tools::{
    Authors, CallContext, Connector, Servers, Session, SessionGate, ToolCall, ToolEvent, ToolGate,
};

pub(super) const NOW: u64 = 1_795_000_000_000;

fn now() -> u64 {
    NOW
}

struct Near(Everything);

impl Connector for Near {
    fn connect<'s>(
        &'s self,
        _team: &'s TeamName,
        _server: &'s ServerName,
    ) -> BoxFuture<'s, Result<Upstream, ToolFailure>> {
        Box::pin(async { Upstream::over_stream(self.0.over_stream(), UpstreamLimits::default()).await })
    }
}

const AGENT: &str = "name = \"clerk\"\nteam = \"sales\"\nharness = { command = [\"true\"] }\n\
                     [tools.all]\nallow = [\"echo\", \"numbers\", \"fails\"]\nask = [\"picture\"]\ndeny = [\"slow\"]\n";
const TABLE: &str = "[tools.echo]\neffects = [\"communicate\"]\nsensitive = { text = \"recipient\" }\n\
                     [tools.numbers]\neffects = [\"read\"]\n[tools.picture]\neffects = [\"read\"]\n\
                     [tools.fails]\neffects = [\"read\"]\n";

pub(super) struct Lab {
    pub(super) server: Everything,
    pub(super) store: Store,
    pub(super) gate: Arc<SessionGate>,
    pub(super) events: mpsc::Receiver<ToolEvent>,
    pub(super) owner: PersonName,
    policy: watch::Sender<Arc<AgentPolicy>>,
    _folder: tempfile::TempDir,
}

pub(super) async fn lab(pinned: bool) -> Lab {
    lab_of(AGENT, TABLE, pinned).await
}

/// The gate of this agent, whose server has this table.
pub(super) async fn lab_of(agent: &str, table: &str, pinned: bool) -> Lab {
    lab_under(agent, table, None, pinned).await
}

/// The same, with this policy beside the agent.
pub(super) async fn lab_under(agent: &str, table: &str, own: Option<&str>, pinned: bool) -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::File(folder.path().join("store/store.db"));
    let store = Store::open(&place, &folder.path().join("store/store.key"), Arc::new(crate::tests::random))
        .await
        .unwrap();
    let owner: PersonName = "ada".parse().unwrap();
    store.install_owner(&owner, 1000, NOW).await.unwrap();
    let server = Everything::default();
    let servers =
        Servers::new(store.clone(), Arc::new(crate::tests::random), now, Arc::new(Near(server.clone())));
    let all: ServerName = "all".parse().unwrap();
    servers.classify(BTreeMap::from([(all.clone(), Arc::new(Table::parse(table).unwrap()))]));
    let file = AgentFile::parse(agent).unwrap();
    if pinned {
        let candidates = servers.candidates(&file.team, &all).await.unwrap();
        let pins = candidates.into_iter().map(|one| (one.pin.tool, one.digest)).collect();
        store.pin(&file.name, &pins, &owner, NOW).await.unwrap();
    }
    let (told, policy) = watch::channel(compiled(&servers, agent, own).await);
    let mut seen = Seen::new([7; 32]);
    seen.person("Please tell ada@corp.example that I am late.");
    let session = domain::SessionId::from_parts(NOW, 1);
    let about = About { agent: Some(file.name.clone()), team: Some(file.team), session: Some(session) };
    let session = Session {
        about,
        by: Authors::new(Some(owner.clone())),
        disk: Some(Keeper::Disk(file.name)),
        tokens_per_day: 0,
        usd_per_day: None,
    };
    let (sender, events) = mpsc::channel(8);
    let gate = SessionGate::open(Arc::new(servers), session, policy, seen, sender).await.unwrap();
    Lab { server, store, gate: Arc::new(gate), events, owner, policy: told, _folder: folder }
}

async fn compiled(servers: &Servers, agent: &str, own: Option<&str>) -> Arc<AgentPolicy> {
    let file = AgentFile::parse(agent).unwrap();
    let tools = servers.known(&file.name, &file.team, &"all".parse().unwrap()).await.unwrap();
    let sources = Sources {
        agent: &file,
        file: "agent.toml",
        own: own.map(|text| Text { name: "policy.cedar", text }),
        organisation: &[],
        tools: &tools,
        models: &[],
    };
    Arc::new(AgentPolicy::compile(&sources).unwrap())
}

impl Lab {
    /// The agent's files are these now.
    pub(super) async fn applies(&self, agent: &str, own: Option<&str>) {
        self.policy.send_replace(compiled(&self.gate.servers, agent, own).await);
    }

    pub(super) async fn call(&self, tool: &str, arguments: &str) -> Result<ToolResult, ToolFailure> {
        let call = ToolCall { tool: tool.parse().unwrap(), arguments: arguments.to_owned() };
        self.gate.call(call, CallContext::unheard()).await
    }

    /// Makes a call, and answers the question that it leads to.
    pub(super) async fn call_answered(
        &mut self,
        tool: &str,
        arguments: &str,
        yes: bool,
    ) -> Result<ToolResult, ToolFailure> {
        let made = self.made(tool, arguments);
        let Some(ToolEvent::Waits { approval, .. }) = self.events.recv().await else { panic!("no question") };
        assert_eq!(self.calls(), 0, "it acted before anybody said yes");
        let why = Some(Private::new("we don't know them".to_owned()));
        let answer = Answer { person: self.owner.clone(), yes, for_session: false, why };
        self.store.answer(approval, &answer, NOW).await.unwrap();
        // A second click does nothing.
        assert!(self.store.answer(approval, &answer, NOW).await.is_err());
        let result = made.await.unwrap();
        let state = self.store.approval(approval, NOW).await.unwrap().life.state;
        assert_eq!(state, if yes { ApprovalState::Consumed } else { ApprovalState::Denied });
        result
    }

    /// Begins a call.
    pub(super) fn made(
        &self,
        tool: &str,
        arguments: &str,
    ) -> tokio::task::JoinHandle<Result<ToolResult, ToolFailure>> {
        let gate = Arc::clone(&self.gate);
        let call = ToolCall { tool: tool.parse().unwrap(), arguments: arguments.to_owned() };
        tokio::spawn(async move { gate.call(call, CallContext::unheard()).await })
    }

    pub(super) fn calls(&self) -> usize {
        self.server.calls.load(Ordering::SeqCst)
    }

    pub(super) async fn ledger(&self) -> Vec<Event> {
        self.store.tail(100, &Filter::default()).await.unwrap().into_iter().map(|entry| entry.event).collect()
    }
}

#[tokio::test]
async fn what_the_person_said_passes_and_is_on_the_ledger_once() {
    let lab = lab(true).await;
    lab.call("all__echo", r#"{"text":"ada@corp.example"}"#).await.unwrap();
    assert_eq!(lab.calls(), 1);
    let ledger = lab.ledger().await;
    let count = |is: fn(&Event) -> bool| ledger.iter().filter(|event| is(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Committed { .. })), 1);
    assert_eq!(count(|event| matches!(event, Event::Ended { .. })), 1);
    assert!(lab.store.unfinished().await.unwrap().is_empty());
    assert!(lab.store.verify(None).await.is_ok());
}

#[tokio::test]
async fn a_strangers_address_asks_and_a_yes_is_good_for_exactly_one_call() {
    let mut lab = lab(true).await;
    let arguments = r#"{"text":"eve@evil.example"}"#;
    let result = lab.call_answered("all__echo", arguments, true).await.unwrap();
    assert!(!result.is_error);
    assert_eq!(lab.calls(), 1);
    // The same again is another question.
    let gate = Arc::clone(&lab.gate);
    let call = ToolCall { tool: "all__echo".parse().unwrap(), arguments: arguments.to_owned() };
    let context = CallContext::unheard();
    let cancelled = context.cancelled.clone();
    let made = tokio::spawn(async move { gate.call(call, context).await });
    let Some(ToolEvent::Waits { .. }) = lab.events.recv().await else { panic!("no question") };
    cancelled.cancel();
    assert_eq!(made.await.unwrap().unwrap_err().kind, ToolFailureKind::Waiting);
    assert_eq!(lab.calls(), 1);
}

#[tokio::test]
async fn whoever_told_the_session_something_does_not_answer_what_it_asks() {
    let agent = format!("{AGENT}[approvals]\nexclude_author = true\n");
    let mut lab = lab_of(&agent, TABLE, true).await;
    let people = ["bob", "cleo"].map(|name| name.parse::<PersonName>().unwrap());
    for name in people.clone() {
        let person = store::Person { name, uid: None, role: domain::Role::Owner };
        lab.store.put_person(&person, &lab.owner, NOW).await.unwrap();
    }
    let [bob, cleo] = people;
    lab.gate.session.by.join(bob.clone());
    let made = lab.made("all__echo", r#"{"text":"eve@evil.example"}"#);
    let Some(ToolEvent::Waits { approval, .. }) = lab.events.recv().await else { panic!("no question") };
    let yes =
        |person: &PersonName| Answer { person: person.clone(), yes: true, for_session: false, why: None };
    for author in [&lab.owner, &bob] {
        let told = lab.store.answer(approval, &yes(author), NOW).await.unwrap_err().to_string();
        assert!(told.contains("wrote the prompt or told the session something since"), "{told}");
    }
    assert_eq!(lab.calls(), 0);
    lab.store.answer(approval, &yes(&cleo), NOW).await.unwrap();
    assert!(!made.await.unwrap().unwrap().is_error);
    assert_eq!(lab.calls(), 1);
}

#[tokio::test]
async fn a_yes_for_the_session_ends_when_somebody_else_tells_it_something() {
    let agent = format!("{AGENT}[approvals]\nexclude_author = true\n");
    let mut lab = lab_of(&agent, NOTES, true).await;
    let bob: PersonName = "bob".parse().unwrap();
    let person = store::Person { name: bob.clone(), uid: None, role: domain::Role::Owner };
    lab.store.put_person(&person, &lab.owner, NOW).await.unwrap();
    let made = lab.made("all__echo", r#"{"text":"milk"}"#);
    let Some(ToolEvent::Waits { approval, .. }) = lab.events.recv().await else { panic!("no question") };
    let answer = Answer { person: bob.clone(), yes: true, for_session: true, why: None };
    lab.store.answer(approval, &answer, NOW).await.unwrap();
    made.await.unwrap().unwrap();
    lab.call("all__echo", r#"{"text":"bread"}"#).await.unwrap();
    // Now it would be bob who lets through what bob had it do.
    lab.gate.session.by.join(bob);
    let refused = lab.call("all__echo", r#"{"text":"salt"}"#).await.unwrap_err();
    assert!(refused.message.contains("has 0 who could"), "{refused:?}");
    assert_eq!(lab.calls(), 2);
}

#[tokio::test]
async fn a_no_is_told_with_its_reason_and_nothing_is_done() {
    let mut lab = lab(true).await;
    let failure = lab.call_answered("all__echo", r#"{"text":"eve@evil.example"}"#, false).await.unwrap_err();
    assert_eq!(failure.kind, ToolFailureKind::Refused);
    assert!(failure.message.contains("we don't know them"), "{}", failure.message);
    assert_eq!(lab.calls(), 0);
}

const NOTES: &str = "[tools.echo]\neffects = [\"write\"]\ncontent = [\"text\"]\nresults = { \"\" = \"person\" }\n\
                     [tools.numbers]\neffects = [\"read\"]\n[tools.picture]\neffects = [\"read\"]\n\
                     [tools.fails]\neffects = [\"write\"]\ncontent = [\"text\"]\n";

#[tokio::test]
async fn a_yes_for_the_session_is_good_for_any_text_until_the_labels_rise() {
    let mut lab = lab_of(AGENT, NOTES, true).await;
    let made = lab.made("all__echo", r#"{"text":"milk"}"#);
    let Some(ToolEvent::Waits { approval, .. }) = lab.events.recv().await else { panic!("no question") };
    let shown = lab.store.approval(approval, NOW).await.unwrap().shown.unwrap();
    assert!(shown.consequences.iter().any(|told| told.contains("with any text in `text`")), "{shown:?}");
    let answer = Answer { person: lab.owner.clone(), yes: true, for_session: true, why: None };
    lab.store.answer(approval, &answer, NOW).await.unwrap();
    made.await.unwrap().unwrap();
    assert_eq!(lab.store.approval(approval, NOW).await.unwrap().life.state, ApprovalState::Consumed);
    for text in ["bread", "milk", "salt"] {
        lab.call("all__echo", &format!(r#"{{"text":"{text}"}}"#)).await.unwrap();
    }
    assert_eq!(lab.calls(), 4);
    // Another tool, and the same tool once the session has met more, are asked about.
    let other = lab.made("all__fails", r#"{"text":"milk"}"#);
    assert!(matches!(lab.events.recv().await, Some(ToolEvent::Waits { .. })));
    other.abort();
    lab.call("all__numbers", "{}").await.unwrap();
    let again = lab.made("all__echo", r#"{"text":"eggs"}"#);
    assert!(matches!(lab.events.recv().await, Some(ToolEvent::Waits { .. })));
    again.abort();
    assert_eq!(lab.calls(), 5);
    lab.gate.end().await.unwrap();
    assert!(lab.ledger().await.iter().any(|event| matches!(event, Event::GrantsEnded { count: 1, .. })));
}

/// Whoever is refused in a loop fills no ledger.
#[tokio::test]
async fn of_many_refusals_a_few_are_written_and_of_their_arguments_the_begin() {
    let lab = lab(true).await;
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(100_000));
    for tool in ["all__slow", "all__nothing", "other__tool"] {
        for _ in 0..100 {
            assert!(lab.call(tool, &long).await.is_err());
        }
    }
    let entries = lab.store.tail(1000, &Filter::default()).await.unwrap();
    let refused = |event: &Event| matches!(event, Event::Refused { .. } | Event::Decided { .. });
    let refused: Vec<_> = entries.iter().filter(|entry| refused(&entry.event)).collect();
    // Those of a tool that there is, and those of all names that the agent makes up.
    assert_eq!(refused.len(), 2 * 64);
    for entry in refused {
        let store::Sealed::Open(kept) = &entry.sealed else { panic!("{entry:?}") };
        assert!(kept.reveal().len() < 10_000);
    }
    let day = u32::try_from(NOW / 86_400_000).unwrap();
    assert_eq!(lab.store.used("agent:clerk/kept", day).await.unwrap(), 0);
    lab.call("all__numbers", "{}").await.unwrap();
    assert_eq!(lab.store.used("agent:clerk/kept", day).await.unwrap(), (1 << 10) + 2);
}

#[tokio::test]
async fn what_is_not_pinned_denied_unlisted_or_does_not_fit_its_schema_is_refused() {
    let unpinned = lab(false).await;
    assert!(unpinned.call("all__numbers", "{}").await.is_err());
    assert_eq!(unpinned.calls(), 0);
    let lab = lab(true).await;
    for (tool, arguments) in [
        ("all__slow", "{}"),
        ("all__count", "{}"),
        ("all__nosuch", "{}"),
        ("other__echo", "{}"),
        ("all__echo", "{}"),
        ("all__echo", r#"{"text":1}"#),
        ("all__echo", r#"{"text":{"a":"b"}}"#),
        ("all__echo", "[]"),
    ] {
        assert!(lab.call(tool, arguments).await.is_err(), "{tool} {arguments}");
    }
    assert_eq!(lab.calls(), 0);
    let names: Vec<String> = lab.gate.list().await.unwrap().into_iter().map(|tool| tool.name).collect();
    assert!(!names.contains(&"all__slow".to_owned()), "{names:?}");
    assert!(
        names.contains(&"lazaret__plan".to_owned()) && names.contains(&"all__numbers".to_owned()),
        "{names:?}"
    );
}

#[tokio::test]
async fn labels_rise_with_results_and_stay_with_the_agents_disk() {
    let lab = lab(true).await;
    let agent: AgentName = "clerk".parse().unwrap();
    assert_eq!(lab.store.labels(&Keeper::Disk(agent.clone())).await.unwrap(), Labels::default());
    lab.call("all__numbers", "{}").await.unwrap();
    let labels = lab.store.labels(&Keeper::Disk(agent)).await.unwrap();
    assert!(labels.met_strangers() && labels.holds_confidential(), "{labels}");
}

#[tokio::test]
async fn a_call_that_fails_at_its_server_has_that_outcome() {
    let lab = lab(true).await;
    assert!(lab.call("all__fails", "{}").await.unwrap().is_error);
    let ended = lab.ledger().await.into_iter().find_map(|event| {
        let Event::Ended { outcome, .. } = event else { return None };
        Some(outcome)
    });
    assert!(matches!(ended, Some(store::Outcome::Failed { .. })), "{ended:?}");
}

#[tokio::test]
async fn a_policy_may_count_the_calls_of_a_day() {
    // Spelled so that no search for the word finds it in the text.
    let twice = r#"forbid (principal, action, resource) when { context["calls\u{5f}today"] >= 2 };"#;
    let lab = lab_under(AGENT, TABLE, Some(twice), true).await;
    for _ in 0..2 {
        lab.call("all__numbers", "{}").await.unwrap();
    }
    let failure = lab.call("all__numbers", "{}").await.unwrap_err();
    assert!(failure.message.contains("policy.cedar:1"), "{}", failure.message);
    assert_eq!(lab.calls(), 2);
}

/// As many as there are connections to the door: none of them is done before the last one is asked for.
#[tokio::test]
async fn calls_at_once_do_not_pass_what_a_policy_counts_together() {
    for counted in ["calls", "calls_today"] {
        let once = format!("forbid (principal, action, resource) when {{ context.{counted} > 0 }};");
        let lab = lab_under(AGENT, TABLE, Some(&once), true).await;
        let state = lab.gate.state.lock().await;
        let made: Vec<_> = (0..16).map(|_| lab.made("all__numbers", "{}")).collect();
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
        drop(state);
        let mut refused = 0;
        for made in made {
            refused += usize::from(made.await.unwrap().is_err());
        }
        assert_eq!((lab.calls(), refused), (1, 15), "{counted}");
    }
}

#[tokio::test]
async fn what_waits_for_people_keeps_no_other_call_waiting() {
    let many = "forbid (principal, action, resource) when { context.calls > 1 };";
    let mut lab = lab_under(AGENT, TABLE, Some(many), true).await;
    let arguments = r#"{"text":"eve@evil.example"}"#;
    let waits = lab.made("all__echo", arguments);
    assert!(matches!(lab.events.recv().await, Some(ToolEvent::Waits { .. })));
    for _ in 0..2 {
        lab.call("all__echo", r#"{"text":"ada@corp.example"}"#).await.unwrap();
    }
    assert!(lab.call("all__echo", r#"{"text":"ada@corp.example"}"#).await.is_err());
    waits.abort();
}

#[tokio::test]
async fn an_agent_whose_calls_break_a_teams_connection_may_call_no_more_and_the_others_may() {
    let agent = AGENT.replace("deny = [\"slow\"]\n", "").replace("\"fails\"", "\"slow\"");
    let lab = lab_of(&agent, &format!("{TABLE}[tools.slow]\neffects = [\"read\"]\n"), true).await;
    lab.server.breaks.store(true, Ordering::SeqCst);
    // Of those who call when it breaks, one is blamed.
    let waits = lab.made("all__slow", "{}");
    lab.server.begun.notified().await;
    assert!(lab.call("all__numbers", "{}").await.is_err());
    assert!(waits.await.unwrap().is_err());
    let mut told = Vec::new();
    while told.len() < 25 && !told.last().is_some_and(|told: &String| told.contains("too often")) {
        told.push(lab.call("all__numbers", "{}").await.unwrap_err().message);
    }
    assert_eq!(told.len(), 20, "{told:?}");
    assert_eq!(
        told.pop().unwrap(),
        "this agent's calls broke the connection to tool server all too often within this hour"
    );

    lab.server.breaks.store(false, Ordering::SeqCst);
    assert!(lab.call("all__numbers", "{}").await.is_err());
    let (team, all) = ("sales".parse().unwrap(), "all".parse().unwrap());
    lab.gate.servers.catalogue(&team, &all).await.unwrap();
    // Whoever changes the server's entry begins anew.
    lab.gate.servers.forget(&all);
    lab.call("all__numbers", "{}").await.unwrap();
}
