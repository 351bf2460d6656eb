//! The services between doors on one side and a scripted model and tool servers on the other, over real HTTP.

pub(crate) mod egress;
mod limits;
mod permits;
mod through_the_door;
mod tools;
mod upstream;
pub(crate) mod vault;

use std::sync::Arc;
use std::time::Duration;

use demo::scripted::{ScriptedModel, serve};
use dial::{Dialer, Network};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use wire::frame::{self, LARGE, SMALL};
use wire::host::{DoorOpens, ModelAnswer};
use wire::model::{Dialect, FailureKind, ModelFailure, ModelRequest};

use self::permits::Kept;
use crate::egress::{Authority, Leaves};
use crate::{Api, BaseUrl, Credential, ModelEvent, ModelService, ModelSession, Patience, Provider, Services};

/// The host's key: it must reach the provider, and nobody else.
const KEY: &str = "canary-key-of-the-host";

/// A provider, the service that asks it, and one session.
struct Rig {
    model: Arc<ScriptedModel>,
    /// The provider's address.
    base: String,
    kept: Kept,
    service: Arc<ModelService>,
    session: Arc<ModelSession>,
    events: mpsc::Receiver<ModelEvent>,
}

fn quick() -> Patience {
    Patience { first_wait: Duration::from_millis(1), ..Patience::default() }
}

/// As it is where nobody configured anything.
fn dialer() -> Dialer {
    Dialer::new(Network::default()).unwrap()
}

fn provider(base: &str, credential: Credential) -> Provider {
    Provider {
        name: "scripted".into(),
        base: BaseUrl::parse(base, false).unwrap(),
        apis: vec![Api::Anthropic, Api::Responses, Api::Chat],
        credential,
    }
}

/// Certificates of an authority that nobody trusts.
fn leaves() -> Leaves {
    let folder = tempfile::tempdir().unwrap();
    Leaves::new(Arc::new(Authority::open(&folder.path().join("authority.key")).unwrap()))
}

impl Rig {
    async fn new(tokens: u64) -> Self {
        Self::with(tokens, Credential::ApiKey(KEY.into()), quick()).await
    }

    async fn with(tokens: u64, credential: Credential, patience: Patience) -> Self {
        Self::kept_by(Kept::open(1_000_000_000).await, tokens, credential, patience).await
    }

    async fn kept_by(kept: Kept, tokens: u64, credential: Credential, patience: Patience) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let model = Arc::new(ScriptedModel::new(KEY));
        tokio::spawn(serve(listener, Arc::clone(&model)));
        let service = ModelService::new(vec![provider(&base, credential)], patience, &dialer()).unwrap();
        let (tell, events) = mpsc::channel(64);
        let models = vec!["scripted/reviewer".parse().unwrap(), "elsewhere/reviewer2".parse().unwrap()];
        let session = Arc::new(ModelSession::new(models, tokens, Arc::clone(&kept.gate), tell));
        Self { model, base, kept, service: Arc::new(service), session, events }
    }

    /// A door's stream that asks this, and is being served.
    async fn open(&self, question: &DoorOpens) -> DuplexStream {
        let (mut near, far) = duplex(64 * 1024);
        let (service, session) = (Arc::clone(&self.service), Arc::clone(&self.session));
        tokio::spawn(async move {
            let tools = session.gate.as_ref();
            let services = Services {
                models: &service,
                session: &session,
                tools,
                egress: &crate::egress::Closed,
                leaves: &leaves(),
            };
            drop(services.serve(far).await);
        });
        frame::write(&mut near, question, LARGE).await.unwrap();
        near
    }

    /// All answers to a request.
    async fn ask(&self, request: ModelRequest) -> Vec<ModelAnswer> {
        let mut stream = self.open(&DoorOpens::Model(request)).await;
        let mut answers = Vec::new();
        while let Some(answer) = frame::read(&mut stream, SMALL).await.unwrap() {
            answers.push(answer);
        }
        stream.shutdown().await.unwrap();
        answers
    }

    async fn failure(&self, request: ModelRequest) -> ModelFailure {
        match self.ask(request).await.as_slice() {
            [ModelAnswer::Failed(failure)] => failure.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Events up to the end of a call, or to a refusal.
    async fn events(&mut self) -> Vec<ModelEvent> {
        let mut events = Vec::new();
        loop {
            let event = self.events.recv().await.unwrap();
            let last = matches!(event, ModelEvent::Finished { .. } | ModelEvent::Refused(_));
            events.push(event);
            if last {
                return events;
            }
        }
    }
}

fn request(dialect: Dialect, body: &str) -> ModelRequest {
    ModelRequest { dialect, body: body.into(), headers: Vec::new() }
}

const ANTHROPIC: &str = r#"{"model":"reviewer","max_tokens":1000,"messages":[{"role":"user","content":"Review."}],"stream":true}"#;
const RESPONSES: &str = r#"{"model":"scripted/reviewer","input":"Review.","stream":true}"#;
const CHAT: &str = r#"{"model":"reviewer","messages":[{"role":"user","content":"Review."}],"stream":true}"#;
const CHAT_WHOLE: &str =
    r#"{"model":"reviewer","messages":[{"role":"user","content":"Review."}],"max_tokens":50}"#;

fn anthropic() -> ModelRequest {
    request(Dialect::AnthropicMessages, ANTHROPIC)
}

/// The body of an answer that came whole.
fn body(answers: &[ModelAnswer]) -> String {
    assert!(matches!(answers.first(), Some(ModelAnswer::Head { .. })), "{answers:?}");
    assert_eq!(answers.last(), Some(&ModelAnswer::End));
    let bytes = answers.iter().filter_map(|answer| match answer {
        ModelAnswer::Body(bytes) => Some(bytes.as_slice()),
        ModelAnswer::Head { .. } | ModelAnswer::End | ModelAnswer::Failed(_) => None,
    });
    String::from_utf8(bytes.collect::<Vec<_>>().concat()).unwrap()
}

fn status(answers: &[ModelAnswer]) -> u16 {
    match answers.first() {
        Some(ModelAnswer::Head { status, .. }) => *status,
        other => panic!("{other:?}"),
    }
}

/// What the last of these events says was counted, and whether the provider had declared it.
fn counted(events: &[ModelEvent]) -> (u64, bool) {
    match events.last() {
        Some(ModelEvent::Finished { counted, usage, .. }) => (*counted, usage.is_some()),
        other => panic!("{other:?}"),
    }
}

/// Bytes that no other test has: entries and acts are named by them.
pub(crate) fn random(bytes: &mut [u8]) -> std::io::Result<()> {
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, bytes)
}
