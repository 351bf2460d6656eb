//! Subscriptions: models that are paid for by the month, and whose vendor gives tokens to whoever logs in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Whose subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subscription {
    /// Anthropic's: Claude Pro, Max, Team or Enterprise.
    Claude,
    /// OpenAI's: ChatGPT Plus, Pro, Business or Enterprise.
    Chatgpt,
}

/// The text names no subscription.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no subscription that is known: write claude or chatgpt")]
pub struct SubscriptionError(String);

impl Subscription {
    /// As it is typed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Chatgpt => "chatgpt",
        }
    }
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Subscription {
    type Err = SubscriptionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = [Self::Claude, Self::Chatgpt].into_iter().find(|known| known.as_str() == text);
        known.ok_or_else(|| SubscriptionError(text.chars().take(60).flat_map(char::escape_debug).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_has_one_spelling() {
        for known in [Subscription::Claude, Subscription::Chatgpt] {
            assert_eq!(known.to_string().parse(), Ok(known));
        }
        for bad in ["", "Claude", "chat-gpt", "claude "] {
            assert!(bad.parse::<Subscription>().is_err(), "{bad}");
        }
    }
}
