//! Real machines, from start to end: cold, cloned, side by side.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cell::{CellEnd, StartMode};
use domain::{CellState, Isolation};

use crate::common::{born, host, image, spec};

#[tokio::test]
async fn a_cell_boots_cold_and_is_born() {
    let scratch = tempfile::tempdir().unwrap();
    let host = host(scratch.path());
    host.prepare(&|text| eprintln!("{text}")).await.unwrap();
    let start = Instant::now();
    let mut cell =
        host.start(spec(&image(scratch.path()), scratch.path().join("disk"), StartMode::Cold)).await.unwrap();
    eprintln!("started after {:?}, missing: {:?}", start.elapsed(), cell.missing());
    assert_eq!(cell.state(), CellState::Booting);
    let (boot_id, _link) = born(&mut cell, 1).await;
    eprintln!("born after {:?}: {boot_id}", start.elapsed());
    assert!(matches!(cell.isolation(), Isolation::Hardware | Isolation::Emulated));
    assert_eq!(cell.stop(Duration::ZERO).await, CellEnd::Killed);
    assert_eq!(std::fs::read_dir(scratch.path().join("run/jails")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_clone_is_born_sooner_than_a_cold_boot() {
    let scratch = tempfile::tempdir().unwrap();
    let host = host(scratch.path());
    let image = image(scratch.path());
    for number in 1..=3 {
        let start = Instant::now();
        let mut cell = host.start(spec(&image, scratch.path().join("disk"), StartMode::Clone)).await.unwrap();
        eprintln!("started after {:?}", start.elapsed());
        let (boot_id, _link) = born(&mut cell, number).await;
        eprintln!("born after {:?}: {boot_id}", start.elapsed());
        drop(cell.stop(Duration::ZERO).await);
    }
}

#[tokio::test]
async fn twenty_clones_of_one_template_share_no_random_bytes() {
    let scratch = tempfile::tempdir().unwrap();
    let host = host(scratch.path());
    let image = image(scratch.path());
    let mut boot_ids = BTreeSet::new();
    for number in 1..=20 {
        let mut cell = host.start(spec(&image, scratch.path().join("disk"), StartMode::Clone)).await.unwrap();
        // The kernel makes its boot id of random bytes when it is first asked, which is after the birth.
        let (boot_id, _link) = born(&mut cell, number).await;
        assert!(boot_ids.insert(boot_id.clone()), "two clones have {boot_id}");
        assert_eq!(cell.stop(Duration::ZERO).await, CellEnd::Killed);
    }
}
