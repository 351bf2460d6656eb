//! How requests leave this host: as `[network]` of `config.toml` says.

use std::sync::Arc;

use dial::Dialer;
use gateway::egress::{Bounds, Outside};
use vault::Vault;

use crate::config::Config;
use crate::error::DaemonError;

/// The way out. Whoever configured a provider or a tool server named its host by that, whatever its address.
pub(crate) fn outside(config: &Config, vault: &Arc<Vault>) -> Result<Outside, DaemonError> {
    let network = config.network.network().map_err(DaemonError::Network)?;
    let dialer = Dialer::new(network).map_err(|error| DaemonError::Network(error.to_string()))?;
    let own = Arc::from(config.network.own.clone());
    Ok(Outside { dialer, own, vault: Some(Arc::clone(vault)), bounds: Bounds::default() })
}
