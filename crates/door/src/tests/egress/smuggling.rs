//! Requests that hide another: one request leaves, or none, and never the hidden one.

use super::*;

/// The request that is hidden in each.
const HIDDEN: &str = "GET http://example.com/hidden HTTP/1.1\r\nhost: example.com\r\n\r\n";

#[tokio::test]
async fn a_request_hides_no_other() {
    let mut proxy = Proxy::usual().await;
    let bomb = format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(20 << 10));
    for (head, body) in [
        ("content-length: 4\r\ntransfer-encoding: chunked\r\n", format!("0\r\n\r\n{HIDDEN}")),
        ("transfer-encoding: chunked\r\ncontent-length: 4\r\n", format!("0\r\n\r\n{HIDDEN}")),
        ("content-length: 0\r\ncontent-length: 70\r\n", HIDDEN.to_owned()),
        ("content-length: 70\r\ncontent-length: 0\r\n", HIDDEN.to_owned()),
        ("content-length: 0, 70\r\n", HIDDEN.to_owned()),
        ("content-length: +0\r\n", HIDDEN.to_owned()),
        ("content-length: 0x0\r\n", HIDDEN.to_owned()),
        ("content-length : 0\r\n", HIDDEN.to_owned()),
        ("content-length: 18446744073709551616\r\n", HIDDEN.to_owned()),
        ("transfer-encoding: identity\r\n", HIDDEN.to_owned()),
        ("transfer-encoding: chunked, identity\r\n", format!("0\r\n\r\n{HIDDEN}")),
        ("transfer-encoding: xchunked\r\n", format!("0\r\n\r\n{HIDDEN}")),
        ("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", format!("0\r\n\r\n{HIDDEN}")),
        ("transfer-encoding:\r\n chunked\r\n", format!("0\r\n\r\n{HIDDEN}")),
        ("x: y\r\n transfer-encoding: chunked\r\n", format!("0\r\n\r\n{HIDDEN}")),
        ("x: y\rcontent-length: 0\r\n", HIDDEN.to_owned()),
        ("\0x: y\r\n", HIDDEN.to_owned()),
        ("transfer-encoding: chunked\r\n", format!("0\r\nx: y\r\n z\r\n\r\n{HIDDEN}")),
        ("transfer-encoding: chunked\r\n", format!("-1\r\n\r\n{HIDDEN}")),
        ("transfer-encoding: chunked\r\n", format!("10000000000000000\r\n{HIDDEN}")),
        ("transfer-encoding: chunked\r\n", format!("1\nx\r\n0\r\n\r\n{HIDDEN}")),
        ("transfer-encoding: chunked\r\n", format!("1\r\nxx0\r\n\r\n{HIDDEN}")),
        ("transfer-encoding: chunked\r\n", bomb),
    ] {
        let request =
            format!("POST http://example.com/seen HTTP/1.1\r\nhost: example.com\r\n{head}\r\n{body}");
        let mut stream = proxy.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut seen = Vec::new();
        let read = async {
            let mut response = Vec::new();
            drop(stream.read_to_end(&mut response).await);
        };
        let serve = async {
            while let Some(mut asked) = proxy.asked.recv().await {
                seen.push(asked.request.clone());
                // A body without its end is cut, not whole.
                while let Ok(Some(EgressBody::Bytes(_))) = frame::read(&mut asked.stream, SMALL).await {}
                drop(
                    frame::write(
                        &mut asked.stream,
                        &EgressAnswer::Head { status: 200, headers: vec![] },
                        SMALL,
                    )
                    .await,
                );
                drop(frame::write(&mut asked.stream, &EgressAnswer::End, SMALL).await);
            }
        };
        tokio::select! {
            () = read => {}
            () = serve => {}
        }
        // What follows a whole request is a request of its own, which the program may send: it is decided on as such.
        // It must not be both a body and a request.
        let hidden = seen.iter().filter(|request| request.path == "/hidden").count();
        let framed = seen.first().is_some_and(|request| {
            request.path == "/seen"
                && request
                    .headers
                    .iter()
                    .all(|(name, _)| name != "transfer-encoding" && name != "content-length")
        });
        assert!(seen.is_empty() || framed, "{head:?}: {seen:?}");
        assert!(hidden == 0 || seen.len() == 2, "{head:?}: {seen:?}");
        for request in &seen {
            assert_eq!(request.check(), Ok(()));
        }
    }
}

#[tokio::test]
async fn two_lengths_or_a_length_that_is_none_are_no_request() {
    let mut proxy = Proxy::usual().await;
    for head in [
        "content-length: 0\r\ncontent-length: 70\r\n",
        "content-length: 0, 70\r\n",
        "content-length: +0\r\n",
        "content-length: 0x0\r\n",
        "content-length : 0\r\n",
        "content-length: 18446744073709551616\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding:\r\n chunked\r\n",
        "x: y\r\n folded: z\r\n",
        "x: y\rz: a\r\n",
        "x\0: y\r\n",
        ": y\r\n",
    ] {
        let request =
            format!("POST http://example.com/seen HTTP/1.1\r\nhost: example.com\r\n{head}\r\n{HIDDEN}");
        let response = proxy.exchange(request).await;
        assert!(response.starts_with("HTTP/1.1 400"), "{head:?}: {response}");
    }
    proxy.nothing_left().await;
}
