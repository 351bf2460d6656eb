//! The start of a push on any bytes: no panic, and what is written anew says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::git::{Push, Start};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Start::Whole(push, used)) = Push::read(bytes) {
        assert!(used <= bytes.len());
        let again = push.to_bytes();
        assert_eq!(Push::read(&again), Ok(Start::Whole(push, again.len())));
    }
});
