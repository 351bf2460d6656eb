//! The dialer against listeners on this machine, and a resolver that lies.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// Answers with the first list, then with the second for ever.
struct Lying {
    answers: [Vec<SocketAddr>; 2],
    asked: Arc<AtomicUsize>,
}

impl Resolve for Lying {
    fn resolve<'a>(&'a self, _host: &'a str, _port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst).min(1);
        let answer = self.answers[turn].clone();
        async move { Ok(answer) }.boxed()
    }
}

fn lying(network: Network, first: &[&str], second: &[&str]) -> (Dialer, Arc<AtomicUsize>) {
    let read = |list: &[&str]| list.iter().map(|a| SocketAddr::new(a.parse().unwrap(), 1)).collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let lying = Lying { answers: [read(first), read(second)], asked: Arc::clone(&asked) };
    (Dialer::resolving(network, lying).unwrap(), asked)
}

fn naming(hosts: &[&str]) -> Network {
    Network {
        private: hosts.iter().map(|h| h.to_string().try_into().unwrap()).collect(),
        ..Network::default()
    }
}

#[tokio::test]
async fn what_is_not_public_is_refused_in_every_spelling() {
    let dialer = Dialer::new(Network::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "localhost",
        "[::1]",
        "::1",
        "0.0.0.0",
        "0",
        "[::ffff:127.0.0.1]",
        "::ffff:7f00:1",
        "169.254.169.254",
        "fd00:ec2::254",
        "[64:ff9b::7f00:1]",
    ] {
        let error = dialer.connect(host, port).await.unwrap_err();
        assert!(matches!(error, DialError::NotPublic { .. }), "{host}: {error}");
    }
    for host in ["", "a\0b", "fe80::1%lo", &"a".repeat(300)] {
        assert!(matches!(dialer.connect(host, port).await.unwrap_err(), DialError::NoHost { .. }), "{host}");
    }
}

#[tokio::test]
async fn a_host_that_is_named_is_reached_at_its_port_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let dialer = Dialer::new(naming(&[&format!("127.0.0.1:{port}")])).unwrap();
    dialer.connect("127.0.0.1", port).await.unwrap();
    for (host, port) in [("127.0.0.1", port ^ 1), ("127.1", port), ("localhost", port)] {
        let error = dialer.connect(host, port).await.unwrap_err();
        assert!(matches!(error, DialError::NotPublic { .. }), "{host}: {error}");
    }
    let named = format!("localhost:{port}").try_into().unwrap();
    Dialer::new(Network::default()).unwrap().naming(named).connect("localhost", port).await.unwrap();
}

#[tokio::test]
async fn a_name_that_answers_otherwise_the_second_time_gains_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // First this machine, then elsewhere: it is refused by what was judged, and asked once.
    let (dialer, asked) = lying(Network::default(), &["127.0.0.1"], &["1.1.1.1"]);
    assert!(matches!(dialer.connect("rebind.example", port).await, Err(DialError::NotPublic { .. })));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // What was judged good is what is connected to, though the name leads elsewhere by now.
    let (dialer, asked) = lying(naming(&["good.example"]), &["127.0.0.1"], &["192.0.2.1"]);
    let Stream::Left(stream) = dialer.connect("good.example", port).await.unwrap() else { panic!() };
    assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // Of a name with good and bad addresses only the good ones are tried.
    let (dialer, _) = lying(Network::default(), &["1.1.1.1", "127.0.0.1", "fd00::1"], &[]);
    assert_eq!(dialer.judged("mixed.example", port).await.unwrap(), [SocketAddr::from(([1, 1, 1, 1], port))]);
}

/// TLS for `good.example`, and the file with the certificate that makes it believed.
fn certified(folder: &std::path::Path) -> (tokio_rustls::TlsAcceptor, std::path::PathBuf) {
    let made = rcgen::generate_simple_self_signed(["good.example".to_owned()]).unwrap();
    let ca = folder.join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
    (tokio_rustls::TlsAcceptor::from(Arc::new(config)), ca)
}

#[tokio::test]
async fn a_certificate_is_verified_for_the_host_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (acceptor, ca) = certified(folder.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                // Some only look at the certificate and go.
                drop(stream.write_all(b"hello").await);
                drop(stream.shutdown().await);
            }
        }
    });
    let network = |ca: Option<&std::path::Path>| Network {
        ca: ca.map(ToOwned::to_owned),
        ..naming(&["good.example", "other.example"])
    };
    let (dialer, _) = lying(network(Some(&ca)), &["127.0.0.1"], &["127.0.0.1"]);
    let mut told = String::new();
    dialer.tls("good.example", port).await.unwrap().read_to_string(&mut told).await.unwrap();
    assert_eq!(told, "hello");
    let stream = dialer.connect("good.example", port).await.unwrap();
    dialer.secure(stream, "good.example").await.unwrap();
    let Err(DialError::Tls { why, .. }) = dialer.https("other.example", port).await else {
        panic!("trusted")
    };
    // Not in the certificate's words.
    assert_eq!(why, "its certificate is for another name");
    let (dialer, _) = lying(network(None), &["127.0.0.1"], &["127.0.0.1"]);
    assert!(matches!(dialer.tls("good.example", port).await, Err(DialError::Tls { .. })));
    served.abort();
}

#[tokio::test]
async fn the_outer_proxy_is_asked_for_all_that_is_not_named() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = proxy.local_addr().unwrap();
    let direct = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = direct.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let mut heads = Vec::new();
        for answer in [
            "HTTP/1.1 200 Connection established\r\nvia: x\r\n\r\nhello",
            "HTTP/1.1 403 No\r\n\r\n",
            "HTTP/1.1 407 Who\r\nproxy-authenticate: Basic realm=\"x\"\r\n\r\n",
        ] {
            let (mut stream, _) = proxy.accept().await.unwrap();
            let mut head = vec![0; 1024];
            let n = stream.read(&mut head).await.unwrap();
            heads.push(String::from_utf8_lossy(&head[..n]).into_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        heads
    });
    let network = Network {
        proxy: Some(format!("http://{at}").parse().unwrap()),
        ..naming(&[&format!("127.0.0.1:{port}")])
    };
    let dialer = Dialer::new(network).unwrap();
    dialer.connect("127.0.0.1", port).await.unwrap();
    assert!(matches!(dialer.connect("10.0.0.1", 80).await, Err(DialError::NotPublic { .. })));
    let mut told = [0; 5];
    let mut stream = dialer.connect("far.example", 443).await.unwrap();
    stream.read_exact(&mut told).await.unwrap();
    assert_eq!(&told, b"hello");
    let refused = dialer.connect("far.example", 25).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the proxy makes no connection to `far.example` port 25: it answered `HTTP/1.1 403 No`"
    );
    let unknown = dialer.connect("far.example", 25).await.unwrap_err().to_string();
    assert!(unknown.contains("it wants a log-in: `lazaret secret set NAME"), "{unknown}");
    let split = dialer.connect("far.example\r\nx: y", 25).await.unwrap_err();
    assert!(matches!(split, DialError::NoHost { .. }), "{split}");
    let heads = asked.await.unwrap();
    assert_eq!(heads[0], "CONNECT far.example:443 HTTP/1.1\r\nhost: far.example:443\r\n\r\n");
    for bad in [
        "http://proxy",
        "socks5://proxy:1",
        "https://proxy",
        "http://user:secret@proxy:1",
        "proxy:1",
        "http://*.a.b:1",
    ] {
        let told = bad.parse::<Proxy>().unwrap_err().to_string();
        assert!(!told.contains("secret"), "{told}");
    }
}

/// Ann, with a password.
struct Ann(&'static str);

impl ProxyLogin for Ann {
    fn log_in(&self) -> Result<ProxyUser, String> {
        ProxyUser::new("ann".to_owned(), self.0.into())
    }
}

#[tokio::test]
async fn what_a_proxy_says_of_a_log_in_is_told_with_what_to_do_and_without_the_log_in() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let answers = [
        (
            "HTTP/1.1 407 Who\r\nproxy-authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n",
            "by NTLM or Negotiate,",
        ),
        (
            "HTTP/1.1 407 Who\r\nproxy-authenticate: NTLM\r\nproxy-authenticate: basic realm=\"x\"\r\n\r\n",
            "it refuses the log-in",
        ),
        (
            "HTTP/1.1 407 YW5uOmNhbmFyeQ== canary\r\nproxy-authenticate: canary\r\n\r\n",
            "it refuses the log-in",
        ),
        ("HTTP/1.1 403 YW5uOmNhbmFyeQ== canary\r\n\r\n", "it answered HTTP 403"),
        ("HTTP/1.1 YW5uOmNhbmFyeQ== canary\r\n\r\n", "it answered what is no HTTP"),
        ("YW5uOmNhbmFyeQ== canary\r\n\r\n", "it answered what is no HTTP"),
    ];
    let heads = tokio::spawn(async move {
        let mut heads = Vec::new();
        for (answer, _) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 1024];
            let n = stream.read(&mut head).await.unwrap();
            heads.push(String::from_utf8_lossy(&head[..n]).into_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        heads
    });
    let network = Network { proxy: Some(format!("http://{at}").parse().unwrap()), ..Network::default() };
    let dialer = Dialer::new(network).unwrap().logging_in(Arc::new(Ann("canary")));
    assert!(!format!("{dialer:?}").contains("canary"));
    for (answer, expected) in answers {
        let told = dialer.connect("far.example", 443).await.unwrap_err().to_string();
        assert!(
            told.contains(expected) && !told.contains("canary") && !told.contains("YW5u"),
            "{answer}: {told}"
        );
    }
    let expected = "CONNECT far.example:443 HTTP/1.1\r\nhost: far.example:443\r\n\
        proxy-authorization: Basic YW5uOmNhbmFyeQ==\r\n\r\n";
    assert!(heads.await.unwrap().iter().all(|head| head == expected));
}

/// Answers each connection, in order.
fn serving(listener: TcpListener, answers: &'static [&'static str]) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
}

const DONE: &str = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
const AWAY: &str =
    "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1/\r\nconnection: close\r\n\r\n";

async fn asked(dialer: &Dialer, url: &str) -> Result<u16, String> {
    let client = dialer.client(|builder| builder).unwrap();
    let request = client.request(reqwest::Method::GET, url.parse().unwrap()).map_err(|e| e.to_string())?;
    request.send().await.map(|answer| answer.status().as_u16()).map_err(|e| format!("{e:?}"))
}

#[tokio::test]
async fn a_client_of_reqwest_is_judged_alike() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = serving(listener, &[DONE, AWAY]);
    let (dialer, _) = lying(Network::default(), &["127.0.0.1"], &["127.0.0.1"]);
    let url = format!("http://models.example:{port}/");
    let refused = asked(&dialer, &url).await.unwrap_err();
    assert!(refused.contains("NotPublic"), "{refused}");
    let named = dialer.naming(format!("models.example:{port}").try_into().unwrap());
    assert_eq!(asked(&named, &url).await, Ok(204));
    assert_eq!(asked(&named, &url).await, Ok(307), "a redirect is told, not followed");
    served.await.unwrap();
    // What is named is the port too, though reqwest's resolver isn't told it.
    let refused = asked(&named, "http://models.example/").await.unwrap_err();
    assert!(refused.contains("NotPublic"), "{refused}");
    let lies = dialer.client(|builder| builder).unwrap();
    for (url, admitted) in [
        ("http://127.0.0.1/", false),
        ("http://2130706433/", false),
        ("http://[::ffff:7f00:1]/", false),
        ("http://1.1.1.1/", true),
        ("http://localhost/", true), // a name: the resolver judges
    ] {
        assert_eq!(lies.request(reqwest::Method::GET, url.parse().unwrap()).is_ok(), admitted, "{url}");
    }
}

#[tokio::test]
async fn an_address_that_was_configured_is_named_at_its_port_and_a_name_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = serving(listener, &[DONE]);
    let dialer = Dialer::new(Network::default()).unwrap();
    let url = format!("http://127.0.0.1:{port}/v1");
    let configured = dialer.configured(&url.parse().unwrap());
    assert_eq!(asked(&configured, &url).await, Ok(204));
    served.await.unwrap();
    assert!(asked(&dialer, &url).await.unwrap_err().contains("this machine"));
    for elsewhere in [format!("http://127.0.0.1:{}/", port ^ 1), format!("http://localhost:{port}/")] {
        let refused = asked(&configured, &elsewhere).await.unwrap_err();
        assert!(refused.contains("this machine") || refused.contains("NotPublic"), "{refused}");
    }
    let (dialer, _) = lying(Network::default(), &["10.0.0.1"], &["10.0.0.1"]);
    let url = "http://rebind.example/";
    let refused = asked(&dialer.configured(&url.parse().unwrap()), url).await.unwrap_err();
    assert!(refused.contains("NotPublic"), "{refused}");
}

#[tokio::test]
async fn a_client_of_reqwest_believes_the_certificates_that_the_person_added() {
    let folder = tempfile::tempdir().unwrap();
    let (acceptor, ca) = certified(folder.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://good.example:{}/", listener.local_addr().unwrap().port());
    let served = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut head = [0; 1024];
                drop(stream.read(&mut head).await);
                drop(stream.write_all(DONE.as_bytes()).await);
                drop(stream.shutdown().await);
            }
        }
    });
    for (ca, believed) in [(Some(ca), true), (None, false)] {
        let network = Network { ca, ..naming(&["good.example"]) };
        let (dialer, _) = lying(network, &["127.0.0.1"], &["127.0.0.1"]);
        assert_eq!(asked(&dialer, &url).await.is_ok(), believed);
    }
    served.abort();
}

#[tokio::test]
async fn a_client_of_reqwest_asks_the_outer_proxy_for_all_that_is_not_named() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = proxy.local_addr().unwrap();
    let direct = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}/", direct.local_addr().unwrap().port());
    let served = serving(direct, &[DONE]);
    let asked_of_it = tokio::spawn(async move {
        let (mut stream, _) = proxy.accept().await.unwrap();
        let mut head = vec![0; 1024];
        let n = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 403 No\r\nconnection: close\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&head[..n]).into_owned()
    });
    let network = Network { proxy: Some(format!("http://{at}").parse().unwrap()), ..Network::default() };
    let dialer = Dialer::new(network).unwrap();
    let configured = dialer.configured(&url.parse().unwrap());
    assert_eq!(asked(&configured, &url).await, Ok(204), "what is named is asked directly");
    served.await.unwrap();
    assert!(asked(&dialer, &url).await.unwrap_err().contains("this machine"), "an address is judged here");
    assert!(asked(&dialer, "https://far.example/").await.is_err());
    assert!(asked_of_it.await.unwrap().starts_with("CONNECT far.example:443 HTTP/1.1"));
}

/// Leads to one address, knows two of this machine's, and of one more it can't tell.
struct Own(&'static str);

impl Resolve for Own {
    fn resolve<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let own = self.0.parse().unwrap();
        async move { Ok(vec![SocketAddr::new(own, port)]) }.boxed()
    }
    fn is_here(&self, address: IpAddr) -> io::Result<bool> {
        match address.to_string().as_str() {
            "1.0.0.1" => Err(io::Error::other("too many open files")),
            address => Ok(["8.8.4.4", "2606:4700::7"].contains(&address)),
        }
    }
}

/// What an IPv4 address of this machine's can be written as, and an IPv6 one.
const OWN: &[&str] = &[
    "8.8.4.4",
    "[64:ff9b::808:404]",
    "[::ffff:8.8.4.4]",
    "[::8.8.4.4]",
    "[::ffff:0:808:404]",
    "[64:ff9b:1::808:404]",
    "[2002:808:404::1]",
    "[2001:0:808:404::1]",
    "[2606:4700::7]",
];

#[tokio::test]
async fn an_own_address_that_is_public_is_refused_in_every_way_there() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = format!("http://{}", proxy.local_addr().unwrap()).parse().unwrap();
    let network = Network { proxy: Some(through), ..Network::default() };
    for network in [Network::default(), network] {
        let dialer = Dialer::resolving(network, Own("8.8.4.4")).unwrap();
        let client = dialer.client(|builder| builder).unwrap();
        let get =
            |host: &str| client.request(reqwest::Method::GET, format!("https://{host}/").parse().unwrap());
        for host in OWN {
            let told = dialer.connect(host, 443).await.unwrap_err();
            assert!(matches!(told, DialError::NotPublic { .. }), "{host}: {told}");
            let told = get(host).unwrap_err();
            assert!(matches!(told, DialError::NotPublic { .. }), "{host}: {told}");
        }
        let told = dialer.connect("1.0.0.1", 443).await.unwrap_err().to_string();
        assert!(told.ends_with("whether that is this machine can't be told: too many open files"), "{told}");
        assert_eq!(get("1.0.0.1").unwrap_err().to_string(), told);
        assert!(get("1.1.1.1").is_ok());
    }
    for own in ["8.8.4.4", "64:ff9b::808:404", "2606:4700::7", "1.0.0.1"] {
        let dialer = Dialer::resolving(Network::default(), Own(own)).unwrap();
        assert!(dialer.judged("own.example", 443).await.is_err(), "{own}");
        let told = asked(&dialer, "https://own.example/").await.unwrap_err();
        assert!(told.contains("NotPublic") || told.contains("can't be told"), "{told}");
        let named = dialer.naming("own.example".parse().unwrap());
        assert!(named.judged("own.example", 443).await.is_ok(), "{own} is named");
    }
    let named = Dialer::resolving(naming(&["8.8.4.4"]), Own("8.8.4.4")).unwrap();
    assert!(named.judged("8.8.4.4", 443).await.is_ok());
}

/// Answers what it is let to, and holds the rest.
struct Slow(Arc<AtomicUsize>, Arc<Semaphore>);

impl Resolve for Slow {
    fn resolve<'a>(&'a self, _host: &'a str, _port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        async move {
            self.1.acquire().await.map_err(io::Error::other)?.forget();
            Ok(Vec::new())
        }
        .boxed()
    }
}

#[tokio::test]
async fn one_program_can_not_take_all_turns_to_look_up_names() {
    let (asked, may) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let dialer = Dialer::resolving(Network::default(), Slow(Arc::clone(&asked), Arc::clone(&may))).unwrap();
    let (one, other) = (dialer.for_one(), dialer.for_one());
    let given_up = async |dialer: &Dialer| {
        for _ in 0..20 {
            let waits = Duration::from_millis(5);
            assert!(tokio::time::timeout(waits, dialer.connect("slow.example", 1)).await.is_err());
        }
    };
    // Whoever goes away still has the turn: the system is asked on.
    given_up(&one).await;
    assert_eq!(asked.load(Ordering::SeqCst), MAX_LOOKUPS_OF_ONE);
    given_up(&other).await;
    assert_eq!(asked.load(Ordering::SeqCst), 2 * MAX_LOOKUPS_OF_ONE);
    may.add_permits(100);
    let told = one.connect("slow.example", 1).await.unwrap_err();
    assert!(matches!(told, DialError::Unknown { .. }), "{told}");
}
