//! The name of a model: who serves it, and what they call it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The text doesn't name a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` doesn't name a model: write `provider/model`, such as anthropic/claude-sonnet-4-5")]
pub struct ModelNameError(String);

/// `provider/model`: the provider is a name in the daemon's configuration, the model is the provider's own name for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName {
    provider: String,
    model: String,
}

impl ModelName {
    /// Most bytes in a model's name, provider included.
    pub const MAX: usize = 200;

    /// The provider's name: `a-z`, `0-9` and `-`.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// What the provider calls the model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }
}

impl std::str::FromStr for ModelName {
    type Err = ModelNameError;
    fn from_str(text: &str) -> Result<Self, ModelNameError> {
        let bad = || ModelNameError(text.chars().take(60).collect());
        let (provider, model) = text.split_once('/').ok_or_else(bad)?;
        let provider_ok = !provider.is_empty()
            && provider.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        let model_ok =
            !model.is_empty() && model.chars().all(|c| c.is_ascii_alphanumeric() || "-._:/@".contains(c));
        if text.len() > Self::MAX || !provider_ok || !model_ok {
            return Err(bad());
        }
        Ok(Self { provider: provider.to_owned(), model: model.to_owned() })
    }
}

impl TryFrom<String> for ModelName {
    type Error = ModelNameError;
    fn try_from(text: String) -> Result<Self, ModelNameError> {
        text.parse()
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> String {
        name.to_string()
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}
