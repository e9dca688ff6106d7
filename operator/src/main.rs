//! The operator's binary: reads the command line and starts `app`.

use clap::Parser;
use conduit_operator::app::{self, Flags};
use std::process::ExitCode;

fn main() -> ExitCode {
    match app::run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conduit-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
