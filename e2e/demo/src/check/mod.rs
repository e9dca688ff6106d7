//! `check`: one proof of one protocol against the echo server, as a line of JSON and an exit code.
//!
//! Every check verifies what came back, byte by byte. It must not retry: what fails once has failed.

mod fetch;
mod grpc;
mod grpc_ends;
mod h2;
mod hold;
mod http1;
mod https;
mod tcp;
mod websocket;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Uri;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::duration;
use crate::echo::http::pattern;

/// Which check, against what, for how long at most.
#[derive(Args)]
pub(crate) struct Settings {
    /// The check fails when it takes longer.
    #[arg(long, value_parser = duration, default_value = "30s", global = true)]
    timeout: Duration,
    #[command(subcommand)]
    check: Check,
}

#[derive(Subcommand)]
enum Check {
    /// One GET: what comes back is reported, whatever it is.
    Fetch {
        /// Such as `http://echo:8080/inspect`.
        target: Uri,
    },
    /// HTTP/1.1 on one connection: keep-alive, HEAD, chunked both ways, trailers, a failing status.
    Http1 {
        /// Such as `http://echo:8080`.
        target: Uri,
    },
    /// A WebSocket: messages of many sizes, a ping, the closing handshake.
    Websocket {
        /// Such as `http://echo:8080`.
        target: Uri,
    },
    /// HTTP/2 without TLS: concurrent streams on one connection, trailers, a body larger than the windows.
    H2 {
        /// Such as `http://echo:8080`.
        target: Uri,
    },
    /// gRPC: each kind of stream, metadata, and an error status.
    Grpc {
        /// Such as `http://echo:8080`.
        target: Uri,
    },
    /// gRPC: a call that its client cancels, and one whose deadline passes, ends at the server; of each kind of stream.
    GrpcEnds {
        /// Such as `http://echo:8080`.
        target: Uri,
    },
    /// The application's own TLS: the certificate in the handshake is the server's.
    Https {
        /// Such as `https://echo:8443`.
        target: Uri,
    },
    /// Opaque TCP: what the server says after the client's half-close arrives.
    HalfClose {
        /// Such as `echo:9000`.
        target: String,
    },
    /// A connection is kept, with a message now and then, until the other side ends it: how many came back, and its end.
    Hold {
        /// Such as `tcp://echo:9000`, or `ws://echo` for a WebSocket.
        target: Uri,
    },
    /// A server that speaks first is heard, and how soon.
    ServerFirst {
        /// Such as `echo:3306`.
        target: String,
        /// The check fails when the first byte takes longer.
        #[arg(long, value_parser = duration, default_value = "5s")]
        within: Duration,
    },
}

/// Runs the check and prints its line: `check`, `target`, `ok`, `elapsed_ms`, then `detail` or `error`.
///
/// # Errors
/// Never for a failed check: that is exit code 1.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let (name, target) = settings.check.name();
    let started = Instant::now();
    let outcome = match tokio::time::timeout(settings.timeout, settings.check.run()).await {
        Ok(outcome) => outcome,
        Err(_) => Err(anyhow::anyhow!("not done after {:?}", settings.timeout)),
    };
    let mut line = json!({"check": name, "target": target, "ok": outcome.is_ok(), "elapsed_ms": milliseconds(started)});
    let code = if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    match outcome {
        Ok(detail) => line["detail"] = detail,
        Err(error) => line["error"] = Value::from(format!("{error:#}")),
    }
    println!("{line}");
    Ok(code)
}

impl Check {
    fn name(&self) -> (&'static str, String) {
        match self {
            Self::Fetch { target } => ("fetch", target.to_string()),
            Self::Http1 { target } => ("http1", target.to_string()),
            Self::Websocket { target } => ("websocket", target.to_string()),
            Self::H2 { target } => ("h2", target.to_string()),
            Self::Grpc { target } => ("grpc", target.to_string()),
            Self::GrpcEnds { target } => ("grpc-ends", target.to_string()),
            Self::Https { target } => ("https", target.to_string()),
            Self::HalfClose { target } => ("half-close", target.clone()),
            Self::Hold { target } => ("hold", target.to_string()),
            Self::ServerFirst { target, .. } => ("server-first", target.clone()),
        }
    }

    async fn run(self) -> anyhow::Result<Value> {
        match self {
            Self::Fetch { target } => fetch::check(&target).await,
            Self::Http1 { target } => http1::check(&target).await,
            Self::Websocket { target } => websocket::check(&target).await,
            Self::H2 { target } => h2::check(&target).await,
            Self::Grpc { target } => grpc::check(&target).await,
            Self::GrpcEnds { target } => grpc_ends::check(&target).await,
            Self::Https { target } => https::check(&target).await,
            Self::HalfClose { target } => tcp::half_close(&target).await,
            Self::Hold { target } => hold::check(&target).await,
            Self::ServerFirst { target, within } => tcp::server_first(&target, within).await,
        }
    }
}

/// Connects to the host and port of `target`; the port is the scheme's where it is not named.
async fn connect(target: &Uri) -> anyhow::Result<TcpStream> {
    let host = target.host().context("the target has no host")?;
    let default = if target.scheme_str() == Some("https") { 443 } else { 80 };
    dial(host.trim_matches(['[', ']']), target.port_u16().unwrap_or(default)).await
}

async fn dial(host: &str, port: u16) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await.with_context(|| format!("cannot connect to {host}:{port}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn authority(target: &Uri) -> anyhow::Result<&str> {
    Ok(target.authority().context("the target has no host")?.as_str())
}

/// A body of the pattern that the echo server generates too.
fn body_of(size: usize) -> Bytes {
    Bytes::from_iter((0..size).map(pattern))
}

/// Says where two bodies differ, not what they hold.
fn same_bytes(got: &[u8], wanted: &[u8]) -> anyhow::Result<()> {
    anyhow::ensure!(got.len() == wanted.len(), "{} bytes came back, not {}", got.len(), wanted.len());
    if let Some(index) = got.iter().zip(wanted).position(|(got, wanted)| got != wanted) {
        anyhow::bail!("byte {index} came back as {}, not {}", got[index], wanted[index]);
    }
    Ok(())
}

fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests;
