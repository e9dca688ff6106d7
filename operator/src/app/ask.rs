//! Asks another operator whether it is ready, for the chart's test: the image holds no other program that could.

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use std::time::Duration;
use tokio::time::timeout;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Asks the operator whose admin server is at `address`, as `host:port`, and prints what it says.
///
/// # Errors
///
/// It does not answer, or it is not ready: then with what it says is missing.
pub(super) async fn ask(address: &str) -> anyhow::Result<()> {
    let (status, answer) = timeout(PATIENCE, get(address))
        .await
        .with_context(|| format!("{address} does not answer within {} seconds", PATIENCE.as_secs()))??;
    if status != StatusCode::OK {
        bail!("{address} is not ready: {answer}");
    }
    println!("{address}: {answer}");
    Ok(())
}

async fn get(address: &str) -> anyhow::Result<(StatusCode, String)> {
    let uri: Uri =
        format!("http://{address}/ready").parse().with_context(|| format!("{address} is not `host:port`"))?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let response = client.get(uri).await.with_context(|| format!("cannot reach {address}"))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("cannot read the answer of {address}: {error}"))?;
    Ok((status, String::from_utf8_lossy(&body.to_bytes()).trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, routing::get};
    use tokio::net::TcpListener;

    async fn answering(status: StatusCode, answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new().route("/ready", get(async move || (status, answer)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    #[tokio::test]
    async fn who_asks_hears_that_it_is_ready_or_what_is_missing() {
        ask(&answering(StatusCode::OK, "ready\n").await).await.unwrap();
        let address = answering(StatusCode::SERVICE_UNAVAILABLE, "the index is not synced\n").await;
        let said = ask(&address).await.unwrap_err().to_string();
        assert_eq!(said, format!("{address} is not ready: the index is not synced"));
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_with_the_address() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        assert_eq!(ask(&nobody).await.unwrap_err().to_string(), format!("cannot reach {nobody}"));
        assert_eq!(ask("no address").await.unwrap_err().to_string(), "no address is not `host:port`");
    }
}
