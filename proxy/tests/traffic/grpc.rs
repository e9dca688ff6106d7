//! gRPC through both proxies with mutual TLS: what a call is made of comes out as it went in, how it ends is told to both
//! sides and counted, and what the proxies themselves have to say is said in gRPC.

use crate::{calls::*, support::*};
use bytes::Bytes;
use conduit_model::Protocol;
use h2::Reason;
use http::HeaderMap;
use std::{cell::RefCell, rc::Rc};
use tokio::sync::{mpsc, oneshot};

const OK: &[(&str, &str)] = &[("grpc-status", "0")];

/// A message that is not like another, nor like itself a byte further.
fn pattern(length: usize) -> Bytes {
    (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// One value that a server hands to its case.
fn told<T: 'static>() -> (impl Fn(T) + Clone, oneshot::Receiver<T>) {
    let (tx, rx) = oneshot::channel();
    let tx = Rc::new(RefCell::new(Some(tx)));
    let tell = move |value| drop(tx.borrow_mut().take().expect("it is told once").send(value));
    (tell, rx)
}

#[test]
fn each_kind_of_call_passes_its_messages_and_ends_with_its_status() {
    run(async {
        // Answers as many messages as the first byte of the last one says, once it has heard all.
        let application = grpc_server(|mut call| async move {
            let (questions, _) = call.messages.rest().await.unwrap();
            let mut stream = call.answer.send_response(answer(&[]), false).unwrap();
            for number in 0..questions.last().unwrap()[0] {
                send(&mut stream, &[questions.len() as u8, number]).await.unwrap();
            }
            stream.send_trailers(block(OK)).unwrap();
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Grpc);
        let client = Client::to(outbound.address).await;
        for (questions, answers) in [(1, 1), (5, 1), (1, 5), (5, 5)] {
            let begun = client.begin(&[]).await;
            let sent = sending(begun.questions, vec![Bytes::from(vec![answers; 3]); questions]);
            let (head, messages) = open(begun.response.await.unwrap());
            sent.await.unwrap().unwrap();
            assert_eq!(
                (head.status().as_u16(), &head.headers()["content-type"]),
                (200, &"application/grpc".parse().unwrap())
            );
            let (messages, trailers) = messages.rest().await.unwrap();
            let expected: Vec<_> = (0..answers).map(|number| vec![questions as u8, number]).collect();
            assert_eq!((messages, trailers), (expected.into_iter().map(Bytes::from).collect(), Some(block(OK))));
        }
        for metrics in [&outbound.metrics, &inbound.metrics] {
            let labels = ["grpc_status=\"0\"", "classification=\"success\"", "tls=\"true\""];
            wait_for(metrics, "response_total", &labels, 4.0).await;
        }
    });
}

#[test]
fn ten_thousand_messages_of_one_stream_are_answered_one_by_one_and_in_order() {
    run(async {
        let application = grpc_server(|mut call| async move {
            let mut stream = call.answer.send_response(answer(&[]), false).unwrap();
            while let Some(message) = call.messages.next().await.unwrap() {
                send(&mut stream, &message).await.unwrap();
            }
            stream.send_trailers(block(OK)).unwrap();
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Grpc);
        let begun = Client::to(outbound.address).await.begin(&[]).await;
        let all: Vec<_> = (0..10_000_u32).map(|number| Bytes::copy_from_slice(&number.to_be_bytes())).collect();
        let sent = sending(begun.questions, all.clone());
        let (head, messages) = open(begun.response.await.unwrap());
        assert!(!head.headers().contains_key("conduit-error"), "{head:?}");
        let (messages, trailers) = messages.rest().await.unwrap();
        sent.await.unwrap().unwrap();
        assert_eq!(trailers, Some(block(OK)));
        assert!(messages == all, "{} messages", messages.len());
    });
}

#[test]
fn messages_that_a_server_does_not_read_wait_however_small_they_are_and_stop_no_other_call() {
    run(async {
        let (begin, begun) = told();
        let application = grpc_server(move |mut call| {
            let begin = begin.clone();
            async move {
                if call.head.headers.contains_key("unread") {
                    begin(());
                    std::future::poll_fn(|cx| call.answer.poll_reset(cx)).await.unwrap();
                } else {
                    call.answer.send_response(answer(OK), true).unwrap();
                }
            }
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Grpc);
        let client = Client::to(outbound.address).await;
        let mut stalled = client.begin(&[("unread", "")]).await;
        // The server takes 64 KiB; the rest waits in the proxies.
        for _ in 0..40_000 {
            send(&mut stalled.questions, b"").await.unwrap();
        }
        begun.await.unwrap();
        assert_eq!(client.ask().await.await.unwrap().headers()["grpc-status"], "0");
        for metrics in [&outbound.metrics, &inbound.metrics] {
            assert_eq!(sum(metrics, "tcp_open_total", &["peer=\"dst\""]), 1.0, "by the same connection");
            assert_eq!(sum(metrics, "response_total", &["classification=\"failure\""]), 0.0);
        }
    });
}

#[test]
fn messages_larger_than_every_window_pass_whole_both_ways_at_once() {
    run(async {
        let application = grpc_server(|mut call| async move {
            let mut stream = call.answer.send_response(answer(&[]), false).unwrap();
            let own = pattern(9 << 20);
            let (heard, said) = tokio::join!(call.messages.next(), send(&mut stream, &own));
            said.unwrap();
            let whole = heard.unwrap().unwrap() == pattern(8 << 20);
            stream.send_trailers(block(&[("grpc-status", if whole { "0" } else { "15" })])).unwrap();
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Grpc);
        let begun = Client::to(outbound.address).await.begin(&[]).await;
        let sent = sending(begun.questions, vec![pattern(8 << 20)]);
        let (messages, trailers) = open(begun.response.await.unwrap()).1.rest().await.unwrap();
        sent.await.unwrap().unwrap();
        assert!(messages == [pattern(9 << 20)]);
        assert_eq!(trailers, Some(block(OK)), "the server has read it whole");
    });
}

#[test]
fn an_answer_of_trailers_alone_stays_one() {
    run(async {
        let application = grpc_server(|mut call| async move {
            let only = answer(&[("grpc-status", "5"), ("grpc-message", "no%20such%20book"), ("shelf", "b")]);
            call.answer.send_response(only, true).unwrap();
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Grpc);
        let (head, messages) = open(Client::to(outbound.address).await.ask().await.await.unwrap());
        assert!(messages.body.is_end_stream(), "the headers end the stream");
        let expected = [("grpc-status", "5"), ("grpc-message", "no%20such%20book"), ("shelf", "b")];
        for (name, value) in expected {
            assert_eq!(head.headers()[name], value);
        }
        assert_eq!(messages.rest().await.unwrap(), (Vec::new(), None));
        for metrics in [&outbound.metrics, &inbound.metrics] {
            // NOT_FOUND is an answer.
            wait_for(metrics, "response_total", &["grpc_status=\"5\"", "classification=\"success\""], 1.0).await;
        }
    });
}

#[test]
fn metadata_passes_as_it_is_text_and_binary_repeated_and_empty_both_ways() {
    run(async {
        let metadata = [
            ("x-text", "plain, with a comma"),
            ("x-text", "and again"),
            ("x-empty", ""),
            ("x-long-bin", "AP8AAf+AAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"),
            ("x-many-bin", "AAE,AgM"),
            ("x-many-bin", "BAU="),
            ("grpc-encoding", "gzip"),
            ("grpc-accept-encoding", "identity,deflate,gzip"),
        ];
        let only = move |headers: &HeaderMap| {
            let known = |name: &str| metadata.iter().any(|(known, _)| *known == name);
            let found: HeaderMap =
                headers.iter().filter(|(name, _)| known(name.as_str())).map(|(n, v)| (n.clone(), v.clone())).collect();
            found
        };
        let (tell, heard) = told();
        let application = grpc_server(move |mut call| {
            let tell = tell.clone();
            async move {
                tell(call.head.headers.clone());
                let mut stream = call.answer.send_response(answer(&metadata), false).unwrap();
                stream
                    .send_trailers(block(
                        &[&metadata, &[("grpc-status", "0"), ("grpc-message", "%E2%9C%93")][..]].concat(),
                    ))
                    .unwrap();
            }
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Grpc);
        let begun = Client::to(outbound.address).await.begin(&metadata).await;
        let (head, messages, _questions) = begun.answered().await;
        let (_, trailers) = messages.rest().await.unwrap();
        let trailers = trailers.unwrap();
        for (where_from, found) in
            [("request", &heard.await.unwrap()), ("head", head.headers()), ("trailers", &trailers)]
        {
            assert_eq!(only(found), block(&metadata), "{where_from}");
        }
        assert_eq!(trailers["grpc-message"], "%E2%9C%93");
    });
}

#[test]
fn the_end_of_the_questions_is_heard_while_the_answers_go_on() {
    run(async {
        let (more, mut answers) = mpsc::unbounded_channel();
        let answers = Rc::new(RefCell::new(Some(async move || answers.recv().await)));
        let (tell, ended) = told();
        let application = grpc_server(move |mut call| {
            let (mut answers, tell) = (answers.borrow_mut().take().unwrap(), tell.clone());
            async move {
                let mut stream = call.answer.send_response(answer(&[]), false).unwrap();
                assert_eq!(call.messages.next().await.unwrap(), None);
                tell(());
                while let Some(()) = answers().await {
                    send(&mut stream, b"on").await.unwrap();
                }
                stream.send_trailers(block(OK)).unwrap();
            }
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Grpc);
        let (_, mut messages, mut questions) = Client::to(outbound.address).await.begin(&[]).await.answered().await;
        questions.send_data(Bytes::new(), true).unwrap();
        ended.await.unwrap();
        for _ in 0..3 {
            more.send(()).unwrap();
            assert_eq!(messages.next().await.unwrap().unwrap(), "on");
        }
        drop(more);
        assert_eq!(messages.rest().await.unwrap(), (Vec::new(), Some(block(OK))));
    });
}

#[test]
fn a_server_that_answers_before_it_has_read_all_is_heard_and_its_connection_goes_on() {
    run(async {
        let application = grpc_server(|mut call| async move {
            assert!(call.messages.next().await.unwrap().is_some());
            call.answer.send_response(answer(&[("grpc-status", "8")]), true).unwrap();
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Grpc);
        let client = Client::to(outbound.address).await;
        for calls in 1..=3 {
            let begun = client.begin(&[]).await;
            // More than the windows take, of which the server reads the first.
            let sent = sending(begun.questions, vec![pattern(1 << 16); 1_000]);
            let (head, messages) = open(begun.response.await.unwrap());
            assert_eq!(head.headers()["grpc-status"], "8");
            assert_eq!(messages.rest().await.unwrap(), (Vec::new(), None), "no error is made of it");
            assert!(sent.await.unwrap().is_err(), "the rest is not wanted");
            let labels = ["grpc_status=\"8\"", "classification=\"success\""];
            wait_for(&outbound.metrics, "response_total", &labels, f64::from(calls)).await;
        }
        assert_eq!(sum(&outbound.metrics, "tcp_open_total", &["peer=\"dst\""]), 1.0);
        assert_eq!(sum(&inbound.metrics, "tcp_open_total", &["peer=\"dst\""]), 1.0);
    });
}

#[test]
fn a_call_is_counted_by_its_status_and_what_fails_is_what_linkerd_calls_so() {
    run(async {
        let failures = [2, 4, 7, 13, 14, 15];
        let application = grpc_server(|mut call| async move {
            let status = call.head.headers["x-status"].to_str().unwrap().to_owned();
            let mut stream = call.answer.send_response(answer(&[]), false).unwrap();
            stream.send_trailers(block(&[("grpc-status", status.as_str())])).unwrap();
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Grpc);
        let client = Client::to(outbound.address).await;
        for status in 0..=17_u32 {
            let (_, messages, _questions) = client.begin(&[("x-status", &status.to_string())]).await.answered().await;
            let (_, trailers) = messages.rest().await.unwrap();
            assert_eq!(trailers.unwrap()["grpc-status"], status.to_string());
            let classification = if failures.contains(&status) { "failure" } else { "success" };
            // What gRPC does not have makes no series of its own.
            let status = if status > 16 { "other".to_owned() } else { status.to_string() };
            let labels = [format!("grpc_status=\"{status}\""), format!("classification=\"{classification}\"")];
            let labels = labels.each_ref().map(String::as_str);
            for metrics in [&outbound.metrics, &inbound.metrics] {
                wait_for(metrics, "response_total", &labels, 1.0).await;
            }
        }
    });
}

#[test]
fn a_stream_that_ends_without_a_status_gets_none_from_the_proxies_and_counts_as_a_failure() {
    run(async {
        let application = grpc_server(|mut call| async move {
            let mut stream = call.answer.send_response(answer(&[]), false).unwrap();
            send(&mut stream, b"all").await.unwrap();
            stream.send_data(Bytes::new(), true).unwrap();
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Grpc);
        let (_, messages) = open(Client::to(outbound.address).await.ask().await.await.unwrap());
        assert_eq!(messages.rest().await.unwrap(), (vec![Bytes::from("all")], None));
        for metrics in [&outbound.metrics, &inbound.metrics] {
            wait_for(metrics, "response_total", &["status_code=\"200\"", "classification=\"failure\""], 1.0).await;
            assert_eq!(sum(metrics, "response_total", &["grpc_status=\"0\""]), 0.0);
        }
    });
}

#[test]
fn what_the_proxies_say_themselves_is_a_grpc_status_of_http_200_and_of_trailers_alone() {
    run(async {
        let nobody = OutboundProxy::balancing(Protocol::Grpc, &[]);
        let refused = OutboundProxy::balancing(Protocol::Grpc, &[endpoint(refusing().await, false)]);
        let (application_down, _inbound) = chain(refusing().await, Protocol::Grpc);
        for (proxy, code) in
            [(nobody, "no-endpoints"), (refused, "connect-refused"), (application_down, "connect-refused")]
        {
            let client = Client::to(proxy.address).await;
            let (head, messages) = open(client.ask().await.await.unwrap());
            assert!(messages.body.is_end_stream(), "{code}");
            assert_eq!(head.status(), 200);
            for (name, value) in [("content-type", "application/grpc"), ("grpc-status", "14"), ("grpc-message", code)] {
                assert_eq!(head.headers()[name], value, "{code}");
            }
            let said = head.headers()["conduit-error"].to_str().unwrap();
            assert!(said.starts_with(&format!("{code}; object=")), "{said}");
            let labels = ["status_code=\"200\"", "grpc_status=\"14\"", "classification=\"failure\""];
            wait_for(&proxy.metrics, "route_response_total", &labels, 1.0).await;

            // Who does not speak gRPC is told in HTTP; gRPC-Web has its status in the body, which is not the proxy's to make.
            for subtype in ["application/json", "application/grpc-web+proto"] {
                let begun = client.send(block(&[("content-type", subtype)])).await;
                assert_eq!(begun.answered().await.0.status(), 503, "{code} {subtype}");
            }
            let begun = client.send(block(&[("content-type", "application/grpc+proto")])).await;
            assert_eq!(begun.answered().await.0.headers()["grpc-status"], "14", "{code}");
        }
    });
}

#[test]
fn a_deadline_reaches_the_server_as_it_was_set_and_is_the_servers_to_keep() {
    run(async {
        let (tell, heard) = told();
        let application = grpc_server(move |mut call| {
            tell(call.head.headers["grpc-timeout"].clone());
            async move {
                call.answer.send_response(answer(&[("grpc-status", "4")]), true).unwrap();
            }
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Grpc);
        let (head, ..) = Client::to(outbound.address).await.begin(&[("grpc-timeout", "250m")]).await.answered().await;
        assert_eq!(
            (heard.await.unwrap(), &head.headers()["grpc-status"]),
            ("250m".parse().unwrap(), &"4".parse().unwrap())
        );
        for metrics in [&outbound.metrics, &inbound.metrics] {
            wait_for(metrics, "response_total", &["grpc_status=\"4\"", "classification=\"failure\""], 1.0).await;
        }
    });
}

#[test]
fn a_client_that_gives_up_is_heard_by_the_server_as_its_cancellation_before_and_within_the_answer() {
    run(async {
        for answers in [false, true] {
            let (begin, begun) = told();
            let (tell, heard) = told();
            let application = grpc_server(move |mut call| {
                let (begin, tell) = (begin.clone(), tell.clone());
                async move {
                    let mut stream = None;
                    if answers {
                        let mut open = call.answer.send_response(answer(&[]), false).unwrap();
                        send(&mut open, b"first").await.unwrap();
                        stream = Some(open);
                    }
                    begin(());
                    let reset = match &mut stream {
                        Some(stream) => std::future::poll_fn(|cx| stream.poll_reset(cx)).await,
                        None => std::future::poll_fn(|cx| call.answer.poll_reset(cx)).await,
                    };
                    tell(reset.unwrap());
                }
            })
            .await;
            let (outbound, inbound) = chain(application, Protocol::Grpc);
            let mut call = Client::to(outbound.address).await.begin(&[("grpc-timeout", "1H")]).await;
            send(&mut call.questions, b"question").await.unwrap();
            begun.await.unwrap();
            let mut messages = None;
            if answers {
                let mut opened = open((&mut call.response).await.unwrap()).1;
                assert_eq!(opened.next().await.unwrap().unwrap(), "first");
                messages = Some(opened);
            }
            call.questions.send_reset(Reason::CANCEL);
            assert_eq!(heard.await.unwrap(), Reason::CANCEL, "answers: {answers}");
            drop(messages);
            // A stream that its client ended in the middle was answered as the client chose; no answer at all is a failure.
            let classification = if answers { "classification=\"success\"" } else { "classification=\"failure\"" };
            for metrics in [&outbound.metrics, &inbound.metrics] {
                wait_for(metrics, "response_total", &["error=\"canceled\"", classification], 1.0).await;
            }
        }
    });
}

#[test]
fn a_server_that_cancels_or_dies_is_heard_by_the_client_and_counts_as_a_failure() {
    run(async {
        for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::ENHANCE_YOUR_CALM] {
            let application = grpc_server(move |mut call| async move {
                let mut stream = call.answer.send_response(answer(&[]), false).unwrap();
                send(&mut stream, b"partial").await.unwrap();
                assert!(call.messages.next().await.unwrap().is_some(), "the client has read it");
                stream.send_reset(reason);
            })
            .await;
            let (outbound, inbound) = chain(application, Protocol::Grpc);
            let (_, mut messages, mut questions) = Client::to(outbound.address).await.begin(&[]).await.answered().await;
            assert_eq!(messages.next().await.unwrap().unwrap(), "partial");
            send(&mut questions, b"read").await.unwrap();
            assert_eq!(messages.reset().await, Some(reason));
            for metrics in [&outbound.metrics, &inbound.metrics] {
                let labels = ["classification=\"failure\"", "error=\"response-broken\""];
                wait_for(metrics, "response_total", &labels, 1.0).await;
            }
        }
    });
}
