//! Routes for people: questions and answers, the ledger, who is who.

use std::collections::HashSet;
use std::sync::Arc;

use api::{
    AnswerRequest, AnswerView, ApprovalView, EraseRequest, GroupView, LedgerQuery, LedgerVerdict,
    MAX_ENTRIES, MAX_WHY, PersonView, Problem, ProblemKind, ShownView, Standing,
};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::Response;
use domain::{ApprovalId, ApprovalState, GroupName, PersonName};
use store::{
    Answer as Given, Approval, ApprovalError, Entry, Filter, Head, PeopleError, Person, Private, StoreError,
    VerifyError,
};

use super::caller::Caller;
use super::{Answer, Failed, Shared, internal, json, lines, to_its_end};
use crate::journal::now;
use crate::session::Sessions;

pub(super) async fn whoami(Caller(person): Caller) -> Json<PersonView> {
    Json(person_view(person))
}

// ---- questions ----

/// Those that wait, one after the other: together they may be of any size.
pub(super) async fn approvals(State(sessions): Shared) -> Answer<Response> {
    let pending = sessions.store().pending(None, now()).await.map_err(of_store)?.into_iter();
    let start = (Arc::clone(&sessions), pending);
    let stream = futures::stream::try_unfold(start, |(sessions, mut pending)| async move {
        for id in pending.by_ref() {
            if let Some(line) = waiting(&sessions, id).await? {
                return Ok::<_, std::io::Error>(Some((line, (sessions, pending))));
            }
        }
        Ok(None)
    });
    Ok(lines::response(Body::from_stream(stream)))
}

/// The line of a question, if it still waits.
async fn waiting(sessions: &Sessions, id: ApprovalId) -> Result<Option<Bytes>, std::io::Error> {
    let found = sessions.store().approval(id, now()).await.map_err(std::io::Error::other)?;
    (found.life.state == ApprovalState::Pending).then(|| lines::line(&approval_view(found))).transpose()
}

pub(super) async fn approval(State(sessions): Shared, Path(id): Path<String>) -> Answer<Json<ApprovalView>> {
    let found = sessions.store().approval(approval_id(&id)?, now()).await.map_err(of_store)?;
    Ok(Json(approval_view(found)))
}

/// Each question once, those that wait first.
pub(super) async fn watch(State(sessions): Shared) -> Response {
    let start = (Arc::clone(&sessions), HashSet::new(), Vec::new());
    let stream = futures::stream::try_unfold(start, |(sessions, mut told, mut new)| async move {
        loop {
            while let Some(id) = new.pop() {
                if let Some(line) = waiting(&sessions, id).await? {
                    return Ok::<_, std::io::Error>(Some((line, (sessions, told, new))));
                }
            }
            let pending = sessions.store().pending(None, now()).await.map_err(std::io::Error::other)?;
            let ids: HashSet<ApprovalId> = pending.iter().copied().collect();
            new = pending.into_iter().filter(|id| !told.contains(id)).rev().collect();
            told = ids;
            if new.is_empty() {
                sessions.store().changed().await;
            }
        }
    });
    lines::response(Body::from_stream(stream))
}

pub(super) async fn answer(
    State(sessions): Shared,
    Caller(person): Caller,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer<Json<ApprovalView>> {
    let id = approval_id(&id)?;
    let request: AnswerRequest = json(&body)?;
    if request.why.as_ref().is_some_and(|why| why.len() > MAX_WHY) {
        return Err(invalid(format!("the reason has more than {MAX_WHY} bytes")));
    }
    let given = Given {
        person: person.name,
        yes: request.yes,
        for_session: request.for_session,
        why: request.why.map(Private::new),
    };
    sessions.store().answer(id, &given, now()).await.map_err(|error| match error {
        ApprovalError::Store(error) => of_store(error),
        refused @ (ApprovalError::Answer(_)
        | ApprovalError::NotApprover(_)
        | ApprovalError::NotUndoable
        | ApprovalError::TooMany(_)
        | ApprovalError::Foreign) => Failed(Problem::new(ProblemKind::Conflict, refused.to_string())),
    })?;
    Ok(Json(approval_view(sessions.store().approval(id, now()).await.map_err(of_store)?)))
}

fn approval_id(text: &str) -> Answer<ApprovalId> {
    text.parse().map_err(|e: domain::IdError| invalid(e.to_string()))
}

fn approval_view(approval: Approval) -> ApprovalView {
    let reveal = |private: &Private| private.reveal().to_owned();
    let answers = approval.answers.iter().map(|answer| AnswerView {
        person: answer.person.clone(),
        yes: answer.yes,
        for_session: answer.for_session,
        why: answer.why.as_ref().map(reveal),
    });
    ApprovalView {
        id: approval.id,
        agent: approval.about.agent,
        team: approval.about.team,
        session: approval.about.session,
        act: approval.act.to_string(),
        effects: approval.effects,
        reasons: approval.reasons,
        shown: approval.shown.map(|shown| ShownView {
            arguments: reveal(&shown.arguments),
            content: reveal(&shown.content),
            origins: shown.origins,
            consequences: shown.consequences,
        }),
        labels: approval.ceiling,
        standing: Standing {
            state: approval.life.state,
            answers: answers.collect(),
            quorum: approval.quorum,
            asked: approval.asked_at,
        },
    }
}

// ---- the ledger ----

pub(super) async fn entries(State(sessions): Shared, body: Bytes) -> Answer<Json<Vec<Entry>>> {
    let query: LedgerQuery = json(&body)?;
    if query.count == 0 || query.count > MAX_ENTRIES {
        return Err(invalid(format!("`count` is 1 to {MAX_ENTRIES}, not {}", query.count)));
    }
    let filter = Filter { agent: query.agent, session: query.session, kind: query.kind };
    let (store, count) = (sessions.store(), query.count);
    let found = match (query.after, query.before) {
        (Some(_), Some(_)) => {
            return Err(invalid("entries are wanted `after` or `before` one, not both".to_owned()));
        }
        (Some(after), None) => store.entries_after(after, count, &filter).await,
        (None, Some(before)) => store.entries_before(before, count, &filter).await,
        (None, None) => store.tail(count, &filter).await,
    };
    found.map(Json).map_err(of_store)
}

pub(super) async fn verify(State(sessions): Shared, body: Bytes) -> Answer<Json<LedgerVerdict>> {
    let seen: Option<Head> = json(&body)?;
    let key = sessions.store().public_key();
    match sessions.store().verify(seen.as_ref()).await {
        Ok(sound) => Ok(Json(LedgerVerdict {
            entries: sound.entries,
            erased: sound.erased,
            head: sound.head.map(serde_json::to_value).transpose().map_err(internal)?,
            fault: None,
            key,
        })),
        Err(VerifyError::Tampered(fault)) => {
            Ok(Json(LedgerVerdict { entries: 0, erased: 0, head: None, fault: Some(fault.to_string()), key }))
        }
        Err(VerifyError::Store(error)) => Err(of_store(error)),
    }
}

pub(super) async fn erase(State(sessions): Shared, Caller(by): Caller, body: Bytes) -> Answer<Json<()>> {
    let EraseRequest { seq, why } = json(&body)?;
    if why.trim().is_empty() || why.len() > MAX_WHY {
        return Err(invalid(format!("`why` has 1 to {MAX_WHY} bytes, for the ledger")));
    }
    to_its_end(sessions, |sessions| async move {
        sessions.store().erase(seq, &by.name, &why, now()).await.map_err(of_store)?;
        Ok(Json(()))
    })
    .await
}

// ---- who is who ----

pub(super) async fn people(State(sessions): Shared) -> Answer<Json<Vec<PersonView>>> {
    let people = sessions.store().people().await.map_err(of_store)?;
    Ok(Json(people.into_iter().map(person_view).collect()))
}

pub(super) async fn put_person(
    State(sessions): Shared,
    Caller(by): Caller,
    Path(name): Path<PersonName>,
    body: Bytes,
) -> Answer<Json<()>> {
    let view: PersonView = json(&body)?;
    if view.name != name {
        return Err(invalid(format!("the path names {name}, the request {}", view.name)));
    }
    let person = Person { name: view.name, uid: view.uid, role: view.role };
    to_its_end(sessions, |sessions| async move {
        sessions.store().put_person(&person, &by.name, now()).await.map_err(of_people)?;
        sessions.know_people().await.map_err(of_store)?;
        Ok(Json(()))
    })
    .await
}

pub(super) async fn remove_person(
    State(sessions): Shared,
    Caller(by): Caller,
    Path(name): Path<PersonName>,
) -> Answer<Json<()>> {
    to_its_end(sessions, |sessions| async move {
        sessions.store().remove_person(&name, &by.name, now()).await.map_err(of_people)?;
        sessions.know_people().await.map_err(of_store)?;
        Ok(Json(()))
    })
    .await
}

pub(super) async fn groups(State(sessions): Shared) -> Answer<Json<Vec<GroupView>>> {
    let mut views = Vec::new();
    for name in sessions.store().groups().await.map_err(of_store)? {
        let people = sessions.store().group(&name).await.map_err(of_store)?;
        views.push(GroupView { name, people });
    }
    Ok(Json(views))
}

pub(super) async fn join_group(
    State(sessions): Shared,
    Caller(by): Caller,
    Path((group, person)): Path<(GroupName, PersonName)>,
) -> Answer<Json<()>> {
    sessions.store().set_in_group(&group, &person, true, &by.name, now()).await.map_err(of_people)?;
    Ok(Json(()))
}

pub(super) async fn leave_group(
    State(sessions): Shared,
    Caller(by): Caller,
    Path((group, person)): Path<(GroupName, PersonName)>,
) -> Answer<Json<()>> {
    sessions.store().set_in_group(&group, &person, false, &by.name, now()).await.map_err(of_people)?;
    Ok(Json(()))
}

fn person_view(person: Person) -> PersonView {
    PersonView { name: person.name, uid: person.uid, role: person.role }
}

fn invalid(message: String) -> Failed {
    Failed(Problem::new(ProblemKind::Invalid, message))
}

fn of_people(error: PeopleError) -> Failed {
    match error {
        PeopleError::Store(error) => of_store(error),
        PeopleError::Unknown(_) => Failed(Problem::new(ProblemKind::NotFound, error.to_string())),
        PeopleError::LastOwner(_) | PeopleError::UidTaken { .. } | PeopleError::NotFirst => {
            Failed(Problem::new(ProblemKind::Conflict, error.to_string()))
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all others are the daemon's own failures")]
fn of_store(error: StoreError) -> Failed {
    match error {
        StoreError::Unknown { .. } => Failed(Problem::new(ProblemKind::NotFound, error.to_string())),
        StoreError::StillInLog(_) => Failed(Problem::new(ProblemKind::Conflict, error.to_string())),
        other => internal(other),
    }
}
