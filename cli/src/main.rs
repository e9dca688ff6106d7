//! `conduit`: what people type to see what their mesh does.
//!
//! This file reads the command line and hands over; it must not know how a number is made or how a table looks.
//! Exit codes: 0 when everything was said, 1 when something could not be, 2 for a command line that makes no sense.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod certificate;
mod change;
mod check;
mod cluster;
mod command;
mod edges;
mod exposition;
mod forward;
mod golden;
mod histogram;
mod identity;
mod render;
mod resource;
mod routes;
mod scrape;
mod stat;
mod workload;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "conduit", version, about = "Look into a Conduit mesh", arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    cluster: cluster::Settings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Success rate, requests per second and latency per workload, as their proxies measure them.
    Stat(command::StatSettings),
    /// The same per route of the ServiceProfiles that apply.
    Routes(command::RoutesSettings),
    /// Who talks to whom, with which identities; what is not secured, and why.
    Edges(command::EdgesSettings),
    /// The certificates by which proxies prove their identity, and the roots that they trust.
    Identity(command::IdentitySettings),
    /// Whether Conduit can be installed, whether it is well, and whether a namespace's proxies are.
    Check(check::Settings),
    /// The version of this command.
    Version,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Fails only where one is installed already, which would be the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = match arguments.command {
        Command::Stat(settings) => command::stat(&arguments.cluster, settings).await,
        Command::Routes(settings) => command::routes(&arguments.cluster, settings).await,
        Command::Edges(settings) => command::edges(&arguments.cluster, settings).await,
        Command::Identity(settings) => command::identity(&arguments.cluster, settings).await,
        Command::Check(settings) => Box::pin(check::check(&arguments.cluster, settings)).await,
        Command::Version => {
            println!("conduit {}", env!("CARGO_PKG_VERSION"));
            Ok(command::Answer::Whole)
        }
    };
    match outcome {
        Ok(command::Answer::Whole) => ExitCode::SUCCESS,
        Ok(command::Answer::Partial) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conduit: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn one_namespace_and_all_of_them_exclude_each_other() {
        assert!(Arguments::try_parse_from(["conduit", "stat", "-n", "shop", "-A"]).is_err());
        assert!(Arguments::try_parse_from(["conduit", "stat", "deploy/web", "-n", "shop", "-o", "wide"]).is_ok());
        assert!(Arguments::try_parse_from(["conduit", "routes", "deploy/web", "--to", "svc/catalog"]).is_ok());
        assert!(Arguments::try_parse_from(["conduit", "routes"]).is_err());
    }
}
