//! What is known of outbound destinations. `discovery` fills it on the control thread, workers read it.
//!
//! A destination is the original address of a connection that the application opened. The first connection to one
//! creates it here and announces it to `discovery`, which subscribes to it and writes what the operator answers. A
//! connection holds its destination ([`Held`]); one that nobody holds for a while is removed again by `discovery`, so
//! that memory follows what the pod calls, not the size of the mesh.
//!
//! The directory has a bound: an application that scans a network must not fill the proxy's memory. Beyond it,
//! destinations are not subscribed to, and stay unknown.
//!
//! # What is done with the unknown
//!
//! Of an address that no operator has spoken of, a proxy cannot say whether a peer of the mesh is there. To pass bytes
//! through keeps applications working while the operator is away, and is what a proxy does that has been told so
//! ([`conduit_model::Inbound::unknown_destinations`], a part of its own configuration): unless a policy requires mutual TLS of
//! all that the workload calls, as then whoever could keep the operator from answering could have plaintext sent.
//!
//! A proxy that has never been told what holds does not know whether there is such a policy, and refuses what it does not
//! know. It is a matter of the first second: a connection that comes before waits for the proxy's own configuration as long
//! as for the destination's, and an operator that gives no configuration gives no certificate either, without which a
//! proxy is not ready, and the containers beside it are not started. Once told, a proxy keeps to it for good.

use super::own::Own;
use arc_swap::{ArcSwapOption, Guard};
use conduit_model::{EndpointSet, EndpointUpdate, Forward, Outbound, OutboundTlsMode};
use std::{
    collections::HashMap,
    net::SocketAddr,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// Most destinations that are subscribed to at once. Far above what a pod calls, and, with the proxy's own target, below
/// the 10,000 that an operator takes on one stream.
pub const MAX_DESTINATIONS: usize = 8_192;

/// Every destination that is in use or was until lately.
#[derive(Debug)]
pub struct Directory {
    destinations: Mutex<HashMap<SocketAddr, Arc<Destination>>>,
    wanted: mpsc::UnboundedSender<SocketAddr>,
    online: watch::Sender<bool>,
    own: Arc<Own>,
    start: Instant,
}

/// One destination, and what is known of it.
#[derive(Debug)]
pub struct Destination {
    address: SocketAddr,
    config: ArcSwapOption<Outbound>,
    endpoints: ArcSwapOption<EndpointSet>,
    /// Counts what was applied, for those who wait.
    changes: watch::Sender<u64>,
    uses: AtomicUsize,
    /// When the last use ended, in milliseconds since the directory's start.
    last_used: AtomicU64,
    removed: AtomicBool,
    start: Instant,
}

/// A destination in use: it is not removed while this is held.
#[derive(Debug)]
pub struct Held(Arc<Destination>);

impl Directory {
    /// An empty directory of the proxy that is told `own`, and the addresses that come to be wanted, each to be subscribed
    /// to. The queue needs no bound of its own: an address is in it once per time that it enters the directory, which has
    /// one.
    pub fn new(own: Arc<Own>) -> (Arc<Self>, mpsc::UnboundedReceiver<SocketAddr>) {
        let (wanted, rx) = mpsc::unbounded_channel();
        let destinations = Mutex::default();
        // Until an attempt to reach an operator has failed, one is hoped for.
        let online = watch::Sender::new(true);
        (Arc::new(Self { destinations, wanted, online, own, start: Instant::now() }), rx)
    }

    /// Says whether an operator answers now. While none does, a connection does not wait to be told of its destination;
    /// while one does, the first connection waits for its answer. So it does until an attempt to reach one has failed: an
    /// application's first connections may be those that it keeps for life, and they come at once.
    pub fn set_online(&self, online: bool) {
        self.online.send_if_modified(|was| std::mem::replace(was, online) != online);
    }

    /// The destination at `address`; created and announced as wanted if it is new.
    pub fn destination(&self, address: SocketAddr) -> Held {
        let mut destinations = self.lock();
        if let Some(known) = destinations.get(&address) {
            return Held::new(known);
        }
        let new = Arc::new(Destination::new(address, self.start));
        if destinations.len() < MAX_DESTINATIONS {
            destinations.insert(address, new.clone());
            // Without a receiver discovery has ended, and the process with it.
            let _ = self.wanted.send(address);
        } else {
            new.removed.store(true, Ordering::Relaxed);
        }
        Held::new(&new)
    }

    /// What holds for destinations of which nothing is known.
    pub fn unknown_destinations(&self) -> OutboundTlsMode {
        self.own.unknown_destinations().unwrap_or(OutboundTlsMode::Require)
    }

    /// What to do with connections to `destination`: what the operator said, waiting for its first answer at most
    /// `within`; where there is none, [`Outbound::unknown`] as the proxy has been told, waiting at most as long to be.
    pub async fn known(&self, destination: &Destination, within: Duration) -> Arc<Outbound> {
        if let Some(config) = destination.ready() {
            return config;
        }
        let mut changes = destination.changes.subscribe();
        let told = async {
            loop {
                if let Some(config) = destination.ready() {
                    return Some(config);
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::select! {
            biased;
            Some(config) = told => config,
            () = self.nothing_comes(destination) => self.unknown(),
            () = tokio::time::sleep(within) => self.unknown(),
        }
    }

    /// Waits until nobody is to be expected to speak of `destination`, and the proxy has been told what holds then.
    async fn nothing_comes(&self, destination: &Destination) {
        if !destination.is_removed() {
            // The sender is this one's own, and lives.
            let _ = self.online.subscribe().wait_for(|online| !online).await;
        }
        self.own.known().await;
    }

    fn unknown(&self) -> Arc<Outbound> {
        Arc::new(Outbound::unknown(self.unknown_destinations()))
    }

    /// Every destination in the directory: what to subscribe to after a reconnect, and what `/config` shows.
    pub fn all(&self) -> Vec<Arc<Destination>> {
        self.lock().values().cloned().collect()
    }

    /// The destination at `address`, if it is in the directory. Does not announce or hold it.
    pub fn get(&self, address: SocketAddr) -> Option<Arc<Destination>> {
        self.lock().get(&address).cloned()
    }

    /// Addresses that nothing has used for at least `unused`.
    pub fn idle(&self, unused: Duration) -> Vec<SocketAddr> {
        self.lock().values().filter(|destination| destination.unused_for(unused)).map(|d| d.address).collect()
    }

    /// Removes the destination at `address` if nothing uses it; whether it is gone.
    pub fn remove(&self, address: SocketAddr) -> bool {
        let mut destinations = self.lock();
        let Some(destination) = destinations.get(&address) else { return true };
        if destination.uses.load(Ordering::Acquire) > 0 {
            return false;
        }
        destination.removed.store(true, Ordering::Release);
        destinations.remove(&address);
        if destinations.len() * 4 <= destinations.capacity() {
            destinations.shrink_to_fit();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Destination>>> {
        // Nothing panics while holding it, and a map is never left half changed.
        self.destinations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Destination {
    fn new(address: SocketAddr, start: Instant) -> Self {
        Self {
            address,
            config: ArcSwapOption::empty(),
            endpoints: ArcSwapOption::empty(),
            changes: watch::Sender::new(0),
            uses: AtomicUsize::new(0),
            last_used: AtomicU64::new(0),
            removed: AtomicBool::new(false),
            start,
        }
    }

    /// The address that the application connects to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the operator's newest configuration.
    pub fn apply_config(&self, config: Arc<Outbound>) {
        self.config.store(Some(config));
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Takes a change of the endpoints. Only one task may apply changes to a destination.
    pub fn apply_endpoints(&self, update: EndpointUpdate) {
        let mut endpoints = self.endpoints.load_full().unwrap_or_default();
        update.apply(Arc::make_mut(&mut endpoints));
        self.replace_endpoints(endpoints);
    }

    /// Takes the endpoints as they are now. What did not change is shared with those before.
    pub fn replace_endpoints(&self, endpoints: Arc<EndpointSet>) {
        self.endpoints.store(Some(endpoints));
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// The configuration, once one is known.
    pub fn config(&self) -> Option<Arc<Outbound>> {
        self.config.load_full()
    }

    /// The endpoints, once they are known.
    pub fn endpoints(&self) -> Option<Arc<EndpointSet>> {
        self.endpoints.load_full()
    }

    /// How many connections use the destination now.
    pub fn uses(&self) -> usize {
        self.uses.load(Ordering::Relaxed)
    }

    /// The configuration without counting a reference, for one look.
    pub(crate) fn peek_config(&self) -> Guard<Option<Arc<Outbound>>> {
        self.config.load()
    }

    /// The endpoints without counting a reference, for one look.
    pub(crate) fn peek_endpoints(&self) -> Guard<Option<Arc<EndpointSet>>> {
        self.endpoints.load()
    }

    /// Whether the directory has let go of the destination, so that nobody updates it any more.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// The configuration, if all that it needs is known.
    fn ready(&self) -> Option<Arc<Outbound>> {
        let config = self.config()?;
        (config.forward != Forward::Balance || self.peek_endpoints().is_some()).then_some(config)
    }

    fn unused_for(&self, unused: Duration) -> bool {
        let since = Duration::from_millis(self.last_used.load(Ordering::Relaxed));
        self.uses.load(Ordering::Acquire) == 0 && self.start.elapsed().saturating_sub(since) >= unused
    }
}

impl Held {
    fn new(destination: &Arc<Destination>) -> Self {
        destination.uses.fetch_add(1, Ordering::AcqRel);
        Self(destination.clone())
    }

    /// The destination itself, not held.
    pub(crate) fn shared(&self) -> &Arc<Destination> {
        &self.0
    }
}

impl Deref for Held {
    type Target = Destination;

    fn deref(&self) -> &Destination {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Not for five hundred million years does this overflow.
        self.0.last_used.store(self.0.start.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.0.uses.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conduit_model::{Endpoint, EndpointProxy, Inbound, Workload, WorkloadKind};
    use futures::FutureExt;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn endpoint(text: &str) -> Endpoint {
        let workload = Workload {
            namespace: "shop".into(),
            service_account: "web".into(),
            kind: WorkloadKind::Deployment,
            name: "web".into(),
            pod: "web-1".into(),
        };
        Endpoint { address: address(text), workload, proxy: EndpointProxy::Mtls }
    }

    /// A directory of a proxy that has been told to pass through what it does not know.
    fn told() -> (Arc<Directory>, mpsc::UnboundedReceiver<SocketAddr>) {
        let own = Own::new();
        own.apply(Arc::new(Inbound::of(endpoint("10.0.0.9:80").workload)));
        Directory::new(own)
    }

    fn balanced() -> Arc<Outbound> {
        Arc::new(Outbound { forward: Forward::Balance, ..Outbound::unknown(OutboundTlsMode::Prefer) })
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_destination_passes_through_at_once_while_no_operator_answers() {
        let (directory, _wanted) = told();
        directory.set_online(false);
        let held = directory.destination(address("10.96.0.1:80"));
        let before = Instant::now();
        assert_eq!(*directory.known(&held, Duration::from_secs(1)).await, Outbound::unknown(OutboundTlsMode::Prefer));
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_was_never_told_what_holds_refuses_what_it_does_not_know() {
        let own = Own::new();
        let (directory, _wanted) = Directory::new(own.clone());
        directory.set_online(false);
        let held = directory.destination(address("10.96.0.1:80"));
        let before = Instant::now();
        let known = directory.known(&held, Duration::from_secs(1)).await;
        assert_eq!(*known, Outbound::unknown(OutboundTlsMode::Require));
        assert_eq!(before.elapsed(), Duration::from_secs(1), "it is waited to be told");

        let tell = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            own.apply(Arc::new(Inbound::of(endpoint("10.0.0.9:80").workload)));
        };
        let before = Instant::now();
        let (known, ()) = tokio::join!(directory.known(&held, Duration::from_secs(1)), tell);
        assert_eq!(*known, Outbound::unknown(OutboundTlsMode::Prefer));
        assert_eq!(before.elapsed(), Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn what_policy_requires_of_all_destinations_holds_for_the_unknown_too() {
        let own = Own::new();
        let told = Inbound::of(endpoint("10.0.0.9:80").workload);
        own.apply(Arc::new(Inbound { unknown_destinations: OutboundTlsMode::Require, ..told }));
        let (directory, _wanted) = Directory::new(own);
        directory.set_online(false);
        let held = directory.destination(address("10.96.0.1:80"));
        let known = directory.known(&held, Duration::from_secs(1)).await;
        assert_eq!(*known, Outbound::unknown(OutboundTlsMode::Require));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_comes_before_the_operator_could_be_reached_waits_for_it() {
        let (directory, _wanted) = told();
        let held = directory.destination(address("10.96.0.1:80"));
        let reach = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            directory.set_online(true);
            held.apply_config(balanced());
            held.apply_endpoints(EndpointUpdate::Whole(vec![endpoint("10.0.0.1:80")]));
        };
        let (config, ()) = tokio::join!(directory.known(&held, Duration::from_secs(1)), reach);
        assert_eq!(config, balanced());

        let (directory, _wanted) = told();
        let held = directory.destination(address("10.96.0.1:80"));
        let fail = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            directory.set_online(false);
        };
        let before = Instant::now();
        let (config, ()) = tokio::join!(directory.known(&held, Duration::from_secs(1)), fail);
        assert_eq!(
            (&*config, before.elapsed()),
            (&Outbound::unknown(OutboundTlsMode::Prefer), Duration::from_millis(100))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_connection_waits_for_configuration_and_endpoints_but_not_for_ever() {
        let (directory, mut wanted) = told();
        directory.set_online(true);
        let held = directory.destination(address("10.96.0.1:80"));
        assert_eq!(wanted.try_recv(), Ok(address("10.96.0.1:80")));
        let before = Instant::now();
        assert_eq!(*directory.known(&held, Duration::from_secs(1)).await, Outbound::unknown(OutboundTlsMode::Prefer));
        assert_eq!(before.elapsed(), Duration::from_secs(1));

        held.apply_config(balanced());
        let tell = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            held.apply_endpoints(EndpointUpdate::Whole(vec![endpoint("10.0.0.1:80")]));
        };
        let before = Instant::now();
        let (config, ()) = tokio::join!(directory.known(&held, Duration::from_secs(1)), tell);
        assert_eq!(config, balanced());
        assert_eq!(before.elapsed(), Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_pass_through_when_the_operator_is_lost() {
        let (directory, _wanted) = told();
        directory.set_online(true);
        let held = directory.destination(address("10.96.0.1:80"));
        let lose = async { directory.set_online(false) };
        let before = Instant::now();
        let (config, ()) = tokio::join!(directory.known(&held, Duration::from_secs(1)), lose);
        assert_eq!((&*config, before.elapsed()), (&Outbound::unknown(OutboundTlsMode::Prefer), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_destination_is_removed_only_once_nothing_has_used_it_for_a_while() {
        let (directory, mut wanted) = told();
        let at = address("10.96.0.1:80");
        let (one, other) = (directory.destination(at), directory.destination(at));
        assert_eq!((wanted.try_recv(), wanted.try_recv().is_err()), (Ok(at), true), "announced once");
        tokio::time::advance(Duration::from_secs(60)).await;
        drop(one);
        assert!(directory.idle(Duration::ZERO).is_empty());
        assert!(!directory.remove(at));
        drop(other);
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(directory.idle(Duration::from_secs(30)).is_empty());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(directory.idle(Duration::from_secs(30)), vec![at]);
        assert!(directory.remove(at));
        let again = directory.destination(at);
        assert_eq!((wanted.try_recv(), again.uses()), (Ok(at), 1), "wanted again");
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_bound_destinations_stay_unknown_and_are_not_announced() {
        let (directory, mut wanted) = told();
        for i in 0..MAX_DESTINATIONS {
            directory.destination(SocketAddr::from(([10, 1, (i >> 8) as u8, i as u8], 80)));
            wanted.try_recv().unwrap();
        }
        let one_more = directory.destination(address("10.2.0.1:80"));
        let known = directory.known(&one_more, Duration::from_secs(1)).now_or_never();
        assert_eq!(known.as_deref(), Some(&Outbound::unknown(OutboundTlsMode::Prefer)), "without a wait");
        assert!(wanted.try_recv().is_err());
        assert_eq!(directory.all().len(), MAX_DESTINATIONS);
    }

    #[test]
    fn endpoints_change_one_by_one_or_as_a_whole() {
        let (directory, _wanted) = told();
        let held = directory.destination(address("10.96.0.1:80"));
        let addresses = |held: &Held| held.endpoints().unwrap().iter().map(|e| e.address).collect::<Vec<_>>();
        held.apply_endpoints(EndpointUpdate::Whole(vec![endpoint("10.0.0.1:80"), endpoint("10.0.0.2:80")]));
        let kept = held.endpoints().unwrap().get(address("10.0.0.2:80")).unwrap().clone();
        held.apply_endpoints(EndpointUpdate::Change {
            add: vec![endpoint("10.0.0.3:80")],
            remove: vec![address("10.0.0.1:80")],
        });
        assert_eq!(addresses(&held), vec![address("10.0.0.2:80"), address("10.0.0.3:80")]);
        let stays = held.endpoints().unwrap().get(address("10.0.0.2:80")).unwrap().clone();
        assert!(Arc::ptr_eq(&kept, &stays), "what stays is the same");
        held.apply_endpoints(EndpointUpdate::Whole(Vec::new()));
        assert!(held.endpoints().unwrap().is_empty());
    }
}
