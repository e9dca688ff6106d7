//! From the operator's word to a request's way: discovery and outbound traffic together, as [`super::run()`] wires them,
//! against an operator and two servers on loopback. Only the redirection is given instead of made.

use crate::{
    discovery::fake::{Operator, Stream, Trust, client},
    identity::Identity,
    listen::{
        drain,
        original::OriginalDestination,
        room::{Bounds, Room},
        socket::{Sharing, bind},
    },
    outbound, record,
};
use conduit_model::{
    Endpoint, EndpointProxy, EndpointSet, EndpointUpdate, Forward, Outbound, OutboundTls, Protocol, ServicePort,
    Target, Version, Workload, WorkloadKind, wire::watch_response::Update as Message,
};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinSet, LocalSet},
};

const SECOND: Duration = Duration::from_secs(1);

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// The address that the application connects to; nothing listens there.
fn service() -> SocketAddr {
    "127.0.0.1:9".parse().unwrap()
}

/// A server that answers every request with its own name.
async fn server(name: &'static str, tasks: &mut JoinSet<()>) -> Endpoint {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let answer =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{name}", name.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let workload = Workload {
        namespace: "shop".into(),
        service_account: "web".into(),
        kind: WorkloadKind::Deployment,
        name: "web".into(),
        pod: name.into(),
    };
    Endpoint { address, workload, proxy: EndpointProxy::None }
}

/// The application's request through the proxy; the body of the answer.
async fn ask(proxy: SocketAddr) -> String {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.rsplit("\r\n").next().unwrap().to_owned()
}

async fn tell(stream: &mut Stream, version: Version, update: Message) {
    stream.tell(Target::Outbound(service()), version, update).await;
    assert_eq!(stream.answer().await, "");
}

fn set(endpoint: &Endpoint) -> EndpointSet {
    [endpoint.clone()].into_iter().collect()
}

#[tokio::test]
async fn requests_go_where_the_operator_says_also_while_it_is_away() {
    let (trust, mut tasks) = (Trust::new(), JoinSet::new());
    let (one, other) = (server("one", &mut tasks).await, server("other", &mut tasks).await);
    let mut operator = Operator::start(loopback(), &trust).await;
    let running = client(operator.address, &trust, 3600 * SECOND);

    let listener = bind(loopback(), Sharing::Alone).unwrap();
    let proxy = listener.local_addr().unwrap();
    let (_signal, drain) = drain::channel();
    let config = outbound::Config {
        listeners: vec![listener],
        original: OriginalDestination::Fixed(service()),
        room: Room::new(Bounds::shared(10_000, 100)),
        directory: running.directory.clone(),
        identity: Identity::new("cluster.local".parse().unwrap()),
        pod_ips: Vec::new(),
        metrics: record::Metrics::new(),
        drain,
        discovery_timeout: 10 * SECOND,
        detect_timeout: SECOND,
        connect_timeout: SECOND,
        pool_idle_timeout: SECOND,
    };
    let local = LocalSet::new();
    local.spawn_local(outbound::serve(config));
    let test = async {
        let mut stream = operator.stream().await;
        stream.subscribed(Target::Inbound).await;
        let answers = async {
            stream.subscribed(Target::Outbound(service())).await;
            let port = ServicePort { namespace: "shop".into(), name: "web".into(), port: 9, fqdn: "web.shop".into() };
            let outbound = Outbound {
                protocol: Protocol::Http1,
                service: Some(port),
                routes: Vec::new(),
                forward: Forward::Balance,
                tls: OutboundTls::DEFAULT,
            };
            tell(&mut stream, Version::of_outbound(&outbound), Message::Outbound(outbound.to_wire())).await;
            let whole = EndpointUpdate::Whole(vec![one.clone()]);
            tell(&mut stream, Version::of_endpoints(&set(&one)), Message::Endpoints(whole.to_wire())).await;
        };
        // The first request waits for the operator's answer.
        let (answer, ()) = tokio::join!(ask(proxy), answers);
        assert_eq!(answer, "one");

        let change = EndpointUpdate::between(&set(&one), &set(&other));
        tell(&mut stream, Version::of_endpoints(&set(&other)), Message::Endpoints(change.to_wire())).await;
        assert_eq!(ask(proxy).await, "other", "the next request sees the change");

        drop(stream);
        operator.stop().await;
        while running.inquiry.snapshot().await.unwrap().connected {
            tokio::task::yield_now().await;
        }
        assert_eq!(ask(proxy).await, "other", "what was known stays in force");
    };
    local.run_until(test).await;
}
