//! Pulling from a real registry on this host, and from one that misbehaves.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use domain::ImageName;
use secrecy::SecretString;

use super::sources::make_layout;
use super::*;
use crate::image::credentials::Credential;
use crate::image::{ImageError, ImageStore, Progress};

/// `ann` with the password `pw`, as htpasswd writes it.
const PASSWORDS: &str = "ann:$2b$04$l26nyqWRZp6TGxWz3Tn4bOmsWUqmm.8WGh/klQEJgLTqCVrGn3./.\n";

/// Debian's docker-registry at work in a folder.
struct Registry {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Registry {
    fn start(auth: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = folder.path().display();
        let mut config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {at}/data\nhttp:\n  addr: 127.0.0.1:{port}\n"
        );
        if auth {
            fs::write(folder.path().join("htpasswd"), PASSWORDS).unwrap();
            config.push_str(&format!("auth:\n  htpasswd:\n    realm: test\n    path: {at}/htpasswd\n"));
        }
        let path = folder.path().join("config.yml");
        fs::write(&path, config).unwrap();
        let mut child = Command::new("docker-registry")
            .args(["serve", path.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("`docker-registry` is needed by this test");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("listening on")), "the registry did not start");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port, folder }
    }

    fn name(&self, rest: &str) -> ImageName {
        format!("127.0.0.1:{}/{rest}", self.port).parse().unwrap()
    }

    fn push(&self, layout: &Path, to: &str, more: &[&str]) {
        let from = format!("oci:{}:t", layout.display());
        let to = format!("docker://{}", self.name(to));
        let mut args = vec!["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"];
        args.extend(more);
        args.extend([from.as_str(), to.as_str()]);
        run("skopeo", &args);
    }

    /// The registry's own file of a blob.
    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.folder.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn pull(
    store: &ImageStore,
    name: &ImageName,
    who: Option<&str>,
) -> Result<crate::image::Image, ImageError> {
    let credential =
        who.map(|password| Credential { user: "ann".to_owned(), password: SecretString::from(password) });
    store.pull_as(name, credential, &Progress::silent()).await
}

#[tokio::test]
async fn images_are_pulled_by_tag_and_by_digest() {
    let scratch = tempfile::tempdir().unwrap();
    let layout = make_layout(scratch.path());
    let registry = Registry::start(false);
    registry.push(&layout, "acme/tool:oci", &[]);
    registry.push(&layout, "acme/tool:docker", &["--format", "v2s2"]);
    let data = tempfile::tempdir().unwrap();
    let store = ImageStore::open(data.path(), dialer()).unwrap();

    let oci = pull(&store, &registry.name("acme/tool:oci"), None).await.unwrap();
    let docker = pull(&store, &registry.name("acme/tool:docker"), None).await.unwrap();
    assert_ne!(oci.digest, docker.digest);
    // The same file system to the byte: nothing of when and how it was made is in it.
    let digest = |path| crate::image::Digest::of(&fs::read(path).unwrap());
    assert_eq!(digest(&oci.path), digest(&docker.path));

    let pinned = registry.name(&format!("acme/tool@{}", oci.digest));
    let again = pull(&store, &pinned, None).await.unwrap();
    assert_eq!((again.digest, &again.path), (oci.digest, &oci.path));
    assert_eq!(store.resolve(&pinned).unwrap().digest, oci.digest);

    let missing = pull(&store, &registry.name("acme/tool:none"), None).await.unwrap_err().to_string();
    assert!(missing.contains("no such image"), "{missing}");
}

#[tokio::test]
async fn a_registry_with_log_in_is_asked_as_its_user() {
    let scratch = tempfile::tempdir().unwrap();
    let layout = make_layout(scratch.path());
    let registry = Registry::start(true);
    registry.push(&layout, "acme/tool:1", &["--dest-creds", "ann:pw"]);
    let data = tempfile::tempdir().unwrap();
    let store = ImageStore::open(data.path(), dialer()).unwrap();
    let name = registry.name("acme/tool:1");

    let error = pull(&store, &name, None).await.unwrap_err();
    assert!(error.to_string().contains("no credential for it was found"), "{error}");
    let error = pull(&store, &name, Some("wrong")).await.unwrap_err();
    assert!(error.to_string().contains("the credential of `ann` is not enough"), "{error}");
    assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
    pull(&store, &name, Some("pw")).await.unwrap();
}

#[tokio::test]
async fn blobs_that_were_exchanged_at_the_registry_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let layout = make_layout(scratch.path());
    let registry = Registry::start(false);
    registry.push(&layout, "acme/tool:1", &[]);
    let data = tempfile::tempdir().unwrap();
    let store = ImageStore::open(data.path(), dialer()).unwrap();
    let name = registry.name("acme/tool:1");
    let first = pull(&store, &name, None).await.unwrap();
    store.remove(&name).unwrap();

    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(registry.blob(&first.digest.to_string())).unwrap()).unwrap();
    let layer = registry.blob(manifest["layers"][1]["digest"].as_str().unwrap());
    let mut bytes = fs::read(&layer).unwrap();
    bytes[20] ^= 1;
    fs::write(&layer, &bytes).unwrap();
    let error = pull(&store, &name, None).await.unwrap_err();
    assert!(matches!(error, ImageError::Digest { .. }), "{error}");
    bytes.push(0);
    fs::write(&layer, &bytes).unwrap();
    assert!(pull(&store, &name, None).await.is_err());
    assert!(store.list().unwrap().is_empty());

    // A pinned manifest is the one that was pinned, or none.
    let pinned = registry.name(&format!("acme/tool@{}", first.digest));
    let path = registry.blob(&first.digest.to_string());
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text + " ").unwrap();
    assert!(pull(&store, &pinned, None).await.is_err());
}

/// Answers each request on a port of this host with what `answer` makes of its first line.
fn serve(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            answer(&head, &mut stream);
        }
    });
    port
}

async fn error_from(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> String {
    let port = serve(answer);
    let data = tempfile::tempdir().unwrap();
    let store = ImageStore::open(data.path(), dialer()).unwrap();
    let name: ImageName = format!("127.0.0.1:{port}/a:1").parse().unwrap();
    pull(&store, &name, Some("pw")).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_registry_can_neither_flood_nor_send_us_elsewhere() {
    let flood = error_from(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        let mut open = stream.write_all(head.as_bytes());
        while open.is_ok() {
            open = stream.write_all(&[b' '; 65536]);
        }
    })
    .await;
    assert!(flood.contains("more than 4194304 bytes"), "{flood}");

    let elsewhere = error_from(|_, stream| {
        let head = "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        drop(stream.write_all(head.as_bytes()));
    })
    .await;
    assert!(elsewhere.contains("not asked in the clear"), "{elsewhere}");

    // A log-in service in the clear on another host would see the password.
    let in_the_clear = error_from(|head, stream| {
        assert!(!head.to_lowercase().contains("authorization"), "a credential came unasked");
        let head = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://evil.example/token\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        drop(stream.write_all(head.as_bytes()));
    })
    .await;
    assert!(in_the_clear.contains("in the clear"), "{in_the_clear}");
}
