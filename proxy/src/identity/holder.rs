//! The proxy's identity as all its threads share it: the credentials of now, swapped whole, and how getting them goes.

use super::{
    bundle::TrustBundle,
    credentials::{Credentials, CredentialsError},
    tls::{Clock, system_clock},
};
use arc_swap::ArcSwapOption;
use conduit_model::TrustDomain;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
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
    /// How often credentials were replaced, for a certificate or for a bundle.
    pub swaps: u64,
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

    /// The trust domain of the mesh.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// By what clock certificates are valid.
    pub fn clock(&self) -> &Clock {
        &self.clock
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
        self.progress.send_modify(|progress| {
            progress.certificates += 1;
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

    /// Notes why no certificate could be got; whether that is news.
    pub fn failed(&self, reason: &str) -> bool {
        self.progress.send_if_modified(|progress| {
            let news = progress.failure.as_deref() != Some(reason);
            if news {
                progress.failure = Some(reason.to_owned());
            }
            news
        })
    }
}

/// What can be shown: no key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (current, progress) = (self.credentials(), self.progress.borrow().clone());
        f.debug_struct("Identity").field("current", &current).field("progress", &progress).finish_non_exhaustive()
    }
}
