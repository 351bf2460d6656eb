//! A session's way out without its cell: the real door, gate, policy, store and dialer, with a listener on loopback in place
//! of the guest's relay.

use std::net::SocketAddr;
use std::sync::Arc;

use dial::{Dialer, Network, Resolve, System};
use domain::AgentFile;
use gateway::egress::{Authority, Bounds, EgressGate, Leaves, Outside, SessionEgress};
use gateway::tools::{Servers, SessionGate};
use policy::{AgentPolicy, Seen, Sources};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use wire::guest::GuestOpens;
use wire::host::DoorOpens;
use wire::mux::Stream;

use crate::cell_less::{at, door, fresh_store, now, random, session};

/// A session that may send requests. Dropping it ends it.
pub struct WayOut {
    /// Its proxy, as on the guest's loopback.
    pub proxy: SocketAddr,
    /// Who vouches for the servers' certificates that programs are shown, as PEM.
    pub authority: String,
    _tasks: JoinSet<()>,
    _policy: watch::Sender<Arc<AgentPolicy>>,
    _folder: tempfile::TempDir,
}

impl WayOut {
    /// For the agent of this file, by this network.
    ///
    /// # Panics
    /// When anything of it fails: it is for tests.
    pub async fn open(agent: &str, network: Network) -> Self {
        Self::resolving(agent, network, System).await
    }

    /// The same where names are known to another resolver.
    ///
    /// # Panics
    /// When anything of it fails: it is for tests.
    pub async fn resolving(agent: &str, network: Network, resolve: impl Resolve + 'static) -> Self {
        let (folder, store) = fresh_store().await;
        let file = AgentFile::parse(agent).expect("the agent's file");
        let from = Sources {
            agent: &file,
            file: "agent.toml",
            own: None,
            organisation: &[],
            tools: &[],
            models: &[],
        };
        let policy = AgentPolicy::compile(&from).expect("a policy");
        let (told, policy) = watch::channel(Arc::new(policy));
        let servers = Servers::new(store, Arc::new(random), now, at("http://127.0.0.1:9"));
        let (tell, _) = mpsc::channel(8);
        let session = session(&file, None);
        let gate = SessionGate::open(Arc::new(servers), session, policy, Seen::new([0; 32]), tell).await;
        let dialer = Dialer::resolving(network, resolve).expect("a dialer");
        let outside = Outside { dialer, own: Arc::from([]), lender: None, bounds: Bounds::default() };
        let egress = Arc::new(SessionEgress::new(Arc::new(gate.expect("a gate")), outside));
        let authority = Authority::open(&folder.path().join("authority.key")).expect("an authority");
        let authority = Arc::new(authority);
        let (pem, leaves) = (authority.pem().to_owned(), Arc::new(Leaves::new(authority)));
        let answer =
            move |stream| answer(stream, Arc::clone(&egress) as Arc<dyn EgressGate>, Arc::clone(&leaves));
        let mut tasks = JoinSet::new();
        let proxy = door(GuestOpens::Egress, answer, &mut tasks).await;
        Self { proxy, authority: pem, _tasks: tasks, _policy: told, _folder: folder }
    }
}

/// Answers a door's stream. Whoever reads at its other end sees what went wrong.
async fn answer(mut stream: Stream, egress: Arc<dyn EgressGate>, leaves: Arc<Leaves>) {
    match DoorOpens::read(&mut stream).await {
        Ok(Some(DoorOpens::Egress(request))) => {
            drop(gateway::egress::serve(request, stream, egress.as_ref()).await);
        }
        Ok(Some(DoorOpens::Leaf { host })) => drop(leaves.serve(&host, stream).await),
        Ok(Some(DoorOpens::Model(_) | DoorOpens::Models | DoorOpens::Tools(_)) | None) | Err(_) => {}
    }
}
