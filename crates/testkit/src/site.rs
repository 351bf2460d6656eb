//! An HTTPS server on loopback, as outside services would be ones: it answers as a test says, and remembers what it was asked. It
//! has an address, and the names of other hosts to those who come by its proxy, as companies have them.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dial::Network;
use futures::{StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Its address: on this machine, and another than those that programs in cells take for their own.
pub const SITE: &str = "127.0.0.2";

/// How often an answer without end says something.
const TICK: Duration = Duration::from_millis(50);

/// The server. Dropping it ends it.
pub struct Site {
    /// Its port at [`SITE`].
    pub port: u16,
    proxy: u16,
    authority: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _runtime: tokio::runtime::Runtime,
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The host that was meant, with its port if that isn't 443.
    pub host: String,
    /// Method, path and query, as in `GET /a?b`.
    pub line: String,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body, as text.
    pub body: String,
}

/// What is answered.
pub enum Reply {
    /// These bytes, of this media type.
    Bytes(&'static str, Vec<u8>),
    /// A word, again and again, until nobody reads it.
    Endless,
    /// This status, and a document.
    Json(u16, Value),
    /// This status, and nothing.
    Status(u16),
}

impl Site {
    /// Starts it. By its proxy it is each of these hosts, too.
    ///
    /// # Panics
    /// When it can't be started: it is for tests.
    pub fn start(hosts: &[&str], answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime for the site");
        let (acceptor, authority) = certificate(hosts);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let serving = Serving { acceptor, answers: Arc::new(answer), asked: Arc::clone(&asked) };
        let listen = |proxy: bool| {
            let listener = runtime.block_on(TcpListener::bind((SITE, 0))).expect("a port");
            let port = listener.local_addr().expect("its address").port();
            runtime.spawn(serve(listener, proxy, serving.clone()));
            port
        };
        let (port, proxy) = (listen(false), listen(true));
        Self { port, proxy, authority, asked, _runtime: runtime }
    }

    /// The URL of a path that begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://{SITE}:{}{path}", self.port)
    }

    /// What it was asked so far.
    ///
    /// # Panics
    /// When an answer panicked.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("what was asked").clone()
    }

    /// The table `[network]` that lets agents reach it; its authority is written to `folder`.
    ///
    /// # Panics
    /// When that can't be written.
    #[must_use]
    pub fn network(&self, folder: &Path) -> String {
        let ca = self.vouched(folder);
        let (port, proxy, ca) = (self.port, self.proxy, ca.display());
        format!("private = [\"{SITE}:{port}\"]\nproxy = \"http://{SITE}:{proxy}\"\nca = \"{ca}\"\n")
    }

    /// The same for a dialer.
    ///
    /// # Panics
    /// When that can't be written.
    #[must_use]
    pub fn reached(&self, folder: &Path) -> Network {
        let proxy = format!("http://{SITE}:{}", self.proxy).parse().expect("a proxy");
        Network { private: Vec::new(), ca: Some(self.vouched(folder)), proxy: Some(proxy) }
    }

    fn vouched(&self, folder: &Path) -> PathBuf {
        let ca = folder.join("site-ca.pem");
        std::fs::write(&ca, &self.authority).expect("the authority's file");
        ca
    }
}

impl Asked {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Clone)]
struct Serving {
    acceptor: TlsAcceptor,
    answers: Arc<dyn Fn(&Asked) -> Reply + Send + Sync>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

async fn serve(listener: TcpListener, proxy: bool, serving: Serving) {
    let mut connections = JoinSet::new();
    while let Ok((connection, _)) = listener.accept().await {
        let serving = serving.clone();
        connections.spawn(async move {
            let connection = if proxy { tunnel(connection).await } else { Some(connection) };
            let Some(connection) = connection else { return };
            let Ok(connection) = serving.acceptor.accept(connection).await else { return };
            let service = service_fn(move |request| {
                let serving = serving.clone();
                async move { Ok::<_, Infallible>(answer(request, &serving).await) }
            });
            let serving = hyper::server::conn::http1::Builder::new();
            // Whoever breaks off is heard of where the test looks.
            drop(serving.serve_connection(TokioIo::new(connection), service).await);
        });
    }
}

/// Takes the head of a CONNECT, wherever it leads: it leads here.
async fn tunnel(connection: TcpStream) -> Option<TcpStream> {
    let mut connection = BufReader::new(connection);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        connection.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    }
    let mut connection = connection.into_inner();
    connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    Some(connection)
}

async fn answer(request: Request<Incoming>, serving: &Serving) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let (head, body) = request.into_parts();
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes())));
    let host = head.headers.get("host").map(|host| text(host.as_bytes())).unwrap_or_default();
    let asked = Asked {
        host,
        line: format!("{} {}", head.method, head.uri.path_and_query().map_or("", |path| path.as_str())),
        headers: headers.collect(),
        body: body.collect().await.map(|body| text(&body.to_bytes())).unwrap_or_default(),
    };
    let reply = (serving.answers)(&asked);
    serving.asked.lock().expect("what was asked").push(asked);
    let mut response = Response::builder();
    let body = match reply {
        Reply::Bytes(kind, bytes) => {
            response = response.header("content-type", kind);
            Full::new(Bytes::from(bytes)).boxed_unsync()
        }
        Reply::Endless => {
            let ticks = stream::repeat(()).then(|()| async {
                tokio::time::sleep(TICK).await;
                Ok(Frame::data(Bytes::from_static(b"tick\n")))
            });
            StreamBody::new(ticks).boxed_unsync()
        }
        Reply::Json(status, document) => {
            response = response.status(status).header("content-type", "application/json");
            Full::new(Bytes::from(document.to_string())).boxed_unsync()
        }
        Reply::Status(status) => {
            response = response.status(status);
            Full::new(Bytes::new()).boxed_unsync()
        }
    };
    response.body(body).expect("a sound answer")
}

/// A certificate for the address and the hosts, and who vouches for it, as PEM.
fn certificate(hosts: &[&str]) -> (TlsAcceptor, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("an authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "the site's authority");
    let authority = params.self_signed(&key).expect("an authority").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let names: Vec<String> = hosts.iter().chain(&[SITE]).map(|&name| name.to_owned()).collect();
    let leaf = CertificateParams::new(names).expect("a leaf");
    let leaf = leaf.signed_by(&key, &issuer).expect("a leaf");
    let chain = vec![CertificateDer::from(leaf.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate");
    (TlsAcceptor::from(Arc::new(config)), authority)
}
