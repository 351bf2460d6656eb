//! People: who they are to the operating system, what they may do, which groups and teams they are in.

use std::collections::BTreeSet;

use domain::{GroupName, PersonName, Role, TeamName};

use crate::error::damaged;
use crate::ledger::Change;
use crate::statement::{Row, Statement};
use crate::{About, Event, Store, StoreError};

/// A person of this installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Their name here.
    pub name: PersonName,
    /// The user of the operating system that they are; none for somebody who comes by another way.
    pub uid: Option<u32>,
    /// What they may do.
    pub role: Role,
}

/// Why people stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// Nobody could change anything any more.
    #[error("{0} is the only owner: make somebody else owner first")]
    LastOwner(PersonName),
    /// One OS user, one person.
    #[error("the OS user {uid} is {person} already")]
    UidTaken {
        /// The user.
        uid: u32,
        /// Who has it.
        person: PersonName,
    },
    /// There are people: an owner adds more.
    #[error("this installation has an owner already: they can add people")]
    NotFirst,
    /// Nobody of that name.
    #[error("there is nobody called {0} here")]
    Unknown(PersonName),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn read(row: &Row) -> Result<Person, StoreError> {
    let what = "a person";
    let uid = row.optional_number("uid")?;
    Ok(Person {
        name: row.text("name")?.parse().map_err(damaged(what))?,
        uid: uid.map(u32::try_from).transpose().map_err(damaged(what))?,
        role: row.text("role")?.parse().map_err(damaged(what))?,
    })
}

impl Change<'_> {
    /// The person's role, if they are known.
    pub(crate) async fn role(&mut self, name: &PersonName) -> Result<Option<Role>, StoreError> {
        let query = Statement::new("SELECT * FROM people WHERE name = $1").text(name.to_string());
        let row = self.find_one(query).await?;
        Ok(row.map(|row| read(&row)).transpose()?.map(|person| person.role))
    }

    async fn owners(&mut self) -> Result<Vec<Person>, StoreError> {
        let rows = self.find(Statement::new("SELECT * FROM people WHERE role = 'owner'")).await?;
        rows.iter().map(read).collect()
    }

    /// Refuses what would leave nobody as owner.
    async fn keep_an_owner(&mut self, leaving: &PersonName) -> Result<(), PeopleError> {
        let owners = self.owners().await?;
        match owners.as_slice() {
            [only] if only.name == *leaving => Err(PeopleError::LastOwner(leaving.clone())),
            _ => Ok(()),
        }
    }

    async fn put(&mut self, person: &Person, by: Option<&PersonName>) -> Result<(), PeopleError> {
        let uid = person.uid.map(i64::from);
        let query = Statement::new("SELECT * FROM people WHERE uid = $1 AND name <> $2");
        let taken = self.find_one(query.number(uid).text(person.name.to_string())).await?;
        if let (Some(row), Some(uid)) = (taken, person.uid) {
            return Err(PeopleError::UidTaken { uid, person: read(&row)?.name });
        }
        let keep = Statement::new(
            "INSERT INTO people (name, uid, role) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET uid = excluded.uid, role = excluded.role",
        );
        self.later(keep.text(person.name.to_string()).number(uid).text(person.role.as_str().to_owned()));
        let event = Event::PersonChanged {
            person: person.name.clone(),
            role: person.role,
            uid: person.uid,
            by: by.cloned(),
        };
        self.record(&About::default(), &event, None)?;
        Ok(())
    }
}

impl Store {
    /// Makes the OS user who installed this the owner.
    ///
    /// # Errors
    /// There are people already.
    pub async fn install_owner(&self, name: &PersonName, uid: u32, now: u64) -> Result<(), PeopleError> {
        let mut change = Change::begin(self, now).await?;
        if change.find_one(Statement::new("SELECT name FROM people LIMIT 1")).await?.is_some() {
            return Err(PeopleError::NotFirst);
        }
        change.put(&Person { name: name.clone(), uid: Some(uid), role: Role::Owner }, None).await?;
        Ok(change.commit().await?)
    }

    /// Adds a person or changes them.
    ///
    /// # Errors
    /// It would leave nobody as owner, or the OS user is somebody else.
    pub async fn put_person(&self, person: &Person, by: &PersonName, now: u64) -> Result<(), PeopleError> {
        let mut change = Change::begin(self, now).await?;
        if person.role != Role::Owner {
            change.keep_an_owner(&person.name).await?;
        }
        change.put(person, Some(by)).await?;
        Ok(change.commit().await?)
    }

    /// Removes a person from everything. Questions that name them can't be answered by them any more.
    ///
    /// # Errors
    /// They are the only owner, or nobody here.
    pub async fn remove_person(
        &self,
        name: &PersonName,
        by: &PersonName,
        now: u64,
    ) -> Result<(), PeopleError> {
        let mut change = Change::begin(self, now).await?;
        change.keep_an_owner(name).await?;
        let remove = Statement::new("DELETE FROM people WHERE name = $1").text(name.to_string());
        if change.changed(remove).await? == 0 {
            return Err(PeopleError::Unknown(name.clone()));
        }
        for query in
            ["DELETE FROM group_members WHERE person = $1", "DELETE FROM team_members WHERE person = $1"]
        {
            change.later(Statement::new(query).text(name.to_string()));
        }
        let event = Event::PersonRemoved { person: name.clone(), by: by.clone() };
        change.record(&About::default(), &event, None)?;
        Ok(change.commit().await?)
    }

    /// Everybody, by name.
    ///
    /// # Errors
    /// The store failed.
    pub async fn people(&self) -> Result<Vec<Person>, StoreError> {
        let rows = self.backend.find(Statement::new("SELECT * FROM people ORDER BY name")).await?;
        rows.iter().map(read).collect()
    }

    /// Who this OS user is.
    ///
    /// # Errors
    /// The store failed.
    pub async fn person_of_uid(&self, uid: u32) -> Result<Option<Person>, StoreError> {
        let query = Statement::new("SELECT * FROM people WHERE uid = $1").number(i64::from(uid));
        let row = self.backend.find_one(query).await?;
        row.map(|row| read(&row)).transpose()
    }

    /// Takes a person into a group, or out of it.
    ///
    /// # Errors
    /// There is nobody of that name.
    pub async fn set_in_group(
        &self,
        group: &GroupName,
        person: &PersonName,
        member: bool,
        by: &PersonName,
        now: u64,
    ) -> Result<(), PeopleError> {
        let event =
            Event::GroupChanged { group: group.clone(), person: person.clone(), member, by: by.clone() };
        let query = if member {
            "INSERT INTO group_members (group_name, person) VALUES ($1, $2) ON CONFLICT DO NOTHING"
        } else {
            "DELETE FROM group_members WHERE group_name = $1 AND person = $2"
        };
        self.set_member(query, group.as_str(), person, &event, now).await
    }

    /// Takes a person into a team, or out of it.
    ///
    /// # Errors
    /// There is nobody of that name.
    pub async fn set_in_team(
        &self,
        team: &TeamName,
        person: &PersonName,
        member: bool,
        by: &PersonName,
        now: u64,
    ) -> Result<(), PeopleError> {
        let event = Event::TeamChanged { team: team.clone(), person: person.clone(), member, by: by.clone() };
        let query = if member {
            "INSERT INTO team_members (team, person) VALUES ($1, $2) ON CONFLICT DO NOTHING"
        } else {
            "DELETE FROM team_members WHERE team = $1 AND person = $2"
        };
        self.set_member(query, team.as_str(), person, &event, now).await
    }

    async fn set_member(
        &self,
        query: &'static str,
        of: &str,
        person: &PersonName,
        event: &Event,
        now: u64,
    ) -> Result<(), PeopleError> {
        let mut change = Change::begin(self, now).await?;
        if change.role(person).await?.is_none() {
            return Err(PeopleError::Unknown(person.clone()));
        }
        let set = Statement::new(query).text(of.to_owned()).text(person.to_string());
        if change.changed(set).await? > 0 {
            change.record(&About::default(), event, None)?;
        }
        Ok(change.commit().await?)
    }

    /// The group's members; none if nobody is in it.
    ///
    /// # Errors
    /// The store failed.
    pub async fn group(&self, group: &GroupName) -> Result<BTreeSet<PersonName>, StoreError> {
        self.members("SELECT person AS name FROM group_members WHERE group_name = $1", group.as_str()).await
    }

    /// The team's members; none if nobody is in it.
    ///
    /// # Errors
    /// The store failed.
    pub async fn team(&self, team: &TeamName) -> Result<BTreeSet<PersonName>, StoreError> {
        self.members("SELECT person AS name FROM team_members WHERE team = $1", team.as_str()).await
    }

    async fn members(&self, query: &'static str, of: &str) -> Result<BTreeSet<PersonName>, StoreError> {
        let rows = self.backend.find(Statement::new(query).text(of.to_owned())).await?;
        let name = |row: &Row| row.text("name")?.parse().map_err(damaged("a member"));
        rows.iter().map(name).collect()
    }

    /// The groups that have members, by name.
    ///
    /// # Errors
    /// The store failed.
    pub async fn groups(&self) -> Result<BTreeSet<GroupName>, StoreError> {
        let query = "SELECT DISTINCT group_name AS name FROM group_members";
        let rows = self.backend.find(Statement::new(query)).await?;
        let name = |row: &Row| row.text("name")?.parse().map_err(damaged("a group"));
        rows.iter().map(name).collect()
    }
}
