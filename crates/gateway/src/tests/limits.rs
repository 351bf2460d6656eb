//! What is counted, where the session's tokens end, and which models and fields there are.

use demo::scripted::Fault;

use super::*;

/// The worst that [`anthropic`] can cost: its bytes as the provider gets them, and what it may write.
const WORST: u64 = ANTHROPIC.len() as u64 + 1000;

#[tokio::test]
async fn each_dialect_is_counted_by_the_providers_usage() {
    for (dialect, body) in [
        (Dialect::AnthropicMessages, ANTHROPIC),
        (Dialect::OpenAiResponses, RESPONSES),
        (Dialect::OpenAiChat, CHAT),
        (Dialect::OpenAiChat, CHAT_WHOLE),
    ] {
        let mut rig = Rig::new(1_000_000).await;
        let answer = super::body(&rig.ask(request(dialect, body)).await);
        assert!(answer.contains("send"), "{answer}");
        let (counted, declared) = counted(&rig.events().await);
        let sent = rig.model.recorded()[0].body.len() as u64;
        let said =
            "There is no change in the input: send one, such as the output of `git diff`.".len() as u64;
        assert_eq!((counted, declared), (sent.div_ceil(4) + said.div_ceil(4), true), "{dialect:?}");
        assert_eq!(rig.session.budget.used(), counted);
    }
}

#[tokio::test]
async fn counting_tokens_costs_none() {
    let mut rig = Rig::new(0).await;
    let count = r#"{"model":"reviewer","messages":[{"role":"user","content":"Review."}]}"#;
    let answer = body(&rig.ask(request(Dialect::AnthropicCountTokens, count)).await);
    assert!(answer.contains("input_tokens"), "{answer}");
    assert_eq!(counted(&rig.events().await).0, 0);
}

#[tokio::test]
async fn the_call_that_could_pass_the_limit_is_not_made() {
    let mut rig = Rig::new(WORST - 1).await;
    let failure = rig.failure(anthropic()).await;
    assert_eq!(failure.kind, FailureKind::LimitReached);
    assert!(failure.message.contains("[limits]"), "{}", failure.message);
    assert!(rig.model.recorded().is_empty());
    let expected = ModelEvent::LimitReached { used: 0, limit: WORST - 1, needed: WORST };
    assert_eq!(rig.events().await, [expected, ModelEvent::Refused(failure)]);

    let rig = Rig::new(WORST).await;
    assert_eq!(status(&rig.ask(anthropic()).await), 200);
    let used = rig.session.budget.used();
    assert!(used > 0 && used < WORST);
    assert_eq!(rig.failure(anthropic()).await.kind, FailureKind::LimitReached);
}

/// A picture or a document of few bytes may be many tokens.
#[tokio::test]
async fn pictures_and_documents_are_set_aside_as_what_they_may_come_to() {
    let with = |part: &str| {
        let text = r#"{"type":"text","text":"Review."}"#;
        let body = format!(
            r#"{{"model":"reviewer","max_tokens":1,"messages":[{{"role":"user","content":[{text},{part}]}}]}}"#
        );
        request(Dialect::AnthropicMessages, &body)
    };
    let image = r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"aGk="}}"#;
    let document =
        r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"aGk="}}"#;
    for (part, enough) in [(image, 13_000), (document, 1_101_000)] {
        let rig = Rig::new(enough / 2).await;
        assert_eq!(rig.failure(with(part)).await.kind, FailureKind::LimitReached, "{part}");
        let mut rig = Rig::new(enough).await;
        rig.model.fail_next(Fault::Slow(Duration::from_secs(60)));
        let mut stream = rig.open(&DoorOpens::Model(with(part))).await;
        let head: Option<ModelAnswer> = frame::read(&mut stream, SMALL).await.unwrap();
        assert!(matches!(head, Some(ModelAnswer::Head { status: 200, .. })));
        assert_eq!(rig.failure(with(part)).await.kind, FailureKind::LimitReached, "two at once: {part}");
        // Whoever goes away before the provider has counted has used it all.
        drop(stream);
        while rig.session.budget.used() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(rig.session.budget.used() > enough / 2, "{part}");
        drop(rig.events().await);
    }
}

#[tokio::test]
async fn calls_that_run_at_once_do_not_pass_the_limit_together() {
    let rig = Rig::new(WORST * 2 - 1).await;
    rig.model.fail_next(Fault::Slow(Duration::from_secs(60)));
    let mut first = rig.open(&DoorOpens::Model(anthropic())).await;
    let head: Option<ModelAnswer> = frame::read(&mut first, SMALL).await.unwrap();
    assert!(matches!(head, Some(ModelAnswer::Head { status: 200, .. })));
    assert_eq!(rig.failure(anthropic()).await.kind, FailureKind::LimitReached);
}

#[tokio::test]
async fn an_answer_that_is_given_up_counts_at_the_worst() {
    let mut rig = Rig::new(1_000_000).await;
    rig.model.fail_next(Fault::Slow(Duration::from_secs(60)));
    let mut stream = rig.open(&DoorOpens::Model(anthropic())).await;
    let head: Option<ModelAnswer> = frame::read(&mut stream, SMALL).await.unwrap();
    assert!(matches!(head, Some(ModelAnswer::Head { status: 200, .. })));
    drop(stream);
    assert_eq!(counted(&rig.events().await), (WORST, false));
}

#[tokio::test]
async fn an_answer_that_is_cut_counts_its_known_prompt_and_all_it_could_write() {
    let mut rig = Rig::new(1_000_000).await;
    rig.model.fail_next(Fault::CutAfter(3));
    let answers = rig.ask(anthropic()).await;
    assert_eq!(status(&answers), 200);
    assert_ne!(answers.last(), Some(&ModelAnswer::End), "{}", body(&answers));
    let prompt = (ANTHROPIC.len() as u64).div_ceil(4);
    assert_eq!(counted(&rig.events().await), (prompt + 1000, false));
    assert_eq!(rig.model.recorded().len(), 1, "nothing is asked again once bytes have come");
}

#[tokio::test]
async fn an_answer_without_usage_counts_at_the_worst() {
    let mut rig = Rig::new(1_000_000).await;
    rig.model.fail_next(Fault::NoUsage);
    assert_eq!(status(&rig.ask(request(Dialect::OpenAiChat, CHAT_WHOLE)).await), 200);
    let prompt = rig.model.recorded()[0].body.len() as u64;
    assert_eq!(counted(&rig.events().await), (prompt + 50, false));
    rig.model.fail_next(Fault::NoUsage);
    assert_eq!(status(&rig.ask(request(Dialect::OpenAiResponses, RESPONSES)).await), 200);
    assert!(counted(&rig.events().await).0 > 128_000, "output that the request does not bound");
}

#[tokio::test]
async fn a_chat_stream_is_made_to_tell_its_usage() {
    let rig = Rig::new(1_000_000).await;
    rig.ask(request(Dialect::OpenAiChat, CHAT)).await;
    assert!(rig.model.recorded()[0].body.contains(r#""stream_options":{"include_usage":true}"#));
}

#[tokio::test]
async fn only_the_agents_models_are_asked() {
    let mut rig = Rig::new(1_000_000).await;
    for model in ["fixer", "scripted/fixer", "elsewhere/reviewer", "reviewer/", "", "../reviewer"] {
        let failure =
            rig.failure(request(Dialect::AnthropicMessages, &ANTHROPIC.replace("reviewer", model))).await;
        assert_eq!(failure.kind, FailureKind::NotGranted, "{model}");
        assert!(failure.message.contains("`scripted/reviewer`"), "{}", failure.message);
        assert_eq!(rig.events().await, [ModelEvent::Refused(failure)]);
    }
    let failure = rig.failure(request(Dialect::OpenAiChat, &CHAT.replace("reviewer", "reviewer2"))).await;
    assert_eq!(failure.kind, FailureKind::Upstream);
    assert!(failure.message.contains("no provider `elsewhere`"), "{}", failure.message);
    assert!(rig.model.recorded().is_empty());
}

#[tokio::test]
async fn a_door_that_was_fooled_gains_nothing() {
    let rig = Rig::new(1_000_000).await;
    let hosted = r#"{"model":"reviewer","input":[],"tools":[{"type":"web_search"}]}"#;
    assert_eq!(rig.failure(request(Dialect::OpenAiResponses, hosted)).await.kind, FailureKind::NotGranted);
    assert_eq!(rig.failure(request(Dialect::OpenAiChat, "{")).await.kind, FailureKind::Malformed);
    assert!(rig.model.recorded().is_empty());
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let headers = vec![
        header("x-api-key", "placeholder"),
        header("authorization", "Bearer placeholder"),
        header("host", "evil.example"),
        header("x\r\ny", "z"),
        header("anthropic-beta", "files-api-2025-04-14,effort-2025-11-24"),
    ];
    assert_eq!(status(&rig.ask(ModelRequest { headers, ..anthropic() }).await), 200);
    let recorded = &rig.model.recorded()[0];
    let shown = format!("{:?}", recorded.headers);
    assert!(
        !shown.contains("placeholder") && !shown.contains("evil") && !shown.contains("files-api"),
        "{shown}"
    );
    assert!(shown.contains(KEY) && shown.contains("effort-2025-11-24"), "{shown}");
}

#[tokio::test]
async fn a_provider_is_asked_only_in_its_own_dialects() {
    let rig = Rig::new(1_000_000).await;
    let mut only_chat = provider("http://127.0.0.1:1", Credential::None);
    only_chat.apis = vec![Api::Chat];
    let service = ModelService::new(vec![only_chat], quick(), &dialer()).unwrap();
    let rig = Rig { service: Arc::new(service), ..rig };
    assert_eq!(rig.failure(anthropic()).await.kind, FailureKind::NotGranted);
}
