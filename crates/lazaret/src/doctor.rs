//! `lazaret doctor`: what stands between an agent and this host.

use api::CheckStatus;
use domain::Isolation;

use crate::background;
use crate::failure::{Outcome, note};
use crate::output::{print_json, print_table};

/// Examines the host; ends with 0 when cells run on working hardware virtualisation, else with 1.
pub(crate) async fn doctor(json: bool) -> Outcome {
    let report = background::client().await?.doctor().await?.finish(|message| note(message)).await?;
    let code = u8::from(report.isolation != Some(Isolation::Hardware));
    if json {
        print_json(&report)?;
        return Ok(code);
    }
    let isolation = report.isolation.map_or_else(|| "none".to_owned(), |isolation| isolation.to_string());
    let rows = report.checks.iter().map(|check| {
        let status = match check.status {
            CheckStatus::Good => "good",
            CheckStatus::Degraded => "degraded",
            CheckStatus::Bad => "bad",
        };
        let seen = match &check.advice {
            Some(advice) => format!("{} → {advice}", check.seen),
            None => check.seen.clone(),
        };
        [check.name.clone(), status.to_owned(), seen]
    });
    print_table(["ISOLATION", isolation.as_str(), ""], &rows.collect::<Vec<_>>())?;
    Ok(code)
}
