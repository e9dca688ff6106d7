//! `attack`: a peer that knows the mesh's protocols and means no good, for the cases of what the mesh must refuse.
//!
//! Each attempt reports what came of it and judges nothing: a case says what it expects. What is shown as a certificate
//! is made in `papers`; this room must not know who is attacked.

mod certify;
mod hello12;
mod operator;
mod papers;
mod peer;
mod serve;
mod watch;

#[cfg(test)]
mod tests;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// What is attempted.
#[derive(Args)]
pub(crate) struct Settings {
    #[command(subcommand)]
    attack: Attack,
}

#[derive(Subcommand)]
enum Attack {
    /// Connects to a pod as a proxy would: with TLS and an ALPN of the mesh.
    Tls(peer::Settings),
    /// Serves as if it were a proxy where it has a certificate to show; where not, notes what arrives. A line for each
    /// connection.
    Serve(serve::Settings),
    /// Asks the operator for a certificate.
    Certify(certify::Settings),
    /// Asks the operator for a workload's configuration.
    Watch(watch::Settings),
}

/// Makes the attempt and prints its line: `ok`, then what there is to say, `error` where it failed.
///
/// # Errors
/// Where the attempt could not be made at all, such as for a file that is not there.
pub(crate) async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    match settings.attack {
        Attack::Tls(settings) => peer::run(settings).await,
        Attack::Certify(settings) => certify::run(settings).await,
        Attack::Watch(settings) => watch::run(settings).await,
        Attack::Serve(settings) => serve::run(settings, stop).await,
    }
}

/// Prints what came of an attempt.
fn report(outcome: anyhow::Result<Value>) {
    println!("{}", line(outcome));
}

fn line(outcome: anyhow::Result<Value>) -> Value {
    match outcome {
        // One that got far enough to say more than an error has said itself that it failed.
        Ok(detail) if detail["ok"] == false => detail,
        Ok(mut detail) => {
            detail["ok"] = true.into();
            detail
        }
        Err(error) => match error.downcast_ref::<tonic::Status>() {
            Some(status) => {
                json!({"ok": false, "code": format!("{:?}", status.code()), "error": status.message()})
            }
            None => json!({"ok": false, "error": format!("{error:#}")}),
        },
    }
}
