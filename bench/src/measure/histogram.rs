//! Counts of durations, from which quantiles are read. Must not know what took so long.
//!
//! Buckets are a 128th of a power of two wide, so that what is read is at most 0.8 % above what was recorded, from a
//! nanosecond to hours, in a fixed 60 KiB.

/// Width of a bucket is a power of two over two to this.
const PRECISION: u32 = 7;
const PER_POWER: usize = 1 << PRECISION;
const BUCKETS: usize = (64 - PRECISION as usize + 1) * PER_POWER;

/// Durations in nanoseconds, counted.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum: u128,
    largest: u64,
}

impl Histogram {
    /// One without counts.
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, sum: 0, largest: 0 }
    }

    /// Counts a duration.
    pub(crate) fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.sum += u128::from(value);
        self.largest = self.largest.max(value);
    }

    /// How many were counted.
    pub(crate) fn count(&self) -> u64 {
        self.total
    }

    /// Their mean; 0 of none.
    pub(crate) fn mean(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.sum as f64 / self.total as f64 }
    }

    /// The longest.
    pub(crate) fn largest(&self) -> u64 {
        self.largest
    }

    /// The least duration that this share (0 to 1) of all did not exceed; 0 of none.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let rank = ((share * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        // A bucket's upper end, so that no quantile is told better than it was.
        reached.map_or(0, |index| upper_end(index).min(self.largest))
    }
}

fn bucket(value: u64) -> usize {
    let power = (u64::BITS - value.leading_zeros()).saturating_sub(PRECISION + 1);
    power as usize * PER_POWER + (value >> power) as usize
}

fn upper_end(index: usize) -> u64 {
    let power = (index / PER_POWER).saturating_sub(1);
    let start = (index - power * PER_POWER) as u64;
    ((start + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::new();
        values.into_iter().for_each(|value| histogram.record(value));
        histogram
    }

    #[test]
    fn every_value_falls_into_a_bucket_that_ends_at_most_a_128th_above_it() {
        for power in 0..63 {
            for offset in [0, 1, 2, 77] {
                let value = (1_u64 << power) + offset;
                let end = upper_end(bucket(value));
                assert!(end >= value && end - value <= value / 128, "{value} ends at {end}");
            }
        }
    }

    #[test]
    fn small_values_are_exact_and_buckets_follow_each_other_without_a_gap() {
        for value in 0..256 {
            assert_eq!(upper_end(bucket(value)), value);
        }
        for index in 0..40 * PER_POWER {
            assert_eq!(bucket(upper_end(index)), index);
            assert_eq!(bucket(upper_end(index) + 1), index + 1);
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let histogram = of(1..=200);
        assert_eq!([0.0, 0.5, 0.99, 0.995, 1.0].map(|share| histogram.quantile(share)), [1, 100, 198, 199, 200]);
        assert_eq!((histogram.count(), histogram.mean(), histogram.largest()), (200, 100.5, 200));
    }

    #[test]
    fn a_quantile_is_never_past_the_longest() {
        assert_eq!(of([1_000_003]).quantile(0.5), 1_000_003);
    }

    #[test]
    fn nothing_has_no_quantile() {
        let nothing = Histogram::new();
        assert_eq!((nothing.quantile(0.99), nothing.mean()), (0, 0.0));
    }
}
