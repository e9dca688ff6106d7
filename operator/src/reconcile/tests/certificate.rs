//! The Secret with the serving identity.

use super::{api_server::ApiServer, eventually};
use crate::reconcile::{
    certificate::{Certificates, SECRET, Source},
    notices::Notices,
};
use conduit_webhook_certs::{Authority, AuthorityProfile, Leaf, ServingCertificate};
use k8s_openapi::ByteString;
use kube::Api;
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A running replica.
struct Replica {
    serving: Arc<ServingCertificate>,
    bundle: watch::Receiver<Option<Arc<str>>>,
    _stop: tokio_util::sync::DropGuard,
}

const NAME: &str = "conduit-operator.conduit.svc";
const USERS: &str = "their-certificate";

fn replica(server: &ApiServer) -> Replica {
    start(server, Source::Ours { names: BTreeSet::from([NAME.to_owned()]) })
}

fn follower(server: &ApiServer) -> Replica {
    start(server, Source::Users { secret: USERS.to_owned(), name: NAME.to_owned() })
}

fn start(server: &ApiServer, source: Source) -> Replica {
    let serving = Arc::new(ServingCertificate::default());
    let (sender, bundle) = watch::channel(None);
    let stop = CancellationToken::new();
    let certificates = Certificates {
        secrets: Api::namespaced(server.client(), "conduit"),
        source,
        serving: Arc::clone(&serving),
        bundle: sender,
        notices: Notices::new(server.client(), "conduit", "one"),
        now: OffsetDateTime::now_utc,
    };
    tokio::spawn(certificates.run(stop.clone()));
    Replica { serving, bundle, _stop: stop.drop_guard() }
}

impl Replica {
    fn bundle(&self) -> Option<Arc<str>> {
        self.bundle.borrow().clone()
    }
}

fn secret(data: &Value) -> Value {
    json!({"metadata": {"name": SECRET, "namespace": "conduit", "labels": {"helm": "yes"}}, "data": data})
}

fn shipped_empty() -> ApiServer {
    let server = ApiServer::new();
    server.put("secrets", json!({"metadata": {"name": SECRET, "namespace": "conduit", "labels": {"helm": "yes"}}}));
    server
}

fn held(server: &ApiServer) -> Value {
    server.get("secrets", "conduit", SECRET).map(|mut secret| secret["data"].take()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn the_secret_that_the_chart_ships_empty_is_filled_and_served() {
    let server = shipped_empty();
    let replica = replica(&server);
    eventually("a certificate is served", || replica.serving.is_loaded()).await;
    assert!(replica.bundle().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    let secret = server.get("secrets", "conduit", SECRET).unwrap();
    assert_eq!(secret["metadata"]["labels"]["helm"], "yes", "what the chart wrote stays");
    let entries: Vec<_> = secret["data"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(entries, ["ca.crt", "ca.key", "tls.crt", "tls.key"]);
    assert_eq!(server.writes(), ["PUT /api/v1/namespaces/conduit/secrets/conduit-webhook-certs"]);
}

#[tokio::test(start_paused = true)]
async fn who_loses_the_race_takes_what_the_winner_wrote() {
    let elsewhere = shipped_empty();
    let winner = replica(&elsewhere);
    eventually("the winner has made an identity", || winner.serving.is_loaded()).await;
    let theirs = held(&elsewhere);

    let server = shipped_empty();
    let won = theirs.clone();
    server.before_next_write(move |server| server.put("secrets", secret(&won)));
    let loser = replica(&server);
    eventually("the loser serves", || loser.serving.is_loaded()).await;
    assert_eq!(loser.bundle(), winner.bundle());
    assert_eq!(held(&server), theirs);
}

#[tokio::test(start_paused = true)]
async fn two_replicas_that_start_at_once_agree() {
    let server = shipped_empty();
    let (one, other) = (replica(&server), replica(&server));
    eventually("both serve", || one.serving.is_loaded() && other.serving.is_loaded()).await;
    eventually("both trust the same", || one.bundle() == other.bundle()).await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_emptied_spoiled_or_deleted_gets_back_what_everybody_trusts() {
    let server = shipped_empty();
    let replica = replica(&server);
    eventually("a certificate is served", || replica.serving.is_loaded()).await;
    let (data, bundle) = (held(&server), replica.bundle());

    server.put("secrets", secret(&Value::Null));
    eventually("the emptied Secret is filled", || held(&server) == data).await;
    let mut spoiled = data.clone();
    spoiled["ca.key"] = json!("Z2FyYmFnZQ==");
    server.put("secrets", secret(&spoiled));
    eventually("the spoiled Secret is put right", || held(&server) == data).await;
    server.delete("secrets", "conduit", SECRET);
    eventually("the deleted Secret is back", || held(&server) == data).await;
    assert_eq!(replica.bundle(), bundle);
}

#[tokio::test(start_paused = true)]
async fn a_spoiled_serving_certificate_costs_nobodys_trust() {
    let server = shipped_empty();
    let first = replica(&server);
    eventually("a certificate is served", || first.serving.is_loaded()).await;
    let bundle = first.bundle();
    drop(first);
    let mut spoiled = held(&server);
    spoiled["tls.crt"] = json!("Z2FyYmFnZQ==");
    server.put("secrets", secret(&spoiled));
    let second = replica(&server);
    eventually("a certificate is served again", || second.serving.is_loaded()).await;
    assert_eq!(second.bundle(), bundle);
    assert_ne!(held(&server)["tls.crt"], spoiled["tls.crt"]);
}

/// A Secret as a user's own certificate stands in it, valid for `name`.
fn theirs(name: &str, lifetime: time::Duration) -> (Value, String) {
    let profile = AuthorityProfile { name: "theirs", lifetime: time::Duration::days(400), path_length: 0 };
    let now = OffsetDateTime::now_utc();
    let authority = Authority::issue(profile, now).unwrap();
    let leaf = Leaf::issue(&authority, &[name.to_owned()].into(), lifetime, now).unwrap();
    let entry = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
    let data = json!({
        "tls.crt": entry(leaf.certificate()), "tls.key": entry(&leaf.key()), "ca.crt": entry(authority.certificate()),
    });
    let secret = json!({"metadata": {"name": USERS, "namespace": "conduit"}, "data": data});
    (secret, authority.certificate().to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_users_own_certificate_is_served_followed_and_never_written() {
    let server = ApiServer::new();
    let replica = follower(&server);
    eventually("its absence is told", || server.list_of("events").len() == 1).await;
    assert!(!replica.serving.is_loaded());

    let (first, authority) = theirs(NAME, time::Duration::days(30));
    server.put("secrets", first);
    eventually("it is served", || replica.serving.is_loaded()).await;
    assert_eq!(replica.bundle().as_deref(), Some(authority.as_str()));
    let (second, authority) = theirs(NAME, time::Duration::days(30));
    server.put("secrets", second);
    eventually("the next one is served", || replica.bundle().as_deref() == Some(authority.as_str())).await;

    server.put("secrets", theirs("elsewhere", time::Duration::days(30)).0);
    eventually("what cannot be used is told", || server.list_of("events").len() == 2).await;
    assert_eq!(replica.bundle().as_deref(), Some(authority.as_str()), "the last good one stays");
    let told = server.list_of("events").into_iter().map(|event| event["note"].as_str().unwrap().to_owned());
    let expected = "tls.crt: must be valid for the name conduit-operator.conduit.svc; the certificate that was there before is served on";
    assert!(told.collect::<Vec<_>>().iter().any(|note| note == expected));
    assert!(server.writes().iter().all(|write| write.ends_with("/events")), "{:?}", server.writes());
}

#[tokio::test(start_paused = true)]
async fn a_users_certificate_that_has_expired_takes_the_place_of_none_that_is_valid() {
    let server = ApiServer::new();
    let replica = follower(&server);
    let (valid, authority) = theirs(NAME, time::Duration::days(30));
    server.put("secrets", valid);
    eventually("it is served", || replica.bundle().as_deref() == Some(authority.as_str())).await;
    server.put("secrets", theirs(NAME, time::Duration::minutes(-30)).0);
    let told =
        |event: &Value| event["note"].as_str().unwrap().starts_with("tls.crt: must be a certificate that is valid");
    eventually("it is told", || server.list_of("events").iter().any(told)).await;
    assert_eq!(replica.bundle().as_deref(), Some(authority.as_str()));
}
