//! How calls of gRPC end, through both proxies with mutual TLS: both sides are told, and it is counted; what the proxies
//! themselves have to say is said in gRPC.

use crate::{calls::*, support::*};
use bytes::Bytes;
use conduit_model::Protocol;
use h2::Reason;
use std::{cell::Cell, rc::Rc};

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
fn a_server_that_resets_a_call_is_heard_by_the_client_with_its_reason_and_counts_as_a_failure() {
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

#[test]
fn a_server_that_resets_a_call_before_its_answer_is_heard_by_the_client_with_its_reason_and_is_not_asked_again() {
    run(async {
        for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::ENHANCE_YOUR_CALM, Reason::NO_ERROR] {
            let calls = Rc::new(Cell::new(0));
            let count = calls.clone();
            let application = grpc_server(move |mut call| {
                count.set(count.get() + 1);
                async move {
                    assert!(call.messages.next().await.unwrap().is_some());
                    call.answer.send_reset(reason);
                }
            })
            .await;
            let (outbound, inbound) = chain(application, Protocol::Grpc);
            let mut begun = Client::to(outbound.address).await.begin(&[]).await;
            send(&mut begun.questions, b"read").await.unwrap();
            assert_eq!(begun.response.await.unwrap_err().reason(), Some(reason));
            assert_eq!(calls.get(), 1);
            for metrics in [&outbound.metrics, &inbound.metrics] {
                let labels = ["classification=\"failure\"", "error=\"response-broken\""];
                wait_for(metrics, "response_total", &labels, 1.0).await;
                assert_eq!(sum(metrics, "response_total", &["status_code=\"200\""]), 0.0, "there was no answer");
            }
        }
    });
}

#[test]
fn a_call_that_a_server_refuses_unseen_is_answered_by_another() {
    run(async {
        let refused = Rc::new(Cell::new(0));
        let count = refused.clone();
        let refuses = grpc_server(move |mut call| {
            count.set(count.get() + 1);
            async move { call.answer.send_reset(Reason::REFUSED_STREAM) }
        })
        .await;
        let serves = grpc_server(|mut call| async move {
            call.answer.send_response(answer(&[("grpc-status", "0")]), true).unwrap();
        })
        .await;
        let serving = InboundProxy::before(serves, Protocol::Grpc);
        let refusing = serving.beside(refuses, Protocol::Grpc);
        for endpoints in [
            [endpoint(refuses, false), endpoint(serves, false)],
            [endpoint(refusing.address, true), endpoint(serving.address, true)],
        ] {
            refused.set(0);
            // Which is tried first is chance.
            while refused.get() == 0 {
                let identity = serving.authority.identity("client");
                let outbound = OutboundProxy::meshed(Protocol::Grpc, &endpoints, identity);
                let begun = Client::to(outbound.address).await.begin(&[]).await;
                assert_eq!(begun.response.await.unwrap().headers()["grpc-status"], "0");
            }
        }
    });
}

#[test]
fn a_server_that_dies_in_its_answer_is_no_end_of_the_answer() {
    run(async {
        let application = server(|stream, _| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (mut request, mut respond) = connection.accept().await.unwrap().unwrap();
            let mut stream = respond.send_response(answer(&[]), false).unwrap();
            send(&mut stream, b"partial").await.unwrap();
            tokio::select! {
                _ = connection.accept() => panic!("there is one call"),
                read = request.body_mut().data() => assert!(read.is_some(), "the client has read it"),
            }
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Grpc);
        let (_, mut messages, mut questions) = Client::to(outbound.address).await.begin(&[]).await.answered().await;
        assert_eq!(messages.next().await.unwrap().unwrap(), "partial");
        send(&mut questions, b"read").await.unwrap();
        assert!(messages.reset().await.is_some(), "what is cut off is not whole");
        for metrics in [&outbound.metrics, &inbound.metrics] {
            let labels = ["classification=\"failure\"", "error=\"response-broken\""];
            wait_for(metrics, "response_total", &labels, 1.0).await;
        }
    });
}
