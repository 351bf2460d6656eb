//! The attacker's list in TLS, with HTTP/2 and HTTP/1.1, from a program's bytes to a real HTTPS server on loopback: what counts
//! is what that server heard.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails says where")]

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dial::{Network, Resolve};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use testkit::way_out::WayOut;
use testkit::{Reply, Site};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How long what waits for more of a request is listened to.
const SILENCE: Duration = Duration::from_secs(2);

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// An HTTPS server that keeps all that it heard in TLS. It speaks HTTP/1.1 alone.
struct Server {
    port: u16,
    heard: Arc<Mutex<String>>,
    _serving: JoinSet<()>,
}

impl Server {
    async fn start(ca: &Path) -> Self {
        let made = rcgen::generate_simple_self_signed(["api.example".to_owned()]).unwrap();
        std::fs::write(ca, made.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(String::new()));
        let (mut serving, keeps) = (JoinSet::new(), Arc::clone(&heard));
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let (acceptor, keeps) = (acceptor.clone(), Arc::clone(&keeps));
                connections.spawn(async move {
                    let Ok(mut stream) = acceptor.accept(connection).await else { return };
                    let mut bytes = [0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                        keeps.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
                        drop(stream.write_all(OK).await);
                    }
                });
            }
        });
        Self { port, heard, _serving: serving }
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }
}

/// Every name is this machine.
struct Here;

impl Resolve for Here {
    fn resolve<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        async move { Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]) }.boxed()
    }
}

struct Lab {
    server: Server,
    program: Program,
    _folder: tempfile::TempDir,
}

/// A program in the place of one in a cell, which speaks to one site.
struct Program {
    way: WayOut,
    host: &'static str,
    port: u16,
}

async fn lab() -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let server = Server::start(&ca).await;
    let site = format!("api.example:{}", server.port);
    let agent = format!(
        "name = \"attacker\"\nharness = {{ command = [\"true\"] }}\n[egress]\n\
         allow = [\"GET,POST https://{site}/open/**\"]\n"
    );
    let network =
        Network { private: vec![site.parse().unwrap()], ca: Some(ca.clone()), ..Network::default() };
    let way = WayOut::resolving(&agent, network, Here).await;
    let program = Program { way, host: "api.example", port: server.port };
    Lab { server, program, _folder: folder }
}

impl Program {
    /// TLS with the door, in a tunnel to one name, where another may be asked for.
    async fn tls(&self, tunnel: &str, asked: &str, alpn: &str) -> io::Result<TlsStream<TcpStream>> {
        let mut stream = TcpStream::connect(self.way.proxy).await?;
        let target = format!("{tunnel}:{}", self.port);
        let connect = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
        stream.write_all(connect.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.way.authority.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let name = ServerName::try_from(asked.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Sends bytes in TLS; all that comes back, until it ends or nothing more does.
    async fn said(&self, alpn: &str, bytes: &[u8]) -> Vec<u8> {
        let mut tls = self.tls(self.host, self.host, alpn).await.unwrap();
        drop(tls.write_all(bytes).await);
        drop(tls.flush().await);
        let mut answer = Vec::new();
        drop(tokio::time::timeout(SILENCE, tls.read_to_end(&mut answer)).await);
        answer
    }

    async fn http1(&self, request: &str) -> String {
        let request = request.replace("SITE", &format!("{}:{}", self.host, self.port));
        String::from_utf8_lossy(&self.said("http/1.1", request.as_bytes()).await).into_owned()
    }

    /// Sends one request of HTTP/2, each field spelled out (RFC 7541, section 6.2.2), and a body.
    async fn http2(&self, fields: &[(&str, &str)], body: &[u8]) {
        let mut block = Vec::new();
        for text in fields.iter().flat_map(|(name, value)| [Some(*name), Some(*value)]).flatten().enumerate()
        {
            let (at, text) = text;
            let text = text.replace("SITE", &format!("{}:{}", self.host, self.port));
            if at % 2 == 0 {
                block.push(0);
            }
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
        let frame = |kind: u8, flags: u8, payload: &[u8]| {
            let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
            let stream = if kind == 4 { 0 } else { 1 };
            [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
        };
        let end = u8::from(body.is_empty());
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend([frame(4, 0, &[]), frame(1, 4 | end, &block)].concat());
        if !body.is_empty() {
            bytes.extend(frame(0, 1, body));
        }
        drop(self.said("h2", &bytes).await);
    }
}

#[tokio::test]
async fn nothing_of_the_attackers_list_is_heard_in_tls_either() {
    let lab = lab().await;
    let program = &lab.program;
    // Another name in TLS than the tunnel's.
    for (tunnel, asked) in [("api.example", "evil.example"), ("evil.example", "api.example")] {
        let tls = program.tls(tunnel, asked, "http/1.1").await;
        let request = format!("GET /open/a HTTP/1.1\r\nhost: {asked}:{}\r\n\r\n", lab.server.port);
        if let Ok(mut tls) = tls {
            drop(tls.write_all(request.as_bytes()).await);
            let mut answer = Vec::new();
            drop(tokio::time::timeout(SILENCE, tls.read_to_end(&mut answer)).await);
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(answer.starts_with("HTTP/1.1 4"), "{tunnel}, {asked}: {answer}");
        }
    }
    for request in [
        "GET /open/a HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        "GET /open/../closed HTTP/1.1\r\nhost: SITE\r\n\r\n",
        "GET /closed HTTP/1.1\r\nhost: SITE\r\n\r\n",
        // A head that doesn't come to its end.
        "GET /open/slow HTTP/1.1\r\nhost: SITE\r\nx: y\r\n",
    ] {
        let answer = program.http1(request).await;
        assert!(!answer.contains(" 200 "), "{request}: {answer}");
    }
    let open = [(":method", "POST"), (":scheme", "https"), (":authority", "SITE"), (":path", "/open/a")];
    let with = |extra: &[(&'static str, &'static str)]| [open.as_slice(), extra].concat();
    let instead = |at: usize, field: (&'static str, &'static str)| {
        let mut fields = open.to_vec();
        fields[at] = field;
        fields
    };
    // What would be another request, or another header, once it is written as HTTP/1.1.
    let requests = [
        with(&[("x", "a\r\nx-two: b")]),
        with(&[("x", "a\r\n\r\nGET /closed HTTP/1.1\r\nhost: SITE\r\n\r\n")]),
        with(&[("x: y\r\nz", "a")]),
        with(&[("X", "a")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("connection", "close")]),
        with(&[("content-length", "1")]),
        with(&[("content-length", "4"), ("content-length", "40")]),
        with(&[("host", "evil.example")]),
        with(&[(":path", "/closed")]),
        instead(0, (":method", "GET /closed HTTP/1.1\r\nx: y")),
        instead(1, (":scheme", "http")),
        instead(2, (":authority", "evil.example")),
        instead(3, (":path", "/open/a HTTP/1.1\r\nx-two: b\r\n")),
        instead(3, (":path", "/open/../closed")),
        instead(3, (":path", "https://evil.example/open/a")),
    ];
    let all = requests.iter().map(|fields| program.http2(fields, b"0\r\n\r\nGET /closed HTTP/1.1\r\n\r\n"));
    futures::future::join_all(all).await;
    assert_eq!(lab.server.heard(), "");
    // It is not the way that is closed: what is sound leaves, and is one request of HTTP/1.1.
    program.http2(&open, b"0\r\n\r\nGET /closed").await;
    let heard = lab.server.heard();
    assert!(heard.starts_with("POST /open/a HTTP/1.1\r\n"), "{heard}");
    assert_eq!(heard.matches(" HTTP/1.1\r\n").count(), 1, "{heard}");
    assert!(
        program
            .http1("GET /open/b HTTP/1.1\r\nhost: SITE\r\nconnection: close\r\n\r\n")
            .await
            .ends_with("ok")
    );
}

/// What stands in its place at the real host's name and port.
#[test]
fn no_token_is_minted_at_github_by_an_agent_with_its_preset_that_may_else_do_all() {
    let site = Site::start(&["api.github.com"], |_| Reply::Json(201, json!({"token": "ghs_minted"})));
    let folder = tempfile::tempdir().unwrap();
    let network = site.reached(folder.path());
    let agent = "name = \"attacker\"\nharness = { command = [\"true\"] }\n[egress]\npresets = [\"github\"]\n\
                 allow = [\"GET,POST,PUT,PATCH https://api.github.com/**\"]\n";
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let way = WayOut::open(agent, network).await;
        let program = Program { way, host: "api.github.com", port: 443 };
        for line in ["POST /app/installations/1/access_tokens", "PUT /orgs/acme/organization-roles/users/eve/1"] {
            let (method, path) = line.split_once(' ').unwrap();
            let end = "connection: close\r\ncontent-length: 0\r\n\r\n";
            let answer = program.http1(&format!("{line} HTTP/1.1\r\nhost: SITE\r\n{end}")).await;
            assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("lazaret: "), "{answer}");
            let fields =
                [(":method", method), (":scheme", "https"), (":authority", "SITE"), (":path", path)];
            program.http2(&fields, b"").await;
        }
        assert!(site.asked().is_empty(), "{:?}", site.asked());
        // It is not the way that is closed.
        let open = "POST /repos/acme/a/issues HTTP/1.1\r\nhost: SITE\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let answer = program.http1(open).await;
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    });
    let asked: Vec<String> = site.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(asked, ["POST /repos/acme/a/issues"]);
}
