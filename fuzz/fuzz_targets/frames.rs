//! Every frame decoder on any bytes: no panic, and what decodes encodes to the same message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{early, egress, frame, guest, host, process, tools};

macro_rules! checks {
    ($($message:ty),* $(,)?) => {
        &[$(|bytes| {
            if let Ok(found) = frame::decode::<$message>(bytes) {
                let again = frame::encode(&found, frame::LARGE).expect("what decoded encodes");
                assert_eq!(frame::decode::<$message>(&again[4..]).expect("and decodes"), found);
            }
        }),*]
    };
}

const CHECKS: &[fn(&[u8])] = checks![
    early::Question,
    early::Answer,
    guest::DoorOpens,
    guest::GuestOpens,
    guest::ToGuest,
    guest::FromGuest,
    guest::FilesDone,
    process::ToProcess,
    process::FromProcess,
    host::DaemonOpens,
    host::DoorReport,
    host::DoorOpens,
    host::FileEntry,
    host::ModelAnswer,
    tools::ToolsAnswer,
    egress::EgressBody,
    egress::EgressAnswer,
    egress::LeafAnswer,
];

fuzz_target!(|bytes: &[u8]| {
    let Some((which, rest)) = bytes.split_first() else { return };
    CHECKS[usize::from(*which) % CHECKS.len()](rest);
});
