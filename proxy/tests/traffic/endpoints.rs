//! Endpoints that hang, die, move and are removed, while clients go on.

use crate::{identity::fake::Authority, support::*};
use conduit_model::{DirectReason, Endpoint, EndpointUpdate, Forward, Outbound, OutboundTls, Protocol, Workload};
use http::{Request, Response, Version};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::{cell::Cell, convert::Infallible, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::watch,
    task::{JoinSet, spawn_local},
    time::interval,
};

const GET: &str = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 5\r\n\r\nhello";

/// A server that answers with its name, and a request for `/wait` not before it is let.
struct Server {
    address: SocketAddr,
    /// Connections that are open.
    open: watch::Receiver<usize>,
    /// Requests that wait.
    waiting: watch::Receiver<usize>,
    waiters: watch::Sender<bool>,
}

impl Server {
    async fn start(name: &'static str, protocol: Protocol) -> Self {
        let (opened, open) = watch::channel(0);
        let (began, waiting) = watch::channel(0);
        let (waiters, let_on) = watch::channel(false);
        let (opened, began) = (Rc::new(opened), Rc::new(began));
        let address = server(move |stream, _| {
            let (opened, began, let_on) = (opened.clone(), began.clone(), let_on.clone());
            async move {
                opened.send_modify(|open| *open += 1);
                let answer = service_fn(|request: Request<hyper::body::Incoming>| {
                    let (began, mut let_on) = (began.clone(), let_on.clone());
                    async move {
                        if request.uri().path() == "/wait" {
                            began.send_modify(|waiting| *waiting += 1);
                            let _ = let_on.wait_for(|on| *on).await;
                        }
                        Ok::<_, Infallible>(Response::new(full(name)))
                    }
                });
                let _ = match protocol {
                    Protocol::Http1 => {
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await
                    }
                    _ => {
                        let builder = hyper::server::conn::http2::Builder::new(Local);
                        builder.serve_connection(TokioIo::new(stream), answer).await
                    }
                };
                opened.send_modify(|open| *open -= 1);
            }
        })
        .await;
        Self { address, open, waiting, waiters }
    }

    fn endpoint(&self) -> Endpoint {
        endpoint(self.address, false)
    }
}

/// A client of either protocol, with one connection.
enum Client {
    Http1(TcpStream),
    Http2(Http2Client),
}

impl Client {
    async fn connect(address: SocketAddr, protocol: Protocol) -> Self {
        match protocol {
            Protocol::Http1 => Self::Http1(TcpStream::connect(address).await.unwrap()),
            _ => Self::Http2(http2_client(address).await),
        }
    }

    /// Posts, and gives the status and the body of the answer.
    async fn post(&mut self, path: &str) -> (u16, String) {
        match self {
            Self::Http1(stream) => {
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(&mut *stream)).await.unwrap();
                let request = Request::post(path).header("host", "web").body(full("hello")).unwrap();
                let exchange = async {
                    let response = sender.send_request(request).await.unwrap();
                    let status = response.status().as_u16();
                    (status, response.into_body().collect().await.unwrap().to_bytes())
                };
                tokio::pin!(connection);
                let (status, body) = tokio::select! {
                    biased;
                    answered = exchange => answered,
                    ended = &mut connection => panic!("the connection ended: {ended:?}"),
                };
                (status, String::from_utf8(body.to_vec()).unwrap())
            }
            Self::Http2(sender) => {
                let uri = format!("http://web{path}");
                let request = Request::post(uri).version(Version::HTTP_2).body(full("hello")).unwrap();
                let response = sender.send_request(request).await.unwrap();
                let status = response.status().as_u16();
                let body = response.into_body().collect().await.unwrap().to_bytes();
                (status, String::from_utf8(body.to_vec()).unwrap())
            }
        }
    }
}

fn change(add: &[Endpoint], remove: &[Endpoint]) -> EndpointUpdate {
    EndpointUpdate::Change { add: add.to_vec(), remove: remove.iter().map(|endpoint| endpoint.address).collect() }
}

/// An address at which connections are neither taken nor refused, as that of a node that is gone; as long as what comes
/// with it is held.
async fn hanging() -> (SocketAddr, impl Sized) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut taken = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(address)).await {
        taken.push(stream.unwrap());
    }
    (address, (listener, taken))
}

#[test]
fn an_endpoint_that_hangs_is_given_up_after_the_connect_timeout_and_another_answers() {
    run(async {
        let (hangs, _held) = hanging().await;
        let mut resent = 0.0;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let alive = Server::start("alive", protocol).await;
            let proxy = OutboundProxy::balancing(protocol, &[endpoint(hangs, false), alive.endpoint()]);
            let mut client = Client::connect(proxy.address, protocol).await;
            // It is chosen sooner or later, and not again for a while.
            for _ in 0..10 {
                assert_eq!(client.post("/").await, (200, "alive".to_owned()));
            }
            resent += sum(&proxy.metrics, "conduit_requests_resent_total", &["error=\"connect-timeout\""]);
        }
        let alive = server(|mut stream, _| async move { drop(stream.write_all(b"hello").await) }).await;
        let proxy = OutboundProxy::balancing(Protocol::Opaque, &[endpoint(hangs, false), endpoint(alive, false)]);
        for _ in 0..4 {
            assert_eq!(exchange(proxy.address, "").await, "hello");
        }
        assert!(resent <= 4.0, "an endpoint that hangs was tried {resent} times");
    });
}

#[test]
fn an_endpoint_that_takes_connections_and_shakes_no_hands_is_given_up_and_another_answers() {
    run(async {
        let alive = InboundProxy::before(Server::start("alive", Protocol::Http1).await.address, Protocol::Http1);
        let frozen = server(|mut stream, _| async move {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
        .await;
        let identity = alive.authority.identity("client");
        let endpoints = [endpoint(frozen, true), endpoint(alive.address, true)];
        let proxy = OutboundProxy::meshed(Protocol::Http1, &endpoints, identity);
        while sum(&proxy.metrics, "conduit_requests_resent_total", &["error=\"tls-failed\""]) == 0.0 {
            assert!(
                exchange(proxy.address, &POST.replace("host", "connection: close\r\nhost")).await.ends_with("alive")
            );
        }
    });
}

#[test]
fn what_dies_in_the_middle_of_an_answer_cuts_it_short_and_the_next_request_goes_elsewhere() {
    run(async {
        let dies = server(|mut stream, _| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
        })
        .await;
        let alive = Server::start("alive", Protocol::Http1).await;
        let proxy = OutboundProxy::balancing(Protocol::Http1, &[endpoint(dies, false)]);
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        client.write_all(GET.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The end of the connection, in order or not, is what tells the client that the rest does not come.
        let _ = client.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("half"), "{answer}");
        wait_for(&proxy.metrics, "route_response_total", &["classification=\"failure\""], 1.0).await;
        proxy.destination.apply_endpoints(change(&[alive.endpoint()], &[endpoint(dies, false)]));
        let mut client = Client::connect(proxy.address, Protocol::Http1).await;
        assert_eq!(client.post("/").await, (200, "alive".to_owned()));
    });
}

#[test]
fn what_dies_with_streams_open_fails_those_alone() {
    run(async {
        let dies = server(|stream, _| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            // Its first request is never answered.
            let _first = connection.accept().await.unwrap().unwrap();
        })
        .await;
        let alive = Server::start("alive", Protocol::Http2).await;
        let proxy = OutboundProxy::balancing(Protocol::Http2, &[endpoint(dies, false)]);
        let mut client = Client::connect(proxy.address, Protocol::Http2).await;
        let (status, _) = client.post("/").await;
        assert_eq!(status, 502, "an application may have seen it");
        proxy.destination.apply_endpoints(change(&[alive.endpoint()], &[endpoint(dies, false)]));
        assert_eq!(client.post("/").await, (200, "alive".to_owned()));
        assert_eq!(sum(&proxy.metrics, "conduit_requests_resent_total", &[]), 0.0);
    });
}

#[test]
fn an_endpoint_that_is_removed_finishes_what_it_has_gets_nothing_more_and_its_connections_close() {
    run(async {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut old = Server::start("old", protocol).await;
            let new = Server::start("new", protocol).await;
            let proxy = OutboundProxy::balancing(protocol, &[old.endpoint()]);
            let mut slow = Client::connect(proxy.address, protocol).await;
            let mut quick = Client::connect(proxy.address, protocol).await;
            let waits = spawn_local(async move { slow.post("/wait").await });
            old.waiting.wait_for(|waiting| *waiting == 1).await.unwrap();
            // By HTTP/1 this is a second connection, which is idle then.
            assert_eq!(quick.post("/").await, (200, "old".to_owned()));
            let connections = *old.open.borrow();
            assert_eq!(connections, if protocol == Protocol::Http1 { 2 } else { 1 });

            proxy.destination.apply_endpoints(change(&[new.endpoint()], &[old.endpoint()]));
            for _ in 0..10 {
                assert_eq!(quick.post("/").await, (200, "new".to_owned()));
            }
            old.open.wait_for(|open| *open == 1).await.unwrap();
            assert!(!waits.is_finished());
            old.waiters.send_replace(true);
            assert_eq!(waits.await.unwrap(), (200, "old".to_owned()));
            old.open.wait_for(|open| *open == 0).await.unwrap();
        }
    });
}

#[test]
fn bytes_to_an_endpoint_that_is_removed_go_on_and_new_connections_go_elsewhere() {
    run(async {
        let named = |name: &'static str| {
            server(move |mut stream, _| async move {
                while stream.read_u8().await.is_ok() {
                    stream.write_all(name.as_bytes()).await.unwrap();
                }
            })
        };
        let [old, new] = [named("old").await, named("new").await].map(|address| endpoint(address, false));
        let proxy = OutboundProxy::balancing(Protocol::Opaque, std::slice::from_ref(&old));
        let mut before = TcpStream::connect(proxy.address).await.unwrap();
        ask(&mut before, "a", "old").await;
        proxy.destination.apply_endpoints(change(&[new], &[old]));
        let mut after = TcpStream::connect(proxy.address).await.unwrap();
        ask(&mut after, "a", "new").await;
        ask(&mut before, "a", "old").await;
    });
}

#[test]
fn idle_connections_to_an_endpoint_are_closed_in_time() {
    run_within(Duration::from_secs(120), async {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut server = Server::start("web", protocol).await;
            let proxy = OutboundProxy::balancing(protocol, &[server.endpoint()]);
            let mut client = Client::connect(proxy.address, protocol).await;
            assert_eq!(client.post("/").await, (200, "web".to_owned()));
            assert_eq!(*server.open.borrow(), 1);
            tokio::time::pause();
            server.open.wait_for(|open| *open == 0).await.unwrap();
            tokio::time::resume();
            assert_eq!(client.post("/").await, (200, "web".to_owned()), "a new one is opened");
        }
    });
}

/// An endpoint of the workload of another service account.
fn of_account(address: SocketAddr, account: &str) -> Endpoint {
    Endpoint { workload: Workload { service_account: account.into(), ..workload("web") }, ..endpoint(address, true) }
}

#[test]
fn an_address_that_moves_to_another_pod_is_another_at_once_and_what_was_opened_to_the_former_is_not_used() {
    run(async {
        let authority = Authority::new();
        let connections = Rc::new(Cell::new(0));
        let count = connections.clone();
        let address = peer_server(&authority, move |mut stream, _| {
            count.set(count.get() + 1);
            async move {
                while let Ok(request) = stream.read_u8().await {
                    if request == b'!' {
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                    }
                }
            }
        })
        .await;
        let identity = authority.identity("client");
        let request = "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 1\r\n\r\n!";
        let direct = |endpoint| Outbound {
            protocol: Protocol::Http1,
            service: None,
            routes: Vec::new(),
            forward: Forward::Direct { reason: DirectReason::Pod, endpoint: Some(endpoint) },
            tls: OutboundTls::DEFAULT,
        };
        let balanced = OutboundProxy::meshed(Protocol::Http1, &[of_account(address, "web")], identity.clone());
        let by_address = OutboundProxy::of(direct(of_account(address, "web")), address, identity);
        for proxy in [balanced, by_address] {
            let tell = |account| {
                let endpoint = of_account(address, account);
                match proxy.destination.config().unwrap().forward {
                    Forward::Balance => proxy.destination.apply_endpoints(change(&[endpoint], &[])),
                    Forward::Direct { .. } => proxy.destination.apply_config(Arc::new(direct(endpoint))),
                }
            };
            let mut client = TcpStream::connect(proxy.address).await.unwrap();
            let before = connections.get();
            for _ in 0..2 {
                ask(&mut client, request, "ok").await;
            }
            assert_eq!(connections.get(), before + 1);
            tell("somebody-else");
            let refused = ask(&mut client, request, "\r\n\r\n").await;
            assert!(refused.contains("conduit-error: tls-failed"), "{refused}");
            tell("web");
            let mut client = TcpStream::connect(proxy.address).await.unwrap();
            ask(&mut client, request, "ok").await;
        }
    });
}

/// What answers under churn: the pods of a Service, of which some are endpoints.
struct Pods {
    application: SocketAddr,
    protocol: Protocol,
    pods: Vec<InboundProxy>,
    ended: JoinSet<()>,
}

impl Pods {
    /// A pod is replaced, as in a rolling update: it is no endpoint any more, told to stop, and ends when it has nothing open.
    fn replace(&mut self, index: usize) {
        let new = self.pods[0].beside(self.application, self.protocol);
        let old = std::mem::replace(&mut self.pods[index], new);
        old.own.apply(Arc::new(conduit_model::Inbound { terminating: true, ..old.inbound.clone() }));
        old.drain.drain();
        self.ended.spawn_local(async move { old.served.await.unwrap().unwrap() });
    }
}

#[test]
fn a_hundred_changes_of_endpoints_a_second_under_load_fail_no_request() {
    run_within(Duration::from_secs(60), async {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let application = Server::start("ok", protocol).await.address;
            let first = InboundProxy::before(application, protocol);
            let identity = first.authority.identity("client");
            let more: Vec<_> = (0..5).map(|_| first.beside(application, protocol)).collect();
            let pods = std::iter::once(first).chain(more).collect();
            let mut pods = Pods { application, protocol, pods, ended: JoinSet::new() };
            let proxy = OutboundProxy::meshed(protocol, &[endpoint(pods.pods[0].address, true)], identity);

            let (over, answered) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
            let mut clients = JoinSet::new();
            for _ in 0..6 {
                let (address, over, answered) = (proxy.address, over.clone(), answered.clone());
                clients.spawn_local(async move {
                    let mut client = Client::connect(address, protocol).await;
                    while !over.get() {
                        assert_eq!(client.post("/").await, (200, "ok".to_owned()));
                        answered.set(answered.get() + 1);
                    }
                });
            }

            let mut ticks = interval(Duration::from_millis(10));
            let dead = [endpoint(refusing().await, true), endpoint(refusing().await, false)];
            for step in 0.. {
                if step >= 200 && answered.get() >= 200 {
                    break;
                }
                ticks.tick().await;
                // Half of the pods, in turn, and every second time one at which nobody listens.
                let chosen = (0..3).map(|i| endpoint(pods.pods[(step + i) % pods.pods.len()].address, true));
                let all = chosen.chain(dead.get(step % 4).cloned()).collect();
                proxy.destination.apply_endpoints(EndpointUpdate::Whole(all));
                if step % 20 == 19 {
                    // It has just ceased to be an endpoint.
                    pods.replace((step + 5) % 6);
                }
            }
            over.set(true);
            clients.join_all().await;
            wait_for(
                &proxy.metrics,
                "route_response_total",
                &["classification=\"success\"", "status_code=\"200\""],
                answered.get() as f64,
            )
            .await;
            // What was open at the pods that are gone has come to its end.
            proxy.destination.apply_endpoints(EndpointUpdate::Whole(vec![endpoint(pods.pods[0].address, true)]));
            Client::connect(proxy.address, protocol).await.post("/").await;
            pods.ended.join_all().await;
        }
    });
}
