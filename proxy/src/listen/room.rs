//! How many connections a listener has room for, so that whoever opens them cannot make the proxy take all the memory
//! and descriptors that there are.
//!
//! One address has a share of the room and no more, so that it alone cannot keep all others out. The share is large,
//! because behind one address there can be many: a node's, where a load balancer's clients or a whole node's pods come by
//! it.
//!
//! Where there is no room for anybody else, there is a little for those whom the pod's life hangs on: the kubelet's
//! probes. An application that is killed because somebody floods it is what the flood was for.

use super::accept::Refusal;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Connections beyond every bound that are kept for probes.
const RESERVE: usize = 64;

/// The bounds of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once.
    pub connections: usize,
    /// Of them from one address; none where each may take all.
    pub of_address: Option<usize>,
}

impl Bounds {
    /// So many connections, of which one address may take `percent`, from 1 to 100.
    pub fn shared(connections: usize, percent: u8) -> Self {
        let share = (connections as u128 * u128::from(percent) / 100) as usize;
        Self { connections, of_address: (percent < 100).then_some(share.max(1)) }
    }
}

/// The room of one direction, which all workers share.
#[derive(Debug)]
pub struct Room {
    bounds: Bounds,
    open: AtomicUsize,
    /// Of the addresses that have a connection, where there is a bound on them.
    addresses: Mutex<HashMap<IpAddr, usize>>,
}

impl Room {
    /// An empty one.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, open: AtomicUsize::new(0), addresses: Mutex::default() })
    }

    /// Takes a place for a connection from `from`, until [`Room::leave`]. `is_probe`: whether it may be one of the kubelet's.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn enter(&self, from: IpAddr, is_probe: impl Fn() -> bool) -> Result<(), Refusal> {
        let has_room =
            |taken: usize, bound: usize| taken < bound || (taken < bound.saturating_add(RESERVE) && is_probe());
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let entered = match has_room(open, self.bounds.connections) {
            true => self.enter_share(from, has_room),
            false => Err(Refusal::TooMany),
        };
        if entered.is_err() {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        entered
    }

    fn enter_share(&self, from: IpAddr, has_room: impl Fn(usize, usize) -> bool) -> Result<(), Refusal> {
        let Some(bound) = self.bounds.of_address else { return Ok(()) };
        let mut addresses = self.addresses();
        let taken = addresses.get(&from).copied().unwrap_or(0);
        if !has_room(taken, bound) {
            return Err(Refusal::TooManyOfAddress);
        }
        addresses.insert(from, taken + 1);
        Ok(())
    }

    /// Gives the place back that a connection from `from` took.
    pub(super) fn leave(&self, from: IpAddr) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if self.bounds.of_address.is_none() {
            return;
        }
        let mut addresses = self.addresses();
        match addresses.get_mut(&from) {
            Some(taken) if *taken > 1 => *taken -= 1,
            Some(_) | None => drop(addresses.remove(&from)),
        }
        // What a flood took is given back after it.
        if addresses.len() * 8 < addresses.capacity() {
            addresses.shrink_to_fit();
        }
    }

    /// Nothing panics that holds it.
    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn a_room_is_full_at_its_bound_and_has_room_again_when_one_leaves() {
        let room = Room::new(Bounds::shared(2, 100));
        let enter = |last| room.enter(address(last), || false);
        assert_eq!([enter(1), enter(1), enter(2)], [Ok(()), Ok(()), Err(Refusal::TooMany)]);
        room.leave(address(1));
        assert_eq!([enter(2), enter(1)], [Ok(()), Err(Refusal::TooMany)]);
    }

    #[test]
    fn one_address_takes_its_share_and_leaves_the_rest_to_others() {
        let room = Room::new(Bounds::shared(4, 50));
        let enter = |last| room.enter(address(last), || false);
        assert_eq!([enter(1), enter(1), enter(1)], [Ok(()), Ok(()), Err(Refusal::TooManyOfAddress)]);
        assert_eq!([enter(2), enter(3), enter(4)], [Ok(()), Ok(()), Err(Refusal::TooMany)]);
        for last in [1, 1, 2, 3] {
            room.leave(address(last));
        }
        assert_eq!((room.open.load(Ordering::Relaxed), room.addresses().capacity()), (0, 0));
    }

    #[test]
    fn a_full_room_has_a_little_left_for_probes() {
        for bounds in [Bounds::shared(1, 100), Bounds { connections: usize::MAX, of_address: Some(1) }] {
            let room = Room::new(bounds);
            room.enter(address(1), || false).unwrap();
            assert!(room.enter(address(1), || false).is_err());
            for _ in 0..RESERVE {
                room.enter(address(1), || true).unwrap();
            }
            assert!(room.enter(address(1), || true).is_err(), "and has a bound there too");
        }
    }

    #[test]
    fn a_share_is_never_nothing() {
        assert_eq!(Bounds::shared(1, 1), Bounds { connections: 1, of_address: Some(1) });
        assert_eq!(Bounds::shared(10_000, 50), Bounds { connections: 10_000, of_address: Some(5_000) });
        assert_eq!(Bounds::shared(10_000, 100).of_address, None);
    }
}
