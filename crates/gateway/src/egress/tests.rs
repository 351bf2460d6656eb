//! The carrying of requests, with gates that do as they are told.

use tokio::io::{DuplexStream, ReadHalf, WriteHalf, split};
use wire::egress::{BodyLength, EgressBody, MAX_ANSWER, Scheme};
use wire::frame::{self, SMALL};

use super::*;

fn request(body: BodyLength) -> EgressRequest {
    EgressRequest {
        method: "POST".into(),
        scheme: Scheme::Https,
        host: "example.com".into(),
        port: 443,
        path: "/".into(),
        query: None,
        headers: Vec::new(),
        push: None,
        body,
    }
}

/// What a gate does with an exchange.
struct Does<F>(F);

impl<F, A> EgressGate for Does<F>
where
    F: Fn(Exchange) -> A + Send + Sync,
    A: Future<Output = Result<(), EgressRefusal>> + Send + 'static,
{
    fn exchange(&self, _: EgressRequest, exchange: Exchange) -> BoxFuture<'_, Result<(), EgressRefusal>> {
        Box::pin((self.0)(exchange))
    }
}

/// The door's side of a request that this gate answers.
fn served(
    body: BodyLength,
    gate: impl EgressGate + 'static,
) -> (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>) {
    let (door, daemon) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move { drop(serve(request(body), daemon, &gate).await) });
    split(door)
}

async fn answer(from: &mut ReadHalf<DuplexStream>) -> Option<EgressAnswer> {
    frame::read(from, MAX_ANSWER).await.unwrap()
}

async fn send(to: &mut WriteHalf<DuplexStream>, body: &[u8]) {
    frame::write(to, &EgressBody::Bytes(body.to_vec()), SMALL).await.unwrap();
}

async fn end(to: &mut WriteHalf<DuplexStream>) {
    frame::write(to, &EgressBody::End, SMALL).await.unwrap();
}

fn refusal() -> EgressRefusal {
    EgressRefusal { status: 502, why: "no".into(), hint: None }
}

/// Says how long the body was, and whether it was whole.
async fn measure(mut exchange: Exchange) -> Result<(), EgressRefusal> {
    let mut bytes = 0;
    let whole = loop {
        match exchange.body.next().await {
            Ok(Some(piece)) => bytes += piece.len(),
            Ok(None) => break true,
            Err(Gone) => break false,
        }
    };
    exchange.answer.head(200, Vec::new()).await.map_err(|_| refusal())?;
    exchange.answer.body(format!("{bytes} {whole}").as_bytes()).await.map_err(|_| refusal())
}

#[tokio::test]
async fn a_closed_gate_says_so_and_what_to_do() {
    let (mut from, _to) = served(BodyLength::None, Closed);
    let Some(EgressAnswer::Refused { status: 403, why, hint: Some(_) }) = answer(&mut from).await else {
        panic!("not refused")
    };
    assert!(why.contains("egress is closed") && why.contains("`example.com`"), "{why}");
    assert_eq!(answer(&mut from).await, None);
}

#[tokio::test]
async fn what_a_fooled_door_sends_does_not_reach_the_gate() {
    let (door, daemon) = tokio::io::duplex(1 << 16);
    let gate = Does(|_| async { panic!("it got there") });
    let fooled = EgressRequest { path: "/a/../b".into(), ..request(BodyLength::None) };
    tokio::spawn(async move { drop(serve(fooled, daemon, &gate).await) });
    let (mut from, _to) = split(door);
    assert!(matches!(answer(&mut from).await, Some(EgressAnswer::Refused { status: 400, .. })));
}

#[tokio::test]
async fn a_body_is_as_long_as_it_was_said_to_be_or_it_is_cut() {
    for (said, sent, ends, seen) in [
        (BodyLength::None, 0, false, "0 true"),
        (BodyLength::Known(6), 2, true, "6 true"),
        (BodyLength::Known(6), 1, true, "3 false"),
        (BodyLength::Known(5), 2, true, "3 false"),
        (BodyLength::Unknown, 2, true, "6 true"),
        (BodyLength::Unknown, 2, false, "6 false"),
    ] {
        let (mut from, mut to) = served(said, Does(measure));
        for _ in 0..sent {
            send(&mut to, b"abc").await;
        }
        if ends {
            end(&mut to).await;
        } else if said != BodyLength::None {
            // A frame that is none.
            tokio::io::AsyncWriteExt::write_all(&mut to, &[0; 8]).await.unwrap();
        }
        assert!(matches!(answer(&mut from).await, Some(EgressAnswer::Head { status: 200, .. })));
        assert_eq!(answer(&mut from).await, Some(EgressAnswer::Body(seen.into())), "{said:?}");
        assert_eq!(answer(&mut from).await, Some(EgressAnswer::End));
    }
}

#[tokio::test]
async fn an_answer_that_fails_in_its_middle_does_not_look_whole() {
    let gate = Does(|exchange: Exchange| async move {
        exchange.answer.head(200, Vec::new()).await.map_err(|_| refusal())?;
        exchange.answer.body(&vec![7; CHUNK + 1]).await.map_err(|_| refusal())?;
        Err(refusal())
    });
    let (mut from, _to) = served(BodyLength::None, gate);
    assert!(matches!(answer(&mut from).await, Some(EgressAnswer::Head { .. })));
    assert!(matches!(answer(&mut from).await, Some(EgressAnswer::Body(piece)) if piece.len() == CHUNK));
    assert!(matches!(answer(&mut from).await, Some(EgressAnswer::Body(piece)) if piece.len() == 1));
    assert_eq!(answer(&mut from).await, None);
}

#[tokio::test]
async fn a_door_that_lets_go_cancels_and_the_gate_concludes() {
    let (concluded, mut conclusion) = mpsc::channel(1);
    let gate = Does(move |exchange: Exchange| {
        let concluded = concluded.clone();
        async move {
            exchange.cancelled.cancelled().await;
            concluded.send(()).await.unwrap();
            Err(refusal())
        }
    });
    let (mut from, mut to) = served(BodyLength::Unknown, gate);
    end(&mut to).await;
    tokio::io::AsyncWriteExt::shutdown(&mut to).await.unwrap();
    conclusion.recv().await.unwrap();
    assert_eq!(answer(&mut from).await, None);
}

#[tokio::test]
async fn a_program_that_does_not_take_its_answer_makes_the_gate_wait() {
    let (sent, mut count) = mpsc::unbounded_channel();
    let gate = Does(move |exchange: Exchange| {
        let sent = sent.clone();
        async move {
            exchange.answer.head(200, Vec::new()).await.map_err(|_| refusal())?;
            while exchange.answer.body(&[0; CHUNK]).await.is_ok() {
                sent.send(()).unwrap();
            }
            Err(refusal())
        }
    });
    let (from, _to) = served(BodyLength::None, gate);
    // The pipe takes two pieces, and as many wait.
    for _ in 0..3 {
        count.recv().await.unwrap();
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let mut more = 0;
    while count.try_recv().is_ok() {
        more += 1;
    }
    assert!(more <= 3, "{more}");
    drop(from);
}
