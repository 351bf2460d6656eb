//! The hostile agent as root of the guest: the container is out of the way, and the VM and the door stand alone.

use std::path::PathBuf;
use std::time::Duration;

use api::{
    AgentFiles, AgentRef, Attachment, Client, Data, Event, ExecRequest, NewSession, OutputStream,
    StartOptions, StopRequest,
};
use domain::{EndReason, SessionId};
use tokio::time::timeout;

use crate::aftermath::{Aftermath, Fought, Must, Sealed, judge};
use crate::attack::own_report;
use crate::report::{Layer, Outcome, Report};
use crate::stage::{Stage, io};
use crate::{Attacks, DemoError, table};

/// Where the container's workspace lies, seen from the guest's root.
const HOSTILE: &str = "/cell/workspace/lazaret-hostile";
/// Attacks after which the cell is not what it was: each in its own, at the end.
const LAST: &[(&str, Must)] = &[
    ("stream-flood", Must::BeCutOff(&["streams", "connections"])),
    ("channel-garbage", Must::BeCutOff(&["the channel to the guest failed", "the guest sent"])),
    ("channel-lie", Must::BeCutOff(&["the guest sent a frame"])),
    ("own-disk", Must::HarmItselfAlone),
    ("registers", Must::HarmItselfAlone),
    ("own-kernel", Must::HarmItselfAlone),
];
/// What Lazaret says of a program that never ran: then there was no attack, and nothing was stopped.
const NEVER_RAN: &str = "starting a process of the guest";
/// Longest time of all attacks in one cell.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How long a cell that should be cut off may go on after the attack. The door's own patience with silence is shorter.
const CUT_WITHIN: Duration = Duration::from_secs(240);
/// How long a cell may take to start and run one program, on an emulated and busy machine.
const ALIVE_WITHIN: Duration = Duration::from_secs(240);

/// Where the attacks are made from.
#[derive(Debug)]
pub struct Ground {
    /// A client of the daemon.
    pub client: Client,
    /// The hostile agent's program.
    pub hostile: Vec<u8>,
    /// The folder with the file systems of the images.
    pub images: PathBuf,
    /// A file of the host, which nobody in a cell may read.
    pub host_file: PathBuf,
    /// The model that the agent is granted, so that the door has something to defend.
    pub model: Option<&'static str>,
}

/// Plays it and shows the table.
pub(crate) async fn play(stage: &Stage) -> Result<Attacks, DemoError> {
    stage.voice.say("It stands outside the container, as root of the guest. It tries:")?;
    let host_file = stage.path("hostile-guest-root.secret");
    io("a file of the host", std::fs::write(&host_file, &stage.canary))?;
    let ground = Ground {
        client: stage.client(),
        host_file,
        hostile: stage.hostile()?,
        images: stage.images()?,
        model: Some("anthropic/claude-sonnet-4-5"),
    };
    let reports = guest_root(&ground, &[], |report| table::progress(stage.voice, report)).await?;
    table::show(stage.voice, &reports)?;
    Ok(Attacks { place: "guest-root", reports })
}

/// Makes every attack of guest root, or only these of those that need a cell of their own; gives each report to `seen`
/// once it is judged. Another cell runs all the while, and must not notice.
///
/// # Errors
/// As [`DemoError`] says, when an attack could not be made.
pub async fn guest_root(
    ground: &Ground,
    only: &[&str],
    mut seen: impl FnMut(&Report) -> Result<(), DemoError>,
) -> Result<Vec<Report>, DemoError> {
    let neighbour = Cell::start(ground, "neighbour", SLEEP).await?;
    let image = shared_image(ground).await?;
    let mut reports = Vec::new();
    if only.is_empty() {
        reports = harmless(ground, &mut seen).await?;
    }
    for (id, must) in LAST.iter().filter(|(id, _)| only.is_empty() || only.contains(id)) {
        let fought = alone(ground, id, *must).await?;
        let after = Aftermath {
            daemon: ground.client.status().await.map(drop).map_err(|e| e.to_string()),
            neighbour: neighbour.alive().await,
            image: image.look(),
        };
        let (outcome, evidence) = judge(*must, &fought, &after);
        let said = fought.said.unwrap_or_else(|| own_report(id, id, "", Ok(String::new())));
        let report = Report { outcome, evidence, ..said };
        seen(&report)?;
        reports.push(report);
    }
    neighbour.stop().await?;
    let after = own_report(
        "new-cell",
        "a new cell, after all",
        "starts another session and runs a program in it",
        starts_anew(ground).await,
    );
    seen(&after)?;
    reports.push(after);
    Ok(reports)
}

/// Everything after which the cell is still there.
async fn harmless(
    ground: &Ground,
    seen: &mut impl FnMut(&Report) -> Result<(), DemoError>,
) -> Result<Vec<Report>, DemoError> {
    let but: Vec<&str> = LAST.iter().map(|(id, _)| *id).collect();
    let mut cell = Cell::start(ground, "hostile", SLEEP).await?;
    let mut reports = Vec::new();
    let args =
        format!("--place guest-root --but {} --host-file {}", but.join(","), ground.host_file.display());
    let attack = cell.attack(&args, |report| {
        seen(&report)?;
        reports.push(report);
        Ok(())
    });
    let ended = timeout(PATIENCE, attack).await.map_err(|_elapsed| too_long())??;
    if ended.is_some() || reports.is_empty() {
        let end = cell.end(CUT_WITHIN).await.unwrap_or_else(|| "the attacker's process is gone".to_owned());
        let mut report = own_report("unfinished", "the rest of the list", "every attack", Err(end));
        (report.layer, report.outcome) = (Layer::Vm, Outcome::Failed);
        seen(&report)?;
        reports.push(report);
        return Ok(reports);
    }
    cell.stop().await?;
    Ok(reports)
}

/// One attack, in a cell of its own.
async fn alone(ground: &Ground, id: &str, must: Must) -> Result<Fought, DemoError> {
    let mut fought = Fought::default();
    let mut cell = Cell::start(ground, "hostile", SLEEP).await?;
    let args = format!("--place guest-root --only {id}");
    let attack = cell.attack(&args, |report| {
        fought.said = Some(report);
        Ok(())
    });
    let gone = timeout(PATIENCE, attack).await.map_err(|_elapsed| too_long())??.is_some();
    if gone || matches!(must, Must::BeCutOff(_)) {
        fought.end = cell.end(CUT_WITHIN).await;
    }
    if fought.end.is_none() {
        cell.stop().await?;
    }
    Ok(fought)
}

fn too_long() -> DemoError {
    DemoError::TooLong("an attack".to_owned())
}

/// Whether a session still starts, runs and ends as it should.
async fn starts_anew(ground: &Ground) -> Result<String, String> {
    let mut cell = Cell::start(ground, "newcomer", "\"true\"").await.map_err(|e| e.to_string())?;
    match cell.end(ALIVE_WITHIN).await {
        Some(end) if end == (EndReason::Finished { code: 0 }).to_string() => {
            Ok("it starts, runs its program and ends".to_owned())
        }
        Some(end) => Err(end),
        None => Err("it does not end".to_owned()),
    }
}

/// The file of the image that all these cells share.
async fn shared_image(ground: &Ground) -> Result<Sealed, DemoError> {
    let images = ground.client.images().await?;
    let base = images.into_iter().find(|image| image.name.to_string() == "base");
    let digest = base.map(|image| image.digest.rsplit(':').next().unwrap_or_default().to_owned());
    let digest = digest.ok_or_else(|| DemoError::Act("there is no image `base`".to_owned()))?;
    let files = io("the images", std::fs::read_dir(&ground.images))?;
    let path = files.flatten().map(|file| file.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with(&digest) && name.ends_with(".squashfs")
    });
    let path = path.ok_or_else(|| DemoError::Act("the file of the image `base` is not there".to_owned()))?;
    io("the image", Sealed::new(path))
}

/// The harness of an agent that does nothing, so that the cell is there.
const SLEEP: &str = "\"sleep\", \"86400\"";

/// A cell in which root of the guest may be had. Dropping it ends it.
struct Cell<'a> {
    ground: &'a Ground,
    id: SessionId,
    live: Attachment,
}

impl<'a> Cell<'a> {
    /// Starts it, with the attacker in its workspace.
    async fn start(ground: &'a Ground, name: &str, command: &str) -> Result<Self, DemoError> {
        let models = ground.model.map(|model| format!("models = [\"{model}\"]\n")).unwrap_or_default();
        let agent = format!(
            "name = \"{name}\"\nharness = {{ command = [{command}] }}\nimage = \"base\"\n{models}\
             [limits]\nmemory = \"384MiB\"\ndisk = \"128MiB\"\nwall_clock = \"3h\"\n"
        );
        let request = NewSession {
            agent: AgentRef::Files(AgentFiles { text: agent, cedar: None }),
            prompt: None,
            terminal: None,
            stdin: false,
            workspace: true,
            options: StartOptions { allow_emulation: true, cold: false, model: None, guest_root: true },
        };
        let client = &ground.client;
        let id = client.start(&request).await?.id;
        let mut live = client.attach(id, true).await?;
        client.put_workspace(id, archive(&ground.hostile)?).await?;
        while let Some(stamped) = live.events.next().await? {
            match stamped.event {
                Event::Started { .. } => return Ok(Self { ground, id, live }),
                Event::Ended { reason, .. } => return Err(DemoError::Act(format!("no cell: {reason}"))),
                Event::Progress { .. } | Event::Output { .. } | Event::Limit { .. } => {}
            }
        }
        Err(DemoError::Act("the connection to the cell ended before it started".to_owned()))
    }

    async fn exec(&self, argv: Vec<String>, guest_root: bool) -> Result<Attachment, DemoError> {
        Ok(self.ground.client.exec(self.id, &ExecRequest { argv, terminal: None, guest_root }).await?)
    }

    /// Runs the attacker as root of the guest and hands on its reports. Says how its process ended, unless by itself.
    async fn attack(
        &self,
        args: &str,
        mut seen: impl FnMut(Report) -> Result<(), DemoError>,
    ) -> Result<Option<String>, DemoError> {
        let argv = std::iter::once(HOSTILE).chain(args.split(' ')).map(str::to_owned).collect();
        let mut process = self.exec(argv, true).await?;
        let mut line = Vec::new();
        // An error here is the cell's end, and the process's with it.
        while let Ok(Some(stamped)) = process.events.next().await {
            match stamped.event {
                Event::Output { stream: OutputStream::Stdout, data: Data(bytes) } => {
                    for byte in bytes {
                        if byte != b'\n' {
                            line.push(byte);
                        } else if let Some(report) =
                            Report::read(&String::from_utf8_lossy(&std::mem::take(&mut line)))
                        {
                            seen(report)?;
                        }
                    }
                    line.truncate(Report::MAX_LINE);
                }
                Event::Ended { reason: EndReason::Finished { .. }, .. } => return Ok(None),
                Event::Ended { reason, .. } if reason.to_string().contains(NEVER_RAN) => {
                    return Err(DemoError::Act(format!("the attacker never ran: {reason}")));
                }
                Event::Ended { reason, .. } => return Ok(Some(reason.to_string())),
                Event::Output { .. }
                | Event::Progress { .. }
                | Event::Limit { .. }
                | Event::Started { .. } => {}
            }
        }
        Ok(Some("the connection to the cell ended".to_owned()))
    }

    /// Why the cell ends, if it does within this time.
    async fn end(&mut self, within: Duration) -> Option<String> {
        let end = async {
            while let Ok(Some(stamped)) = self.live.events.next().await {
                match stamped.event {
                    Event::Ended { reason, .. } => return Some(reason.to_string()),
                    Event::Started { .. }
                    | Event::Progress { .. }
                    | Event::Output { .. }
                    | Event::Limit { .. } => {}
                }
            }
            None
        };
        timeout(within, end).await.ok().flatten()
    }

    /// Whether a program still runs in the container.
    async fn alive(&self) -> Result<(), String> {
        let runs = async {
            let mut process = self.exec(vec!["true".to_owned()], false).await.map_err(|e| e.to_string())?;
            while let Some(stamped) = process.events.next().await.map_err(|e| e.to_string())? {
                match stamped.event {
                    Event::Ended { reason: EndReason::Finished { code: 0 }, .. } => return Ok(()),
                    Event::Ended { reason, .. } => return Err(reason.to_string()),
                    Event::Output { .. }
                    | Event::Progress { .. }
                    | Event::Limit { .. }
                    | Event::Started { .. } => {}
                }
            }
            Err("its connection ended".to_owned())
        };
        timeout(ALIVE_WITHIN, runs).await.unwrap_or_else(|_elapsed| Err("it doesn't answer".to_owned()))
    }

    async fn stop(self) -> Result<(), DemoError> {
        Ok(self.ground.client.stop(self.id, StopRequest { now: true }).await?)
    }
}

/// The workspace: just the attacker.
fn archive(program: &[u8]) -> Result<Vec<u8>, DemoError> {
    let mut header = tar::Header::new_gnu();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    io("an archive", tar.append_data(&mut header, "lazaret-hostile", program))?;
    io("an archive", tar.into_inner())
}
