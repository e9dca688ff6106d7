//! The peak-sensitive, exponentially weighted moving average of an endpoint's latency, by which the balancer compares.
//!
//! Why not a plain average, or the number of open requests alone? A plain average needs many requests until it sees that
//! an endpoint has become slow (a collection pause, a noisy neighbour), and each of them waits. So a latency *above* the
//! average replaces it at once (the peak), and the average comes down only with time, by `e^(-elapsed / DECAY)`,
//! however many requests there are: a busy endpoint is not forgiven sooner than a quiet one. The number of open requests
//! alone sees a slow endpoint only after requests have piled up there; multiplied with the latency ([`Ewma::cost`]) it
//! estimates how long the next request would wait.
//!
//! **An endpoint that hangs** gives no latency at all: it takes requests and never answers, and its average fades while
//! they pile up, until it costs least of all. So the silence counts as the latency that the next request would have at the
//! least: while any request waits for its answer, the time since the last answer began, or since the first of them was
//! sent, stands in for an average below it. And a request that is given up before its answer began (its client's
//! deadline, mostly) has taken at least as long as it has waited; only if that is more than the average it is told.
//!
//! **An endpoint that is not asked** costs less and less as time passes, so that one that was slow is tried again
//! after a while instead of never. With requests that take 1 ms elsewhere, one that took 100 ms is back in about
//! 20 s; when it is still slow, the first sample says so.
//!
//! **Cold start.** A new endpoint starts with the average of its peers: with zero, a pod that has just started, cold,
//! would get every request at once; with a large number it would wait to be asked. Its open requests bound the burst.
//!
//! **Failures are slow.** An endpoint that refuses connections, or answers 503 in no time, looks like the fastest of
//! all and would draw all requests to itself. So an attempt that was not answered, or answered with "not now", counts as
//! [`PENALTY`], which is far above what endpoints within a cluster take and is forgotten within half a minute.
//!
//! The average, known from Finagle, is a decision among peers, not a
//! measurement: metrics do not show it.

use std::time::Duration;
use tokio::time::Instant;

/// Time after which a peak has lost 63 % of its weight.
const DECAY: Duration = Duration::from_secs(5);

/// What a failed attempt counts as.
pub(crate) const PENALTY: Duration = Duration::from_millis(250);

/// What is assumed of the first endpoint of all.
const FIRST_GUESS: Duration = Duration::from_millis(1);

/// The average of one endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ewma {
    nanos: f64,
    at: Instant,
}

impl Ewma {
    /// The average of a new endpoint among `peers`.
    pub(crate) fn among(peers: impl Iterator<Item = Self>, now: Instant) -> Self {
        let (sum, count) = peers.fold((0.0, 0.0), |(sum, count), peer| (sum + peer.decayed(now), count + 1.0));
        let guess = FIRST_GUESS.as_nanos() as f64;
        Self { nanos: if count > 0.0 { sum / count } else { guess }, at: now }
    }

    /// Takes in one latency.
    pub(crate) fn observe(&mut self, latency: Duration, now: Instant) {
        let latency = latency.as_nanos() as f64;
        let kept = self.kept(now);
        self.nanos = if latency > self.nanos { latency } else { self.nanos * kept + latency * (1.0 - kept) };
        self.at = now;
    }

    /// Takes in an attempt that was given up after `waited`, and would have taken longer.
    pub(crate) fn observe_at_least(&mut self, waited: Duration, now: Instant) {
        if waited.as_nanos() as f64 > self.decayed(now) {
            self.observe(waited, now);
        }
    }

    /// How long a request would take, with `pending` others open at the endpoint, in arbitrary units. It has been silent
    /// for `silence` although it is waited for; zero where it is not.
    pub(crate) fn cost(&self, pending: usize, silence: Duration, now: Instant) -> f64 {
        self.decayed(now).max(silence.as_nanos() as f64) * (pending + 1) as f64
    }

    fn decayed(&self, now: Instant) -> f64 {
        self.nanos * self.kept(now)
    }

    fn kept(&self, now: Instant) -> f64 {
        (-now.saturating_duration_since(self.at).as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn after(latencies: &[Duration], at: Instant) -> Ewma {
        let mut ewma = Ewma::among(std::iter::empty(), at);
        latencies.iter().for_each(|latency| ewma.observe(*latency, at));
        ewma
    }

    fn ms(ewma: &Ewma, now: Instant) -> f64 {
        ewma.cost(0, Duration::ZERO, now) / 1e6
    }

    #[test]
    fn a_peak_is_believed_at_once_and_forgotten_with_time_not_with_requests() {
        let start = Instant::now();
        let mut ewma = after(&[MS, 100 * MS], start);
        assert_eq!(ms(&ewma, start), 100.0);
        (0..1000).for_each(|_| ewma.observe(MS, start));
        assert_eq!(ms(&ewma, start), 100.0);
        ewma.observe(MS, start + DECAY);
        assert!((37.0..38.0).contains(&ms(&ewma, start + DECAY)));
    }

    #[test]
    fn an_endpoint_that_is_not_asked_gets_cheaper_until_it_is_tried_again() {
        let start = Instant::now();
        let slow = after(&[100 * MS], start);
        assert!(ms(&slow, start + Duration::from_secs(20)) > 1.0);
        assert!(ms(&slow, start + Duration::from_secs(25)) < 1.0);
        let failed = after(&[PENALTY], start);
        assert!(ms(&failed, start + Duration::from_secs(30)) < 1.0);
    }

    #[test]
    fn open_requests_multiply_the_cost() {
        let start = Instant::now();
        let ewma = after(&[2 * MS], start);
        assert_eq!(ewma.cost(4, Duration::ZERO, start), 5.0 * ewma.cost(0, Duration::ZERO, start));
    }

    #[test]
    fn silence_counts_where_it_is_longer_than_the_average() {
        let start = Instant::now();
        let ewma = after(&[10 * MS], start);
        assert_eq!(ewma.cost(1, 5 * MS, start), 2.0 * 10e6);
        assert_eq!(ewma.cost(1, 50 * MS, start), 2.0 * 50e6);
    }

    #[test]
    fn what_was_given_up_early_makes_no_endpoint_look_fast() {
        let start = Instant::now();
        let mut ewma = after(&[100 * MS], start);
        ewma.observe_at_least(MS, start + DECAY);
        assert!((36.0..37.0).contains(&ms(&ewma, start + DECAY)));
        ewma.observe_at_least(1000 * MS, start + DECAY);
        assert_eq!(ms(&ewma, start + DECAY), 1000.0);
    }

    #[test]
    fn a_new_endpoint_starts_as_its_peers_are() {
        let start = Instant::now();
        let peers = [after(&[10 * MS], start), after(&[30 * MS], start)];
        assert_eq!(ms(&Ewma::among(peers.into_iter(), start), start), 20.0);
        assert_eq!(ms(&Ewma::among(std::iter::empty(), start), start), 1.0);
    }
}
