//! What one more cell costs in memory (PSS of all its processes: QEMU, door, supervisors), against a bare machine;
//! and the most that a door takes while it reads the largest request there can be.

use std::collections::BTreeMap;
use std::fs;

use cell::StartMode;

use crate::Result;
use crate::bare::Bare;
use crate::cells::{Ground, ReadyCell};
use crate::model::{Scripted, ask_inside};
use crate::report::Number;

const CELLS: usize = 20;

/// Memory that must be free for so many cells, MB.
const NEEDED: f64 = 4_000.0;

/// What this needs and the host lacks.
pub fn lacks() -> Option<String> {
    let available = field("/proc/meminfo", "MemAvailable:").unwrap_or_default();
    if available < NEEDED {
        return Some(format!("{CELLS} cells need {NEEDED} MB, and {available:.0} are free"));
    }
    let own = std::process::Command::new("id").arg("-u").output();
    let root = own.is_ok_and(|own| own.stdout == b"0\n");
    let why = "only root may look at the memory of jailed programs, which run as other users";
    (!root).then(|| why.to_owned()).or_else(crate::bare::lacks)
}

pub async fn run(ground: &mut Ground) -> Result<Vec<Number>> {
    let isolation = ground.ready().await?;
    let first = Bare::boot(ground, isolation).await?;
    let bare = descendants_pss()?;
    let second = Bare::boot(ground, isolation).await?;
    let bare_more = descendants_pss()? - bare;
    first.stop().await?;
    second.stop().await?;

    let mut cells: Vec<ReadyCell> = Vec::new();
    let mut with_first = 0.0;
    for number in 1..=CELLS {
        eprintln!("bench: cell {number}/{CELLS}");
        cells.push(ground.cell(StartMode::Clone).await?);
        if number == 1 {
            with_first = descendants_pss()?;
        }
    }
    let each = (descendants_pss()? - with_first) / (CELLS - 1) as f64;
    for cell in cells {
        cell.stop().await;
    }
    let (idle, largest) = door_peaks(ground).await?;
    let more = format!("each of the 2nd to {CELLS}th cell");
    Ok(vec![
        Number::against("first cell", "MB", with_first, "bare QEMU", bare),
        Number::against(more.clone(), "MB", each, "bare QEMU", bare).at_most(0.45),
        Number::against(more, "MB", each, "one more bare QEMU", bare_more),
        Number::against("a door's peak, reading a 30 MiB request", "MB", largest, "door at rest", idle),
    ])
}

/// The most memory a door has had at rest, and after the largest request.
async fn door_peaks(ground: &Ground) -> Result<(f64, f64)> {
    let mut cell = ground.cell(StartMode::Clone).await?;
    let provider = Scripted::serve().await?;
    provider.answer(cell.asked()?).await?;
    let idle = door_peak()?;
    ask_inside(&cell, wire::model::MAX_BYTES).await?;
    let largest = door_peak()?;
    cell.stop().await;
    Ok((idle, largest))
}

/// Of the only door there is, MB.
fn door_peak() -> Result<f64> {
    let is_door = |process: &u32| {
        let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"door")
    };
    let processes = descendants()?;
    let door = processes.iter().find(|process| is_door(process)).ok_or("there is no door")?;
    field(&format!("/proc/{door}/status"), "VmHWM:")
}

/// The proportional share of memory of all processes below this one, MB.
fn descendants_pss() -> Result<f64> {
    descendants()?.iter().map(|process| field(&format!("/proc/{process}/smaps_rollup"), "Pss:")).sum()
}

/// All processes below this one.
fn descendants() -> Result<Vec<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(process) = entry?.file_name().to_string_lossy().parse() else { continue };
        // One that has ended meanwhile counts no more.
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        children.entry(parent.unwrap_or_default()).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut open = vec![std::process::id()];
    while let Some(process) = open.pop() {
        let below = children.remove(&process).unwrap_or_default();
        found.extend(&below);
        open.extend(below);
    }
    Ok(found)
}

/// A field in kB of a file in /proc, as MB.
fn field(path: &str, name: &str) -> Result<f64> {
    let text = fs::read_to_string(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
    let kilobytes: f64 = value.ok_or_else(|| format!("`{path}` has no `{name}`"))?.trim().parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}
