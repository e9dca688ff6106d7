//! How many latencies fell into which bucket, and the quantiles that this allows to tell.
//!
//! A quantile is interpolated within its bucket as Prometheus' `histogram_quantile` does: values are taken to be spread
//! evenly between the bucket's bounds, the lowest bucket begins at 0, and of the bucket without an upper bound only its
//! lower one is known. It must not know where the counts come from.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Counts by the upper bound of their bucket, each counted once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Histogram(BTreeMap<Bound, f64>);

#[derive(Clone, Copy, Debug)]
struct Bound(f64);

impl Histogram {
    /// From cumulative counts, as they are exported: each is of all values not above its bound.
    pub(crate) fn from_cumulative(counts: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let cumulative: BTreeMap<_, _> = counts.into_iter().map(|(bound, count)| (Bound(bound), count)).collect();
        let mut below = 0.0;
        let single = cumulative.into_iter().map(|(bound, count)| {
            // Scraped while it is written to, a higher bucket may lag by a few.
            let own = f64::max(count - below, 0.0);
            below = f64::max(below, count);
            (bound, own)
        });
        Self(single.collect())
    }

    /// Counts the values of another one too.
    pub(crate) fn add(&mut self, other: &Self) {
        for (bound, count) in &other.0 {
            *self.0.entry(*bound).or_default() += count;
        }
    }

    /// What was counted since `earlier`; all of it where any bucket holds less than then, because then it began anew.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = |bound| earlier.0.get(bound).copied().unwrap_or(0.0);
        if self.0.iter().any(|(bound, count)| *count < before(bound)) {
            return self.clone();
        }
        Self(self.0.iter().map(|(bound, count)| (*bound, count - before(bound))).collect())
    }

    /// The value that `quantile` (0 to 1) of what was counted does not exceed; `None` where nothing was.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<f64> {
        let total: f64 = self.0.values().sum();
        if total <= 0.0 {
            return None;
        }
        let rank = quantile * total;
        let (mut below, mut lower) = (0.0, 0.0);
        for (Bound(upper), count) in &self.0 {
            if *count > 0.0 && below + count >= rank {
                let within = (rank - below).max(0.0) / count;
                return Some(if upper.is_finite() { lower + (upper - lower) * within } else { lower });
            }
            below += count;
            lower = *upper;
        }
        Some(lower)
    }
}

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Bound {}

impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bound {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(counts: &[(f64, f64)]) -> Histogram {
        Histogram::from_cumulative(counts.iter().copied())
    }

    #[test]
    fn a_quantile_is_interpolated_within_its_bucket() {
        let spread = histogram(&[(10.0, 0.0), (20.0, 100.0), (f64::INFINITY, 100.0)]);
        assert_eq!(spread.quantile(0.5), Some(15.0));
        assert_eq!(spread.quantile(0.99), Some(19.9));
        assert_eq!(spread.quantile(1.0), Some(20.0));
    }

    #[test]
    fn the_lowest_bucket_begins_at_zero() {
        assert_eq!(histogram(&[(1.0, 4.0), (f64::INFINITY, 4.0)]).quantile(0.5), Some(0.5));
    }

    #[test]
    fn above_the_last_bound_only_that_bound_is_known() {
        assert_eq!(histogram(&[(1.0, 1.0), (50.0, 1.0), (f64::INFINITY, 10.0)]).quantile(0.99), Some(50.0));
    }

    #[test]
    fn of_nothing_there_is_no_quantile() {
        assert_eq!(histogram(&[(1.0, 0.0), (f64::INFINITY, 0.0)]).quantile(0.5), None);
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn the_difference_is_of_this_window_alone() {
        let before = histogram(&[(10.0, 1000.0), (20.0, 1000.0)]);
        let after = histogram(&[(10.0, 1000.0), (20.0, 1010.0)]);
        assert_eq!(after.since(&before).quantile(0.5), Some(15.0));
    }

    #[test]
    fn one_that_began_anew_counts_whole() {
        let before = histogram(&[(10.0, 1000.0), (20.0, 1000.0)]);
        let after = histogram(&[(10.0, 5.0), (20.0, 5.0)]);
        assert_eq!(after.since(&before), after);
    }

    #[test]
    fn the_quantiles_of_several_are_of_all_their_values() {
        let mut sum = histogram(&[(10.0, 90.0), (20.0, 90.0)]);
        sum.add(&histogram(&[(10.0, 0.0), (20.0, 10.0)]));
        assert_eq!((sum.quantile(0.9), sum.quantile(0.95)), (Some(10.0), Some(15.0)));
    }
}
