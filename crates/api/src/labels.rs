//! The labels of things that keep bytes, as the API shows them, and their lowering.

use domain::Labels;
use serde::{Deserialize, Serialize};

/// Something that keeps bytes, with what was ever written into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelsView {
    /// `disk:AGENT`, `server:TEAM/NAME` or `session:ID`.
    pub keeper: String,
    /// What whoever reads it joins.
    pub labels: Labels,
}

/// A person says that a thing holds no more than this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LowerRequest {
    /// `disk:AGENT` or `server:TEAM/NAME`.
    pub keeper: String,
    /// Its labels from now on, which must be within those that it has.
    pub labels: Labels,
    /// Why, for the ledger: at most [`crate::MAX_WHY`] bytes.
    pub why: String,
}
