//! The services behind the door. So far one: models.
//!
//! ```text
//! door ── DoorOpens::Model ──▶ service ▶ fields ▶ agent's models ▶ budget ▶ provider ── bytes ──▶ door
//! ```
//! [`ModelService`] knows the providers and holds their credentials; a [`ModelSession`] says what one session may use
//! and counts it. Nothing that a guest sends chooses a host, a path or a credential.

mod budget;
mod provider;
mod service;
mod session;
#[cfg(test)]
mod tests;
mod upstream;
mod usage;

pub use budget::{Budget, Exhausted};
pub use provider::{Api, BaseUrl, Credential, Provider, ProviderError};
pub use service::{ModelService, ServiceError};
pub use session::{ModelEvent, ModelSession};
pub use upstream::Patience;
pub use usage::Usage;
