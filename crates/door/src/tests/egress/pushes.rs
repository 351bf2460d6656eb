//! `git push`: what it changes reaches the daemon apart from its pack.

use wire::git::Push;

use super::*;

const NONE: &str = "0000000000000000000000000000000000000000";
const SOME: &str = "1111111111111111111111111111111111111111";

fn commands(name: &str) -> String {
    let line = format!("{NONE} {SOME} {name}\0 report-status");
    format!("{:04x}{line}0000", line.len() + 4)
}

fn head(more: &str) -> String {
    format!(
        "POST http://example.com/acme/app.git/git-receive-pack HTTP/1.1\r\nconnection: close\r\n{more}\r\n\r\n"
    )
}

#[tokio::test]
async fn what_is_pushed_is_said_apart_from_its_pack_however_it_comes() {
    let mut proxy = Proxy::usual().await;
    let body = commands("refs/heads/agent/a") + "PACK and more";
    for step in [1, 7, body.len()] {
        let mut stream = proxy.connect().await;
        let length = format!("content-length: {}", body.len());
        stream.write_all(head(&length).as_bytes()).await.unwrap();
        for piece in body.as_bytes().chunks(step) {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
        }
        let mut asked = proxy.next().await;
        let push: Push = asked.request.push.clone().unwrap();
        assert_eq!(push.changes[0].name.as_str(), "refs/heads/agent/a");
        assert_eq!(push.capabilities, ["report-status"]);
        assert_eq!(asked.request.body, BodyLength::Unknown);
        assert_eq!(asked.body().await, b"PACK and more");
        asked.ok("done").await;
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert!(response.ends_with("\r\n\r\ndone"), "{response}");
    }
}

#[tokio::test]
async fn a_push_that_cannot_be_read_never_reaches_the_daemon() {
    let mut proxy = Proxy::usual().await;
    let whole = commands("refs/heads/a");
    for (more, body, status) in [
        ("content-encoding: gzip", whole.clone(), "415"),
        ("x: y", commands("refs/heads/../a"), "403"),
        ("x: y", "0015push-cert\0 x=yzabc".to_owned(), "403"),
        ("x: y", commands("refs/heads/a").replace("report-status", "push-options="), "403"),
        ("x: y", "zzzz".to_owned(), "400"),
        ("x: y", whole[..20].to_owned(), "400"),
        ("x: y", String::new(), "400"),
        ("x: y", "0000and what nobody is asked about".to_owned(), "400"),
        ("x: y", format!("0035shallow {SOME}\n0000"), "400"),
        ("x: y", format!("{}x", "0007ab\n".repeat(8)), "400"),
    ] {
        let mut stream = proxy.connect().await;
        let request = head(&format!("{more}\r\ncontent-length: {}", body.len())) + &body;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{body}: {response}");
    }
    assert!(proxy.asked.try_recv().is_err(), "nothing was asked");
}

#[tokio::test]
async fn a_push_of_nothing_has_no_body() {
    let mut proxy = Proxy::usual().await;
    let mut stream = proxy.connect().await;
    stream.write_all((head("content-length: 4") + "0000").as_bytes()).await.unwrap();
    let mut asked = proxy.next().await;
    let push: Push = asked.request.push.clone().unwrap();
    assert_eq!((push.changes.len(), asked.request.body), (0, BodyLength::None));
    asked.ok("done").await;
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.ends_with("\r\n\r\ndone"), "{response}");
    // What comes later is seen, too.
    let mut stream = proxy.connect().await;
    stream.write_all((head("transfer-encoding: chunked") + "4\r\n0000\r\n").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream.write_all(b"4\r\nmore\r\n0\r\n\r\n").await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 400"), "{response}");
    assert!(proxy.asked.try_recv().is_err(), "nothing was asked");
}
