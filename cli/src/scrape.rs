//! What proxies answer: two readings of each one's metrics, a window apart, or its identity.
//!
//! At most [`AT_ONCE`] proxies are read at a time; one that does not answer spoils nothing but its own numbers. It must not
//! know what is made of the numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use conduit_model::settings::ADMIN_PORT;
use futures::{StreamExt, stream};
use kube::Client;
use tokio::time::Instant;

use crate::change::{Change, METRICS};
use crate::exposition::Exposition;
use crate::forward::{self, Failure};
use crate::identity::{self, Identity};
use crate::workload::Member;

/// Proxies that are read at a time.
pub(crate) const AT_ONCE: usize = 16;

/// What each proxy counted, by namespace and pod.
pub(crate) type Changes = BTreeMap<(String, String), Change>;

/// Why a pod did not answer, by namespace and pod.
pub(crate) type Unanswered = BTreeMap<(String, String), Failure>;

/// What came of looking at some proxies.
#[derive(Debug, Default)]
pub(crate) struct Scraped {
    pub(crate) changes: Changes,
    pub(crate) unanswered: Unanswered,
}

struct Reading {
    at: Instant,
    metrics: Exposition,
}

/// Reads every running, meshed member once: all that it has counted since it started.
pub(crate) async fn since_start(client: &Client, members: &[Member]) -> Scraped {
    let mut scraped = Scraped::default();
    for (pod, reading) in readings(client, targets(members)).await {
        match reading {
            Ok(reading) => drop(scraped.changes.insert(pod, Change::since_start(reading.metrics))),
            Err(failure) => drop(scraped.unanswered.insert(pod, failure)),
        }
    }
    scraped
}

/// Reads every running, meshed member twice, `window` apart.
pub(crate) async fn window(client: &Client, members: &[Member], window: Duration) -> Scraped {
    let started = Instant::now();
    let first = readings(client, targets(members)).await;
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

/// Asks every running, meshed member for its identity; sorted by namespace and pod.
pub(crate) async fn identities(client: &Client, members: &[Member]) -> (Vec<Identity>, Unanswered) {
    let ask = |(namespace, pod): (String, String)| async move {
        let text = forward::get(client, &namespace, &pod, ADMIN_PORT, identity::PATH).await;
        let read = |text: String| Ok(Identity::read(namespace.clone(), pod.clone(), &text)?);
        let answer = text.and_then(read);
        ((namespace, pod), answer)
    };
    let answers: BTreeMap<_, _> = stream::iter(targets(members)).map(ask).buffer_unordered(AT_ONCE).collect().await;
    let (mut identities, mut unanswered) = (Vec::new(), Unanswered::new());
    for (pod, answer) in answers {
        match answer {
            Ok(identity) => identities.push(identity),
            Err(failure) => drop(unanswered.insert(pod, failure)),
        }
    }
    (identities, unanswered)
}

fn targets(members: &[Member]) -> Vec<(String, String)> {
    let running = members.iter().filter(|member| member.meshed && member.running);
    running.map(|member| (member.namespace.clone(), member.pod.clone())).collect()
}

async fn readings(client: &Client, pods: Vec<(String, String)>) -> Vec<((String, String), Result<Reading, Failure>)> {
    let read = |(namespace, pod): (String, String)| async move {
        let reading = read(client, &namespace, &pod).await;
        ((namespace, pod), reading)
    };
    stream::iter(pods).map(read).buffer_unordered(AT_ONCE).collect().await
}

async fn read(client: &Client, namespace: &str, pod: &str) -> Result<Reading, Failure> {
    let text = forward::get(client, namespace, pod, ADMIN_PORT, "/metrics").await?;
    Ok(Reading { at: Instant::now(), metrics: Exposition::parse(&text, METRICS)? })
}
