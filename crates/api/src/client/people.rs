//! The client's part for people: questions, the ledger, who is who.

use std::collections::VecDeque;

use bytes::Bytes;
use domain::{ApprovalId, GroupName, PersonName};
use http::Method;
use serde_json::Value;

use super::{Client, ClientError, Lines, Result, json};
use crate::{
    AnswerRequest, ApprovalView, EraseRequest, GroupView, LabelsView, LedgerEntry, LedgerQuery,
    LedgerVerdict, LowerRequest, MAX_LEDGER, PersonView,
};

impl Client {
    /// Who this client is to the daemon.
    ///
    /// # Errors
    /// [`crate::ClientError`], like all that follow.
    pub async fn whoami(&self) -> Result<PersonView> {
        self.get("whoami").await
    }

    /// The questions that wait for anybody, the oldest first.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn approvals(&self) -> Result<Lines<ApprovalView>> {
        Ok(Lines::new(self.request(Method::GET, "approvals", Bytes::new()).await?))
    }

    /// One question, whatever became of it.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn approval(&self, id: ApprovalId) -> Result<ApprovalView> {
        self.get(&format!("approvals/{id}")).await
    }

    /// The questions that wait now, and those to come.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn watch_approvals(&self) -> Result<Lines<ApprovalView>> {
        Ok(Lines::new(self.request(Method::GET, "approvals/watch", Bytes::new()).await?))
    }

    /// Answers a question; gives it as it stands then.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn answer(&self, id: ApprovalId, answer: &AnswerRequest) -> Result<ApprovalView> {
        self.send(Method::POST, &format!("approvals/{id}/answer"), json(answer)?).await
    }

    /// Entries of the ledger, the oldest first: as many as fit into one answer, one at least where there is any.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn ledger(&self, query: &LedgerQuery) -> Result<Vec<LedgerEntry>> {
        self.send_for(Method::POST, "ledger/entries", json(query)?, MAX_LEDGER).await
    }

    /// What is wanted of the newest entries, the oldest first: all that the query counts, in as many answers as it takes.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn newest<T>(&self, query: &LedgerQuery, wanted: impl Fn(LedgerEntry) -> T) -> Result<Vec<T>> {
        let (mut query, mut newest) = (query.clone(), VecDeque::new());
        while query.count > 0 {
            let page = self.ledger(&query).await?;
            let Some(first) = page.first() else { break };
            let seq = first.get("seq").and_then(Value::as_u64);
            query.before =
                Some(seq.ok_or_else(|| ClientError::Unreadable("an entry has no number".to_owned()))?);
            query.count = query.count.saturating_sub(u32::try_from(page.len()).unwrap_or(u32::MAX));
            for entry in page.into_iter().rev() {
                newest.push_front(wanted(entry));
            }
        }
        Ok(newest.into())
    }

    /// Verifies the ledger, also against the newest entry that was seen before.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn verify_ledger(&self, seen: Option<&serde_json::Value>) -> Result<LedgerVerdict> {
        self.send(Method::POST, "ledger/verify", json(&seen)?).await
    }

    /// Makes what is sealed in an entry of the ledger unreadable for good.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn erase_from_ledger(&self, request: &EraseRequest) -> Result<()> {
        self.send(Method::POST, "ledger/erase", json(request)?).await
    }

    /// Everybody.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn people(&self) -> Result<Vec<PersonView>> {
        self.get("people").await
    }

    /// Adds a person, or changes one.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn put_person(&self, person: &PersonView) -> Result<()> {
        self.send(Method::PUT, &format!("people/{}", person.name), json(person)?).await
    }

    /// Everything that keeps bytes, with its labels.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn labels(&self) -> Result<Vec<LabelsView>> {
        self.get("labels").await
    }

    /// Lowers the labels of something.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn lower_labels(&self, request: &LowerRequest) -> Result<()> {
        self.send(Method::POST, "labels/lower", json(request)?).await
    }

    /// Removes a person.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn remove_person(&self, name: &PersonName) -> Result<()> {
        self.send(Method::DELETE, &format!("people/{name}"), Bytes::new()).await
    }

    /// Every group.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn groups(&self) -> Result<Vec<GroupView>> {
        self.get("groups").await
    }

    /// Puts a person into a group.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn join_group(&self, group: &GroupName, person: &PersonName) -> Result<()> {
        self.send(Method::PUT, &format!("groups/{group}/{person}"), Bytes::new()).await
    }

    /// Takes a person out of a group.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn leave_group(&self, group: &GroupName, person: &PersonName) -> Result<()> {
        self.send(Method::DELETE, &format!("groups/{group}/{person}"), Bytes::new()).await
    }
}
