//! Connections to tool servers: one for each team and server, kept while it is used, and none holds up another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::{SecretName, ServerName, TeamName};
use futures::future::BoxFuture;
use store::{Event, Filter, Place, Store};
use wire::tools::ToolFailure;

use super::everything::Everything;
use crate::tools::upstream::{Upstream, UpstreamLimits};
use crate::tools::{Connector, Servers};

/// Connects to everything but `never`, which never starts.
struct Counting {
    server: Everything,
    connected: Arc<AtomicUsize>,
    idle: Duration,
}

impl Connector for Counting {
    fn connect<'s>(
        &'s self,
        _team: &'s TeamName,
        server: &'s ServerName,
    ) -> BoxFuture<'s, Result<Upstream, ToolFailure>> {
        Box::pin(async {
            if server.as_str() == "never" {
                std::future::pending::<()>().await;
            }
            self.connected.fetch_add(1, Ordering::SeqCst);
            Upstream::over_stream(self.server.over_stream(), UpstreamLimits::default()).await
        })
    }

    fn greets_with(&self, server: &ServerName) -> Option<(SecretName, String)> {
        (server.as_str() == "crm").then(|| ("key".parse().unwrap(), "https://crm.example/mcp".to_owned()))
    }

    fn idle(&self, _server: &ServerName) -> Duration {
        self.idle
    }
}

async fn servers(idle: Duration) -> (Servers, Arc<AtomicUsize>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::File(folder.path().join("store/store.db"));
    let store = Store::open(&place, &folder.path().join("store/store.key"), Arc::new(crate::tests::random))
        .await
        .unwrap();
    let connected = Arc::new(AtomicUsize::new(0));
    let counting = Counting { server: Everything::default(), connected: Arc::clone(&connected), idle };
    (Servers::new(store, Arc::new(crate::tests::random), || 0, Arc::new(counting)), connected, folder)
}

#[tokio::test]
async fn a_connection_is_kept_until_nobody_uses_it() {
    let team: TeamName = "sales".parse().unwrap();
    let other: TeamName = "support".parse().unwrap();
    let server: ServerName = "all".parse().unwrap();
    for (idle, connections) in [(Duration::from_secs(3600), 2), (Duration::ZERO, 4)] {
        let (servers, connected, _folder) = servers(idle).await;
        for _ in 0..2 {
            let catalogue = servers.catalogue(&team, &server).await.unwrap();
            assert!(catalogue.tools.iter().any(|tool| tool.name.as_str() == "echo" && !tool.classified));
            assert!(catalogue.withheld.iter().any(|withheld| withheld.name == "twice"));
            servers.catalogue(&other, &server).await.unwrap();
            servers.rest();
        }
        assert_eq!(connected.load(Ordering::SeqCst), connections);
        servers.forget(&server);
        servers.catalogue(&team, &server).await.unwrap();
        assert_eq!(connected.load(Ordering::SeqCst), connections + 1);
    }
}

#[tokio::test]
async fn a_server_that_does_not_start_holds_up_no_other() {
    let team: TeamName = "sales".parse().unwrap();
    let (servers, _, _folder) = servers(Duration::ZERO).await;
    let never: ServerName = "never".parse().unwrap();
    let good: ServerName = "all".parse().unwrap();
    tokio::select! {
        biased;
        _ = servers.catalogue(&team, &never) => panic!("it never starts"),
        listed = servers.catalogue(&team, &good) => assert!(listed.is_ok()),
    }
    servers.rest();
}

#[tokio::test]
async fn a_connection_that_shows_a_secret_is_on_the_ledger_and_there_are_so_many_in_an_hour() {
    let team: TeamName = "sales".parse().unwrap();
    let (servers, connected, _folder) = servers(Duration::ZERO).await;
    let used = async || {
        let entries = servers.store().tail(1_000, &Filter::default()).await.unwrap();
        let here = "https://crm.example/mcp";
        let used = |event: &Event| matches!(event, Event::SecretUsed { secret, to } if secret.as_str() == "key" && to == here);
        entries.iter().filter(|entry| used(&entry.event) && entry.about.team.as_ref() == Some(&team)).count()
    };
    let (with, without): (ServerName, ServerName) = ("crm".parse().unwrap(), "all".parse().unwrap());
    servers.catalogue(&team, &without).await.unwrap();
    servers.catalogue(&team, &with).await.unwrap();
    servers.catalogue(&team, &with).await.unwrap();
    assert_eq!(used().await, 1, "it is one connection");
    let mut told = None;
    for _ in 0..200 {
        servers.rest();
        told = told.or(servers.catalogue(&team, &with).await.err());
    }
    let told = told.unwrap().message;
    assert_eq!(told, "team sales was connected to tool server crm too often within this hour");
    // The one without a secret was connected to, too.
    let connections = connected.load(Ordering::SeqCst) - 1;
    assert!(used().await == connections && connections == 100, "{connections}");
    // Whoever changes the server's entry begins anew.
    servers.forget(&with);
    servers.catalogue(&team, &with).await.unwrap();
}
