//! gRPC echo, one method per kind of stream, and the standard health service that gRPC probes call.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tonic::{Code, Request, Response, Status, Streaming};

use super::proto::Message;
use super::proto::echo_server::{Echo, EchoServer};

/// The most messages that one server stream sends.
const MAX_COUNT: u32 = 1_000_000;

/// The metadata that the caller sets and every answer carries back.
pub(crate) const CALLER: &str = "x-caller";

type Answers = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

/// Echo and health as one router. Health says `SERVING` for the server as a whole and for the echo service.
pub(super) async fn router() -> axum::Router {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<EchoServer<Service>>().await;
    tonic::service::Routes::new(EchoServer::new(Service)).add_service(health).into_axum_router().reset_fallback()
}

#[derive(Clone)]
struct Service;

#[tonic::async_trait]
impl Echo for Service {
    async fn unary(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        let caller = request.metadata().get(CALLER).cloned();
        let message = request.into_inner();
        pause(&message).await;
        ended(&message)?;
        let mut response = Response::new(message);
        if let Some(caller) = caller {
            response.metadata_mut().insert(CALLER, caller);
        }
        Ok(response)
    }

    type ServerStreamStream = Answers;

    async fn server_stream(&self, request: Request<Message>) -> Result<Response<Answers>, Status> {
        let message = request.into_inner();
        if message.count > MAX_COUNT {
            return Err(Status::invalid_argument(format!("count: expected at most {MAX_COUNT}")));
        }
        let end = ended(&message).err();
        let copies = stream::iter(0..message.count).then(move |sequence| {
            let copy = Message { sequence, ..message.clone() };
            async move {
                pause(&copy).await;
                Ok(copy)
            }
        });
        Ok(Response::new(Box::pin(copies.chain(stream::iter(end.map(Err))))))
    }

    async fn client_stream(&self, request: Request<Streaming<Message>>) -> Result<Response<Message>, Status> {
        let mut messages = request.into_inner();
        let mut joined = Message::default();
        let mut payload = Vec::new();
        while let Some(message) = messages.message().await? {
            ended(&message)?;
            payload.extend_from_slice(&message.payload);
            joined.count += 1;
        }
        joined.payload = payload.into();
        Ok(Response::new(joined))
    }

    type BidiStreamStream = Answers;

    async fn bidi_stream(&self, request: Request<Streaming<Message>>) -> Result<Response<Answers>, Status> {
        let answers = request.into_inner().then(|message| async {
            let message = message?;
            pause(&message).await;
            ended(&message)?;
            Ok(message)
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

async fn pause(message: &Message) {
    tokio::time::sleep(Duration::from_millis(message.pause_ms.into())).await;
}

fn ended(message: &Message) -> Result<(), Status> {
    match Code::from_i32(message.code) {
        Code::Ok => Ok(()),
        code => Err(Status::new(code, "as asked")),
    }
}
