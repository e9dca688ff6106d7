//! Elects one replica among several by a Lease, as Kubernetes' own controllers do.
//!
//! Who holds the Lease has a [`Leader`] to show for it. What needs a single writer takes one as an argument, and is
//! dropped where it stands when the Lease is lost. That comes well before another can take it: a leader that cannot
//! renew gives up after [`RENEW_DEADLINE`], others wait for [`LEASE_DURATION`]. How long nobody has renewed is measured
//! on each replica's own clock, so that clocks need not agree. A Lease does not fence: a request of the old leader's
//! that is on its way can still arrive.

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, api::PostParams};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long a Lease is good for after its last renewal.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long a leader tries to renew before it gives up.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between two attempts.
pub const RETRY: Duration = Duration::from_secs(2);

/// Proof that this replica holds the Lease.
#[derive(Debug)]
pub struct Leader(());

/// One replica's part in the election.
#[derive(Clone, Debug)]
pub struct Election {
    /// Where the Lease is.
    pub leases: Api<Lease>,
    /// Its name.
    pub name: String,
    /// Who this replica is; different from every other's, such as the pod's name.
    pub identity: String,
    /// The clock that the Lease's times are written from.
    pub now: fn() -> Timestamp,
}

/// The state in which a Lease was seen first, and when.
#[derive(Debug)]
struct Seen {
    version: Option<String>,
    at: Instant,
}

impl Election {
    /// Runs `lead` whenever this replica leads, and gives the Lease back when closing.
    pub async fn run<F>(self, closing: CancellationToken, lead: impl Fn(Leader) -> F)
    where
        F: Future<Output = ()>,
    {
        loop {
            let Some(mut lease) = closing.run_until_cancelled(self.acquire()).await else { return };
            tracing::info!(lease = self.name, identity = self.identity, "this replica leads");
            tokio::select! {
                biased;
                () = closing.cancelled() => {
                    self.release(lease).await;
                    return;
                }
                () = self.keep(&mut lease) => {
                    tracing::warn!(lease = self.name, identity = self.identity, "this replica no longer leads");
                }
                () = lead(Leader(())) => self.release(lease).await,
            }
        }
    }

    /// Waits until the Lease is this replica's.
    async fn acquire(&self) -> Lease {
        let mut seen = None;
        loop {
            match timeout(RENEW_DEADLINE, self.try_acquire(&mut seen)).await {
                Ok(Ok(Some(lease))) => return lease,
                Ok(Ok(None)) => {}
                Ok(Err(error)) if is_conflict(&error) => {}
                Ok(Err(error)) => tracing::warn!(lease = self.name, %error, "the Lease cannot be taken"),
                Err(_) => tracing::warn!(lease = self.name, "the API server does not answer about the Lease"),
            }
            sleep(RETRY).await;
        }
    }

    async fn try_acquire(&self, seen: &mut Option<Seen>) -> kube::Result<Option<Lease>> {
        let Some(lease) = self.leases.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: None };
            return self.leases.create(&PostParams::default(), &self.renewed(lease)).await.map(Some);
        };
        let version = lease.metadata.resource_version.clone();
        let unchanged = match seen {
            Some(seen) if seen.version == version => seen.at.elapsed(),
            _ => {
                *seen = Some(Seen { version, at: Instant::now() });
                Duration::ZERO
            }
        };
        if !may_take(lease.spec.as_ref(), &self.identity, unchanged) {
            return Ok(None);
        }
        self.leases.replace(&self.name, &PostParams::default(), &self.renewed(lease)).await.map(Some)
    }

    /// Renews the Lease again and again; ends when it is lost.
    async fn keep(&self, lease: &mut Lease) {
        loop {
            sleep(RETRY).await;
            match timeout(RENEW_DEADLINE, self.renew(lease.clone())).await {
                Ok(Some(renewed)) => *lease = renewed,
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Tries to renew until it works; none where another has taken the Lease.
    async fn renew(&self, mut lease: Lease) -> Option<Lease> {
        loop {
            match self.leases.replace(&self.name, &PostParams::default(), &self.renewed(lease.clone())).await {
                Ok(renewed) => return Some(renewed),
                Err(error) => {
                    tracing::warn!(lease = self.name, %error, "the Lease could not be renewed");
                    // Somebody may have annotated it, or taken it; or this replica's last renewal arrived after all.
                    if let Ok(current) = self.leases.get(&self.name).await {
                        let holder = current.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
                        if holder != Some(self.identity.as_str()) {
                            return None;
                        }
                        lease = current;
                    }
                }
            }
            sleep(RETRY).await;
        }
    }

    /// Gives the Lease back, so that the next leader need not wait. What cannot be given back runs out.
    async fn release(&self, mut lease: Lease) {
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime((self.now)()));
        let parameters = PostParams::default();
        let given = self.leases.replace(&self.name, &parameters, &lease);
        if let Ok(Err(error)) = timeout(RETRY, given).await {
            tracing::warn!(lease = self.name, %error, "the Lease could not be given back and runs out");
        }
    }

    fn renewed(&self, mut lease: Lease) -> Lease {
        let now = MicroTime((self.now)());
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
            spec.holder_identity = Some(self.identity.clone());
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |transitions| transitions + 1));
        }
        spec.lease_duration_seconds = i32::try_from(LEASE_DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        lease
    }
}

/// Whether a Lease that has not changed for so long may be taken.
fn may_take(spec: Option<&LeaseSpec>, identity: &str, unchanged: Duration) -> bool {
    let Some(spec) = spec else { return true };
    let duration = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    match spec.holder_identity.as_deref() {
        None | Some("") => true,
        Some(holder) if holder == identity => true,
        Some(_) => unchanged >= duration.map_or(LEASE_DURATION, Duration::from_secs),
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::status::fake::FakeApi;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    use tokio_util::task::AbortOnDropHandle;

    #[test]
    fn a_lease_is_taken_if_it_is_free_or_ones_own_or_has_run_out() {
        let held = |holder: &str| LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        };
        for (spec, unchanged, expected) in [
            (None, 0, true),
            (Some(LeaseSpec::default()), 0, true),
            (Some(held("")), 0, true),
            (Some(held("me")), 0, true),
            (Some(held("other")), 14, false),
            (Some(held("other")), 15, true),
        ] {
            assert_eq!(may_take(spec.as_ref(), "me", Duration::from_secs(unchanged)), expected, "{spec:?} {unchanged}");
        }
    }

    /// A replica that counts while it leads.
    struct Replica {
        leading: Arc<AtomicUsize>,
        closing: CancellationToken,
        running: AbortOnDropHandle<()>,
    }

    fn replica(api: &FakeApi, identity: &str) -> Replica {
        let election = Election {
            leases: Api::namespaced(api.client(), "conduit"),
            name: "conduit-operator".into(),
            identity: identity.into(),
            now: || Timestamp::UNIX_EPOCH,
        };
        let (leading, closing) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let (counter, stop) = (Arc::clone(&leading), closing.clone());
        let running = tokio::spawn(async move {
            let lead = |_| async {
                let _leading = Leading::new(&counter);
                std::future::pending::<()>().await;
            };
            election.run(stop, lead).await;
        });
        Replica { leading, closing, running: AbortOnDropHandle::new(running) }
    }

    struct Leading<'a>(&'a AtomicUsize);

    impl<'a> Leading<'a> {
        fn new(counter: &'a AtomicUsize) -> Self {
            counter.fetch_add(1, Ordering::SeqCst);
            Self(counter)
        }
    }

    impl Drop for Leading<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    impl Replica {
        fn leads(&self) -> bool {
            self.leading.load(Ordering::SeqCst) == 1
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_replica_leads_and_another_follows_when_it_gives_the_lease_back() {
        let api = FakeApi::default();
        let one = replica(&api, "one");
        sleep(Duration::from_secs(1)).await;
        let two = replica(&api, "two");
        sleep(Duration::from_secs(60)).await;
        assert_eq!((one.leads(), two.leads()), (true, false));
        one.closing.cancel();
        sleep(RETRY + Duration::from_secs(1)).await;
        assert_eq!((one.leads(), two.leads()), (false, true));
        one.running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_is_gone_is_followed_when_its_lease_has_run_out() {
        let api = FakeApi::default();
        let one = replica(&api, "one");
        sleep(Duration::from_secs(1)).await;
        let two = replica(&api, "two");
        sleep(Duration::from_secs(5)).await;
        drop(one);
        sleep(Duration::from_secs(10)).await;
        assert!(!two.leads());
        sleep(Duration::from_secs(10)).await;
        assert!(two.leads());
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_cannot_renew_stops_before_another_can_begin() {
        let api = FakeApi::default();
        let one = replica(&api, "one");
        sleep(Duration::from_secs(1)).await;
        assert!(one.leads());
        api.fail(true);
        sleep(RETRY + RENEW_DEADLINE).await;
        assert!(!one.leads());
        api.fail(false);
        sleep(RETRY + RETRY).await;
        assert!(one.leads());
    }
}
