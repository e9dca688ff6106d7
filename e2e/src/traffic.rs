//! Traffic in the background of a case, counted by the client that sends it.

use crate::{case::Case, command::Output, manifest::PROGRAM};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use tokio::task::JoinHandle;

/// Traffic that flows while the case does something else.
#[must_use = "traffic that nobody awaits proves nothing"]
pub struct Traffic {
    client: JoinHandle<Result<Output>>,
}

/// What the client counted.
#[derive(Debug, Deserialize)]
pub struct Count {
    /// Requests sent.
    pub requests: u64,
    /// Those that did not end as they should.
    pub failed: u64,
    /// The same by kind, such as `status_503` or `reset`.
    pub failures: BTreeMap<String, u64>,
}

impl Case {
    /// Starts `conduit-demo load` in the one pod of `app`: so many requests a second for so many seconds, GET and POST in
    /// turn, on kept connections but for one request in ten.
    ///
    /// # Errors
    /// Where there is no such pod.
    pub async fn traffic(&self, app: &str, target: &str, rate: u32, seconds: u32) -> Result<Traffic> {
        let pod = self.pod(app).await?.metadata.name.context("a pod without a name")?;
        let (rate, duration) = (rate.to_string(), format!("{seconds}s"));
        let arguments = ["--rate", &rate, "--duration", &duration, "--mix", "get,post", "--new-connections", "10"];
        let command: Vec<String> =
            [PROGRAM, "load", "--json", "--target", target].iter().chain(&arguments).map(ToString::to_string).collect();
        let case = self.clone();
        let client = tokio::spawn(async move {
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            case.exec(&pod, &command).await
        });
        Ok(Traffic { client })
    }
}

impl Traffic {
    /// That it still flows: what was done since it began was done under it.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn still_flows(&self) -> Result<()> {
        ensure!(!self.client.is_finished(), "the traffic ended before what it was to be under was done");
        Ok(())
    }

    /// What the client counted in all.
    ///
    /// # Errors
    /// Where the client could not run.
    pub async fn end(self) -> Result<Count> {
        let output = self.client.await.context("the client's task ended early")??;
        Ok(serde_json::from_value(output.json()?)?)
    }
}

impl Count {
    /// That none failed, of at least as many as `least`.
    ///
    /// # Errors
    /// The failures by kind, or how few were sent.
    pub fn none_failed(&self, least: u64) -> Result<()> {
        ensure!(self.failed == 0, "{} of {} requests failed: {:?}", self.failed, self.requests, self.failures);
        ensure!(self.requests >= least, "only {} requests were sent, of at least {least}", self.requests);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(requests: u64, failed: u64) -> Count {
        Count { requests, failed, failures: BTreeMap::from([("reset".into(), failed)]) }
    }

    #[test]
    fn one_failure_and_too_little_traffic_are_both_failures() {
        assert!(count(100, 0).none_failed(100).is_ok());
        assert_eq!(count(100, 1).none_failed(100).unwrap_err().to_string(), "1 of 100 requests failed: {\"reset\": 1}");
        assert!(count(99, 0).none_failed(100).is_err());
    }
}
