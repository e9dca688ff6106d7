//! The choice among a destination's endpoints: of two taken at random, the one that costs less.
//!
//! Two at random rather than the best of all: every worker of every proxy decides by itself, and if all chose the best
//! they would all choose the same, until it is the worst. Two choices spread almost as well as knowing everything, and
//! cost the same for three endpoints and three thousand. What an endpoint costs: see [`super::ewma`].

use super::{candidate::Candidate, ewma::Ewma};
use conduit_model::{Endpoint, EndpointSet};
use std::{cell::OnceCell, net::SocketAddr, rc::Rc, sync::Arc};
use tokio::time::Instant;

/// As many peers tell a new endpoint what to expect.
const SAMPLE: usize = 16;

/// The endpoints of one destination on one worker.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    /// What the places were made from.
    endpoints: Arc<EndpointSet>,
    /// One for each endpoint, ordered by address.
    places: Vec<Place>,
}

/// An endpoint, and its candidate from the first time that it is looked at: what a candidate takes is spent on those
/// endpoints alone that a worker has to do with.
#[derive(Debug)]
struct Place {
    endpoint: Arc<Endpoint>,
    candidate: OnceCell<Rc<Candidate>>,
}

impl Balancer {
    /// Brings the places in line with `endpoints`, at the cost of what differs. A candidate whose endpoint did not change
    /// keeps its connections and its load; one that is gone closes its idle connections, and is not chosen again.
    pub(crate) fn apply(&mut self, endpoints: &Arc<EndpointSet>) {
        if Arc::ptr_eq(&self.endpoints, endpoints) {
            return;
        }
        if self.places.is_empty() {
            self.places = endpoints.iter().map(Place::of).collect();
        } else {
            let difference = self.endpoints.difference(endpoints);
            for address in difference.remove {
                if let Ok(index) = self.find(address) {
                    self.places.remove(index).retire();
                }
            }
            for endpoint in difference.add {
                match self.find(endpoint.address) {
                    Ok(index) => std::mem::replace(&mut self.places[index], Place::of(endpoint)).retire(),
                    Err(index) => self.places.insert(index, Place::of(endpoint)),
                }
            }
        }
        if self.places.len() * 4 <= self.places.capacity() {
            self.places.shrink_to_fit();
        }
        self.endpoints = endpoints.clone();
    }

    /// Lets go of all candidates: what they have idle is closed, and none is chosen again.
    pub(crate) fn clear(&mut self) {
        self.places.drain(..).for_each(Place::retire);
        self.endpoints = Arc::default();
    }

    /// One endpoint that was not `tried`; none where all were. One that policy refuses only where it refuses all of them, to
    /// say so: others serve while the pods of a workload are being meshed one by one.
    pub(crate) fn pick(
        &self,
        tried: &[SocketAddr],
        now: Instant,
        make: impl Fn(&Endpoint, Ewma) -> Rc<Candidate>,
    ) -> Option<Rc<Candidate>> {
        let candidate = |place| self.candidate(place, now, &make);
        let untried = |place: &&Place| !tried.contains(&place.endpoint.address);
        let usable = |candidate: &&Rc<Candidate>| !candidate.connections.are_refused();
        let one = two_of(self.places.len())
            .into_iter()
            .flatten()
            .map(|index| &self.places[index])
            .filter(untried)
            .map(candidate)
            .filter(usable)
            .min_by(|a, b| a.cost(now).total_cmp(&b.cost(now)));
        // Few were tried, so this is rare.
        let all = || self.places.iter().filter(untried).map(candidate);
        let any_other = || fastrand::choice(all().filter(usable).collect::<Vec<_>>());
        one.or_else(any_other).or_else(|| all().next()).cloned()
    }

    /// The candidate of a place, made as its peers are if it is new.
    fn candidate<'p>(
        &'p self,
        place: &'p Place,
        now: Instant,
        make: impl Fn(&Endpoint, Ewma) -> Rc<Candidate>,
    ) -> &'p Rc<Candidate> {
        place.candidate.get_or_init(|| make(&place.endpoint, Ewma::among(self.some_loads(), now)))
    }

    /// The loads of some candidates in a row, from a place taken at random.
    fn some_loads(&self) -> impl Iterator<Item = Ewma> {
        let (before, from) = self.places.split_at(fastrand::usize(..self.places.len().max(1)).min(self.places.len()));
        let made = from.iter().chain(before).take(SAMPLE).filter_map(|place| place.candidate.get());
        made.map(|candidate| candidate.load())
    }

    /// The index of the place at `address`, or the one that it would have.
    fn find(&self, address: SocketAddr) -> Result<usize, usize> {
        self.places.binary_search_by_key(&address, |place| place.endpoint.address)
    }
}

impl Place {
    fn of(endpoint: &Arc<Endpoint>) -> Self {
        Self { endpoint: endpoint.clone(), candidate: OnceCell::new() }
    }

    fn retire(self) {
        if let Some(candidate) = self.candidate.into_inner() {
            candidate.connections.retire();
        }
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
    use std::{
        cell::Cell,
        collections::{BTreeMap, HashSet},
        time::Duration,
    };

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
            Endpoint { address, workload: workload.clone(), proxy: EndpointProxy::Mtls }
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

    fn balancer(addresses: &[&str]) -> Balancer {
        let mut balancer = Balancer::default();
        balancer.apply(&set(addresses));
        balancer
    }

    fn nth(balancer: &Balancer, index: usize, now: Instant) -> &Rc<Candidate> {
        balancer.candidate(&balancer.places[index], now, candidate)
    }

    fn spread(balancer: &Balancer, picks: usize, now: Instant) -> BTreeMap<String, usize> {
        let mut spread = BTreeMap::new();
        for _ in 0..picks {
            *spread.entry(balancer.pick(&[], now, candidate).unwrap().address().to_string()).or_default() += 1;
        }
        spread
    }

    #[test]
    fn equal_endpoints_get_equal_shares_and_a_slow_one_little() {
        fastrand::seed(7);
        let now = Instant::now();
        let balancer = balancer(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
        let equal = spread(&balancer, 3000, now);
        assert!(equal.values().all(|count| (900..1100).contains(count)), "{equal:?}");
        nth(&balancer, 0, now).answered(50 * MS, now);
        let unequal = spread(&balancer, 3000, now);
        assert_eq!(unequal.get("10.0.0.1:80"), None, "{unequal:?}");
        let later = now + Duration::from_secs(60);
        (1..3).for_each(|index| nth(&balancer, index, later).answered(MS, later));
        let spread = spread(&balancer, 3000, later);
        assert!(spread["10.0.0.1:80"] > 900, "it is tried again once the peak has faded: {spread:?}");
    }

    #[test]
    fn open_requests_count_against_an_endpoint_until_they_end() {
        let now = Instant::now();
        let balancer = balancer(&["10.0.0.1:80", "10.0.0.2:80"]);
        let open = nth(&balancer, 0, now).pending();
        assert_eq!(spread(&balancer, 100, now).keys().collect::<Vec<_>>(), ["10.0.0.2:80"]);
        drop(open);
        assert_eq!(spread(&balancer, 100, now).len(), 2);
    }

    #[test]
    fn an_endpoint_that_hangs_draws_no_requests_however_many_the_others_have() {
        let start = Instant::now();
        let balancer = balancer(&["10.0.0.1:80", "10.0.0.2:80"]);
        let [hangs, busy] = [0, 1].map(|index| nth(&balancer, index, start));
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
        let balancer = balancer(&["10.0.0.1:80", "10.0.0.2:80"]);
        let [candidate, _other] = [0, 1].map(|index| nth(&balancer, index, Instant::now()));
        let waiting = candidate.waiting(Instant::now());
        tokio::time::advance(300 * MS).await;
        drop(waiting);
        let now = Instant::now();
        assert_eq!(nth(&balancer, 0, now).cost(now), 300e6);
        assert_eq!(spread(&balancer, 20, now).keys().collect::<Vec<_>>(), ["10.0.0.2:80"]);
    }

    #[test]
    fn an_answer_ends_the_silence_of_those_that_still_wait() {
        let start = Instant::now();
        let balancer = balancer(&["10.0.0.1:80"]);
        let candidate = nth(&balancer, 0, start);
        let (_waits, other) = (candidate.waiting(start), candidate.waiting(start));
        assert_eq!(candidate.cost(start + 400 * MS), 400e6);
        other.answered(start + 2 * MS);
        assert_eq!(candidate.cost(start + 402 * MS), 400e6);
    }

    #[test]
    fn what_a_client_does_wrong_is_not_held_against_an_endpoint() {
        let start = Instant::now();
        let balancer = balancer(&["10.0.0.1:80"]);
        let candidate = nth(&balancer, 0, start);
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
        let balancer = balancer(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
        let mut tried = Vec::new();
        while let Some(candidate) = balancer.pick(&tried, now, candidate) {
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
        balancer.apply(&set(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]));
        let spread =
            |picks| (0..picks).map(|_| balancer.pick(&[], now, make).unwrap().address()).collect::<HashSet<_>>();
        balancer.candidate(&balancer.places[2], now, make).answered(Duration::from_secs(1), now);
        assert_eq!(spread(100), HashSet::from([usable]));
        assert!(balancer.pick(&[usable], now, make).unwrap().connections.are_refused());
    }

    #[test]
    fn an_endpoint_that_stays_keeps_its_load_and_a_new_one_starts_as_its_peers_are() {
        let now = Instant::now();
        let mut balancer = balancer(&["10.0.0.1:80", "10.0.0.2:80"]);
        let stays = nth(&balancer, 1, now).clone();
        nth(&balancer, 0, now).answered(30 * MS, now);
        stays.answered(10 * MS, now);
        balancer.apply(&set(&["10.0.0.2:80", "10.0.0.3:80"]));
        assert!(Rc::ptr_eq(&stays, nth(&balancer, 0, now)));
        assert_eq!(nth(&balancer, 1, now).cost(now), 10e6);
        assert_eq!(balancer.places.len(), 2);
    }

    #[test]
    fn with_no_endpoints_there_is_nothing_to_pick() {
        let now = Instant::now();
        assert!(balancer(&[]).pick(&[], now, candidate).is_none());
    }

    #[test]
    fn one_of_a_thousand_that_changes_costs_one_place_and_candidates_are_made_when_they_are_looked_at() {
        let now = Instant::now();
        let addresses: Vec<String> = (0..1000).map(|i| format!("10.0.{}.{}:80", i / 250, i % 250)).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let mut balancer = balancer(&addresses);
        let made = Cell::new(0);
        let make = |endpoint: &Endpoint, load: Ewma| {
            made.set(made.get() + 1);
            candidate(endpoint, load)
        };
        balancer.pick(&[], now, make);
        assert_eq!(made.get(), 2);
        let candidates: Vec<_> = (0..1000).map(|index| nth(&balancer, index, now).clone()).collect();
        let mut changed = EndpointSet::clone(&balancer.endpoints);
        let gone = changed.remove(addresses[500].parse().unwrap()).unwrap();
        changed.insert(Endpoint { address: "10.1.0.0:80".parse().unwrap(), ..Endpoint::clone(&gone) });
        let first = Endpoint::clone(changed.iter().next().unwrap());
        changed.insert(Endpoint { proxy: EndpointProxy::None, ..first });
        balancer.apply(&Arc::new(changed));
        let kept = balancer.places.iter().filter_map(|place| place.candidate.get());
        assert!(kept.zip(&candidates[1..500]).all(|(kept, before)| Rc::ptr_eq(kept, before)));
        assert_eq!(balancer.places.iter().filter(|place| place.candidate.get().is_some()).count(), 998);
        assert!(balancer.places.is_sorted_by_key(|place| place.endpoint.address));
    }
}
