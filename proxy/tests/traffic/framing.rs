//! Where HTTP/1 messages begin and end on connections that are used again, and what passes beside them.

use crate::support::*;
use conduit_model::Protocol;
use std::{cell::RefCell, net::SocketAddr, rc::Rc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: web\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A server that answers every head with `answer`, and the heads that it saw, each with the number of its connection.
async fn answering(answer: &'static str) -> (SocketAddr, Rc<RefCell<Vec<(usize, String)>>>) {
    let heads = Rc::new(RefCell::new(Vec::new()));
    let seen = heads.clone();
    let address = server(move |mut stream, number| {
        let seen = seen.clone();
        async move {
            let mut head = Vec::new();
            while let Ok(1..) = stream.read_buf(&mut head).await {
                if head.ends_with(b"\r\n\r\n") {
                    seen.borrow_mut().push((number, String::from_utf8(std::mem::take(&mut head)).unwrap()));
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        }
    })
    .await;
    (address, heads)
}

#[test]
fn an_answer_that_comes_before_its_request_has_ended_cuts_neither() {
    run(async {
        let (told, mut bodies) = mpsc::unbounded_channel();
        let application = server(move |mut stream, number| {
            let told = told.clone();
            async move {
                loop {
                    read_until(&mut stream, "\r\n\r\n").await;
                    stream.write_all(OK).await.unwrap();
                    let _ = told.send((number, read_until(&mut stream, "end").await));
                }
            }
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        for _ in 0..3 {
            let head = "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\n";
            assert!(ask(&mut client, head, "ok").await.starts_with("HTTP/1.1 200 "));
            client.write_all(b"to the end").await.unwrap();
            assert_eq!(bodies.recv().await.unwrap(), (0, "to the end".to_owned()), "on the same connection");
        }
    });
}

#[test]
fn a_request_that_is_refused_before_it_ends_leaves_the_client_a_connection_that_can_be_used() {
    run(async {
        // It answers, and reads no more.
        let application = server(|mut stream, _| async move {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            let status = if head.starts_with("POST") { "413 Content Too Large" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        for body in [&b"0123456789"[..], &[b'a'; 100_000]] {
            let mut client = TcpStream::connect(outbound.address).await.unwrap();
            let head = format!("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: {}\r\n\r\n", body.len());
            assert!(ask(&mut client, &head, "ok").await.starts_with("HTTP/1.1 413 "));
            client.write_all(body).await.unwrap();
            assert!(ask(&mut client, GET, "ok").await.starts_with("HTTP/1.1 200 "));
        }
    });
}

#[test]
fn a_client_is_asked_for_its_body_by_the_application_and_nobody_else() {
    run(async {
        let (told, mut heads) = mpsc::unbounded_channel();
        let asking = Rc::new(tokio::sync::Notify::new());
        let asked = asking.clone();
        let application = server(move |mut stream, _| {
            let (told, asked) = (told.clone(), asked.clone());
            async move {
                let _ = told.send(read_until(&mut stream, "\r\n\r\n").await);
                asked.notified().await;
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
                read_until(&mut stream, "body").await;
                stream.write_all(OK).await.unwrap();
            }
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        let head = "POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        assert!(heads.recv().await.unwrap().contains("Expect: 100-continue\r\n"));
        assert!(client.try_read(&mut [0; 1]).is_err(), "nobody has asked");
        asking.notify_one();
        assert_eq!(read_until(&mut client, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        assert!(ask(&mut client, "body", "ok").await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn a_client_that_is_not_asked_for_its_body_is_told_so_and_no_next_request_is_read_from_where_it_may_be() {
    run(async {
        let (application, heads) = answering("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n").await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let head = "POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 50\r\n\r\n";
        let answer = exchange(outbound.address, head).await;
        assert!(answer.starts_with("HTTP/1.1 417 ") && answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(heads.borrow().len(), 1);
    });
}

#[test]
fn hints_that_come_before_an_answer_pass_to_clients_that_understand_them() {
    run(async {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n\
                     HTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let (application, _) = answering(hints).await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        let expected = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n\
                        HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        for _ in 0..2 {
            assert_eq!(ask(&mut client, GET, "ok").await, expected);
        }
        let old = exchange(outbound.address, "GET / HTTP/1.0\r\n\r\n").await;
        assert!(old.starts_with("HTTP/1.0 200 OK\r\n") && !old.contains("103"), "{old}");
    });
}

#[test]
fn a_client_of_http10_keeps_its_connection_only_if_it_asks_to() {
    run(async {
        let (application, _) = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        for _ in 0..2 {
            let answer = ask(&mut client, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "ok").await;
            assert!(answer.contains("connection: keep-alive\r\n"), "{answer}");
        }
        // It ends, or this would not.
        exchange(outbound.address, "GET / HTTP/1.0\r\n\r\n").await;
    });
}

#[test]
fn an_answer_that_could_be_read_in_two_ways_is_a_502_and_its_connection_is_not_used_again() {
    for bad in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 99 Low\r\n\r\n",
        "hello\r\n\r\n",
    ] {
        run(async move {
            let (application, heads) = answering(bad).await;
            let (outbound, _inbound) = chain(application, Protocol::Http1);
            let mut client = TcpStream::connect(outbound.address).await.unwrap();
            for connection in 0..2 {
                let answer = ask(&mut client, GET, "content-length: 0\r\n\r\n").await;
                assert!(answer.starts_with("HTTP/1.1 502 "), "{bad:?}: {answer}");
                assert!(answer.contains("conduit-error: response-invalid"), "{bad:?}: {answer}");
                assert_eq!(heads.borrow().last().unwrap().0, connection, "{bad:?}");
            }
        });
    }
}

#[test]
fn a_body_that_breaks_off_or_is_no_body_never_looks_whole() {
    for (answer, passes) in [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nz\r\n", "2\r\nok\r\n"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nbad\r\n\r\n", "2\r\nok\r\n"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", "ok"),
    ] {
        run(async move {
            let application = server(move |mut stream, _| async move {
                read_until(&mut stream, "\r\n\r\n").await;
                stream.write_all(answer.as_bytes()).await.unwrap();
            })
            .await;
            let (outbound, _inbound) = chain(application, Protocol::Http1);
            let mut client = TcpStream::connect(outbound.address).await.unwrap();
            client.write_all(GET.as_bytes()).await.unwrap();
            let mut all = Vec::new();
            let _ = client.read_to_end(&mut all).await;
            let all = String::from_utf8(all).unwrap();
            assert!(all.starts_with("HTTP/1.1 200 ") && all.ends_with(&format!("\r\n\r\n{passes}")), "{all:?}");
        });
    }
}

#[test]
fn a_request_whose_chunks_are_none_is_refused_and_never_ends_at_the_application() {
    for chunks in ["2\r\nabc\r\n0\r\n\r\n", "2;a\nb\r\nab\r\n0\r\n\r\n", "0\r\nX : 1\r\n\r\n", "-2\r\nab\r\n0\r\n\r\n"]
    {
        run(async move {
            let (told, mut ended) = mpsc::unbounded_channel();
            let application = server(move |mut stream, _| {
                let told = told.clone();
                async move {
                    let mut all = Vec::new();
                    let _ = stream.read_to_end(&mut all).await;
                    let _ = told.send(String::from_utf8(all).unwrap());
                }
            })
            .await;
            let (outbound, _inbound) = chain(application, Protocol::Http1);
            let request = format!("POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{GET}");
            let answer = exchange(outbound.address, &request).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{chunks:?}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
            // It may have seen the beginning, if anything.
            drop(outbound);
            if let Ok(seen) = ended.try_recv() {
                assert!(!seen.contains("0\r\n\r\n") && !seen.contains("GET /"), "{seen:?}");
            }
        });
    }
}

#[test]
fn what_says_where_a_message_goes_and_ends_is_not_taken_away_by_calling_it_an_option() {
    run(async {
        let (application, heads) = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        let request = "GET / HTTP/1.1\r\nHost: web\r\nConnection: host, content-length, x-hop\r\nX-Hop: 1\r\nContent-Length: 0\r\n\r\n";
        ask(&mut client, request, "ok").await;
        let head = heads.borrow()[0].1.clone();
        assert!(head.contains("Host: web\r\n") && head.contains("Content-Length: 0\r\n"), "{head}");
        assert!(!head.contains("X-Hop"), "{head}");
    });
}

#[test]
fn the_host_of_an_absolute_target_stands_for_the_one_in_the_header() {
    run(async {
        let (application, heads) = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        ask(&mut client, "GET http://web/x HTTP/1.1\r\nHost: other\r\n\r\n", "ok").await;
        ask(&mut client, "OPTIONS * HTTP/1.1\r\nHost: web\r\n\r\n", "ok").await;
        let heads = heads.borrow();
        assert!(heads[0].1.contains("host: web\r\n") && !heads[0].1.contains("other"), "{heads:?}");
        assert!(heads[1].1.starts_with("OPTIONS * HTTP/1.1\r\n"), "{heads:?}");
    });
}

#[test]
fn what_comes_right_behind_the_request_for_an_upgrade_is_the_first_of_what_follows() {
    run(async {
        let application = server(|mut stream, _| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            read_until(&mut stream, "early").await;
            stream.write_all(b"heard").await.unwrap();
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        let request = "GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly";
        let answer = ask(&mut client, request, "heard").await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    });
}

#[test]
fn a_server_that_switches_within_a_request_gets_no_tunnel() {
    run(async {
        let (application, _) =
            answering("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
        let (outbound, _inbound) = chain(application, Protocol::Http1);
        let mut client = TcpStream::connect(outbound.address).await.unwrap();
        let request = "POST / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\n";
        let answer = ask(&mut client, request, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("response-invalid"), "{answer}");
    });
}
