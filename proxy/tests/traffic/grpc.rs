//! gRPC through both proxies with mutual TLS: what a call is made of comes out as it went in.

use crate::{calls::*, support::*};
use bytes::Bytes;
use conduit_model::Protocol;
use http::HeaderMap;
use std::{cell::RefCell, rc::Rc};
use tokio::sync::mpsc;

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
fn messages_that_a_server_does_not_read_keep_no_other_client_of_their_pod_from_it() {
    run(async {
        let application = grpc_server(|mut call| async move {
            match call.head.headers.contains_key("unread") {
                true => drop(std::future::poll_fn(|cx| call.answer.poll_reset(cx)).await),
                false => {
                    assert!(call.messages.next().await.unwrap().unwrap() == pattern(1 << 17));
                    call.answer.send_response(answer(OK), true).unwrap();
                }
            }
        })
        .await;
        let (outbound, inbound) = chain(application, Protocol::Grpc);
        let mut stalled = Vec::new();
        for _ in 0..12 {
            let mut call = Client::to(outbound.address).await.begin(&[("unread", "")]).await;
            // More than one proxy takes on its own, and less than a window and a half: a window is opened again by halves.
            send(&mut call.questions, &pattern(320 << 10)).await.unwrap();
            stalled.push(call);
        }
        let mut call = Client::to(outbound.address).await.begin(&[]).await;
        send(&mut call.questions, &pattern(1 << 17)).await.unwrap();
        assert_eq!(call.response.await.unwrap().headers()["grpc-status"], "0");
        for metrics in [&outbound.metrics, &inbound.metrics] {
            assert_eq!(sum(metrics, "tcp_open_total", &["peer=\"dst\""]), 1.0, "by the same connection");
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
