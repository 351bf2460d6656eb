//! A program's request in its one canonical form, or why it has none.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use wire::egress::url::{Authority, path_and_query};
use wire::egress::{BodyLength, EgressRequest, NotCanonical, Scheme, stays};

use super::Origin;
use super::refusal::Refusal;

/// The canonical form of a request that came to the proxy itself, or in the tunnel to an origin; that of a push lacks what
/// is pushed.
pub(super) fn canonical(
    head: &Parts,
    body: BodyLength,
    origin: Option<&Origin>,
) -> Result<EgressRequest, Refusal> {
    if head.method == Method::CONNECT {
        let why = "a tunnel in a tunnel is not opened";
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, why));
    }
    no_upgrade(&head.headers)?;
    let (scheme, authority) = match origin {
        None => to_proxy(head)?,
        Some(origin) => in_tunnel(head, origin)?,
    };
    let target = head.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    let (path, query) = path_and_query(target).map_err(Refusal::malformed)?;
    let Authority { host, port } = authority;
    let headers = headers(&head.headers)?;
    let method = head.method.as_str().to_owned();
    let request = EgressRequest { method, scheme, host, port, path, query, headers, push: None, body };
    match request.check() {
        Ok(()) | Err(NotCanonical::Push) => Ok(request),
        Err(fault) => Err(Refusal::malformed(fault)),
    }
}

/// A request to the proxy itself says all of its URL.
fn to_proxy(head: &Parts) -> Result<(Scheme, Authority), Refusal> {
    let (Some(scheme), Some(authority)) = (head.uri.scheme_str(), head.uri.authority()) else {
        return Err(Refusal::malformed("this is a proxy: it takes `http://host/…` and CONNECT")
            .hint("give this address to programs as HTTP_PROXY and HTTPS_PROXY, as the variables here do"));
    };
    if scheme != "http" {
        return Err(Refusal::malformed(format!("`{scheme}` can't be asked for so"))
            .hint("for https, open a tunnel with CONNECT; nothing else leaves"));
    }
    let authority = Authority::parse(authority.as_str(), Scheme::Http.usual_port());
    let authority = authority.map_err(Refusal::malformed)?;
    same_host(&head.headers, &authority, Scheme::Http)?;
    Ok((Scheme::Http, authority))
}

/// A request in a tunnel is for the server that the tunnel leads to, in every place where it says so.
fn in_tunnel(head: &Parts, origin: &Origin) -> Result<(Scheme, Authority), Refusal> {
    let origin = &origin.0;
    if origin.misdirected {
        return Err(misdirected("the name in TLS is another than that of the tunnel"));
    }
    if head.uri.scheme_str().is_some_and(|scheme| scheme != origin.scheme.as_str()) {
        return Err(misdirected("the scheme is another than that of the tunnel"));
    }
    let authority = head.uri.authority();
    if let Some(authority) = authority {
        same(authority.as_str(), &origin.authority, origin.scheme)?;
    }
    let named = same_host(&head.headers, &origin.authority, origin.scheme)?;
    if !named && authority.is_none() {
        return Err(Refusal::malformed("the request does not say for which host it is"));
    }
    Ok((origin.scheme, origin.authority.clone()))
}

/// Whether a host is named in the headers, which then is this one.
pub(super) fn same_host(headers: &HeaderMap, meant: &Authority, scheme: Scheme) -> Result<bool, Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let Some(host) = hosts.next() else { return Ok(false) };
    if hosts.next().is_some() {
        return Err(Refusal::malformed("the request has several `host` headers"));
    }
    same(host.to_str().unwrap_or_default(), meant, scheme).map(|()| true)
}

fn same(found: &str, meant: &Authority, scheme: Scheme) -> Result<(), Refusal> {
    let found = Authority::parse(found, scheme.usual_port()).map_err(Refusal::malformed)?;
    if found == *meant {
        return Ok(());
    }
    Err(misdirected(&format!("the request is for `{}`, but was sent to `{}`", found.host, meant.host)))
}

fn misdirected(why: &str) -> Refusal {
    Refusal::new(StatusCode::MISDIRECTED_REQUEST, why)
}

/// An offer to go on with another HTTP may be passed over. A WebSocket is another protocol.
fn no_upgrade(headers: &HeaderMap) -> Result<(), Refusal> {
    let offers = headers.get_all(header::UPGRADE).iter().flat_map(tokens);
    if offers.into_iter().any(|offer| !offer.starts_with("h2c") && !offer.starts_with("tls/")) {
        return Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "WebSockets and other upgrades do not leave a cell",
        )
        .hint("many services can be asked by plain requests or server-sent events as well"));
    }
    Ok(())
}

/// The comma-separated words of a header, in lower case.
fn tokens(value: &HeaderValue) -> Vec<String> {
    let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

/// What leaves of the headers: all that does not concern this connection only.
fn headers(all: &HeaderMap) -> Result<Vec<(String, String)>, Refusal> {
    let of_connection: Vec<String> = all.get_all(header::CONNECTION).iter().flat_map(tokens).collect();
    let leaves =
        |name: &HeaderName| !stays(name.as_str()) && !of_connection.iter().any(|word| word == name.as_str());
    let mut headers: Vec<(String, String)> = Vec::with_capacity(all.len());
    for (name, value) in all.iter().filter(|(name, _)| leaves(name)) {
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else {
            return Err(Refusal::malformed(format!("the header `{name}` is not UTF-8")));
        };
        // HTTP/2 may split what HTTP/1.1 has in one.
        match headers.iter_mut().find(|(known, _)| name == header::COOKIE && known == "cookie") {
            Some((_, cookies)) => {
                cookies.push_str("; ");
                cookies.push_str(value);
            }
            None => headers.push((name.as_str().to_owned(), value.to_owned())),
        }
    }
    Ok(headers)
}
