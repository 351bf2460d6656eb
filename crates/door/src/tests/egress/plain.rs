//! Requests in the clear, and what holds for all: the canonical form, bodies, answers, back-pressure.

use super::*;

#[tokio::test]
async fn a_request_reaches_the_daemon_in_its_canonical_form_and_alone() {
    let mut proxy = Proxy::usual().await;
    let request = "GET HTTP://Example.COM:80/%7ea/%c3%a9?q='%41#part HTTP/1.1\r\nHost: EXAMPLE.com\r\n\
        Connection: close, X-Mine\r\nX-Mine: 1\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\n\
        Forwarded: host=a\r\nX-Forwarded-Host: a\r\nX_Forwarded_For: 127.0.0.1\r\nX-Host: a\r\n\
        Keep-Alive: timeout=5\r\nTE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\nAccept: */*\r\n\
        Authorization: Bearer x\r\nCookie: a=1\r\nCookie: b=2\r\nAccept: text/plain\r\n\r\n";
    let serve = async {
        let mut asked = proxy.asked.recv().await.unwrap();
        asked.ok("hello").await;
        asked.request
    };
    let mut stream = connect(&proxy.guest).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    let (request, _) = tokio::join!(serve, async { stream.read_to_string(&mut response).await.unwrap() });
    let headers =
        [("accept", "*/*"), ("accept", "text/plain"), ("authorization", "Bearer x"), ("cookie", "a=1; b=2")];
    let mut sent = request.headers.clone();
    sent.sort();
    assert_eq!(sent, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let meant = EgressRequest {
        scheme: Scheme::Http,
        port: 80,
        query: Some("q=%27A".into()),
        headers: request.headers.clone(),
        ..get("example.com", "/~a/%C3%A9")
    };
    assert_eq!(request, meant);
    assert!(response.starts_with("HTTP/1.1 200 OK") && response.ends_with("\r\n\r\nhello"), "{response}");
}

#[tokio::test]
async fn headers_that_ask_for_something_else_do_not_leave() {
    let mut proxy = Proxy::usual().await;
    for name in ["X-HTTP-Method-Override", "x_method_override", "X-Original-URL", "X-Rewrite-Url"] {
        let mut stream = proxy.connect().await;
        let head =
            format!("POST http://example.com/a HTTP/1.1\r\nconnection: close\r\n{name}: DELETE\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 400"), "{response}");
        let told = format!("`{}` asks some servers for another method or path", name.to_ascii_lowercase());
        assert!(response.contains(&told), "{response}");
    }
    assert!(proxy.asked.try_recv().is_err(), "nothing was asked");
}

async fn connect(guest: &Guest) -> Stream {
    let mut stream = guest.opener.open().await.unwrap();
    frame::write(&mut stream, &GuestOpens::Egress, SMALL).await.unwrap();
    stream
}

#[tokio::test]
async fn what_is_refused_by_the_daemon_is_told_with_its_hint() {
    let mut proxy = Proxy::usual().await;
    let mut stream = proxy.connect().await;
    stream.write_all(b"GET http://example.com/ HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut asked = proxy.next().await;
    let (why, hint) = ("egress is closed".to_owned(), Some("ask your owner".to_owned()));
    asked.answer(EgressAnswer::Refused { status: 403, why, hint }).await;
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 403 Forbidden"), "{response}");
    assert!(response.contains("proxy-status: lazaret; error=http_request_denied"), "{response}");
    assert!(response.ends_with("\r\n\r\nlazaret: egress is closed\nhint: ask your owner\n"), "{response}");
}

#[tokio::test]
async fn bodies_pass_with_their_length_or_without_and_never_with_trailers() {
    let mut proxy = Proxy::usual().await;
    for (head, body, length) in [
        ("content-length: 5", "hello", BodyLength::Known(5)),
        ("content-length: 0", "", BodyLength::None),
        (
            "transfer-encoding: chunked",
            "2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nX-Trailer: 1\r\n\r\n",
            BodyLength::Unknown,
        ),
        ("x: y", "", BodyLength::None),
    ] {
        let mut stream = proxy.connect().await;
        let request =
            format!("PUT http://example.com/ HTTP/1.1\r\nconnection: close\r\n{head}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut asked = proxy.next().await;
        assert_eq!(asked.request.body, length, "{head}");
        assert!(asked.request.headers.iter().all(|(name, _)| name == "x"), "{:?}", asked.request.headers);
        if length != BodyLength::None {
            assert_eq!(asked.body().await, b"hello");
        }
        asked.ok("done").await;
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert!(response.ends_with("\r\n\r\ndone"), "{response}");
    }
}

#[tokio::test]
async fn a_program_that_waits_for_a_word_before_its_body_gets_it() {
    let mut proxy = Proxy::usual().await;
    let mut stream = proxy.connect().await;
    let head = "POST http://example.com/ HTTP/1.1\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut asked = proxy.next().await;
    assert!(asked.request.headers.is_empty());
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 100 Continue"));
    stream.write_all(b"hi").await.unwrap();
    assert_eq!(asked.body().await, b"hi");
    asked.ok("done").await;
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_answer_streams_piece_by_piece_and_one_that_is_cut_does_not_look_whole() {
    let mut proxy = Proxy::usual().await;
    let mut stream = proxy.connect().await;
    stream.write_all(b"GET http://example.com/events HTTP/1.1\r\n\r\n").await.unwrap();
    let mut asked = proxy.next().await;
    let headers = vec![
        ("content-type".into(), "text/event-stream".into()),
        ("set-cookie".into(), "a".into()),
        ("set-cookie".into(), "b".into()),
    ];
    asked.answer(EgressAnswer::Head { status: 200, headers }).await;
    let head = read_head(&mut stream).await;
    assert!(head.contains("text/event-stream") && head.contains("set-cookie: a\r\nset-cookie: b"), "{head}");
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        asked.answer(EgressAnswer::Body(event.into())).await;
        let mut chunk = vec![0; "9\r\n\r\n".len() + event.len()];
        stream.read_exact(&mut chunk).await.unwrap();
        assert_eq!(chunk, format!("9\r\n{event}\r\n").as_bytes());
    }
    drop(asked);
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
}

#[tokio::test]
async fn an_answer_without_a_body_ends_in_order_and_the_connection_goes_on() {
    let mut proxy = Proxy::usual().await;
    let mut stream = proxy.connect().await;
    for (method, status) in [("HEAD", 200), ("GET", 304), ("DELETE", 204)] {
        stream.write_all(format!("{method} http://example.com/ HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
        let mut asked = proxy.next().await;
        assert_eq!(asked.request.method, method);
        let headers = if status == 204 { vec![] } else { vec![("content-length".into(), "1000".into())] };
        asked.answer(EgressAnswer::Head { status, headers }).await;
        asked.answer(EgressAnswer::End).await;
        assert!(read_head(&mut stream).await.starts_with(&format!("HTTP/1.1 {status}")));
        // The door lets go once it has read the end.
        assert_eq!(asked.piece().await, None);
    }
}

#[tokio::test]
async fn an_answer_that_would_begin_another_protocol_is_none() {
    let mut proxy = Proxy::usual().await;
    for (status, headers) in [
        (101, vec![("upgrade".to_owned(), "websocket".to_owned())]),
        (100, vec![]),
        (0, vec![]),
        (200, vec![("a b".into(), String::new())]),
    ] {
        let mut stream = proxy.connect().await;
        stream.write_all(b"GET http://example.com/ HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
        proxy.next().await.answer(EgressAnswer::Head { status, headers }).await;
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 502"), "{status}");
    }
}

#[tokio::test]
async fn a_program_that_goes_away_ends_its_request() {
    let mut proxy = Proxy::usual().await;
    let mut stream = proxy.connect().await;
    stream.write_all(b"GET http://example.com/ HTTP/1.1\r\n\r\n").await.unwrap();
    let mut asked = proxy.next().await;
    asked.answer(EgressAnswer::Head { status: 200, headers: vec![] }).await;
    read_head(&mut stream).await;
    drop(stream);
    assert_eq!(asked.piece().await, None);
}

#[tokio::test]
async fn a_program_that_goes_away_while_its_whole_body_is_held_ends_its_request() {
    let mut proxy = Proxy::usual().await;
    const LONG: usize = 300 << 10;
    let known = format!("content-length: {LONG}\r\n\r\n{}", "x".repeat(LONG));
    let chunked = format!("transfer-encoding: chunked\r\n\r\n{LONG:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(LONG));
    for body in [known, chunked] {
        let mut stream = proxy.connect().await;
        let request = format!("PUT http://example.com/ HTTP/1.1\r\n{body}");
        let sending = async {
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            stream
        };
        let held = async {
            let mut asked = proxy.next().await;
            assert_eq!(asked.body().await.len(), LONG);
            asked
        };
        let (stream, mut asked) = tokio::join!(sending, held);
        drop(stream);
        assert_eq!(asked.piece().await, None, "nobody waits for the answer any more");
    }
}

#[tokio::test]
async fn a_body_that_nobody_takes_makes_its_program_wait() {
    let mut proxy = Proxy::usual().await;
    let mut stream = proxy.connect().await;
    stream
        .write_all(b"POST http://example.com/ HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    let mut asked = proxy.next().await;
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    let mut sent = 0;
    while tokio::time::timeout(SHORT, stream.write_all(&chunk)).await.is_ok() {
        sent += 0x10000;
        assert!(sent < 8 << 20, "an endless body fills the door");
    }
    // And goes on as soon as it is taken.
    let mut taken = 0;
    while taken < sent {
        let Some(EgressBody::Bytes(bytes)) = asked.piece().await else { panic!("cut") };
        taken += bytes.len();
    }
}
