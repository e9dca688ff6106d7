//! gRPC calls that end before they are done: because their client gives them up, and because their deadline passes.
//!
//! Each call would take an hour. That it has ended at the server is the server's word, and so is that a deadline has
//! passed: tonic's own channel would end such a call by itself and tell nothing of who heard of it, so it is not used.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::{StreamExt, stream};
use http::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::{Code, Request, Status};

use super::body_of;
use crate::echo::grpc::TOO_LATE;
use crate::echo::proto::Message;
use crate::echo::proto::echo_client::EchoClient;

const AN_HOUR: u32 = 3_600_000;
const DEADLINE: Duration = Duration::from_millis(300);
/// How often the server is asked.
const PERIOD: Duration = Duration::from_millis(20);

type Echo = EchoClient<Client<HttpConnector, Body>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unary,
    ServerStream,
    ClientStream,
    BidiStream,
}

const KINDS: [Kind; 4] = [Kind::Unary, Kind::ServerStream, Kind::ClientStream, Kind::BidiStream];

pub(super) async fn check(target: &Uri) -> anyhow::Result<Value> {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let echo = EchoClient::with_origin(client, target.clone());
    for kind in KINDS {
        cancelled(&echo, kind).await.with_context(|| format!("{kind:?} that its client cancels"))?;
        late(&echo, kind).await.with_context(|| format!("{kind:?} whose deadline passes"))?;
    }
    Ok(json!({"calls": 2 * KINDS.len()}))
}

async fn cancelled(echo: &Echo, kind: Kind) -> anyhow::Result<()> {
    let before = under_way(echo).await?;
    tokio::select! {
        ended = call(echo.clone(), kind, None) => bail!("it ended by itself: {ended:?}"),
        begun = until(echo, |count| count > before) => begun?,
    }
    // The call is dropped now, and nothing else says so to anybody.
    until(echo, |count| count <= before).await
}

async fn late(echo: &Echo, kind: Kind) -> anyhow::Result<()> {
    let status = call(echo.clone(), kind, Some(DEADLINE)).await.err().context("it succeeded")?;
    ensure!(status.code() == Code::DeadlineExceeded && status.message() == TOO_LATE, "the status was {status}");
    Ok(())
}

/// A call that takes an hour unless somebody ends it. What it can carry before that has gone.
async fn call(mut echo: Echo, kind: Kind, deadline: Option<Duration>) -> Result<(), Status> {
    let quick = Message { payload: body_of(1000), ..Message::default() };
    let slow = Message { pause_ms: AN_HOUR, count: 1, ..quick.clone() };
    match kind {
        Kind::Unary => drop(echo.unary(with(slow, deadline)).await?),
        Kind::ServerStream => drop(echo.server_stream(with(slow, deadline)).await?.into_inner().message().await?),
        Kind::ClientStream => {
            let messages = stream::iter([quick]).chain(stream::pending());
            drop(echo.client_stream(with(messages, deadline)).await?);
        }
        Kind::BidiStream => {
            // Ends with the call: hyper resets a stream whose response is dropped only when nothing more is to be sent.
            let (_open, end) = oneshot::channel::<()>();
            let messages = stream::iter([quick, slow]).chain(stream::pending()).take_until(end);
            let mut answers = echo.bidi_stream(with(messages, deadline)).await?.into_inner();
            while answers.message().await?.is_some() {}
        }
    }
    Ok(())
}

fn with<T>(message: T, deadline: Option<Duration>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(deadline) = deadline {
        request.set_timeout(deadline);
    }
    request
}

/// Waits until the number of calls under way is as wished; the check's own time limit ends it.
async fn until(echo: &Echo, wished: impl Fn(u32) -> bool) -> anyhow::Result<()> {
    while !wished(under_way(echo).await?) {
        tokio::time::sleep(PERIOD).await;
    }
    Ok(())
}

async fn under_way(echo: &Echo) -> anyhow::Result<u32> {
    let answer = echo.clone().under_way(Message::default()).await.context("how many calls are under way")?;
    Ok(answer.into_inner().count)
}
