//! gRPC as it is on the wire, on bare h2: a client and a server that do what they are told, and see what reaches them.

use crate::support::server;
use bytes::{BufMut, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream, client, server::SendResponse};
use http::{HeaderMap, HeaderName, Request, Response};
use std::{cell::RefCell, future::Future, net::SocketAddr, rc::Rc};
use tokio::{
    net::TcpStream,
    sync::oneshot,
    task::{JoinHandle, spawn_local},
};

/// What small messages that come at once may take: they are what some cases are about.
const BUDGET: usize = 1 << 30;

/// What all calls of a connection may leave unread at a server: one that does not read is not to stop the others there.
const CONNECTION_WINDOW: u32 = 1 << 30;

/// What a server is asked.
pub struct Call {
    pub head: http::request::Parts,
    pub messages: Messages,
    pub answer: SendResponse<Bytes>,
}

/// The messages of one direction, as they come.
pub struct Messages {
    pub body: RecvStream,
    buffer: BytesMut,
}

impl Messages {
    pub fn of(body: RecvStream) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next message; none at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Bytes>, h2::Error> {
        loop {
            if let Some(length) = self.buffer.get(1..5).map(|length| u32::from_be_bytes(length.try_into().unwrap())) {
                let whole = 5 + length as usize;
                if self.buffer.len() >= whole {
                    return Ok(Some(self.buffer.split_to(whole).freeze().slice(5..)));
                }
                self.buffer.reserve(whole - self.buffer.len());
            }
            let Some(data) = self.body.data().await.transpose()? else {
                assert!(self.buffer.is_empty(), "a message is cut off");
                return Ok(None);
            };
            self.buffer.extend_from_slice(&data);
            // The other side may have reset the stream, and then there is nothing to release.
            let _ = self.body.flow_control().release_capacity(data.len());
        }
    }

    /// Every message to the end of the stream, and the trailers.
    pub async fn rest(mut self) -> Result<(Vec<Bytes>, Option<HeaderMap>), h2::Error> {
        let mut all = Vec::new();
        while let Some(message) = self.next().await? {
            all.push(message);
        }
        Ok((all, self.body.trailers().await?))
    }

    /// Why the stream was reset.
    pub async fn reset(mut self) -> Option<Reason> {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return error.reason(),
            }
        }
    }
}

/// Sends one message, as far as the windows let it, and waits for them.
pub async fn send(stream: &mut SendStream<Bytes>, message: &[u8]) -> Result<(), h2::Error> {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len().try_into().unwrap());
    frame.put_slice(message);
    let mut rest = frame.freeze();
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        let capacity = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let capacity = capacity.ok_or(Reason::STREAM_CLOSED)??;
        stream.send_data(rest.split_to(capacity.min(rest.len())), false)?;
    }
    Ok(())
}

/// A block of headers or trailers.
pub fn block(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    pairs.iter().map(pair).collect()
}

/// The head of an answer.
pub fn answer(more: &[(&str, &str)]) -> Response<()> {
    let mut response = Response::new(());
    *response.headers_mut() = block(&[&[("content-type", "application/grpc")], more].concat());
    response
}

/// A server of gRPC that treats each call as `serve` does.
pub async fn grpc_server<F: Future<Output = ()> + 'static>(serve: impl Fn(Call) -> F + Clone + 'static) -> SocketAddr {
    server(move |stream, _| {
        let serve = serve.clone();
        async move {
            let mut builder = h2::server::Builder::new();
            builder.data_frame_budget(BUDGET).initial_connection_window_size(CONNECTION_WINDOW);
            let mut connection = builder.handshake(stream).await.unwrap();
            // What proxies hang up on is over.
            while let Some(Ok((request, answer))) = connection.accept().await {
                let (head, body) = request.into_parts();
                spawn_local(serve(Call { head, messages: Messages::of(body), answer }));
            }
        }
    })
    .await
}

/// A client of gRPC, with one connection.
#[derive(Clone)]
pub struct Client(client::SendRequest<Bytes>);

/// A call that has begun.
pub struct Begun {
    pub questions: SendStream<Bytes>,
    pub response: client::ResponseFuture,
}

impl Client {
    pub async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (client, connection) = client::Builder::new().data_frame_budget(BUDGET).handshake(stream).await.unwrap();
        spawn_local(async { drop(connection.await) });
        Self(client)
    }

    /// Begins a call with these headers beside those that each has.
    pub async fn begin(&self, headers: &[(&str, &str)]) -> Begun {
        let always = [("content-type", "application/grpc"), ("te", "trailers")];
        self.send(block(&[&always, headers].concat())).await
    }

    /// Begins a call with these headers alone.
    pub async fn send(&self, headers: HeaderMap) -> Begun {
        let mut request = Request::post("http://web/shop.Books/List").body(()).unwrap();
        *request.headers_mut() = headers;
        let mut ready = self.0.clone().ready().await.unwrap();
        let (response, questions) = ready.send_request(request, false).unwrap();
        Begun { questions, response }
    }

    /// A call of one empty message, whose client has said all.
    pub async fn ask(&self) -> client::ResponseFuture {
        let Begun { mut questions, response } = self.begin(&[]).await;
        send(&mut questions, b"").await.unwrap();
        questions.send_data(Bytes::new(), true).unwrap();
        response
    }
}

impl Begun {
    /// The head and the messages of the answer.
    pub async fn answered(self) -> (Response<()>, Messages, SendStream<Bytes>) {
        let (head, messages) = open(self.response.await.unwrap());
        (head, messages, self.questions)
    }
}

/// Head and messages of an answer.
pub fn open(response: Response<RecvStream>) -> (Response<()>, Messages) {
    let (head, body) = response.into_parts();
    (Response::from_parts(head, ()), Messages::of(body))
}

/// Sends messages while something else is done.
pub fn sending(mut stream: SendStream<Bytes>, messages: Vec<Bytes>) -> JoinHandle<Result<(), h2::Error>> {
    spawn_local(async move {
        for message in messages {
            send(&mut stream, &message).await?;
        }
        stream.send_data(Bytes::new(), true)
    })
}

/// One value that a server hands to its case.
pub fn told<T: 'static>() -> (impl Fn(T) + Clone, oneshot::Receiver<T>) {
    let (tx, rx) = oneshot::channel();
    let tx = Rc::new(RefCell::new(Some(tx)));
    let tell = move |value| drop(tx.borrow_mut().take().expect("it is told once").send(value));
    (tell, rx)
}

/// A message that is not like another, nor like itself a byte further.
pub fn pattern(length: usize) -> Bytes {
    (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Trailers that say that all is well.
pub const OK: &[(&str, &str)] = &[("grpc-status", "0")];
