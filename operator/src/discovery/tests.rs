//! Objects in, updates out: proxies in the same process, over the service itself or over a connection.

use super::*;
use crate::{
    compile::Programmed,
    credential::{Authenticated, fake::authenticated},
    index::{Index, Key, Kind, ObjectName, manifests::objects},
};
use conduit_model::{
    Forward, Inbound, Outbound, OutboundTlsMode, Target, Version,
    wire::{
        self, discovery_client::DiscoveryClient, discovery_server::DiscoveryServer, watch_request::Message,
        watch_response::Update,
    },
};
use std::time::Duration;
use time::{OffsetDateTime, macros::datetime};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Code, Request, Status, Streaming};

mod addresses;
mod gone;
mod who;

const NOW: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);
const NAME: &str = "web.shop.svc.cluster.local";

/// An operator with a shop of one Service, and the proxies of three pods.
struct Operator {
    index: Index,
    discovery: Discovery,
    metrics: Metrics,
    closing: CancellationToken,
    _running: AbortOnDropHandle<()>,
}

impl Operator {
    fn start() -> Self {
        Self::with(Settings { lifetime: Duration::from_secs(3600), ..Settings::default() })
    }

    fn with(settings: Settings) -> Self {
        let index = Index::new("cluster.local");
        let all = objects(&[service("http"), pod("web-1"), endpoints(&["web-1"])].join("---\n"), "cluster.local");
        let all = all.unwrap();
        for kind in Kind::ALL {
            index.reset(kind, all.iter().filter(|object| object.key().kind == kind).cloned().collect());
        }
        let (metrics, closing) = (Metrics::default(), CancellationToken::new());
        let discovery = Discovery::new(index.clone(), settings, metrics.clone(), closing.clone(), || NOW, || 0.5);
        let running = discovery.clone();
        let _running = AbortOnDropHandle::new(tokio::spawn(async move { running.run().await }));
        Self { index, discovery, metrics, closing, _running }
    }

    fn apply(&self, yaml: &str) {
        objects(yaml, "cluster.local").unwrap().into_iter().for_each(|object| self.index.apply(object));
    }

    /// A stream of this pod, whose certificate is valid for long.
    async fn connect(&self, pod: &str) -> Proxy {
        self.try_connect(Some(authenticated(pod, None, NOW + Duration::from_secs(24 * 3600)))).await.unwrap()
    }

    /// A stream on a connection whose handshake has proven this.
    async fn try_connect(&self, client: Option<Authenticated>) -> Result<Proxy, Status> {
        let (requests, rx) = mpsc::channel(16);
        let mut request = Request::new(ReceiverStream::new(rx));
        if let Some(client) = client {
            request.extensions_mut().insert(client);
        }
        let mut client = DiscoveryClient::new(DiscoveryServer::new(self.discovery.clone()));
        let updates = client.watch(request).await?.into_inner();
        Ok(Proxy { requests, updates })
    }

    async fn programmed(&self, name: &str) -> Programmed {
        let programmed = self.discovery.programmed().await;
        *programmed.iter().find(|(source, _)| source.name == name).unwrap().1
    }
}

struct Proxy {
    requests: mpsc::Sender<wire::WatchRequest>,
    updates: Streaming<wire::WatchResponse>,
}

impl Proxy {
    async fn send(&self, message: Message) {
        self.requests.send(wire::WatchRequest { message: Some(message) }).await.unwrap();
    }

    async fn subscribe(&self, target: Target) {
        self.resume(target, Vec::new(), Vec::new()).await;
    }

    async fn resume(&self, target: Target, config_version: Vec<u8>, endpoints_version: Vec<u8>) {
        let target = Some(target.to_wire());
        self.send(Message::Subscribe(wire::Subscribe { target, config_version, endpoints_version })).await;
    }

    async fn next(&mut self) -> wire::WatchResponse {
        timeout(Duration::from_secs(5), self.updates.message()).await.expect("an update").unwrap().unwrap()
    }

    async fn outbound(&mut self) -> Outbound {
        let response = self.next().await;
        let Some(Update::Outbound(outbound)) = response.update else { panic!("{response:?}") };
        Outbound::from_wire(outbound).unwrap()
    }

    async fn endpoints(&mut self) -> (Version, wire::Endpoints) {
        let response = self.next().await;
        let Some(Update::Endpoints(endpoints)) = response.update else { panic!("{response:?}") };
        (Version::from_bytes(&response.version).unwrap(), endpoints)
    }

    /// So many updates come, whatever they are.
    async fn hears_of(&mut self, updates: usize) {
        for _ in 0..updates {
            self.next().await;
        }
    }

    /// Nothing comes for as long as anything here could take.
    async fn hears_nothing(&mut self) {
        let heard = timeout(Duration::from_secs(5), self.updates.message()).await;
        assert!(heard.is_err(), "{heard:?}");
    }

    async fn answer(&self, response: &wire::WatchResponse, rejected: &str) {
        let resource = match &response.update {
            Some(Update::Endpoints(_)) => wire::Resource::Endpoints,
            _ => wire::Resource::Config,
        };
        self.send(Message::Acknowledge(wire::Acknowledge {
            target: response.target.clone(),
            resource: resource.into(),
            version: response.version.clone(),
            rejected: rejected.into(),
        }))
        .await;
    }
}

fn web() -> Target {
    Target::Outbound("10.96.0.1:80".parse().unwrap())
}

fn service(port: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: web}}\n\
         spec: {{clusterIPs: [10.96.0.1], selector: {{app: web}}, ports: [{{name: {port}, port: 80}}]}}\n"
    )
}

fn pod(name: &str) -> String {
    let ip = ip(name);
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: {name}, labels: {{app: web}}}}\n\
         spec: {{containers: []}}\nstatus: {{podIP: {ip}}}\n"
    )
}

fn ip(pod: &str) -> String {
    format!("10.1.0.{}", pod.strip_prefix("web-").unwrap())
}

/// The slice of the Service's ports, of either name.
fn endpoints(pods: &[&str]) -> String {
    let endpoint = |pod: &&str| format!("{{addresses: [{}], targetRef: {{kind: Pod, name: {pod}}}}}", ip(pod));
    let endpoints = pods.iter().map(endpoint).collect::<Vec<_>>().join(", ");
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{namespace: shop, name: web-x, labels: {{kubernetes.io/service-name: web}}}}\n\
         addressType: IPv4\nports: [{{name: http, port: 8080}}, {{name: grpc, port: 8080}}]\nendpoints: [{endpoints}]\n"
    )
}

fn profile(route: &str) -> String {
    format!(
        "apiVersion: conduit.io/v1alpha1\nkind: ServiceProfile\n\
         metadata: {{namespace: shop, name: {NAME}, generation: 1}}\n\
         spec: {{routes: [{{name: r, condition: {{pathRegex: \"{route}\"}}}}]}}\n"
    )
}

#[tokio::test(start_paused = true)]
async fn a_proxy_is_told_what_it_asks_for_and_what_becomes_of_it() {
    let operator = Operator::start();
    let mut proxy = operator.connect("web-1").await;
    proxy.hears_nothing().await;
    proxy.subscribe(web()).await;
    let outbound = proxy.outbound().await;
    assert_eq!((outbound.forward, outbound.routes.len()), (Forward::Balance, 0));
    let (_, told) = proxy.endpoints().await;
    assert_eq!((told.whole, told.add.len()), (true, 1));

    operator.apply(&profile("/a"));
    assert_eq!(proxy.outbound().await.routes.len(), 1);
    proxy.hears_nothing().await;

    proxy.send(Message::Unsubscribe(wire::Unsubscribe { target: Some(web().to_wire()) })).await;
    operator.apply(&profile("/b"));
    proxy.hears_nothing().await;
    assert_eq!(operator.metrics.subscriptions.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_endpoint_more_or_less_is_a_small_message() {
    let operator = Operator::start();
    let mut proxy = operator.connect("web-1").await;
    proxy.subscribe(web()).await;
    proxy.outbound().await;
    proxy.endpoints().await;
    operator.apply(&[pod("web-2"), endpoints(&["web-1", "web-2"])].join("---\n"));
    let (_, told) = proxy.endpoints().await;
    assert_eq!((told.whole, told.add.len(), told.remove.len()), (false, 1, 0));
    operator.apply(&endpoints(&["web-2"]));
    let (_, told) = proxy.endpoints().await;
    assert_eq!((told.whole, told.add.len(), told.remove.len()), (false, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_proxy_holds_already_is_not_sent_again_by_any_replica() {
    let one = Operator::start();
    let mut proxy = one.connect("web-1").await;
    proxy.subscribe(web()).await;
    let config = proxy.next().await.version;
    let (held, _) = proxy.endpoints().await;

    let other = Operator::start();
    other.apply(&profile("/a"));
    let mut proxy = other.connect("web-1").await;
    proxy.resume(web(), config, held.to_bytes()).await;
    assert_eq!(proxy.outbound().await.routes.len(), 1, "that one has changed");
    proxy.hears_nothing().await;
    other.apply(&[pod("web-2"), endpoints(&["web-1", "web-2"])].join("---\n"));
    let (_, told) = proxy.endpoints().await;
    assert_eq!((told.whole, told.add.len()), (false, 1), "what it holds is the basis of what follows");
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_differ_from_what_a_proxy_names_are_sent_whole() {
    let operator = Operator::start();
    let mut proxy = operator.connect("web-1").await;
    let stranger = Version::of_outbound(&Outbound::unknown(OutboundTlsMode::Prefer));
    proxy.resume(web(), Vec::new(), stranger.to_bytes()).await;
    proxy.outbound().await;
    let (_, told) = proxy.endpoints().await;
    assert!(told.whole);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_lost_its_way_asks_again_and_is_told_all() {
    let operator = Operator::start();
    let mut proxy = operator.connect("web-1").await;
    proxy.subscribe(web()).await;
    let config = proxy.next().await;
    let endpoints = proxy.next().await;
    proxy.answer(&endpoints, "the sum is wrong").await;
    proxy.hears_nothing().await;
    proxy.resume(web(), config.version, Vec::new()).await;
    let (_, told) = proxy.endpoints().await;
    assert!(told.whole);
    assert_eq!(operator.metrics.subscriptions.get(), 1, "it is the same subscription");
}

#[tokio::test(start_paused = true)]
async fn a_refused_update_counts_and_is_not_repeated_until_it_changes() {
    let operator = Operator::start();
    operator.apply(&profile("/a"));
    let mut proxy = operator.connect("web-1").await;
    proxy.subscribe(web()).await;
    let config = proxy.next().await;
    proxy.endpoints().await;
    proxy.answer(&config, "routes[0]: is not understood").await;
    proxy.hears_nothing().await;
    assert_eq!(operator.metrics.nacks.get(), 1);
    let expected = Programmed { proxies: 1, current: 0, rejected: 1, ..Programmed::default() };
    assert_eq!(operator.programmed(NAME).await, expected);

    operator.apply(&profile("/b").replace("generation: 1", "generation: 2"));
    let config = proxy.next().await;
    let expected = Programmed { proxies: 1, current: 0, ..Programmed::default() };
    assert_eq!(operator.programmed(NAME).await, expected);
    proxy.answer(&config, "").await;
    proxy.hears_nothing().await;
    let expected = Programmed { proxies: 1, current: 1, ..Programmed::default() };
    assert_eq!(operator.programmed(NAME).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_counts_once_per_object_and_only_with_all_that_was_made_from_it() {
    let operator = Operator::start();
    operator.apply(&profile("/a"));
    let mut idle = operator.connect("web-2").await;
    let mut proxy = operator.connect("web-1").await;
    proxy.subscribe(Target::Inbound).await;
    proxy.subscribe(web()).await;
    let (inbound, outbound) = (proxy.next().await, proxy.next().await);
    proxy.endpoints().await;
    proxy.answer(&inbound, "").await;
    proxy.hears_nothing().await;
    assert_eq!(operator.programmed(NAME).await, Programmed { proxies: 1, current: 0, ..Programmed::default() });
    proxy.answer(&outbound, "").await;
    proxy.hears_nothing().await;
    assert_eq!(operator.programmed(NAME).await, Programmed { proxies: 1, current: 1, ..Programmed::default() });
    idle.hears_nothing().await;
    drop(proxy);
    assert_eq!(operator.programmed(NAME).await, Programmed::default());
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_another_overrides_everywhere_does_not_count_as_in_effect() {
    let policy = |name: &str, target: &str| {
        format!(
            "apiVersion: conduit.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {{namespace: shop, name: {name}}}\n\
             spec: {{targetRefs: [{target}], outbound: {{protocol: {{type: HTTP2}}}}}}\n"
        )
    };
    let operator = Operator::start();
    operator.apply(&policy("wide", "{kind: Namespace}"));
    operator.apply(&policy("narrow", "{kind: Service, name: web}"));
    let mut proxy = operator.connect("web-1").await;
    proxy.subscribe(web()).await;
    let config = proxy.next().await;
    proxy.endpoints().await;
    proxy.answer(&config, "").await;
    proxy.hears_nothing().await;
    let held = Programmed { proxies: 1, current: 1, ..Programmed::default() };
    assert_eq!(operator.programmed("narrow").await, held);
    assert_eq!(operator.programmed("wide").await, Programmed { overridden: 1, ..held });
}

#[tokio::test(start_paused = true)]
async fn a_new_generation_that_says_the_same_is_current_without_being_sent() {
    let operator = Operator::start();
    operator.apply(&profile("/a"));
    let mut proxy = operator.connect("web-1").await;
    proxy.subscribe(web()).await;
    let config = proxy.next().await;
    proxy.endpoints().await;
    proxy.answer(&config, "").await;
    operator.apply(&profile("/a").replace("generation: 1", "generation: 2"));
    proxy.hears_nothing().await;
    assert_eq!(operator.programmed(NAME).await, Programmed { proxies: 1, current: 1, ..Programmed::default() });
}

#[tokio::test(start_paused = true)]
async fn an_object_that_became_unreadable_says_so_and_endpoints_go_on() {
    let operator = Operator::start();
    operator.apply(&profile("/a"));
    let mut proxy = operator.connect("web-1").await;
    proxy.subscribe(web()).await;
    let before = proxy.next().await;
    proxy.endpoints().await;
    operator.apply(&profile("("));
    let response = proxy.next().await;
    let Some(Update::Invalid(invalid)) = &response.update else { panic!("{response:?}") };
    assert!(invalid.reason.starts_with("serviceprofile/shop/web.shop"), "{}", invalid.reason);
    let Some(wire::invalid::Meanwhile::Outbound(meanwhile)) = invalid.meanwhile.clone() else { panic!("{invalid:?}") };
    let meanwhile = Outbound::from_wire(meanwhile).unwrap();
    assert_eq!(response.version, Version::of_outbound(&meanwhile).to_bytes());
    assert_eq!((meanwhile.forward, meanwhile.routes.len()), (Forward::Balance, 0), "for who holds nothing");
    operator.apply(&[pod("web-2"), endpoints(&["web-1", "web-2"])].join("---\n"));
    assert!(!proxy.endpoints().await.1.whole);
    operator.apply(&profile("/a"));
    proxy.hears_nothing().await;
    operator.apply(&profile("/b"));
    assert_ne!(proxy.next().await.version, before.version);
}

#[tokio::test(start_paused = true)]
async fn endpoints_are_sent_with_balancing_and_whole_each_time_it_begins() {
    let operator = Operator::start();
    let mut proxy = operator.connect("web-1").await;
    proxy.subscribe(web()).await;
    proxy.outbound().await;
    proxy.endpoints().await;
    operator.apply(&service("http").replace("spec: {", "spec: {sessionAffinity: ClientIP, "));
    assert!(matches!(proxy.outbound().await.forward, Forward::Direct { .. }));
    operator.apply(&[pod("web-2"), endpoints(&["web-1", "web-2"])].join("---\n"));
    proxy.hears_nothing().await;
    operator.apply(&service("http"));
    assert_eq!(proxy.outbound().await.forward, Forward::Balance);
    let (_, told) = proxy.endpoints().await;
    assert_eq!((told.whole, told.add.len()), (true, 2));
}

#[tokio::test(start_paused = true)]
async fn a_slow_proxy_is_told_the_newest_alone() {
    let operator = Operator::start();
    let mut proxy = operator.connect("web-1").await;
    proxy.subscribe(web()).await;
    proxy.outbound().await;
    proxy.endpoints().await;
    for route in ["/a", "/b", "/c", "/d"] {
        operator.apply(&profile(route));
        // Compiled, though not read by the proxy.
        operator.discovery.programmed().await;
    }
    let outbound = proxy.outbound().await;
    assert_eq!(
        outbound.routes[0].condition,
        conduit_model::RequestMatch::Path(conduit_model::PathRegex::parse("/d").unwrap(),)
    );
    proxy.hears_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_told_of_itself_alone_and_as_soon_as_it_is_known() {
    let operator = Operator::start();
    let mut proxy = operator.connect("web-3").await;
    proxy.subscribe(Target::Inbound).await;
    proxy.hears_nothing().await;
    operator.apply(&pod("web-3"));
    let response = proxy.next().await;
    let Some(Update::Inbound(inbound)) = response.update else { panic!("{response:?}") };
    let inbound = Inbound::from_wire(inbound).unwrap();
    assert_eq!((inbound.workload.pod.as_str(), inbound.terminating), ("web-3", false));
    let stopping = pod("web-3").replace("name: web-3", "name: web-3, deletionTimestamp: \"2026-01-01T00:00:00Z\"");
    operator.apply(&stopping);
    let response = proxy.next().await;
    let Some(Update::Inbound(inbound)) = response.update else { panic!("{response:?}") };
    assert!(inbound.terminating);
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_a_bound_of_subscriptions_a_lifetime_and_an_end_with_the_server() {
    let operator =
        Operator::with(Settings { targets_max: 1, lifetime: Duration::from_secs(60), ..Settings::default() });
    let mut greedy = operator.connect("web-1").await;
    greedy.subscribe(Target::Inbound).await;
    greedy.next().await;
    greedy.subscribe(Target::Inbound).await;
    greedy.next().await;
    greedy.subscribe(web()).await;
    let status = greedy.updates.message().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, "a stream subscribes to at most 1 targets")
    );

    let mut long = operator.connect("web-1").await;
    long.hears_nothing().await;
    assert!(long.updates.message().await.unwrap().is_none(), "ended by its lifetime, without an error");

    let mut last = operator.connect("web-1").await;
    operator.closing.cancel();
    assert!(last.updates.message().await.unwrap().is_none());
    drop((greedy, long, last));
    assert_eq!((operator.metrics.streams.get(), operator.metrics.subscriptions.get()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_nobody_subscribes_to_is_not_compiled() {
    let operator = Operator::start();
    operator.apply(&profile("/a"));
    operator.discovery.programmed().await;
    assert_eq!(operator.metrics.recompiles.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_change_compiles_again_what_depends_on_it_and_nothing_else() {
    let operator = Operator::start();
    let mut proxy = operator.connect("web-1").await;
    proxy.subscribe(web()).await;
    proxy.subscribe(Target::Outbound("192.0.2.1:443".parse().unwrap())).await;
    proxy.hears_of(3).await;
    for (yaml, expected) in [
        (profile("/a"), 2),
        (profile("/a"), 0),
        (endpoints(&[]), 1),
        (pod("web-2"), 0),
        (service("http").replace("web", "other").replace("10.96.0.1", "10.96.0.9"), 0),
    ] {
        let before = operator.metrics.recompiles.get();
        operator.apply(&yaml);
        operator.discovery.programmed().await;
        assert_eq!(operator.metrics.recompiles.get() - before, expected, "{yaml}");
    }
}
