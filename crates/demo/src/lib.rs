//! The acts of `lazaret demo`.

pub mod scripted;
