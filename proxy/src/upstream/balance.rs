//! The choice among a destination's endpoints: of two taken at random, the one that costs less.
//!
//! Two at random rather than the best of all: every worker of every proxy decides by itself, and if all chose the best
//! they would all choose the same, until it is the worst. Two choices spread almost as well as knowing everything, and
//! cost the same for three endpoints and three thousand. What an endpoint costs: see [`super::ewma`].

use super::{candidate::Candidate, directory::EndpointSet, ewma::Ewma};
use conduit_model::Endpoint;
use std::{collections::HashMap, net::SocketAddr, rc::Rc, sync::Arc};
use tokio::time::Instant;

/// The endpoints of one destination on one worker.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    /// What the candidates were made from.
    endpoints: Option<Arc<EndpointSet>>,
    candidates: Vec<(Arc<Endpoint>, Rc<Candidate>)>,
}

impl Balancer {
    /// Brings the candidates in line with `endpoints`, if those have changed. A candidate whose endpoint did not change
    /// keeps its connections and its load; one that is gone closes its idle connections, and is not chosen again.
    pub(crate) fn apply(
        &mut self,
        endpoints: &Arc<EndpointSet>,
        now: Instant,
        mut make: impl FnMut(&Endpoint, Ewma) -> Rc<Candidate>,
    ) {
        if self.endpoints.as_ref().is_some_and(|held| Arc::ptr_eq(held, endpoints)) {
            return;
        }
        let cold = Ewma::among(self.candidates.iter().map(|(_, candidate)| candidate.load()), now);
        let mut old: HashMap<_, _> = self.candidates.drain(..).map(|(e, c)| (e.address, (e, c))).collect();
        self.candidates = endpoints
            .values()
            .map(|endpoint| match old.remove(&endpoint.address) {
                Some((held, candidate)) if held == *endpoint => (endpoint.clone(), candidate),
                Some((_, replaced)) => {
                    replaced.connections.retire();
                    (endpoint.clone(), make(endpoint, cold))
                }
                None => (endpoint.clone(), make(endpoint, cold)),
            })
            .collect();
        old.into_values().for_each(|(_, gone)| gone.connections.retire());
        self.endpoints = Some(endpoints.clone());
    }

    /// Lets go of all candidates: what they have idle is closed, and none is chosen again.
    pub(crate) fn clear(&mut self) {
        self.candidates.drain(..).for_each(|(_, gone)| gone.connections.retire());
        self.endpoints = None;
    }

    /// One endpoint that was not `tried`; none where all were. One that policy refuses only where it refuses all of them, to
    /// say so: others serve while the pods of a workload are being meshed one by one.
    pub(crate) fn pick(&self, tried: &[SocketAddr], now: Instant) -> Option<Rc<Candidate>> {
        let candidates = &self.candidates;
        let untried = |candidate: &&Rc<Candidate>| !tried.contains(&candidate.address());
        let usable = |candidate: &&Rc<Candidate>| untried(candidate) && !candidate.connections.are_refused();
        let one = two_of(candidates.len())
            .into_iter()
            .flatten()
            .map(|index| &candidates[index].1)
            .filter(usable)
            .min_by(|a, b| a.cost(now).total_cmp(&b.cost(now)));
        // Few were tried, so this is rare.
        let any_other = || fastrand::choice(self.all().filter(usable).collect::<Vec<_>>());
        one.or_else(any_other).or_else(|| self.all().find(untried)).cloned()
    }

    fn all(&self) -> impl Iterator<Item = &Rc<Candidate>> {
        self.candidates.iter().map(|(_, candidate)| candidate)
    }
}

/// Two different indices below `length`, as far as there are.
fn two_of(length: usize) -> [Option<usize>; 2] {
    match length {
        0 => [None, None],
        1 => [Some(0), None],
        _ => {
            let first = fastrand::usize(..length);
            let second = fastrand::usize(..length - 1);
            [Some(first), Some(if second < first { second } else { second + 1 })]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        outcome::Failure,
        record::{
            Metrics,
            labels::{Direction, Labels, Peer},
            request::HttpSeries,
            tcp::TcpSeries,
        },
        upstream::{Connections, Connector, Security},
    };
    use conduit_model::{EndpointProxy, Workload, WorkloadKind};
    use std::{collections::BTreeMap, time::Duration};

    const MS: Duration = Duration::from_millis(1);

    fn set(addresses: &[&str]) -> Arc<EndpointSet> {
        let workload = Workload {
            namespace: "shop".into(),
            service_account: "web".into(),
            kind: WorkloadKind::Deployment,
            name: "web".into(),
            pod: "web-1".into(),
        };
        let endpoint = |address: &&str| {
            let address = address.parse().unwrap();
            (address, Arc::new(Endpoint { address, workload: workload.clone(), proxy: EndpointProxy::Mtls }))
        };
        Arc::new(addresses.iter().map(endpoint).collect())
    }

    fn candidate(endpoint: &Endpoint, load: Ewma) -> Rc<Candidate> {
        secured(endpoint, load, Security::Plaintext)
    }

    fn secured(endpoint: &Endpoint, load: Ewma, security: Security) -> Rc<Candidate> {
        let metrics = Metrics::new();
        let labels = Labels::direction(Direction::Outbound);
        let tcp = TcpSeries::new(&metrics, Peer::Destination, &labels);
        let connector = Connector { connect_timeout: MS, idle_timeout: MS };
        let connections = Connections::secured(endpoint.address, connector, tcp, security);
        Candidate::new(connections, Rc::new(HttpSeries::new(&metrics.http, labels)), load)
    }

    fn balancer(addresses: &[&str], now: Instant) -> Balancer {
        let mut balancer = Balancer::default();
        balancer.apply(&set(addresses), now, candidate);
        balancer
    }

    fn spread(balancer: &Balancer, picks: usize, now: Instant) -> BTreeMap<String, usize> {
        let mut spread = BTreeMap::new();
        for _ in 0..picks {
            *spread.entry(balancer.pick(&[], now).unwrap().address().to_string()).or_default() += 1;
        }
        spread
    }

    #[test]
    fn equal_endpoints_get_equal_shares_and_a_slow_one_little() {
        fastrand::seed(7);
        let now = Instant::now();
        let balancer = balancer(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"], now);
        let equal = spread(&balancer, 3000, now);
        assert!(equal.values().all(|count| (900..1100).contains(count)), "{equal:?}");
        balancer.candidates[0].1.answered(50 * MS, now);
        let unequal = spread(&balancer, 3000, now);
        assert_eq!(unequal.get("10.0.0.1:80"), None, "{unequal:?}");
        let later = now + Duration::from_secs(60);
        balancer.candidates[1..].iter().for_each(|(_, candidate)| candidate.answered(MS, later));
        let spread = spread(&balancer, 3000, later);
        assert!(spread["10.0.0.1:80"] > 900, "it is tried again once the peak has faded: {spread:?}");
    }

    #[test]
    fn open_requests_count_against_an_endpoint_until_they_end() {
        let now = Instant::now();
        let balancer = balancer(&["10.0.0.1:80", "10.0.0.2:80"], now);
        let open = balancer.candidates[0].1.pending();
        assert_eq!(spread(&balancer, 100, now).keys().collect::<Vec<_>>(), ["10.0.0.2:80"]);
        drop(open);
        assert_eq!(spread(&balancer, 100, now).len(), 2);
    }

    #[test]
    fn an_endpoint_that_hangs_draws_no_requests_however_many_the_others_have() {
        let start = Instant::now();
        let balancer = balancer(&["10.0.0.1:80", "10.0.0.2:80"], start);
        let [hangs, busy] = [0, 1].map(|index| &balancer.candidates[index].1);
        let hung = (hangs.pending(), hangs.waiting(start));
        let carried: Vec<_> = (0..50).map(|_| busy.pending()).collect();
        for second in 1..=120 {
            let now = start + Duration::from_secs(second);
            busy.waiting(now - 10 * MS).answered(now);
            assert_eq!(spread(&balancer, 20, now).keys().collect::<Vec<_>>(), ["10.0.0.2:80"], "after {second} s");
        }
        drop((hung, carried));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_are_given_up_unanswered_make_an_endpoint_slow() {
        let balancer = balancer(&["10.0.0.1:80", "10.0.0.2:80"], Instant::now());
        let waiting = balancer.candidates[0].1.waiting(Instant::now());
        tokio::time::advance(300 * MS).await;
        drop(waiting);
        let now = Instant::now();
        assert_eq!(balancer.candidates[0].1.cost(now), 300e6);
        assert_eq!(spread(&balancer, 20, now).keys().collect::<Vec<_>>(), ["10.0.0.2:80"]);
    }

    #[test]
    fn an_answer_ends_the_silence_of_those_that_still_wait() {
        let start = Instant::now();
        let balancer = balancer(&["10.0.0.1:80"], start);
        let candidate = &balancer.candidates[0].1;
        let (_waits, other) = (candidate.waiting(start), candidate.waiting(start));
        assert_eq!(candidate.cost(start + 400 * MS), 400e6);
        other.answered(start + 2 * MS);
        assert_eq!(candidate.cost(start + 402 * MS), 400e6);
    }

    #[test]
    fn what_a_client_does_wrong_is_not_held_against_an_endpoint() {
        let start = Instant::now();
        let balancer = balancer(&["10.0.0.1:80"], start);
        let candidate = &balancer.candidates[0].1;
        for failure in [Failure::RequestInvalid, Failure::RequestBroken] {
            candidate.waiting(start).failed(failure, start);
            assert_eq!(candidate.cost(start), 1e6, "{failure:?}");
        }
        candidate.waiting(start).failed(Failure::ResponseBroken, start);
        assert_eq!(candidate.cost(start), 250e6);
    }

    #[test]
    fn what_was_tried_is_not_picked_again() {
        let now = Instant::now();
        let balancer = balancer(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"], now);
        let mut tried = Vec::new();
        while let Some(candidate) = balancer.pick(&tried, now) {
            assert!(!tried.contains(&candidate.address()));
            tried.push(candidate.address());
        }
        assert_eq!(tried.len(), 3);
    }

    #[test]
    fn what_policy_refuses_is_picked_only_where_it_refuses_all() {
        let now = Instant::now();
        let usable: SocketAddr = "10.0.0.3:80".parse().unwrap();
        let make = |endpoint: &Endpoint, load| match endpoint.address == usable {
            true => candidate(endpoint, load),
            false => secured(endpoint, load, Security::Refused),
        };
        let mut balancer = Balancer::default();
        balancer.apply(&set(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]), now, make);
        balancer.candidates[2].1.answered(Duration::from_secs(1), now);
        assert_eq!(spread(&balancer, 100, now).keys().collect::<Vec<_>>(), ["10.0.0.3:80"]);
        assert!(balancer.pick(&[usable], now).unwrap().connections.are_refused());
    }

    #[test]
    fn an_endpoint_that_stays_keeps_its_load_and_a_new_one_starts_as_its_peers_are() {
        let now = Instant::now();
        let mut balancer = balancer(&["10.0.0.1:80", "10.0.0.2:80"], now);
        let stays = balancer.candidates[1].1.clone();
        balancer.candidates[0].1.answered(30 * MS, now);
        stays.answered(10 * MS, now);
        balancer.apply(&set(&["10.0.0.2:80", "10.0.0.3:80"]), now, candidate);
        assert!(Rc::ptr_eq(&stays, &balancer.candidates[0].1));
        assert_eq!(balancer.candidates[1].1.cost(now), 20e6);
        assert_eq!(balancer.candidates.len(), 2);
    }

    #[test]
    fn with_no_endpoints_there_is_nothing_to_pick() {
        let now = Instant::now();
        assert!(balancer(&[], now).pick(&[], now).is_none());
    }
}
