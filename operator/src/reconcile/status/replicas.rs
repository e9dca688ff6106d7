//! How far the proxies of each replica are: served to the other replicas, and asked of them.

use crate::compile::{Programmed, Source};
use axum::{Json, Router, routing::get};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::time::timeout;

/// Where replicas say it, on their admin port.
const PATH: &str = "/programmed";
/// How long a replica has to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest answer, in bytes: more than 100,000 objects.
const ANSWER_MAX: usize = 32 << 20;
/// Replicas that are asked at once.
const ASKED_AT_ONCE: usize = 8;

/// How far one object is on one replica.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    source: Source,
    #[serde(flatten)]
    programmed: Programmed,
}

/// What each replica says, or why it says nothing.
pub(super) type Answers = BTreeMap<IpAddr, Result<BTreeMap<Source, Programmed>, String>>;

/// Why a count is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    pub reason: &'static str,
    pub message: String,
}

/// Serves `/programmed`: how far the proxies of this replica are, with every object that it knows.
pub fn router<F, A>(report: F) -> Router
where
    F: Fn() -> A + Clone + Send + Sync + 'static,
    A: Future<Output = BTreeMap<Source, Programmed>> + Send + 'static,
{
    let answer = async move || {
        let report = report().await;
        Json(report.into_iter().map(|(source, programmed)| Entry { source, programmed }).collect::<Vec<_>>())
    };
    Router::new().route(PATH, get(answer))
}

/// Asks replicas.
pub(super) struct Replicas {
    client: Client<HttpConnector, Empty<Bytes>>,
    port: u16,
}

impl Replicas {
    pub(super) fn new(port: u16) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), port }
    }

    /// What the replicas at these addresses say.
    pub(super) async fn ask(&self, addresses: BTreeSet<IpAddr>) -> Answers {
        let asked = stream::iter(addresses).map(async |address| {
            let answer = match timeout(PATIENCE, self.ask_one(address)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("did not answer within {} s", PATIENCE.as_secs())),
            };
            (address, answer)
        });
        asked.buffer_unordered(ASKED_AT_ONCE).collect().await
    }

    async fn ask_one(&self, address: IpAddr) -> Result<BTreeMap<Source, Programmed>, String> {
        let uri = format!("http://{}{PATH}", SocketAddr::new(address, self.port));
        let request = Request::get(uri).body(Empty::new()).map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| error.to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("answered {}", response.status()));
        }
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(|error| error.to_string())?;
        let entries: Vec<Entry> = serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())?;
        Ok(entries.into_iter().map(|entry| (entry.source, entry.programmed)).collect())
    }
}

/// How far an object is on all replicas together; known only if every one of them knows it as it is.
pub(super) fn sum(source: &Source, answers: &Answers) -> Result<Programmed, Unknown> {
    if answers.is_empty() {
        let message = "no replica of the operator is ready".into();
        return Err(Unknown { reason: "ReplicaUnreachable", message });
    }
    let mut sum = Programmed::default();
    for (replica, answer) in answers {
        let programmed = match answer {
            Ok(objects) => objects.get(source).ok_or_else(|| Unknown {
                reason: "Pending",
                message: format!("replica {replica} has not read generation {} yet", source.generation),
            })?,
            Err(why) => {
                let message = format!("replica {replica} is not heard: {why}");
                return Err(Unknown { reason: "ReplicaUnreachable", message });
            }
        };
        sum.proxies += programmed.proxies;
        sum.current += programmed.current;
        sum.rejected += programmed.rejected;
        sum.overridden += programmed.overridden;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::programmed::SourceKind;
    use tokio::net::TcpListener;

    fn source(generation: i64) -> Source {
        Source { kind: SourceKind::TrafficPolicy, namespace: "shop".into(), name: "p".into(), generation }
    }

    fn says(generation: i64, proxies: usize, current: usize) -> Result<BTreeMap<Source, Programmed>, String> {
        Ok([(source(generation), Programmed { proxies, current, ..Programmed::default() })].into())
    }

    fn ip(last: u8) -> IpAddr {
        [127, 0, 0, last].into()
    }

    #[test]
    fn replicas_are_added_up_only_if_all_know_the_object_as_it_is() {
        let all = |answers: Vec<Result<_, _>>| sum(&source(2), &(1..).map(ip).zip(answers).collect());
        assert_eq!(
            all(vec![says(2, 3, 2), says(2, 1, 1)]),
            Ok(Programmed { proxies: 4, current: 3, ..Programmed::default() })
        );
        for (answers, reason, message) in [
            (vec![says(2, 3, 2), says(1, 1, 1)], "Pending", "replica 127.0.0.2 has not read generation 2 yet"),
            (
                vec![says(2, 3, 2), Err("refused".into())],
                "ReplicaUnreachable",
                "replica 127.0.0.2 is not heard: refused",
            ),
            (vec![], "ReplicaUnreachable", "no replica of the operator is ready"),
        ] {
            assert_eq!(all(answers), Err(Unknown { reason, message: message.into() }));
        }
    }

    #[tokio::test]
    async fn a_replica_answers_over_http_and_one_that_is_not_there_is_named() {
        let listener = TcpListener::bind((ip(1), 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move { axum::serve(listener, router(async || says(7, 2, 1).unwrap())).await });
        let answers = Replicas::new(port).ask([ip(1), ip(2)].into()).await;
        assert_eq!(answers[&ip(1)], says(7, 2, 1));
        assert!(answers[&ip(2)].is_err());
        server.abort();
    }
}
