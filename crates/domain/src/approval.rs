//! The life of an approval: a person's answer to one ask. Who may answer, how many must, until when, and that its right
//! is used once. Pure: time comes as an argument.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::PersonName;

/// ```text
///            ┌─ enough people say yes ─▶ approved ── committed ─▶ consumed
/// pending ───┤                              ├─ its time is over ─▶ expired
///            ├─ one says no ─▶ denied       └─ called off ───────▶ cancelled
///            ├─ its time is over ─▶ expired
///            └─ called off ─▶ cancelled
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApprovalState {
    /// It waits for people.
    Pending,
    /// Its right may be used, once.
    Approved,
    /// Somebody said no.
    Denied,
    /// Nobody answered in time, or the right was not used in time.
    Expired,
    /// What it was about is gone: its agent was quarantined, its tool changed, or a person called it off.
    Cancelled,
    /// Its right was used.
    Consumed,
}

impl ApprovalState {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Consumed => "consumed",
        }
    }

    /// Whether nothing can happen to it any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Approved => false,
            Self::Denied | Self::Expired | Self::Cancelled | Self::Consumed => true,
        }
    }
}

impl fmt::Display for ApprovalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What can happen to an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApprovalEvent {
    /// This person says yes.
    Yes(PersonName),
    /// This person says no.
    No(PersonName),
    /// What it was about is gone.
    CalledOff,
    /// Its right is used, in the transaction that commits the act.
    Used,
}

/// Who answers, how many of them, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quorum {
    /// Who may answer; the members of the group when it was asked.
    pub people: BTreeSet<PersonName>,
    /// How many must say yes; at least 1.
    pub need: u8,
    /// Who may not, though members: those whose words the session follows, where policy separates the two.
    #[serde(deserialize_with = "one_or_more")]
    pub excluded: BTreeSet<PersonName>,
    /// Until when, in milliseconds since 1970.
    pub until: u64,
}

/// Reads also what was stored when there was one at most.
fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<PersonName>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        All(BTreeSet<PersonName>),
        One(Option<PersonName>),
    }
    Ok(match Written::deserialize(from)? {
        Written::All(all) => all,
        Written::One(one) => one.into_iter().collect(),
    })
}

/// Why an answer does nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It can't be answered any more.
    #[error("this question is {0} already")]
    Over(ApprovalState),
    /// Its time is over.
    #[error("this question has expired")]
    Late,
    /// It is not for this person to answer.
    #[error("{0} is not among those who may answer this question")]
    NotAsked(PersonName),
    /// The session follows this person's words.
    #[error("{0} wrote the prompt or told the session something since, and so may not answer this question")]
    Separated(PersonName),
    /// This person has said yes.
    #[error("{0} has said yes already; somebody else must, too")]
    Twice(PersonName),
    /// Its right can't be used.
    #[error("this approval's right can't be used: it is {0}")]
    NoRight(ApprovalState),
}

/// An approval's life so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalLife {
    /// Where it stands.
    pub state: ApprovalState,
    /// Who has said yes.
    pub yes: BTreeSet<PersonName>,
}

impl Default for ApprovalLife {
    fn default() -> Self {
        Self { state: ApprovalState::Pending, yes: BTreeSet::new() }
    }
}

impl ApprovalLife {
    /// The life after the passing of time.
    #[must_use]
    pub fn at(mut self, quorum: &Quorum, now: u64) -> Self {
        if !self.state.is_final() && now >= quorum.until {
            self.state = ApprovalState::Expired;
        }
        self
    }

    /// The life after an event.
    ///
    /// # Errors
    /// Why the event does nothing; the life is then as it was, but for the passing of time.
    pub fn on(self, event: &ApprovalEvent, quorum: &Quorum, now: u64) -> Result<Self, AnswerError> {
        use ApprovalState as S;
        let late = !self.state.is_final() && now >= quorum.until;
        match event {
            ApprovalEvent::Yes(person) | ApprovalEvent::No(person) => {
                if late {
                    return Err(AnswerError::Late);
                }
                if self.state != S::Pending {
                    return Err(AnswerError::Over(self.state));
                }
                may_answer(person, quorum)?;
                if matches!(event, ApprovalEvent::No(_)) {
                    return Ok(Self { state: S::Denied, ..self });
                }
                self.with_yes(person, quorum)
            }
            ApprovalEvent::CalledOff if self.state.is_final() => Err(AnswerError::Over(self.state)),
            ApprovalEvent::CalledOff => Ok(Self { state: S::Cancelled, ..self }),
            ApprovalEvent::Used if late => Err(AnswerError::NoRight(S::Expired)),
            ApprovalEvent::Used if self.state == S::Approved => Ok(Self { state: S::Consumed, ..self }),
            ApprovalEvent::Used => Err(AnswerError::NoRight(self.state)),
        }
    }

    fn with_yes(mut self, person: &PersonName, quorum: &Quorum) -> Result<Self, AnswerError> {
        if !self.yes.insert(person.clone()) {
            return Err(AnswerError::Twice(person.clone()));
        }
        if self.yes.len() >= usize::from(quorum.need.max(1)) {
            self.state = ApprovalState::Approved;
        }
        Ok(self)
    }
}

fn may_answer(person: &PersonName, quorum: &Quorum) -> Result<(), AnswerError> {
    if !quorum.people.contains(person) {
        return Err(AnswerError::NotAsked(person.clone()));
    }
    if quorum.excluded.contains(person) {
        return Err(AnswerError::Separated(person.clone()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn person(name: &str) -> PersonName {
        name.parse().unwrap()
    }

    fn quorum(need: u8) -> Quorum {
        let people = ["ada", "bob", "cleo"].map(person).into();
        Quorum { people, need, excluded: [person("cleo")].into(), until: 100 }
    }

    #[test]
    fn two_of_three_must_say_yes_and_none_twice() {
        let quorum = quorum(2);
        let life = ApprovalLife::default();
        let life = life.on(&ApprovalEvent::Yes(person("ada")), &quorum, 1).unwrap();
        assert_eq!(life.state, ApprovalState::Pending);
        let twice = life.clone().on(&ApprovalEvent::Yes(person("ada")), &quorum, 2);
        assert_eq!(twice, Err(AnswerError::Twice(person("ada"))));
        let separated = life.clone().on(&ApprovalEvent::Yes(person("cleo")), &quorum, 2);
        assert_eq!(separated, Err(AnswerError::Separated(person("cleo"))));
        let stranger = life.clone().on(&ApprovalEvent::No(person("eve")), &quorum, 2);
        assert_eq!(stranger, Err(AnswerError::NotAsked(person("eve"))));
        let life = life.on(&ApprovalEvent::Yes(person("bob")), &quorum, 3).unwrap();
        assert_eq!(life.state, ApprovalState::Approved);
        let life = life.on(&ApprovalEvent::Used, &quorum, 4).unwrap();
        let again = life.on(&ApprovalEvent::Used, &quorum, 5);
        assert_eq!(again, Err(AnswerError::NoRight(ApprovalState::Consumed)));
    }

    #[test]
    fn time_ends_a_question_and_an_unused_right() {
        let quorum = quorum(1);
        let late = ApprovalLife::default().on(&ApprovalEvent::Yes(person("ada")), &quorum, 100);
        assert_eq!(late, Err(AnswerError::Late));
        let approved = ApprovalLife::default().on(&ApprovalEvent::Yes(person("ada")), &quorum, 99).unwrap();
        let unused = approved.clone().on(&ApprovalEvent::Used, &quorum, 100);
        assert_eq!(unused, Err(AnswerError::NoRight(ApprovalState::Expired)));
        assert_eq!(approved.at(&quorum, 100).state, ApprovalState::Expired);
    }

    fn event() -> impl Strategy<Value = ApprovalEvent> {
        let who = prop_oneof![Just("ada"), Just("bob"), Just("cleo"), Just("eve")].prop_map(person);
        prop_oneof![
            who.clone().prop_map(ApprovalEvent::Yes),
            who.prop_map(ApprovalEvent::No),
            Just(ApprovalEvent::CalledOff),
            Just(ApprovalEvent::Used),
        ]
    }

    proptest! {
        #[test]
        fn a_right_is_used_at_most_once_and_only_after_enough_yes(
            events in prop::collection::vec((event(), 0_u64..3), 0..24), need in 1_u8..3,
        ) {
            let quorum = quorum(need);
            let (mut life, mut now, mut used) = (ApprovalLife::default(), 90, 0);
            for (event, pause) in events {
                now += pause;
                let before = life.clone();
                if let Ok(next) = life.clone().on(&event, &quorum, now) {
                    prop_assert!(!before.state.is_final());
                    if event == ApprovalEvent::Used {
                        used += 1;
                        prop_assert!(now < quorum.until);
                        prop_assert!(next.yes.len() >= usize::from(need));
                        prop_assert!(!next.yes.contains(&person("cleo")) && !next.yes.contains(&person("eve")));
                    }
                    life = next;
                }
            }
            prop_assert!(used <= 1);
        }
    }
}
