//! The real dialer through a real proxy that wants a log-in: it is shown to the proxy alone, and what is wrong is told with what
//! to do.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dial::{DialError, Dialer, Network, ProxyLogin, ProxyUser};
use testkit::{PROXY_PASSWORD, PROXY_USER, Reply, SITE, Site, Squid, deadline};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const HOST: &str = "far.example";

/// A log-in that a test changes.
struct Said(Mutex<Result<&'static str, &'static str>>);

impl ProxyLogin for Said {
    fn log_in(&self) -> Result<ProxyUser, String> {
        let said = *self.0.lock().unwrap();
        ProxyUser::new(PROXY_USER.to_owned(), said.map_err(str::to_owned)?.into())
    }
}

/// A site, the proxy before it, and a dialer that goes by that.
struct World {
    site: Site,
    squid: Squid,
    said: Arc<Said>,
    folder: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let site = Site::start(&[HOST], |_| Reply::Bytes("text/plain", b"hello".to_vec()));
        let said = Arc::new(Said(Mutex::new(Ok(PROXY_PASSWORD))));
        Self { site, squid: Squid::start(&[HOST]), said, folder: tempfile::tempdir().unwrap() }
    }

    /// A dialer that goes by this address of the proxy.
    fn by(&self, proxy: &str) -> Dialer {
        let site = self.site.reached(self.folder.path()).ca.unwrap();
        let both = [site, self.squid.ca()].map(|path| std::fs::read_to_string(path).unwrap()).concat();
        let ca = self.folder.path().join("both.pem");
        std::fs::write(&ca, both).unwrap();
        let proxy = Some(proxy.parse().unwrap());
        Dialer::new(Network { private: Vec::new(), ca: Some(ca), proxy }).unwrap()
    }

    fn logging_in(&self, proxy: &str) -> Dialer {
        self.by(proxy).logging_in(Arc::<Said>::clone(&self.said))
    }

    fn says(&self, said: Result<&'static str, &'static str>) {
        *self.said.0.lock().unwrap() = said;
    }

    /// For how many connections the proxy was asked, as far as it has written that down.
    fn connects(&self) -> usize {
        self.squid.asked().matches(" CONNECT ").count()
    }

    /// A request over a connection of the dialer's own.
    async fn asked(&self, dialer: &Dialer) -> Result<String, DialError> {
        let mut stream = dialer.tls(HOST, self.site.port).await?;
        let head = format!("GET /own HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // The site ends without a word.
        drop(stream.read_to_string(&mut answer).await);
        Ok(answer)
    }

    /// The same by reqwest, as all that asks for documents does.
    async fn asked_by_client(&self, dialer: &Dialer) -> Result<u16, String> {
        let client = dialer.client(|builder| builder.connect_timeout(Duration::from_secs(20))).unwrap();
        let url = format!("https://{HOST}:{}/client", self.site.port).parse().unwrap();
        let request = client.request(reqwest::Method::GET, url).map_err(|error| error.to_string())?;
        let told = |error: reqwest::Error| {
            let debug = format!("{error:?}");
            format!("{} {debug}", dial::refusal(&error).map(|error| error.to_string()).unwrap_or_default())
        };
        request.send().await.map(|answer| answer.status().as_u16()).map_err(told)
    }
}

/// The site has a runtime of its own, so that the world is made outside of the test's.
fn run(test: impl AsyncFnOnce(&World)) {
    let world = World::start();
    tokio::runtime::Runtime::new().unwrap().block_on(test(&world));
}

#[test]
fn a_proxy_that_wants_a_log_in_gets_it_with_each_connection_and_nobody_else_does() {
    run(async |world| {
        for proxy in [world.squid.plain(), world.squid.in_tls()] {
            let dialer = world.logging_in(&proxy);
            assert!(world.asked(&dialer).await.unwrap().ends_with("hello"), "{proxy}");
            assert_eq!(world.asked_by_client(&dialer).await, Ok(200), "{proxy}");
            // As it is at that time: it may be another one by then.
            world.says(Ok("canary-of-yesterday"));
            let told = world.asked(&dialer).await.unwrap_err().to_string();
            assert!(told.contains("it refuses the log-in that `proxy_credential`"), "{told}");
            let other = world.asked_by_client(&dialer).await.unwrap_err();
            assert!(other.contains("or another one than the secret has that `proxy_credential`"), "{other}");
            assert!(!told.contains("canary") && !other.contains("canary"), "{told} {other}");
            world.says(Ok(PROXY_PASSWORD));
            assert!(world.asked(&dialer).await.is_ok());
        }
        // What the site was asked has no trace of it, whoever asked.
        let asked = world.site.asked();
        assert_eq!(asked.len(), 6);
        for one in &asked {
            assert_eq!(
                (one.header("proxy-authorization"), one.header("authorization")),
                (None, None),
                "{one:?}"
            );
        }
        let lines = format!("{PROXY_USER} CONNECT {HOST}:{} 200", world.site.port);
        let refused = format!("CONNECT {HOST}:{} 407", world.site.port);
        deadline("squid has written its log", Duration::from_secs(60), || {
            let log = world.squid.asked();
            (log.matches(&lines).count() >= 6 && log.matches(&refused).count() >= 4).then_some(())
        });
    });
}

#[test]
fn who_has_no_log_in_at_a_proxy_that_wants_one_is_told_what_to_do() {
    run(async |world| {
        let dialer = world.by(&world.squid.plain());
        let told = world.asked(&dialer).await.unwrap_err().to_string();
        assert!(told.contains("it wants a log-in: `lazaret secret set NAME --to"), "{told}");
        let told = world.asked_by_client(&dialer).await.unwrap_err();
        assert!(told.contains("docs/egress.md says how it is stored"), "{told}");
        // The secret is gone, or is none: nobody is asked.
        let dialer = world.logging_in(&world.squid.plain());
        world.says(Err("there is no secret called `corp`"));
        deadline("squid has written its log", Duration::from_secs(60), || {
            (world.connects() == 2).then_some(())
        });
        let told = world.asked(&dialer).await.unwrap_err().to_string();
        assert!(told.contains("there is no secret called `corp`"), "{told}");
        let told = world.asked_by_client(&dialer).await.unwrap_err();
        assert!(told.contains("there is no secret called `corp`"), "{told}");
        world.says(Ok("canary\r\nx: y"));
        assert!(world.asked(&dialer).await.unwrap_err().to_string().contains("no control character"));
        assert!(world.site.asked().is_empty());
        // What is written down later than this would be of later.
        world.says(Ok(PROXY_PASSWORD));
        world.asked(&dialer).await.unwrap();
        deadline("squid has written its log", Duration::from_secs(60), || {
            (world.connects() > 2).then_some(())
        });
        assert_eq!(world.connects(), 3);
    });
}

#[test]
fn the_log_in_is_shown_to_the_proxy_for_what_is_in_tls_or_in_a_tunnel_only() {
    run(async |world| {
        let dialer = world.logging_in(&world.squid.plain());
        // In the clear, a request of reqwest's would go to the proxy itself, which could pass on what it reads.
        let client = dialer.client(|builder| builder).unwrap();
        let request = client.request(reqwest::Method::GET, format!("http://{HOST}/").parse().unwrap());
        let told = request.unwrap_err().to_string();
        assert!(
            told.contains("shown for https only: use that, or name the host in [network] private"),
            "{told}"
        );
        // A proxy in TLS must be who it is taken for, before it hears anything.
        let proxy = Some(world.squid.in_tls().parse().unwrap());
        let stranger = Dialer::new(Network { proxy, ..Network::default() }).unwrap();
        let stranger = stranger.logging_in(Arc::<Said>::clone(&world.said));
        let told = world.asked(&stranger).await.unwrap_err().to_string();
        assert!(told.contains("`127.0.0.1` can't be trusted"), "{told}");
        assert!(world.asked_by_client(&stranger).await.is_err());
        // What a cell asks for in the clear goes through a tunnel, and the origin hears what the cell said.
        let origin = TcpListener::bind((SITE, 0)).await.unwrap();
        let port = origin.local_addr().unwrap().port();
        let mut stream = dialer.connect(HOST, port).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut heard = String::new();
        origin.accept().await.unwrap().0.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "GET / HTTP/1.1\r\n\r\n");
        drop(stream);
        deadline("squid has written its log", Duration::from_secs(60), || {
            (world.connects() > 0).then_some(())
        });
        assert_eq!(world.connects(), 1, "{}", world.squid.asked());
    });
}
