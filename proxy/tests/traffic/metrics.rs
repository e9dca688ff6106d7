//! What is counted, to the letter.

use crate::support::*;
use conduit_model::{
    Classification, EndpointUpdate, Forward, Inbound, InboundService, Outbound, OutboundTls, Protocol, RequestMatch,
    ResponseClass, ResponseMatch, ServicePort, route::PathRegex,
};
use http::{Method, Response};
use std::sync::Arc;
use tokio::net::TcpStream;

/// The lines of `shown` that start with one of `names`, without histogram buckets and sums.
fn lines(shown: &str, names: &[&str]) -> Vec<String> {
    let of = |line: &&str| names.iter().any(|name| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    shown.lines().filter(of).map(str::to_owned).collect()
}

#[test]
fn an_exchange_is_counted_for_its_endpoint_and_for_its_route() {
    run(async {
        let application = http1_server(|_| async { Response::new(full("ok")) }).await;
        let (outbound, inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        ask(&mut client, "GET / HTTP/1.1\r\nhost: web\r\n\r\n", "ok").await;
        wait_for(&outbound.metrics, "response_total", &[], 1.0).await;
        wait_for(&inbound.metrics, "response_total", &[], 1.0).await;
        let names = [
            "request_total",
            "response_total",
            "response_latency_ms_count",
            "route_request_total",
            "route_response_total",
            "route_response_latency_ms_count",
        ];
        let to_web = "authority=\"web.shop.svc.cluster.local:80\"";
        let labels = format!(
            "direction=\"outbound\",{to_web},dst_namespace=\"shop\",dst_deployment=\"web\",dst_serviceaccount=\"web\",\
             dst_service=\"web\",tls=\"true\",server_id=\"spiffe://cluster.local/ns/shop/sa/web\""
        );
        let dst = "dst=\"web.shop.svc.cluster.local:80\",rt_route=\"[DEFAULT]\"";
        let end = "classification=\"success\",status_code=\"200\"";
        assert_eq!(
            lines(&shown(&outbound.metrics), &names),
            [
                format!("request_total{{{labels}}} 1"),
                format!("response_total{{{labels},{end}}} 1"),
                format!("response_latency_ms_count{{{labels},status_code=\"200\"}} 1"),
                format!("route_request_total{{direction=\"outbound\",{dst}}} 1"),
                format!("route_response_total{{direction=\"outbound\",{dst},{end}}} 1"),
                format!("route_response_latency_ms_count{{direction=\"outbound\",{dst},status_code=\"200\"}} 1"),
            ]
        );
        let labels = format!(
            "direction=\"inbound\",{to_web},target_port=\"{}\",tls=\"true\",\
             client_id=\"spiffe://cluster.local/ns/shop/sa/client\"",
            application.port()
        );
        assert_eq!(
            lines(&shown(&inbound.metrics), &names),
            [
                format!("request_total{{{labels}}} 1"),
                format!("response_total{{{labels},{end}}} 1"),
                format!("response_latency_ms_count{{{labels},status_code=\"200\"}} 1"),
                format!("route_request_total{{direction=\"inbound\",{dst}}} 1"),
                format!("route_response_total{{direction=\"inbound\",{dst},{end}}} 1"),
                format!("route_response_latency_ms_count{{direction=\"inbound\",{dst},status_code=\"200\"}} 1"),
            ]
        );
    });
}

#[test]
fn routes_and_response_classes_apply_from_the_next_request_on() {
    run(async {
        let application = http1_server(|_| async { Response::builder().status(404).body(full("none")).unwrap() }).await;
        let proxy = OutboundProxy::balancing(Protocol::Http1, &[endpoint(application, false)]);
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        let request = "GET /books/7?full HTTP/1.1\r\nhost: web\r\n\r\n";
        ask(&mut client, request, "none").await;
        let condition = RequestMatch::All(vec![
            RequestMatch::Method(Method::GET),
            RequestMatch::Path(PathRegex::parse("/books/\\d+").unwrap()),
        ]);
        let mut book = route("GET /books/{id}", condition);
        book.response_classes = vec![ResponseClass {
            condition: ResponseMatch::Status(404..=404),
            classification: Classification::Failure,
        }];
        proxy.destination.apply_config(Arc::new(Outbound {
            protocol: Protocol::Http1,
            service: Some(service_port()),
            routes: vec![book],
            forward: Forward::Balance,
            tls: OutboundTls::DEFAULT,
        }));
        ask(&mut client, request, "none").await;
        let by_route = |route: &str, classification: &str| {
            let labels = [format!("rt_route=\"{route}\""), format!("classification=\"{classification}\"")];
            sum(&proxy.metrics, "route_response_total", &labels.each_ref().map(String::as_str))
        };
        assert_eq!(by_route("[DEFAULT]", "success"), 1.0);
        assert_eq!(by_route("GET /books/{id}", "failure"), 1.0);
        assert_eq!(sum(&proxy.metrics, "tcp_open_total", &["peer=\"dst\""]), 1.0, "the connection stayed open");
    });
}

#[test]
fn a_request_counts_for_the_service_that_its_host_names_first_or_for_the_oldest() {
    run(async {
        let application = http1_server(|_| async { Response::new(full("ok")) }).await;
        let mut port = inbound_port(application, Protocol::Http1);
        let oldest = &port.services[0];
        let newer = InboundService {
            service: ServicePort {
                name: "newer".into(),
                fqdn: "newer.shop.svc.cluster.local".into(),
                ..oldest.service.clone()
            },
            hosts: vec!["newer".into(), "web".into()],
            routes: Vec::new(),
        };
        port.services.push(newer);
        let told = Inbound { ports: vec![port], ..Inbound::of(workload("web")) };
        let proxy = InboundProxy::told(application, told, Vec::new());
        for host in ["web", "WEB.shop.svc.cluster.local:80", "10.0.0.7", "elsewhere", "newer", "Newer:80"] {
            let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            assert!(exchange(proxy.address, &request).await.ends_with("ok"));
        }
        for (service, requests) in [("web", 4.0), ("newer", 2.0)] {
            let labels = [format!("dst=\"{service}.shop.svc.cluster.local:80\"")];
            assert_eq!(sum(&proxy.metrics, "route_request_total", &labels.each_ref().map(String::as_str)), requests);
        }
        assert!(!shown(&proxy.metrics).contains("elsewhere"), "what a client says is no label");
    });
}

#[test]
fn endpoints_are_told_apart_by_workload_and_not_by_address() {
    run(async {
        let applications = [
            http1_server(|_| async { Response::new(full("ok")) }).await,
            http1_server(|_| async { Response::new(full("ok")) }).await,
        ];
        let proxy = OutboundProxy::balancing(Protocol::Http1, &[]);
        let endpoints = applications.map(|address| endpoint(address, false));
        proxy.destination.apply_endpoints(EndpointUpdate::Whole(endpoints.to_vec()));
        for _ in 0..20 {
            exchange(proxy.address, "GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").await;
        }
        wait_for(&proxy.metrics, "response_total", &["dst_deployment=\"web\""], 20.0).await;
        assert_eq!(lines(&shown(&proxy.metrics), &["request_total"]).len(), 1);
    });
}
