//! The acts of `lazaret demo`.
