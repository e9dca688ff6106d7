//! A set of endpoints that is cheap to share, to change and to compare: what changes costs by what changed, and not by how
//! many there are.
//!
//! A Service may have a thousand endpoints, of which one comes or goes, many times a second. The operator compares the set
//! with what each of its streams was sent; a proxy keeps the one that was checked, and each of its workers brings its own
//! candidates in line with the newest. So a set is a row of chunks, ordered by address and shared: a copy shares them all,
//! a change replaces one of them, and who compares two sets steps over the chunks that they share.
//!
//! # The hash
//!
//! A version must be a function of what is in the set alone, whatever way it came about, and must not take a look at all of
//! it for each change. So it is made from a sum: the SHA-256 of each endpoint, as two numbers of 128 bits, each added up
//! without carry beyond. It tells one state of a Service from another, to those who trust the operator; it is no proof
//! against somebody who may choose thousands of endpoints of a Service, who can do worse to that Service.

use crate::endpoint::Endpoint;
use prost::Message;
use sha2::{Digest, Sha256};
use std::{cmp::Ordering, fmt, net::SocketAddr, sync::Arc};

/// Most endpoints in a chunk.
const CHUNK: usize = 32;

/// Endpoints by their address.
#[derive(Clone, Default)]
pub struct EndpointSet {
    /// None is empty; ordered by address, within and among each other.
    chunks: Vec<Chunk>,
    count: usize,
    sum: Sum,
}

type Chunk = Arc<Vec<Arc<Endpoint>>>;

/// The sum of the hashes of a set's endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum([u128; 2]);

/// What makes one set another.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference<'a> {
    /// Endpoints that are new, or another than before at their address.
    pub add: Vec<&'a Arc<Endpoint>>,
    /// Addresses at which there is none any more.
    pub remove: Vec<SocketAddr>,
}

/// A place in a row of chunks.
struct Cursor<'a> {
    chunks: &'a [Chunk],
    index: usize,
}

impl EndpointSet {
    /// How many endpoints there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The endpoints, ordered by address.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// The endpoint at `address`.
    pub fn get(&self, address: SocketAddr) -> Option<&Arc<Endpoint>> {
        let chunk = self.chunks.get(self.chunk_of(address))?;
        chunk.binary_search_by_key(&address, |held| held.address).ok().map(|index| &chunk[index])
    }

    /// Adds an endpoint, in place of the one at its address. An equal one stays the same.
    pub fn insert(&mut self, endpoint: impl Into<Arc<Endpoint>>) {
        let endpoint = endpoint.into();
        if self.chunks.is_empty() {
            self.chunks.push(Chunk::default());
        }
        let at = self.chunk_of(endpoint.address).min(self.chunks.len() - 1);
        match self.chunks[at].binary_search_by_key(&endpoint.address, |held| held.address) {
            Ok(index) if self.chunks[at][index] == endpoint => {}
            Ok(index) => {
                self.sum.subtract(&self.chunks[at][index]);
                self.sum.add(&endpoint);
                Arc::make_mut(&mut self.chunks[at])[index] = endpoint;
            }
            Err(index) => {
                self.sum.add(&endpoint);
                self.count += 1;
                let chunk = Arc::make_mut(&mut self.chunks[at]);
                chunk.insert(index, endpoint);
                if chunk.len() > CHUNK {
                    let rest = chunk.split_off(CHUNK / 2);
                    self.chunks.insert(at + 1, Arc::new(rest));
                }
            }
        }
    }

    /// Removes the endpoint at `address`, if there is one.
    pub fn remove(&mut self, address: SocketAddr) -> Option<Arc<Endpoint>> {
        let at = self.chunk_of(address);
        let index = self.chunks.get(at)?.binary_search_by_key(&address, |held| held.address).ok()?;
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        let removed = chunk.remove(index);
        if chunk.is_empty() {
            self.chunks.remove(at);
        } else {
            self.join(at);
        }
        self.sum.subtract(&removed);
        self.count -= 1;
        Some(removed)
    }

    /// Becomes the set of `all`. What stays is the same as before.
    pub fn replace(&mut self, mut all: Vec<Endpoint>) {
        // Of several at one address the last counts, as if they were inserted one by one.
        all.sort_by_key(|endpoint| endpoint.address);
        let wanted = |address| all.binary_search_by_key(&address, |endpoint| endpoint.address).is_ok();
        let gone: Vec<_> = self.iter().map(|held| held.address).filter(|address| !wanted(*address)).collect();
        for address in gone {
            self.remove(address);
        }
        for endpoint in all {
            if self.get(endpoint.address).is_none_or(|held| **held != endpoint) {
                self.insert(endpoint);
            }
        }
    }

    /// What makes this set `new`.
    pub fn difference<'a>(&self, new: &'a Self) -> Difference<'a> {
        let mut difference = Difference::default();
        let (mut old, mut new) = (Cursor::of(self), Cursor::of(new));
        loop {
            if old.shares_chunk(&new) {
                old.next_chunk();
                new.next_chunk();
                continue;
            }
            match (old.endpoint(), new.endpoint()) {
                (None, None) => return difference,
                (Some(gone), None) => {
                    difference.remove.push(gone.address);
                    old.next();
                }
                (None, Some(added)) => {
                    difference.add.push(added);
                    new.next();
                }
                (Some(before), Some(after)) => match before.address.cmp(&after.address) {
                    Ordering::Less => {
                        difference.remove.push(before.address);
                        old.next();
                    }
                    Ordering::Greater => {
                        difference.add.push(after);
                        new.next();
                    }
                    Ordering::Equal => {
                        if before != after {
                            difference.add.push(after);
                        }
                        old.next();
                        new.next();
                    }
                },
            }
        }
    }

    /// What a version is made from: equal where the endpoints are, whatever way the sets came about.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let Sum([low, high]) = self.sum;
        let mut digest = [0; 32];
        digest[..16].copy_from_slice(&low.to_le_bytes());
        digest[16..].copy_from_slice(&high.to_le_bytes());
        digest
    }

    /// The chunk that holds `address`, if one does: the first that does not end before it.
    fn chunk_of(&self, address: SocketAddr) -> usize {
        self.chunks.partition_point(|chunk| chunk.last().is_some_and(|last| last.address < address))
    }

    /// Joins a chunk with the next where both are nearly empty, so that a set that shrinks has few.
    fn join(&mut self, at: usize) {
        if self.chunks.get(at + 1).is_some_and(|next| self.chunks[at].len() + next.len() <= CHUNK / 2) {
            let next = self.chunks.remove(at + 1);
            Arc::make_mut(&mut self.chunks[at]).extend(next.iter().cloned());
        }
    }
}

impl Sum {
    fn add(&mut self, endpoint: &Endpoint) {
        let Self([of_low, of_high]) = Self::of(endpoint);
        let Self([low, high]) = self;
        (*low, *high) = (low.wrapping_add(of_low), high.wrapping_add(of_high));
    }

    fn subtract(&mut self, endpoint: &Endpoint) {
        let Self([of_low, of_high]) = Self::of(endpoint);
        let Self([low, high]) = self;
        (*low, *high) = (low.wrapping_sub(of_low), high.wrapping_sub(of_high));
    }

    fn of(endpoint: &Endpoint) -> Self {
        let hash = Sha256::digest(endpoint.to_wire().encode_to_vec());
        let half = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | u128::from(*byte));
        Self([half(&hash[..16]), half(&hash[16..])])
    }
}

impl<'a> Cursor<'a> {
    fn of(set: &'a EndpointSet) -> Self {
        Self { chunks: &set.chunks, index: 0 }
    }

    fn endpoint(&self) -> Option<&'a Arc<Endpoint>> {
        self.chunks.first()?.get(self.index)
    }

    fn next(&mut self) {
        self.index += 1;
        if self.chunks.first().is_some_and(|chunk| chunk.len() == self.index) {
            self.next_chunk();
        }
    }

    fn next_chunk(&mut self) {
        self.chunks = &self.chunks[1..];
        self.index = 0;
    }

    /// Whether both are at the begin of one and the same chunk.
    fn shares_chunk(&self, other: &Self) -> bool {
        match (self.chunks.first(), other.chunks.first()) {
            (Some(one), Some(other_chunk)) => self.index == 0 && other.index == 0 && Arc::ptr_eq(one, other_chunk),
            _ => false,
        }
    }
}

impl PartialEq for EndpointSet {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.sum == other.sum && self.iter().eq(other.iter())
    }
}

impl Eq for EndpointSet {}

impl fmt::Debug for EndpointSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl<E: Into<Arc<Endpoint>>> FromIterator<E> for EndpointSet {
    fn from_iter<I: IntoIterator<Item = E>>(endpoints: I) -> Self {
        let mut set = Self::default();
        endpoints.into_iter().for_each(|endpoint| set.insert(endpoint));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        endpoint::EndpointProxy,
        version::Version,
        workload::{Workload, WorkloadKind},
    };
    use std::collections::BTreeMap;

    fn endpoint(number: u16, pod: &str) -> Endpoint {
        let [high, low] = number.to_be_bytes();
        Endpoint {
            address: ([10, 0, high, low], 80).into(),
            workload: Workload {
                namespace: "shop".into(),
                service_account: "web".into(),
                kind: WorkloadKind::Deployment,
                name: "web".into(),
                pod: pod.into(),
            },
            proxy: EndpointProxy::Mtls,
        }
    }

    fn of(numbers: impl IntoIterator<Item = u16>) -> EndpointSet {
        numbers.into_iter().map(|number| endpoint(number, "a")).collect()
    }

    /// Numbers that look random and are the same each time.
    fn numbers(seed: u64) -> impl Iterator<Item = u64> {
        std::iter::successors(Some(seed), |x| {
            Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
        })
        .skip(1)
        .map(|x| x >> 33)
    }

    #[test]
    fn a_set_holds_what_an_ordered_map_would_after_any_changes() {
        let (mut set, mut map) = (EndpointSet::default(), BTreeMap::new());
        for number in numbers(7).take(5_000) {
            // Grows at first, then shrinks.
            let (at, pod) = (number as u16 % 700, ["a", "b"][number as usize / 1_000 % 2]);
            let address = endpoint(at, pod).address;
            if number % 5 < if map.len() < 500 { 4 } else { 1 } {
                set.insert(endpoint(at, pod));
                map.insert(address, endpoint(at, pod));
            } else {
                assert_eq!(set.remove(address).as_deref(), map.remove(&address).as_ref());
            }
            assert_eq!((set.len(), set.get(address).map(|e| &**e)), (map.len(), map.get(&address)));
        }
        assert!(set.iter().map(|endpoint| &**endpoint).eq(map.values()));
        assert!(set.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK));
        let again: EndpointSet = map.into_values().rev().collect();
        assert_eq!((&again, Version::of_endpoints(&again)), (&set, Version::of_endpoints(&set)));
    }

    #[test]
    fn a_version_tells_sets_apart_and_not_how_they_came_about() {
        let mut set = of(0..100);
        let version = Version::of_endpoints(&set);
        set.insert(endpoint(7, "b"));
        assert_ne!(Version::of_endpoints(&set), version);
        set.insert(endpoint(7, "a"));
        assert_eq!(Version::of_endpoints(&set), version);
        set.remove(endpoint(7, "a").address);
        assert_ne!(Version::of_endpoints(&set), version);
        assert_ne!(Version::of_endpoints(&of([])), Version::of_endpoints(&of([1])));
    }

    #[test]
    fn the_difference_of_two_sets_turns_the_one_into_the_other() {
        for seed in 0..20 {
            let old: EndpointSet = numbers(seed).take(300).map(|n| endpoint(n as u16 % 500, "a")).collect();
            let mut new = old.clone();
            for number in numbers(seed + 100).take(seed as usize * 10) {
                match number % 2 {
                    0 => new.insert(endpoint(number as u16 % 500, "b")),
                    _ => drop(new.remove(endpoint(number as u16 % 500, "a").address)),
                }
            }
            let mut turned = old.clone();
            let Difference { add, remove } = old.difference(&new);
            remove.into_iter().for_each(|address| drop(turned.remove(address)));
            add.into_iter().for_each(|endpoint| turned.insert(endpoint.clone()));
            assert_eq!(turned, new);
        }
    }

    #[test]
    fn one_change_of_a_thousand_replaces_one_chunk_and_is_the_whole_difference() {
        let old = of(0..1000);
        let mut new = old.clone();
        new.insert(endpoint(500, "b"));
        let shared = new.chunks.iter().filter(|chunk| old.chunks.iter().any(|held| Arc::ptr_eq(held, chunk))).count();
        assert_eq!(shared, old.chunks.len() - 1);
        let added = Arc::new(endpoint(500, "b"));
        assert_eq!(old.difference(&new), Difference { add: vec![&added], remove: Vec::new() });
    }

    #[test]
    fn what_a_whole_set_leaves_as_it_was_stays_the_same() {
        let old = of(0..100);
        let mut new = old.clone();
        new.replace((50..150).map(|number| endpoint(number, "a")).collect());
        assert_eq!(new, of(50..150));
        let kept = |set: &EndpointSet| set.get(endpoint(70, "a").address).cloned().unwrap();
        assert!(Arc::ptr_eq(&kept(&old), &kept(&new)));
    }
}
