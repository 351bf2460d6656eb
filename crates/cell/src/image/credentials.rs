//! Credentials for registries, from where Docker keeps them: `config.json` and the credential helpers that it names.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use serde::Deserialize;

use super::error::ImageError;
use super::reference::Reference;

/// Most bytes in Docker's configuration and in a helper's answer.
const MAX_CONFIG: u64 = 1 << 20;

/// A user's name and password at a registry.
pub(super) struct Credential {
    /// Who.
    pub(super) user: String,
    /// The password or token.
    pub(super) password: SecretString,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<SecretString>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: SecretString,
}

/// The credential for the registry of `reference`; `None` where Docker has none. Runs a helper, so it blocks.
pub(super) fn find(reference: &Reference) -> Result<Option<Credential>, ImageError> {
    let folder = std::env::var_os("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")));
    let Some(path) = folder.map(|folder| folder.join("config.json")) else { return Ok(None) };
    let mut text = String::new();
    match std::fs::File::open(&path).and_then(|file| file.take(MAX_CONFIG).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ImageError::io("read", path)(error)),
    }
    let config: Config = serde_json::from_str(&text).map_err(|error| ImageError::Document {
        document: format!("Docker's configuration `{}`", path.display()),
        // serde's text could quote a secret; its position says enough.
        why: format!("line {}, column {}: it is not the JSON that is expected", error.line(), error.column()),
    })?;
    in_config(&config, &reference.registry, helper)
}

/// The names under which Docker may have filed a registry.
fn keys(registry: &str) -> Vec<String> {
    let mut keys =
        vec![registry.to_owned(), format!("https://{registry}"), format!("https://{registry}/v2/")];
    if registry == "docker.io" {
        keys.push("https://index.docker.io/v1/".to_owned());
        keys.push("index.docker.io".to_owned());
    }
    keys
}

fn in_config(
    config: &Config,
    registry: &str,
    ask: impl Fn(&str, &str) -> Result<Option<Credential>, ImageError>,
) -> Result<Option<Credential>, ImageError> {
    for key in keys(registry) {
        if let Some(name) = config.cred_helpers.get(&key) {
            return ask(name, &key);
        }
    }
    for key in keys(registry) {
        let auth = config.auths.get(&key);
        if let Some(found) = auth.and_then(|auth| auth.auth.as_ref()).and_then(decode) {
            return Ok(Some(found));
        }
        // Where a store is set up, `auths` has an empty entry for each registry that it knows.
        if let (Some(store), Some(_)) = (&config.creds_store, auth) {
            return ask(store, &key);
        }
    }
    Ok(None)
}

fn decode(auth: &SecretString) -> Option<Credential> {
    use secrecy::ExposeSecret;
    let text = String::from_utf8(STANDARD.decode(auth.expose_secret().trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    (!user.is_empty()).then(|| Credential { user: user.to_owned(), password: SecretString::from(password) })
}

/// Asks `docker-credential-NAME`, which the person's configuration names, for the credential of `server`.
fn helper(name: &str, server: &str) -> Result<Option<Credential>, ImageError> {
    let failed =
        |why: String| ImageError::Tool { tool: "docker-credential-helper", why: format!("`{name}`: {why}") };
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        return Err(failed("it is no name of a helper".to_owned()));
    }
    let run = || -> io::Result<(bool, Vec<u8>)> {
        let mut child = Command::new(format!("docker-credential-{name}"))
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(server.as_bytes())?;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MAX_CONFIG).read_to_end(&mut answer)?;
        }
        Ok((child.wait()?.success(), answer))
    };
    let (success, answer) = run().map_err(|error| failed(error.to_string()))?;
    if !success {
        // Helpers end so when they know of no credential; the registry will say whether one is needed.
        tracing::debug!(helper = name, server, "the credential helper has nothing");
        return Ok(None);
    }
    let answer: HelperAnswer = serde_json::from_slice(&answer)
        .map_err(|_| failed("its answer is not the JSON that is expected".to_owned()))?;
    Ok(Some(Credential { user: answer.username, password: answer.secret }))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn found(config: &str, registry: &str) -> Option<(String, String)> {
        let config: Config = serde_json::from_str(config).unwrap();
        let ask = |name: &str, key: &str| {
            Ok(Some(Credential { user: name.to_owned(), password: SecretString::from(key) }))
        };
        let found = in_config(&config, registry, ask).unwrap();
        found.map(|c| (c.user, c.password.expose_secret().to_owned()))
    }

    #[test]
    fn a_credential_goes_to_its_own_registry_only() {
        let config = r#"{"auths": {"ghcr.io": {"auth": "YW5uOnB3"}, "https://index.docker.io/v1/": {"auth": "Ym9iOng6eQ=="}}}"#;
        assert_eq!(found(config, "ghcr.io"), Some(("ann".into(), "pw".into())));
        assert_eq!(found(config, "docker.io"), Some(("bob".into(), "x:y".into())));
        assert_eq!(found(config, "ghcr.io.evil.example"), None);
    }

    #[test]
    fn helpers_are_asked_where_docker_would() {
        let config =
            r#"{"auths": {"a.example": {}}, "credsStore": "pass", "credHelpers": {"b.example": "gcloud"}}"#;
        assert_eq!(found(config, "a.example"), Some(("pass".into(), "a.example".into())));
        assert_eq!(found(config, "b.example"), Some(("gcloud".into(), "b.example".into())));
        assert_eq!(found(config, "c.example"), None);
    }

    #[test]
    fn a_helper_is_a_name_not_a_path() {
        assert!(helper("../evil", "a.example").is_err());
        assert!(helper("", "a.example").is_err());
    }
}
