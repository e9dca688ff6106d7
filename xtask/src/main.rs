//! `cargo xtask`: what keeps the house in order and is no part of the product.
//!
//! `generate` writes what has its truth elsewhere; `tidy` proves what ARCHITECTURE.md says. Both only read and write files
//! of the checkout.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod generate;
mod tidy;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::{path::Path, process::ExitCode};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Keep the house in order")]
struct Flags {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write what is generated: the chart's CustomResourceDefinitions, the reference in docs/
    Generate {
        /// Write nothing; fail where a file is not what it would become
        #[arg(long)]
        check: bool,
    },
    /// Test who imports whom, and how files begin, how long they are, what they must not say
    Tidy,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no folder above it")?;
    match Flags::parse().task {
        Task::Generate { check: false } => generate::write(root),
        Task::Generate { check: true } => generate::check(root),
        Task::Tidy => tidy::check(root),
    }
}
