//! How long until a harness could start: a clone and a cold boot with door, jails, disks and container, against a bare
//! boot of the same kernel up to its first word.

use cell::StartMode;

use crate::Result;
use crate::bare::Bare;
use crate::cells::Ground;
use crate::report::{Number, median};

/// Rounds; in each, every kind boots once.
const ROUNDS: usize = 5;

pub async fn run(ground: &mut Ground) -> Result<Vec<Number>> {
    let isolation = ground.ready().await?;
    let (mut bare, mut clone, mut cold) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let machine = Bare::boot(ground, isolation).await?;
        bare.push(machine.took.as_secs_f64());
        machine.stop().await?;
        for (start, times) in [(StartMode::Clone, &mut clone), (StartMode::Cold, &mut cold)] {
            let cell = ground.cell(start).await?;
            times.push(cell.took.as_secs_f64());
            cell.stop().await;
        }
        let last = |times: &[f64]| times.last().copied().unwrap_or_default();
        eprintln!(
            "bench: boot {round}/{ROUNDS}: bare {:.2} s, clone {:.2} s, cold {:.2} s",
            last(&bare),
            last(&clone),
            last(&cold)
        );
    }
    let (bare, clone, cold) = (median(bare), median(clone), median(cold));
    let number = |name, ours| Number::against(name, "s", ours, "bare boot", bare);
    Ok(vec![
        number("clone to harness-ready", clone).at_most(0.3),
        number("cold boot to harness-ready", cold).at_most(1.2),
    ])
}
