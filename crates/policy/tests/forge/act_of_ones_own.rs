//! An act that `policy` doesn't know, decided on by its own rules.

#[derive(Clone)]
struct Wish;

impl policy::Act for Wish {}

fn main() {}
