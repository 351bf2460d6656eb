//! The frequency of the processor's time stamp counter, measured against the kernel's clock.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Measures for so long and returns kHz; `None` where the counter or the clock doesn't advance, or the processor has
/// none. 50 ms give about 0.01 %.
#[must_use]
pub fn measure_khz(span: Duration) -> Option<u64> {
    let start = now()?;
    let from = counter()?;
    std::thread::sleep(span);
    let nanos = now()?.checked_sub(start)?;
    let ticks = counter()?.checked_sub(from)?;
    let khz = u128::from(ticks).checked_mul(1_000_000)?.checked_div(u128::from(nanos))?;
    u64::try_from(khz).ok().filter(|khz| (100_000..100_000_000).contains(khz))
}

fn now() -> Option<u64> {
    let time = clock_gettime(ClockId::MonotonicRaw);
    u64::try_from(time.tv_sec)
        .ok()?
        .checked_mul(1_000_000_000)?
        .checked_add(u64::try_from(time.tv_nsec).ok()?)
}

#[cfg(target_arch = "x86_64")]
fn counter() -> Option<u64> {
    // SAFETY: every x86-64 processor has rdtsc, and Linux lets user space use it.
    Some(unsafe { core::arch::x86_64::_rdtsc() })
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn two_measurements_agree() {
        let first = measure_khz(Duration::from_millis(20)).unwrap();
        let second = measure_khz(Duration::from_millis(20)).unwrap();
        assert!(first.abs_diff(second) * 50 < first, "{first} and {second}");
    }
}
