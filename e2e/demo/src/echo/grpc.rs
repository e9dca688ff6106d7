//! gRPC echo, one method per kind of stream, and the standard health service that gRPC probes call.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status, Streaming};

use super::proto::Message;
use super::proto::echo_server::{Echo, EchoServer};

/// The most messages that one server stream sends.
const MAX_COUNT: u32 = 1_000_000;

/// What the server says of a call whose deadline has passed: its own words, which no client makes up.
pub(crate) const TOO_LATE: &str = "the echo server saw the deadline pass";

/// The metadata that the caller sets and every answer carries back.
pub(crate) const CALLER: &str = "x-caller";

type Answers = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

/// Echo and health as one router. Health says `SERVING` for the server as a whole and for the echo service.
pub(super) async fn router() -> axum::Router {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<EchoServer<Service>>().await;
    tonic::service::Routes::new(EchoServer::new(Service::default()))
        .add_service(health)
        .into_axum_router()
        .reset_fallback()
}

#[derive(Clone, Default)]
struct Service {
    under_way: Arc<AtomicU32>,
}

/// A call under way. It is dropped at its end, or when its caller gives it up.
struct Call {
    under_way: Arc<AtomicU32>,
    deadline: Option<Instant>,
}

impl Service {
    fn call<T>(&self, request: &Request<T>) -> Result<Call, Status> {
        let deadline = match request.metadata().get("grpc-timeout") {
            Some(value) => {
                let timeout = value.to_str().ok().and_then(timeout);
                let wanted = || Status::invalid_argument("grpc-timeout: expected up to eight digits and a unit");
                Some(Instant::now() + timeout.ok_or_else(wanted)?)
            }
            None => None,
        };
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Ok(Call { under_way: Arc::clone(&self.under_way), deadline })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Call {
    /// What `work` gives, where that is before the caller's deadline.
    async fn within<T>(&self, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        match self.deadline {
            Some(deadline) => {
                let late = |_| Status::deadline_exceeded(TOO_LATE);
                tokio::time::timeout_at(deadline, work).await.map_err(late)?
            }
            None => work.await,
        }
    }
}

#[tonic::async_trait]
impl Echo for Service {
    async fn unary(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        let call = self.call(&request)?;
        let caller = request.metadata().get(CALLER).cloned();
        let message = request.into_inner();
        call.within(pause(&message)).await?;
        ended(&message)?;
        let mut response = Response::new(message);
        if let Some(caller) = caller {
            response.metadata_mut().insert(CALLER, caller);
        }
        Ok(response)
    }

    type ServerStreamStream = Answers;

    async fn server_stream(&self, request: Request<Message>) -> Result<Response<Answers>, Status> {
        let call = self.call(&request)?;
        let message = request.into_inner();
        if message.count > MAX_COUNT {
            return Err(Status::invalid_argument(format!("count: expected at most {MAX_COUNT}")));
        }
        let end = ended(&message).err();
        let copies = stream::unfold((call, 0), move |(call, sequence)| {
            let copy = (sequence < message.count).then(|| Message { sequence, ..message.clone() });
            async move {
                let copy = copy?;
                let paused = call.within(pause(&copy)).await;
                Some((paused.map(|()| copy), (call, sequence + 1)))
            }
        });
        Ok(Response::new(Box::pin(copies.chain(stream::iter(end.map(Err))))))
    }

    async fn client_stream(&self, request: Request<Streaming<Message>>) -> Result<Response<Message>, Status> {
        let call = self.call(&request)?;
        let mut messages = request.into_inner();
        let mut joined = Message::default();
        let mut payload = Vec::new();
        while let Some(message) = call.within(messages.message()).await? {
            ended(&message)?;
            payload.extend_from_slice(&message.payload);
            joined.count += 1;
        }
        joined.payload = payload.into();
        Ok(Response::new(joined))
    }

    type BidiStreamStream = Answers;

    async fn bidi_stream(&self, request: Request<Streaming<Message>>) -> Result<Response<Answers>, Status> {
        let call = self.call(&request)?;
        let answers = stream::unfold((call, request.into_inner()), |(call, mut messages)| async move {
            let answer = call.within(answer(&mut messages)).await.transpose()?;
            Some((answer, (call, messages)))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn under_way(&self, _: Request<Message>) -> Result<Response<Message>, Status> {
        let count = self.under_way.load(Ordering::Relaxed);
        Ok(Response::new(Message { count, ..Message::default() }))
    }
}

/// The next message, to be sent back.
async fn answer(messages: &mut Streaming<Message>) -> Result<Option<Message>, Status> {
    let Some(message) = messages.message().await? else { return Ok(None) };
    pause(&message).await?;
    ended(&message)?;
    Ok(Some(message))
}

async fn pause(message: &Message) -> Result<(), Status> {
    tokio::time::sleep(Duration::from_millis(message.pause_ms.into())).await;
    Ok(())
}

/// Reads a timeout as gRPC's protocol writes it, such as `250m` for 250 milliseconds.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

fn ended(message: &Message) -> Result<(), Status> {
    match Code::from_i32(message.code) {
        Code::Ok => Ok(()),
        code => Err(Status::new(code, "as asked")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let read = ["250m", "30000000u", "2S", "1M", "1H", "7n"].map(timeout);
        let millis = |millis| Some(Duration::from_millis(millis));
        assert_eq!(
            read,
            [
                millis(250),
                millis(30_000),
                millis(2000),
                millis(60_000),
                millis(3_600_000),
                Some(Duration::from_nanos(7))
            ]
        );
        assert_eq!(["", "m", "5", "5x", "-5m", "123456789m", "5é"].map(timeout), [None; 7]);
    }
}
