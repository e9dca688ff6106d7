//! Counters, gauges and histograms, and families of them by labels, with a bound on how many there are.

use super::labels::Labels;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Most series of all families of a proxy together. Beyond it, whatever is new counts under `overflow="true"`.
pub const MAX_SERIES: usize = 20_000;

/// How long a series that nobody holds and that did not change is still shown.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// Upper bounds of the latency buckets in milliseconds; Linkerd's.
pub const LATENCY_BUCKETS: [u16; 25] = [
    1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1000, 2000, 3000, 4000, 5000, 10000, 20000, 30000,
    40000, 50000,
];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A number that grows and shrinks.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

/// How often a latency fell into which bucket.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One more than there are bounds, for what is above all.
    buckets: [AtomicU64; LATENCY_BUCKETS.len() + 1],
    sum_us: AtomicU64,
}

/// What a family can hold.
pub(crate) trait Metric: Default {
    /// A number that differs whenever the metric has changed.
    fn changes(&self) -> u64;
}

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number now.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn observe(&self, latency: Duration) {
        let us = latency.as_micros() as u64;
        let bucket = LATENCY_BUCKETS.partition_point(|bound| u64::from(*bound) * 1000 < us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// The sum of all latencies in milliseconds.
    pub fn sum_ms(&self) -> f64 {
        self.sum_us.load(Ordering::Relaxed) as f64 / 1000.0
    }

    /// Each bucket's upper bound in milliseconds and how many fell into it alone.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        // As the encoder writes +Inf.
        let bounds = LATENCY_BUCKETS.iter().map(|bound| f64::from(*bound)).chain([f64::MAX]);
        bounds.zip(self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)))
    }
}

impl Metric for Counter {
    fn changes(&self) -> u64 {
        self.value()
    }
}

impl Metric for Gauge {
    fn changes(&self) -> u64 {
        self.value().cast_unsigned()
    }
}

impl Metric for Histogram {
    fn changes(&self) -> u64 {
        self.count()
    }
}

/// Room for series, shared by all families.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<AtomicUsize>);

impl Room {
    pub(crate) fn new(series: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(series)))
    }

    fn take(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn give_back(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Series of one name, by their labels.
#[derive(Debug)]
pub(crate) struct Family<M> {
    series: Mutex<HashMap<Labels, Entry<M>>>,
    overflow: Arc<M>,
    room: Room,
}

#[derive(Debug)]
struct Entry<M> {
    metric: Arc<M>,
    seen: u64,
    unchanged_since: Instant,
}

impl<M: Metric> Family<M> {
    pub(crate) fn new(room: &Room) -> Self {
        Self { series: Mutex::default(), overflow: Arc::default(), room: room.clone() }
    }

    /// The series with these labels, made if it is new; the overflow series where there is no room.
    pub(crate) fn series(&self, labels: &Labels) -> Arc<M> {
        let mut series = self.lock();
        if let Some(entry) = series.get(labels) {
            return entry.metric.clone();
        }
        if !self.room.take() {
            return self.overflow.clone();
        }
        let metric = Arc::<M>::default();
        let entry = Entry { metric: metric.clone(), seen: 0, unchanged_since: Instant::now() };
        series.insert(labels.clone(), entry);
        metric
    }

    /// Forgets the series that nobody has held or changed for a while.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut series = self.lock();
        series.retain(|_, entry| {
            let changes = entry.metric.changes();
            if changes != entry.seen || Arc::strong_count(&entry.metric) > 1 {
                (entry.seen, entry.unchanged_since) = (changes, now);
            }
            let keep = now.saturating_duration_since(entry.unchanged_since) < FORGET_AFTER;
            if !keep {
                self.room.give_back();
            }
            keep
        });
        if series.len() * 4 <= series.capacity() {
            series.shrink_to_fit();
        }
    }

    /// Every series to be shown, in a fixed order.
    pub(crate) fn scrape(&self, now: Instant) -> Vec<(Labels, Arc<M>)> {
        self.sweep(now);
        let series = self.lock();
        let mut shown: Vec<_> = series.iter().map(|(labels, entry)| (labels.clone(), entry.metric.clone())).collect();
        shown.sort_by(|(one, _), (other, _)| one.cmp(other));
        if self.overflow.changes() > 0 {
            shown.push((Labels::overflow(), self.overflow.clone()));
        }
        shown
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Labels, Entry<M>>> {
        // Nothing panics while holding it, and a map is never left half changed.
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(value: &'static str) -> Labels {
        Labels::default().and("dst", value)
    }

    #[test]
    fn a_latency_falls_into_the_first_bucket_that_is_not_below_it() {
        let histogram = Histogram::default();
        for ms in [0.2, 1.0, 1.001, 60_000.0] {
            histogram.observe(Duration::from_secs_f64(ms / 1000.0));
        }
        let filled: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, vec![(1.0, 2), (2.0, 1), (f64::MAX, 1)]);
        assert_eq!((histogram.count(), histogram.sum_ms()), (4, 60_002.201));
    }

    #[test]
    fn beyond_the_bound_new_series_count_together() {
        let family = Family::<Counter>::new(&Room::new(2));
        for name in ["a", "b", "c", "d", "a"] {
            family.series(&labels(name)).increment();
        }
        let shown: Vec<_> = family.scrape(Instant::now()).into_iter().map(|(l, c)| (l, c.value())).collect();
        assert_eq!(shown, vec![(labels("a"), 2), (labels("b"), 1), (Labels::overflow(), 2)]);
    }

    #[test]
    fn a_series_is_forgotten_when_nobody_held_or_changed_it_for_ten_minutes() {
        let room = Room::new(1);
        let family = Family::<Counter>::new(&room);
        let start = Instant::now();
        let held = family.series(&labels("a"));
        assert_eq!(family.scrape(start + FORGET_AFTER * 2).len(), 1, "held");
        drop(held);
        assert_eq!(family.scrape(start + FORGET_AFTER * 3 - Duration::from_secs(1)).len(), 1);
        assert_eq!(family.scrape(start + FORGET_AFTER * 3).len(), 0);
        family.series(&labels("b")).increment();
        assert_eq!(family.scrape(start).len(), 1, "its room is free again");
    }
}
