//! Providers that fail: what is tried again, what is passed on, and what is kept from the guest.

use demo::scripted::Fault;
use tokio::io::AsyncReadExt;

use super::egress::{GOODBYE, Here, Site};
use super::*;

fn status_fault(status: u16, retry_after: Option<u32>) -> Fault {
    Fault::Status { status, retry_after }
}

#[tokio::test]
async fn faults_that_pass_are_tried_again() {
    for fault in [429, 500, 502, 503, 504, 529] {
        let mut rig = Rig::new(1_000_000).await;
        rig.model.fail_next(status_fault(fault, None));
        rig.model.fail_next(status_fault(fault, Some(0)));
        let answers = rig.ask(anthropic()).await;
        assert_eq!(status(&answers), 200);
        body(&answers);
        let events = rig.events().await;
        let retries: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                ModelEvent::Retrying { call: 1, why, wait } => Some((why.as_str(), *wait)),
                ModelEvent::Retrying { .. }
                | ModelEvent::Started { .. }
                | ModelEvent::Finished { .. }
                | ModelEvent::Refused(_)
                | ModelEvent::LimitReached { .. }
                | ModelEvent::DayLimitReached { .. } => None,
            })
            .collect();
        let why = format!("HTTP {fault}");
        assert_eq!(retries, [(why.as_str(), Duration::from_millis(1)), (why.as_str(), Duration::ZERO)]);
        assert!(counted(&events).1);
    }
}

#[tokio::test]
async fn tries_are_bounded_and_the_last_answer_is_passed_on() {
    let mut rig = Rig::new(1_000_000).await;
    (0..10).for_each(|_| rig.model.fail_next(status_fault(529, None)));
    let answers = rig.ask(anthropic()).await;
    assert_eq!(status(&answers), 529);
    assert!(body(&answers).contains("as the test asked for"));
    assert_eq!(rig.model.recorded().len(), 4);
    assert_eq!(counted(&rig.events().await).0, 0);
}

#[tokio::test]
async fn what_will_not_pass_is_not_tried_again() {
    for fault in [status_fault(400, None), status_fault(404, None), status_fault(429, Some(3600))] {
        let rig = Rig::new(1_000_000).await;
        rig.model.fail_next(fault);
        let answers = rig.ask(anthropic()).await;
        let Fault::Status { status: expected, retry_after } = fault else { panic!() };
        assert_eq!(status(&answers), expected);
        let ModelAnswer::Head { headers, .. } = &answers[0] else { panic!() };
        assert_eq!(headers.iter().any(|(name, _)| name == "retry-after"), retry_after.is_some());
        assert_eq!(rig.model.recorded().len(), 1);
    }
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let rig = Rig::new(1_000_000).await;
    rig.model.fail_next(Fault::Redirect);
    let failure = rig.failure(anthropic()).await;
    assert_eq!(failure.kind, FailureKind::Upstream);
    assert!(failure.message.contains("redirect"), "{}", failure.message);
    assert_eq!(rig.model.recorded().len(), 1);
}

#[tokio::test]
async fn a_key_that_the_provider_refuses_is_told_without_the_key() {
    let rig = Rig::with(1_000_000, Credential::Bearer("canary-wrong".into()), quick()).await;
    let failure = rig.failure(anthropic()).await;
    assert_eq!(failure.kind, FailureKind::Upstream);
    assert!(
        failure.message.contains("HTTP 401") && !failure.message.contains("canary"),
        "{}",
        failure.message
    );
}

#[tokio::test]
async fn a_missing_key_is_told_with_what_to_do() {
    let rig = Rig::with(1_000_000, Credential::Missing("set SOME_KEY"), quick()).await;
    let failure = rig.failure(anthropic()).await;
    assert_eq!(failure.kind, FailureKind::Upstream);
    assert!(failure.message.contains("set SOME_KEY"), "{}", failure.message);
    assert!(rig.model.recorded().is_empty());
}

#[tokio::test]
async fn a_provider_that_is_not_there_costs_nothing() {
    let mut rig = Rig::new(1_000_000).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let service =
        ModelService::new(vec![provider(&format!("http://{gone}"), Credential::None)], quick(), &dialer());
    rig.service = Arc::new(service.unwrap());
    let failure = rig.failure(anthropic()).await;
    assert!(failure.message.contains("can't be reached"), "{}", failure.message);
    let events = rig.events().await;
    assert_eq!(events.iter().filter(|event| matches!(event, ModelEvent::Retrying { .. })).count(), 3);
    assert_eq!(counted(&events).0, 0);
}

#[tokio::test]
async fn a_provider_that_never_answers_is_given_up_and_counted_at_the_worst() {
    let mut rig = Rig::new(1_000_000).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", silent.local_addr().unwrap());
    let patience = Patience { first_byte: Duration::from_millis(200), ..quick() };
    rig.service =
        Arc::new(ModelService::new(vec![provider(&base, Credential::None)], patience, &dialer()).unwrap());
    let failure = rig.failure(anthropic()).await;
    assert!(failure.message.contains("did not answer"), "{}", failure.message);
    assert_eq!(counted(&rig.events().await), (ANTHROPIC.len() as u64 + 1000, false));
}

#[tokio::test]
async fn an_answer_that_stops_coming_is_cut() {
    let patience = Patience { idle: Duration::from_millis(200), ..quick() };
    let rig = Rig::with(1_000_000, Credential::ApiKey(KEY.into()), patience).await;
    rig.model.fail_next(Fault::Slow(Duration::from_secs(60)));
    let answers = rig.ask(anthropic()).await;
    assert_eq!(status(&answers), 200);
    assert_ne!(answers.last(), Some(&ModelAnswer::End));
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let mut rig = Rig::new(1_000_000).await;
    let service = Arc::into_inner(rig.service).unwrap().with_largest_response(1 << 20);
    rig.service = Arc::new(service);
    rig.model.fail_next(Fault::Huge(2 << 20));
    let mut stream = rig.open(&DoorOpens::Model(anthropic())).await;
    let (mut bytes, mut last) = (0, None);
    while let Some(answer) = frame::read::<ModelAnswer, _>(&mut stream, SMALL).await.unwrap() {
        if let ModelAnswer::Body(part) = &answer {
            bytes += part.len();
        }
        last = Some(answer);
    }
    assert!(bytes <= 1 << 20, "{bytes}");
    assert_ne!(last, Some(ModelAnswer::End));
}

#[tokio::test]
async fn a_provider_that_breaks_off_is_not_asked_twice() {
    let mut rig = Rig::new(1_000_000).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let accepted = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        drop(connection.read(&mut [0; 4096]).await);
        drop(connection);
        tokio::time::timeout(Duration::from_millis(300), listener.accept()).await.is_ok()
    });
    rig.service =
        Arc::new(ModelService::new(vec![provider(&base, Credential::None)], quick(), &dialer()).unwrap());
    let failure = rig.failure(anthropic()).await;
    assert!(failure.message.contains("broke off"), "{}", failure.message);
    assert_eq!(counted(&rig.events().await), (ANTHROPIC.len() as u64 + 1000, false));
    assert!(!accepted.await.unwrap(), "it was asked again");
}

#[tokio::test]
async fn a_provider_whose_name_leads_to_this_machine_is_asked_only_where_a_person_named_it() {
    let mut rig = Rig::new(1_000_000).await;
    let port = rig.base.rsplit_once(':').unwrap().1.to_owned();
    let there = |dialer: &dial::Dialer| {
        let base = BaseUrl::parse(&format!("http://models.example:{port}"), true).unwrap();
        let provider = Provider { base, ..provider(&rig.base, Credential::ApiKey(KEY.into())) };
        Arc::new(ModelService::new(vec![provider], quick(), dialer).unwrap())
    };
    let dialer = dial::Dialer::resolving(dial::Network::default(), Here(0.into())).unwrap();
    let named = format!("models.example:{port}").parse().unwrap();
    let (refusing, naming) = (there(&dialer), there(&dialer.naming(named)));
    rig.service = refusing;
    let failure = rig.failure(anthropic()).await;
    assert!(
        failure.message.contains("`models.example` leads to what is this machine"),
        "{}",
        failure.message
    );
    let events = rig.events().await;
    assert!(!events.iter().any(|event| matches!(event, ModelEvent::Retrying { .. })), "it is final");
    assert_eq!(counted(&events).0, 0);
    assert!(rig.model.recorded().is_empty());
    rig.service = naming;
    assert_eq!(status(&rig.ask(anthropic()).await), 200);
}

/// What a server says in its errors is no way to the agent that its labels don't know of.
#[tokio::test]
async fn the_words_of_a_provider_or_tool_server_that_fails_are_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path(), true).await;
    site.goes.store(true, std::sync::atomic::Ordering::SeqCst);
    let network = dial::Network {
        private: ["api.example", "stranger.example"]
            .iter()
            .map(|host| format!("{host}:{}", site.port).parse().unwrap())
            .collect(),
        ca: Some(site.ca.clone()),
        proxy: None,
    };
    let dialer = Dialer::resolving(network, Here(0.into())).unwrap();
    let mut rig = Rig::new(1_000_000).await;
    for (host, told, hidden) in [
        ("api.example", "it went away, or doesn't speak HTTP as it should", GOODBYE),
        ("stranger.example", "its certificate is for another name", "wiki.corp.example"),
    ] {
        let base = format!("https://{host}:{}", site.port);
        let service = ModelService::new(vec![provider(&base, Credential::None)], quick(), &dialer).unwrap();
        rig.service = Arc::new(service);
        let failure = rig.failure(anthropic()).await;
        assert!(failure.message.contains(told), "{}", failure.message);
        let events = rig.events().await;
        let base = BaseUrl::parse(&base, false).unwrap();
        let limits = crate::tools::upstream::UpstreamLimits::default();
        let tools = crate::tools::upstream::Upstream::over_http(&dialer, &base, Credential::None, limits);
        let tools = tools.await.err().unwrap();
        assert!(tools.message.contains(told), "{tools:?}");
        let all = format!("{failure:?} {events:?} {tools:?} {:?}", rig.kept.ledger().await);
        assert!(!all.contains(hidden), "{all}");
    }
}
