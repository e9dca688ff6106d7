//! Wires the rooms together: settings, threads, signals, logging, the admin server.

mod admin;
pub mod descriptors;
mod footprint;
mod listeners;
mod logging;
#[cfg(test)]
mod mesh_tests;
mod process;
mod run;
pub mod settings;
mod signals;
mod workers;

pub use run::run;
