//! What is not just a request and its answer, in streams of HTTP/2 through both proxies: tunnels, other protocols, and what
//! comes before an answer.

use crate::support::*;
use bytes::Bytes;
use conduit_model::Protocol;
use futures::future::poll_fn;
use h2::{RecvStream, SendStream, client::SendRequest, ext, server::SendResponse};
use http::{Request, Response, StatusCode, Version};
use std::net::SocketAddr;
use tokio::{net::TcpStream, task::spawn_local};

/// An application that answers each request as `answer` does, and offers other protocols in streams if so told.
async fn application<F: Future<Output = ()> + 'static>(
    settings: h2::server::Builder,
    answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + 'static,
) -> SocketAddr {
    server(move |stream, _| {
        let (settings, answer) = (settings.clone(), answer.clone());
        async move {
            let mut connection = settings.handshake(stream).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                spawn_local(answer(request, respond));
            }
        }
    })
    .await
}

fn offering() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    builder
}

/// A client that knows the proxy's settings.
async fn client(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    spawn_local(async { drop(connection.await) });
    while !client.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    client
}

/// Gives every byte back, in upper case, and ends when the client does.
async fn shout(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let protocol = request.extensions().get::<ext::Protocol>().map(|protocol| protocol.as_str().to_owned());
    let answer = Response::builder().header("x-protocol", protocol.unwrap_or_default()).body(()).unwrap();
    let mut back = respond.send_response(answer, false).unwrap();
    let mut body = request.into_body();
    while let Some(Ok(bytes)) = body.data().await {
        body.flow_control().release_capacity(bytes.len()).unwrap();
        back.send_data(bytes.to_ascii_uppercase().into(), false).unwrap();
    }
    back.send_data(Bytes::new(), true).unwrap();
}

/// Bytes go both ways, and the end of either is the end of the other.
async fn is_heard(mut to: SendStream<Bytes>, mut from: RecvStream) {
    for word in ["one", "two"] {
        to.send_data(word.into(), false).unwrap();
        assert_eq!(from.data().await.unwrap().unwrap(), word.to_ascii_uppercase());
    }
    to.send_data(Bytes::new(), true).unwrap();
    assert!(from.data().await.is_none_or(|last| last.unwrap().is_empty()));
}

fn connect(uri: &str) -> Request<()> {
    Request::connect(uri).version(Version::HTTP_2).body(()).unwrap()
}

fn websocket() -> Request<()> {
    let mut request = connect("http://web/chat");
    request.extensions_mut().insert(ext::Protocol::from_static("websocket"));
    request
}

#[test]
fn another_protocol_in_a_stream_passes_where_the_server_offers_it() {
    run(async {
        let (outbound, _inbound) = chain(application(offering(), shout).await, Protocol::Http2);
        let (answer, to) = client(outbound.address).await.send_request(websocket(), false).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!((answer.status(), &answer.headers()["x-protocol"]), (StatusCode::OK, &"websocket".parse().unwrap()));
        is_heard(to, answer.into_body()).await;
    });
}

#[test]
fn another_protocol_in_a_stream_is_refused_where_the_server_does_not_offer_it() {
    run(async {
        let (outbound, _inbound) = chain(application(h2::server::Builder::new(), shout).await, Protocol::Http2);
        let (answer, _to) = client(outbound.address).await.send_request(websocket(), false).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_IMPLEMENTED);
        assert!(answer.headers()["conduit-error"].to_str().unwrap().starts_with("request-unsupported"));
    });
}

#[test]
fn a_tunnel_in_a_stream_passes() {
    run(async {
        let (outbound, _inbound) = chain(application(offering(), shout).await, Protocol::Http2);
        let (answer, to) = client(outbound.address).await.send_request(connect("db:5432"), false).unwrap();
        is_heard(to, answer.await.unwrap().into_body()).await;
    });
}

#[test]
fn what_comes_before_an_answer_comes_before_it() {
    run(async {
        let application = application(offering(), |_, mut respond| async move {
            for (status, link) in [(100, "none"), (103, "</a>"), (103, "</b>")] {
                let early = Response::builder().status(status).header("link", link).body(()).unwrap();
                respond.send_informational(early).unwrap();
            }
            respond.send_response(Response::new(()), true).unwrap();
        })
        .await;
        let (outbound, _inbound) = chain(application, Protocol::Http2);
        let request = Request::get("http://web/").version(Version::HTTP_2).body(()).unwrap();
        let (mut answer, _) = client(outbound.address).await.send_request(request, true).unwrap();
        let mut early = Vec::new();
        while let Some(response) = poll_fn(|cx| answer.poll_informational(cx)).await {
            let response = response.unwrap();
            early.push((response.status().as_u16(), response.headers()["link"].to_str().unwrap().to_owned()));
        }
        assert_eq!(early, [(100, "none".into()), (103, "</a>".into()), (103, "</b>".into())]);
        assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    });
}
