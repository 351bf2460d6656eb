//! `person` and `group`: who is who here, and who answers questions together.

use api::PersonView;

use crate::args::{GroupCommand, PersonCommand};
use crate::background;
use crate::failure::{Outcome, note};
use crate::output::{print_json, print_table};

/// `lazaret person`.
pub(crate) async fn person(command: PersonCommand) -> Outcome {
    let client = background::client().await?;
    match command {
        PersonCommand::Ls { json } => {
            let people = client.people().await?;
            if json {
                return print_json(&people);
            }
            let rows = people.iter().map(|person| {
                let uid = person.uid.map_or_else(|| "-".to_owned(), |uid| uid.to_string());
                [person.name.to_string(), person.role.to_string(), uid]
            });
            print_table(["PERSON", "ROLE", "OS USER"], &rows.collect::<Vec<_>>())
        }
        PersonCommand::Add { name, role, uid } => {
            client.put_person(&PersonView { name: name.clone(), uid, role }).await?;
            note(format!("{name} is {role}"));
            Ok(0)
        }
        PersonCommand::Rm { name } => {
            client.remove_person(&name).await?;
            note(format!("{name} is removed"));
            Ok(0)
        }
    }
}

/// `lazaret group`.
pub(crate) async fn group(command: GroupCommand) -> Outcome {
    let client = background::client().await?;
    match command {
        GroupCommand::Ls { json } => {
            let groups = client.groups().await?;
            if json {
                return print_json(&groups);
            }
            let rows = groups.iter().map(|group| {
                let people: Vec<&str> = group.people.iter().map(domain::PersonName::as_str).collect();
                [group.name.to_string(), people.join(", ")]
            });
            print_table(["GROUP", "PEOPLE"], &rows.collect::<Vec<_>>())
        }
        GroupCommand::Add { group, people } => {
            for person in &people {
                client.join_group(&group, person).await?;
                note(format!("{person} is in {group}"));
            }
            Ok(0)
        }
        GroupCommand::Rm { group, people } => {
            for person in &people {
                client.leave_group(&group, person).await?;
                note(format!("{person} is no longer in {group}"));
            }
            Ok(0)
        }
    }
}
