//! Model requests in every dialect, on any text: refused or rebuilt, and what was rebuilt stays as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::model::{Dialect, Grants, rebuild};

fuzz_target!(|bytes: &[u8]| {
    let Some((which, rest)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let dialect = Dialect::ALL[usize::from(*which) % Dialect::ALL.len()];
    if let Ok(rebuilt) = rebuild(dialect, text, &Grants::default()) {
        let again = rebuild(dialect, &rebuilt.to_string(), &Grants::default());
        assert_eq!(again.expect("what was rebuilt is on the list"), rebuilt);
    }
});
