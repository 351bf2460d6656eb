//! The built-in tool server for mail, as tool servers are called here.

use std::sync::Arc;
use std::time::SystemTime;

use ::mail::{Account, Mailbox, Reason, Stamp};
use dial::Dialer;
use domain::ToolName;
use store::Randomness;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use vault::Scrubber;
use wire::tools::{Content, Hints, ToolFailure, ToolFailureKind, ToolResult};

use super::{Acted, CallFailed, ToolDescription, ToolList};

/// Most calls at once to one mailbox. Providers close the door to whoever comes with more.
const AT_ONCE: usize = 4;

/// Says whose mailbox it is, anew for each call: a password may have been changed or taken away.
pub type AccountOf = dyn Fn() -> Result<Account, ToolFailure> + Send + Sync;

/// A team's way to a mailbox.
pub struct MailServer {
    account: Arc<AccountOf>,
    dialer: Dialer,
    random: Arc<dyn Randomness>,
    places: Semaphore,
}

impl MailServer {
    /// The mailbox of this account.
    #[must_use]
    pub fn new(account: Arc<AccountOf>, dialer: Dialer, random: Arc<dyn Randomness>) -> Self {
        Self { account, dialer, random, places: Semaphore::new(AT_ONCE) }
    }

    pub(super) fn list(&self) -> Result<ToolList, ToolFailure> {
        let described = |tool: ::mail::Description| {
            let name = tool.name.parse().map_err(|e| internal(&format!("`{}`: {e}", tool.name)))?;
            Ok(ToolDescription {
                name,
                title: None,
                description: Some(tool.says.to_owned()),
                input_schema: tool.schema.to_string(),
                output_schema: None,
                // What they do is in the reviewed table.
                hints: Hints::default(),
            })
        };
        let tools = ::mail::descriptions().into_iter().map(described).collect::<Result<_, ToolFailure>>()?;
        Ok(ToolList { tools, withheld: Vec::new() })
    }

    pub(super) async fn call(
        &self,
        tool: &ToolName,
        arguments: &str,
        cancelled: &CancellationToken,
    ) -> Result<ToolResult, CallFailed> {
        let not_sent = |failure| CallFailed { failure, acted: Acted::No };
        let gone = || not_sent(ToolFailure::new(ToolFailureKind::Internal, "the call was cancelled"));
        let _place = tokio::select! {
            place = self.places.acquire() => place.map_err(|e| not_sent(internal(&e.to_string())))?,
            () = cancelled.cancelled() => return Err(gone()),
        };
        let mut unique = [0; 16];
        self.random.fill(&mut unique).map_err(|e| not_sent(internal(&e.to_string())))?;
        let stamp = Stamp { now: SystemTime::now(), unique: u128::from_le_bytes(unique) };
        let account = (self.account)().map_err(not_sent)?;
        let scrubber = Scrubber::new([&account.password]);
        let mailbox = Mailbox::new(account, self.dialer.clone());
        match mailbox.call(tool.as_str(), arguments, stamp, cancelled).await {
            Ok(told) => {
                let result = ToolResult {
                    content: vec![Content::Text(scrubbed(&scrubber, &told))],
                    structured: None,
                    is_error: false,
                };
                let check = result
                    .check()
                    .map_err(|why| ToolFailure::new(ToolFailureKind::TooLarge, why.to_string()));
                check.map(|()| result).map_err(|failure| CallFailed { failure, acted: Acted::Unknown })
            }
            Err(failure) => {
                let message = scrubbed(&scrubber, &failure.message);
                Err(failed(::mail::Failure { message, ..failure }))
            }
        }
    }
}

fn failed(failure: ::mail::Failure) -> CallFailed {
    let kind = match failure.reason {
        Reason::Invalid => ToolFailureKind::Invalid,
        Reason::NotFound => ToolFailureKind::NotFound,
        Reason::TooLarge => ToolFailureKind::TooLarge,
        Reason::Server => ToolFailureKind::Upstream,
    };
    let acted = match failure.acted {
        ::mail::Acted::No => Acted::No,
        ::mail::Acted::Failed => Acted::Failed,
        ::mail::Acted::Unknown => Acted::Unknown,
    };
    CallFailed { failure: ToolFailure::new(kind, failure.message).bounded(), acted }
}

/// A text without the mailbox's password: a server may echo it, and a mail may hold it.
fn scrubbed(scrubber: &Scrubber, text: &str) -> String {
    String::from_utf8_lossy(&scrubber.whole(text.as_bytes())).into_owned()
}

fn internal(why: &str) -> ToolFailure {
    ToolFailure::new(ToolFailureKind::Internal, why)
}
