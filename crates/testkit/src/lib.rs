//! For tests only: a laboratory around the real `lazaret` binary, with the scripted model as its provider.

mod lab;

pub use lab::{CANARY, Done, Lab, deadline};
