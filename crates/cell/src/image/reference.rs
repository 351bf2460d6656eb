//! Names of images at registries: `[host[:port]/]repository[:tag][@sha256:…]`, as Docker writes and completes them.

use domain::ImageName;

use super::digest::Digest;
use super::error::ImageError;

const HUB: &str = "docker.io";

/// A reference, with what was left out filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// Host, and port where one is given.
    pub(super) registry: String,
    /// Path of the repository.
    pub(super) repository: String,
    /// Tag; `latest` where neither tag nor digest is given.
    pub(super) tag: Option<String>,
    /// Digest, if the reference is pinned.
    pub(super) digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference.
    pub(super) fn parse(text: &str) -> Result<Self, ImageError> {
        let refuse = |why| ImageError::Reference { text: text.chars().take(100).collect(), why };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest = digest.parse().map_err(|_| refuse("only sha256 digests can pin an image"))?;
                (name, Some(digest))
            }
            None => (text, None),
        };
        let (registry, rest) = match name.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            _ => (HUB, name),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if !host_is_sound(registry) {
            return Err(refuse("the registry is no host name"));
        }
        if !path.split('/').all(component_is_sound) || path.len() > 255 {
            return Err(refuse("a repository is made of a-z, 0-9, `.`, `_` and `-`, separated by `/`"));
        }
        if tag.is_some_and(|tag| !tag_is_sound(tag)) {
            return Err(refuse("a tag is made of letters, digits, `.`, `_` and `-`"));
        }
        let repository =
            if registry == HUB && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// Host and port that answer for the registry.
    pub(super) fn host(&self) -> &str {
        if self.registry == HUB { "registry-1.docker.io" } else { &self.registry }
    }

    /// Whether the registry is on this host, so that plain HTTP is no risk.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.registry.rsplit_once(':').map_or(self.registry.as_str(), |(host, _)| host);
        host == "localhost" || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
    }

    /// The tag or digest to ask the registry for.
    pub(super) fn version(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

fn host_is_sound(host: &str) -> bool {
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let name_ok = !name.is_empty()
        && name.len() <= 253
        && !name.starts_with(['-', '.'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    name_ok && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn component_is_sound(part: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    let outer = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = part.as_bytes();
    outer(bytes.first()) && outer(bytes.last()) && bytes.iter().all(|b| inner(*b)) && !part.contains("..")
}

fn tag_is_sound(tag: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=128).contains(&tag.len()) && !tag.starts_with(['.', '-']) && tag.bytes().all(ok)
}

/// The same text for all ways of writing one tagged reference; `None` for reserved names and what is no reference.
pub(super) fn canonical(name: &ImageName) -> Option<String> {
    if name.is_reserved() {
        return None;
    }
    let Reference { registry, repository, tag, digest } = Reference::parse(name.as_str()).ok()?;
    match (tag, digest) {
        (Some(tag), None) => Some(format!("{registry}/{repository}:{tag}")),
        _ => None,
    }
}

/// The digest that a name gives, alone or after `@`.
pub(super) fn digest_in(name: &ImageName) -> Option<Digest> {
    let text = name.as_str();
    text.rsplit_once('@').map_or(text, |(_, digest)| digest).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Option<(String, String, Option<String>)> {
        Reference::parse(text).ok().map(|r| (r.registry, r.repository, r.tag))
    }

    #[test]
    fn references_are_completed_as_docker_does() {
        let some = |a: &str, b: &str, c: &str| Some((a.to_owned(), b.to_owned(), Some(c.to_owned())));
        assert_eq!(parts("alpine"), some("docker.io", "library/alpine", "latest"));
        assert_eq!(parts("acme/tool:1.2"), some("docker.io", "acme/tool", "1.2"));
        assert_eq!(parts("localhost:5000/a/b"), some("localhost:5000", "a/b", "latest"));
        assert_eq!(parts("ghcr.io/acme/tool:v1"), some("ghcr.io", "acme/tool", "v1"));
        let pinned = format!("ghcr.io/acme/tool@{}", Digest::of(b"x"));
        assert_eq!(parts(&pinned), Some(("ghcr.io".into(), "acme/tool".into(), None)));
    }

    #[test]
    fn texts_that_are_no_reference_are_refused() {
        for bad in [
            "",
            ":tag",
            "A",
            "a/../b",
            "a//b",
            "a:",
            "a:b c",
            "host.x:0/a",
            "host.x:99999/a",
            "a@md5:00",
            "a@sha256:0",
            "-host.x/a",
            "a/-b",
            "https://x/y",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_this_host_is_loopback() {
        for (text, yes) in [
            ("localhost:5000/a", true),
            ("127.0.0.1:5000/a", true),
            ("localhost.evil.com/a", false),
            ("127.0.0.1.evil.com/a", false),
            ("alpine", false),
        ] {
            assert_eq!(Reference::parse(text).is_ok_and(|r| r.is_loopback()), yes, "{text}");
        }
    }
}
