//! What is outside: services of the kind that people have elsewhere, with their keys, and a collector to which nothing
//! may get. They are on this machine's loopback, at other addresses than the one that a cell takes for its own.

use std::fs;
use std::io::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::DemoError;
use crate::courier::{REPOSITORY, inbox};
use crate::git_host::{GitHost, HOST};
use crate::mail_host::MailHost;
use crate::scripted::FIXER_REPOSITORY;
use crate::stage::{io, random_key};

/// Where the collector listens, besides at another port of the services' own address.
const ELSEWHERE: &str = "127.0.0.3";

/// The services.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) git: GitHost,
    pub(crate) mail: MailHost,
    pub(crate) collector: Collector,
    /// The passwords of the git host and of the mailbox.
    pub(crate) keys: [String; 2],
}

/// Takes connections and counts them.
#[derive(Debug)]
pub(crate) struct Collector {
    /// A host that nobody named.
    pub(crate) host: String,
    /// The host that is named, at a port that isn't.
    pub(crate) port: String,
    connections: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Outside {
    /// Starts them, with repositories in this folder.
    pub(crate) async fn open(at: &Path) -> Result<Self, DemoError> {
        let keys = [random_key("git_pat_")?, random_key("mail_pat_")?];
        let [git_key, mail_key] = &keys;
        let root = at.join("repositories");
        io("the git host's folder", fs::create_dir_all(&root))?;
        let git = io("the git host", GitHost::start(&root, git_key).await)?;
        io("the git host's repository", git.make(&format!("{REPOSITORY}.git"), FIXER_REPOSITORY).await)?;
        let mail = io("the mail server", MailHost::start(mail_key, &inbox()).await)?;
        let collector = io("the collector", Collector::open().await)?;
        git.redirect("acme/moved.git", &format!("https://{}/{REPOSITORY}.git", collector.host));
        Ok(Self { git, mail, collector, keys })
    }

    /// What the owner of this host says of them in `config.toml`; the certificates are written here.
    pub(crate) fn network(&self, at: &Path) -> Result<String, DemoError> {
        let authorities = at.join("authorities.pem");
        let text = format!("{}{}", self.git.authority, self.mail.authority);
        io("the services' certificates", fs::write(&authorities, text))?;
        Ok(format!(
            "[network]\nprivate = [\"{HOST}:{}\"]\nown = [\"{HOST}\"]\nca = \"{}\"\n",
            self.git.port,
            authorities.display()
        ))
    }
}

impl Collector {
    async fn open() -> Result<Self, Error> {
        let connections = Arc::new(AtomicUsize::new(0));
        let mut serving = JoinSet::new();
        let mut at = Vec::new();
        for host in [ELSEWHERE, HOST] {
            let listener = TcpListener::bind((host, 0)).await?;
            at.push(listener.local_addr()?.to_string());
            let connections = Arc::clone(&connections);
            serving.spawn(async move {
                while let Ok((_stream, _address)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let port = at.pop().unwrap_or_default();
        let host = at.pop().unwrap_or_default();
        Ok(Self { host, port, connections, _serving: serving })
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;
    use tokio::time::{Duration, timeout};

    use super::*;

    #[tokio::test]
    async fn the_collector_counts_who_gets_there() {
        let collector = Collector::open().await.unwrap();
        assert_eq!(collector.connections(), 0);
        for (address, count) in [(&collector.host, 1), (&collector.port, 2)] {
            let _stream = TcpStream::connect(address).await.unwrap();
            let counted = async {
                while collector.connections() < count {
                    tokio::task::yield_now().await;
                }
            };
            timeout(Duration::from_secs(10), counted).await.unwrap();
        }
    }
}
