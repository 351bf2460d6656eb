//! The services behind the door: models, tools, egress.
//!
//! ```text
//! door ── DoorOpens::Model ──▶ service ▶ fields ▶ agent's models ▶ budget ▶ gate ▶ provider ── bytes ──▶ door
//!      ── DoorOpens::Tools ──▶ gate ▶ tool server ── result ──▶ door
//!      ── DoorOpens::Egress ──▶ gate ▶ server ── answer ──▶ door
//! ```
//! [`ModelService`] knows the providers and holds their credentials; a [`ModelSession`] says what one session may use
//! and counts it. Nothing that a guest sends chooses a host, a path or a credential.

mod budget;
mod changes;
mod credential;
mod daily;
pub mod egress;
mod front;
mod model_gate;
mod news;
mod permit;
mod prices;
mod provider;
mod service;
mod session;
#[cfg(test)]
mod tests;
pub mod tools;
mod upstream;
mod usage;

pub use budget::{Budget, Exhausted};
pub use credential::{Credential, VaultKey};
pub use front::{ServiceError, Services};
pub use permit::{Committed, Committing, Permit};
pub use prices::{Price, Prices};
pub use provider::{Api, BaseUrl, Provider, ProviderError};
pub use service::ModelService;
pub use session::{ModelEvent, ModelSession};
pub use upstream::Patience;
pub use usage::Usage;
