//! What `doctor` says comes from machines that were really booted.

use std::time::{Duration, Instant};

use cell::{BootVerdict, EmulationRule, KvmVerdict, Rule, StartError, StartMode};
use domain::Isolation;

use crate::common::{host, image, spec};

#[tokio::test]
async fn doctor_boots_machines_and_real_agents_obey_what_it_saw() {
    let scratch = tempfile::tempdir().unwrap();
    let host = host(scratch.path());
    let report = host.examine(&|text| eprintln!("{text}")).await;
    eprintln!("{report:#?}");
    assert!(report.can_start());
    assert!(matches!(report.emulation, BootVerdict::Works { .. }), "{:?}", report.emulation);
    let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let expected = match (&report.kvm, device) {
        (KvmVerdict::Works { .. }, Ok(_)) => Isolation::Hardware,
        (KvmVerdict::Broken { why }, Ok(_)) if !why.is_empty() => Isolation::Emulated,
        (KvmVerdict::Absent | KvmVerdict::NoAccess { .. }, Err(_)) => Isolation::Emulated,
        (verdict, device) => panic!("{verdict:?} where opening the device says {device:?}"),
    };
    assert_eq!(report.isolation, Some(expected));
    for wall in &report.walls {
        assert!(wall.seen.is_ok() || wall.rule == Rule::Degrade, "{wall:?}");
        assert_eq!(wall.seen.is_ok(), wall.advice.is_empty(), "{wall:?}");
    }
    // The verdict is remembered: asking again takes no boot, which would need 20 s to be given up.
    let mut refusing = spec(&image(scratch.path()), scratch.path().join("disk"), StartMode::Cold);
    refusing.emulation = EmulationRule::Refuse;
    let start = Instant::now();
    match (expected, host.start(refusing).await) {
        (Isolation::Hardware, Ok(cell)) => assert_eq!(cell.isolation(), Isolation::Hardware),
        (Isolation::Emulated, Err(error @ StartError::EmulationRefused { .. })) => {
            assert!(error.to_string().contains("--allow-emulation"), "{error}");
            assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        }
        (_, other) => panic!("{other:?}"),
    }
}
