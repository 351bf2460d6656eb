//! The egress proxy against programs that use it as they should, and against those that try to get something past it.

mod hostile;
mod http2;
mod plain;
mod pushes;
mod smuggling;
mod tunnels;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_bytes::ByteBuf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wire::egress::{
    BodyLength, EgressAnswer, EgressBody, EgressRequest, LeafAnswer, MAX_ANSWER, MAX_REQUEST, Scheme,
};
use wire::guest::GuestOpens;
use wire::host::DoorOpens as Asks;

use super::*;

/// A proxy, its guest, and a daemon that issues certificates and hands over what is to leave.
struct Proxy {
    guest: Guest,
    asked: mpsc::Receiver<Asked>,
    ca: CertificateDer<'static>,
    /// How many certificates were asked for.
    leaves: Arc<AtomicUsize>,
}

/// A request that reached the daemon.
struct Asked {
    request: EgressRequest,
    stream: Stream,
}

/// The host for which there is no certificate.
const NO_LEAF: &str = "no-leaf.example";

impl Proxy {
    async fn new(limits: DoorLimits) -> Self {
        let (daemon, guest) = born(limits).await;
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let (ask, asked) = mpsc::channel(64);
        let leaves = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&leaves);
        tokio::spawn(async move {
            // All of it: it must not hang up.
            let mut daemon: Daemon = daemon;
            while let Some(mut stream) = daemon.incoming.next().await {
                match frame::read(&mut stream, MAX_REQUEST + 16).await.unwrap().unwrap() {
                    Asks::Egress(request) => ask.send(Asked { request, stream }).await.unwrap(),
                    Asks::Leaf { host } => {
                        count.fetch_add(1, Ordering::SeqCst);
                        frame::write(&mut stream, &leaf(&issuer, host), SMALL).await.unwrap();
                    }
                    other @ (Asks::Model(_) | Asks::Models | Asks::Tools(_)) => panic!("{other:?}"),
                }
            }
        });
        Self { guest, asked, ca, leaves }
    }

    async fn usual() -> Self {
        Self::new(DoorLimits::default()).await
    }

    /// One connection to the proxy.
    async fn connect(&self) -> Stream {
        let mut stream = self.guest.opener.open().await.unwrap();
        frame::write(&mut stream, &GuestOpens::Egress, SMALL).await.unwrap();
        stream
    }

    /// Sends bytes and reads one response.
    async fn exchange(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // The door may close before it has read everything.
        drop(stream.write_all(request.as_ref()).await);
        read_response(&mut stream).await
    }

    /// A tunnel that stands.
    async fn tunnel(&self, target: &str) -> Stream {
        let mut stream = self.connect().await;
        let head = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        stream
    }

    /// TLS in a tunnel.
    async fn tls(&self, target: &str, name: &str, alpn: &[&str]) -> std::io::Result<TlsStream<Stream>> {
        let tunnel = self.tunnel(target).await;
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tunnel).await
    }

    /// The next request that reaches the daemon.
    async fn next(&mut self) -> Asked {
        self.asked.recv().await.unwrap()
    }

    /// Nothing that was sent so far has reached the daemon, or will.
    async fn nothing_left(&mut self) {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        if let Ok(asked) = self.asked.try_recv() {
            panic!("this left: {:?}", asked.request);
        }
    }
}

impl Asked {
    async fn answer(&mut self, answer: EgressAnswer) {
        frame::write(&mut self.stream, &answer, MAX_ANSWER).await.unwrap();
    }

    /// Answers with this text.
    async fn ok(&mut self, text: &str) {
        let headers = vec![("content-length".into(), text.len().to_string())];
        self.answer(EgressAnswer::Head { status: 200, headers }).await;
        self.answer(EgressAnswer::Body(text.into())).await;
        self.answer(EgressAnswer::End).await;
    }

    /// The next piece of the body, or its end.
    async fn piece(&mut self) -> Option<EgressBody> {
        frame::read(&mut self.stream, SMALL).await.unwrap()
    }

    /// The whole body.
    async fn body(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            match self.piece().await {
                Some(EgressBody::Bytes(bytes)) => body.extend(bytes),
                Some(EgressBody::End) => return body,
                None => panic!("the body was cut after {} bytes", body.len()),
            }
        }
    }
}

fn leaf(issuer: &Issuer<'_, KeyPair>, host: String) -> LeafAnswer {
    if host == NO_LEAF {
        return LeafAnswer::Refused { why: "there are too many names".into() };
    }
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![host]).unwrap().signed_by(&key, issuer).unwrap();
    LeafAnswer::Issued {
        chain: vec![ByteBuf::from(certificate.der().to_vec())],
        key: ByteBuf::from(key.serialize_der()),
    }
}

/// Whether a stream is ended although a byte of `drop` comes now and then, before that took ten times the patience of [`SHORT`].
async fn ends_in_spite_of_drops<S: AsyncRead + AsyncWrite + Unpin>(stream: S, drop: &[u8]) -> bool {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut ticks = tokio::time::interval(SHORT / 10);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let dripping = async {
        for byte in drop.iter().cycle().take(400) {
            ticks.tick().await;
            // Where it can't be written any more, the end is about to be read.
            if write.write_all(&[*byte]).await.is_ok() {
                std::mem::drop(write.flush().await);
            }
        }
    };
    let mut rest = Vec::new();
    tokio::select! {
        // With a word or without, by an error of TLS.
        _ = read.read_to_end(&mut rest) => true,
        () = dripping => false,
    }
}

/// A response whose length is told.
async fn read_response<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let head = read_head(stream).await;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    head + std::str::from_utf8(&body).unwrap()
}

/// A response's head, to the empty line.
async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn get(host: &str, path: &str) -> EgressRequest {
    EgressRequest {
        method: "GET".into(),
        scheme: Scheme::Https,
        host: host.into(),
        port: 443,
        path: path.into(),
        query: None,
        headers: Vec::new(),
        push: None,
        body: BodyLength::None,
    }
}
