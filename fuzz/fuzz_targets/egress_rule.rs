//! A rule of `[egress]` and a request on any text: no panic; a rule names its own example, and both read back.
#![no_main]

use domain::{Answer, EgressPattern, EgressTarget};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(rule) = text.parse::<EgressPattern>() {
        assert_eq!(rule.to_string(), text);
        let example = rule.example();
        assert!(rule.names(&example, Answer::Allow), "{rule}: {example}");
        assert_eq!(example.to_string().parse(), Ok(example));
    }
    if let Ok(target) = text.parse::<EgressTarget>() {
        assert_eq!(target.to_string().parse(), Ok(target));
    }
});
