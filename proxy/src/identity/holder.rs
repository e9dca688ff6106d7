//! The proxy's identity as all its threads share it: the credentials of now, swapped whole, and how getting them goes.

use super::{
    bundle::TrustBundle,
    credentials::{Credentials, CredentialsError},
    tls::{Clock, system_clock},
    verify::system_time,
};
use arc_swap::ArcSwapOption;
use conduit_model::TrustDomain;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::watch;

/// Who this proxy is. The workers read it for each new connection; the control thread writes it.
pub struct Identity {
    domain: TrustDomain,
    clock: Clock,
    current: ArcSwapOption<Credentials>,
    /// Written under `writing`, and told after `current` was.
    progress: watch::Sender<Progress>,
    /// The newest bundle that the operator streamed. Held while `current` is replaced, so that no change is lost.
    streamed: Mutex<Option<Arc<TrustBundle>>>,
}

/// How getting certificates goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Certificates that were taken so far.
    pub certificates: u64,
    /// When the last of them was.
    pub certified: Option<SystemTime>,
    /// How often credentials were replaced, for a certificate or for a bundle.
    pub swaps: u64,
    /// How often the operator refused the one that it was shown.
    pub refusals: u64,
    /// Attempts to get a certificate that failed.
    pub failures: u64,
    /// Why the last attempt to get one failed; none where it succeeded, or where there was none yet.
    pub failure: Option<String>,
}

impl Identity {
    /// A workload of `domain` that has no certificate yet.
    pub fn new(domain: TrustDomain) -> Arc<Self> {
        Self::with_clock(domain, system_clock())
    }

    /// The same, by another clock.
    pub fn with_clock(domain: TrustDomain, clock: Clock) -> Arc<Self> {
        let (current, progress) = (ArcSwapOption::empty(), watch::Sender::new(Progress::default()));
        Arc::new(Self { domain, clock, current, progress, streamed: Mutex::new(None) })
    }

    /// The credentials of now; none until the first certificate has come.
    pub fn credentials(&self) -> Option<Arc<Credentials>> {
        self.current.load_full()
    }

    /// The credentials of now, if their certificate is valid; otherwise in words what is missing.
    ///
    /// # Errors
    /// There are none yet, or their time is over.
    pub fn valid_credentials(&self) -> Result<Arc<Credentials>, &'static str> {
        match self.credentials() {
            None => Err("no certificate yet"),
            Some(credentials) if credentials.is_expired(self.now()) => Err("the certificate has expired"),
            Some(credentials) => Ok(credentials),
        }
    }

    /// The trust domain of the mesh.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// By what clock certificates are valid.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What that clock shows; 1970 where it cannot tell, in which case every handshake fails by itself.
    pub(super) fn now(&self) -> SystemTime {
        self.clock.current_time().map_or(UNIX_EPOCH, system_time)
    }

    /// How getting certificates goes, and every change of it.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Takes a new certificate, with the bundle that came with it.
    ///
    /// The stream tells of changes of the bundle when they happen, and whoever issued the certificate may lag behind: what
    /// was streamed stays in force where the certificate leads to it.
    ///
    /// # Errors
    /// The cryptographic library fails.
    pub fn set(&self, credentials: Credentials) -> Result<(), CredentialsError> {
        let streamed = self.streamed.lock().unwrap_or_else(PoisonError::into_inner);
        let credentials = match &*streamed {
            Some(bundle) if bundle != credentials.bundle() => {
                let with_streamed = credentials.with_bundle(bundle.clone())?;
                if with_streamed.verify_own().is_ok() { with_streamed } else { credentials }
            }
            Some(_) | None => credentials,
        };
        self.current.store(Some(Arc::new(credentials)));
        let now = self.now();
        self.progress.send_modify(|progress| {
            progress.certificates += 1;
            progress.certified = Some(now);
            progress.swaps += 1;
            progress.failure = None;
        });
        Ok(())
    }

    /// Takes the bundle that the operator streamed. New connections use it; open ones go on.
    ///
    /// # Errors
    /// The cryptographic library fails.
    pub fn trust(&self, bundle: Arc<TrustBundle>) -> Result<(), CredentialsError> {
        let mut streamed = self.streamed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = self.credentials()
            && *current.bundle() != bundle
        {
            self.current.store(Some(Arc::new(current.with_bundle(bundle.clone())?)));
            self.progress.send_modify(|progress| progress.swaps += 1);
        }
        *streamed = Some(bundle);
        Ok(())
    }

    /// Notes that the operator refuses the certificate, as it does once its root is not trusted any more.
    pub(crate) fn refused(&self) {
        self.progress.send_modify(|progress| progress.refusals += 1);
    }

    /// Notes why no certificate could be got; whether that is another reason than before.
    pub(crate) fn failed(&self, reason: &str) -> bool {
        let mut news = true;
        self.progress.send_modify(|progress| {
            progress.failures += 1;
            news = progress.failure.replace(reason.to_owned()).as_deref() != Some(reason);
        });
        news
    }
}

/// What can be shown: no key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (current, progress) = (self.credentials(), self.progress.borrow().clone());
        f.debug_struct("Identity").field("current", &current).field("progress", &progress).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fake::{Authority, bundle};

    #[test]
    fn a_bundle_replaces_the_credentials_only_where_it_is_another() {
        let mesh = Authority::new();
        let identity = mesh.identity("web");
        let first = identity.credentials().unwrap();
        identity.trust(mesh.bundle()).unwrap();
        assert!(Arc::ptr_eq(&first, &identity.credentials().unwrap()));
        let both = bundle(&[&mesh, &mesh.successor()]);
        identity.trust(both.clone()).unwrap();
        let second = identity.credentials().unwrap();
        assert_eq!((second.bundle(), second.chain()), (&both, first.chain()));
        assert_eq!(identity.progress().borrow().swaps, 2);
    }

    #[test]
    fn what_was_streamed_stays_in_force_unless_the_new_certificate_does_not_lead_to_it() {
        let (mesh, later) = (Authority::new(), Authority::new());
        let identity = Identity::with_clock(mesh.domain.clone(), mesh.clock());
        let both = bundle(&[&mesh, &mesh.successor()]);
        identity.trust(both.clone()).unwrap();
        assert!(identity.credentials().is_none(), "a bundle alone proves nothing");
        identity.set(mesh.make(mesh.request("web"), mesh.bundle())).unwrap();
        assert_eq!(identity.credentials().unwrap().bundle(), &both);
        identity.set(later.make(later.request("web"), later.bundle())).unwrap();
        assert_eq!(identity.credentials().unwrap().bundle(), &later.bundle());
    }
}
