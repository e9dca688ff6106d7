//! The gRPC service: who gets a certificate, of how many at a time.

use super::{
    metrics::{Metrics, RefusalLabels},
    refusal::Refusal,
};
use crate::{
    credential::{CheckToken, ProvenWorkload},
    index::{Index, ObjectName},
    issuer::{Certified, Issuer, PodBinding, SigningRequest},
};
use conduit_model::{
    TrustDomain,
    wire::identity::{
        CertifyRequest, CertifyResponse,
        identity_server::{Identity as Service, IdentityServer},
    },
};
use futures::Stream;
use std::{io, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, watch},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::server::Connected};

/// Longest request, in bytes: a signing request with whatever a proxy could need in it.
const MAX_REQUEST: usize = 16 * 1024;
/// Longest headers of a call, in bytes. A token is a thousand or two.
const MAX_HEADERS: u32 = 32 * 1024;
/// Calls that a connection may have at a time.
const CALLS_PER_CONNECTION: u32 = 4;
/// How long a connection may stay, before its client has to connect again: it needs one call a day.
const CONNECTION_AGE: Duration = Duration::from_secs(60);
/// How long what is under way may take after that.
const CONNECTION_GRACE: Duration = Duration::from_secs(15);

/// How the service treats proxies and what it gives them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How long a certificate is valid.
    pub lifetime: time::Duration,
    /// Calls at a time; more are told to come again.
    pub calls_max: usize,
    /// How long one may take: the API server checks tokens.
    pub timeout: Duration,
}

/// What the service needs to know of the world.
pub struct Parts {
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
    /// Who checks tokens.
    pub credentials: Arc<dyn CheckToken>,
    /// What signs; nothing before it is known.
    pub issuer: watch::Receiver<Option<Arc<Issuer>>>,
    /// What is known of pods.
    pub index: Index,
    /// The wall clock.
    pub now: fn() -> OffsetDateTime,
}

/// The identity service of a process. Clones are handles of the same.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    parts: Parts,
    settings: Settings,
    metrics: Metrics,
    calls: Semaphore,
    closing: CancellationToken,
}

impl Identity {
    /// A service that takes no new calls once `closing` is cancelled.
    pub fn new(parts: Parts, settings: Settings, metrics: Metrics, closing: CancellationToken) -> Self {
        let calls = Semaphore::new(settings.calls_max);
        Self(Arc::new(Inner { parts, settings, metrics, calls, closing }))
    }

    /// Serves connections that were accepted elsewhere, with TLS. Ends when the service closes and every call has ended.
    ///
    /// # Errors
    ///
    /// The transport's, where it cannot serve at all.
    pub async fn serve<C>(&self, incoming: impl Stream<Item = io::Result<C>>) -> Result<(), tonic::transport::Error>
    where
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        tonic::transport::Server::builder()
            .timeout(self.0.settings.timeout)
            .max_concurrent_streams(CALLS_PER_CONNECTION)
            .http2_max_header_list_size(MAX_HEADERS)
            .max_connection_age(CONNECTION_AGE)
            .max_connection_age_grace(CONNECTION_GRACE)
            .add_service(IdentityServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .serve_with_incoming_shutdown(incoming, self.0.closing.cancelled())
            .await
    }

    /// Who asks, and the certificate for that; a refusal comes with the workload where it is known.
    async fn decide(&self, request: Request<CertifyRequest>) -> Result<Issued, (Option<ProvenWorkload>, Refusal)> {
        let Inner { parts, calls, .. } = &*self.0;
        let _turn = calls.try_acquire().map_err(|_| (None, Refusal::TooManyCalls))?;
        let token = bearer(&request).ok_or((None, Refusal::NoToken))?;
        let workload = parts.credentials.check(token).await.map_err(|error| (None, error.into()))?;
        match self.certify(&workload, &request.get_ref().signing_request) {
            Ok((certified, issuer)) => Ok(Issued { workload, certified, issuer }),
            Err(refusal) => Err((Some(workload), refusal)),
        }
    }

    fn certify(&self, workload: &ProvenWorkload, request: &[u8]) -> Result<(Certified, Arc<Issuer>), Refusal> {
        let Inner { parts, settings, .. } = &*self.0;
        let id = parts.trust_domain.identity(workload.namespace(), workload.service_account());
        let request = SigningRequest::parse(request)?;
        if self.known_otherwise(workload) {
            return Err(Refusal::OtherServiceAccount(id));
        }
        let issuer = parts.issuer.borrow().clone().ok_or(Refusal::NoIssuer)?;
        let pod = PodBinding { pod: workload.pod().to_owned(), uid: workload.pod_uid().map(ToOwned::to_owned) };
        let certified = issuer.certify(&request, &id, &pod, settings.lifetime, (parts.now)())?;
        Ok((certified, issuer))
    }

    /// Whether the index knows the pod, and as another service account. Who made the token has looked at that, and the
    /// index may be behind: a pod that it does not know yet is taken at the token's word.
    fn known_otherwise(&self, workload: &ProvenWorkload) -> bool {
        let view = self.0.parts.index.view();
        let pod = view.pod(&ObjectName::new(workload.namespace(), workload.pod()));
        // Manifests and lists of tokens may leave the uid out.
        let same = |uid: &str| uid.is_empty() || workload.pod_uid().is_none_or(|proven| proven == uid);
        pod.is_some_and(|pod| same(&pod.uid) && pod.workload.service_account != workload.service_account())
    }
}

/// What a proxy is given, and who it is.
struct Issued {
    workload: ProvenWorkload,
    certified: Certified,
    issuer: Arc<Issuer>,
}

#[tonic::async_trait]
impl Service for Identity {
    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        let metrics = &self.0.metrics;
        match self.decide(request).await {
            Ok(Issued { workload, certified, issuer }) => {
                metrics.issued.inc();
                tracing::debug!(
                    namespace = workload.namespace(), service_account = workload.service_account(),
                    pod = workload.pod(), not_after = %certified.not_after, "certified a workload"
                );
                Ok(Response::new(CertifyResponse {
                    certificate_chain: certified.chain.into_iter().map(Into::into).collect(),
                    trust_bundle: issuer.trust_bundle().roots().iter().map(|root| root.to_vec()).collect(),
                }))
            }
            Err((workload, refusal)) => {
                let reason = refusal.reason();
                metrics.refused.get_or_create(&RefusalLabels { reason }).inc();
                let (namespace, service_account, pod) = match &workload {
                    Some(workload) => (workload.namespace(), workload.service_account(), workload.pod()),
                    None => ("", "", ""),
                };
                tracing::warn!(namespace, service_account, pod, ?reason, %refusal, "no certificate was issued");
                Err(Status::from(&refusal))
            }
        }
    }
}

fn bearer<T>(request: &Request<T>) -> Option<&str> {
    let token = request.metadata().get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?;
    Some(token).filter(|token| !token.is_empty())
}
