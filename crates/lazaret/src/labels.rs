//! `labels`: what disks and tool servers hold, and a person's word that one holds no more than that.

use api::LowerRequest;
use domain::Labels;

use crate::args::{LabelsCommand, LowerArgs};
use crate::background;
use crate::failure::{Outcome, note};
use crate::output::{print_json, print_table};

/// `lazaret labels`.
pub(crate) async fn labels(command: LabelsCommand) -> Outcome {
    let client = background::client().await?;
    match command {
        LabelsCommand::Ls { json, sessions } => {
            let mut all = client.labels().await?;
            all.retain(|view| sessions || !view.keeper.starts_with("session:"));
            if json {
                return print_json(&all);
            }
            let rows = all.iter().map(|view| {
                let Labels { confidentiality, compartments, integrity } = &view.labels;
                let teams: Vec<&str> = compartments.iter().map(domain::TeamName::as_str).collect();
                [view.keeper.clone(), confidentiality.to_string(), integrity.to_string(), teams.join(", ")]
            });
            print_table(["WHAT", "CONFIDENTIALITY", "WHOSE WORDS", "TEAMS"], &rows.collect::<Vec<_>>())
        }
        LabelsCommand::Lower(LowerArgs { what, confidentiality, integrity, teams, why }) => {
            let labels = Labels { confidentiality, compartments: teams.into_iter().collect(), integrity };
            let request = LowerRequest { keeper: what, labels, why };
            client.lower_labels(&request).await?;
            note(format!("{} holds {} now, by your word", request.keeper, request.labels));
            Ok(0)
        }
    }
}
