//! A host of git repositories over HTTPS, as an outside service would be one: git's own `http-backend`, behind a password.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::tls::Tls;

/// Most bytes of a push.
const MAX_BODY: usize = 64 << 20;
/// Most bytes of the head that `http-backend` writes.
const MAX_HEAD: usize = 16 << 10;
/// How long `http-backend` may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Its address: on this machine, and another than those that programs in cells take for their own.
pub const HOST: &str = "127.0.0.2";
/// The user of whoever has the password.
pub const USER: &str = "x-access-token";

/// The host. Dropping it ends it.
#[derive(Debug)]
pub struct GitHost {
    /// Its port at [`HOST`].
    pub port: u16,
    /// Who vouches for it, as PEM.
    pub authority: String,
    served: Served,
    _serving: JoinSet<()>,
}

/// What a request needs.
#[derive(Debug, Clone)]
struct Served {
    root: PathBuf,
    /// The only `authorization` that it takes.
    password: Arc<str>,
    refused: Arc<Mutex<u32>>,
    /// Repositories that are elsewhere: the beginnings of paths, and the addresses that clients are sent to.
    moved: Arc<Mutex<BTreeMap<String, String>>>,
}

impl GitHost {
    /// Serves the bare repositories of this folder to whoever has the password.
    ///
    /// # Errors
    /// When there is no port, or no certificate can be made.
    pub async fn start(root: &Path, password: &str) -> Result<Self, Error> {
        let (tls, port, authority) = Tls::listen(HOST, "the demo's git host").await?;
        let password = format!("Basic {}", STANDARD.encode(format!("{USER}:{password}"))).into();
        let (refused, moved) = (Arc::default(), Arc::default());
        let served = Served { root: root.to_owned(), password, refused, moved };
        let router = axum::Router::new().fallback(answer).with_state(served.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move { drop(axum::serve(tls, router).await) });
        Ok(Self { port, authority, served, _serving: serving })
    }

    /// The URL of a repository.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("https://{HOST}:{}/{name}", self.port)
    }

    /// How many requests came without the password.
    #[must_use]
    pub fn refused(&self) -> u32 {
        *self.served.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends whoever asks for a repository elsewhere.
    pub fn redirect(&self, name: &str, to: &str) {
        let mut moved = self.served.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.insert(format!("/{name}/"), format!("{to}/"));
    }

    /// Makes a repository with one commit of these files on `main`.
    ///
    /// # Errors
    /// When git fails.
    pub async fn make(&self, name: &str, files: &[(&str, &str)]) -> Result<(), Error> {
        let bare = self.served.root.join(name);
        let work = tempfile::tempdir()?;
        let at = work.path();
        git(at, &["init", "-q", "-b", "main"]).await?;
        for (path, text) in files {
            std::fs::write(at.join(path), text)?;
        }
        git(at, &["add", "-A"]).await?;
        let who = ["-c", "user.name=demo", "-c", "user.email=demo@localhost"];
        git(at, &[&who[..], &["commit", "-q", "-m", "Begin"]].concat()).await?;
        git(at, &["clone", "-q", "--bare", ".", &bare.to_string_lossy()]).await?;
        git(&bare, &["config", "http.receivepack", "true"]).await?;
        git(&bare, &["config", "receive.advertisePushOptions", "true"]).await?;
        Ok(())
    }

    /// The refs of a repository, with what they point at.
    ///
    /// # Errors
    /// When git fails.
    pub async fn refs(&self, name: &str) -> Result<BTreeMap<String, String>, Error> {
        let listed =
            git(&self.served.root.join(name), &["for-each-ref", "--format=%(refname) %(objectname)"]).await?;
        let pair = |line: &str| line.split_once(' ').map(|(name, id)| (name.to_owned(), id.to_owned()));
        Ok(listed.lines().filter_map(pair).collect())
    }
}

/// Runs git with nothing of the person's configuration; what it printed.
async fn git(folder: &Path, args: &[&str]) -> Result<String, Error> {
    let mut command = Command::new("git");
    let plain = [
        ("PATH", "/usr/bin:/bin"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
    ];
    command.args(args).current_dir(folder).env_clear().envs(plain);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::other(format!("`git {}`: {why}", args.join(" "))))
}

async fn answer(State(served): State<Served>, request: Request) -> Response<Body> {
    let given = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    if given != Some(served.password.as_bytes()) {
        let mut refused = served.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused = refused.saturating_add(1);
        let mut response = Response::new(Body::from("no password\n"));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"git\""));
        return response;
    }
    if let Some(to) = elsewhere(&served, &request) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::FOUND;
        response.headers_mut().insert(header::LOCATION, to);
        return response;
    }
    match timeout(PATIENCE, backend(&served.root, request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => failed(&error.to_string()),
        Err(_late) => failed("http-backend did not answer in time"),
    }
}

/// Where a client is sent, if the repository that it asks for has moved.
fn elsewhere(served: &Served, request: &Request) -> Option<HeaderValue> {
    let asked = request.uri().path_and_query()?.as_str();
    let moved = served.moved.lock().unwrap_or_else(PoisonError::into_inner);
    let to =
        moved.iter().find_map(|(from, to)| Some(format!("{to}{}", asked.strip_prefix(from.as_str())?)))?;
    HeaderValue::from_str(&to).ok()
}

fn failed(why: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{why}\n")));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// Has `http-backend` answer: RFC 3875, as its manual page says.
async fn backend(root: &Path, request: Request) -> Result<Response<Body>, Error> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await.map_err(Error::other)?;
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("REMOTE_USER", USER)
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", text("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", text("content-encoding"))
        .env("GIT_PROTOCOL", text("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().ok_or(ErrorKind::BrokenPipe)?;
    // It may answer without having read all.
    let feed = async move { drop(stdin.write_all(&body).await) };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    response(&output?.stdout.into())
}

/// What a CGI program printed, as a response.
fn response(printed: &Bytes) -> Result<Response<Body>, Error> {
    let bad = || Error::new(ErrorKind::InvalidData, "http-backend printed no head");
    let window = printed.get(..printed.len().min(MAX_HEAD)).unwrap_or_default();
    let end = window.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(bad)?;
    let head = std::str::from_utf8(window.get(..end).unwrap_or_default()).map_err(Error::other)?;
    let (mut status, mut headers) = (StatusCode::OK, HeaderMap::new());
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(": ").ok_or_else(bad)?;
        if name.eq_ignore_ascii_case("status") {
            let code = value.split(' ').next().unwrap_or_default();
            status = code.parse().map_err(Error::other)?;
        } else {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(Error::other)?;
            headers.append(name, HeaderValue::from_str(value).map_err(Error::other)?);
        }
    }
    let mut response = Response::new(Body::from(printed.slice(end.saturating_add(4)..)));
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn git_itself_clones_and_pushes_with_the_password_alone() {
        let (root, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let host = GitHost::start(root.path(), "s3cret").await.unwrap();
        host.make("acme/app.git", &[("README", "hello\n")]).await.unwrap();
        let authority = work.path().join("ca.pem");
        std::fs::write(&authority, &host.authority).unwrap();
        let trust = format!("http.sslCAInfo={}", authority.display());
        let clone = |url: String, to: &'static str| {
            let (trust, work) = (trust.clone(), work.path().to_owned());
            async move { git(&work, &["-c", &trust, "-c", "core.askPass=true", "clone", "-q", &url, to]).await }
        };
        assert!(clone(host.url("acme/app.git"), "a").await.is_err());
        assert!(host.refused() > 0);
        let with = host.url("acme/app.git").replace("https://", &format!("https://{USER}:s3cret@"));
        clone(with, "b").await.unwrap();
        let app = work.path().join("b");
        git(&app, &["-c", &trust, "push", "-q", "origin", "HEAD:refs/heads/agent/a"]).await.unwrap();
        let refs = host.refs("acme/app.git").await.unwrap();
        assert_eq!(refs.keys().collect::<Vec<_>>(), ["refs/heads/agent/a", "refs/heads/main"]);
    }
}
