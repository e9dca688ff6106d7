//! What a client keeps to resume sessions (RFC 8446 section 2.2), and the configuration that goes with it.
//!
//! A resumed session is as its first handshake left it: the server presents no certificate again. So every expected
//! identity has a configuration with a verifier and a store of its own, and a ticket that one workload's server gave is
//! never offered where another is expected. All of it is dropped with the certificate and the bundle that it was made under.
//!
//! Everything is bounded, because a proxy may call any number of workloads: the identities by the most recently used, the
//! tickets of each by number and length (`crate::tls`). A ticket is opened only by the proxy that gave it, and this side offers
//! it once (RFC 8446 appendix C.4), so that connections that are opened side by side need one each, and get one each in
//! return; the tickets of a crowded address make room for those of another. The proxy that gave a ticket remembers nothing
//! of it: it would open it again for whoever has its secret, until its own key is another.

use conduit_model::SpiffeId;
use rustls::{
    ClientConfig, NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
};
use rustls_pki_types::ServerName;
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Identities whose configuration is kept.
pub(super) const IDENTITIES: usize = 32;
/// Tickets of one identity that are kept. A ticket takes about 2 KB, for it holds both chains, and 8 KB at most.
pub(super) const TICKETS: usize = 8;

/// The configurations of the identities that were called last.
#[derive(Default)]
pub(super) struct Configs(Mutex<VecDeque<(SpiffeId, Arc<ClientConfig>)>>);

impl Configs {
    /// The configuration for connections to `peer`, made anew where it is not kept.
    pub(super) fn of<E>(
        &self,
        peer: &SpiffeId,
        make: impl FnOnce() -> Result<ClientConfig, E>,
    ) -> Result<Arc<ClientConfig>, E> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match kept.iter().position(|(id, _)| id == peer).and_then(|place| kept.remove(place)) {
            Some(found) => found,
            None => (peer.clone(), Arc::new(make()?)),
        };
        let config = found.1.clone();
        kept.push_back(found);
        if kept.len() > IDENTITIES {
            kept.pop_front();
        }
        Ok(config)
    }
}

/// The tickets of one expected identity, the oldest first. Each is offered once.
#[derive(Default)]
pub(super) struct Tickets(Mutex<VecDeque<(ServerName<'static>, Tls13ClientSessionValue)>>);

/// A ticket's secret opens its session: nothing of it is shown.
impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl Tickets {
    /// Which ticket makes room for a new one: the oldest of the address that has most, among equals of the oldest.
    fn least<T>(kept: &VecDeque<(ServerName<'static>, T)>) -> Option<usize> {
        let of_address = |place: usize| kept.iter().filter(|(of, _)| *of == kept[place].0).count();
        // The last of equals is what `max_by_key` gives.
        (0..kept.len()).rev().max_by_key(|place| of_address(*place))
    }
}

impl ClientSessionStore for Tickets {
    fn insert_tls13_ticket(&self, address: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == TICKETS
            && let Some(place) = Self::least(&kept)
        {
            kept.remove(place);
        }
        kept.push_back((address, ticket));
    }

    fn take_tls13_ticket(&self, address: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The newest: what it was given under holds longest.
        let place = kept.iter().rposition(|(of, _)| of == address)?;
        kept.remove(place).map(|(_, ticket)| ticket)
    }

    // Every proxy prefers the group that every proxy offers first: there is nothing to remember.
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    // TLS 1.2 is never spoken.
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_many_tickets_makes_room_for_another_and_among_equals_the_oldest_goes() {
        let kept = |addresses: &[u8]| -> VecDeque<(ServerName<'static>, ())> {
            let name = |octet: &u8| ServerName::IpAddress(std::net::IpAddr::from([10, 0, 0, *octet]).into());
            addresses.iter().map(|octet| (name(octet), ())).collect()
        };
        assert_eq!(Tickets::least(&kept(&[1, 2, 3])), Some(0));
        assert_eq!(Tickets::least(&kept(&[1, 2, 2, 3])), Some(1));
        assert_eq!(Tickets::least(&kept(&[1, 1, 2, 2])), Some(0));
        assert_eq!(Tickets::least(&kept(&[])), None);
    }
}
