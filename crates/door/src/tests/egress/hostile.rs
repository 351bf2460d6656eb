//! What is no request to a proxy, or one for two places, does not leave; slowness ends.

use super::*;

#[tokio::test]
async fn what_has_no_canonical_form_does_not_leave() {
    let mut proxy = Proxy::usual().await;
    let many = "a: b\r\n".repeat(101);
    let large = format!("a: {}\r\n", "b".repeat(40 << 10));
    let long = format!("GET http://example.com/{} HTTP/1.1\r\n\r\n", "a".repeat(9 << 10));
    for (request, status, why) in [
        ("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n", "400", "this is a proxy"),
        ("GET https://example.com/ HTTP/1.1\r\n\r\n", "400", "CONNECT"),
        ("GET ftp://example.com/ HTTP/1.1\r\n\r\n", "400", "`ftp`"),
        ("GET http://example.com/ HTTP/1.1\r\nhost: evil.example\r\n\r\n", "421", "`evil.example`"),
        ("GET http://example.com/ HTTP/1.1\r\nhost: example.com:81\r\n\r\n", "421", "sent to"),
        (
            "GET http://example.com/ HTTP/1.1\r\nhost: example.com\r\nhost: example.com\r\n\r\n",
            "400",
            "several",
        ),
        ("GET http://example.com/ HTTP/1.1\r\nhost: example.com@evil.example\r\n\r\n", "400", "user name"),
        ("GET http://user:pw@example.com/ HTTP/1.1\r\n\r\n", "400", "user name"),
        ("GET http://2130706433/ HTTP/1.1\r\n\r\n", "400", "IPv4"),
        ("GET http://0x7f.1/ HTTP/1.1\r\n\r\n", "400", "IPv4"),
        ("GET http://[::ffff:127.0.0.1]/ HTTP/1.1\r\n\r\n", "400", "IPv4"),
        ("GET http://example.com./ HTTP/1.1\r\n\r\n", "400", "dot"),
        ("GET http://example.com:0/ HTTP/1.1\r\n\r\n", "400", "port"),
        ("GET http://example.com:080/ HTTP/1.1\r\n\r\n", "400", "port"),
        ("GET http://example.com/a/../b HTTP/1.1\r\n\r\n", "400", "`..`"),
        ("GET http://example.com/%2e%2e/b HTTP/1.1\r\n\r\n", "400", "`..`"),
        ("GET http://example.com/a%2fb HTTP/1.1\r\n\r\n", "400", "slash"),
        ("GET http://example.com/a%0d%0aHost:x HTTP/1.1\r\n\r\n", "400", "control"),
        ("GET http://example.com/a\\b HTTP/1.1\r\n\r\n", "400", ""),
        ("get http://example.com/ HTTP/1.1\r\n\r\n", "400", "upper-case"),
        ("TRACE http://example.com/ HTTP/1.1\r\n\r\n", "400", "TRACE"),
        ("OPTIONS * HTTP/1.1\r\nhost: example.com\r\n\r\n", "400", "proxy"),
        (
            "GET http://example.com/ HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            "501",
            "WebSockets",
        ),
        ("GET http://example.com/ HTTP/1.1\r\nx: \u{ff}\r\nconnection: close\r\nx: \u{1}\r\n\r\n", "400", ""),
        (&format!("GET http://example.com/ HTTP/1.1\r\n{many}\r\n"), "431", ""),
        (&format!("GET http://example.com/ HTTP/1.1\r\n{large}\r\n"), "400", "KiB"),
        (&long, "400", "8 KiB"),
        ("GET http://example.com/ HTTP/3.0\r\n\r\n", "400", ""),
        ("\u{16}\u{3}\u{1}", "400", ""),
        ("CONNECT user@example.com:443 HTTP/1.1\r\n\r\n", "400", "user name"),
        ("CONNECT 0x7f000001:443 HTTP/1.1\r\n\r\n", "400", "IPv4"),
        ("CONNECT example.com:0 HTTP/1.1\r\n\r\n", "400", "port"),
        ("CONNECT example.com:443 HTTP/1.1\r\nhost: evil.example:443\r\n\r\n", "421", "`evil.example`"),
        ("CONNECT no-leaf.example:443 HTTP/1.1\r\n\r\n", "403", "too many names"),
    ] {
        let response = proxy.exchange(request).await;
        let shown: String = request.chars().take(80).collect();
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {response}");
        assert!(response.contains(why), "{shown}: {response}");
    }
    proxy.nothing_left().await;
}

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_is_not_waited_for() {
    let mut proxy = Proxy::new(DoorLimits { http_head: SHORT, ..DoorLimits::default() }).await;
    let mut stream = proxy.connect().await;
    stream.write_all(b"GET http://example.com/ HTTP/1.1\r\na: b").await.unwrap();
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
    // In a tunnel too: before the first byte, in the handshake, and in the head.
    let mut silent = proxy.tunnel("example.com:443").await;
    drop(silent.read_to_end(&mut rest).await);
    let mut handshake = proxy.tunnel("example.com:443").await;
    handshake.write_all(&[0x16, 3, 1, 0, 200]).await.unwrap();
    drop(handshake.read_to_end(&mut rest).await);
    let mut head = proxy.tls("example.com:443", "example.com", &[]).await.unwrap();
    head.write_all(b"GET / HTTP/1.1\r\nhost: exam").await.unwrap();
    drop(head.read_to_end(&mut rest).await);
    proxy.nothing_left().await;
}

/// One time for the whole of it: what comes doesn't begin it anew.
#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_cut_by_one_time_for_all_of_it() {
    // A handshake on a busy machine takes its time, too.
    let mut proxy = Proxy::new(DoorLimits { http_head: SHORT * 8, ..DoorLimits::default() }).await;
    let mut head = proxy.connect().await;
    head.write_all(b"GET http://example.com/").await.unwrap();
    assert!(ends_in_spite_of_drops(head, b"a").await, "to the proxy");
    let mut fields = proxy.connect().await;
    fields.write_all(b"GET http://example.com/ HTTP/1.1\r\n").await.unwrap();
    assert!(ends_in_spite_of_drops(fields, b"a: b\r\n").await, "field by field");
    let mut handshake = proxy.tunnel("example.com:443").await;
    handshake.write_all(&[0x16, 3, 1, 0, 200]).await.unwrap();
    assert!(ends_in_spite_of_drops(handshake, &[0]).await, "in the handshake of TLS");
    let mut tls = proxy.tls("example.com:443", "example.com", &["http/1.1"]).await.unwrap();
    tls.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert!(ends_in_spite_of_drops(tls, b"a: b\r\n").await, "in TLS");
    proxy.nothing_left().await;
}

#[tokio::test]
async fn a_body_that_says_nothing_ends_the_request() {
    let mut proxy = Proxy::new(DoorLimits { http_body: SHORT, ..DoorLimits::default() }).await;
    let mut stream = proxy.connect().await;
    let head = b"POST http://example.com/ HTTP/1.1\r\nconnection: close\r\ncontent-length: 10\r\n\r\nhalf";
    stream.write_all(head).await.unwrap();
    let mut asked = proxy.next().await;
    assert_eq!(asked.piece().await, Some(EgressBody::Bytes(b"half".into())));
    // It is cut: no end comes.
    assert_eq!(asked.piece().await, None);
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 408"));
}

#[tokio::test]
async fn no_more_is_asked_of_the_daemon_at_once_than_the_link_holds() {
    let mut proxy = Proxy::usual().await;
    let mut streams = Vec::new();
    for _ in 0..40 {
        let mut stream = proxy.connect().await;
        stream.write_all(b"GET http://example.com/ HTTP/1.1\r\n\r\n").await.unwrap();
        streams.push(stream);
    }
    let mut asked = Vec::new();
    while let Ok(Some(one)) = tokio::time::timeout(SHORT, proxy.asked.recv()).await {
        asked.push(one);
    }
    assert_eq!(asked.len(), 32);
    asked.pop().unwrap().ok("done").await;
    asked.push(proxy.next().await);
}
