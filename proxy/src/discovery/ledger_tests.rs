//! The decisions of the ledger, event by event.

use super::ledger::*;
use crate::identity::TrustBundle;
use conduit_model::{
    Endpoint, EndpointProxy, EndpointSet, EndpointUpdate, Inbound, Outbound, OutboundTlsMode, Protocol, Target,
    Version, Workload, WorkloadKind,
    wire::{self, invalid::Meanwhile, watch_request::Message as Request, watch_response::Update as Message},
};
use std::{net::SocketAddr, sync::Arc};
use tokio::time::Instant;

fn address() -> SocketAddr {
    "10.96.0.1:80".parse().unwrap()
}

fn target() -> Target {
    Target::Outbound(address())
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

fn set(last_octets: &[u8]) -> EndpointSet {
    let endpoint = |octet: &u8| {
        let address = SocketAddr::from(([10, 0, 0, *octet], 8080));
        Endpoint { address, workload: workload(), proxy: EndpointProxy::Mtls }
    };
    last_octets.iter().map(endpoint).collect()
}

fn outbound(protocol: Protocol) -> Outbound {
    Outbound { protocol, ..Outbound::unknown(OutboundTlsMode::Prefer) }
}

fn response(target: Target, version: Version, update: Message) -> wire::WatchResponse {
    wire::WatchResponse { target: Some(target.to_wire()), version: version.to_bytes(), update: Some(update) }
}

fn config(outbound: &Outbound) -> wire::WatchResponse {
    response(target(), Version::of_outbound(outbound), Message::Outbound(outbound.to_wire()))
}

fn whole(endpoints: &EndpointSet) -> wire::WatchResponse {
    let update = EndpointUpdate::Whole(endpoints.iter().map(|endpoint| Endpoint::clone(endpoint)).collect());
    response(target(), Version::of_endpoints(endpoints), Message::Endpoints(update.to_wire()))
}

fn change(old: &EndpointSet, new: &EndpointSet) -> wire::WatchResponse {
    let update = EndpointUpdate::between(old, new);
    response(target(), Version::of_endpoints(new), Message::Endpoints(update.to_wire()))
}

/// What a reaction tells the operator, in words.
fn sent(reaction: &Reaction) -> Vec<String> {
    let name = |target: &Option<wire::Target>| match Target::from_wire(target.clone().unwrap()).unwrap() {
        Target::Inbound => "inbound".to_owned(),
        Target::Outbound(address) => address.to_string(),
    };
    let version = |bytes: &[u8]| Version::from_bytes(bytes).map_or("nothing".into(), |version| version.to_string());
    let words = |request: &wire::WatchRequest| match request.message.as_ref().unwrap() {
        Request::Subscribe(s) => {
            let (config, endpoints) = (version(&s.config_version), version(&s.endpoints_version));
            format!("subscribe {} holding {config} and {endpoints}", name(&s.target))
        }
        Request::Unsubscribe(u) => format!("unsubscribe {}", name(&u.target)),
        Request::Acknowledge(a) if a.rejected.is_empty() => format!("ack {}", version(&a.version)),
        Request::Acknowledge(a) => format!("nack {}: {}", version(&a.version), a.rejected),
    };
    reaction.send.iter().map(words).collect()
}

impl Ledger {
    fn hear(&mut self, message: wire::WatchResponse) -> Reaction {
        self.told(message, Instant::now())
    }
}

/// A ledger with an open stream that subscribes to the target.
fn subscribed() -> Ledger {
    let mut ledger = Ledger::new();
    ledger.opened();
    ledger.wanted(address());
    ledger
}

#[test]
fn a_new_stream_asks_for_the_inbound_configuration_first() {
    let mut ledger = Ledger::new();
    assert_eq!(ledger.wanted(address()), Reaction::default(), "no stream is open");
    assert_eq!(
        sent(&ledger.opened()),
        ["subscribe inbound holding nothing and nothing", "subscribe 10.96.0.1:80 holding nothing and nothing"]
    );
}

#[test]
fn a_destination_is_subscribed_to_once_and_unsubscribed_from_once() {
    let mut ledger = Ledger::new();
    ledger.opened();
    assert_eq!(sent(&ledger.wanted(address())), ["subscribe 10.96.0.1:80 holding nothing and nothing"]);
    assert_eq!(sent(&ledger.wanted(address())), [""; 0]);
    assert_eq!(sent(&ledger.unused(address())), ["unsubscribe 10.96.0.1:80"]);
    assert_eq!(sent(&ledger.unused(address())), [""; 0]);
    assert_eq!(
        ledger.hear(config(&Outbound::unknown(OutboundTlsMode::Prefer))).verdict,
        Some(Verdict::Stale),
        "it was under way already"
    );
}

#[test]
fn what_can_be_read_comes_into_force_and_is_acknowledged() {
    let mut ledger = subscribed();
    let http = outbound(Protocol::Http1);
    let reaction = ledger.hear(config(&http));
    assert_eq!(sent(&reaction), [format!("ack {}", Version::of_outbound(&http))]);
    assert_eq!(reaction.apply, Some(Update::Outbound(address(), Arc::new(http))));

    let inbound = Inbound::of(workload());
    let message = Message::Inbound(inbound.to_wire());
    let reaction = ledger.hear(response(Target::Inbound, Version::of_inbound(&inbound), message));
    assert_eq!(reaction.apply, Some(Update::Inbound(Arc::new(inbound), None)));
}

#[test]
fn what_cannot_be_read_is_refused_with_its_field_and_what_was_held_stays() {
    let mut ledger = subscribed();
    let held = outbound(Protocol::Http1);
    ledger.hear(config(&held));
    let mut strange = outbound(Protocol::Http2).to_wire();
    strange.protocol = 99;
    let version = Version::of_outbound(&outbound(Protocol::Http2));
    let reaction = ledger.hear(response(target(), version, Message::Outbound(strange)));
    assert_eq!(sent(&reaction), [format!("nack {version}: outbound.protocol: must be a protocol, was 99")]);
    assert_eq!(reaction.apply, None);
    assert_eq!(
        sent(&ledger.opened())[1],
        format!("subscribe 10.96.0.1:80 holding {} and nothing", Version::of_outbound(&held))
    );
}

#[test]
fn messages_that_make_no_sense_are_refused() {
    let version = Version::of_outbound(&Outbound::unknown(OutboundTlsMode::Prefer));
    let inbound = Inbound::of(workload());
    for (message, expected) in [
        (response(target(), version, Message::Inbound(inbound.to_wire())), "update: must be one of an outbound target"),
        (
            response(Target::Inbound, version, Message::Outbound(Outbound::unknown(OutboundTlsMode::Prefer).to_wire())),
            "update: must be one of an inbound target",
        ),
        (
            wire::WatchResponse { update: None, ..config(&Outbound::unknown(OutboundTlsMode::Prefer)) },
            "update: is required, and must be one that this proxy knows",
        ),
        (
            wire::WatchResponse { version: vec![1, 2], ..config(&Outbound::unknown(OutboundTlsMode::Prefer)) },
            "version: must have 16 bytes, had 2",
        ),
        (
            wire::WatchResponse { target: None, ..config(&Outbound::unknown(OutboundTlsMode::Prefer)) },
            "target: is required",
        ),
    ] {
        let reaction = subscribed().hear(message);
        assert_eq!(reaction.verdict, Some(Verdict::Rejected(expected.to_owned())));
        assert_eq!(reaction.apply, None, "{expected}");
    }
}

#[test]
fn an_object_that_the_operator_cannot_read_changes_nothing_that_is_held() {
    let invalid = |meanwhile| {
        response(
            target(),
            Version::of_outbound(&Outbound::unknown(OutboundTlsMode::Prefer)),
            Message::Invalid(wire::Invalid { reason: "ServiceProfile shop/web".into(), meanwhile }),
        )
    };
    let mut ledger = subscribed();
    let unknown = outbound(Protocol::Opaque);
    for (meanwhile, expected) in [
        (None, Outbound::unknown(OutboundTlsMode::Require)),
        (Some(Meanwhile::Outbound(unknown.to_wire())), unknown),
        (Some(Meanwhile::Outbound(wire::Outbound::default())), Outbound::unknown(OutboundTlsMode::Require)),
    ] {
        let reaction = ledger.hear(invalid(meanwhile));
        assert_eq!(reaction.apply, Some(Update::Outbound(address(), Arc::new(expected))), "nothing was held");
        assert_eq!(sent(&reaction), [""; 0]);
    }

    let http = outbound(Protocol::Http1);
    ledger.hear(config(&http));
    let reaction = ledger.hear(invalid(None));
    assert_eq!(reaction.apply, None);
    assert_eq!(reaction.verdict, Some(Verdict::Invalid("ServiceProfile shop/web".into())));
    assert!(sent(&ledger.opened())[1].contains(&Version::of_outbound(&http).to_string()));
}

#[test]
fn a_proxy_of_which_nothing_is_held_takes_what_holds_meanwhile_until_it_is_told() {
    let invalid = |meanwhile| {
        let update = Message::Invalid(wire::Invalid { reason: "TrafficPolicy shop/strict".into(), meanwhile });
        response(Target::Inbound, Version::of_outbound(&outbound(Protocol::Opaque)), update)
    };
    let closed = Inbound { unknown_destinations: OutboundTlsMode::Require, ..Inbound::of(workload()) };
    let mut ledger = subscribed();
    let reaction = ledger.hear(invalid(Some(Meanwhile::Inbound(closed.to_wire()))));
    assert_eq!(reaction.apply, Some(Update::Inbound(Arc::new(closed), None)));
    let reaction = ledger.hear(invalid(Some(Meanwhile::Inbound(wire::Inbound::default()))));
    assert_eq!(reaction.apply, None);
    let expected = "TrafficPolicy shop/strict; meanwhile.inbound.workload: is required";
    assert_eq!(reaction.verdict, Some(Verdict::Invalid(expected.to_owned())));
}

#[test]
fn what_hangs_on_no_object_that_cannot_be_read_is_taken_beside_what_is_held() {
    let root = rcgen::KeyPair::generate().unwrap();
    let root = rcgen::CertificateParams::default().self_signed(&root).unwrap().der().to_vec();
    let meanwhile = Inbound { terminating: true, trust_bundle: vec![root.clone().into()], ..Inbound::of(workload()) };
    let mut ledger = subscribed();
    let held = Inbound::of(workload());
    ledger.hear(response(Target::Inbound, Version::of_inbound(&held), Message::Inbound(held.to_wire())));
    let update = Message::Invalid(wire::Invalid {
        reason: "TrafficPolicy shop/strict".into(),
        meanwhile: Some(Meanwhile::Inbound(meanwhile.to_wire())),
    });
    let reaction = ledger.hear(response(Target::Inbound, Version::of_inbound(&meanwhile), update));
    let bundle = Arc::new(TrustBundle::from_der([root]).unwrap());
    assert_eq!(reaction.apply, Some(Update::Surroundings(Arc::new(meanwhile), Some(bundle))));
    ledger.closed();
    let version = Version::of_inbound(&held).to_string();
    assert!(sent(&ledger.opened())[0].contains(&version), "what is held is named on the next stream");
}

#[test]
fn endpoints_follow_changes_and_a_new_stream_names_the_version_reached() {
    let mut ledger = subscribed();
    ledger.hear(whole(&set(&[1, 2])));
    let reaction = ledger.hear(change(&set(&[1, 2]), &set(&[2, 3])));
    assert_eq!(reaction.apply, Some(Update::Endpoints(address(), Arc::new(set(&[2, 3])))));
    ledger.closed();
    let version = Version::of_endpoints(&set(&[2, 3]));
    assert_eq!(sent(&ledger.opened())[1], format!("subscribe 10.96.0.1:80 holding nothing and {version}"));
    let reaction = ledger.hear(change(&set(&[2, 3]), &set(&[3])));
    assert_eq!(reaction.apply, Some(Update::Endpoints(address(), Arc::new(set(&[3])))), "upon what was named");
}

#[test]
fn a_change_that_does_not_lead_to_its_version_is_refused_and_the_whole_set_is_asked_for_once() {
    let mut ledger = subscribed();
    ledger.hear(whole(&set(&[1])));
    let upon_another = change(&set(&[1, 2]), &set(&[1, 2, 3]));
    let version = Version::of_endpoints(&set(&[1, 2, 3]));
    let reaction = ledger.hear(upon_another.clone());
    assert_eq!(
        sent(&reaction),
        [
            format!("nack {version}: endpoints: the change does not lead to version {version}"),
            "unsubscribe 10.96.0.1:80".to_owned(),
            "subscribe 10.96.0.1:80 holding nothing and nothing".to_owned(),
        ]
    );
    assert_eq!(reaction.apply, None);
    assert_eq!(sent(&ledger.hear(upon_another)).len(), 1, "what was under way is refused and not asked for again");
    let reaction = ledger.hear(whole(&set(&[1, 2, 3])));
    assert_eq!(reaction.apply, Some(Update::Endpoints(address(), Arc::new(set(&[1, 2, 3])))));
}

#[test]
fn a_whole_set_that_this_proxy_hashes_otherwise_is_taken_and_its_changes_are_not_compared() {
    let of_a_later_operator = Version::of_endpoints(&set(&[9]));
    let mut ledger = subscribed();
    let mut message = whole(&set(&[1]));
    message.version = of_a_later_operator.to_bytes();
    assert_eq!(ledger.hear(message).verdict, Some(Verdict::Applied));
    let mut message = change(&set(&[1]), &set(&[1, 2]));
    message.version = Version::of_endpoints(&set(&[8])).to_bytes();
    let reaction = ledger.hear(message);
    assert_eq!(reaction.apply, Some(Update::Endpoints(address(), Arc::new(set(&[1, 2])))));
}

#[test]
fn after_endpoints_that_cannot_be_read_the_next_change_asks_for_the_whole_set() {
    let mut ledger = subscribed();
    ledger.hear(whole(&set(&[1])));
    let mut unreadable = EndpointUpdate::between(&set(&[1]), &set(&[1, 2])).to_wire();
    unreadable.add[0].workload = None;
    let version = Version::of_endpoints(&set(&[1, 2]));
    let reaction = ledger.hear(response(target(), version, Message::Endpoints(unreadable)));
    assert_eq!(sent(&reaction), [format!("nack {version}: endpoints.add[0].workload: is required")]);
    let reaction = ledger.hear(change(&set(&[1, 2]), &set(&[1, 2, 3])));
    assert_eq!(
        sent(&reaction)[1..],
        ["unsubscribe 10.96.0.1:80", "subscribe 10.96.0.1:80 holding nothing and nothing"]
    );
}

#[test]
fn a_change_before_any_whole_set_is_refused() {
    let reaction = subscribed().hear(change(&set(&[]), &set(&[1])));
    let expected = "endpoints: a change where the whole set was asked for";
    assert_eq!(reaction.verdict, Some(Verdict::Rejected(expected.into())));
}
