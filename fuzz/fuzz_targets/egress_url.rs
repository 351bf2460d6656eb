//! URLs of requests that are to leave, on any text: no panic, and one form for each, which is its own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::egress::url::Url;
use wire::egress::{BodyLength, EgressRequest};

fuzz_target!(|text: &str| {
    let Ok(url) = Url::parse(text) else { return };
    let form = url.to_string();
    assert_eq!(Url::parse(&form).as_ref(), Ok(&url));
    assert!(!form.contains(['\\', '#', ' ']) && !url.path.contains("//") && !url.path.contains("/../"));
    let request = EgressRequest {
        method: "GET".to_owned(),
        scheme: url.scheme,
        host: url.authority.host,
        port: url.authority.port,
        path: url.path,
        query: url.query,
        headers: Vec::new(),
        push: None,
        body: BodyLength::None,
    };
    assert_eq!(request.check(), Ok(()));
});
