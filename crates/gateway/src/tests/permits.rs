//! A model call's permit: what it needs, what it leaves on the ledger, and how it is withdrawn.

use std::collections::BTreeMap;

use domain::{AgentFile, Confidentiality, Integrity, Labels, ServerName, TeamName, UsdMicros};
use futures::future::BoxFuture;
use policy::{AgentPolicy, KnownModel, Seen, Sources, Text};
use store::{About, Act, Event, Filter, Outcome, Place, Store, Verdict};
use tokio::sync::watch;
use wire::tools::{ToolFailure, ToolFailureKind};

use super::*;
use crate::model_gate::AtWorst;
use crate::tools::upstream::Upstream;
use crate::tools::{Authors, Connector, Servers, Session, SessionGate};
use crate::{Price, Prices};

const NOW: u64 = 1_795_000_000_000;

const AGENT: &str = "name = \"clerk\"\nteam = \"sales\"\nharness = { command = [\"true\"] }\n\
                     models = [\"scripted/reviewer\", \"elsewhere/reviewer2\"]\n";

pub(super) struct Nowhere;

impl Connector for Nowhere {
    fn connect<'s>(
        &'s self,
        _team: &'s TeamName,
        server: &'s ServerName,
    ) -> BoxFuture<'s, Result<Upstream, ToolFailure>> {
        let none = format!("there is no tool server {server}");
        Box::pin(async { Err(ToolFailure::new(ToolFailureKind::NotFound, none)) })
    }
}

/// The gate of an agent without tools, and where it keeps its ledger.
pub(super) struct Kept {
    pub(super) gate: Arc<SessionGate>,
    store: Store,
    policy: watch::Sender<Arc<AgentPolicy>>,
    _folder: tempfile::TempDir,
}

fn compile(own: Option<&str>) -> Arc<AgentPolicy> {
    let agent = AgentFile::parse(AGENT).unwrap();
    let clearance = Confidentiality::Confidential;
    let models: Vec<KnownModel> =
        agent.models.iter().map(|model| KnownModel { model: model.clone(), clearance }).collect();
    let own = own.map(|text| Text { name: "policy.cedar", text });
    let from =
        Sources { agent: &agent, file: "agent.toml", own, organisation: &[], tools: &[], models: &models };
    Arc::new(AgentPolicy::compile(&from).unwrap())
}

impl Kept {
    pub(super) async fn open(tokens_per_day: u64) -> Self {
        Self::limited(tokens_per_day, None).await
    }

    async fn limited(tokens_per_day: u64, usd_per_day: Option<UsdMicros>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::File(folder.path().join("store/store.db"));
        let key = folder.path().join("store/store.key");
        let store = Store::open(&place, &key, Arc::new(super::random)).await.unwrap();
        let servers = Servers::new(store.clone(), Arc::new(super::random), || NOW, Arc::new(Nowhere));
        let file = AgentFile::parse(AGENT).unwrap();
        let session = domain::SessionId::from_parts(NOW, 1);
        let about = About { agent: Some(file.name), team: Some(file.team), session: Some(session) };
        let session = Session { about, by: Authors::default(), disk: None, tokens_per_day, usd_per_day };
        let (policy, told) = watch::channel(compile(None));
        let (events, _) = mpsc::channel(8);
        let gate = SessionGate::open(Arc::new(servers), session, told, Seen::new([7; 32]), events).await;
        Self { gate: Arc::new(gate.unwrap()), store, policy, _folder: folder }
    }

    pub(super) async fn ledger(&self) -> Vec<Event> {
        self.store.verify(None).await.unwrap();
        self.store.tail(100, &Filter::default()).await.unwrap().into_iter().map(|entry| entry.event).collect()
    }

    async fn holds_secrets(&self) {
        let labels = Labels { confidentiality: Confidentiality::Secret, ..Labels::default() };
        self.gate.met(&labels).await.unwrap();
    }
}

#[tokio::test]
async fn every_model_call_is_committed_to_before_it_is_made_and_its_end_is_recorded() {
    let rig = Rig::new(1_000_000).await;
    assert_eq!(status(&rig.ask(anthropic()).await), 200);
    let ledger = rig.kept.ledger().await;
    let model = "scripted/reviewer".parse().unwrap();
    let committed = ledger.iter().find_map(|event| {
        let Event::Committed { commit, act: Act::Model(name), reasons, reserved, .. } = event else {
            return None;
        };
        assert_eq!(*name, model);
        assert!(reasons[0].starts_with("agent.toml, ") && reasons[0].contains("`models`"), "{reasons:?}");
        assert_eq!(reserved.len(), 3, "a call, its tokens at worst, and its entries: {reserved:?}");
        Some(*commit)
    });
    let ended = ledger.iter().find_map(|event| {
        let Event::Ended { commit, outcome, spent } = event else { return None };
        Some((*commit, outcome.clone(), spent.clone()))
    });
    let (commit, outcome, spent) = ended.unwrap();
    assert_eq!((Some(commit), outcome), (committed, Outcome::Done));
    assert_eq!(spent[0].amount, rig.session.budget.used(), "what it didn't use is given back");
    let used = rig.kept.store.used("agent:clerk/tokens", 20_775).await.unwrap();
    assert_eq!(used, rig.session.budget.used());
    assert!(ledger.iter().any(|event| matches!(event, Event::ModelCalled { ok: true, .. })));
    assert!(rig.kept.store.unfinished().await.unwrap().is_empty());
    // Counted in the store, so for all sessions of the agent.
    let calls = format!("agent:clerk/calls/{model}");
    assert_eq!(rig.kept.store.used(&calls, 20_775).await.unwrap(), 1);
}

#[tokio::test]
async fn models_asked_at_once_do_not_pass_what_a_policy_counts_together() {
    for counted in ["calls", "calls_today"] {
        let kept = Kept::open(1_000_000).await;
        let once = format!("forbid (principal, action, resource) when {{ context.{counted} > 0 }};");
        kept.policy.send_replace(compile(Some(&once)));
        let state = kept.gate.state.lock().await;
        let ask = || {
            let gate = Arc::clone(&kept.gate);
            let at_worst = AtWorst { tokens: 1, cost: None };
            let model = "scripted/reviewer".parse().unwrap();
            tokio::spawn(async move { gate.permit_model(&model, at_worst).await.is_ok() })
        };
        let asked: Vec<_> = (0..16).map(|_| ask()).collect();
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
        drop(state);
        let mut permitted = 0;
        for asked in asked {
            permitted += usize::from(asked.await.unwrap());
        }
        assert_eq!(permitted, 1, "{counted}");
    }
}

/// Whoever asks models in a loop fills no ledger, whether they are refused or not.
#[tokio::test]
async fn models_asked_in_a_loop_fill_no_ledger() {
    let (model, elsewhere) = ("scripted/reviewer".parse().unwrap(), "elsewhere/reviewer2".parse().unwrap());
    let kept = Kept::open(500).await;
    let at_worst = |tokens| AtWorst { tokens, cost: None };
    // More than the day has, and then what policy denies.
    for tokens in [501, 1] {
        for _ in 0..200 {
            assert!(kept.gate.permit_model(&model, at_worst(tokens)).await.is_err());
            assert!(kept.gate.permit_model(&elsewhere, at_worst(tokens)).await.is_err());
        }
        kept.holds_secrets().await;
    }
    let ledger = kept.store.tail(1000, &Filter::default()).await.unwrap();
    let count = |of: fn(&Event) -> bool| ledger.iter().filter(|entry| of(&entry.event)).count();
    assert_eq!(count(|event| matches!(event, Event::CommitRefused { .. })), 2 * 64);
    assert_eq!(count(|event| matches!(event, Event::Decided { .. })), 2 * 64);
}

#[tokio::test]
async fn what_costs_no_tokens_takes_of_the_room_on_the_ledger_and_ends_with_it() {
    let mut rig = Rig::new(1_000_000).await;
    let count = r#"{"model":"reviewer","messages":[{"role":"user","content":"Review."}]}"#;
    let count = || request(Dialect::AnthropicCountTokens, count);
    for _ in 0..3 {
        assert_eq!(status(&rig.ask(count()).await), 200);
        rig.events().await;
    }
    let budget = "agent:clerk/kept".to_owned();
    assert_eq!(rig.kept.store.used(&budget, 20_775).await.unwrap(), 3 * 2048);
    let reserve = store::Reserved { budget, day: 20_775, amount: (1 << 30) - 4 * 2048 };
    let fills = store::Commit {
        id: domain::CommitId::from_parts(NOW, 1),
        about: rig.kept.gate.session.about.clone(),
        act: Act::Model("scripted/reviewer".parse().unwrap()),
        binding: domain::Digest::from_bytes([0; 32]),
        by_right: store::ByRight::Policy,
        reasons: Vec::new(),
        labels: Labels::default(),
        spend: vec![store::Spend { reserve, limit: 1 << 30 }],
        idempotent: false,
        arguments: store::Private::new(String::new()),
        also: Vec::new(),
    };
    rig.kept.store.commit(&fills, NOW).await.unwrap();
    assert_eq!(status(&rig.ask(count()).await), 200);
    rig.events().await;
    let before = rig.kept.ledger().await.len();
    for _ in 0..30 {
        let failure = rig.failure(count()).await;
        assert_eq!(failure.kind, FailureKind::LimitReached);
        assert!(failure.message.contains("1024 MiB on the ledger today"), "{}", failure.message);
        rig.events().await;
    }
    assert_eq!((rig.kept.ledger().await.len(), rig.model.recorded().len()), (before + 1, 4));
}

#[tokio::test]
async fn a_call_is_not_withdrawn_because_it_is_counted_itself() {
    let kept = Kept::open(1_000_000).await;
    kept.policy
        .send_replace(compile(Some("forbid (principal, action, resource) when { context.calls > 0 };")));
    let model = "scripted/reviewer".parse().unwrap();
    let mut changes = kept.gate.changes();
    let permitted = kept.gate.permit_model(&model, AtWorst { tokens: 1, cost: None }).await.unwrap();
    let mut withdrawn = std::pin::pin!(kept.gate.model_withdrawn((&model, permitted.1), &mut changes));
    assert!(futures::poll!(&mut withdrawn).is_pending());
    kept.gate.met(&Labels { integrity: Integrity::Web, ..Labels::default() }).await.unwrap();
    assert!(futures::poll!(&mut withdrawn).is_pending());
    kept.holds_secrets().await;
    assert!(withdrawn.await.contains("clearance"));
}

#[tokio::test]
async fn the_tokens_of_a_day_end_for_all_sessions_of_the_agent() {
    let kept = Kept::open(500).await;
    let mut rig = Rig::kept_by(kept, 1_000_000, Credential::ApiKey(KEY.into()), quick()).await;
    let failure = rig.failure(anthropic()).await;
    assert_eq!(failure.kind, FailureKind::LimitReached);
    assert!(failure.message.contains("tokens of the day: 500 of 500 are left"), "{}", failure.message);
    assert!(rig.model.recorded().is_empty());
    assert!(matches!(rig.events().await[0], ModelEvent::DayLimitReached { .. }));
    assert!(rig.kept.ledger().await.iter().any(|event| matches!(event, Event::CommitRefused { .. })));
}

/// A rig whose agent may spend so much a day, with a model of a price.
async fn spending(dollars: f64, priced: bool) -> Rig {
    let kept = Kept::limited(1_000_000_000, UsdMicros::dollars(dollars)).await;
    let mut rig = Rig::kept_by(kept, 1_000_000, Credential::ApiKey(KEY.into()), quick()).await;
    let dollar = UsdMicros::micros(1_000_000);
    let price = Price {
        input: dollar,
        cache_read: dollar,
        cache_write: dollar,
        output: UsdMicros::micros(5_000_000),
        dearer_above: None,
    };
    let model = "scripted/reviewer".parse().unwrap();
    let own = if priced { BTreeMap::from([(model, price)]) } else { BTreeMap::new() };
    let service = Arc::into_inner(rig.service).unwrap().with_prices(Prices::new(own));
    rig.service = Arc::new(service);
    rig
}

#[tokio::test]
async fn the_money_of_a_day_is_set_aside_at_its_worst_counted_as_used_and_ends() {
    // The prompt's bytes at $1 and a thousand tokens at $5, for a million.
    let worst = ANTHROPIC.len() as u64 + 5 * 1000;
    let mut rig = spending(0.006, true).await;
    assert_eq!(status(&rig.ask(anthropic()).await), 200);
    let events = rig.events().await;
    let Some(ModelEvent::Finished { usage: Some(usage), .. }) = events.last() else { panic!("{events:?}") };
    let cost = usage.prompt() + 5 * usage.output;
    let used = async |rig: &Rig| rig.kept.store.used("agent:clerk/usd-micros", 20_775).await.unwrap();
    assert_eq!(used(&rig).await, cost, "what it didn't cost is given back");
    assert!(0 < cost && cost < worst);
    let mut asked = 1;
    let failure = loop {
        match rig.ask(anthropic()).await.as_slice() {
            [ModelAnswer::Failed(failure)] => break failure.clone(),
            _answered => asked += 1,
        }
        assert!(asked < 1000, "it never ends");
    };
    assert_eq!(failure.kind, FailureKind::LimitReached);
    let told = format!("money of the day: {} of $0.006 are left", UsdMicros::micros(6000 - asked * cost));
    assert!(failure.message.contains(&told), "{}", failure.message);
    assert_eq!(used(&rig).await, asked * cost, "the limit was not passed");
    assert_eq!(rig.model.recorded().len() as u64, asked);
}

#[tokio::test]
async fn what_nobody_knows_the_price_of_is_refused_where_money_is_limited() {
    let rig = spending(20.0, false).await;
    let failure = rig.failure(anthropic()).await;
    assert_eq!(failure.kind, FailureKind::LimitReached);
    assert!(failure.message.contains("[prices.\"scripted/reviewer\"]"), "{}", failure.message);
    assert!(rig.model.recorded().is_empty());
}

#[tokio::test]
async fn a_provider_reads_nothing_above_its_clearance() {
    let rig = Rig::new(1_000_000).await;
    rig.kept.holds_secrets().await;
    let failure = rig.failure(anthropic()).await;
    assert_eq!(failure.kind, FailureKind::NotGranted);
    assert!(failure.message.contains("clearance"), "{}", failure.message);
    assert!(rig.model.recorded().is_empty(), "no byte of it left");
    let denied = |event: &Event| matches!(event, Event::Decided { verdict: Verdict::Deny, .. });
    assert!(rig.kept.ledger().await.iter().any(denied));
}

#[tokio::test]
async fn labels_that_rise_cut_an_answer_that_is_no_longer_allowed() {
    for narrowed in [false, true] {
        let mut rig = Rig::new(1_000_000).await;
        rig.model.fail_next(demo::scripted::Fault::Slow(Duration::from_secs(60)));
        let mut stream = rig.open(&DoorOpens::Model(anthropic())).await;
        let head: Option<ModelAnswer> = frame::read(&mut stream, SMALL).await.unwrap();
        assert!(matches!(head, Some(ModelAnswer::Head { status: 200, .. })));
        // What is still allowed goes on.
        let labels = Labels { integrity: Integrity::Web, ..Labels::default() };
        rig.kept.gate.met(&labels).await.unwrap();
        if narrowed {
            let own = "forbid (principal, action == Action::\"model\", resource);";
            rig.kept.policy.send_replace(compile(Some(own)));
        } else {
            rig.kept.holds_secrets().await;
        }
        loop {
            match frame::read::<ModelAnswer, _>(&mut stream, SMALL).await {
                Ok(Some(ModelAnswer::Body(_))) => {}
                Ok(None) => break,
                other => panic!("not cut: {other:?}"),
            }
        }
        assert!(!counted(&rig.events().await).1, "it is counted at the worst");
        let unknown = |event: &Event| matches!(event, Event::Ended { outcome: Outcome::Unknown { .. }, .. });
        assert!(rig.kept.ledger().await.iter().any(unknown));
    }
}

#[tokio::test]
async fn a_call_that_is_no_longer_allowed_when_its_next_step_comes_is_not_made() {
    let mut rig = Rig::new(1_000_000).await;
    // Nobody reads its events: so the call stops between its commit and what it sends.
    for number in 0..64 {
        let waits = Duration::from_secs(1);
        rig.session.tell(ModelEvent::Retrying { call: number, why: String::new(), wait: waits }).await;
    }
    let mut stream = rig.open(&DoorOpens::Model(anthropic())).await;
    while rig.kept.store.unfinished().await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    rig.kept.holds_secrets().await;
    rig.events().await;
    let answer: Option<ModelAnswer> = frame::read(&mut stream, SMALL).await.unwrap();
    let Some(ModelAnswer::Failed(failure)) = answer else { panic!("{answer:?}") };
    assert_eq!(failure.kind, FailureKind::NotGranted);
    assert!(failure.message.contains("clearance"), "{}", failure.message);
    assert!(rig.model.recorded().is_empty(), "no byte of it left");
    assert!(rig.kept.store.unfinished().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_session_leaves_open_is_concluded_at_its_end() {
    let rig = Rig::new(1_000_000).await;
    let model = "scripted/reviewer".parse().unwrap();
    let permit = rig.kept.gate.permit_model(&model, AtWorst { tokens: 10, cost: None }).await.unwrap();
    drop(permit);
    assert_eq!(rig.kept.store.unfinished().await.unwrap().len(), 1);
    rig.kept.gate.end().await.unwrap();
    assert!(rig.kept.store.unfinished().await.unwrap().is_empty());
    let used = rig.kept.store.used("agent:clerk/tokens", 20_775).await.unwrap();
    assert_eq!(used, 10, "nobody knows what it used");

    // Whoever is faster with one of them keeps nobody from the others.
    for _ in 0..12 {
        drop(rig.kept.gate.permit_model(&model, AtWorst { tokens: 10, cost: None }).await.unwrap());
    }
    let (one, other) = tokio::join!(rig.kept.gate.end(), rig.kept.gate.end());
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    assert!(rig.kept.store.unfinished().await.unwrap().is_empty());
    let ended = |event: &Event| matches!(event, Event::Ended { .. });
    assert_eq!(rig.kept.ledger().await.into_iter().filter(ended).count(), 13);
}
