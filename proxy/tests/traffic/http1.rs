//! HTTP/1.0 and HTTP/1.1, as clients and servers write it.

use crate::support::*;
use conduit_model::Protocol;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use std::{cell::RefCell, rc::Rc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A server that reads one head at a time, keeps it, and answers with what it is given.
async fn scripted(answers: &'static [&'static str]) -> (std::net::SocketAddr, Rc<RefCell<Vec<String>>>) {
    let heads = Rc::new(RefCell::new(Vec::new()));
    let seen = heads.clone();
    let address = server(move |mut stream, _| {
        let seen = seen.clone();
        async move {
            for answer in answers {
                let head = read_until(&mut stream, "\r\n\r\n").await;
                seen.borrow_mut().push(head);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (address, heads)
}

async fn echo(request: Request<hyper::body::Incoming>) -> Response<Body> {
    let head = format!("{} {}", request.method(), request.uri());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Response::new(full(format!("{head} {}", String::from_utf8_lossy(&body))))
}

#[test]
fn heads_pass_as_they_were_written_and_connections_are_used_again() {
    run(async {
        let (application, heads) = scripted(&[
            "HTTP/1.1 200 OK\r\nX-Answer: One\r\nContent-Length: 3\r\n\r\none",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\ntwo",
        ])
        .await;
        let (outbound, inbound) = chain(application, Protocol::Detect);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        let first = ask(&mut client, "GET /a?b=c HTTP/1.1\r\nHost: web:80\r\nX-CaSe: Kept\r\n\r\n", "one").await;
        assert_eq!(first, "HTTP/1.1 200 OK\r\nX-Answer: One\r\nContent-Length: 3\r\n\r\none");
        let second = ask(&mut client, "DELETE /b HTTP/1.1\r\nHost: web:80\r\n\r\n", "two").await;
        assert!(second.starts_with("HTTP/1.1 404 Not Found\r\n"), "{second}");
        assert_eq!(
            *heads.borrow(),
            [
                "GET /a?b=c HTTP/1.1\r\nHost: web:80\r\nX-CaSe: Kept\r\n\r\n",
                "DELETE /b HTTP/1.1\r\nHost: web:80\r\n\r\n"
            ]
        );
        assert_eq!(sum(&outbound.metrics, "tcp_open_total", &["peer=\"dst\""]), 1.0);
        assert_eq!(sum(&inbound.metrics, "tcp_open_total", &["peer=\"dst\""]), 1.0);
    });
}

#[test]
fn chunked_bodies_pass_in_both_directions() {
    run(async {
        let application = http1_server(|request| async {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let pieces = ["got ".into(), body].map(|piece| Ok(http_body::Frame::data(piece)));
            let body = http_body_util::StreamBody::new(futures::stream::iter(pieces));
            Response::new(BodyExt::boxed_unsync(body))
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        let request =
            "POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let answer = ask(&mut client, request, "0\r\n\r\n").await;
        assert!(answer.contains("transfer-encoding: chunked\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n4\r\ngot \r\n5\r\nabcde\r\n0\r\n\r\n"), "{answer}");
    });
}

#[test]
fn a_get_with_a_chunked_body_keeps_it() {
    run(async {
        let application = http1_server(echo).await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        let request =
            "GET /search HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let answer = ask(&mut client, request, "abcde").await;
        assert!(answer.ends_with("\r\n\r\nGET /search abcde"), "{answer}");
    });
}

#[test]
fn a_body_in_another_transfer_coding_is_refused() {
    run(async {
        let (application, heads) =
            scripted(&["HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\n?\r\n0\r\n\r\n"]).await;
        let (outbound, inbound) = chain(application, Protocol::Http1);
        let coded = "POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\n?\r\n0\r\n\r\n";
        let answer = exchange(outbound.address, &coded.replace("Host", "Connection: close\r\nHost")).await;
        assert!(
            answer.starts_with("HTTP/1.1 501 ") && answer.contains("conduit-error: request-unsupported"),
            "{answer}"
        );
        assert_eq!(*heads.borrow(), [""; 0]);

        let answer = exchange(outbound.address, "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("conduit-error: response-invalid"), "{answer}");
        for metrics in [&outbound.metrics, &inbound.metrics] {
            wait_for(metrics, "response_total", &["error=\"response-invalid\""], 1.0).await;
        }
    });
}

#[test]
fn a_server_of_http10_is_one_of_http11_to_the_client() {
    run(async {
        let (application, _) = scripted(&["HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"]).await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        let answer = ask(&mut client, "GET / HTTP/1.1\r\nHost: web\r\n\r\n", "ok").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(!answer.to_lowercase().contains("connection: close"), "{answer}");
    });
}

#[test]
fn trailers_of_a_chunked_body_pass() {
    run(async {
        let (application, _) = scripted(&[
            "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
        ])
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        let answer = ask(&mut client, "GET / HTTP/1.1\r\nHost: web\r\nTE: trailers\r\n\r\n", "7\r\n\r\n").await;
        assert!(answer.to_lowercase().ends_with("2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n"), "{answer}");
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    run(async {
        let application = http1_server(echo).await;
        let (outbound, _inbound) = chain(application, Protocol::Detect);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        let requests = (0..5).map(|i| format!("GET /{i} HTTP/1.1\r\nhost: web\r\n\r\n")).collect::<String>();
        let answers = ask(&mut client, &requests, "GET /4 ").await;
        let order: Vec<_> = (0..5).map(|i| answers.find(&format!("GET /{i} ")).unwrap()).collect();
        assert!(order.is_sorted());
    });
}

#[test]
fn an_http10_client_gets_its_answer_until_the_connection_closes() {
    run(async {
        let (application, heads) =
            scripted(&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"]).await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let answer = exchange(outbound.address, "GET / HTTP/1.0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
        assert!(heads.borrow()[0].starts_with("GET / HTTP/1.0\r\n"), "{heads:?}");
    });
}

#[test]
fn a_body_that_ends_with_its_connection_passes() {
    run(async {
        let application = server(|mut stream, _| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").await.unwrap();
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Http1);
        let answer = exchange(outbound.address, "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").await;
        assert!(answer.contains("until the end"), "{answer}");
        wait_for(&inbound.metrics, "response_total", &["classification=\"success\""], 1.0).await;
    });
}

#[test]
fn answers_without_a_body_keep_their_length_and_the_connection() {
    run(async {
        let (application, _) = scripted(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
        ])
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        for (request, expected) in [
            ("HEAD / HTTP/1.1\r\nHost: web\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"),
            ("GET / HTTP/1.1\r\nHost: web\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"),
            ("GET / HTTP/1.1\r\nHost: web\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"),
        ] {
            assert_eq!(ask(&mut client, request, "\r\n\r\n").await, expected);
        }
    });
}

#[test]
fn a_websocket_passes_in_both_directions() {
    run(async {
        let application = server(|mut stream, _| async move {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            assert!(head.to_lowercase().contains("connection: upgrade\r\n"), "{head}");
            let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";
            stream.write_all(answer.as_bytes()).await.unwrap();
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await.unwrap();
            to.write_all(b"bye").await.unwrap();
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Detect);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        let request = "GET /ws HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let answer = ask(&mut client, request, "hello").await;
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
        assert!(answer.to_lowercase().contains("upgrade: websocket\r\n"), "{answer}");
        assert_eq!(ask(&mut client, "frames", "frames").await, "frames");
        client.shutdown().await.unwrap();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "bye");
        wait_for(&inbound.metrics, "tcp_open_connections", &[], 0.0).await;
        assert_eq!(sum(&inbound.metrics, "response_total", &["status_code=\"101\""]), 1.0);
    });
}

#[test]
fn a_tunnel_by_connect_passes() {
    run(async {
        let application = server(|mut stream, _| async move {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            assert!(head.starts_with("CONNECT db:5432 HTTP/1.1\r\n"), "{head}");
            stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Detect);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        let answer = ask(&mut client, "CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n", "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(ask(&mut client, "\0raw", "\0raw").await, "\0raw");
    });
}

#[test]
fn the_target_in_absolute_form_stays_so() {
    run(async {
        let (application, heads) = scripted(&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]).await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        ask(&mut client, "GET http://web/x HTTP/1.1\r\nHost: web\r\n\r\n", "\r\n\r\n").await;
        assert!(heads.borrow()[0].starts_with("GET http://web/x HTTP/1.1\r\n"), "{heads:?}");
    });
}

#[test]
fn a_client_that_expects_to_be_asked_for_its_body_is_asked() {
    run(async {
        let application = http1_server(echo).await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        let head = "POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
        assert_eq!(ask(&mut client, head, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        let answer = ask(&mut client, "body", "body").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    });
}

#[test]
fn a_head_without_end_is_refused() {
    run(async {
        let application = http1_server(echo).await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nHost: web\r\nX: {}\r\n\r\n", "x".repeat(70_000));
        let _ = client.write_all(head.as_bytes()).await;
        let answer = read_until(&mut client, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        assert!(answer.contains("conduit-error: request-head-too-large\r\n"), "{answer}");
    });
}

#[test]
fn a_request_that_could_be_read_in_two_ways_is_refused_and_not_passed_on() {
    run(async {
        let (application, heads) = scripted(&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]).await;
        for hostile in [
            "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: +5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: web\r\nX : 1\r\n\r\n",
        ] {
            let (outbound, _inbound) = chain(application, Protocol::Http1);
            let answer = exchange(outbound.address, hostile).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{hostile:?}: {answer:?}");
        }
        assert_eq!(*heads.borrow(), [""; 0]);
    });
}

#[test]
fn a_client_that_goes_away_is_noticed_by_the_application() {
    run(async {
        let (told, mut gone) = tokio::sync::mpsc::unbounded_channel();
        let application = server(move |mut stream, _| {
            let told = told.clone();
            async move {
                read_until(&mut stream, "\r\n\r\n").await;
                let _ = told.send(());
                let end = stream.read(&mut [0; 1]).await;
                assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
                let _ = told.send(());
            }
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
        gone.recv().await.unwrap();
        drop(client);
        gone.recv().await.unwrap();
        for metrics in [&outbound.metrics, &inbound.metrics] {
            let labels = ["error=\"canceled\"", "classification=\"failure\""];
            wait_for(metrics, "response_total", &labels, 1.0).await;
        }
    });
}

#[test]
fn an_application_that_is_down_is_a_503_with_its_code() {
    run(async {
        let (outbound, inbound) = chain(refusing().await, Protocol::Http1);
        let request = "GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
        let at_inbound = exchange(inbound.address, request).await;
        assert!(at_inbound.starts_with("HTTP/1.1 503 "), "{at_inbound}");
        assert!(at_inbound.contains("conduit-error: connect-refused; object=pod/shop/web-1\r\n"), "{at_inbound}");
        let at_outbound = exchange(outbound.address, request).await;
        assert!(at_outbound.starts_with("HTTP/1.1 503 "), "{at_outbound}");
        assert!(at_outbound.contains("conduit-error: connect-refused; object=service/shop/web\r\n"), "{at_outbound}");
    });
}

#[test]
fn an_application_cannot_speak_in_the_name_of_a_proxy() {
    run(async {
        let application = http1_server(|_| async {
            let mut response = Response::new(full(""));
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response.headers_mut().insert("conduit-error", "connect-refused".parse().unwrap());
            response
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Http1);
        let answer = exchange(outbound.address, "POST / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(!answer.contains("conduit-error"), "{answer}");
        assert_eq!(sum(&inbound.metrics, "request_total", &[]), 1.0);
    });
}
