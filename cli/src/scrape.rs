//! Two readings of each proxy's metrics, a window apart, by port-forward through the API server.
//!
//! At most [`AT_ONCE`] proxies are read at a time; each has a deadline, and one that does not answer spoils nothing but its
//! own numbers. It must not know what is made of the numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use conduit_model::settings::ADMIN_PORT;
use futures::{StreamExt, stream};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::change::{Change, METRICS};
use crate::exposition::{Exposition, Malformed};
use crate::workload::Member;

/// Proxies that are read at a time.
const AT_ONCE: usize = 16;

/// A proxy that takes longer for one reading does not answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// The largest answer that is read, in bytes: a proxy at its bound of series stays well below.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// What each proxy counted, by namespace and pod.
pub(crate) type Changes = BTreeMap<(String, String), Change>;

/// What came of looking at some proxies.
#[derive(Debug, Default)]
pub(crate) struct Scraped {
    pub(crate) changes: Changes,
    /// By namespace and pod.
    pub(crate) unanswered: BTreeMap<(String, String), Failure>,
}

/// Why a proxy has no numbers.
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
    #[error("its port {ADMIN_PORT} is not reached: {0}")]
    Port(String),
    #[error("its answer broke off: {0}")]
    Http(#[from] hyper::Error),
    #[error("its answer: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

struct Reading {
    at: Instant,
    metrics: Exposition,
}

/// Reads every running, meshed member twice, `window` apart.
pub(crate) async fn window(client: &Client, members: &[Member], window: Duration) -> Scraped {
    let started = Instant::now();
    let targets = members.iter().filter(|member| member.meshed && member.running);
    let first = readings(client, targets.map(key).collect()).await;
    tokio::time::sleep_until(started + window).await;

    let mut scraped = Scraped::default();
    let mut before = BTreeMap::new();
    for (pod, reading) in first {
        match reading {
            Ok(reading) => drop(before.insert(pod, reading)),
            Err(failure) => drop(scraped.unanswered.insert(pod, failure)),
        }
    }
    for (pod, reading) in readings(client, before.keys().cloned().collect()).await {
        match (before.remove(&pod), reading) {
            (Some(before), Ok(after)) => {
                let seconds = after.at.duration_since(before.at).as_secs_f64();
                scraped.changes.insert(pod, Change::new(before.metrics, after.metrics, seconds));
            }
            (_, Err(failure)) => drop(scraped.unanswered.insert(pod, failure)),
            (None, Ok(_)) => {}
        }
    }
    scraped
}

fn key(member: &Member) -> (String, String) {
    (member.namespace.clone(), member.pod.clone())
}

async fn readings(client: &Client, pods: Vec<(String, String)>) -> Vec<((String, String), Result<Reading, Failure>)> {
    let read = |(namespace, pod): (String, String)| async move {
        let reading = tokio::time::timeout(DEADLINE, read(client, &namespace, &pod)).await;
        ((namespace, pod), reading.unwrap_or(Err(Failure::Deadline)))
    };
    stream::iter(pods).map(read).buffer_unordered(AT_ONCE).collect().await
}

async fn read(client: &Client, namespace: &str, pod: &str) -> Result<Reading, Failure> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let mut forward = pods.portforward(pod, &[ADMIN_PORT]).await.map_err(Failure::of_forward)?;
    let refused = forward.take_error(ADMIN_PORT);
    let stream = forward.take_stream(ADMIN_PORT);
    let Some(stream) = stream else { return Err(Failure::Port("no stream".into())) };
    let outcome = metrics(stream).await;
    let reading = match outcome {
        Ok(text) => Ok(Reading { at: Instant::now(), metrics: Exposition::parse(&text, METRICS)? }),
        // The stream only ends; the reason comes beside it.
        Err(failure) => match refused {
            Some(refused) => match tokio::time::timeout(Duration::from_millis(100), refused).await {
                Ok(Some(reason)) => Err(Failure::of_port(&reason)),
                Ok(None) | Err(_) => Err(failure),
            },
            None => Err(failure),
        },
    };
    forward.abort();
    reading
}

/// Asks for `/metrics` on a connection to an admin port.
async fn metrics<I>(io: I) -> Result<String, Failure>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/metrics")
        .header(header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .expect("a constant request is well formed");
    let answer = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(Failure::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(Failure::Body)?.to_bytes();
        String::from_utf8(body.into()).map_err(|error| Failure::Body(error.into()))
    };
    let answer = answer.await;
    connection.abort();
    answer
}

impl Failure {
    /// What a node says of a port is long and about the node; the usual reason is short.
    fn of_port(reason: &str) -> Self {
        let refused = reason.contains("connection refused");
        Self::Port(if refused { "connection refused".into() } else { reason.trim().to_owned() })
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
        metrics(client).await
    }

    #[test]
    fn a_refused_port_is_said_in_short() {
        let reason =
            "error forwarding port 4191 to pod 303ca9: IPv4: dial tcp4 127.0.0.1:4191: connect: connection refused";
        assert_eq!(Failure::of_port(reason).to_string(), "its port 4191 is not reached: connection refused");
        assert_eq!(Failure::of_port("no such pod\n").to_string(), "its port 4191 is not reached: no such pod");
    }

    #[tokio::test]
    async fn the_body_of_a_200_is_the_metrics() {
        assert_eq!(answered("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nm 1\n").await.unwrap(), "m 1\n");
    }

    #[tokio::test]
    async fn another_status_and_a_broken_answer_are_failures() {
        let failure = answered("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await.unwrap_err();
        assert_eq!(failure.to_string(), "it answered 503 Service Unavailable");
        assert!(matches!(answered("").await, Err(Failure::Http(_))));
        assert!(matches!(answered("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nm 1\n").await, Err(Failure::Body(_))));
    }
}
