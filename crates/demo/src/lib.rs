//! The acts of `lazaret demo`.

pub mod report;
pub mod scripted;
