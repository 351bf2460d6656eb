//! A scripted model's streamed answer, from inside a cell through door and gateway, against the same client on the host,
//! connected to the provider itself.

use std::sync::Arc;
use std::time::Duration;

use cell::StartMode;
use demo::scripted::{Action, Fault, Script, ScriptedModel, serve};
use gateway::{Api, BaseUrl, Credential, ModelService, Patience, Provider};
use testkit::cell_less::dialer;
use testkit::models::Models;
use tokio::net::TcpListener;
use tokio::process::Command;
use wire::mux::Incoming;

use crate::Result;
use crate::cells::{ENDPOINT, Ground, ReadyCell};
use crate::inside::Took;
use crate::report::{Number, median};

/// What the provider wants as its key, which is no secret.
pub const KEY: &str = "benchmark";

const ROUNDS: usize = 5;
/// Events of an answer that carry a word.
const WORDS: usize = 400;
/// The pause before each event of an answer at a model's pace.
const PACE: Duration = Duration::from_millis(5);
/// Bytes of text of a large answer.
const LARGE: usize = 16 << 20;
const MODEL: &str = "words";

/// The provider, with its address.
pub struct Scripted {
    model: Arc<ScriptedModel>,
    address: String,
}

impl Scripted {
    /// Serves one on loopback.
    pub async fn serve() -> Result<Self> {
        let script = Script::new(MODEL).then(Action::Say { text: "word ".repeat(WORDS) });
        let model = Arc::new(ScriptedModel::new(KEY).with_script(script));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        tokio::spawn(serve(listener, Arc::clone(&model)));
        Ok(Self { model, address })
    }

    /// Answers what a cell's door asks, as the daemon does.
    pub async fn answer(&self, mut asked: Incoming) -> Result<()> {
        let provider = Provider {
            name: "scripted".to_owned(),
            base: BaseUrl::parse(&format!("http://{}", self.address), false)?,
            apis: vec![Api::Anthropic],
            credential: Credential::ApiKey(KEY.to_owned().into()),
        };
        let service = ModelService::new(vec![provider], Patience::default(), &dialer())?;
        let models = vec![format!("scripted/{MODEL}").parse()?];
        let (models, mut told) = Models::new(service, models, u64::MAX / 2).await;
        let models = Arc::new(models);
        tokio::spawn(async move { while told.recv().await.is_some() {} });
        tokio::spawn(async move {
            while let Some(stream) = asked.next().await {
                let models = Arc::clone(&models);
                tokio::spawn(async move {
                    if let Err(error) = models.serve(stream).await {
                        eprintln!("bench: a model call was not served: {error}");
                    }
                });
            }
        });
        Ok(())
    }
}

/// Asks from inside the cell, with a body of at least so many bytes.
pub async fn ask_inside(cell: &ReadyCell, body: usize) -> Result<Took> {
    let client = cell.client(&["post", ENDPOINT, "/v1/messages", MODEL, &body.to_string()]).await?;
    one(&client.printed().await?)
}

async fn ask_directly(provider: &Scripted) -> Result<Took> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["inside", "post", &provider.address, "/v1/messages", MODEL, "0"]);
    let done = command.output().await?;
    match one(&String::from_utf8(done.stdout)?) {
        Err(_) => Err(String::from_utf8_lossy(&done.stderr).into()),
        took => took,
    }
}

fn one(printed: &str) -> Result<Took> {
    let took = Took::parse(printed)?;
    took.first().copied().ok_or_else(|| "the client said nothing".into())
}

/// What one kind of answer took, through the door and directly.
#[derive(Default)]
struct Pairs {
    ours: Vec<Took>,
    direct: Vec<Took>,
}

impl Pairs {
    async fn measure(&mut self, cell: &ReadyCell, provider: &Scripted, kind: Option<Fault>) -> Result<()> {
        let prepare = || kind.into_iter().for_each(|kind| provider.model.fail_next(kind));
        prepare();
        self.ours.push(ask_inside(cell, 0).await?);
        prepare();
        self.direct.push(ask_directly(provider).await?);
        Ok(())
    }

    fn medians(&self, of: impl Fn(&Took) -> f64) -> (f64, f64) {
        let middle = |all: &[Took]| median(all.iter().map(&of).collect());
        (middle(&self.ours), middle(&self.direct))
    }
}

pub async fn run(ground: &mut Ground) -> Result<Vec<Number>> {
    ground.ready().await?;
    let mut cell = ground.cell(StartMode::Clone).await?;
    let provider = Scripted::serve().await?;
    provider.answer(cell.asked()?).await?;
    let (mut fast, mut paced, mut large) = (Pairs::default(), Pairs::default(), Pairs::default());
    for round in 1..=ROUNDS {
        eprintln!("bench: answers {round}/{ROUNDS}");
        fast.measure(&cell, &provider, None).await?;
        paced.measure(&cell, &provider, Some(Fault::Slow(PACE))).await?;
        large.measure(&cell, &provider, Some(Fault::Huge(LARGE))).await?;
    }
    cell.stop().await;
    let number = |name: String, unit, (ours, direct)| Number::against(name, unit, ours, "direct", direct);
    let whole = fast.medians(|took| took.whole / 1e3);
    let each = (whole.0 - whole.1) * 1e3 / WORDS as f64;
    let (words, pace) = (WORDS, PACE.as_millis());
    Ok(vec![
        number("first byte of an answer".into(), "ms", fast.medians(|took| took.first / 1e3)),
        number(
            format!("{words} words, each {pace} ms after the last"),
            "ms",
            paced.medians(|t| t.whole / 1e3),
        ),
        number(format!("{words} words at once"), "ms", whole),
        Number::alone("added to each of these words", "µs", each),
        number("large answer".into(), "MB/s", large.medians(|took| took.bytes / (took.whole - took.first))),
    ])
}
