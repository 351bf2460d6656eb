//! The promises of decisions, held from outside of the crate.

#[cfg(test)]
mod common;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod decisions;
#[cfg(test)]
mod held;
#[cfg(test)]
mod origins;
#[cfg(test)]
mod presets;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod versions;
