//! The attacker's list, from a program's bytes to real servers on loopback, by the real door, gate, policy, store and
//! dialer: what counts is what the servers heard, and which names were looked up.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dial::{Network, Resolve};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use testkit::way_out::WayOut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A server that keeps, of each connection, every byte that it heard. Dropping it ends it.
struct Server {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Server {
    async fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (mut serving, keeps) = (JoinSet::new(), Arc::clone(&heard));
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let at = {
                    let mut heard = keeps.lock().unwrap();
                    heard.push(String::new());
                    heard.len() - 1
                };
                connections.spawn(listen(connection, answer.clone(), Arc::clone(&keeps), at));
            }
        });
        Self { port, heard, _serving: serving }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

/// Answers the first request, and goes on listening: what is smuggled comes after it.
async fn listen(mut connection: TcpStream, answer: String, heard: Arc<Mutex<Vec<String>>>, at: usize) {
    let (mut bytes, mut answered) = ([0; 4096], false);
    while let Ok(read @ 1..) = connection.read(&mut bytes).await {
        let is_whole = {
            let mut heard = heard.lock().unwrap();
            let text = heard.get_mut(at).unwrap();
            text.push_str(&String::from_utf8_lossy(bytes.get(..read).unwrap()));
            whole(text)
        };
        if is_whole && !answered {
            answered = true;
            drop(connection.write_all(answer.as_bytes()).await);
        }
    }
}

fn whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    match head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        Some(length) => body.len() >= length.parse().unwrap(),
        None => !head.contains("transfer-encoding") || body.ends_with("0\r\n\r\n"),
    }
}

/// Every name is this machine; which were asked for is kept.
#[derive(Clone, Default)]
struct Here(Arc<Mutex<BTreeSet<String>>>);

impl Resolve for Here {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        self.0.lock().unwrap().insert(host.to_owned());
        async move { Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]) }.boxed()
    }
}

/// An agent that may reach one folder of one server, and whose owner also allowed what leads inside, by mistake.
async fn way_out(port: u16, names: &Here) -> WayOut {
    let agent = format!(
        r#"
name = "attacker"
harness = {{ command = ["true"] }}
[egress]
allow = [
    "GET,POST http://api.example:{port}/open/**",
    "GET http://127.0.0.1:{port}/**", "GET http://[::1]:{port}/**", "GET http://0.0.0.0:{port}/**",
    "GET http://169.254.169.254/**", "GET http://[fd00:ec2::254]/**", "GET http://[64:ff9b::7f00:1]:{port}/**",
    "GET http://localhost:{port}/**", "GET http://inside.example:{port}/**",
]
"#
    );
    let network =
        Network { private: vec![format!("api.example:{port}").parse().unwrap()], ..Network::default() };
    WayOut::resolving(&agent, network, names.clone()).await
}

/// Sends bytes to the proxy; all that comes back, until it ends or nothing more does.
async fn said(way: &WayOut, bytes: &str) -> String {
    let mut stream = TcpStream::connect(way.proxy).await.unwrap();
    // The door may end it before all is written.
    drop(stream.write_all(bytes.as_bytes()).await);
    let mut answer = Vec::new();
    drop(tokio::time::timeout(SILENCE, stream.read_to_end(&mut answer)).await);
    String::from_utf8_lossy(&answer).into_owned()
}

/// How long what waits for more of a request is listened to.
const SILENCE: Duration = Duration::from_secs(3);

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

#[tokio::test]
async fn nothing_of_the_attackers_list_is_heard_by_a_server_or_looked_up() {
    let (api, other) = (Server::start(OK.to_owned()).await, Server::start(OK.to_owned()).await);
    let names = Here::default();
    let way = way_out(api.port, &names).await;
    // A target, more headers, the answer, and why.
    let requests = [
        // Another host than the one asked for.
        ("http://api.example:P/open/a", "host: evil.example", "421", ""),
        ("http://evil.example:P/open/a", "host: api.example:P", "421", ""),
        ("http://api.example:P/open/a", "host: api.example:P\r\nhost: evil.example", "400", "several"),
        // Addresses that a rule names, and a name that leads inside.
        ("http://127.0.0.1:P/open/a", "x: y", "502", "this machine"),
        ("http://[::1]:P/open/a", "x: y", "502", "this machine"),
        ("http://0.0.0.0:P/open/a", "x: y", "502", "no host's address"),
        ("http://[64:ff9b::7f00:1]:P/a", "x: y", "502", "this machine"),
        ("http://169.254.169.254/latest/meta-data/", "x: y", "502", "metadata"),
        ("http://[fd00:ec2::254]/latest/meta-data/", "x: y", "502", "private network"),
        ("http://localhost:P/open/a", "x: y", "502", "this machine"),
        ("http://inside.example:P/open/a", "x: y", "502", "this machine"),
        // The same addresses, as other parsers read them.
        ("http://2130706433:P/open/a", "x: y", "400", "IPv4"),
        ("http://0x7f000001:P/open/a", "x: y", "400", "IPv4"),
        ("http://0177.0.0.1:P/open/a", "x: y", "400", "IPv4"),
        ("http://127.1:P/open/a", "x: y", "400", "IPv4"),
        ("http://[::ffff:127.0.0.1]:P/open/a", "x: y", "400", "IPv4"),
        ("http://[0:0:0:0:0:0:0:1]:P/open/a", "x: y", "400", "IPv6"),
        // User names, and hosts that look alike.
        ("http://api.example:P@evil.example:Q/open/a", "x: y", "400", "user name"),
        ("http://evil@api.example:P/open/a", "x: y", "400", "user name"),
        ("http://api.example.:P/open/a", "x: y", "400", "dot"),
        ("http://api.example.evil.org:P/open/a", "x: y", "403", "no rule"),
        ("http://xn--pi-7kc.example:P/open/a", "x: y", "403", "no rule"),
        ("http://sub.api.example:P/open/a", "x: y", "403", "no rule"),
        ("http://\u{430}pi.example:P/open/a", "x: y", "400", ""),
        // Other ports and schemes.
        ("http://api.example:Q/open/a", "x: y", "403", "no rule"),
        ("http://api.example/open/a", "x: y", "403", "no rule"),
        ("https://api.example:P/open/a", "x: y", "400", "CONNECT"),
        ("http://api.example:P/open/a", "connection: upgrade\r\nupgrade: websocket", "501", ""),
        // Dots and slashes.
        ("http://api.example:P/open/../closed", "x: y", "400", "`..`"),
        ("http://api.example:P/open/%2e%2e/closed", "x: y", "400", "`..`"),
        ("http://api.example:P/open/..;/closed", "x: y", "400", "`..`"),
        ("http://api.example:P/open/%252e%252e/closed", "x: y", "400", "twice"),
        ("http://api.example:P/open/..%2fclosed", "x: y", "400", "slash"),
        ("http://api.example:P/open/..%5cclosed", "x: y", "400", "slash"),
        ("http://api.example:P/open//closed", "x: y", "400", "empty part"),
        ("http://api.example:P/Open/a", "x: y", "403", "no rule"),
        ("http://api.example:P/closed", "x: y", "403", "no rule"),
        // Headers out of a path, and out of a header.
        ("http://api.example:P/open/a%0d%0ax:y", "x: y", "400", "control"),
        ("http://api.example:P/open/a", "x: y\rz: a", "400", ""),
        ("http://api.example:P/open/a", "x: y\r\n folded", "400", ""),
        // What is known, in a query or a name.
        ("http://api.example:P/open/a?all-that-I-know", "x: y", "403", "no rule"),
        ("http://all-that-i-know.evil.example/", "x: y", "403", "no rule"),
    ];
    let ports =
        |text: &str| text.replace(":P", &format!(":{}", api.port)).replace(":Q", &format!(":{}", other.port));
    for (target, headers, status, why) in requests {
        let request = ports(&format!("GET {target} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n\r\n"));
        let answer = said(&way, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        assert!(answer.contains(why), "{request}: {answer}");
    }
    // In a tunnel: other protocols, and requests for another server than its own.
    for (target, inside, status) in [
        ("api.example:P", "SSH-2.0-OpenSSH_9.2\r\n", "400"),
        ("api.example:P", "EHLO evil.example\r\n", "400"),
        ("api.example:P", "GET /open/a HTTP/1.1\r\nconnection: close\r\nhost: evil.example\r\n\r\n", "421"),
        ("evil.example:P", "GET /open/a HTTP/1.1\r\nconnection: close\r\nhost: api.example:P\r\n\r\n", "421"),
        (
            "evil.example:P",
            "GET /open/a HTTP/1.1\r\nconnection: close\r\nhost: evil.example:P\r\n\r\n",
            "403",
        ),
        ("api.example:Q", "GET /open/a HTTP/1.1\r\nconnection: close\r\nhost: api.example:Q\r\n\r\n", "403"),
        ("127.0.0.1:P", "GET /open/a HTTP/1.1\r\nconnection: close\r\nhost: 127.0.0.1:P\r\n\r\n", "502"),
    ] {
        let request = ports(&format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n{inside}"));
        let answer = said(&way, &request).await;
        let inner = answer.split_once("\r\n\r\n").map(|(_, inner)| inner.to_owned());
        assert!(inner.unwrap().starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
    assert_eq!((api.heard(), other.heard()), (vec![], vec![]), "not even a connection");
    let looked_up: Vec<String> = names.0.lock().unwrap().iter().cloned().collect();
    assert!(looked_up.iter().all(|name| name == "localhost" || name == "inside.example"), "{looked_up:?}");
    // It is not the way that is closed.
    let good = ports("GET http://api.example:P/open/a HTTP/1.1\r\nconnection: close\r\n\r\n");
    assert!(said(&way, &good).await.ends_with("\r\n\r\nok"));
    assert_eq!(api.heard().len(), 1);
}

#[tokio::test]
async fn a_server_hears_one_request_for_each_that_was_decided_on() {
    let api = Server::start(OK.to_owned()).await;
    let way = way_out(api.port, &Here::default()).await;
    let target = format!("api.example:{}", api.port);
    for tunnelled in [false, true] {
        let (open, path) = if tunnelled {
            (format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n"), String::new())
        } else {
            (String::new(), format!("http://{target}"))
        };
        let hidden = format!("GET {path}/closed HTTP/1.1\r\nconnection: close\r\nhost: {target}\r\n\r\n");
        for (head, body) in [
            ("content-length: 4\r\ntransfer-encoding: chunked\r\n", format!("0\r\n\r\n{hidden}")),
            ("transfer-encoding: chunked\r\ncontent-length: 4\r\n", format!("0\r\n\r\n{hidden}")),
            ("content-length: 0\r\ncontent-length: 70\r\n", hidden.clone()),
            ("content-length: 0\r\n", hidden.clone()),
            ("transfer-encoding: chunked\r\n", format!("0\r\n\r\n{hidden}")),
            ("transfer-encoding: chunked\r\n", format!("1;x=\r\n\r\nx\r\n0\r\n\r\n{hidden}")),
            ("transfer-encoding: chunked\r\n", format!("2\r\nhi\r\n0\r\nx-trailer: {hidden}")),
            ("transfer-encoding:\r\n chunked\r\n", format!("0\r\n\r\n{hidden}")),
            ("transfer-encoding : chunked\r\n", format!("0\r\n\r\n{hidden}")),
            ("transfer-encoding: x\r\n", format!("0\r\n\r\n{hidden}")),
            ("connection: content-length\r\ncontent-length: 0\r\n", hidden.clone()),
            ("expect: 100-continue\r\ncontent-length: 0\r\n", hidden.clone()),
        ] {
            let post = format!("POST {path}/open/seen HTTP/1.1\r\nhost: {target}\r\n{head}\r\n{body}");
            drop(said(&way, &format!("{open}{post}")).await);
        }
    }
    // A request whose body turns out to be none may end when its connection stands, and before anything is said on it.
    let heard: Vec<String> = api.heard().into_iter().filter(|heard| !heard.is_empty()).collect();
    assert!(!heard.is_empty(), "those that hide nothing leave");
    for request in &heard {
        let (head, body) = request.split_once("\r\n\r\n").expect("a whole head");
        assert!(head.starts_with("POST /open/seen HTTP/1.1\r\n"), "{request}");
        let framings = head
            .lines()
            .filter(|line| line.starts_with("content-length") || line.starts_with("transfer-encoding"));
        assert!(framings.count() <= 1, "{request}");
        assert!(!request.contains("/closed") && !request.contains("trailer"), "{request}");
        assert!(body.len() <= "2\r\nhi\r\n0\r\n\r\n".len(), "{request}");
    }
}

#[tokio::test]
async fn a_redirect_leads_nobody_anywhere() {
    let elsewhere = Server::start(OK.to_owned()).await;
    let to = format!("http://api.example:{}/open/taken", elsewhere.port);
    let redirect = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    let api = Server::start(redirect).await;
    let names = Here::default();
    let way = way_out(api.port, &names).await;
    let asks = |url: &str| format!("GET {url} HTTP/1.1\r\nconnection: close\r\n\r\n");
    let answer = said(&way, &asks(&format!("http://api.example:{}/open/a", api.port))).await;
    assert!(answer.starts_with("HTTP/1.1 307") && answer.contains(&to), "{answer}");
    // Whoever follows it sends a request of their own, on which is decided anew.
    let answer = said(&way, &asks(&to)).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!((api.heard().len(), elsewhere.heard().len()), (1, 0));
}
