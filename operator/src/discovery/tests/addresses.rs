//! What becomes of addresses whose objects come and go.

use super::*;
use conduit_model::DirectReason;

#[tokio::test(start_paused = true)]
async fn a_deleted_service_becomes_an_unknown_address() {
    let operator = Operator::start();
    let mut proxy = operator.connect("web-1").await;
    proxy.subscribe(web()).await;
    proxy.outbound().await;
    proxy.endpoints().await;
    operator.index.delete(Key { kind: Kind::Service, name: ObjectName::new("shop", "web") });
    assert_eq!(proxy.outbound().await, Outbound::unknown(OutboundTlsMode::Prefer));
    operator.apply(&service("grpc"));
    assert_eq!(proxy.outbound().await.protocol, conduit_model::Protocol::Grpc);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_moves_to_another_pod_is_told_to_be_that_pods_at_once() {
    let operator = Operator::start();
    let mut proxy = operator.connect("web-1").await;
    proxy.subscribe(Target::Outbound("10.1.0.7:8080".parse().unwrap())).await;
    assert_eq!(proxy.outbound().await, Outbound::unknown(OutboundTlsMode::Prefer));
    let former = pod("web-7").replace("spec: {", "spec: {serviceAccountName: former, ");
    let later = former.replace("name: web-7", "name: later").replace("former", "later");
    let of = |outbound: Outbound| match outbound.forward {
        Forward::Direct { reason: DirectReason::Pod, endpoint: Some(endpoint) } => {
            (endpoint.workload.pod, endpoint.workload.service_account)
        }
        other => panic!("{other:?}"),
    };
    operator.apply(&former);
    assert_eq!(of(proxy.outbound().await), ("web-7".to_owned(), "former".to_owned()));
    // The end of the former is known after the begin of the later.
    operator.apply(&later);
    operator.index.delete(Key { kind: Kind::Pod, name: ObjectName::new("shop", "web-7") });
    assert_eq!(of(proxy.outbound().await), ("later".to_owned(), "later".to_owned()));
    operator.index.delete(Key { kind: Kind::Pod, name: ObjectName::new("shop", "later") });
    assert_eq!(proxy.outbound().await, Outbound::unknown(OutboundTlsMode::Prefer));
}
