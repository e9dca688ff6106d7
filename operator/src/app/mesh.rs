//! Identity and discovery, which are the same in a cluster and without one: what follows the issuer, and both servers.

use super::{
    Flags,
    admin::Condition,
    listen::{bind, with_client_certificates, with_tls},
    tasks::Tasks,
};
use crate::{
    credential::{CheckToken, HandshakeRefusal, MeshClients},
    discovery::{self, Discovery},
    identity::{self, Following, Identity},
    index::Index,
    issuer::{Issuer, Lifetimes},
};
use conduit_webhook_certs::ServingCertificate;
use prometheus_client::registry::Registry;
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{net::TcpListener, sync::watch};

/// Calls for a certificate at a time. After a long absence of all operators every proxy comes at once, each again after a
/// moment; the API server is asked about fewer tokens than that at a time.
const CALLS: usize = 256;
/// How long one may take. A proxy waits no longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What differs between a cluster and folders.
pub(super) struct Parts {
    pub(super) index: Index,
    /// Who checks tokens.
    pub(super) credentials: Arc<dyn CheckToken>,
    /// What signs; nothing before it is known.
    pub(super) issuer: watch::Receiver<Option<Arc<Issuer>>>,
    pub(super) lifetimes: Lifetimes,
    /// Who hears of the roots, in PEM.
    pub(super) bundle: watch::Sender<Option<Arc<str>>>,
    /// Who hears until when what both serve with is valid.
    pub(super) served_until: Box<dyn Fn(OffsetDateTime) + Send>,
}

/// Where both are served.
pub(super) struct Listeners {
    pub(super) identity: TcpListener,
    pub(super) discovery: TcpListener,
}

/// What runs.
pub(super) struct Mesh {
    pub(super) discovery: Discovery,
    /// What has to be so before proxies can be served.
    pub(super) conditions: [Condition; 2],
}

impl Listeners {
    /// Listens on the ports that the flags say.
    ///
    /// # Errors
    ///
    /// As [`bind`].
    pub(super) async fn bind(flags: &Flags) -> anyhow::Result<Self> {
        Ok(Self {
            identity: bind(flags.listen_ip, flags.identity_port, "identity").await?,
            discovery: bind(flags.listen_ip, flags.discovery_port, "discovery").await?,
        })
    }
}

/// Starts both.
///
/// # Errors
///
/// TLS cannot be set up.
pub(super) fn start(
    tasks: &mut Tasks,
    flags: &Flags,
    registry: &mut Registry,
    listeners: Listeners,
    parts: Parts,
) -> anyhow::Result<Mesh> {
    let Parts { index, credentials, issuer, lifetimes, bundle, served_until } = parts;
    let trust_domain = &flags.identity.trust_domain;
    let serving = Arc::new(ServingCertificate::default());
    let clients = Arc::new(MeshClients::new(trust_domain.clone(), Arc::clone(&serving), b"h2"));
    let following = Following {
        issuer: issuer.clone(),
        names: flags.names(),
        lifetime: lifetimes.certificate(),
        serving: Arc::clone(&serving),
        clients: Arc::clone(&clients),
        index: index.clone(),
        bundle,
        served_until,
        now: OffsetDateTime::now_utc,
    };
    tasks.spawn("what follows the issuer", following.run(tasks.closing()));

    let metrics = identity::Metrics::default();
    metrics.register(registry);
    let certifying = identity::Parts {
        trust_domain: trust_domain.clone(),
        credentials,
        issuer: issuer.clone(),
        index: index.clone(),
        now: OffsetDateTime::now_utc,
    };
    let settings = identity::Settings { lifetime: lifetimes.certificate(), calls_max: CALLS, timeout: CALL_TIMEOUT };
    let identity = Identity::new(certifying, settings, metrics, tasks.closing());
    let incoming = with_tls(listeners.identity, Arc::clone(&serving), &[b"h2"])?;
    tasks.spawn("identity", async move {
        if let Err(error) = identity.serve(incoming).await {
            tracing::error!(%error, "identity is not served any more");
        }
    });

    let metrics = discovery::Metrics::default();
    metrics.register(registry);
    let settings = discovery::Settings::default();
    let discovery =
        Discovery::new(index, settings, metrics.clone(), tasks.closing(), OffsetDateTime::now_utc, fastrand::f64);
    let refused = move |refusal: &HandshakeRefusal| metrics.connection_refused(refusal);
    let incoming = with_client_certificates(listeners.discovery, clients, refused);
    let (compiling, answering) = (discovery.clone(), discovery.clone());
    tasks.spawn("discovery's topics", async move { compiling.run().await });
    tasks.spawn("discovery", async move {
        if let Err(error) = answering.serve(incoming).await {
            tracing::error!(%error, "discovery is not served any more");
        }
    });

    let conditions = [
        Condition::new("there is no issuer", move || issuer.borrow().is_some()),
        Condition::new("there is no serving certificate for identity and discovery", move || serving.is_loaded()),
    ];
    Ok(Mesh { discovery, conditions })
}
