//! The Secret with root and issuer, and the user's own.

use super::{api_server::ApiServer, eventually};
use crate::{
    issuer::{Issuer, Lifetimes},
    reconcile::{
        identity::{Identity, ROTATE, SECRET, Source},
        notices::Notices,
    },
};
use conduit_webhook_certs::{Authority, AuthorityProfile};
use k8s_openapi::ByteString;
use kube::Api;
use serde_json::{Value, json};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const USERS: &str = "their-issuer";

/// A running replica.
struct Replica {
    issuer: watch::Receiver<Option<Arc<Issuer>>>,
    stop: tokio_util::sync::DropGuard,
}

fn start(server: &ApiServer, source: Source, now: fn() -> OffsetDateTime) -> Replica {
    let (sender, issuer) = watch::channel(None);
    let stop = CancellationToken::new();
    let identity = Identity {
        secrets: Api::namespaced(server.client(), "conduit"),
        source,
        issuer: sender,
        notices: Notices::new(server.client(), "conduit", "one"),
        now,
    };
    tokio::spawn(identity.run(stop.clone()));
    Replica { issuer, stop: stop.drop_guard() }
}

fn replica(server: &ApiServer) -> Replica {
    start(server, Source::Ours(Lifetimes::default()), OffsetDateTime::now_utc)
}

fn follower(server: &ApiServer, now: fn() -> OffsetDateTime) -> Replica {
    start(server, Source::Users { secret: USERS.to_owned(), domain: "cluster.local".parse().unwrap() }, now)
}

impl Replica {
    fn issuer(&self) -> Option<Arc<Issuer>> {
        self.issuer.borrow().clone()
    }

    fn roots(&self) -> Vec<bytes::Bytes> {
        self.issuer().map(|issuer| issuer.trust_bundle().roots().to_vec()).unwrap_or_default()
    }

    async fn ready(server: &ApiServer) -> Self {
        let replica = replica(server);
        eventually("something signs", || replica.issuer().is_some()).await;
        replica
    }
}

fn secret(data: &Value, annotations: &Value) -> Value {
    let metadata =
        json!({"name": SECRET, "namespace": "conduit", "labels": {"helm": "yes"}, "annotations": annotations});
    json!({"metadata": metadata, "data": data})
}

fn shipped_empty() -> ApiServer {
    let server = ApiServer::new();
    server.put("secrets", secret(&Value::Null, &json!({})));
    server
}

fn held(server: &ApiServer) -> Value {
    server.get("secrets", "conduit", SECRET).map(|mut secret| secret["data"].take()).unwrap_or_default()
}

fn asks(server: &ApiServer) -> bool {
    !server.get("secrets", "conduit", SECRET).unwrap()["metadata"]["annotations"][ROTATE].is_null()
}

#[tokio::test(start_paused = true)]
async fn the_secret_that_the_chart_ships_empty_is_filled_and_signs() {
    let server = shipped_empty();
    let replica = Replica::ready(&server).await;
    assert_eq!(replica.roots().len(), 1);
    let entries: Vec<_> = held(&server).as_object().unwrap().keys().cloned().collect();
    assert_eq!(entries, ["issuer.crt", "issuer.key", "root.crt", "root.key"]);
    assert_eq!(server.writes(), ["PUT /api/v1/namespaces/conduit/secrets/conduit-identity"]);
    let stays = &server.get("secrets", "conduit", SECRET).unwrap()["metadata"]["labels"]["helm"];
    assert_eq!(stays, "yes", "what the chart wrote stays");
    assert_eq!(server.list_of("events"), [] as [Value; 0], "all is well, and nobody is told");
}

#[tokio::test(start_paused = true)]
async fn who_loses_the_race_takes_what_the_winner_wrote() {
    let elsewhere = shipped_empty();
    let winner = Replica::ready(&elsewhere).await;
    let theirs = held(&elsewhere);

    let server = shipped_empty();
    let won = theirs.clone();
    server.before_next_write(move |server| server.put("secrets", secret(&won, &json!({}))));
    let loser = Replica::ready(&server).await;
    assert_eq!((loser.issuer(), held(&server)), (winner.issuer(), theirs));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_emptied_spoiled_or_deleted_gets_back_what_everybody_trusts() {
    let server = shipped_empty();
    let replica = Replica::ready(&server).await;
    let (data, issuer) = (held(&server), replica.issuer());

    server.put("secrets", secret(&Value::Null, &json!({})));
    eventually("the emptied Secret is filled", || held(&server) == data).await;
    for entry in ["root.crt", "root.key", "issuer.crt", "issuer.key"] {
        let mut spoiled = data.clone();
        spoiled[entry] = json!("Z2FyYmFnZQ==");
        server.put("secrets", secret(&spoiled, &json!({})));
        eventually("the spoiled Secret is put right", || held(&server) == data).await;
    }
    server.delete("secrets", "conduit", SECRET);
    eventually("the deleted Secret is back", || held(&server) == data).await;
    assert_eq!(replica.issuer(), issuer);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_deleted_while_it_is_being_filled_gets_back_the_same_root() {
    let server = shipped_empty();
    let replica = Replica::ready(&server).await;
    let data = held(&server);
    server.before_next_write(|server| server.delete("secrets", "conduit", SECRET));
    server.put("secrets", secret(&Value::Null, &json!({})));
    eventually("it is back", || held(&server) == data).await;
    assert_eq!(replica.roots().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_remembers_nothing_leaves_it_to_the_others_to_write_back_what_was_deleted() {
    let server = shipped_empty();
    let old = Replica::ready(&server).await;
    let (data, roots) = (held(&server), old.roots());
    drop(old.stop);
    server.delete("secrets", "conduit", SECRET);
    let new = replica(&server);
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert!(new.issuer().is_none(), "it makes no second root yet");
    server.put("secrets", secret(&data, &json!({})));
    eventually("it signs with what was written back", || new.roots() == roots).await;

    drop(new.stop);
    server.delete("secrets", "conduit", SECRET);
    let alone = replica(&server);
    eventually("it starts over where nobody does", || alone.issuer().is_some()).await;
    assert_ne!(alone.roots(), roots);
}

#[tokio::test(start_paused = true)]
async fn an_annotation_starts_a_rotation_and_leaves_with_the_same_write() {
    let server = shipped_empty();
    let replica = Replica::ready(&server).await;
    let (first, roots) = (replica.issuer(), replica.roots());
    let writes = server.writes().len();

    server.put("secrets", secret(&held(&server), &json!({ROTATE: "issuer"})));
    eventually("the issuer is another", || replica.issuer() != first).await;
    assert!(!asks(&server));
    assert_eq!((server.writes().len(), replica.roots()), (writes + 1, roots.clone()));

    server.put("secrets", secret(&held(&server), &json!({ROTATE: "root"})));
    eventually("the next root is announced", || replica.roots().len() == 2).await;
    assert!(!asks(&server));
    assert_eq!((server.writes().len(), &replica.roots()[0]), (writes + 2, &roots[0]));
    let data = held(&server);
    server.put("secrets", secret(&data, &json!({ROTATE: "root"})));
    eventually("one that is announced already only loses the annotation", || !asks(&server)).await;
    assert_eq!(held(&server), data);
}

#[tokio::test(start_paused = true)]
async fn an_annotation_that_means_nothing_is_told_and_changes_nothing() {
    let server = shipped_empty();
    let replica = Replica::ready(&server).await;
    let (data, issuer) = (held(&server), replica.issuer());
    server.put("secrets", secret(&data, &json!({ROTATE: "everything"})));
    eventually("it is told", || !server.list_of("events").is_empty()).await;
    let event = &server.list_of("events")[0];
    let note = event["note"].as_str().unwrap();
    assert_eq!(note, "conduit.io/rotate: must be `root` or `issuer`, was \"everything\"; nothing is rotated");
    assert_eq!((&event["type"], &event["regarding"]["name"]), (&json!("Warning"), &json!(SECRET)));
    assert_eq!((held(&server), replica.issuer(), asks(&server)), (data, issuer, true));
}

/// A user's Secret whose issuer was made at `now` and lives for a hundred days.
fn theirs(now: OffsetDateTime) -> (Value, Authority) {
    let profile = AuthorityProfile { name: "theirs", lifetime: Duration::days(100), path_length: 0 };
    let authority = Authority::issue(profile, now).unwrap();
    let entry = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
    let certificate = entry(authority.certificate());
    let data = json!({"tls.crt": certificate, "tls.key": entry(&authority.key()), "ca.crt": certificate});
    (json!({"metadata": {"name": USERS, "namespace": "conduit"}, "data": data}), authority)
}

#[tokio::test(start_paused = true)]
async fn a_users_issuer_is_followed_kept_through_garbage_and_never_written() {
    let server = ApiServer::new();
    let replica = follower(&server, OffsetDateTime::now_utc);
    eventually("its absence is told", || server.list_of("events").len() == 1).await;
    let signs_with = |authority: &Authority| replica.issuer().is_some_and(|it| it.certificate() == authority.der());

    let [(first, one), (second, other)] = [(); 2].map(|()| theirs(OffsetDateTime::now_utc()));
    server.put("secrets", first);
    eventually("it signs", || signs_with(&one)).await;
    let mut spoiled = second.clone();
    spoiled["data"]["tls.key"] = json!("Z2FyYmFnZQ==");
    server.put("secrets", spoiled);
    eventually("garbage is told", || server.list_of("events").len() == 2).await;
    assert!(signs_with(&one), "the last good one stays");
    server.put("secrets", second);
    eventually("the next one signs", || signs_with(&other)).await;
    assert!(server.writes().iter().all(|write| write.ends_with("/events")), "{:?}", server.writes());
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_has_expired_takes_the_place_of_none_that_signs() {
    let server = ApiServer::new();
    let replica = follower(&server, OffsetDateTime::now_utc);
    let (expired, old) = theirs(OffsetDateTime::now_utc() - Duration::days(101));
    server.put("secrets", expired.clone());
    let signs_with = |authority: &Authority| replica.issuer().is_some_and(|it| it.certificate() == authority.der());
    eventually("it is known where there is nothing else", || signs_with(&old)).await;
    let (valid, new) = theirs(OffsetDateTime::now_utc());
    server.put("secrets", valid);
    eventually("one that is valid signs", || signs_with(&new)).await;
    server.put("secrets", expired);
    let told = |event: &Value| event["note"].as_str().unwrap().starts_with("tls.crt: must be an issuer that is valid");
    eventually("the way back is told", || server.list_of("events").iter().any(told)).await;
    assert!(signs_with(&new), "and not taken");
}

const BEGINNING: OffsetDateTime = time::macros::datetime!(2026-01-01 00:00 UTC);

#[tokio::test(start_paused = true)]
async fn each_mark_of_a_life_that_only_its_user_can_renew_is_told_once_by_all_replicas_together() {
    let server = ApiServer::new();
    server.put("secrets", theirs(BEGINNING).0);
    let after: [fn() -> OffsetDateTime; 4] = [
        || BEGINNING + Duration::days(49),
        || BEGINNING + Duration::days(51),
        || BEGINNING + Duration::days(76),
        || BEGINNING + Duration::days(91),
    ];
    for (now, expected) in after.into_iter().zip([0, 2, 4, 6]) {
        let replicas = [follower(&server, now), follower(&server, now)];
        eventually("both sign", || replicas.iter().all(|replica| replica.issuer().is_some())).await;
        // Long enough for several looks at the Secret.
        tokio::time::sleep(std::time::Duration::from_secs(300)).await;
        assert_eq!(server.list_of("events").len(), expected, "the issuer and the root, each mark once");
    }
    let events = server.list_of("events");
    let last = events.iter().find(|event| event["metadata"]["name"].as_str().unwrap().ends_with(".tenth")).unwrap();
    assert_eq!(
        last["note"],
        "the issuer certificate is valid until 2026-04-11T00:00:00Z: less than a tenth of its life is left; \
         Conduit does not renew what it did not make: put a new one into the Secret"
    );
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "Normal").count(), 2, "only the half is no warning");
}
