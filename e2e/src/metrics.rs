//! Reading a proxy's metrics, through the API server as a user without Prometheus would.

use crate::case::Case;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::Portforwarder};
use std::collections::BTreeMap;

/// The port of a proxy's admin server.
const ADMIN_PORT: u16 = 4191;

/// One reading of a proxy's metrics.
#[derive(Debug, Default)]
pub struct Scrape {
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Scrape {
    /// Sum over the series of `name` that have all of these labels; 0 where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let matches = |sample: &&Sample| {
            sample.name == name && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
        };
        self.samples.iter().filter(matches).map(|sample| sample.value).sum()
    }

    /// The values that `label` has in the series of `name`.
    pub fn values(&self, name: &str, label: &str) -> Vec<&str> {
        let mut values: Vec<_> = self
            .samples
            .iter()
            .filter(|s| s.name == name)
            .filter_map(|s| s.labels.get(label))
            .map(String::as_str)
            .collect();
        values.sort_unstable();
        values.dedup();
        values
    }

    fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples =
            lines.map(|line| sample(line).with_context(|| format!("no sample: {line}"))).collect::<Result<_>>()?;
        Ok(Self { samples })
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, rest) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, rest) = rest.split_once('}')?;
            ((name, labels), rest)
        }
        None => {
            let (name, rest) = line.split_once(' ')?;
            ((name, ""), rest)
        }
    };
    let labels = series.1.split_terminator(',').map(|pair| {
        let (key, value) = pair.split_once('=')?;
        Some((key.to_owned(), value.trim_matches('"').to_owned()))
    });
    Some(Sample {
        name: series.0.to_owned(),
        labels: labels.collect::<Option<_>>()?,
        value: rest.split_whitespace().next()?.parse().ok()?,
    })
}

/// A connection to the admin server of a pod's proxy, which answers one request on it.
///
/// The length of a response says where it ends: a forwarded port is closed only a second after its server closed it.
pub struct Admin {
    sender: SendRequest<Empty<Bytes>>,
    _forward: Portforwarder,
}

impl Admin {
    /// Connects through the API server.
    ///
    /// # Errors
    /// Where the pod has no proxy, or its proxy does not answer.
    pub async fn connect(case: &Case, pod: &str) -> Result<Self> {
        Self::connect_to(&case.pods(), pod, ADMIN_PORT).await
    }

    /// Connects through the API server to another port that answers in the same way, such as the operator's.
    ///
    /// # Errors
    /// Where nothing answers there.
    pub async fn connect_to(pods: &Api<Pod>, pod: &str, port: u16) -> Result<Self> {
        let mut forward = pods.portforward(pod, &[port]).await?;
        let stream = forward.take_stream(port).context("no stream to the port")?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, _forward: forward })
    }

    /// The body of the answer to a GET, which has to be 200.
    ///
    /// # Errors
    /// Where it is not, or the connection broke.
    pub async fn get(&mut self, path: &str) -> Result<String> {
        self.sender.ready().await.context("the connection to the proxy closed")?;
        let request = Request::get(path).header("host", "admin").body(Empty::new())?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = String::from_utf8(response.into_body().collect().await?.to_bytes().into())?;
        ensure!(status == StatusCode::OK, "{path}: {status}: {body}");
        Ok(body)
    }

    /// Reads the proxy's metrics.
    ///
    /// # Errors
    /// Where the proxy does not answer, or not with metrics.
    pub async fn scrape(&mut self) -> Result<Scrape> {
        Scrape::parse(&self.get("/metrics").await?)
    }
}

impl Case {
    /// Reads the metrics of a pod's proxy.
    ///
    /// # Errors
    /// Where the pod has no proxy, or its proxy does not answer.
    pub async fn scrape(&self, pod: &str) -> Result<Scrape> {
        let mut admin = Admin::connect(self, pod).await.with_context(|| format!("the proxy of {pod}"))?;
        admin.scrape().await.with_context(|| format!("the proxy of {pod}"))
    }

    /// Reads the metrics of the proxy of the one pod of `app`.
    ///
    /// # Errors
    /// Where there is no such pod, it has no proxy, or its proxy does not answer.
    pub async fn scrape_of(&self, app: &str) -> Result<Scrape> {
        let pod = self.pod(app).await?;
        self.scrape(pod.metadata.name.as_deref().context("a pod without a name")?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_the_labels_asked_for() {
        let text = "# TYPE a counter\na_total{x=\"1\",y=\"p\"} 2\na_total{x=\"1\",y=\"q\"} 3\na_total{x=\"2\",y=\"p\"} 5\nup 1\n# EOF\n";
        let scrape = Scrape::parse(text).unwrap();
        assert_eq!(scrape.sum("a_total", &[("x", "1")]), 5.0);
        assert_eq!(scrape.sum("a_total", &[]), 10.0);
        assert_eq!(scrape.sum("up", &[]), 1.0);
        assert_eq!(scrape.values("a_total", "y"), ["p", "q"]);
    }
}
