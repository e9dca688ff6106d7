//! What the access log says of what passed.

use crate::{own_tls, support::*};
use conduit_model::{InboundMtls, InboundMtlsMode, Protocol};
use http::Response;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The fields of `line` with these names.
fn fields<const N: usize>(line: &Value, names: [&str; N]) -> [Value; N] {
    names.map(|name| line[name].clone())
}

#[test]
fn a_request_has_a_line_at_either_proxy_with_what_each_knows_of_it() {
    run(async {
        let page = log();
        let application = http1_server(|_| async { Response::new(full("hello")) }).await;
        let (outbound, inbound) = chain(application, Protocol::Http1);
        let get = "POST /books?page=2 HTTP/1.1\r\nhost: web\r\nuser-agent: case\r\ncontent-length: 3\r\n\r\nabc";
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        let from = client.local_addr().unwrap();
        ask(&mut client, get, "hello").await;
        wait_for(&outbound.metrics, "response_total", &[], 1.0).await;
        wait_for(&inbound.metrics, "response_total", &[], 1.0).await;
        drop(client);
        let mut lines = page.lines(&[&outbound.metrics, &inbound.metrics]);
        lines.sort_by_key(|line| line["direction"] == "inbound");
        let [one, other] = &lines[..] else { panic!("{lines:?}") };
        for (line, direction) in [(one, "outbound"), (other, "inbound")] {
            let names =
                ["kind", "direction", "method", "host", "uri", "version", "user_agent", "classification", "tls"];
            let expected =
                ["request", direction, "POST", "web", "/books?page=2", "HTTP/1.1", "case", "success", "true"];
            assert_eq!(fields(line, names), expected.map(Value::from));
            assert_eq!(fields(line, ["status", "request_bytes", "response_bytes"]), [200, 3, 5].map(Value::from));
            assert!(line["latency_ms"].as_f64().unwrap() > 0.0, "{line}");
        }
        assert_eq!(one["client"], from.to_string());
        assert_eq!(one["endpoint"], inbound.address.to_string());
        assert_eq!(one["server_id"], "spiffe://cluster.local/ns/shop/sa/web");
        assert_eq!(other["client_id"], "spiffe://cluster.local/ns/shop/sa/client");
        assert_eq!(other["server"], application.to_string());
    });
}

#[test]
fn the_applications_own_tls_is_written_about_with_its_server_name_and_its_protocols_at_both_proxies() {
    run(async {
        for protocol in [Protocol::Opaque, Protocol::Tls, Protocol::Detect] {
            let page = log();
            let own = own_tls::Own::new("db.example.com");
            let (outbound, inbound) = chain(own.echo().await, protocol);
            own.exchange(outbound.address, 100_000).await;
            let both = [&outbound.metrics, &inbound.metrics];
            for metrics in both {
                wait_for(metrics, "tcp_open_connections", &[], 0.0).await;
            }
            let lines = page.lines(&both);
            assert_eq!(lines.len(), 2, "{lines:?}");
            for line in &lines {
                let names = ["kind", "protocol", "sni", "tls"];
                assert_eq!(fields(line, names), ["connection", "tls", "db.example.com", "true"].map(Value::from));
                assert_eq!(line["alpn"], serde_json::json!(["echo/1", "http/1.1"]));
                assert_eq!(line.get("error"), None, "{line}");
                let bytes = |name: &str| line[name].as_u64().unwrap();
                assert!(bytes("received_bytes") > 100_000 && bytes("sent_bytes") > 100_000, "{line}");
            }
        }
    });
}

#[test]
fn the_own_tls_of_an_unmeshed_client_is_written_about_before_an_unmeshed_server_too() {
    run(async {
        let page = log();
        let own = own_tls::Own::new("db.example.com");
        let application = own.echo().await;
        let inbound = InboundProxy::before(application, Protocol::Opaque);
        let outbound = OutboundProxy::balancing(Protocol::Detect, &[endpoint(application, false)]);
        for (address, metrics) in [(inbound.address, &inbound.metrics), (outbound.address, &outbound.metrics)] {
            own.exchange(address, 10_000).await;
            wait_for(metrics, "tcp_open_connections", &[], 0.0).await;
            let line = &page.lines(&[metrics])[0];
            assert_eq!(fields(line, ["sni", "tls"]), ["db.example.com", "no_identity"].map(Value::from));
        }
    });
}

#[test]
fn a_connection_that_breaks_or_is_not_served_is_written_about_with_the_reason() {
    run(async {
        let page = log();
        let nobody = OutboundProxy::balancing(Protocol::Opaque, &[]);
        let mut client = TcpStream::connect(nobody.address).await.unwrap();
        let _ = client.read_u8().await;
        let line = &page.lines(&[&nobody.metrics])[0];
        assert_eq!(fields(line, ["kind", "error"]), ["connection", "no-endpoints"].map(Value::from));

        let resets = server(|stream, _| async move {
            stream.readable().await.unwrap();
            socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        })
        .await;
        let broken = OutboundProxy::balancing(Protocol::Opaque, &[endpoint(resets, false)]);
        let mut client = TcpStream::connect(broken.address).await.unwrap();
        client.write_all(b"x").await.unwrap();
        let _ = client.read_u8().await;
        wait_for(&broken.metrics, "tcp_open_connections", &[], 0.0).await;
        let line = &page.lines(&[&broken.metrics])[0];
        assert_eq!(fields(line, ["protocol", "error"]), ["opaque", "ECONNRESET"].map(Value::from));
        assert_eq!(fields(line, ["received_bytes", "sent_bytes"]), [1, 0].map(Value::from));

        let application = refusing().await;
        let mut strict = inbound_port(application, Protocol::Opaque);
        strict.mtls = InboundMtls { mode: InboundMtlsMode::Strict, ..InboundMtls::DEFAULT };
        let told = conduit_model::Inbound { ports: vec![strict], ..conduit_model::Inbound::of(workload("web")) };
        let refusing = InboundProxy::told(application, told, Vec::new());
        let mut client = TcpStream::connect(refusing.address).await.unwrap();
        client.write_all(b"hello\r\n").await.unwrap();
        client.read_u8().await.unwrap_err();
        let line = &page.lines(&[&refusing.metrics])[0];
        assert_eq!(fields(line, ["direction", "error"]), ["inbound", "tls-required"].map(Value::from));
    });
}

#[test]
fn a_head_that_is_refused_is_counted_by_its_code_and_written_about() {
    run(async {
        let page = log();
        for (request, status, error) in [
            ("GET / HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), 400, "request-invalid"),
            (format!("GET /{} HTTP/1.1\r\nhost: web\r\n\r\n", "a".repeat(70_000)), 431, "request-head-too-large"),
            (
                "POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: gzip, chunked\r\n\r\n".to_owned(),
                501,
                "request-unsupported",
            ),
        ] {
            let inbound = InboundProxy::before(refusing().await, Protocol::Http1);
            let answer = exchange(inbound.address, &request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            let labels = ["direction=\"inbound\"", &format!("error=\"{error}\"")];
            wait_for(&inbound.metrics, "conduit_requests_refused_total", &labels, 1.0).await;
            let line = &page.lines(&[&inbound.metrics])[0];
            assert_eq!(fields(line, ["kind", "error"]), ["request", error].map(Value::from));
            assert_eq!(line["status"], status);
        }
    });
}

#[test]
fn frames_that_are_not_http2_are_counted_and_written_about_as_a_refusal() {
    run(async {
        let page = log();
        let inbound = InboundProxy::before(refusing().await, Protocol::Http2);
        let mut client = TcpStream::connect(inbound.address).await.unwrap();
        // SETTINGS of one byte (RFC 9113 section 6.5: a multiple of six).
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x01\x04\0\0\0\0\0\0").await.unwrap();
        client.shutdown().await.unwrap();
        let _ = client.read_to_end(&mut Vec::new()).await;
        let labels = ["direction=\"inbound\"", "error=\"request-invalid\""];
        wait_for(&inbound.metrics, "conduit_requests_refused_total", &labels, 1.0).await;
        let line = &page.lines(&[&inbound.metrics])[0];
        assert_eq!(fields(line, ["kind", "error"]), ["request", "request-invalid"].map(Value::from));
    });
}
