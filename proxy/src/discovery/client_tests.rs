//! The client against an operator on loopback.

use super::fake::{Operator, Running, Trust, client, client_of};
use crate::identity::Identity;
use conduit_model::{
    Endpoint, EndpointProxy, EndpointSet, EndpointUpdate, Forward, Inbound, Outbound, OutboundTlsMode, Protocol,
    Target, Version, Workload, WorkloadKind,
    wire::{watch_request::Message as Request, watch_response::Update as Message},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tonic::Status;

const LONG: Duration = Duration::from_secs(3600);

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn service() -> SocketAddr {
    "10.96.0.1:80".parse().unwrap()
}

fn target() -> Target {
    Target::Outbound(service())
}

fn workload() -> Workload {
    Workload {
        namespace: "shop".into(),
        service_account: "web".into(),
        kind: WorkloadKind::Deployment,
        name: "web".into(),
        pod: "web-1".into(),
    }
}

fn inbound() -> Inbound {
    Inbound::of(workload())
}

fn balanced() -> Outbound {
    Outbound { protocol: Protocol::Http1, forward: Forward::Balance, ..Outbound::unknown(OutboundTlsMode::Prefer) }
}

fn endpoints(octets: &[u8]) -> EndpointSet {
    let endpoint = |octet: &u8| {
        let address = SocketAddr::from(([10, 0, 0, *octet], 8080));
        Endpoint { address, workload: workload(), proxy: EndpointProxy::Mtls }
    };
    octets.iter().map(endpoint).collect()
}

fn whole(octets: &[u8]) -> (Version, Message) {
    let set = endpoints(octets);
    let update = EndpointUpdate::Whole(set.iter().map(|endpoint| Endpoint::clone(endpoint)).collect());
    (Version::of_endpoints(&set), Message::Endpoints(update.to_wire()))
}

fn config(outbound: &Outbound) -> (Version, Message) {
    (Version::of_outbound(outbound), Message::Outbound(outbound.to_wire()))
}

/// What the directory says of the service, once it was told.
async fn known(running: &Running) -> Arc<Outbound> {
    let held = running.directory.destination(service());
    running.directory.known(&held, Duration::from_secs(10)).await
}

#[tokio::test]
async fn a_destination_is_asked_about_when_it_is_needed_and_known_once_configuration_and_endpoints_came() {
    let trust = Trust::new();
    let mut operator = Operator::start(loopback(), &trust).await;
    let running = client(operator.address, &trust, LONG);
    let mut stream = operator.stream().await;
    assert_eq!(&stream.peer.0, trust.identity.credentials().unwrap().id());
    assert_eq!(stream.subscribed(Target::Inbound).await, (None, None));
    stream.tell(Target::Inbound, Version::of_inbound(&inbound()), Message::Inbound(inbound().to_wire())).await;
    assert_eq!(stream.answer().await, "");
    assert_eq!(running.own.config().as_deref(), Some(&inbound()));

    let answers = async {
        assert_eq!(stream.subscribed(target()).await, (None, None));
        for (version, update) in [config(&balanced()), whole(&[1, 2])] {
            stream.tell(target(), version, update).await;
            assert_eq!(stream.answer().await, "");
        }
    };
    let (known, ()) = tokio::join!(known(&running), answers);
    assert_eq!(*known, balanced());
    let held = running.directory.destination(service());
    assert_eq!(held.endpoints().unwrap().len(), 2);

    let snapshot = running.inquiry.snapshot().await.unwrap();
    assert!(snapshot.connected);
    assert_eq!(snapshot.outbound[0].1.config, Some(config(&balanced()).0));
    assert_eq!(snapshot.outbound[0].1.endpoints, Some(whole(&[1, 2]).0));
}

#[tokio::test]
async fn an_update_that_cannot_be_read_is_refused_and_what_was_held_stays_in_force() {
    let trust = Trust::new();
    let mut operator = Operator::start(loopback(), &trust).await;
    let running = client(operator.address, &trust, LONG);
    let held = running.directory.destination(service());
    let mut stream = operator.stream().await;
    stream.subscribed(Target::Inbound).await;
    stream.subscribed(target()).await;
    let (version, update) = config(&balanced());
    stream.tell(target(), version, update).await;
    assert_eq!(stream.answer().await, "");
    let unreadable = conduit_model::wire::Outbound { protocol: 99, ..balanced().to_wire() };
    stream.tell(target(), version, Message::Outbound(unreadable)).await;
    assert_eq!(stream.answer().await, "outbound.protocol: must be a protocol, was 99");
    assert_eq!(held.config().as_deref(), Some(&balanced()));
    let mut registry = prometheus_client::registry::Registry::default();
    running.metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "conduit_discovery_connected 1",
        "conduit_discovery_connects_total 1",
        "conduit_discovery_destinations 1",
        "conduit_discovery_updates_total{result=\"applied\"} 1",
        "conduit_discovery_updates_total{result=\"rejected\"} 1",
        "conduit_config_age_seconds 0.0",
    ] {
        assert!(text.lines().any(|exported| exported == line), "{line} in {text}");
    }
}

#[tokio::test]
async fn a_proxy_that_returns_names_what_it_holds_and_proves_itself_by_its_certificate_of_now() {
    let mut trust = Trust::new();
    let mut operator = Operator::start(loopback(), &trust).await;
    let running = client(operator.address, &trust, LONG);
    let held = running.directory.destination(service());
    let mut stream = operator.stream().await;
    stream.subscribed(Target::Inbound).await;
    stream.subscribed(target()).await;
    for (version, update) in [config(&balanced()), whole(&[1])] {
        stream.tell(target(), version, update).await;
        assert_eq!(stream.answer().await, "");
    }

    // The operator goes, and comes back under another authority, which has certified the proxy meanwhile.
    let address = operator.address;
    drop(stream);
    operator.stop().await;
    trust.rotate();
    let mut operator = Operator::start(address, &trust).await;
    let mut stream = operator.stream().await;
    assert_eq!(stream.peer.1, trust.identity.credentials().unwrap().chain()[0].to_vec());
    assert_eq!(stream.subscribed(Target::Inbound).await, (None, None));
    assert_eq!(stream.subscribed(target()).await, (Some(config(&balanced()).0), Some(whole(&[1]).0)));
    assert_eq!(held.endpoints().unwrap().len(), 1, "it was in force all the while");

    let change = EndpointUpdate::between(&endpoints(&[1]), &endpoints(&[1, 2]));
    stream.tell(target(), Version::of_endpoints(&endpoints(&[1, 2])), Message::Endpoints(change.to_wire())).await;
    assert_eq!(stream.answer().await, "", "a change goes on from the version that was named");
    assert_eq!(held.endpoints().unwrap().len(), 2);
}

/// Why the client has no stream.
async fn failure(running: &Running) -> String {
    loop {
        if let Some(failure) = running.inquiry.snapshot().await.unwrap().failure {
            return failure;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn without_an_identity_no_stream_is_opened_and_connections_do_not_wait_for_one() {
    let trust = Trust::new();
    let mut operator = Operator::start(loopback(), &trust).await;
    let identity = Identity::with_clock(trust.authority.domain.clone(), trust.authority.clock());
    let running = client_of(trust.operator(operator.address), identity.clone(), LONG);
    identity.failed("nobody is there");
    assert_eq!(failure(&running).await, "no certificate yet: nobody is there");
    running.own.apply(Arc::new(Inbound::of(workload())));
    let passing = tokio::time::timeout(Duration::from_secs(5), known(&running));
    assert_eq!(
        *passing.await.expect("that none answers is known before the time for an answer is over"),
        Outbound::unknown(OutboundTlsMode::Prefer)
    );

    identity.set(trust.authority.make(trust.authority.request("web"), trust.authority.bundle())).unwrap();
    let mut stream = operator.stream().await;
    stream.subscribed(Target::Inbound).await;
    assert_eq!(stream.subscribed(target()).await, (None, None), "what was needed meanwhile is asked about");
    assert_eq!(running.inquiry.snapshot().await.unwrap().failure, None);
}

#[tokio::test]
async fn a_stream_outlives_the_certificate_that_opened_it_and_the_next_one_takes_a_new_one() {
    let trust = Trust::new();
    let mut operator = Operator::start(loopback(), &trust).await;
    let running = client(operator.address, &trust, LONG);
    let mut stream = operator.stream().await;
    stream.subscribed(Target::Inbound).await;
    let old = stream.peer.clone();
    trust.certify();
    stream.tell(Target::Inbound, Version::of_inbound(&inbound()), Message::Inbound(inbound().to_wire())).await;
    assert_eq!(stream.answer().await, "");
    drop(stream);
    let new = operator.stream().await.peer;
    assert_eq!((new.0 == old.0, new.1 == old.1), (true, false));

    trust.authority.clock.advance(48 * Duration::from_secs(3600));
    operator.stop().await;
    let mut operator = Operator::start(loopback(), &trust).await;
    let waiting = client_of(trust.operator(operator.address), trust.identity.clone(), LONG);
    trust.identity.failed("nobody is there");
    assert_eq!(failure(&waiting).await, "the certificate has expired: nobody is there");
    trust.certify();
    operator.stream().await;
    drop(running);
}

#[tokio::test]
async fn the_roots_that_the_operator_streams_are_trusted_at_once_and_none_changes_nothing() {
    let trust = Trust::new();
    let mut operator = Operator::start(loopback(), &trust).await;
    let _running = client(operator.address, &trust, LONG);
    let mut stream = operator.stream().await;
    stream.subscribed(Target::Inbound).await;
    let roots = |identity: &Identity| identity.credentials().unwrap().bundle().roots().to_vec();
    let (own, next) = (trust.authority.root(), trust.authority.successor().root());
    for (told, answer, expected) in [
        (vec![], "", vec![own.clone()]),
        (vec![own.to_vec(), next.to_vec()], "", vec![own.clone(), next.clone()]),
        (
            vec![own.to_vec(), b"no root".to_vec()],
            "inbound.trust_bundle[1]: must be an X.509 certificate: TrailingData(SignedData)",
            vec![own.clone(), next.clone()],
        ),
        (vec![], "", vec![own, next]),
    ] {
        let inbound = Inbound { trust_bundle: told.into_iter().map(Into::into).collect(), ..inbound() };
        stream.tell(Target::Inbound, Version::of_inbound(&inbound), Message::Inbound(inbound.to_wire())).await;
        assert_eq!(stream.answer().await, answer);
        assert_eq!(roots(&trust.identity), expected);
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_gets_no_stream_and_a_file_that_is_missing_is_made_up_for() {
    let (trust, other) = (Trust::new(), Trust::new());
    let impostor = Operator::start(loopback(), &other).await;
    let running = client(impostor.address, &trust, LONG);
    let failure = failure(&running).await;
    assert!(failure.contains("invalid peer certificate"), "{failure}");
    assert!(!running.inquiry.snapshot().await.unwrap().connected);

    let mut operator = Operator::start(loopback(), &trust).await;
    std::fs::remove_file(trust.trust_file()).unwrap();
    let running = client(operator.address, &trust, LONG);
    operator.stream().await;
    drop(running);
}

#[tokio::test]
async fn a_stream_that_breaks_or_ends_is_opened_again() {
    let trust = Trust::new();
    let mut operator = Operator::start(loopback(), &trust).await;
    let running = client(operator.address, &trust, LONG);
    let mut stream = operator.stream().await;
    stream.subscribed(Target::Inbound).await;
    stream.fail(Status::unavailable("going")).await;
    let mut stream = operator.stream().await;
    stream.subscribed(Target::Inbound).await;
    drop(stream);
    operator.stream().await.subscribed(Target::Inbound).await;
    drop(running);
}

#[tokio::test]
async fn a_destination_that_is_needed_while_a_stream_is_being_opened_again_is_not_taken_for_unknown() {
    let trust = Trust::new();
    let mut operator = Operator::start(loopback(), &trust).await;
    let running = client(operator.address, &trust, LONG);
    let mut stream = operator.stream().await;
    stream.subscribed(Target::Inbound).await;
    running.own.apply(Arc::new(inbound()));
    stream.fail(Status::unavailable("going")).await;
    while running.inquiry.snapshot().await.unwrap().connected {
        tokio::task::yield_now().await;
    }
    let answers = async {
        let mut stream = operator.stream().await;
        stream.subscribed(Target::Inbound).await;
        stream.subscribed(target()).await;
        for (version, update) in [config(&balanced()), whole(&[1])] {
            stream.tell(target(), version, update).await;
        }
        stream
    };
    let (known, _stream) = tokio::join!(known(&running), answers);
    assert_eq!(*known, balanced());
}

#[tokio::test]
async fn a_destination_that_nothing_uses_any_more_is_unsubscribed_from() {
    let trust = Trust::new();
    let mut operator = Operator::start(loopback(), &trust).await;
    let running = client(operator.address, &trust, Duration::from_millis(1));
    let held = running.directory.destination(service());
    let mut stream = operator.stream().await;
    stream.subscribed(Target::Inbound).await;
    stream.subscribed(target()).await;
    drop(held);
    match stream.request().await {
        Request::Unsubscribe(unsubscribe) => assert_eq!(unsubscribe.target, Some(target().to_wire())),
        other => panic!("{other:?}"),
    }
    assert!(running.directory.get(service()).is_none());
}

#[tokio::test]
async fn an_operator_that_refuses_the_certificate_is_told_from_one_that_is_away_and_another_is_asked_for() {
    let mut trust = Trust::new();
    // The mesh started over: the proxy trusts the new root, and nobody trusts its own.
    trust.authority = crate::identity::fake::Authority::new();
    trust.write_bundle();
    let operator = Operator::start(loopback(), &trust).await;
    let running = client(operator.address, &trust, LONG);
    let mut progress = trust.identity.progress();
    let refused = progress.wait_for(|progress| progress.refusals > 0);
    tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap().unwrap();
    let failure = running.inquiry.snapshot().await.unwrap().failure.unwrap();
    assert!(failure.contains("refuses this proxy's certificate: "), "{failure}");
}

/// A way to `operator` that leads nowhere any more once it is cut: nothing arrives, and nobody is told. New connections are
/// served again.
async fn passage(operator: SocketAddr) -> (SocketAddr, watch::Sender<usize>, JoinSet<()>) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (cut, cuts) = watch::channel(0);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        for number in 0.. {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut cuts = cuts.clone();
            connections.spawn(async move {
                let mut server = TcpStream::connect(operator).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
                    cut = cuts.wait_for(|cuts| *cuts > number) => drop(cut),
                }
                // Both ends stay open.
                std::future::pending::<()>().await;
            });
        }
    });
    (address, cut, tasks)
}

/// Lets so many seconds pass on a clock that is stopped, and in each what is on its way arrive: the clock of an idle runtime
/// would run ahead of its sockets. Those take time that is real, however little; what keeps a thread for it keeps the clock.
async fn pass(seconds: usize) {
    for _ in 0..seconds {
        let arrived = tokio::task::spawn_blocking(|| std::thread::park_timeout(Duration::from_millis(10)));
        arrived.await.unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn an_operator_that_is_gone_without_a_word_is_noticed_within_half_a_minute_and_called_anew() {
    let trust = Trust::new();
    let mut operator = Operator::start(loopback(), &trust).await;
    let (address, cut, _tasks) = passage(operator.address).await;
    let running = client(address, &trust, LONG);
    let mut stream = operator.stream().await;
    stream.subscribed(Target::Inbound).await;
    stream.tell(Target::Inbound, Version::of_inbound(&inbound()), Message::Inbound(inbound().to_wire())).await;
    assert_eq!(stream.answer().await, "");

    tokio::time::pause();
    // Nothing is said for a long time, and the stream is kept.
    pass(120).await;
    assert!(running.inquiry.snapshot().await.unwrap().connected);
    cut.send_replace(1);
    pass(30).await;
    assert!(running.inquiry.snapshot().await.unwrap().connected);
    tokio::time::resume();
    let mut again = operator.stream().await;
    assert_eq!(again.subscribed(Target::Inbound).await, (Some(Version::of_inbound(&inbound())), None));
}
