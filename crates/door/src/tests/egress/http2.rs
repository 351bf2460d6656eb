//! HTTP/2 in tunnels: as a client of the standard speaks it, and frames that no such client would send.

use ::http::{Request, Version};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

async fn h2(proxy: &Proxy) -> TlsStream<Stream> {
    proxy.tls("example.com:443", "example.com", &["h2"]).await.unwrap()
}

async fn client(proxy: &Proxy) -> SendRequest<Full<Bytes>> {
    let tls = h2(proxy).await;
    let (client, connection) = handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

fn request(url: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::post(url).version(Version::HTTP_2).header("x", "y").body(Full::from(body)).unwrap()
}

#[tokio::test]
async fn requests_and_answers_stream_side_by_side() {
    let mut proxy = Proxy::usual().await;
    let mut client = client(&proxy).await;
    let first = client.send_request(request("https://example.com/first?q=%41", "hello"));
    let second = client.send_request(request("https://EXAMPLE.com/second", ""));
    let (first, second) = (tokio::spawn(first), tokio::spawn(second));
    let mut asked = [proxy.next().await, proxy.next().await];
    asked.sort_by_key(|asked| asked.request.path.clone());
    let [mut one, mut two] = asked;
    assert_eq!(one.request.to_string(), "https://example.com/first?q=A");
    assert_eq!((one.request.body, two.request.body), (BodyLength::Known(5), BodyLength::None));
    assert_eq!(one.request.headers, [("x".to_owned(), "y".to_owned())]);
    two.ok("two").await;
    let second = second.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(one.body().await, b"hello");
    one.answer(EgressAnswer::Head {
        status: 200,
        headers: vec![("content-type".into(), "text/event-stream".into())],
    })
    .await;
    let mut first = first.await.unwrap().unwrap();
    for event in ["a", "b"] {
        one.answer(EgressAnswer::Body(event.into())).await;
        assert_eq!(first.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), event);
    }
    // Cut: it must not look whole.
    drop(one);
    assert!(first.body_mut().frame().await.unwrap().is_err());
    assert_eq!(second, "two");
}

#[tokio::test]
async fn a_request_for_another_server_does_not_leave() {
    let mut proxy = Proxy::usual().await;
    let mut client = client(&proxy).await;
    for (url, status) in [
        ("https://evil.example/", 421),
        ("https://example.com:444/", 421),
        ("http://example.com/", 421),
        ("https://user@example.com/", 400),
        ("https://example.com/a/%2e%2e/b", 400),
        ("https://example.com/a%2fb", 400),
    ] {
        let answer = client.send_request(request(url, "")).await.unwrap();
        assert_eq!(answer.status(), status, "{url}");
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(text.starts_with(b"lazaret: "), "{text:?}");
    }
    let mut both = request("https://example.com/", "");
    both.headers_mut().insert("host", "evil.example".parse().unwrap());
    assert_eq!(client.send_request(both).await.unwrap().status(), 421);
    let upgrade = Request::connect("evil.example:443").body(Full::default()).unwrap();
    assert!(client.send_request(upgrade).await.map_or(true, |answer| answer.status() == 405));
    proxy.nothing_left().await;
}

/// A frame.
fn framed(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Header fields, each spelled out.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        let mut coded = vec![u8::try_from(text.len()).unwrap()];
        assert!(text.len() < 127);
        coded.extend(text.as_bytes());
        coded
    };
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Sends frames after the preface; whether stream 1, or all, was ended without a whole answer, or answered by the door.
async fn refused(tls: TlsStream<Stream>, frames: &[u8]) -> bool {
    let (mut read, mut write) = tokio::io::split(tls);
    let sent = [PREFACE, &framed(4, 0, 0, &[]), frames].concat();
    // It may end before all is written.
    let write = async move {
        drop(write.write_all(&sent).await);
        drop(write.flush().await);
        std::future::pending::<bool>().await
    };
    tokio::select! {
        is_refused = ends(&mut read) => is_refused,
        never = write => never,
    }
}

/// Reads frames until an answer or an end of the stream, or of all.
async fn ends<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> bool {
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return true;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).await.is_err() {
            return true;
        }
        match head[3] {
            // An answer of 4xx, as HPACK writes it: by the number of 400 or 404 in its table, or spelled out.
            HEADERS => return matches!(payload[0], 0x8c | 0x8d | 0x48 | 0x08),
            RST_STREAM | GOAWAY => return true,
            _ => {}
        }
    }
}

#[tokio::test]
async fn frames_that_no_client_would_send_do_not_leave() {
    let mut proxy = Proxy::usual().await;
    let good = [(":method", "GET"), (":scheme", "https"), (":authority", "example.com"), (":path", "/")];
    let with = |change: &[(&'static str, &'static str)]| -> Vec<(&'static str, &'static str)> {
        let mut all: Vec<_> =
            good.iter().filter(|(name, _)| change.iter().all(|(other, _)| name != other)).copied().collect();
        all.extend(change);
        all
    };
    let before =
        [("x", "y"), (":method", "GET"), (":scheme", "https"), (":authority", "example.com"), (":path", "/")];
    let twice = [good[0], good[1], good[2], good[3], (":path", "/other")];
    let two_hosts = [good[0], good[1], good[2], (":authority", "evil.example"), good[3]];
    for headers in [
        with(&[("x", "y"); 65]),
        with(&[(":authority", "evil.example")]),
        with(&[(":authority", "example.com@evil.example")]),
        with(&[(":authority", "example.com evil.example")]),
        with(&[(":authority", "example.com\r\nhost: evil.example")]),
        with(&[(":path", "/a b HTTP/1.1\r\nhost: evil.example")]),
        with(&[(":path", "/a b")]),
        with(&[(":path", "")]),
        with(&[(":path", "*")]),
        with(&[(":path", "evil.example/")]),
        with(&[(":path", "//evil.example/")]),
        with(&[(":path", "/a\tb")]),
        with(&[(":path", "/../")]),
        with(&[(":method", "GET / HTTP/1.1\r\nx: ")]),
        with(&[(":method", "")]),
        with(&[(":method", "get")]),
        with(&[(":scheme", "http")]),
        with(&[(":scheme", "https://evil.example/?")]),
        with(&[("host", "evil.example")]),
        with(&[("x", "y\r\nauthorization: z")]),
        with(&[("x", "y\nz")]),
        with(&[("x", "y\0")]),
        with(&[("x\r\ny", "z")]),
        with(&[("x y", "z")]),
        with(&[("X", "z")]),
        with(&[("x:y", "z")]),
        with(&[("", "z")]),
        with(&[("connection", "close")]),
        with(&[("keep-alive", "1")]),
        with(&[("proxy-connection", "1")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "websocket")]),
        with(&[("te", "gzip")]),
        with(&[("content-length", "5")]),
        with(&[(":protocol", "websocket"), (":method", "CONNECT")]),
        with(&[(":status", "200")]),
        with(&[(":x", "y")]),
        before.to_vec(),
        twice.to_vec(),
        two_hosts.to_vec(),
        good[..3].to_vec(),
        vec![good[0], good[1], good[3]],
        good[1..].to_vec(),
        vec![],
    ] {
        let frames = framed(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&headers));
        let refused = tokio::time::timeout(Duration::from_secs(20), refused(h2(&proxy).await, &frames)).await;
        let left = proxy.asked.try_recv().map(|asked| asked.request);
        assert!(left.is_err(), "{headers:?}: {left:?}");
        assert!(matches!(refused, Ok(true)), "{headers:?}: {refused:?}");
    }
    // The good one does, so it is not the frames that are wrong.
    let mut tls = h2(&proxy).await;
    let frames = framed(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&good));
    tls.write_all(&[PREFACE, &framed(4, 0, 0, &[]), &frames].concat()).await.unwrap();
    assert_eq!(proxy.next().await.request, get("example.com", "/"));
}

/// Neither before HTTP/2 begins, nor in a head, whether bytes come or not: who is in one can't say that it is still there.
#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_is_not_waited_for_in_http_2_either() {
    // A handshake on a busy machine takes its time, too.
    let mut proxy = Proxy::new(DoorLimits { http_head: SHORT * 8, ..DoorLimits::default() }).await;
    let settings = framed(4, 0, 0, &[]);
    let head = fields(&[(":method", "GET"), (":scheme", "https"), (":authority", "example.com")]);
    let frame = framed(HEADERS, END_STREAM, 1, &head);
    let begun = [PREFACE, &settings].concat();
    for (what, sent, drop) in [
        ("nothing", Vec::new(), Vec::new()),
        ("half of the preface", PREFACE[..12].to_vec(), Vec::new()),
        ("a head without its end", [&begun[..], &frame].concat(), Vec::new()),
        ("a head, byte by byte", begun.clone(), framed(HEADERS, END_STREAM, 1, &[0; 200])),
        ("a head, frame by frame", [&begun[..], &frame].concat(), framed(9, 0, 1, b"")),
    ] {
        let mut tls = h2(&proxy).await;
        tls.write_all(&sent).await.unwrap();
        tls.flush().await.unwrap();
        let ended = if drop.is_empty() {
            tokio::time::timeout(SHORT * 10, tls.read_to_end(&mut Vec::new())).await.is_ok()
        } else {
            ends_in_spite_of_drops(tls, &drop).await
        };
        assert!(ended, "{what}");
    }
    proxy.nothing_left().await;
}

/// While it says that it is there, nobody ends it, though it asks for nothing.
#[tokio::test]
async fn a_silent_connection_of_http_2_stays_as_long_as_it_answers() {
    // Long enough for a busy machine to answer in.
    let patience = SHORT * 8;
    let mut proxy = Proxy::new(DoorLimits { http_head: patience, ..DoorLimits::default() }).await;
    let mut client = client(&proxy).await;
    tokio::time::sleep(patience * 2).await;
    let answer = tokio::spawn(client.send_request(request("https://example.com/", "")));
    proxy.next().await.ok("still there").await;
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_refusal_waits_for_a_body_that_is_still_sent_so_that_it_can_be_read() {
    let mut proxy = Proxy::usual().await;
    let mut tls = h2(&proxy).await;
    let head =
        fields(&[(":method", "POST"), (":scheme", "https"), (":authority", "example.com"), (":path", "/")]);
    let sent = [PREFACE, &framed(4, 0, 0, &[]), &framed(HEADERS, END_HEADERS, 1, &head)].concat();
    tls.write_all(&sent).await.unwrap();
    let mut asked = proxy.next().await;
    asked.answer(EgressAnswer::Refused { status: 403, why: "no".into(), hint: None }).await;
    drop(asked);
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    tls.write_all(&framed(0, END_STREAM, 1, b"body")).await.unwrap();
    let mut kinds = Vec::new();
    loop {
        let mut head = [0; 9];
        tls.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        tls.read_exact(&mut vec![0; length as usize]).await.unwrap();
        if head[8] == 1 {
            kinds.push(head[3]);
        }
        if head[8] == 1 && head[4] & END_STREAM != 0 {
            break;
        }
    }
    assert!(!kinds.contains(&RST_STREAM) && kinds.contains(&HEADERS), "{kinds:?}");
}

#[tokio::test]
async fn floods_of_frames_end_the_connection() {
    let mut proxy = Proxy::usual().await;
    let good =
        fields(&[(":method", "GET"), (":scheme", "https"), (":authority", "example.com"), (":path", "/")]);
    let bomb: Vec<u8> = [vec![0x40, 1, b'x', 126], vec![b'y'; 126], vec![0xbe; 60_000]].concat();
    let continued: Vec<u8> =
        [framed(HEADERS, END_STREAM, 1, &good), framed(9, 0, 1, &fields(&[("x", "y")])).repeat(100_000)]
            .concat();
    for (what, frames) in [
        (
            "a header that is repeated by its number",
            bomb.chunks(16_000)
                .enumerate()
                .flat_map(|(at, piece)| {
                    if at == 0 { framed(HEADERS, END_STREAM, 1, piece) } else { framed(9, 0, 1, piece) }
                })
                .collect::<Vec<u8>>(),
        ),
        ("a head that never ends", continued),
        ("a frame that is too large", framed(0, 0, 1, &vec![0; 20_000])),
        ("a stream that is none", framed(HEADERS, END_HEADERS | END_STREAM, 2, &good)),
        ("data on no stream", framed(0, 0, 1, b"x")),
    ] {
        let ended = tokio::time::timeout(Duration::from_secs(15), refused(h2(&proxy).await, &frames)).await;
        assert!(matches!(ended, Ok(true)), "{what}: {ended:?}");
        while proxy.asked.try_recv().is_ok() {}
    }
}

#[tokio::test]
async fn streams_that_are_reset_at_once_leave_nothing_behind() {
    let mut proxy = Proxy::usual().await;
    let path = |path| {
        fields(&[(":method", "GET"), (":scheme", "https"), (":authority", "example.com"), (":path", path)])
    };
    let mut frames: Vec<u8> = (0..2000_u32)
        .flat_map(|at| {
            let stream = 2 * at + 1;
            let reset = framed(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
            [framed(HEADERS, END_HEADERS | END_STREAM, stream, &path("/")), reset].concat()
        })
        .collect();
    frames.extend(framed(HEADERS, END_HEADERS | END_STREAM, 4001, &path("/last")));
    let flooded = refused(h2(&proxy).await, &frames);
    let served = async {
        while let Some(mut asked) = proxy.asked.recv().await {
            if asked.request.path == "/last" {
                return;
            }
            // The daemon is told that nobody waits any more.
            assert_eq!(asked.piece().await, None);
        }
    };
    // It is either ended, or comes to its last request.
    tokio::select! {
        is_ended = flooded => assert!(is_ended),
        () = served => {}
    }
}

#[tokio::test]
async fn a_connection_has_so_many_requests_at_once_and_no_more() {
    let mut proxy = Proxy::usual().await;
    let client = client(&proxy).await;
    for _ in 0..20 {
        let mut client = client.clone();
        tokio::spawn(async move { drop(client.send_request(request("https://example.com/", "")).await) });
    }
    let mut asked = Vec::new();
    while let Ok(Some(one)) = tokio::time::timeout(SHORT, proxy.asked.recv()).await {
        asked.push(one);
    }
    assert_eq!(asked.len(), 16);
}
