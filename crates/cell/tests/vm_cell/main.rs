//! Cells with real machines: one program, so that kernel and template are made once.

mod common;
mod doctor;
mod end;
mod inside;
mod start;
