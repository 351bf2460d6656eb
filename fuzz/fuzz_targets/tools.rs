//! What tools take and give, on any bytes: the limits are held without a panic, and strict JSON reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::frame;
use wire::json::Json;
use wire::tools::{ARGUMENTS, ToolsAnswer, ToolsAsk};

fuzz_target!(|bytes: &[u8]| {
    let Some((which, rest)) = bytes.split_first() else { return };
    match which % 3 {
        0 => {
            if let Ok(ask) = frame::decode::<ToolsAsk>(rest) {
                ask.check().ok();
            }
        }
        1 => {
            if let Ok(answer) = frame::decode::<ToolsAnswer>(rest) {
                answer.check().ok();
            }
        }
        _ => {
            let Ok(text) = std::str::from_utf8(rest) else { return };
            if let Ok(read) = Json::parse(text, ARGUMENTS) {
                let written = read.to_string();
                assert_eq!(Json::parse(&written, ARGUMENTS).expect("what was read, written, is read"), read);
            }
        }
    }
});
