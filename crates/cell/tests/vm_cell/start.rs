//! Real machines, from start to end: cold, cloned, side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cell::{CellEnd, StartMode};
use domain::{CellState, Isolation};

use crate::common::{born, host, image, spec};
use crate::inside::Inside;

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
async fn twenty_clones_share_no_randomness_names_or_layout() {
    let scratch = tempfile::tempdir().unwrap();
    let host = host(scratch.path());
    let image = image(scratch.path());
    let mut seen: BTreeMap<&str, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for number in 1..=20 {
        let mut cell = host.start(spec(&image, scratch.path().join("disk"), StartMode::Clone)).await.unwrap();
        let (boot_id, link) = born(&mut cell, number).await;
        let inside = Inside::enter(link).await;
        let maps = inside.run(&["cat", "/proc/self/maps"]).await;
        let starts = String::from_utf8(maps).unwrap();
        let layout: Vec<_> = starts.lines().filter_map(|line| line.split('-').next()).collect();
        assert!(layout.len() > 5, "{layout:?}");
        let facts = [
            ("boot id", boot_id.into_bytes()),
            ("random bytes", inside.run(&["head", "-c", "32", "/dev/urandom"]).await),
            ("machine id", inside.run(&["cat", "/etc/machine-id"]).await),
            ("user-space layout", layout.join(" ").into_bytes()),
        ];
        for (what, value) in facts {
            assert!(!value.is_empty(), "a clone has no {what}");
            assert!(
                seen.entry(what).or_default().insert(value.clone()),
                "two clones have the {what} {value:?}"
            );
        }
        drop(inside);
        drop(cell.stop(Duration::ZERO).await);
    }
}
