//! `git push` through the gate: each ref is decided on, and the server hears exactly what was.

use wire::git::{Push, Start};

use super::*;

const RULES: &str = r#"
allow = [
    "PUSH https://api.example:PORT/acme/app refs/heads/agent/* no-ci",
    "GET,POST https://api.example:PORT/**",
]
ask = ["PUSH https://api.example:PORT/acme/app refs/heads/main"]
"#;
const NONE: &str = "0000000000000000000000000000000000000000";
const SOME: &str = "1111111111111111111111111111111111111111";

impl Rig {
    fn push(&self, refs: &[&str]) -> EgressRequest {
        let line = |(number, name): (usize, &&str)| {
            let line = format!("{NONE} {SOME} {name}") + if number == 0 { "\0 report-status" } else { "" };
            format!("{:04x}{line}", line.len() + 4)
        };
        let lines: String = refs.iter().enumerate().map(line).collect();
        let Ok(Start::Whole(push, _)) = Push::read(format!("{lines}0000").as_bytes()) else {
            panic!("{lines}")
        };
        let request = self.request("POST api.example/acme/app.git/git-receive-pack");
        EgressRequest { push: Some(push), body: BodyLength::Unknown, ..request }
    }
}

#[tokio::test]
async fn a_push_reaches_the_server_as_it_was_decided_on() {
    let rig = Rig::with(RULES, false, Bounds::default(), None).await;
    let back = rig.send(rig.push(&["refs/heads/agent/a"]), vec![b"PACK-and-more".to_vec()]).await;
    assert_eq!(back.status, 200, "{back:?}");
    let text = back.text();
    let line = format!("0077{NONE} {SOME} refs/heads/agent/a\0 report-status0000PACK-and-more");
    assert!(text.contains("transfer-encoding: chunked") && text.ends_with(&line), "{text}");
    for refs in [&["refs/heads/other"][..], &["refs/heads/agent/a", "refs/heads/main"], &["refs/tags/v1"]] {
        let back = rig.send(rig.push(refs), vec![b"PACK".to_vec()]).await;
        assert_eq!((back.status, back.refused, rig.hits()), (403, true, 1), "{refs:?}: {back:?}");
        assert!(back.text().contains(refs[0]), "it is told which: {back:?}");
    }
    // A push of nothing is tried out, and carries nothing.
    let tried = EgressRequest { body: BodyLength::None, ..rig.push(&[]) };
    let back = rig.send(tried, vec![]).await;
    assert!(back.status == 200 && back.text().ends_with("content-length: 4\n0000"), "{back:?}");
    assert_eq!((rig.send(rig.push(&[]), vec![b"more".to_vec()]).await.status, rig.hits()), (400, 2));
    // No door can say that a push is none.
    let fooled = EgressRequest { push: None, ..rig.push(&["refs/heads/other"]) };
    assert_eq!((rig.send(fooled, vec![b"PACK".to_vec()]).await.status, rig.hits()), (400, 2));
}

#[tokio::test]
async fn a_push_that_asks_shows_each_change_and_waits() {
    let mut rig = Rig::with(RULES, false, Bounds::default(), None).await;
    let held = rig.begun(rig.push(&["refs/heads/main"]), vec![vec![0xff, 0xfe]]);
    let ToolEvent::Waits { approval, .. } = rig.events.recv().await.unwrap() else { panic!("it asks") };
    let shown = rig.store.approval(approval, NOW).await.unwrap().shown.unwrap();
    let arguments = shown.arguments.reveal();
    assert!(arguments.contains(&format!("refs/heads/main: new, at {SOME}")), "{arguments}");
    assert!(shown.consequences.iter().any(|told| told == "it makes something run"), "{shown:?}");
    let answer = store::Answer { person: rig.owner.clone(), yes: true, for_session: false, why: None };
    rig.store.answer(approval, &answer, NOW).await.unwrap();
    let back = held.await.unwrap();
    assert_eq!((back.status, rig.hits()), (200, 1), "{back:?}");
    assert!(back.text().contains("refs/heads/main\0 report-status0000"), "{back:?}");
}

#[tokio::test]
async fn a_program_that_goes_away_while_people_are_asked_is_not_waited_for() {
    for pack in [16, 1 << 20] {
        let mut rig = Rig::with(RULES, false, Bounds::default(), None).await;
        let pieces = || vec![b'x'; pack].chunks(8 << 10).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let (door, daemon) = tokio::io::duplex(1 << 16);
        let (request, egress) = (rig.push(&["refs/heads/main"]), Arc::clone(&rig.egress));
        let served =
            tokio::spawn(async move { crate::egress::serve(request, daemon, egress.as_ref()).await });
        let (read, mut write) = tokio::io::split(door);
        for piece in pieces() {
            frame::write(&mut write, &EgressBody::Bytes(piece), LARGE).await.unwrap();
        }
        frame::write(&mut write, &EgressBody::End, LARGE).await.unwrap();
        let ToolEvent::Waits { approval, .. } = rig.events.recv().await.unwrap() else { panic!("it asks") };
        drop((read, write));
        let over = tokio::time::timeout(Duration::from_secs(60), served).await;
        over.expect("nobody is waited for").unwrap().unwrap();
        // A yes that comes later sends nothing by itself; whoever sends the same again need not ask again.
        let answer = store::Answer { person: rig.owner.clone(), yes: true, for_session: false, why: None };
        rig.store.answer(approval, &answer, NOW).await.unwrap();
        assert_eq!(rig.hits(), 0);
        let back = rig.send(rig.push(&["refs/heads/main"]), pieces()).await;
        assert_eq!((back.status, rig.hits()), (200, 1), "{back:?}");
    }
}
