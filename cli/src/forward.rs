//! One question to an admin server in the cluster, by port-forward through the API server.
//!
//! It has a deadline and a bound on the answer. It must not know what is asked, or why.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{exposition, identity};

/// A pod that takes longer for one answer does not answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// The largest answer that is read, in bytes: the metrics of a proxy at its bound of series stay well below.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Why a pod has no answer.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Deadline,
    #[error("not allowed to reach it: `get` and `create` on `pods/portforward` are needed")]
    Forbidden,
    #[error("it went away")]
    Gone,
    #[error("port-forward: {0}")]
    Forward(#[source] Box<kube::Error>),
    #[error("its port {port} is not reached: {reason}")]
    Port { port: u16, reason: String },
    #[error("its answer broke off: {0}")]
    Http(#[from] hyper::Error),
    #[error("its answer: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("it answered {status}{}", first_line(.text))]
    Status { status: StatusCode, text: String },
    #[error(transparent)]
    Metrics(#[from] exposition::Malformed),
    #[error(transparent)]
    Identity(#[from] identity::Malformed),
}

/// Asks a port of a pod for a path, over HTTP.
///
/// # Errors
/// Why there is no answer of status 200.
pub(crate) async fn get(
    client: &Client,
    namespace: &str,
    pod: &str,
    port: u16,
    path: &'static str,
) -> Result<String, Failure> {
    let asked = tokio::time::timeout(DEADLINE, forwarded(client, namespace, pod, port, path)).await;
    asked.unwrap_or(Err(Failure::Deadline))
}

async fn forwarded(
    client: &Client,
    namespace: &str,
    pod: &str,
    port: u16,
    path: &'static str,
) -> Result<String, Failure> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let mut forward = pods.portforward(pod, &[port]).await.map_err(Failure::of_forward)?;
    let refused = forward.take_error(port);
    let Some(stream) = forward.take_stream(port) else {
        return Err(Failure::Port { port, reason: "no stream".into() });
    };
    let answer = match (ask(stream, path).await, refused) {
        // The stream only ends; the reason comes beside it.
        (Err(failure), Some(refused)) => match tokio::time::timeout(Duration::from_millis(100), refused).await {
            Ok(Some(reason)) => Err(Failure::of_port(port, &reason)),
            Ok(None) | Err(_) => Err(failure),
        },
        (answer, _) => answer,
    };
    forward.abort();
    answer
}

/// Asks for a path on a connection.
async fn ask<I>(io: I, path: &'static str) -> Result<String, Failure>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .expect("a constant request is well formed");
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(Failure::Body)?.to_bytes();
        let text = String::from_utf8(body.into()).map_err(|error| Failure::Body(error.into()))?;
        match status {
            StatusCode::OK => Ok(text),
            _ => Err(Failure::Status { status, text }),
        }
    };
    let answer = answer.await;
    connection.abort();
    answer
}

/// The first line of what a server says with a refusal.
fn first_line(text: &str) -> String {
    text.lines().next().filter(|line| !line.is_empty()).map_or_else(String::new, |line| format!(": {line}"))
}

impl Failure {
    /// What a node says of a port is long and about the node; the usual reason is short.
    fn of_port(port: u16, reason: &str) -> Self {
        let refused = reason.contains("connection refused");
        Self::Port { port, reason: if refused { "connection refused".into() } else { reason.trim().to_owned() } }
    }

    fn of_forward(error: kube::Error) -> Self {
        use kube::client::UpgradeConnectionError;
        let status = match &error {
            kube::Error::Api(status) => Some(status.code),
            kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => Some(status.as_u16()),
            _ => None,
        };
        match status {
            Some(403) => Self::Forbidden,
            Some(404) => Self::Gone,
            _ => Self::Forward(Box::new(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn answered(answer: &'static str) -> Result<String, Failure> {
        let (client, mut server) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            let mut request = vec![0; 1024];
            let read = server.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n"));
            server.write_all(answer.as_bytes()).await.unwrap();
        });
        ask(client, "/metrics").await
    }

    #[test]
    fn a_refused_port_is_said_in_short() {
        let reason =
            "error forwarding port 4191 to pod 303ca9: IPv4: dial tcp4 127.0.0.1:4191: connect: connection refused";
        assert_eq!(Failure::of_port(4191, reason).to_string(), "its port 4191 is not reached: connection refused");
        assert_eq!(Failure::of_port(9990, "no such pod\n").to_string(), "its port 9990 is not reached: no such pod");
    }

    #[tokio::test]
    async fn the_body_of_a_200_is_the_answer() {
        assert_eq!(answered("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nm 1\n").await.unwrap(), "m 1\n");
    }

    #[tokio::test]
    async fn another_status_and_a_broken_answer_are_failures() {
        let failure = answered("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await.unwrap_err();
        assert_eq!(failure.to_string(), "it answered 503 Service Unavailable");
        let failure = answered("HTTP/1.1 404 Not Found\r\ncontent-length: 7\r\n\r\nno page").await.unwrap_err();
        assert_eq!(failure.to_string(), "it answered 404 Not Found: no page");
        assert!(matches!(answered("").await, Err(Failure::Http(_))));
        assert!(matches!(answered("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nm 1\n").await, Err(Failure::Body(_))));
    }
}
