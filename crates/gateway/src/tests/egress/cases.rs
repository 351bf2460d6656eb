//! What leaves, what comes back, and what neither does.

use std::time::Duration;

use domain::{Confidentiality, Integrity, Labels, SecretBinding, SecretName};
use store::{Act, Outcome, Verdict};
use vault::{Key, Secret};

use super::server::{GOODBYE, PACKED};
use super::*;
use crate::tests::vault::{GIVEN, REFUSED, logged_in, token_endpoint, vault};

fn confidential() -> Labels {
    Labels { confidentiality: Confidentiality::Confidential, ..Labels::default() }
}

fn exposed() -> Labels {
    Labels { integrity: Integrity::Web, ..confidential() }
}

#[tokio::test]
async fn what_a_rule_allows_leaves_and_is_on_the_ledger_with_its_end() {
    for http2 in [false, true] {
        let rig = Rig::with(EGRESS, http2, Bounds::default(), None).await;
        let mut request = rig.request("GET api.example/a/b?c=d");
        request.headers.push(("x-mine".to_owned(), "1".to_owned()));
        let back = rig.send(request, Vec::new()).await;
        assert_eq!((back.status, back.whole), (200, true), "{back:?}");
        assert!(back.text().starts_with("GET /a/b?c=d\n") && back.text().contains("x-mine: 1\n"), "{back:?}");
        assert_eq!(rig.post("POST api.example/echo", b"hello").await.text().lines().last(), Some("hello"));
        assert_eq!(rig.labels().await.integrity, Integrity::Web);
        let ledger = rig.ledger().await;
        let act = Act::Connect(format!("POST https://api.example:{}", rig.site.port));
        let made = |event: &&Event| matches!(event, Event::Committed { act: done, .. } if *done == act);
        let Some(Event::Committed { commit, reasons, .. }) = ledger.iter().find(made) else {
            panic!("it is not on the ledger: {ledger:?}")
        };
        assert!(reasons[0].contains("agent.toml:8, allow"), "{reasons:?}");
        let ended = |event: &Event| matches!(event, Event::Ended { commit: of, outcome: Outcome::Done, .. } if of == commit);
        assert!(ledger.iter().any(ended));
    }
}

#[tokio::test]
async fn what_is_not_allowed_reaches_nobody() {
    let rig = Rig::new().await;
    for (request, status, why) in [
        ("GET api.example/secret", 403, "agent.toml:12, deny"),
        ("GET api.example/secret?x", 403, "agent.toml:12, deny"),
        ("DELETE api.example/a", 403, "no rule allows"),
        ("GET other.example/a", 403, "no rule allows"),
        ("GET 127.0.0.1/a", 403, "no rule allows"),
        ("GET api.example.evil.org/a", 403, "no rule allows"),
    ] {
        let back = rig.ask(request).await;
        assert_eq!((back.status, back.refused), (status, true), "{request}: {back:?}");
        assert!(back.text().contains(why), "{request}: {back:?}");
    }
    let mut elsewhere = rig.request("GET api.example/a");
    elsewhere.port ^= 1;
    assert_eq!(rig.send(elsewhere, Vec::new()).await.status, 403);
    let mut plain = rig.request("GET api.example/a");
    plain.scheme = Scheme::Http;
    assert_eq!(rig.send(plain, Vec::new()).await.status, 403);
    // A door that was fooled passes what is not in its canonical form, or tries to split a header.
    for break_it in [
        |request: &mut EgressRequest| request.path = "/a/../secret".to_owned(),
        |request: &mut EgressRequest| request.host = "API.example".to_owned(),
        |request: &mut EgressRequest| request.headers.push(("x".to_owned(), "a\r\ny: b".to_owned())),
        |request: &mut EgressRequest| request.headers.push(("host".to_owned(), "other.example".to_owned())),
        |request: &mut EgressRequest| {
            request.headers.push(("transfer-encoding".to_owned(), "chunked".to_owned()))
        },
    ] {
        let mut request = rig.request("GET api.example/a");
        break_it(&mut request);
        assert_eq!(rig.send(request, Vec::new()).await.status, 400);
    }
    assert_eq!(rig.hits(), 0);
    let denied = |event: &&Event| matches!(event, Event::Decided { verdict: Verdict::Deny, .. });
    assert_eq!(rig.ledger().await.iter().filter(denied).count(), 8);
}

#[tokio::test]
async fn a_host_that_is_allowed_but_not_public_and_not_named_is_not_reached() {
    let rules = EGRESS.replace("wiki.corp.example", "other.example");
    let rig = Rig::with(&rules, false, Bounds::default(), None).await;
    let back = rig.ask("GET other.example/a").await;
    assert_eq!((back.status, back.refused), (502, true), "{back:?}");
    assert!(back.text().contains("leads to what is this machine"), "{back:?}");
    assert_eq!(rig.hits(), 0);
    let not_done = |event: &Event| matches!(event, Event::Ended { outcome: Outcome::NotDone { .. }, .. });
    assert!(rig.ledger().await.iter().any(not_done));
    assert_eq!(rig.store.used("agent:clerk/bytes-out", 20_775).await.unwrap(), 0, "nothing left");
}

#[tokio::test]
async fn a_redirect_is_passed_on_and_never_followed() {
    let rig = Rig::new().await;
    let back = rig.ask("GET api.example/redirect").await;
    assert_eq!((back.status, rig.hits()), (302, 1), "{back:?}");
    assert!(back.headers.iter().any(|(name, value)| name == "location" && value.contains("other.example")));
}

#[tokio::test]
async fn what_is_packed_is_passed_on_as_it_is() {
    let rig = Rig::new().await;
    let back = rig.ask("GET api.example/packed").await;
    assert_eq!(back.body, PACKED);
    assert!(back.headers.contains(&("content-encoding".to_owned(), "gzip".to_owned())));
    let back = rig.ask("GET api.example/headers").await;
    assert!(back.headers.contains(&("set-cookie".to_owned(), "a=b".to_owned())));
    assert!(!back.headers.iter().any(|(name, _)| name == "alt-svc" || name == "transfer-encoding"));
}

#[tokio::test]
async fn servers_without_end_or_beginning_are_cut_at_the_limits() {
    let bounds =
        Bounds { head: Duration::from_millis(300), idle: Duration::from_millis(300), answer: 1 << 20 };
    let rig = Rig::with(EGRESS, false, bounds, None).await;
    let back = rig.ask("GET api.example/endless").await;
    assert!(back.status == 200 && !back.whole && back.body.len() <= 1 << 20, "{}", back.body.len());
    let back = rig.ask("GET api.example/never").await;
    assert_eq!((back.status, back.refused), (504, true), "{back:?}");
    let back = rig.ask("GET api.example/stalls").await;
    assert_eq!((back.text().as_str(), back.whole), ("begun", false));
    let back = rig.ask("GET api.example/huge-head").await;
    assert_eq!((back.status, back.refused), (502, true), "{back:?}");
}

#[tokio::test]
async fn bytes_and_requests_have_their_limits() {
    let rig = Rig::new().await;
    let request = EgressRequest { body: BodyLength::Known(2 << 20), ..rig.request("POST api.example/echo") };
    let back = rig.send(request, vec![vec![b'x'; 8 << 10]; 256]).await;
    assert_eq!((back.status, back.refused), (413, true), "{back:?}");
    let back = rig.post("POST api.example/echo", &vec![b'x'; (1 << 20) + (64 << 10)]).await;
    assert_eq!((back.status, back.refused), (413, true), "{back:?}");
    // That much is gone; what is left is too little for the worst case of another body of unknown length.
    let back = rig.post("POST api.example/echo", b"x").await;
    assert_eq!((back.status, back.refused), (429, true), "{back:?}");
    assert!(back.text().contains("bytes of the day"), "{back:?}");
    let small = EgressRequest { body: BodyLength::Known(1), ..rig.request("POST api.example/echo") };
    let back = rig.send(small, vec![b"y".to_vec()]).await;
    assert!(back.text().contains("content-length: 1\n") && back.text().ends_with("\ny"), "{back:?}");
    let few = EGRESS.replace("requests_per_minute = 60", "requests_per_minute = 2");
    let rig = Rig::with(&few, false, Bounds::default(), None).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(rig.ask("GET api.example/a").await.status);
    }
    assert_eq!((&statuses[..2], statuses[2..].iter().all(|status| *status == 429)), (&[200, 200][..], true));
    let refused = |event: &&Event| matches!(event, Event::Refused { .. });
    assert_eq!(rig.ledger().await.iter().filter(refused).count(), 4, "a loop fills no ledger");
}

#[tokio::test]
async fn a_session_reaches_so_many_hosts_and_no_more() {
    let rig = Rig::new().await;
    let others = (0..1024).map(|n| (format!("h{n}.example"), 1));
    rig.gate.state.lock().await.reached.extend(others);
    let back = rig.ask("GET api.example/page").await;
    assert_eq!((back.status, back.refused, rig.hits()), (429, true, 0), "{back:?}");
    assert!(back.text().contains("reached 1024 hosts"), "{back:?}");
    rig.gate.state.lock().await.reached.insert("api.example".to_owned(), 1);
    assert_eq!(rig.ask("GET api.example/page").await.status, 200, "one that it has reached already");
}

#[tokio::test]
async fn an_ask_holds_the_request_until_a_person_answers() {
    let mut rig = Rig::new().await;
    let put = |rig: &Rig, body: &str| {
        let request = EgressRequest { body: BodyLength::Unknown, ..rig.request("PUT api.example/doc") };
        rig.begun(request, vec![body.as_bytes().to_vec()])
    };
    let held = put(&rig, "one");
    rig.answer(true).await;
    let back = held.await.unwrap();
    assert_eq!((back.status, back.text().lines().last()), (200, Some("one")), "{back:?}");
    assert_eq!(rig.hits(), 1);
    // Once: the same again asks again, and a no is told.
    let held = put(&rig, "one");
    rig.answer(false).await;
    let back = held.await.unwrap();
    assert_eq!((back.status, back.refused, rig.hits()), (403, true, 1), "{back:?}");
    assert!(back.text().contains("not that one"), "{back:?}");
    // What nobody could read is not asked about.
    let back = rig.post("PUT api.example/doc", &vec![b'x'; 70 << 10]).await;
    assert_eq!((back.status, rig.hits()), (413, 1), "{back:?}");
    let back = rig.post("PUT api.example/doc", &[0xff, 0xfe]).await;
    assert_eq!((back.status, rig.hits()), (413, 1), "{back:?}");
}

#[tokio::test]
async fn under_the_rule_of_two_a_request_carries_nothing_of_the_agents() {
    let mut rig = Rig::new().await;
    rig.meet(exposed()).await;
    let mut typed = rig.request("GET api.example/typed?by=me");
    typed.headers.push(("cookie".to_owned(), "all-I-know".to_owned()));
    let back = rig.send(typed, Vec::new()).await;
    assert_eq!(back.status, 200, "{back:?}");
    assert!(!back.text().contains("all-I-know") && back.text().contains("user-agent: lazaret"), "{back:?}");
    let held = rig.begun(rig.request("GET api.example/all-I-know"), Vec::new());
    rig.answer(false).await;
    assert_eq!(held.await.unwrap().status, 403);
    assert_eq!(rig.hits(), 1);
    // The organisation's own hosts may be read.
    assert_eq!(rig.ask("GET wiki.corp.example/page").await.status, 200);
}

#[tokio::test]
async fn an_answer_is_a_strangers_or_the_organisations() {
    let rig = Rig::new().await;
    assert_eq!(rig.ask("GET wiki.corp.example/page").await.status, 200);
    let labels = rig.labels().await;
    assert_eq!(
        (labels.confidentiality, labels.integrity),
        (Confidentiality::Confidential, Integrity::Organisation)
    );
    assert_eq!(rig.ask("GET api.example/page").await.status, 200);
    assert_eq!(rig.labels().await.integrity, Integrity::Web);
}

#[tokio::test]
async fn a_tool_server_asks_nobody_and_its_labels_stay() {
    let mut rig = Rig::new().await;
    rig.be_server("crm");
    for request in ["GET wiki.corp.example/page", "GET api.example/page", "GET api.example/all-I-know?x"] {
        assert_eq!(rig.ask(request).await.status, 200, "{request}");
    }
    assert_eq!(rig.labels().await, Labels::default(), "what it brings is on the results of its tools");
    let back = rig.post("PUT api.example/doc", b"x").await;
    assert_eq!((back.status, back.refused, rig.hits()), (403, true, 3), "{back:?}");
    let asked =
        |event: &Event| matches!(event, Event::Asked { .. } | Event::Decided { verdict: Verdict::Ask, .. });
    assert!(!rig.ledger().await.iter().any(asked));
    assert!(rig.store.pending(None, NOW).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_teams_tool_server_has_bytes_of_a_day_and_requests_of_a_minute_of_its_own() {
    let mut rig = Rig::new().await;
    let most = async |rig: &Rig| {
        let length = BodyLength::Known(896 << 10);
        let request = EgressRequest { body: length, ..rig.request("POST api.example/echo") };
        rig.send(request, vec![vec![b'x'; 8 << 10]; 112]).await
    };
    assert_eq!(most(&rig).await.status, 200, "the agent's own");
    rig.be_server("crm");
    for _ in 0..2 {
        assert_eq!(most(&rig).await.status, 200);
    }
    // In another cell of the same server, too.
    rig.be_server("crm");
    let back = most(&rig).await;
    assert_eq!((back.status, back.refused), (429, true), "{back:?}");
    let told = "`bytes_out_per_day` of [crm.cell.limits] in servers.toml is the limit";
    assert!(back.text().contains("bytes of the day") && back.text().contains(told), "{back:?}");
    rig.be_server("wiki");
    assert_eq!(most(&rig).await.status, 200, "another server's are others");
    let mut last = rig.ask("GET api.example/page").await;
    for _ in 0..60 {
        last = rig.ask("GET api.example/page").await;
    }
    assert_eq!(last.status, 429);
    assert!(last.text().contains("`requests_per_minute` of [wiki.cell.limits]"), "{last:?}");
}

#[tokio::test]
async fn a_rise_or_a_narrower_policy_cuts_what_is_open() {
    let rig = Rig::new().await;
    let hits = |n| {
        let hits = Arc::clone(&rig.site.hits);
        async move {
            while hits.load(Ordering::SeqCst) < n {
                tokio::task::yield_now().await;
            }
        }
    };
    let open = rig.begun(rig.request("GET api.example/never"), Vec::new());
    hits(1).await;
    rig.meet(exposed()).await;
    let back = open.await.unwrap();
    assert_eq!((back.status, back.refused), (403, true), "{back:?}");
    assert!(back.text().contains("connect-rule-of-two"), "{back:?}");

    let rig = Rig::new().await;
    let open = rig.begun(rig.request("GET api.example/stalls"), Vec::new());
    while rig.labels().await.integrity != Integrity::Web {
        tokio::task::yield_now().await;
    }
    rig.narrow("allow = []\n");
    let back = open.await.unwrap();
    assert!(!back.whole, "{back:?}");
}

/// What a session has just learned doesn't leave by a request that was open before, until it is decided that this goes on.
#[tokio::test]
async fn the_body_of_an_open_request_waits_for_the_decision_on_what_rose() {
    let used = async |rig: &Rig| rig.store.used("agent:clerk/bytes-out", 20_775).await.unwrap();
    for rises in [exposed(), confidential()] {
        let rig = Rig::new().await;
        let request = EgressRequest { body: BodyLength::Unknown, ..rig.request("POST api.example/echo") };
        let (mut door, daemon) = tokio::io::duplex(1 << 16);
        let egress = Arc::clone(&rig.egress);
        let served =
            tokio::spawn(async move { crate::egress::serve(request, daemon, egress.as_ref()).await });
        let piece = async |door: &mut tokio::io::DuplexStream, bytes: &[u8]| {
            frame::write(door, &EgressBody::Bytes(bytes.to_vec()), LARGE).await.unwrap();
        };
        piece(&mut door, b"before").await;
        while rig.hits() == 0 {
            tokio::task::yield_now().await;
        }
        // The labels have risen, and nobody can decide yet.
        let mut state = rig.gate.state.lock().await;
        rig.gate.raise(&mut state, &rises).await.unwrap();
        piece(&mut door, &[b'x'; 4096]).await;
        for _ in 0..2000 {
            tokio::task::yield_now().await;
        }
        drop(state);
        let goes_on = rises == confidential();
        if goes_on {
            frame::write(&mut door, &EgressBody::End, LARGE).await.unwrap();
        }
        let back = received(&mut door).await;
        drop(door);
        served.await.unwrap().unwrap();
        assert_eq!((back.whole, back.refused), (goes_on, !goes_on), "{back:?}");
        // Its end is written before what comes next.
        drop(rig.ledger().await);
        assert_eq!(used(&rig).await > 4096, goes_on, "{back:?}");
    }
}

/// A policy that is narrowed while an answer's labels are written counts for that answer.
#[tokio::test]
async fn a_policy_that_is_narrowed_at_the_moment_of_an_answer_is_not_overlooked() {
    let rig = Rig::new().await;
    let (mut changes, labels) = (rig.gate.changes(), exposed());
    let state = rig.gate.state.lock().await;
    {
        let mut brought = std::pin::pin!(rig.gate.brought(&mut changes, &labels, true));
        assert!(futures::poll!(&mut brought).is_pending());
        drop(state);
        // It has looked, and waits for the store.
        assert!(futures::poll!(&mut brought).is_pending());
        rig.narrow("allow = []\n");
        brought.await.unwrap();
    }
    assert!(futures::poll!(std::pin::pin!(changes.next())).is_ready());
}

/// What an answer brings is no reason to end the request that it answers, if all of that had left; what others bring is.
#[tokio::test]
async fn only_what_an_answer_itself_brings_is_no_reason_to_end_its_request() {
    for (others, sent, ends) in [(true, true, true), (false, false, true), (false, true, false)] {
        let rig = Rig::new().await;
        let mut changes = rig.gate.changes();
        if others {
            rig.meet(confidential()).await;
        }
        rig.gate.brought(&mut changes, &exposed(), sent).await.unwrap();
        let ended = futures::poll!(std::pin::pin!(changes.next())).is_ready();
        assert_eq!(ended, ends, "{others} {sent}");
    }
}

/// What rises between two steps of a request is not overlooked: what was decided before it does not go on after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rise_while_a_request_is_committed_to_cuts_it() {
    let rig = Rig::new().await;
    // Now there is a connection that it could leave by at once.
    assert!(rig.ask("GET api.example/before").await.whole);
    let (is_there, go) = rig.pause.arm();
    let open = rig.begun(rig.request("GET api.example/never"), Vec::new());
    is_there.await.unwrap();
    rig.meet(exposed()).await;
    go.send(()).unwrap();
    let back = open.await.unwrap();
    assert_eq!((back.status, back.refused, rig.hits()), (403, true, 1), "{back:?}");
    assert!(back.text().contains("connect-rule-of-two"), "{back:?}");
}

/// What an answer brings doesn't go into the rest of the request that it answers.
#[tokio::test]
async fn a_request_that_is_answered_before_its_end_is_decided_on_again() {
    let rig = Rig::new().await;
    rig.meet(confidential()).await;
    let request = EgressRequest { body: BodyLength::Unknown, ..rig.request("POST api.example/early") };
    let (mut door, daemon) = tokio::io::duplex(1 << 16);
    let egress = Arc::clone(&rig.egress);
    tokio::spawn(async move { crate::egress::serve(request, daemon, egress.as_ref()).await });
    let back = received(&mut door).await;
    assert_eq!((back.status, back.refused), (403, true), "{back:?}");
    assert!(!back.text().contains(GOODBYE), "{back:?}");
    let cut = |event: &Event| matches!(event, Event::Ended { outcome: Outcome::Unknown { why }, .. } if why.contains("connect-rule-of-two"));
    assert!(rig.ledger().await.iter().any(cut));

    // One that ended before is not.
    let rig = Rig::new().await;
    rig.meet(confidential()).await;
    assert!(rig.post("POST api.example/echo", b"whole").await.whole);
    let rig = Rig::new().await;
    rig.meet(confidential()).await;
    let request = EgressRequest { body: BodyLength::Known(5), ..rig.request("POST api.example/echo") };
    assert!(rig.send(request, vec![b"whole".to_vec()]).await.whole);
}

/// What a server says in its errors is no way to the agent that its labels don't know of.
#[tokio::test]
async fn the_words_of_a_server_that_goes_away_are_not_told() {
    let rig = Rig::with(EGRESS, true, Bounds::default(), None).await;
    rig.site.goes.store(true, Ordering::SeqCst);
    let back = rig.ask("GET api.example/x").await;
    assert_eq!((back.status, back.refused), (502, true), "{back:?}");
    assert!(!back.text().contains(GOODBYE) && back.text().contains("http2 error"), "{back:?}");
    assert!(!format!("{:?}", rig.ledger().await).contains(GOODBYE));
}

#[tokio::test]
async fn a_rise_at_the_moment_of_an_answer_is_not_hidden_by_the_answers_own() {
    let rig = Rig::new().await;
    let open = rig.begun(rig.request("GET api.example/on-cue"), Vec::new());
    while rig.hits() == 0 {
        tokio::task::yield_now().await;
    }
    let mut state = rig.gate.state.lock().await;
    rig.site.cue.notify_one();
    // The answer comes, and its labels wait for the others.
    for _ in 0..2000 {
        tokio::task::yield_now().await;
    }
    rig.gate.raise(&mut state, &exposed()).await.unwrap();
    drop(state);
    let back = open.await.unwrap();
    assert!(!back.whole, "{back:?}");
}

#[tokio::test]
async fn an_agents_request_carries_a_token_that_is_renewed_and_says_when_its_log_in_has_ended() {
    let lending = format!("{EGRESS}[secrets]\nclaude = [\"https://api.example:PORT\"]\n");
    for (answer, status, told) in [
        (GIVEN, 200, "authorization: Bearer [redacted]"),
        (REFUSED, 403, "log in again by `lazaret secret login claude`"),
    ] {
        let (vault, _folder) = vault();
        let rig = Rig::with(&lending, false, Bounds::default(), Some(Arc::clone(&vault))).await;
        let place = format!("https://api.example:{}", rig.site.port);
        logged_in(&vault, token_endpoint(answer).await, &place, Some(1));
        let back = rig.ask("GET api.example/echo").await;
        assert_eq!(back.status, status, "{back:?}");
        let all = format!("{} {:?}", back.text(), back.headers);
        assert!(all.contains(told) && !all.contains("canary"), "{all}");
        let now = vault.login(&"claude".parse().unwrap()).unwrap().tokens.access;
        assert_eq!(now.reveal() == b"canary-key-of-the-host", status == 200);
    }
}

#[tokio::test]
async fn a_secret_is_added_at_its_host_alone_and_never_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let key = Key::File(folder.path().join("vault.key"));
    let vault = Vault::open(&folder.path().join("vault"), &key, Box::new(random)).unwrap();
    let vault = Arc::new(vault);
    let name: SecretName = "api".parse().unwrap();
    let lending = format!("{EGRESS}[secrets]\napi = [\"https://api.example:PORT\"]\n");
    let rig = Rig::with(&lending, false, Bounds::default(), Some(Arc::clone(&vault))).await;
    let place = format!("https://api.example:{}", rig.site.port);
    let binding = SecretBinding {
        to: place.parse().unwrap(),
        methods: std::collections::BTreeSet::new(),
        how: domain::How::Bearer,
    };
    let canary = b"canary-of-the-vault".to_vec();
    vault.set(&name, Secret::new(canary.into()), vec![binding], NOW).unwrap();
    let mut request = rig.request("GET api.example/echo");
    request.headers.push(("authorization".to_owned(), "Bearer the-attackers-own".to_owned()));
    for (name, value) in [("range", "bytes=20-23"), ("if-range", "\"a\"")] {
        request.headers.push((name.to_owned(), value.to_owned()));
    }
    let back = rig.send(request, Vec::new()).await;
    assert_eq!(back.status, 200, "{back:?}");
    let all = format!("{} {:?}", back.text(), back.headers);
    assert!(!all.contains("canary-of-the-vault") && !all.contains("the-attackers-own"), "{all}");
    assert!(all.contains(&format!("authorization: Bearer {}", vault::REDACTED)), "{all}");
    assert!(!all.contains("range: "), "an echo is not handed out in pieces: {all}");
    let used =
        |event: &Event| matches!(event, Event::SecretUsed { secret, to } if *secret == name && *to == place);
    assert!(rig.ledger().await.iter().any(used), "the ledger says where it went");
    assert_eq!(rig.labels().await.confidentiality, Confidentiality::Confidential);
    assert_eq!(
        rig.ask("GET wiki.corp.example/echo")
            .await
            .headers
            .iter()
            .find(|(name, _)| name == "x-echo")
            .unwrap()
            .1,
        "none"
    );
    // An agent's file that no longer lends it, and a secret that is taken away, end what is open.
    for (ends, told) in [(true, "no longer lends `api`"), (false, "the secret `api` was removed")] {
        rig.narrow(&lending);
        let before = rig.hits();
        let open = rig.begun(rig.request("GET api.example/never/listed"), Vec::new());
        while rig.hits() == before && !open.is_finished() {
            tokio::task::yield_now().await;
        }
        if ends {
            rig.narrow(EGRESS);
        } else {
            vault.remove(&name).unwrap();
        }
        let back = open.await.unwrap();
        assert!(back.refused && back.text().contains(told), "{back:?}");
    }
    let ledger = format!("{:?}", rig.ledger().await);
    assert!(!ledger.contains("canary-of-the-vault"));
}

/// A limit of one lets the one through, also where it is decided on once more on its way.
#[tokio::test]
async fn requests_at_once_do_not_pass_what_a_policy_counts_together() {
    for counted in ["calls", "calls_today"] {
        let rig = Rig::new().await;
        let once = format!("forbid (principal, action, resource) when {{ context.{counted} > 0 }};");
        rig.policy.send_replace(compiled_beside(&agent(EGRESS, rig.site.port), Some(&once)));
        let asked: Vec<_> =
            (0..16).map(|_| rig.begun(rig.request("GET api.example/x"), Vec::new())).collect();
        let mut refused = 0;
        for asked in asked {
            refused += usize::from(asked.await.unwrap().refused);
        }
        assert_eq!((rig.hits(), refused), (1, 15), "{counted}");
    }
}

/// What came after it is no reason to end a request, where a policy counts.
#[tokio::test]
async fn a_request_that_is_open_is_not_ended_by_those_that_came_after_it() {
    for counted in ["calls", "calls_today"] {
        let rig = Rig::new().await;
        let first = format!(
            "forbid (principal, action == Action::\"connect\", resource) when {{ context.method == \"POST\" && context.{counted} > 0 }};"
        );
        rig.policy.send_replace(compiled_beside(&agent(EGRESS, rig.site.port), Some(&first)));
        let request = EgressRequest { body: BodyLength::Unknown, ..rig.request("POST api.example/echo") };
        let (mut door, daemon) = tokio::io::duplex(1 << 16);
        let egress = Arc::clone(&rig.egress);
        tokio::spawn(async move { crate::egress::serve(request, daemon, egress.as_ref()).await });
        frame::write(&mut door, &EgressBody::Bytes(b"one".to_vec()), LARGE).await.unwrap();
        while rig.hits() == 0 {
            tokio::task::yield_now().await;
        }
        // What this brings has the other decided on once more.
        assert!(rig.ask("GET api.example/page").await.whole);
        frame::write(&mut door, &EgressBody::End, LARGE).await.unwrap();
        let back = received(&mut door).await;
        assert!(back.whole && !back.refused, "{counted}: {back:?}");
        assert!(rig.post("POST api.example/echo", b"two").await.refused, "{counted}");
    }
}

#[tokio::test]
async fn what_a_tool_servers_cell_leaves_open_is_concluded_at_its_end() {
    let mut rig = Rig::new().await;
    rig.be_cell("crm").await;
    assert_eq!(rig.ask("GET api.example/a").await.status, 200);
    rig.egress.end().await.unwrap();
    assert!(rig.store.unfinished().await.unwrap().is_empty());
    rig.be_cell("crm").await;
    let (door, daemon) = tokio::io::duplex(1 << 16);
    let (egress, request) = (Arc::clone(&rig.egress), rig.request("GET api.example/never"));
    let cut = tokio::spawn(async move { drop(crate::egress::serve(request, daemon, egress.as_ref()).await) });
    while rig.hits() < 2 {
        tokio::task::yield_now().await;
    }
    // As the cell's end does.
    cut.abort();
    assert!(cut.await.unwrap_err().is_cancelled());
    assert_eq!(rig.store.unfinished().await.unwrap().len(), 1);
    rig.egress.end().await.unwrap();
    assert!(rig.store.unfinished().await.unwrap().is_empty());
    let unknown = |event: &Event| matches!(event, Event::Ended { outcome: Outcome::Unknown { .. }, .. });
    assert_eq!(rig.ledger().await.iter().filter(|event| unknown(event)).count(), 1);
    drop(door);
}
