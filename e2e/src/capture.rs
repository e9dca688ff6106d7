//! A listener on the wire between the nodes, until it is told to stop.

use crate::tool;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::{collections::BTreeMap, env, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

/// A listener that hears.
#[must_use = "what nobody asks for proves nothing"]
#[derive(Debug)]
pub struct Capture {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

/// What it heard.
#[derive(Debug, Deserialize)]
pub struct Heard {
    /// Packets from one of the two addresses to the other.
    pub packets: u64,
    /// In how many of them each word stood.
    pub words: BTreeMap<String, u64>,
    /// Connections, each way counted for itself, that began with a TLS handshake.
    pub tls: u64,
    /// Those that began with anything else.
    pub other: u64,
}

impl Capture {
    /// Listens to what these two addresses of pods, on two nodes, send each other, for these words.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub async fn between(addresses: [&str; 2], words: &[&str]) -> Result<Self> {
        let program =
            env::var("CONDUIT_DEMO").context("CONDUIT_DEMO must be the path of conduit-demo: run `make e2e`")?;
        let words: Vec<_> = words.iter().flat_map(|word| ["--word", word]).collect();
        let command = [&["outside", "--", &program, "capture", "--between"], &addresses[..], &words].concat();
        let mut process =
            tool::command(&command)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("a listener")?;
        let input = process.stdin.take().context("no standard input")?;
        let mut output = BufReader::new(process.stdout.take().context("no standard output")?).lines();
        let first = output.next_line().await?.context("the listener ended at once")?;
        ensure!(first.contains("listening"), "the listener says {first}");
        Ok(Self { process, input, output })
    }

    /// Stops and gives what was heard.
    ///
    /// # Errors
    /// Where the listener failed.
    pub async fn end(mut self) -> Result<Heard> {
        drop(self.input);
        let line = self.output.next_line().await?.context("the listener says nothing")?;
        self.process.wait().await?;
        Ok(serde_json::from_str(&line)?)
    }
}
