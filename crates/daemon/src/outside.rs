//! How requests leave this host: as `[network]` of `config.toml` says.

use std::sync::Arc;

use dial::Dialer;
use gateway::egress::{Bounds, Outside};
use oauth::Lender;

use crate::config::Config;
use crate::error::DaemonError;

/// The one dialer.
pub(crate) fn dialer(config: &Config) -> Result<Dialer, DaemonError> {
    let network = config.network.network().map_err(DaemonError::Network)?;
    Dialer::new(network).map_err(|error| DaemonError::Network(error.to_string()))
}

/// The way out of cells.
pub(crate) fn outside(config: &Config, dialer: Dialer, lender: &Arc<Lender>) -> Outside {
    let own = Arc::from(config.network.own.clone());
    Outside { dialer, own, lender: Some(Arc::clone(lender)), bounds: Bounds::default() }
}
