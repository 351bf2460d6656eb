//! People and their groups, as the API shows them.

use std::collections::BTreeSet;

use domain::{GroupName, PersonName, Role};
use serde::{Deserialize, Serialize};

/// A person of this installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonView {
    /// Their name here.
    pub name: PersonName,
    /// The user of the operating system that they are; the kernel tells who connects.
    pub uid: Option<u32>,
    /// What they may do.
    pub role: Role,
}

/// A group of people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupView {
    /// Its name.
    pub name: GroupName,
    /// Who is in it.
    pub people: BTreeSet<PersonName>,
}
