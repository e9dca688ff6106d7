//! What an outbound proxy holds of the Services that it calls, in bytes by its allocator's own count: what one costs, and that
//! all of it is given back. One test, because the count is the process's.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unsafe_code)]

use conduit_model::{
    Endpoint, EndpointProxy, EndpointUpdate, Forward, Outbound, OutboundTls, Protocol, ServicePort, Workload,
    WorkloadKind,
};
use conduit_proxy::{
    identity::Identity,
    listen::{
        drain,
        original::OriginalDestination,
        room::{Bounds, Room},
        socket::{Sharing, bind},
    },
    outbound,
    record::Metrics,
    upstream::{directory::Directory, own::Own},
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
    time::{pause, resume, sleep},
};

/// The system's allocator, with a count of the bytes that are allocated.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all that is asked is passed on, and what is answered is passed back.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps what `alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps what `dealloc` asks for, and `System` made the block.
        unsafe { System.dealloc(block, layout) }
    }
}

fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// Services called in a round, and endpoints of each.
const SERVICES: u16 = 20;
const ENDPOINTS: usize = 100;

/// What a called Service may cost without its connections and further endpoints, in bytes; 7,300 are needed.
const BUDGET: usize = 8 * 1024;
/// What may be left of a Service that is not called any more, or was large, in bytes: room in tables that shrink by halves.
const LEFT: usize = 256;

/// Applications that answer every request alike.
async fn applications() -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for _ in 0..ENDPOINTS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(listener.local_addr().unwrap());
        spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                spawn_local(async move {
                    let mut head = [0; 1024];
                    while stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                    }
                });
            }
        });
    }
    addresses
}

/// One outbound listener, and the address that its connections go to.
struct Called {
    listener: SocketAddr,
    service: SocketAddr,
    /// Keeps the proxy from draining.
    _drain: drain::DrainSignal,
}

struct Proxy {
    directory: Arc<Directory>,
    called: Vec<Called>,
    applications: Vec<SocketAddr>,
}

impl Proxy {
    /// A proxy with a listener for each Service, as there is no redirection that says which is meant.
    async fn start() -> Self {
        let (directory, mut wanted) = Directory::new(Own::new());
        // What is wanted is told by the case itself.
        spawn_local(async move { while wanted.recv().await.is_some() {} });
        let metrics = Metrics::new();
        let forgetting = metrics.clone();
        spawn_local(async move { forgetting.forget_unused().await });
        let called = (0..SERVICES).map(|index| {
            let service = SocketAddr::from(([10, 96, 0, index as u8], 80));
            let listener = bind("127.0.0.1:0".parse().unwrap(), Sharing::Alone).unwrap();
            let address = listener.local_addr().unwrap();
            let (_drain, drained) = drain::channel();
            spawn_local(outbound::serve(outbound::Config {
                listeners: vec![listener],
                original: OriginalDestination::Fixed(service),
                room: Room::new(Bounds::shared(10_000, 100)),
                directory: directory.clone(),
                identity: Identity::new("cluster.local".parse().unwrap()),
                pod_ips: Vec::new(),
                metrics: metrics.clone(),
                drain: drained,
                discovery_timeout: Duration::from_secs(1),
                detect_timeout: Duration::from_secs(1),
                connect_timeout: Duration::from_secs(1),
                pool_idle_timeout: Duration::from_secs(3),
            }));
            Called { listener: address, service, _drain }
        });
        let called = called.collect();
        Self { directory, called, applications: applications().await }
    }

    /// Calls a Service of this name at each listener, all with so many endpoints.
    async fn call(&self, round: &str, endpoints: usize) {
        for (index, called) in self.called.iter().enumerate() {
            let name = format!("{round}-{index}");
            let destination = self.directory.destination(called.service);
            let endpoint = |(nth, address): (usize, &SocketAddr)| Endpoint {
                address: *address,
                workload: Workload {
                    namespace: "shop".into(),
                    service_account: name.clone(),
                    kind: WorkloadKind::Deployment,
                    name: name.clone(),
                    pod: format!("{name}-{nth}"),
                },
                proxy: EndpointProxy::None,
            };
            destination.apply_config(Arc::new(Outbound {
                protocol: Protocol::Http1,
                service: Some(ServicePort {
                    namespace: "shop".into(),
                    name: name.clone(),
                    port: 80,
                    fqdn: format!("{name}.shop.svc.cluster.local"),
                }),
                routes: Vec::new(),
                forward: Forward::Balance,
                tls: OutboundTls::DEFAULT,
            }));
            let endpoints = self.applications.iter().take(endpoints).enumerate().map(endpoint);
            destination.apply_endpoints(EndpointUpdate::Whole(endpoints.collect()));
            let mut stream = TcpStream::connect(called.listener).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
        }
        // Idle connections are closed.
        pass(Duration::from_secs(20)).await;
    }

    /// Unsubscribes from every Service, as `discovery` does.
    fn unsubscribe(&self) {
        assert!(self.called.iter().all(|called| self.directory.remove(called.service)));
        assert!(self.directory.all().is_empty());
    }
}

/// Lets so much time pass while nothing is called.
async fn pass(time: Duration) {
    pause();
    sleep(time).await;
    resume();
}

#[test]
fn a_called_service_costs_little_and_what_it_costs_is_given_back_as_what_its_endpoints_cost() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let proxy = Proxy::start().await;
        let services = usize::from(SERVICES);
        // What is made once is there after the first round.
        let mut idle = 0;
        for round in ["first", "second", "third"] {
            proxy.call(round, 1).await;
            let called = live();
            proxy.unsubscribe();
            // Workers let go, and later the series are forgotten.
            pass(Duration::from_secs(800)).await;
            let after = live();
            if idle > 0 {
                let each = (called - idle) / services;
                println!("{round}: a called Service costs {each} bytes");
                assert!(each <= BUDGET, "a called Service costs {each} bytes");
                let left = after.saturating_sub(idle) / services;
                assert!(left <= LEFT, "{left} bytes are left of each Service");
            }
            idle = after;
        }

        let mut before = 0;
        for _ in 0..3 {
            for _ in 0..5 {
                proxy.call("last", ENDPOINTS).await;
            }
            let large = live();
            proxy.call("last", 1).await;
            let small = live();
            println!("an endpoint costs {} bytes", (large - small) / services / (ENDPOINTS - 1));
            if before > 0 {
                let left = small.saturating_sub(before) / services;
                assert!(left <= LEFT, "{left} bytes are left of each Service's endpoints");
            }
            before = small;
        }
        // The tables too are as small as they were.
        let each = (before - idle) / services;
        assert!(each <= BUDGET, "a Service that was large costs {each} bytes");
    });
}
