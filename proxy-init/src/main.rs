//! The `conduit-init` binary: parse the flags, decide the ruleset, print it or write it. Nothing is decided here.

use std::process::ExitCode;

use clap::Parser;
use conduit_init::{Flags, Ruleset, intercept};

fn main() -> ExitCode {
    let flags = Flags::parse();
    let settings = match flags.settings() {
        Ok(settings) => settings,
        Err(error) => return fail(&error),
    };
    let ruleset = Ruleset::for_settings(&settings);
    if flags.dry_run {
        print!("{ruleset}");
        return ExitCode::SUCCESS;
    }
    match intercept(&ruleset) {
        Ok(()) => {
            println!("conduit-init: {}", ruleset.summary());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprint!("conduit-init: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprint!(": {error}");
        cause = error.source();
    }
    eprintln!();
    ExitCode::FAILURE
}
