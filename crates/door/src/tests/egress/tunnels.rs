//! Tunnels: TLS that ends in the door, one server for each, and nothing but HTTP in them.

use super::*;

#[tokio::test]
async fn a_request_in_a_tunnel_reaches_the_daemon_and_its_answer_comes_back() {
    let mut proxy = Proxy::usual().await;
    for alpn in [&["http/1.1"][..], &[]] {
        let mut tls = proxy.tls("example.com:443", "example.com", alpn).await.unwrap();
        for path in ["/a", "/b?c"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: Example.com\r\nAccept: x\r\n\r\n");
            tls.write_all(request.as_bytes()).await.unwrap();
            let mut asked = proxy.next().await;
            let (path, query) =
                path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query.to_owned())));
            let headers = vec![("accept".into(), "x".into())];
            assert_eq!(asked.request, EgressRequest { query, headers, ..get("example.com", path) });
            asked.ok("hello").await;
            assert!(read_head(&mut tls).await.starts_with("HTTP/1.1 200"));
            let mut body = [0; 5];
            tls.read_exact(&mut body).await.unwrap();
            assert_eq!(&body, b"hello");
        }
    }
    assert_eq!(proxy.leaves.load(Ordering::SeqCst), 1, "the certificate is kept");
}

#[tokio::test]
async fn addresses_and_other_ports_are_servers_too() {
    let mut proxy = Proxy::usual().await;
    for (target, name, host, port) in [
        ("1.2.3.4:8443", "1.2.3.4", "1.2.3.4", 8443),
        ("[2001:db8::1]:443", "2001:db8::1", "2001:db8::1", 443),
    ] {
        let mut tls = proxy.tls(target, name, &[]).await.unwrap();
        tls.write_all(format!("GET / HTTP/1.1\r\nhost: {target}\r\n\r\n").as_bytes()).await.unwrap();
        let asked = proxy.next().await;
        assert_eq!(asked.request, EgressRequest { port, ..get(host, "/") });
    }
}

#[tokio::test]
async fn plain_http_in_a_tunnel_is_http() {
    let mut proxy = Proxy::usual().await;
    let mut tunnel = proxy.tunnel("example.com:80").await;
    tunnel.write_all(b"GET /a HTTP/1.1\r\nhost: example.com:80\r\n\r\n").await.unwrap();
    let asked = proxy.next().await;
    assert_eq!(asked.request, EgressRequest { scheme: Scheme::Http, port: 80, ..get("example.com", "/a") });
    let mut tunnel = proxy.tunnel("example.com:443").await;
    tunnel.write_all(b"GET /a HTTP/1.1\r\nhost: example.com:443\r\n\r\n").await.unwrap();
    // Not a way around TLS: it is another URL than `https://example.com/a`.
    assert_eq!(proxy.next().await.request.to_string(), "http://example.com:443/a");
}

#[tokio::test]
async fn a_tunnel_leads_to_one_server_only() {
    let mut proxy = Proxy::usual().await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\nhost: evil.example\r\n\r\n", "421"),
        ("GET / HTTP/1.1\r\nhost: example.com:444\r\n\r\n", "421"),
        ("GET / HTTP/1.1\r\nhost: example.com.evil.example\r\n\r\n", "421"),
        ("GET / HTTP/1.1\r\nhost: example.com\r\nhost: evil.example\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: example.com evil.example\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: example.com,evil.example\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost:\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET https://evil.example/ HTTP/1.1\r\nhost: example.com\r\n\r\n", "421"),
        ("GET http://example.com/ HTTP/1.1\r\nhost: example.com\r\n\r\n", "421"),
        ("GET https://example.com/ HTTP/1.1\r\nhost: evil.example\r\n\r\n", "421"),
        ("GET //evil.example/ HTTP/1.1\r\nhost: example.com\r\n\r\n", "400"),
        ("GET evil.example/ HTTP/1.1\r\nhost: example.com\r\n\r\n", "400"),
        ("CONNECT evil.example:443 HTTP/1.1\r\nhost: example.com\r\n\r\n", "405"),
        ("GET / HTTP/1.1\r\nhost: example.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", "501"),
    ] {
        let mut tls = proxy.tls("example.com:443", "example.com", &["http/1.1"]).await.unwrap();
        tls.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut tls).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {head}");
    }
    proxy.nothing_left().await;
}

#[tokio::test]
async fn the_name_in_tls_is_that_of_the_tunnel() {
    let mut proxy = Proxy::usual().await;
    // A program that verifies sees another certificate than it wants.
    assert!(proxy.tls("example.com:443", "evil.example", &[]).await.is_err());
    // One that does not is told.
    for target in ["example.com:443", "1.2.3.4:443"] {
        let mut tls = unverified(&proxy, target, "evil.example").await;
        let host = target.strip_suffix(":443").unwrap();
        tls.write_all(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        let head = read_head(&mut tls).await;
        assert!(head.starts_with("HTTP/1.1 421"), "{head}");
    }
    proxy.nothing_left().await;
}

#[tokio::test]
async fn what_is_not_http_does_not_leave() {
    let mut proxy = Proxy::usual().await;
    for bytes in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"\x05\x01\x00",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"EHLO evil.example\r\n",
        b"\x80\x2e\x01\x00\x02",
        b"\n\n\n",
        b"get / HTTP/1.1\r\nhost: example.com\r\n\r\n",
    ] {
        let mut tunnel = proxy.tunnel("example.com:443").await;
        tunnel.write_all(bytes).await.unwrap();
        let answer = read_response(&mut tunnel).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{bytes:?}: {answer}");
        let first = bytes.first().copied().unwrap_or_default();
        assert!(
            first.is_ascii_uppercase() || answer.contains("only HTTP leaves a cell"),
            "{bytes:?}: {answer}"
        );
    }
    // Nor HTTP/2 that was not agreed on.
    let mut tunnel = proxy.tunnel("example.com:80").await;
    tunnel.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await.unwrap();
    assert_eq!(tunnel.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    // Nor in TLS, whatever it calls itself.
    let mut tls = proxy.tls("example.com:443", "example.com", &[]).await.unwrap();
    tls.write_all(b"a001 LOGIN x y\r\n\r\n").await.unwrap();
    assert!(read_head(&mut tls).await.starts_with("HTTP/1.1 400"));
    for protocol in ["h3", "mqtt", "acme-tls/1", "http/1.0"] {
        assert!(proxy.tls("example.com:443", "example.com", &[protocol]).await.is_err(), "{protocol}");
    }
    proxy.nothing_left().await;
}

/// TLS as a program makes it that does not look at certificates.
async fn unverified(proxy: &Proxy, target: &str, name: &str) -> TlsStream<Stream> {
    let tunnel = proxy.tunnel(target).await;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tunnel).await.unwrap()
}

/// Takes every certificate.
#[derive(Debug)]
struct Anybody;

mod anybody {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    impl ServerCertVerifier for super::Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }
}
