//! What this process serves with and whom it trusts, kept equal to the issuer of the mesh.
//!
//! Each replica makes a serving certificate of its own in memory: nobody has to store its key, and none is shared. The order
//! matters when the issuer changes: first everybody here trusts what it signs, then this process serves with it.

use crate::{
    credential::{MeshClients, RootsError},
    index::Index,
    issuer::{Issuer, TrustBundle, Validity},
};
use conduit_webhook_certs::{CertificateError, ServingCertificate};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The clock is looked at this often: a wall clock may jump, and certificates end by it.
const CHECK: Duration = Duration::from_secs(3600);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps it equal.
pub struct Following {
    /// What signs; nothing before it is known.
    pub issuer: watch::Receiver<Option<Arc<Issuer>>>,
    /// Names that clients know this process by.
    pub names: BTreeSet<String>,
    /// How long a serving certificate is valid.
    pub lifetime: time::Duration,
    /// What identity and discovery serve with.
    pub serving: Arc<ServingCertificate>,
    /// Whom discovery takes connections from.
    pub clients: Arc<MeshClients>,
    /// What tells proxies whom to trust.
    pub index: Index,
    /// Who hears of the roots, in PEM.
    pub bundle: watch::Sender<Option<Arc<str>>>,
    /// Who hears until when what is served is valid.
    pub served_until: Box<dyn Fn(OffsetDateTime) + Send>,
    /// The wall clock.
    pub now: fn() -> OffsetDateTime,
}

/// What was done last, and when there is something to do again.
#[derive(Default)]
struct Followed {
    issuer: Option<Arc<Issuer>>,
    renewal: Option<OffsetDateTime>,
    failure: Option<String>,
}

/// Why this process does not serve or trust what its issuer says.
#[derive(Debug, thiserror::Error)]
enum FollowingError {
    #[error("the roots of the mesh cannot be used: {0}")]
    Roots(#[from] RootsError),
    #[error("the issuer is not valid at this time, from {} to {} only", .0.not_before, .0.not_after)]
    Issuer(Validity),
    #[error(transparent)]
    Serve(#[from] CertificateError),
}

impl Following {
    /// Keeps on until `closing`.
    pub async fn run(mut self, closing: CancellationToken) {
        let mut followed = Followed::default();
        loop {
            let wait = self.follow(&mut followed);
            tokio::select! {
                () = closing.cancelled() => return,
                changed = self.issuer.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Does what there is to do, and gives the time to wait for the next.
    fn follow(&mut self, followed: &mut Followed) -> Duration {
        let Some(issuer) = self.issuer.borrow_and_update().clone() else { return CHECK };
        let now = (self.now)();
        match self.advance(followed, &issuer, now) {
            Ok(()) => followed.failure = None,
            Err(error) => {
                // It is tried again and again, and said once.
                let error = error.to_string();
                if followed.failure.as_ref() != Some(&error) {
                    tracing::error!(%error, "identity and discovery cannot be served as they should; trying again");
                }
                followed.failure = Some(error);
                return RETRY;
            }
        }
        wait(followed.renewal, now)
    }

    fn advance(
        &self,
        followed: &mut Followed,
        issuer: &Arc<Issuer>,
        now: OffsetDateTime,
    ) -> Result<(), FollowingError> {
        if followed.issuer.as_ref() != Some(issuer) {
            let bundle = issuer.trust_bundle();
            self.clients.trust(bundle.roots())?;
            self.index.set_trust_bundle(bundle.roots().to_vec());
            self.publish(bundle);
            followed.issuer = Some(Arc::clone(issuer));
            followed.renewal = None;
        }
        if followed.renewal.is_none_or(|due| now >= due) {
            let leaf = issuer.serving(&self.names, self.lifetime, now)?;
            if leaf.not_after() <= now {
                return Err(FollowingError::Issuer(issuer.validity()));
            }
            self.serving.serve(&leaf)?;
            (self.served_until)(leaf.not_after());
            let renewal = renewal(now, leaf.not_after());
            tracing::info!(not_after = %leaf.not_after(), %renewal, "identity and discovery serve a new certificate");
            followed.renewal = Some(renewal);
        }
        Ok(())
    }

    fn publish(&self, bundle: &TrustBundle) {
        let pem = bundle.to_pem();
        self.bundle.send_if_modified(|known| {
            let changed = known.as_deref() != Some(pem.as_str());
            if changed {
                *known = Some(pem.into());
            }
            changed
        });
    }
}

/// A certificate that is issued at `now` is renewed when 70 % of its life are over.
fn renewal(now: OffsetDateTime, not_after: OffsetDateTime) -> OffsetDateTime {
    now + (not_after - now) * 7 / 10
}

fn wait(due: Option<OffsetDateTime>, now: OffsetDateTime) -> Duration {
    let left = due.map_or(CHECK, |due| Duration::try_from(due - now).unwrap_or_default());
    left.clamp(Duration::from_secs(1), CHECK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::fake::FakeMesh;
    use std::sync::Mutex;
    use time::Duration as Span;

    /// What follows nobody yet, and the ends of all that it serves with.
    fn following() -> (Following, Arc<Mutex<Vec<OffsetDateTime>>>) {
        let serving = Arc::new(ServingCertificate::default());
        let clients = MeshClients::new("cluster.local".parse().unwrap(), Arc::clone(&serving), b"h2");
        let ends: Arc<Mutex<Vec<_>>> = Arc::default();
        let told = Arc::clone(&ends);
        let following = Following {
            issuer: watch::channel(None).1,
            names: BTreeSet::from(["localhost".to_owned()]),
            lifetime: Span::hours(10),
            serving,
            clients: Arc::new(clients),
            index: Index::new("cluster.local"),
            bundle: watch::Sender::new(None),
            served_until: Box::new(move |end| told.lock().unwrap().push(end)),
            now: OffsetDateTime::now_utc,
        };
        (following, ends)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_trusted_and_served_follows_the_issuer() {
        let (mut following, _) = following();
        let (issuer, issuing) = watch::channel(None);
        following.issuer = issuing;
        let mut heard = following.bundle.subscribe();
        let (index, serving) = (following.index.clone(), Arc::clone(&following.serving));
        let closing = CancellationToken::new();
        let running = tokio::spawn(following.run(closing.clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!serving.is_loaded() && index.view().trust_bundle().is_empty());
        for mesh in [FakeMesh::new(), FakeMesh::new()] {
            issuer.send_replace(Some(Arc::clone(&mesh.issuer)));
            heard.changed().await.unwrap();
            assert_eq!(heard.borrow().as_deref(), Some(mesh.issuer.trust_bundle().to_pem().as_str()));
            assert_eq!(index.view().trust_bundle(), mesh.issuer.trust_bundle().roots());
            assert!(serving.is_loaded());
        }
        closing.cancel();
        running.await.unwrap();
    }

    #[test]
    fn a_serving_certificate_is_renewed_at_seven_tenths_of_its_life_and_when_the_issuer_changes() {
        let (one, other) = (FakeMesh::new().issuer, FakeMesh::new().issuer);
        let (following, ends) = following();
        let mut followed = Followed::default();
        let begun = OffsetDateTime::now_utc();
        // Hours since the beginning, the issuer then, and how many certificates there have been.
        for (hours, issuer, certificates) in [(0, &one, 1), (6, &one, 1), (7, &one, 2), (8, &one, 2), (8, &other, 3)] {
            following.advance(&mut followed, issuer, begun + Span::hours(hours)).unwrap();
            assert_eq!(ends.lock().unwrap().len(), certificates, "after {hours} hours");
        }
        let expected = [10, 17, 18].map(|hours| begun + Span::hours(hours));
        assert_eq!(*ends.lock().unwrap(), expected);
    }

    #[test]
    fn an_issuer_that_has_ended_serves_nothing_and_what_was_served_before_stays() {
        let issuer = FakeMesh::new().issuer;
        let (following, ends) = following();
        let mut followed = Followed::default();
        let error = following.advance(&mut followed, &issuer, issuer.validity().not_after).unwrap_err();
        assert!(error.to_string().starts_with("the issuer is not valid at this time, from "), "{error}");
        assert!(!following.serving.is_loaded() && ends.lock().unwrap().is_empty());
        assert_eq!(following.index.view().trust_bundle(), issuer.trust_bundle().roots(), "trust does not depend on it");
        following.advance(&mut followed, &issuer, OffsetDateTime::now_utc()).unwrap();
        assert!(following.serving.is_loaded());
    }

    #[test]
    fn the_wait_is_until_the_renewal_but_never_nothing_and_never_longer_than_an_hour() {
        let now = OffsetDateTime::UNIX_EPOCH;
        for (due, expected) in [
            (None, CHECK),
            (Some(now + Span::days(1)), CHECK),
            (Some(now + Span::minutes(1)), Duration::from_secs(60)),
            (Some(now - Span::days(1)), Duration::from_secs(1)),
        ] {
            assert_eq!(wait(due, now), expected);
        }
    }
}
