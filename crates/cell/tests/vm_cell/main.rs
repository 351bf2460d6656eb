//! Cells with real machines: one program, so that kernel and template are made once.

mod common;
mod container;
mod doctor;
mod end;
mod inside;
mod start;
