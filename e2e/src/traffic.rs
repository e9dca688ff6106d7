//! Traffic in the background of a case, counted by the client that sends it.

use crate::{
    case::Case,
    command::{self, Output},
    manifest::PROGRAM,
};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    task::JoinHandle,
};

/// It ends by itself then, if nobody ends it before: longer than a case may take.
const LIMIT: &str = "180s";

/// Traffic that flows while the case does something else.
#[must_use = "traffic that nobody ends proves nothing"]
pub struct Traffic {
    client: JoinHandle<Result<Output>>,
    input: Box<dyn AsyncWrite + Unpin>,
    rate: u32,
}

/// What the client counted.
#[derive(Debug, Deserialize)]
pub struct Count {
    /// For how long it sent, in seconds.
    pub seconds: f64,
    /// Requests sent.
    pub requests: u64,
    /// Those that did not end as they should.
    pub failed: u64,
    /// The same by kind, such as `status_503` or `reset`.
    pub failures: BTreeMap<String, u64>,
    /// The longest that one took, in milliseconds from when it was due.
    pub max_ms: f64,
    /// Requests per second that it was told to send.
    #[serde(skip)]
    pub rate: u32,
}

impl Case {
    /// Starts `conduit-demo load` in the one pod of `app`: so many requests a second, GET and POST in turn, on kept
    /// connections but for one request in ten.
    ///
    /// # Errors
    /// Where there is no such pod.
    pub async fn traffic(&self, app: &str, target: &str, rate: u32) -> Result<Traffic> {
        self.load(app, target, rate, &["--new-connections", "10"]).await
    }

    /// The same, one request after the other on one connection.
    ///
    /// # Errors
    /// Where there is no such pod.
    pub async fn traffic_on_one_connection(&self, app: &str, target: &str, rate: u32) -> Result<Traffic> {
        self.load(app, target, rate, &["--connections", "1"]).await
    }

    async fn load(&self, app: &str, target: &str, rate: u32, further: &[&str]) -> Result<Traffic> {
        let pod = self.pod(app).await?.metadata.name.context("a pod without a name")?;
        let of_rate = rate.to_string();
        let command = [
            &[PROGRAM, "load", "--json", "--until-input", "--target", target, "--rate", &of_rate][..],
            &["--duration", LIMIT, "--mix", "get,post"],
            further,
        ];
        let mut process = self.start(&pod, &command.concat()).await?;
        let input = process.stdin().context("no standard input")?;
        Ok(Traffic { client: tokio::spawn(command::finish(process)), input: Box::new(input), rate })
    }
}

impl Traffic {
    /// Ends it and gives what the client counted in all. What was done since it began was done under it.
    ///
    /// # Errors
    /// Where the client could not run, or ended before it was told to.
    pub async fn end(mut self) -> Result<Count> {
        ensure!(!self.client.is_finished(), "the traffic ended before what it was to be under was done");
        self.input.write_all(b"\n").await?;
        self.input.flush().await?;
        let output = self.client.await.context("the client's task ended early")??;
        Ok(Count { rate: self.rate, ..serde_json::from_value(output.json()?)? })
    }
}

impl Count {
    /// That none failed, and that the client kept its rate, but for a second that a busy machine may take from it: a request
    /// that waits for another is not sent in time.
    ///
    /// # Errors
    /// The failures by kind, or how few were sent.
    pub fn none_failed(&self) -> Result<()> {
        self.none_failed_at_any_rate()?;
        let wanted = 0.95 * f64::from(self.rate) * (self.seconds - 1.0);
        ensure!(
            self.requests as f64 >= wanted,
            "only {} requests were sent in {:.1} s, not {:.0}; the slowest took {:.0} ms",
            self.requests,
            self.seconds,
            wanted.ceil(),
            self.max_ms
        );
        Ok(())
    }

    /// That none failed, for a case that keeps the machine so busy itself that nobody can promise a rate.
    ///
    /// # Errors
    /// The failures by kind, or that none was sent.
    pub fn none_failed_at_any_rate(&self) -> Result<()> {
        ensure!(self.failed == 0, "{} of {} requests failed: {:?}", self.failed, self.requests, self.failures);
        ensure!(self.requests > 0, "no request was sent in {:.1} s", self.seconds);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(requests: u64, failed: u64) -> Count {
        Count {
            seconds: 10.0,
            requests,
            failed,
            failures: BTreeMap::from([("reset".into(), failed)]),
            max_ms: 1234.5,
            rate: 10,
        }
    }

    #[test]
    fn one_failure_and_too_little_traffic_are_both_failures() {
        assert!(count(100, 0).none_failed().is_ok());
        assert!(count(1, 0).none_failed_at_any_rate().is_ok());
        assert_eq!(count(0, 0).none_failed_at_any_rate().unwrap_err().to_string(), "no request was sent in 10.0 s");
        assert_eq!(count(100, 1).none_failed().unwrap_err().to_string(), "1 of 100 requests failed: {\"reset\": 1}");
        assert_eq!(
            count(85, 0).none_failed().unwrap_err().to_string(),
            "only 85 requests were sent in 10.0 s, not 86; the slowest took 1234 ms"
        );
    }
}
