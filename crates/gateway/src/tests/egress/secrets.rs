//! What goes with a secret to its server, and what of it comes back: nothing, whatever the server writes it in.

use domain::SecretBinding;
use vault::{REDACTED, Secret};

use super::*;

const CANARY: &str = "canary/of+the=vault";

/// A rig whose agent is lent a secret for the site.
async fn lending() -> (Rig, tempfile::TempDir) {
    let (vault, folder) = crate::tests::vault::vault();
    let lending = format!("{EGRESS}[secrets]\napi = [\"https://api.example:PORT\"]\n");
    let rig = Rig::with(&lending, false, Bounds::default(), Some(Arc::clone(&vault))).await;
    let to = format!("https://api.example:{}", rig.site.port).parse().unwrap();
    let binding = SecretBinding { to, methods: std::collections::BTreeSet::new(), how: domain::How::Bearer };
    vault.set(&"api".parse().unwrap(), Secret::from(CANARY), vec![binding], NOW).unwrap();
    (rig, folder)
}

/// What comes back of a session's first request: a second one would be under the rule of two.
async fn asked(request: &str) -> Back {
    let (rig, _folder) = lending().await;
    rig.ask(request).await
}

impl Rig {
    async fn with_headers(&self, request: &str, headers: &[(&str, &str)]) -> Back {
        let mut request = self.request(request);
        request.headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        self.send(request, Vec::new()).await
    }
}

#[tokio::test]
async fn a_program_does_not_choose_a_charset_that_hides_the_secret() {
    let (rig, _folder) = lending().await;
    let chosen = [("accept", "application/json;charset=UTF-16BE;q=0.9"), ("accept-charset", "utf-16")];
    let back = rig.with_headers("GET api.example/echo", &chosen).await;
    assert!(back.text().contains("accept: application/json;q=0.9\n"), "{back:?}");
    assert!(!back.text().contains("charset"), "{back:?}");
    // A server that answers so whatever it was asked for.
    let back = asked("GET api.example/wide?declared").await;
    assert_eq!((back.status, back.refused), (502, true), "{back:?}");
    assert!(back.text().contains("in a charset in which the answer can't be searched"), "{back:?}");
    let back = asked("GET api.example/wide?mark").await;
    assert!(!back.whole && back.body.is_empty(), "{back:?}");
    // What is packed can't be searched either, and is not unpacked.
    let back = asked("GET api.example/packed").await;
    assert_eq!((back.status, back.refused), (502, true), "{back:?}");
    assert!(back.text().contains("packed an answer that must be searched"), "{back:?}");
    let back = asked("GET api.example/wide?silent").await;
    let narrow: Vec<u8> = back.body.iter().copied().filter(|byte| *byte != 0).collect();
    let text = String::from_utf8(narrow).unwrap();
    assert!(back.whole && text.contains(REDACTED) && !text.contains("canary"), "{text}");
}

#[tokio::test]
async fn a_page_that_writes_the_secret_in_references_does_not_show_it() {
    let back = asked("GET api.example/written").await;
    assert_eq!(back.text(), format!("<p>Bearer {REDACTED}</p>"));
}

#[tokio::test]
async fn nothing_of_the_agents_says_who_asks_where_secrets_are_bound() {
    let (rig, _folder) = lending().await;
    let own =
        [("job-token", "mine"), ("x-auth-key", "mine"), ("x-unknown", "mine"), ("git-protocol", "version=2")];
    let text = rig.with_headers("GET api.example/echo", &own).await.text();
    assert!(text.contains("git-protocol: version=2\n") && !text.contains("mine"), "{text}");
    for query in ["private_token=mine", "a=b&access_token%5B%5D=mine", "key=mine"] {
        let back = rig.ask(&format!("GET api.example/echo?{query}")).await;
        assert_eq!((back.status, back.refused), (403, true), "{back:?}");
        assert!(back.text().contains("carries a key of its own in `"), "{back:?}");
    }
    // Where it may not go, it does not find out that a secret is bound.
    let back = rig.ask("DELETE api.example/echo?key=mine").await;
    assert_eq!((back.status, back.refused), (403, true), "{back:?}");
    assert!(!back.text().contains("bound"), "{back:?}");
    assert_eq!(rig.hits(), 1);
    assert_eq!(asked("GET api.example/echo?page=2").await.status, 200);
}

/// A rig whose secret is refused where it goes, and renewed then.
async fn refused_once(egress: &str) -> (Rig, Arc<Vault>, tempfile::TempDir) {
    let (vault, folder) = crate::tests::vault::vault();
    let mut rig = Rig::with(egress, false, Bounds::default(), Some(Arc::clone(&vault))).await;
    rig.outside.lender = Some(crate::tests::vault::late_lender(&vault));
    rig.egress = Arc::new(SessionEgress::new(Arc::clone(&rig.gate), rig.outside.clone()));
    let place = format!("https://api.example:{}", rig.site.port);
    let endpoint = crate::tests::vault::token_endpoint(crate::tests::vault::GIVEN).await;
    crate::tests::vault::logged_in(&vault, endpoint, &place, None);
    (rig, vault, folder)
}

#[tokio::test]
async fn a_request_that_only_reads_is_sent_once_more_with_the_secret_that_was_renewed() {
    let egress =
        EGRESS.replace("POST https://api.example:PORT/echo", "POST,DELETE https://api.example:PORT/guarded");
    let lending = format!("{egress}[secrets]\nclaude = [\"https://api.example:PORT\"]\n");
    for (request, body, status, hits) in [
        ("GET api.example/guarded", &b""[..], 200, 2),
        ("HEAD api.example/guarded", b"", 200, 2),
        ("GET api.example/guarded/always", b"", 401, 2),
        ("POST api.example/guarded", b"x", 401, 1),
        ("DELETE api.example/guarded", b"", 401, 1),
    ] {
        let (rig, vault, _folder) = refused_once(&lending).await;
        let back = if body.is_empty() { rig.ask(request).await } else { rig.post(request, body).await };
        assert_eq!((back.status, rig.hits()), (status, hits), "{request}: {back:?}");
        let renewed = vault.login(&"claude".parse().unwrap()).unwrap().tokens.access;
        assert_eq!(renewed.reveal(), b"canary-key-of-the-host", "the next try finds it in any case");
        // One act, and each time that the secret was shown.
        let ledger = rig.ledger().await;
        let count = |of: fn(&Event) -> bool| ledger.iter().filter(|event| of(event)).count();
        assert_eq!(count(|event| matches!(event, Event::SecretUsed { .. })), hits, "{request}");
        assert_eq!(count(|event| matches!(event, Event::Committed { .. })), 1, "{request}");
    }
}

#[tokio::test]
async fn each_time_that_a_request_leaves_counts() {
    let lending = format!("{EGRESS}[secrets]\nclaude = [\"https://api.example:PORT\"]\n");
    let mut left = Vec::new();
    for (per_minute, status, hits) in [(60, 200, 2), (1, 401, 1)] {
        let limited = format!("requests_per_minute = {per_minute}");
        let (rig, _vault, _folder) =
            refused_once(&lending.replace("requests_per_minute = 60", &limited)).await;
        assert_eq!((rig.ask("GET api.example/guarded").await.status, rig.hits()), (status, hits));
        rig.gate.concluded().await;
        left.push(rig.store.used("agent:clerk/bytes-out", 20_775).await.unwrap());
    }
    assert!(left[1] > 0 && left[0] == 2 * left[1], "{left:?}");
    // What may leave twice is set aside twice.
    for (bytes, status, hits) in [(left[0], 200, 2), (left[0] - 1, 429, 0)] {
        let limited = format!("bytes_out_per_day = \"{bytes}B\"");
        let (rig, _vault, _folder) =
            refused_once(&lending.replace("bytes_out_per_day = \"2MiB\"", &limited)).await;
        assert_eq!((rig.ask("GET api.example/guarded").await.status, rig.hits()), (status, hits));
    }
}

#[tokio::test]
async fn a_question_names_the_secret_that_would_go_with_the_request() {
    let (mut rig, _folder) = lending().await;
    let _open = rig.begun(rig.request("PUT api.example/page"), Vec::new());
    let approval = rig.question().await;
    let asked = rig.store.approval(approval, NOW).await.unwrap();
    let told = asked.shown.unwrap().consequences.join("; ");
    assert!(told.contains("goes with the host's secret `api`"), "{told}");
}

impl Rig {
    /// The next question that is asked.
    async fn question(&mut self) -> domain::ApprovalId {
        loop {
            if let ToolEvent::Waits { approval, .. } = self.events.recv().await.unwrap() {
                return approval;
            }
        }
    }

    async fn says_yes(&self, approval: domain::ApprovalId) {
        let answer = store::Answer { person: self.owner.clone(), yes: true, for_session: false, why: None };
        self.store.answer(approval, &answer, NOW).await.unwrap();
    }
}

#[tokio::test]
async fn what_waited_for_people_goes_with_the_secret_as_it_is_when_they_have_answered() {
    // Rotated by a person.
    let (vault, _folder) = crate::tests::vault::vault();
    let lending = format!("{EGRESS}[secrets]\napi = [\"https://api.example:PORT\"]\n");
    let mut rig = Rig::with(&lending, false, Bounds::default(), Some(Arc::clone(&vault))).await;
    let place = format!("https://api.example:{}", rig.site.port);
    crate::tests::vault::set(&vault, "api", CANARY, &place, "bearer");
    let open = rig.begun(rig.request("PUT api.example/guarded"), Vec::new());
    let approval = rig.question().await;
    vault.rotate(&"api".parse().unwrap(), "canary-key-of-the-host".into(), 2).unwrap();
    rig.says_yes(approval).await;
    let back = open.await.unwrap();
    assert_eq!((back.status, rig.hits()), (200, 1), "{back:?}");
    // A token that ended while they thought.
    let (vault, _folder) = crate::tests::vault::vault();
    let mut rig =
        Rig::with(&lending.replace("api =", "claude ="), false, Bounds::default(), Some(Arc::clone(&vault)))
            .await;
    let (lender, clock) = crate::tests::vault::lender_with_a_clock(&vault);
    rig.outside.lender = Some(lender);
    rig.egress = Arc::new(SessionEgress::new(Arc::clone(&rig.gate), rig.outside.clone()));
    let place = format!("https://api.example:{}", rig.site.port);
    let endpoint = crate::tests::vault::token_endpoint(crate::tests::vault::GIVEN).await;
    crate::tests::vault::logged_in(&vault, endpoint, &place, Some(3_000_000));
    let request = EgressRequest { body: BodyLength::Known(1), ..rig.request("PUT api.example/guarded") };
    let open = rig.begun(request, vec![b"x".to_vec()]);
    let approval = rig.question().await;
    clock.store(3_600_000, Ordering::SeqCst);
    rig.says_yes(approval).await;
    let back = open.await.unwrap();
    assert_eq!((back.status, rig.hits()), (200, 1), "{back:?}");
}

#[tokio::test]
async fn an_answer_about_one_secret_is_none_about_another() {
    let (vault, _folder) = crate::tests::vault::vault();
    let both = "[secrets]\napi = [\"https://api.example:PORT\"]\nother = [\"https://api.example:PORT\"]\n";
    let lending = format!("{EGRESS}{both}");
    let mut rig = Rig::with(&lending, false, Bounds::default(), Some(Arc::clone(&vault))).await;
    let place = format!("https://api.example:{}", rig.site.port);
    crate::tests::vault::set(&vault, "api", CANARY, &place, "bearer");
    let open = rig.begun(rig.request("PUT api.example/page"), Vec::new());
    let approval = rig.question().await;
    vault.remove(&"api".parse().unwrap()).unwrap();
    crate::tests::vault::set(&vault, "other", CANARY, &place, "bearer");
    rig.says_yes(approval).await;
    let back = open.await.unwrap();
    let told =
        "people were asked about it with the secret `api`, and it would go with the secret `other` now";
    assert!(back.refused && back.text().contains(told), "{back:?}");
    // Nor is it one when the request is sent once more.
    let _open = rig.begun(rig.request("PUT api.example/page"), Vec::new());
    assert_ne!(rig.question().await, approval);
    assert_eq!(rig.hits(), 0);
}
