//! The hostile agent as root of the guest: the container is out of the way, and the VM and the door stand alone.

use std::time::Duration;

use api::{
    AgentRef, Attachment, Client, Data, Event, ExecRequest, NewSession, OutputStream, StartOptions,
    StopRequest,
};
use domain::{EndReason, SessionId};
use tokio::time::timeout;

use crate::attack::own_report;
use crate::report::{Outcome, Report};
use crate::stage::{Stage, io};
use crate::{Attacks, DemoError, table};

/// An agent that does nothing, so that the cell is there.
const SLEEPER: &str = "name = \"sleeper\"\nharness = { command = [\"sleep\", \"86400\"] }\n";
/// Where the container's workspace lies, seen from the guest's root.
const HOSTILE: &str = "/cell/workspace/lazaret-hostile";
/// Attacks after which the cell is not what it was: each in its own, at the end.
const LAST: &[&str] = &["stream-flood", "channel-garbage"];
/// What Lazaret says of a program that never ran: then there was no attack, and nothing was stopped.
const NEVER_RAN: &str = "starting a process of the guest";
/// Longest time of all attacks together.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Plays it and shows the table.
pub(crate) async fn play(stage: &Stage) -> Result<Attacks, DemoError> {
    stage.voice.say("It stands outside the container, as root of the guest. It tries:")?;
    let mut reports = attack(stage, "--place guest-root --but stream-flood,channel-garbage").await?.0;
    if reports.is_empty() {
        return Err(DemoError::Act("the attacker reported nothing".to_owned()));
    }
    for last in LAST {
        let (mut more, end) = attack(stage, &format!("--place guest-root --only {last}")).await?;
        // Whether the guest lives on or was cut off: the host must not care.
        let host = stage.client().status().await;
        for report in more.iter_mut().filter(|r| r.outcome == Outcome::Left) {
            let cell = end.clone().unwrap_or_else(|| "the cell goes on".to_owned());
            (report.outcome, report.evidence) = match &host {
                Ok(_status) => (Outcome::Blocked, format!("{}: {cell}; the daemon answers", report.evidence)),
                Err(e) => {
                    (Outcome::Breached, format!("{}: the daemon no longer answers: {e}", report.evidence))
                }
            };
        }
        if more.is_empty() {
            let cell = end.unwrap_or_else(|| "no report".to_owned());
            let seen = host.map(|_| format!("{cell}; the daemon answers")).map_err(|e| e.to_string());
            more.push(own_report(last, last, "see `lazaret-hostile --place guest-root --list`", seen));
        }
        reports.append(&mut more);
    }
    table::show(stage.voice, &reports)?;
    Ok(Attacks { place: "guest-root", reports })
}

/// Starts a cell, attacks in it, and gives the reports, and why the cell ended if it did.
async fn attack(stage: &Stage, args: &str) -> Result<(Vec<Report>, Option<String>), DemoError> {
    let client = stage.client();
    let request = NewSession {
        agent: AgentRef::File(SLEEPER.to_owned()),
        prompt: None,
        terminal: None,
        stdin: false,
        workspace: true,
        options: StartOptions { allow_emulation: true, cold: false, model: None, guest_root: true },
    };
    let session = client.start(&request).await?.id;
    let mut cell = client.attach(session, true).await?;
    client.put_workspace(session, archive(stage)?).await?;
    let outcome = timeout(PATIENCE, in_cell(stage, &client, session, &mut cell, args)).await;
    let stopped = client.stop(session, StopRequest { now: true }).await;
    let (reports, end) = outcome.map_err(|_elapsed| DemoError::TooLong("an attack".to_owned()))??;
    if end.is_none() {
        stopped?;
    }
    Ok((reports, end))
}

async fn in_cell(
    stage: &Stage,
    client: &Client,
    session: SessionId,
    cell: &mut Attachment,
    args: &str,
) -> Result<(Vec<Report>, Option<String>), DemoError> {
    while let Some(stamped) = cell.events.next().await? {
        match stamped.event {
            Event::Started { .. } => break,
            Event::Ended { reason, .. } => return Err(DemoError::Act(format!("no cell: {reason}"))),
            Event::Progress { .. } | Event::Output { .. } | Event::Limit { .. } => {}
        }
    }
    let argv = std::iter::once(HOSTILE).chain(args.split(' ')).map(str::to_owned).collect();
    let mut process = client.exec(session, &ExecRequest { argv, terminal: None, guest_root: true }).await?;
    let mut reports = Vec::new();
    let mut line = Vec::new();
    loop {
        let stamped = match process.events.next().await {
            Ok(Some(stamped)) => stamped,
            // The cell is gone, and the process with it.
            Ok(None) | Err(_) => break,
        };
        match stamped.event {
            Event::Output { stream: OutputStream::Stdout, data: Data(bytes) } => {
                for byte in bytes {
                    if byte != b'\n' {
                        line.push(byte);
                    } else if let Some(report) =
                        Report::read(&String::from_utf8_lossy(&std::mem::take(&mut line)))
                    {
                        table::progress(stage.voice, &report)?;
                        reports.push(report);
                    }
                }
                line.truncate(Report::MAX_LINE);
            }
            Event::Ended { reason, .. } => {
                if reason.to_string().contains(NEVER_RAN) {
                    return Err(DemoError::Act(format!("the attacker never ran: {reason}")));
                }
                let failed = matches!(reason, EndReason::CellFailed { .. });
                return Ok((reports, failed.then(|| reason.to_string())));
            }
            Event::Output { .. } | Event::Progress { .. } | Event::Limit { .. } | Event::Started { .. } => {}
        }
    }
    let end = client.session(session).await?.ended.map(|reason| reason.to_string());
    Ok((reports, Some(end.unwrap_or_else(|| "the connection to the cell ended".to_owned()))))
}

/// The workspace: just the attacker.
fn archive(stage: &Stage) -> Result<Vec<u8>, DemoError> {
    let program = stage.hostile()?;
    let mut header = tar::Header::new_gnu();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    io("an archive", tar.append_data(&mut header, "lazaret-hostile", program.as_slice()))?;
    io("an archive", tar.into_inner())
}
