//! Whether a process grows.
//!
//! The first quarter of the time is for warming up: pools fill, an allocator takes what it will keep. Of the rest, the lower
//! quartile of the first third is compared with that of the last: bursts lift the rest, a leak lifts that too. It grows with the
//! exchanges, of which there are as many in both. Descriptors may have grown by a tenth and 16, memory by a tenth and 1 MiB,
//! which is less than one descriptor or 100 bytes for each of ten thousand exchanges would make. What is open when all is
//! over is told beside what was open before, and may be 32 more.

use crate::measure::Usage;
use anyhow::Result;

/// What may be added to the first quartile, beside a tenth.
const DESCRIPTORS: f64 = 16.0;
/// In KiB.
const MEMORY: f64 = 1024.0;
/// How many descriptors more than before may be open afterwards.
const LEFT_OPEN: u64 = 32;

/// A process that must not grow, and what it held at each look.
#[derive(Debug)]
pub(super) struct Watched {
    /// What it is called.
    pub(super) name: String,
    /// Its process id.
    pub(super) pid: u32,
    before: Usage,
    looks: Vec<Usage>,
}

impl Watched {
    /// One that was not looked at yet.
    pub(super) fn new(name: impl Into<String>, pid: u32) -> Self {
        Self { name: name.into(), pid, before: Usage::default(), looks: Vec::new() }
    }

    /// Notes what it holds before the traffic.
    pub(super) fn begin(&mut self) -> Result<()> {
        self.before = Usage::of(self.pid)?;
        Ok(())
    }

    /// Notes what it holds.
    pub(super) fn look(&mut self, usage: Usage) {
        self.looks.push(usage);
    }
}

/// Prints what each held, and gives what is wrong with it.
pub(super) fn verdicts(watched: &mut [Watched]) -> Result<Vec<String>> {
    println!("{:<20} {:>36} {:>36}", "", "descriptors", "resident KiB");
    println!("{0:<20} {1:>8} {2:>8} {3:>8} {4:>9} {1:>8} {2:>8} {3:>8} {4:>9}", "", "before", "early", "late", "after");
    let mut faults = Vec::new();
    for process in watched {
        let after = Usage::of(process.pid)?;
        let [descriptors, resident] = [|usage: &Usage| usage.descriptors, |usage: &Usage| usage.resident]
            .map(|of| Windows::of(&process.looks.iter().map(of).collect::<Vec<_>>()));
        let Watched { name, before, .. } = &process;
        println!(
            "{name:<20} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8} {:>8} {:>9}",
            before.descriptors,
            descriptors.early,
            descriptors.late,
            after.descriptors,
            before.resident,
            resident.early,
            resident.late,
            after.resident
        );
        if descriptors.grew(DESCRIPTORS) {
            faults.push(format!("{name}: descriptors grew from {} to {}", descriptors.early, descriptors.late));
        }
        if resident.grew(MEMORY) {
            faults.push(format!("{name}: memory grew from {} to {} KiB", resident.early, resident.late));
        }
        if after.descriptors > before.descriptors + LEFT_OPEN {
            let (after, before) = (after.descriptors, before.descriptors);
            faults.push(format!("{name}: {after} descriptors are open afterwards, {before} were before"));
        }
    }
    Ok(faults)
}

/// Lower quartiles of two windows.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Windows {
    early: u64,
    late: u64,
}

impl Windows {
    fn of(looks: &[u64]) -> Self {
        let warm = &looks[looks.len() / 4..];
        let third = warm.len().div_ceil(3);
        let quartile = |values: &[u64]| {
            let mut sorted = values.to_vec();
            sorted.sort_unstable();
            sorted.get(sorted.len() / 4).copied().unwrap_or_default()
        };
        Self { early: quartile(&warm[..third]), late: quartile(&warm[warm.len() - third..]) }
    }

    fn grew(self, allowed: f64) -> bool {
        self.late as f64 > self.early as f64 * 1.1 + allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_while_it_warms_up_is_no_growth() {
        let looks: Vec<u64> = (0..25).map(|look| look * 100).chain(std::iter::repeat_n(2500, 75)).collect();
        assert_eq!(Windows::of(&looks), Windows { early: 2500, late: 2500 });
    }

    #[test]
    fn a_peak_is_no_growth_and_a_steady_rise_is() {
        let mut looks = vec![100; 100];
        looks[76..90].fill(100_000);
        assert!(!Windows::of(&looks).grew(DESCRIPTORS));
        let rising: Vec<u64> = (0..100).map(|look| 100 + look).collect();
        assert!(Windows::of(&rising).grew(DESCRIPTORS));
    }

    #[test]
    fn a_tenth_and_a_little_are_allowed() {
        assert!(!Windows { early: 10_000, late: 12_000 }.grew(MEMORY));
        assert!(Windows { early: 10_000, late: 12_100 }.grew(MEMORY));
    }

    #[test]
    fn nothing_looked_at_has_not_grown() {
        assert!(!Windows::of(&[]).grew(0.0));
    }
}
