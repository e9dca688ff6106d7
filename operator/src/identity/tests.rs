//! Signing requests in, certificates or refusals out, over the service itself.

use super::*;
use crate::{
    credential::fake::{FakeMesh, FakeTokens, signing_request},
    index::{Index, manifests::objects},
    issuer::{Issuer, Lifetimes, PodBinding, settle},
};
use conduit_model::wire::identity::{
    CertifyRequest, CertifyResponse, identity_client::IdentityClient, identity_server::IdentityServer,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

struct Operator {
    identity: Identity,
    issuer: watch::Sender<Option<Arc<Issuer>>>,
    index: Index,
    metrics: Metrics,
}

impl Operator {
    fn start(issuer: Option<Arc<Issuer>>, calls_max: usize) -> Self {
        let (issuer, issuing) = watch::channel(issuer);
        let index = Index::new("cluster.local");
        let metrics = Metrics::default();
        let parts = Parts {
            trust_domain: "cluster.local".parse().unwrap(),
            credentials: Arc::new(FakeTokens),
            issuer: issuing,
            index: index.clone(),
            now: OffsetDateTime::now_utc,
        };
        let settings = Settings { lifetime: Duration::HOUR, calls_max, timeout: std::time::Duration::from_secs(5) };
        let identity = Identity::new(parts, settings, metrics.clone(), CancellationToken::new());
        Self { identity, issuer, index, metrics }
    }

    async fn certify(&self, authorization: &str, signing_request: Vec<u8>) -> Result<CertifyResponse, Status> {
        let mut request = Request::new(CertifyRequest { signing_request });
        if !authorization.is_empty() {
            request.metadata_mut().insert("authorization", authorization.parse().unwrap());
        }
        let mut client = IdentityClient::new(IdentityServer::new(self.identity.clone()));
        client.certify(request).await.map(tonic::Response::into_inner)
    }

    /// Everything that was issued and refused, but for zeros.
    fn counted(&self) -> Vec<String> {
        let mut registry = Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0"));
        lines.map(|line| line.trim_start_matches("conduit_identity_certificate").to_owned()).collect()
    }
}

fn mesh() -> FakeMesh {
    FakeMesh::new()
}

fn request(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    change(&mut params);
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn named(uri: &str) -> Vec<u8> {
    request(|params| params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())])
}

#[tokio::test]
async fn a_proxy_gets_a_certificate_for_the_account_and_the_pod_of_its_token_and_for_its_own_key() {
    let mesh = mesh();
    let operator = Operator::start(Some(Arc::clone(&mesh.issuer)), 1);
    let key = KeyPair::generate().unwrap();
    let answer = operator.certify("Bearer web-1", signing_request(&key)).await.unwrap();
    assert_eq!(answer.trust_bundle, mesh.issuer.trust_bundle().roots());
    assert_eq!(answer.certificate_chain.len(), 2);
    let (_, leaf) = X509Certificate::from_der(&answer.certificate_chain[0]).unwrap();
    assert_eq!(*leaf.public_key().subject_public_key.data, *rcgen::PublicKeyData::der_bytes(&key));
    let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
    assert_eq!(names, [GeneralName::URI("spiffe://cluster.local/ns/shop/sa/web")]);
    let pod = PodBinding::from_certificate(&leaf).unwrap();
    assert_eq!((pod.pod.as_str(), pod.uid.as_deref()), ("web-1", Some("uid")));
    // Asking for one's own name by name changes nothing.
    operator.certify("Bearer web-1", named("spiffe://cluster.local/ns/shop/sa/web")).await.unwrap();
    assert_eq!(operator.counted(), ["s_issued_total 2"]);
}

#[tokio::test]
async fn whoever_may_not_have_what_they_ask_for_hears_why_and_is_counted() {
    let mesh = mesh();
    let operator = Operator::start(Some(Arc::clone(&mesh.issuer)), 1);
    let good = || request(|_| {});
    let other = "spiffe://cluster.local/ns/shop/sa/admin";
    let common_name = request(|params| params.distinguished_name.push(rcgen::DnType::CommonName, "web"));
    let host = request(|params| params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())]);
    let mut forged = good();
    *forged.last_mut().unwrap() ^= 1;
    /// Authorization, signing request, code, what is said, and how it is counted.
    type Row<'a> = (&'a str, Vec<u8>, Code, &'a str, &'a str);
    let table: [Row<'_>; 13] = [
        ("", good(), Code::Unauthenticated, "authorization: must be given", "no_token"),
        ("Basic web-1", good(), Code::Unauthenticated, "authorization: must be given", "no_token"),
        ("Bearer ", good(), Code::Unauthenticated, "authorization: must be given", "no_token"),
        ("Bearer invented", good(), Code::Unauthenticated, "the token was refused: ", "token_refused"),
        ("Bearer unchecked", good(), Code::Unavailable, "the token could not be checked: ", "token_unchecked"),
        ("Bearer web-1", Vec::new(), Code::InvalidArgument, "signing_request: ", "request"),
        ("Bearer web-1", b"garbage".to_vec(), Code::InvalidArgument, "signing_request: ", "request"),
        ("Bearer web-1", vec![0x30; 9000], Code::InvalidArgument, "signing_request: ", "request"),
        ("Bearer web-1", forged, Code::InvalidArgument, "signing_request: ", "request"),
        ("Bearer web-1", common_name, Code::InvalidArgument, "signing_request: the subject must be empty", "request"),
        ("Bearer web-1", host, Code::InvalidArgument, "signing_request: the subject alternative name", "request"),
        (
            "Bearer web-1",
            named(other),
            Code::InvalidArgument,
            "the request asks for \"spiffe://cluster.local/ns/shop/sa/admin\"",
            "request",
        ),
        (
            "Bearer web-1",
            named("spiffe://other/ns/shop/sa/web"),
            Code::InvalidArgument,
            "the request asks for ",
            "request",
        ),
    ];
    for (authorization, signing_request, code, said, reason) in table {
        let operator = Operator::start(Some(Arc::clone(&mesh.issuer)), 1);
        let status = operator.certify(authorization, signing_request).await.unwrap_err();
        assert_eq!(status.code(), code, "{}", status.message());
        assert!(status.message().starts_with(said), "{}", status.message());
        assert_eq!(operator.counted(), [format!("_requests_refused_total{{reason=\"{reason}\"}} 1")]);
    }
    assert!(operator.certify("Bearer web-1", good()).await.is_ok());
}

#[tokio::test]
async fn a_token_of_another_service_account_than_the_pods_is_refused_once_the_pod_is_known() {
    let operator = Operator::start(Some(mesh().issuer), 1);
    let pod = |account: &str, uid: &str| {
        let yaml = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: web-1, uid: {uid}}}\n\
             spec: {{serviceAccountName: {account}, containers: []}}\n"
        );
        objects(&yaml, "cluster.local").unwrap().into_iter().for_each(|object| operator.index.apply(object));
    };
    pod("db", "uid");
    let status = operator.certify("Bearer web-1", request(|_| {})).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unauthenticated, "the pod does not run as the service account of spiffe://cluster.local/ns/shop/sa/web")
    );
    assert_eq!(operator.counted(), ["_requests_refused_total{reason=\"other_service_account\"} 1"]);
    // The index still knows an earlier pod of the name.
    pod("db", "earlier");
    assert!(operator.certify("Bearer web-1", request(|_| {})).await.is_ok());
    pod("web", "uid");
    assert!(operator.certify("Bearer web-1", request(|_| {})).await.is_ok());
}

#[tokio::test]
async fn without_an_issuer_that_is_valid_a_proxy_is_told_to_come_again() {
    let operator = Operator::start(None, 1);
    let status = operator.certify("Bearer web-1", request(|_| {})).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "this replica has no issuer yet"));
    let long_ago = OffsetDateTime::now_utc() - Duration::days(3 * 365);
    let expired = settle(None, None, &Lifetimes::default(), long_ago).unwrap().stored;
    operator.issuer.send_replace(Issuer::from_stored(&expired).map(Arc::new));
    let status = operator.certify("Bearer web-1", request(|_| {})).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("the issuer is valid from "), "{}", status.message());
    operator.issuer.send_replace(Some(mesh().issuer));
    operator.certify("Bearer web-1", request(|_| {})).await.unwrap();
}

#[tokio::test]
async fn more_calls_at_a_time_than_allowed_are_told_to_come_again() {
    let operator = Operator::start(Some(mesh().issuer), 1);
    let mut slow = Box::pin(operator.certify("Bearer slow", request(|_| {})));
    assert!(futures::poll!(&mut slow).is_pending());
    let status = operator.certify("Bearer web-1", request(|_| {})).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    drop(slow);
    assert!(operator.certify("Bearer web-1", request(|_| {})).await.is_ok());
}
