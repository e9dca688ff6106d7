//! gRPC: each kind of stream, metadata both ways, and an error status in the trailers.

use anyhow::{Context, ensure};
use futures::stream;
use http::Uri;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use super::body_of;
use crate::echo::grpc::CALLER;
use crate::echo::proto::Message;
use crate::echo::proto::echo_client::EchoClient;

const MESSAGES: u32 = 100;

pub(super) async fn check(target: &Uri) -> anyhow::Result<Value> {
    let channel = Endpoint::from(target.clone()).connect().await.context("cannot connect")?;
    let mut client = EchoClient::new(channel);
    unary(&mut client).await.context("unary")?;
    server_stream(&mut client).await.context("server stream")?;
    client_stream(&mut client).await.context("client stream")?;
    bidi_stream(&mut client).await.context("bidirectional stream")?;
    error(&mut client).await.context("error status")?;
    error_after_messages(&mut client).await.context("error status after messages")?;
    Ok(json!({"calls": 6, "messages": MESSAGES}))
}

fn message(sequence: u32) -> Message {
    Message { payload: body_of(sequence as usize * 10), sequence, ..Message::default() }
}

async fn unary(client: &mut EchoClient<Channel>) -> anyhow::Result<()> {
    let mut request = Request::new(message(7));
    request.metadata_mut().insert(CALLER, "check".parse()?);
    let response = client.unary(request).await?;
    ensure!(response.metadata().get(CALLER).is_some_and(|caller| caller == "check"), "the metadata was lost");
    ensure!(response.into_inner() == message(7), "the message came back changed");
    Ok(())
}

async fn server_stream(client: &mut EchoClient<Channel>) -> anyhow::Result<()> {
    let request = Message { count: MESSAGES, ..message(0) };
    let mut answers = client.server_stream(request.clone()).await?.into_inner();
    for sequence in 0..MESSAGES {
        let answer = answers.message().await?.with_context(|| format!("the stream ended after {sequence}"))?;
        ensure!(answer == Message { sequence, ..request.clone() }, "answer {sequence} came back changed");
    }
    ensure!(answers.message().await?.is_none(), "more answers than asked for");
    Ok(())
}

async fn client_stream(client: &mut EchoClient<Channel>) -> anyhow::Result<()> {
    let sent: Vec<_> = (0..MESSAGES).map(message).collect();
    let joined: Vec<u8> = sent.iter().flat_map(|message| message.payload.to_vec()).collect();
    let answer = client.client_stream(stream::iter(sent)).await?.into_inner();
    ensure!(answer.count == MESSAGES, "{} messages arrived, not {MESSAGES}", answer.count);
    super::same_bytes(&answer.payload, &joined)
}

/// Each message is sent only after the answer to the one before: a proxy that buffers would hang here.
async fn bidi_stream(client: &mut EchoClient<Channel>) -> anyhow::Result<()> {
    let (tx, rx) = mpsc::channel(1);
    let mut answers = client.bidi_stream(ReceiverStream::new(rx)).await?.into_inner();
    for sequence in 0..MESSAGES {
        tx.send(message(sequence)).await.context("the stream closed")?;
        let answer = answers.message().await?.with_context(|| format!("the stream ended after {sequence}"))?;
        ensure!(answer == message(sequence), "answer {sequence} came back changed");
    }
    drop(tx);
    ensure!(answers.message().await?.is_none(), "the stream did not end with the client's half");
    Ok(())
}

async fn error(client: &mut EchoClient<Channel>) -> anyhow::Result<()> {
    let request = Message { code: Code::ResourceExhausted as i32, ..message(0) };
    let status = client.unary(request).await.err().context("the call succeeded")?;
    ensure!(status.code() == Code::ResourceExhausted && status.message() == "as asked", "the status was {status}");
    Ok(())
}

async fn error_after_messages(client: &mut EchoClient<Channel>) -> anyhow::Result<()> {
    let request = Message { code: Code::Aborted as i32, count: 3, ..message(1) };
    let mut answers = client.server_stream(request).await?.into_inner();
    for _ in 0..3 {
        answers.message().await?.context("the stream ended early")?;
    }
    let status = answers.message().await.err().context("the stream ended without its error")?;
    ensure!(status.code() == Code::Aborted, "the status was {status}");
    Ok(())
}
